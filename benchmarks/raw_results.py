r"""Measure Mirror on a raw masked language model: before, after, by strings, dropout and masking.

The model comes from benchmarks/raw_mlm.py. Each cell is one model, evaluated on some tasks; it is
written to the record as soon as it is there, and the next call with the same checkpoint and
corpus goes on. Plots are drawn at the end.

    python benchmarks/raw_results.py CHECKPOINT --data DIR --corpus FILE          # an hour
    python benchmarks/raw_results.py CHECKPOINT --data DIR --corpus FILE --main   # the first table
    python benchmarks/raw_results.py CHECKPOINT --data DIR --corpus FILE --small  # to see it run
    python benchmarks/raw_results.py --draw        # only the plots, from the record
    python benchmarks/render_tables.py             # the section of docs/results.md

Training strings (fewer with --small): words are the most frequent ones of the corpus;
names are a sample of HPO, without its held-out synonyms, and of MEDIC; sentences are a sample of
the corpus. Models are evaluated as float32 bundles, so in full precision.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import harness
import numpy as np
import raw_plots
from mlm_data import texts_of
from quality_table import FILES, names_file

from mirror_rt.errors import ConfigError, InputError, MirrorError, ModelError
from mirror_rt.evaluation.baselines import CharNgrams
from mirror_rt.evaluation.cached_embedder import CachedEmbedder
from mirror_rt.evaluation.result import Status
from mirror_rt.evaluation.suite import evaluate
from mirror_rt.evaluation.tasks import TASKS as KNOWN
from mirror_rt.evaluation.tasks import Family
from mirror_rt.exporting.pipeline import export
from mirror_rt.hashing import checksum, sha256_file
from mirror_rt.knowledge.formats import read_names
from mirror_rt.reproduce import DROPOUT, SEEDS
from mirror_rt.runtime import Encoder
from mirror_rt.staging import staging_file
from mirror_rt.training.checkpoint import TorchEncoder
from mirror_rt.training.config import TrainConfig
from mirror_rt.training.loop import train
from mirror_rt.training.make_corpus import sentences
from mirror_rt.types import Embedder, Pooling, Precision, Preset

if TYPE_CHECKING:
    from mirror_rt.types import Float32

TASKS = (
    "sts12", "sts13", "stsb", "simlex999", "wordsim353", "multisimlex-eng", "ncbi", "ncbi-kb",
    "hpo",
)  # fmt: skip
OWN: Mapping[Preset, tuple[str, ...]] = {
    Preset.WORD: ("multisimlex-eng", "simlex999"),
    Preset.NAME: ("hpo",),
    Preset.SENTENCE: ("stsb", "sts12", "sts13"),
}
"""The tasks of the curves and of the ablation."""
FAMILIES = {Family.LEXICAL: Preset.WORD, Family.LINKING: Preset.NAME, Family.STS: Preset.SENTENCE}
SIZES = (1_000, 2_000, 5_000, 10_000, 20_000, 50_000)
USUAL = 10_000
"""Strings of the paper."""
LENGTH = 64
"""Tokens of an input in evaluation, for every model; the authors' code has 64 for sentences."""
NAMES = ("hpo", "medic")
"""The vocabularies whose names are trained on."""
_WORD = re.compile(r"[^\W\d_]{2,}")
_OUT = harness.HERE / "results" / "raw_mlm.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One model.

    Attributes:
        way: A preset, or what is done without training.
        strings: The number of training strings.
        dropout: Whether the two views differ by dropout.
        masking: Whether a span of the second view is masked.
        seed: The seed of strings and training; None if there is no draw.
        tasks: What it is evaluated on.
    """

    way: str
    strings: int = 0
    dropout: bool = False
    masking: bool = False
    seed: int | None = None
    tasks: tuple[str, ...]

    @property
    def key(self) -> dict[str, Any]:
        """What tells it from other cells, as JSON types."""
        return {name: value for name, value in asdict(self).items() if name != "tasks"}


def mirrored(preset: Preset, strings: int, seed: int, tasks: Sequence[str], **views: bool) -> Cell:
    """Return the cell of a preset; by default its views differ by dropout and masking."""
    whole = {"dropout": True, "masking": preset is not Preset.WORD, **views}
    return Cell(way=preset.value, strings=strings, seed=seed, tasks=tuple(tasks), **whole)


def main_cells(seeds: Sequence[int], tasks: Sequence[str], usual: int) -> Iterator[Cell]:
    """Yield the cells of the first table; a run that is cut short has each way for a seed."""
    for way in ("char-ngram", "raw cls", "raw mean"):
        yield Cell(way=way, tasks=tuple(tasks))
    for seed in seeds:
        yield Cell(way="whitened mean", strings=usual, seed=seed, tasks=tuple(tasks))
        for preset in OWN:
            yield mirrored(preset, usual, seed, tasks)


def more_cells(seeds: Sequence[int], sizes: Sequence[int], usual: int) -> Iterator[Cell]:
    """Yield the cells of the curves and of the ablation, without those of the first table.

    The cheap cells of a seed come first.
    """
    views = [
        {"dropout": d, "masking": m} for d, m in ((True, False), (False, True), (False, False))
    ]
    for seed in seeds:
        for size in sizes:
            for preset, tasks in OWN.items():
                if size != usual:
                    yield mirrored(preset, size, seed, tasks)
                elif preset is not Preset.WORD:  # which has no masking
                    for view in views:
                        yield mirrored(preset, size, seed, tasks, **view)


class Whitened:
    """An embedder whose vectors are whitened: mean 0 and covariance I on some texts.

    Source: Su et al. 2021, *Whitening Sentence Representations for Better Semantics and Faster
    Retrieval*; here of unit vectors, and without a reduction of dimensions.
    """

    def __init__(self, embedder: Embedder, texts: Sequence[str]) -> None:
        self._embedder = embedder
        vectors_ND = embedder.encode(texts).astype(np.float64)
        self._mean_D = vectors_ND.mean(0)
        values_D, axes_DD = np.linalg.eigh(np.cov(vectors_ND - self._mean_D, rowvar=False))
        kept = values_D > values_D[-1] * 1e-9  # an axis without variance cannot be scaled
        self._to_DE = axes_DD[:, kept] / np.sqrt(values_D[kept])

    @property
    def dim(self) -> int:
        """Width of a vector."""
        return self._to_DE.shape[1]

    def encode(self, texts: Sequence[str]) -> Float32:
        """Return (N, E) float32 unit rows."""
        white_NE = (self._embedder.encode(texts) - self._mean_D) @ self._to_DE
        norms_N1 = np.linalg.norm(white_NE, axis=1, keepdims=True)
        unit: Float32 = (white_NE / np.maximum(norms_N1, 1e-12)).astype(np.float32)
        return unit


class Strings:
    """The training strings; what is drawn from is kept as files in a folder.

    Args:
        corpus: Text, one paragraph per line.
        data: The folder of evaluation sets, with the names.
        work: The folder; another one for each corpus.
    """

    def __init__(self, corpus: Path, data: Path, work: Path) -> None:
        self.corpus, self.data, self.work = corpus, data, work
        self._pools: dict[Preset, list[str]] = {}

    def _read(self, preset: Preset) -> list[str]:
        match preset:
            case Preset.WORD:
                counts: Counter[str] = Counter()
                for text in texts_of(self.corpus):
                    counts.update(_WORD.findall(text.lower()))
                ordered = sorted(counts, key=lambda word: (-counts[word], word))
                return ordered[: max(SIZES)]
            case Preset.NAME:
                names = names_file(self.data, NAMES, self.work / "names.tsv")
                return list(dict.fromkeys(read_names(names)))
            case _:
                made = sentences(
                    self.corpus, count=4 * max(SIZES), split=True, min_chars=30, max_chars=200
                )
                return made.strings

    def _pool(self, preset: Preset) -> list[str]:
        if preset not in self._pools:
            path = self.work / f"{preset.value}s.txt"
            if not path.exists():
                text = "".join(f"{string}\n" for string in self._read(preset))
                with staging_file(path) as fresh:
                    fresh.write_text(text, encoding="utf-8")
            self._pools[preset] = path.read_text(encoding="utf-8").split("\n")[:-1]
        return self._pools[preset]

    def draw(self, preset: Preset, count: int, seed: int) -> list[str]:
        """Return training strings; with the same seed, a smaller draw begins a larger one.

        Raises:
            ConfigError: There are not enough.
            InputError: A file cannot be read.
        """
        pool = self._pool(preset)
        if len(pool) < count:
            source = self.data if preset is Preset.NAME else self.corpus
            raise ConfigError(
                f"{source}: has {len(pool)} {preset.value}s to train on, and {count} are needed; "
                "give a larger one"
            )
        if preset is Preset.WORD:  # the most frequent ones, as in the paper
            return pool[:count]
        return [pool[row] for row in np.random.default_rng(seed).permutation(len(pool))[:count]]


class Bench:
    """Evaluates cells of one checkpoint."""

    def __init__(self, checkpoint: Path, strings: Strings, *, threads: int) -> None:
        self.checkpoint, self.strings, self.threads = checkpoint, strings, threads
        self._raw_mean: Embedder | None = None

    def measure(self, cell: Cell) -> dict[str, Any]:
        """Return the result of a cell: its key, seconds, and the report without intervals."""
        begun = time.perf_counter()
        training: dict[str, Any] = {}
        match cell.way:
            case "char-ngram":
                report = self._evaluate(CharNgrams(), cell.tasks)
            case "raw cls":
                report = self._evaluate(self._opened(self.checkpoint, Pooling.CLS), cell.tasks)
            case "raw mean":
                report = self._evaluate(self._mean, cell.tasks)
            case "whitened mean":
                report = self._whitened(cell)
            case _:
                training, report = self._mirrored(cell)
        for result in report["results"]:
            result["intervals"] = {}
        return {
            **cell.key,
            **training,
            "seconds": round(time.perf_counter() - begun, 1),
            "report": report,
        }

    @property
    def _mean(self) -> Embedder:
        """The raw model, with all vectors in memory, for whitening them."""
        if self._raw_mean is None:
            self._raw_mean = CachedEmbedder(self._opened(self.checkpoint, Pooling.MEAN))
        return self._raw_mean

    def _opened(self, folder: Path, pooling: Pooling | None) -> Encoder:
        """Open a model as a float32 bundle, which is faster than torch."""
        bundle = self.strings.work / f"bundle-{folder.name}-{pooling and pooling.value}"
        export(folder, bundle, precision=Precision.FP32, pooling=pooling, max_length=LENGTH,
               force=True)  # fmt: skip
        return Encoder.open(bundle, threads=self.threads)

    def _evaluate(self, model: Embedder | CharNgrams, tasks: Sequence[str]) -> dict[str, Any]:
        report = evaluate(model, data=self.strings.data, tasks=tasks)
        for result in report.results:
            if result.status is Status.FAILED:  # a cell that is kept must be a good one
                raise InputError(f"{result.task}: {result.note}")
        return report.to_dict()

    def _whitened(self, cell: Cell) -> dict[str, Any]:
        """Evaluate each family with whitening fitted on the strings that its preset trains on."""
        results: list[Any] = []
        seed = cell.seed or 0
        for family, preset in FAMILIES.items():
            tasks = [t.name for t in KNOWN if t.family is family and t.name in cell.tasks]
            if tasks:
                texts = self.strings.draw(preset, cell.strings, seed)
                results += self._evaluate(Whitened(self._mean, texts), tasks)["results"]
        return {"model": cell.way, "results": results}

    def _mirrored(self, cell: Cell) -> tuple[dict[str, Any], dict[str, Any]]:
        preset, seed = Preset(cell.way), cell.seed or 0
        corpus, out = (self.strings.work / name for name in ("strings.txt", "mirrored"))
        drawn = self.strings.draw(preset, cell.strings, seed)
        corpus.write_text("".join(f"{text}\n" for text in drawn), encoding="utf-8")
        config = TrainConfig(
            corpus=corpus,
            base=self.checkpoint,
            out=out,
            preset=preset,
            seed=seed,
            dropout=DROPOUT if cell.dropout else 0.0,
            threads=self.threads,
            device="cpu",
            **({} if cell.masking else {"span_length": 0}),
        )
        begun = time.perf_counter()
        done = train(config, force=True)
        training = {
            "steps": len(done.losses),
            "train_seconds": round(done.seconds, 1),
            "train_seconds_with_files": round(time.perf_counter() - begun, 1),
            "pooling": done.pooling.value,
        }
        try:
            report = self._evaluate(self._opened(out, None), cell.tasks)
        finally:
            shutil.rmtree(out, ignore_errors=True)
        return training, report


def check_checkpoint(folder: Path) -> dict[str, Any]:
    """Return the manifest of a raw model, after a look at the model.

    Raises:
        ModelError: It is not a checkpoint of benchmarks/raw_mlm.py, or not a whole one.
    """
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        account = {name: manifest[name] for name in ("recipe", "steps", "tokens", "seconds",
                                                     "bf16", "history")}  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"{folder}: has no manifest.json of benchmarks/raw_mlm.py ({type(error).__name__}); "
            "give a checkpoint made by it"
        ) from error
    model = TorchEncoder.open(folder, max_length=LENGTH).model
    if "BertForMaskedLM" not in (model.model.config.architectures or ()):
        raise ModelError(f"{folder}: is no masked language model; give the one before training")
    if model.tokenizer.mask_token is None or not model.tokenizer.is_fast:
        raise ModelError(f"{folder}: its tokenizer has no mask token; copy tokenizer.json to it")
    return account


def kept_cells(out: Path, identity: str) -> list[dict[str, Any]]:
    """Return the cells of an earlier call with the same checkpoint, corpus and data.

    Raises:
        InputError: The record is there and cannot be read.
    """
    if not out.exists():
        return []
    try:
        record = json.loads(out.read_text(encoding="utf-8"))
        return list(record["cells"]) if record["identity"] == identity else []
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{out}: is not a record of this script ({error}); remove it") from error


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measure the cells that the record lacks; return the record.

    Raises:
        MirrorError: A file or the checkpoint is at fault; nothing was measured then, except if a
            training file of a later cell is at fault.
    """
    pretraining = check_checkpoint(args.checkpoint)
    tasks, seeds, sizes, usual = TASKS, args.seeds, SIZES, USUAL
    if args.small:
        tasks, sizes, usual = ("stsb", "multisimlex-eng"), (400, 1_000, 2_000), 1_000
    cells = list(main_cells(seeds, tasks, usual))
    if not args.main:
        more = more_cells(seeds, sizes, usual)
        cells += [c for c in more if set(c.tasks) & set(tasks)]
    if not args.data.is_dir():
        raise ConfigError(f"{args.data}: no such folder; --data names the evaluation sets")
    next(texts_of(args.corpus), None)  # a fault shows before hours of work
    known = {
        "weights": sha256_file(args.checkpoint / "model.safetensors"),
        "corpus": sha256_file(args.corpus),
        "small": args.small,
    }
    identity = checksum(known)
    done = kept_cells(args.out, identity)
    record = {
        **harness.record("raw_results", args, {}),
        "identity": identity,
        "small": args.small,
        "strings": usual,
        "pretraining": pretraining,
        "cells": done,
    }
    names = {name: sha256_file(args.data / FILES[name]) for name in NAMES}
    work = args.work / checksum({"corpus": known["corpus"], **names})[:12]
    work.mkdir(parents=True, exist_ok=True)
    bench = Bench(args.checkpoint, Strings(args.corpus, args.data, work), threads=args.threads)
    there = [{name: one[name] for name in cell_names()} for one in done]
    for number, cell in enumerate(cells, 1):
        if cell.key in there:
            continue
        found = bench.measure(cell)
        done.append(found)
        write(record, args.out)
        main = ", ".join(
            f"{r['task']} {r['score']:.3f}" for r in found["report"]["results"] if r["score"]
        )
        harness.say(f"{number}/{len(cells)} {cell.key} {found['seconds']} s: {main}")
    return record


