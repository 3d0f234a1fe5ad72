"""Fit a static encoder to a teacher's vectors of names, in closed form, and write its bundle.

The vector of a name is the sum of the rows of its features over the root of their number; the
rows are the ridge regression to the teacher's vectors (see ``ridge``), shrunk not to zero but to
the teacher's vectors of single words. Tulkens and van Dongen (model2vec, 2024; words only) and
Wada et al. (arXiv 2506.04624) found that such a table ranks nearly like its teacher.

Axes: N texts, F features, T width of the teacher, D width of the student.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import csr_array, diags_array

from mirror_rt._count import counted
from mirror_rt.bundle import FEATURES, PROJECTION, SCALES, TABLE, Bundle, Manifest, seal
from mirror_rt.distillation.ridge import solve_ridge
from mirror_rt.errors import AccuracyGateError, ConfigError, InputError
from mirror_rt.evaluation.ranking import compare
from mirror_rt.folders import FolderKind, folder_kind
from mirror_rt.runtime.encoder import Encoder
from mirror_rt.runtime.features import KINDS, extract, find_words
from mirror_rt.runtime.static import FeatureIndex
from mirror_rt.staging import check_apart, check_target, staging_folder
from mirror_rt.types import BundleKind, Embedder, Pooling, Precision
from mirror_rt.version import VERSION

if TYPE_CHECKING:
    import numpy.typing as npt

    from mirror_rt.types import Float32

__all__ = ["StaticConfig", "distil_static"]

MAX_LENGTH = 4_096
"""Characters of a text that are looked at."""

HELD_OUT = 2_000
"""Names at most that are not learned from, but ranked by both encoders."""

MAX_WORDS = 30_000
"""Words of a vocabulary that are taken: the first are the most frequent."""

_BLOCK = 16_384
_WORD_STARTS = ("Ġ", "▁")


@dataclass(frozen=True, slots=True, kw_only=True)
class StaticConfig:
    """Settings of a static student; chosen on development data (docs/experiments.md).

    Attributes:
        dims: Width D of a vector, at most the teacher's.
        kinds: What is looked for in a text, of ``runtime.features.KINDS``.
        max_names: Names that are learned from at most, drawn at random.
        max_features: Rows of the table at most; the most frequent features are kept.
        min_count: Texts that a feature must be in to have a row.
        ridge: Penalty of a row's distance from where it is shrunk to.
        iterations: Steps of conjugate gradients at most.
        min_top1: The gate: least share of unseen names whose nearest other name, by the teacher,
            must stay the nearest.
        seed: Draws the names that are held out.
    """

    dims: int = 128
    kinds: tuple[str, ...] = ("word", "pair", "3", "4")
    max_names: int = 200_000
    max_features: int = 131_072
    min_count: int = 2
    ridge: float = 0.1
    iterations: int = 12
    min_top1: float = 0.3
    seed: int = 0


def distil_static(
    teacher: Encoder | str | Path,
    names: Sequence[str],
    out: str | Path,
    *,
    config: StaticConfig | None = None,
    force: bool = False,
    progress: Callable[[str, int, int], None] | None = None,
) -> Bundle:
    """Fit a static encoder and write it as a bundle.

    Args:
        teacher: The encoder to be like: a bundle, or what ``TorchEncoder.open`` takes.
        names: The names that it learns from; repeated ones count once.
        out: The bundle folder to write; it appears whole or not at all.
        config: Settings.
        force: Replace ``out`` if it exists.
        progress: Called with (stage, done, total).

    Raises:
        ConfigError: A setting is out of range, or the teacher is a student itself.
        BundleError, ModelError: The teacher cannot be used.
        InputError: There are fewer different names than numbers of a vector.
        AccuracyGateError: The student ranks unseen names too differently from the teacher.
        TargetError: ``out`` exists and ``force`` is not set.
    """
    config, out = config or StaticConfig(), Path(out)
    check_target(out, force=force, folder=True)
    check_apart(out, {"teacher": None if isinstance(teacher, Encoder) else teacher})
    embedder, source, words = _open_teacher(teacher)
    learned, held_out = _split(names, config, embedder.dim)
    say = progress or (lambda stage, done, total: None)
    # Learn from single words too: the teacher embeds each alone. Its vocabulary has words that
    # are missing in the names but may occur in other texts.
    texts = list(dict.fromkeys([*learned, *find_words(learned), *words]))
    vectors_NT = _embed(embedder, texts, say)
    basis_TD = principal_directions(vectors_NT[: len(learned)], config.dims)
    targets_ND = vectors_NT @ basis_TD
    del vectors_NT
    hashes_F, design_NF = design(texts, config)
    table_FD = solve_ridge(
        design_NF,
        targets_ND,
        penalty=config.ridge,
        prior_FD=_prior(hashes_F, design_NF, targets_ND, texts),
        iterations=config.iterations,
        progress=lambda done, total: say("fitting", done, total),
    )
    values_FD, scales_F = quantize_rows(table_FD)
    manifest = Manifest(
        dim=config.dims,
        pooling=Pooling.MEAN,
        max_length=MAX_LENGTH,
        precision=Precision.INT8,
        files={},
        source=source,
        quantization={"method": "a step for each row", "rows": len(hashes_F)},
        kind=BundleKind.STATIC,
        features={"kinds": list(config.kinds)},
        versions={"mirror-rt": VERSION, "numpy": np.__version__},
    )
    with staging_folder(out, force=force) as fresh:
        np.save(fresh / FEATURES, hashes_F)
        np.save(fresh / TABLE, values_FD)
        np.save(fresh / SCALES, scales_F)
        np.save(fresh / PROJECTION, basis_TD)
        student = Encoder.open(seal(fresh, manifest), verify=False)
        # Turned back to the teacher's directions, which changes no product.
        students_ND = student.encode(held_out) @ basis_TD.T
        ranking = compare(_embed(embedder, held_out, say), students_ND, held_out)
        if ranking.top1_agreement < config.min_top1:
            raise AccuracyGateError(
                f"{manifest.source['name']}: keeps the nearest of "
                f"{ranking.top1_agreement:.1%} of {counted(len(held_out), 'name')} outside its "
                f"training, --min-top1 requires {config.min_top1:.1%}; give more names, or a lower "
                "--min-top1"
            )
        gate = ranking.to_dict() | {"sample": "held out", "min_top1": config.min_top1}
        seal(fresh, replace(manifest, accuracy_gate=gate))
    return Bundle.open(out, verify=False)


def _open_teacher(teacher: Encoder | str | Path) -> tuple[Embedder, dict[str, str], list[str]]:
    """Return the teacher, what the manifest says of it, and the words of its vocabulary.

    Raises:
        ConfigError: It is a static encoder itself.
    """
    if not isinstance(teacher, Encoder):
        if folder_kind(teacher) is not FolderKind.BUNDLE:
            from mirror_rt.training.checkpoint import TorchEncoder

            opened = TorchEncoder.open(teacher)
            tokenizer = opened.model.tokenizer
            tokenizer_json = tokenizer.backend_tokenizer.to_str() if tokenizer.is_fast else ""
            return opened, {"name": Path(teacher).name}, _whole_words(tokenizer_json)
        teacher = Encoder.open(teacher)
    bundle = teacher.bundle
    if bundle.manifest.kind is BundleKind.STATIC:
        raise ConfigError(f"{bundle.path}: is a student itself; name the teacher it was made from")
    return teacher, bundle.named, _whole_words(bundle.tokenizer_path.read_text(encoding="utf-8"))


def _whole_words(tokenizer: str) -> list[str]:
    """Return the first words among the tokens of a ``tokenizer.json``; none if it is empty."""
    vocabulary = json.loads(tokenizer)["model"].get("vocab", {}) if tokenizer else {}
    # A dictionary of numbers (WordPiece, BPE) or a list with scores (Unigram).
    if isinstance(vocabulary, dict):
        tokens = sorted(vocabulary, key=lambda token: int(vocabulary[token]))
    else:
        tokens = [token for token, _ in vocabulary]
    starts = [token[1:] for token in tokens if token[:1] in _WORD_STARTS]
    words = (word for word in starts or tokens if len(word) > 1 and word.isalpha())
    return list(dict.fromkeys(words))[:MAX_WORDS]


def principal_directions(vectors_NT: Float32, dims: int) -> Float32:
    """Return (T, D) float32 columns of length 1, at right angles, that keep most of the products.

    Nothing is subtracted, so that cosines stay what they are.
    """
    products_TT = vectors_NT.T.astype(np.float64) @ vectors_NT
    basis: Float32 = np.linalg.eigh(products_TT)[1][:, ::-1][:, :dims].astype(np.float32)
    return basis


def design(texts: Sequence[str], config: StaticConfig) -> tuple[npt.NDArray[np.uint64], csr_array]:
    """Choose the features that get a row, and count them in each text.

    Returns:
        Ascending hashes, (F,) uint64, and (N, F + 1) float32: how often each feature is in each
        text, last a 1 for all, divided by the root of a text's sum.
    """
    found = [
        extract(texts[begin : begin + _BLOCK], config.kinds)
        for begin in range(0, len(texts), _BLOCK)
    ]
    hashes = np.concatenate([block[kind].hashes_F for kind in config.kinds for block in found])
    different, counts = np.unique(hashes, return_counts=True)
    frequent = np.argsort(-counts, kind="stable")[: config.max_features]
    hashes_F = np.sort(different[frequent[counts[frequent] >= config.min_count]])
    index = FeatureIndex(hashes_F)
    rows, columns = [np.arange(len(texts))], [np.full(len(texts), len(hashes_F))]
    for number, block in enumerate(found):
        for features in block.values():
            owners = np.repeat(np.arange(len(features.offsets_N) - 1), np.diff(features.offsets_N))
            places = index.find(features.hashes_F)
            rows.append(owners[places >= 0] + number * _BLOCK)
            columns.append(places[places >= 0])
    places = np.concatenate(columns)
    counts_NF = csr_array(
        (np.ones(len(places), dtype=np.float32), (np.concatenate(rows), places)),
        shape=(len(texts), len(hashes_F) + 1),
    )
    roots_N = np.sqrt(counts_NF.sum(axis=1)).astype(np.float32)
    return hashes_F, csr_array(diags_array(1 / roots_N) @ counts_NF)


def quantize_rows(table_FD: Float32) -> tuple[npt.NDArray[np.int8], Float32]:
    """Round a table to int8: (F, D) int8, and the step of each row, (F,) float32."""
    steps_F = np.abs(table_FD).max(axis=1) / 127
    steps_F = np.maximum(steps_F, np.finfo(np.float32).tiny).astype(np.float32)
    return np.rint(table_FD / steps_F[:, None]).astype(np.int8), steps_F


def _split(names: Sequence[str], config: StaticConfig, width: int) -> tuple[list[str], list[str]]:
    """Check the settings against the names; return those to learn from, and those held out."""
    if not 1 <= config.dims <= width:
        raise ConfigError(f"dims: must be from 1 to {width}, the teacher's; got {config.dims}")
    if not config.ridge > 0:
        raise ConfigError(f"ridge: must be above 0, got {config.ridge}")
    if not 0.0 <= config.min_top1 <= 1.0:
        raise ConfigError(f"min_top1: {config.min_top1} is not a share between 0 and 1")
    if not config.kinds or not set(config.kinds) <= set(KINDS):
        raise ConfigError(f"kinds: some of {', '.join(KINDS)}; got {', '.join(config.kinds)}")
    different = list(dict.fromkeys(name for name in names if name.strip()))
    random.Random(config.seed).shuffle(different)
    held = min(HELD_OUT, len(different) // 10)
    held_out, learned = different[:held], different[held : held + config.max_names]
    if held < 2 or len(learned) < config.dims:  # a nearest name takes two
        raise InputError(
            f"names: {counted(len(different), 'different name')}, too few for vectors of "
            f"{counted(config.dims, 'number')}; give more names (other files of the domain will "
            "do), 20 at least, or a lower --dims"
        )
    return learned, held_out


def _embed(
    teacher: Embedder, texts: Sequence[str], say: Callable[[str, int, int], None]
) -> Float32:
    vectors_NT = np.empty((len(texts), teacher.dim), dtype=np.float32)
    for begin in range(0, len(texts), _BLOCK):
        end = min(begin + _BLOCK, len(texts))
        vectors_NT[begin:end] = teacher.encode(texts[begin:end])
        say("embedding with the teacher", end, len(texts))
    return vectors_NT


def _prior(
    hashes_F: npt.NDArray[np.uint64],
    design_NF: csr_array,
    targets_ND: Float32,
    texts: Sequence[str],
) -> Float32:
    """Return (F + 1, D) float32: the teacher's vector where a feature is a whole word.

    All vectors are multiplied by one number, which fits the targets best.
    """
    words = extract(texts, ("word",))["word"]
    single_N = np.flatnonzero(np.diff(words.offsets_N) == 1)
    rows = FeatureIndex(hashes_F).find(words.hashes_F[words.offsets_N[single_N]])
    prior_FD = np.zeros((len(hashes_F) + 1, targets_ND.shape[1]), dtype=np.float32)
    prior_FD[rows[rows >= 0]] = targets_ND[single_N[rows >= 0]]
    predicted_ND = design_NF @ prior_FD
    scale = np.vdot(predicted_ND, targets_ND) / max(
        float(np.vdot(predicted_ND, predicted_ND)), 1e-12
    )
    prior_FD *= np.float32(scale)
    return prior_FD
