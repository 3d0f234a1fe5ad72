"""The export: from a checkpoint to a bundle, which is written atomically."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from importlib.metadata import version
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from mirror_rt.bundle import MODEL, Bundle, Manifest, seal
from mirror_rt.errors import ConfigError, ModelError
from mirror_rt.exporting import choose_recipe, sample
from mirror_rt.exporting.choose_recipe import CandidateBuilder, ExportCandidate
from mirror_rt.exporting.config_files import is_uncased, write_config_files
from mirror_rt.exporting.graph import OPSET, SentenceModel, write_graph
from mirror_rt.exporting.quantize import Method, Recipe
from mirror_rt.exporting.sensitivity import rank_nodes_by_sensitivity
from mirror_rt.exporting.smoothing import channel_ranges, smooth
from mirror_rt.exporting.weight_only import constant_weights
from mirror_rt.hashing import sha256_file
from mirror_rt.pooling_config import check_text_preprocessing, read_object, read_pooling
from mirror_rt.runtime import Encoder
from mirror_rt.runtime.batching import pack
from mirror_rt.runtime.cpu import Target, detect_cpu
from mirror_rt.runtime.tokenize import FastTokenizer
from mirror_rt.staging import check_apart, check_target, staging_folder
from mirror_rt.training.checkpoint import TorchEncoder, resolve_checkpoint
from mirror_rt.training.model import TextModel, load_model
from mirror_rt.types import Pooling, Precision
from mirror_rt.version import VERSION

__all__ = ["FLOOR", "MIN_TOP1", "PARITY", "export"]

MIN_TOP1 = 0.9
"""Minimum share of names that keep their nearest name; see docs/quantization.md."""

FLOOR = 0.5
"""The minimum for synthetic strings. A lower value means that the graph is broken."""

PARITY = 1e-4
"""Maximum difference of a coordinate between torch and the float32 graph."""

PARITY_STRINGS = 64
"""Strings to check parity, and to measure the effect of rounding."""

CALIBRATION_STRINGS = 256
"""Strings to measure the ranges of activations."""

Progress = Callable[[int, int, str], None]
_MAX_FALLBACKS = 5
"""The maximum number of int8 recipes to try."""

_PACKAGES = ("torch", "transformers", "optimum", "optimum-onnx", "onnx", "onnxruntime")


def export(
    checkpoint: str | Path,
    out: str | Path,
    *,
    precision: Precision | None = Precision.INT8,
    pooling: Pooling | None = None,
    max_length: int | None = None,
    sample: Sequence[str] | None = None,
    min_top1: float = MIN_TOP1,
    target: Target | None = None,
    recipe: Recipe | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> Bundle:
    """Export a checkpoint to a bundle.

    Args:
        checkpoint: A Hugging Face or sentence-transformers folder with safetensors weights,
            or the name of one on the hub.
        out: The bundle folder to write; it appears only when it is complete.
        precision: How the weights are stored. None builds several, measures them on the sample,
            and keeps the fastest that passes the gate.
        pooling: Overrides the pooling of the checkpoint.
        max_length: Maximum tokens of an input, including special tokens; by default as in the
            checkpoint.
        sample: Your own strings to measure with; up to 2,000 are drawn. Without a sample,
            synthetic strings check that the graph works, and ``min_top1`` is not applied.
        min_top1: The gate: the minimum share of the sample that keeps its nearest other name
            under quantization.
        target: The CPU that the bundle is for; None for this one.
        recipe: Use exactly this recipe; ``precision`` is ignored.
        force: Replace ``out`` if it exists.
        progress: Called with (finished stages, maximum stages, next stage).

    Raises:
        ModelError: The checkpoint cannot be used, or the graph differs from torch.
        AccuracyGateError: No graph of this precision passes the gate.
        ConfigError: ``min_top1`` is not a share, the sample has fewer than two strings,
            ``max_length`` does not fit the model or is too short for text, or the precision
            cannot be measured for another CPU.
        TargetError: ``out`` exists and ``force`` is not set, or it contains the checkpoint.
    """
    place, own = Path(out), detect_cpu()
    _check(min_top1, precision, recipe, target or own, own)
    check_target(place, force=force, folder=True)
    report_stage = _stages(precision, recipe, progress)
    report_stage("reading the model")
    folder = resolve_checkpoint(checkpoint)
    check_apart(place, {"checkpoint": folder})
    own_pooling, own_length = read_pooling(folder)
    model = load_model(
        folder,
        pooling=pooling or own_pooling,
        max_length=own_length if max_length is None else max_length,
        attention="eager",
    )
    check_text_preprocessing(folder, lowers=is_uncased(model.tokenizer))
    names = _names(model, sample)
    with staging_folder(place, force=force) as fresh, _scratch(fresh.parent) as work:
        report_stage("writing the graph")
        builder, parity = _prepare(model, work, names, _source(checkpoint, folder), report_stage)
        chosen, measured = _choose(
            builder,
            precision,
            recipe,
            target or own,
            min_top1=min_top1 if sample is not None else FLOOR,
        )
        gate = chosen.ranking.to_dict() | {
            "sample": "synthetic" if sample is None else "user",
            "min_top1": FLOOR if sample is None else min_top1,
            "max_abs_difference": parity,
            "strings_per_second": measured,
            "target": (target or own).value,
            "measured_with": chosen.measured_with,
        }
        seal(chosen.bundle.path, replace(chosen.bundle.manifest, accuracy_gate=gate))
        fresh.rmdir()
        os.rename(chosen.bundle.path, fresh)
    return Bundle.open(place, verify=False)


def _check(
    min_top1: float, precision: Precision | None, recipe: Recipe | None, target: Target, own: Target
) -> None:
    if not 0.0 <= min_top1 <= 1.0:
        raise ConfigError(f"min_top1: {min_top1} is not a share between 0 and 1")
    if precision is None and recipe is None and target is not own:
        raise ConfigError(
            f"target: cannot measure on this {own.value} CPU what is fastest on {target.value}; "
            "give --precision int8"
        )


def _names(model: TextModel, given: Sequence[str] | None) -> list[str]:
    if given is not None:
        return sample.take(given)
    return sample.take(sample.synthetic_names(model.tokenizer))


@contextmanager
def _scratch(parent: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=parent) as name:
        yield Path(name)


def _source(checkpoint: str | Path, folder: Path) -> dict[str, str]:
    name = folder.resolve().name if folder == Path(checkpoint) else str(checkpoint)
    shards = sorted(folder.glob("*.safetensors"))
    training = folder / "training.json"
    seen = read_object(training).get("strings_sketch") if training.is_file() else None
    trained = {"strings_sketch": seen} if isinstance(seen, str) else {}
    return {"name": name} | {f"sha256 of {p.name}": sha256_file(p) for p in shards} | trained


def _stages(
    precision: Precision | None, recipe: Recipe | None, progress: Progress | None
) -> Callable[[str], None]:
    """Return a function that counts the stages of an export."""
    tries = (
        {None: _MAX_FALLBACKS + 2, Precision.INT8: _MAX_FALLBACKS}.get(precision, 1)
        if recipe is None
        else 1
    )
    done = count()

    def report_stage(words: str) -> None:
        if progress is not None:
            progress(next(done), 2 + tries, words)

    return report_stage


def _prepare(
    model: TextModel,
    work: Path,
    names: Sequence[str],
    source: dict[str, str],
    report_stage: Callable[[str], None],
) -> tuple[CandidateBuilder, float]:
    """Write the float32 graph, compare it with torch, and prepare to build candidates."""
    parity_strings = names[:PARITY_STRINGS]
    torch_BD = TorchEncoder(model).encode(parity_strings)
    config_files, plain = work / "config_files", work / "plain"
    config_files.mkdir()
    plain.mkdir()
    write_config_files(model, config_files)
    write_config_files(model, plain)
    write_graph(SentenceModel(model.model, pooling=model.pooling), plain / MODEL)
    manifest = Manifest(
        dim=model.dim,
        pooling=model.pooling,
        max_length=model.max_length,
        precision=Precision.FP32,
        opset=OPSET,
        source=source,
        versions={name: version(name) for name in _PACKAGES} | {"mirror-rt": VERSION},
        files={},
    )
    bundle = seal(plain, manifest)
    original_ND = Encoder.open(bundle).encode(names)
    parity = float(np.abs(original_ND[: len(parity_strings)] - torch_BD).max())
    if parity > PARITY:
        raise ModelError(
            f"{source['name']}: the ONNX graph differs from torch by {parity:.1e}; "
            "this architecture is not exported correctly, please report it"
        )
    tokens = FastTokenizer.open(bundle)(names[:CALIBRATION_STRINGS])
    batches = [tokens.batch(rows_B) for rows_B in pack(tokens.lengths_N, tokens=2048)]
    smoothed = work / "smoothed.onnx"
    smooth(bundle.model_path, smoothed, channel_ranges(bundle.model_path, batches))

    @cache
    def sensitive() -> list[str]:
        nodes = constant_weights(onnx.load(bundle.model_path))
        return rank_nodes_by_sensitivity(model, parity_strings, list(nodes))

    folder = work / "built"
    folder.mkdir()
    builder = CandidateBuilder(
        folder=folder,
        config_files=config_files,
        graph=bundle.model_path,
        smoothed=smoothed,
        manifest=manifest,
        batches=batches,
        names=names,
        original_ND=original_ND,
        sensitive=sensitive,
        report_stage=report_stage,
    )
    return builder, parity


def _choose(
    builder: CandidateBuilder,
    precision: Precision | None,
    recipe: Recipe | None,
    target: Target,
    *,
    min_top1: float,
) -> tuple[ExportCandidate, dict[str, Any]]:
    recipes = choose_recipe.fallback_recipes(builder, target)
    if recipe is not None:
        recipes = iter([recipe])
    else:
        match precision:
            case None:
                return choose_recipe.choose_fastest(builder, recipes, min_top1=min_top1)
            case Precision.FP32:
                recipes = iter([Recipe(method=Method.NONE)])
            case Precision.FP16_WEIGHTS:
                recipes = iter([Recipe(method=Method.HALF)])
            case Precision.INT8:
                pass
    return choose_recipe.choose_first(builder, recipes, min_top1=min_top1), {}
