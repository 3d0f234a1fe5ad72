r"""Students beside their teacher: strings a second, and links with all retrievers together.

Everything is of one teacher, all-MiniLM-L6-v2 with mean pooling: its int8 bundle, the same graph
served by fastembed as it is called by default, the static model that model2vec makes of it
(``distill`` with its defaults), the starter that the package ships, and students fitted to the
names of each task. Linking: HPO with 20 % of the exact synonyms held out, the dev part of NCBI
with train_dictionary, half of ESCO's job titles (the other half served to choose settings), and
misspelt names of 10,000 places. A mention is right if any holder of the best name is.

    pip install -c constraints.txt -e '.[students]'
    python benchmarks/students.py --data DIR --out benchmarks/results/students.json
    python benchmarks/students.py --data DIR --small                # a minute or two
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import card
import kb_scale
import linking
import numpy as np
import peers

from mirror_rt.bundle import STARTER, Bundle
from mirror_rt.distillation.static import StaticConfig, distil_static
from mirror_rt.evaluation.gold import Convention, Query, read_gold
from mirror_rt.evaluation.suite import evaluate
from mirror_rt.exporting.pipeline import export
from mirror_rt.knowledge import KnowledgeBase
from mirror_rt.knowledge.formats import read_entities
from mirror_rt.quickstart import demo_model
from mirror_rt.runtime import Encoder
from mirror_rt.types import Entity, IndexKind, Pooling

TASKS = ("misspelt places", "esco-dev", "hpo", "ncbi-dev")
STS = ("sts12", "sts13", "stsb")


class Embeds(Protocol):
    """What embeds."""

    dim: int

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Return (N, D) float32 unit rows."""


class Model2Vec:
    """The static model that model2vec makes of a checkpoint."""

    def __init__(self, checkpoint: Path, kept: Path | None) -> None:
        from model2vec import StaticModel

        if kept is not None and kept.exists():
            self._model = StaticModel.from_pretrained(str(kept))
        else:
            from model2vec.distill import distill

            self._model = distill(model_name=str(checkpoint))
            if kept is not None:
                self._model.save_pretrained(str(kept))
        self.dim = int(self._model.dim)

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Return (N, D) float32 unit rows; those of no token are all the same."""
        rows = np.asarray(self._model.encode(list(texts)), dtype=np.float32)
        norms = np.linalg.norm(rows, axis=1, keepdims=True)
        rows[norms[:, 0] < 1e-9] = 1
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


class Remembering(Encoder):
    """A teacher that embeds no name of a task twice; what it is timed on comes first."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__(encoder.bundle, encoder._model, threads=encoder.threads)
        self._memory = linking.Memory(encoder)

    def encode(self, texts: Any, **_: Any) -> np.ndarray:  # noqa: ANN401
        """Return (N, D) float32 unit rows."""
        return self._memory.encode(texts)