def cell_names() -> list[str]:
    """Return the names of the values that tell cells apart."""
    return list(Cell(way="", tasks=()).key)


def write(record: Mapping[str, Any], out: Path) -> None:
    """Write the record whole, or leave the one before."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with staging_file(out, force=True) as fresh:
        fresh.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def main() -> int:
    """Run the script; return 1 if the input is at fault."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", type=Path, nargs="?", help="made by benchmarks/raw_mlm.py")
    parser.add_argument("--data", type=Path, help="folder of evaluation sets")
    parser.add_argument("--corpus", type=Path, help="text, a paragraph per line; may be packed")
    parser.add_argument("--work", type=Path, default=Path("build/raw_results"))
    parser.add_argument("--out", type=Path, help="the record; by default in benchmarks/results")
    parser.add_argument("--plots", type=Path, help="their folder; by default docs/img")
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--main", action="store_true", help="only the cells of the first table")
    parser.add_argument(
        "--small", action="store_true", help="fewer strings, two tasks, to see that it runs"
    )
    parser.add_argument("--draw", action="store_true", help="only the plots, from the record")
    args = parser.parse_args()
    if not args.draw and None in (args.checkpoint, args.data, args.corpus):
        parser.error("CHECKPOINT, --data and --corpus are needed")
    args.out = args.out or (args.work / "small.json" if args.small else _OUT)
    args.plots = args.plots or (args.work if args.small else harness.HERE.parent / "docs/img")
    args.load_before = round(os.getloadavg()[0], 2)
    harness.pin(args.threads)
    try:
        record = json.loads(args.out.read_text()) if args.draw else run(args)
        raw_plots.draw(record, args.plots)
    except (MirrorError, OSError, ValueError) as error:
        harness.say(f"error: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