def load(name: str, data: Path, *, small: bool) -> tuple[list[Entity], list[Query]]:
    match name:
        case "hpo":
            task = linking.load("hpo", data, small=False)
            entities, queries = list(task.entities), list(task.queries)
        case "ncbi-dev":
            entities = list(read_entities(data / linking.FILES["ncbi-train"]))
            folder = data / linking.NCBI / "processed_dev"
            queries = list(read_gold(folder, convention=Convention.BIOSYN).queries)
        case "esco-dev":
            task = linking.load("esco", data, small=False)
            entities = list(task.entities)
            drawn = random.Random(5).sample(list(task.queries), len(task.queries))
            queries = drawn[len(drawn) // 2 :][:3_000]
        case _:
            entities, typos, _ = kb_scale.places(10_000)
            queries = [Query(parts=(text,), ids=frozenset({id_})) for text, id_ in typos]
    if small:
        queries = queries[:100]
        wanted = {id_ for query in queries for id_ in query.ids}
        entities = [
            e for i, e in enumerate(entities) if i % 10 == 0 or wanted & {e.id, *e.alternative_ids}
        ]
    return entities, queries


def judged(
    encoder: Embeds, bundle: Bundle, entities: Sequence[Entity], queries: Sequence[Query], to: Path
) -> dict[str, float]:
    """Build a knowledge base, link all mentions, and score them."""
    begin = time.perf_counter()
    base = KnowledgeBase.build(
        bundle, entities, to, encoder=encoder, index=IndexKind.EXACT, force=True
    )
    seconds = time.perf_counter() - begin
    with base as kb:
        parts = list(dict.fromkeys(part for query in queries for part in query.parts))
        found = zip(parts, kb.link(parts, top=linking.DEPTH + 3), strict=True)
        rankings = {part: linking._steps(kb, answer) for part, answer in found}
        right = linking.right_entities(kb, queries)
        scores = linking.scored(rankings, queries, right, linking.place)
        nearest = zip(parts, kb.search(parts, top=linking.DEPTH + 3), strict=True)
        alone = {part: linking._steps(kb, answer) for part, answer in nearest}
        dense = linking.scored(alone, queries, right, linking.place)
        scores |= {f"dense {name}": value for name, value in dense.items()}
        return scores | {"build_s": round(seconds, 1)}


def encoders(
    names: Sequence[str], teacher: Encoder, static: Model2Vec, work: Path
) -> Iterator[tuple[str, Embeds, Bundle]]:
    """Yield every encoder of a task with its bundle; model2vec's has none, and takes another's."""
    yield "teacher int8", teacher, teacher.bundle
    for dims in (128, 256):
        made = distil_static(
            teacher,
            names,
            work / f"student-{dims}",
            config=StaticConfig(dims=dims, min_top1=0.0),
            force=True,
        )
        yield f"student {dims}", Encoder.open(made), made
    if STARTER.is_dir():
        starter = Encoder.open(STARTER)
        yield "starter", starter, starter.bundle
    yield "model2vec", static, teacher.bundle


def speeds(ways: dict[str, Callable[[list[str]], object]], names: list[str]) -> dict[str, Any]:
    """Time every way in turns over the same names."""
    for way in ways.values():
        way(names[:2_000])
    seconds = card.in_turns(
        {name: (lambda way=way: way(names)) for name, way in ways.items()}, repeats=3
    )
    return {
        name: {"strings_per_second": round(len(names) / sorted(taken)[1]), "seconds": taken}
        for name, taken in seconds.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--bundle", type=Path, help="the teacher; by default exported as int8")
    parser.add_argument("--model2vec", type=Path, help="keep its model here, and use it again")
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--strings", type=int, default=20_000, help="for the speeds")
    args = card.common(parser)
    results: dict[str, Any] = {"linking": {}, "threads": args.threads}
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        path = args.bundle or export(demo_model(), work / "teacher", pooling=Pooling.MEAN).path
        teacher = Encoder.open(path, threads=args.threads)
        static = Model2Vec(demo_model(), args.model2vec)
        for task in args.tasks.split(","):
            entities, queries = load(task, args.data, small=args.small)
            texts = list(dict.fromkeys(n.text for e in entities for n in e.names))
            rows: dict[str, Any] = {"mentions": len(queries), "names": len(texts)}
            remembering = Remembering(teacher)
            for name, encoder, bundle in encoders(texts, remembering, static, work):
                rows[name] = judged(encoder, bundle, entities, queries, work / "kb")
                card.say(f"{task}, {name}: {rows[name]}")
            results["linking"][task] = rows
        names = random.Random(0).sample(texts, min(len(texts), args.strings))
        student = Encoder.open(work / "student-128", threads=args.threads)
        wide = Encoder.open(work / "student-256", threads=args.threads)
        fast = peers._open_fastembed(path, "model.onnx", args.threads)
        ways: dict[str, Callable[[list[str]], object]] = {
            "teacher int8": teacher.encode,
            "fastembed int8": lambda texts: list(fast.embed(texts)),
            "model2vec": static.encode,
            "student 128": student.encode,
            "student 256": wide.encode,
        }
        if STARTER.is_dir():
            ways["starter"] = Encoder.open(STARTER, threads=args.threads).encode
        results["speed"] = speeds(ways, names)
        results["strings"] = len(names)
        results["sts"] = {}
        tested = {"teacher int8": teacher, "student 128": student, "model2vec": static}
        if STARTER.is_dir():
            tested["starter"] = Encoder.open(STARTER)
        for name, encoder in tested.items():
            report = evaluate(encoder, data=args.data, tasks=STS, name=name)
            results["sts"][name] = {r.task: r.scores for r in report.results}
    card.finish(card.record("students", args, results), args.out)


if __name__ == "__main__":
    main()
