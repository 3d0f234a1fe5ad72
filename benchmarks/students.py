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
import json
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import harness
import kb_scale
import linking
import numpy as np

from mirror_rt._extras import require_drawing
from mirror_rt.bundle import STARTER, Bundle
from mirror_rt.distillation.static import StaticConfig, distil_static
from mirror_rt.evaluation.gold import Convention, Query, read_gold
from mirror_rt.evaluation.suite import evaluate
from mirror_rt.exporting.pipeline import export
from mirror_rt.knowledge import KnowledgeBase
from mirror_rt.knowledge.formats import read_entities, read_names
from mirror_rt.quickstart import demo_model
from mirror_rt.runtime import Encoder
from mirror_rt.types import Entity, IndexKind, Pooling

TASKS = ("misspelt places", "esco-dev", "hpo", "ncbi-dev")
DIMS = (128, 256)
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


class CachedEmbedder(Encoder):
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


def evaluate_student(
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
    for dims in DIMS:
        made = distil_static(
            teacher,
            names,
            work / f"student-{dims}",
            config=StaticConfig(dims=dims, min_top1=0.0),
            force=True,
        )
        yield f"student {dims}", Encoder.open(made), made
    starter = Encoder.open(STARTER)
    yield "starter", starter, starter.bundle
    yield "model2vec", static, teacher.bundle


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--bundle", type=Path, help="the teacher; by default exported as int8")
    parser.add_argument("--work", type=Path, help="keep what is made here, and use it again")
    parser.add_argument("--plot", type=Path, help="draw acc@1 against strings a second, a PNG")
    parser.add_argument("--remark", help="what the table shall say of the run")
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--strings", type=int, default=20_000, help="for the speeds")
    args = harness.common(parser)
    with tempfile.TemporaryDirectory() as folder:
        work = args.work or Path(folder)
        work.mkdir(parents=True, exist_ok=True)
        path = args.bundle or export(demo_model(), work / "teacher", pooling=Pooling.MEAN).path
        teacher = Encoder.open(path, threads=args.threads)
        static = Model2Vec(demo_model(), work / "model2vec")
        results: dict[str, Any] = {"threads": args.threads, "strings": args.strings}
        results |= {"remark": args.remark} if args.remark else {}
        for name, run in {"linking": linked, "speed": speeds, "sts": similarity}.items():
            kept = work / f"{name}.json"
            if not kept.exists():
                kept.write_text(json.dumps(run(teacher, static, work, args)), encoding="utf-8")
            results[name] = json.loads(kept.read_text("utf-8"))
    if args.plot:
        plot(results, args.plot)
    harness.finish(harness.record("students", args, results), args.out)


def plot(results: Mapping[str, Any], out: Path) -> None:
    """Draw acc@1 of each task against strings a second, and who is not beaten in both."""
    require_drawing("evaluate")
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    tasks = results["linking"]
    figure, axes = pyplot.subplots(1, len(tasks), figsize=(3.4 * len(tasks), 3.2))
    for axis, (task, rows) in zip(axes, tasks.items(), strict=True):
        dots = [
            (results["speed"][name]["strings_per_second"], row["acc@1"], name)
            for name, row in rows.items()
            if isinstance(row, dict)
        ]
        front = [d for d in sorted(dots) if not any(o[0] > d[0] and o[1] >= d[1] for o in dots)]
        axis.plot([d[0] for d in front], [d[1] for d in front], color="0.75", zorder=0)
        for rate, accuracy, name in dots:
            axis.scatter([rate], [accuracy], s=24)
            axis.annotate(name, (rate, accuracy), fontsize=7, xytext=(3, 3),
                          textcoords="offset points")  # fmt: skip
        axis.set(xscale="log", title=task, xlabel="strings a second")
        axis.margins(x=0.35, y=0.15)
    axes[0].set_ylabel("acc@1, all retrievers together")
    figure.tight_layout()
    figure.savefig(out, dpi=110)


def linked(
    teacher: Encoder, static: Model2Vec, work: Path, args: argparse.Namespace
) -> dict[str, Any]:
    """Score every encoder on every task."""
    results: dict[str, Any] = {}
    for task in args.tasks.split(","):
        entities, queries = load(task, args.data, small=args.small)
        texts = list(dict.fromkeys(n.text for e in entities for n in e.names))
        rows: dict[str, Any] = {"mentions": len(queries), "names": len(texts)}
        for name, encoder, bundle in encoders(texts, CachedEmbedder(teacher), static, work):
            rows[name] = evaluate_student(encoder, bundle, entities, queries, work / "kb")
            harness.say(f"{task}, {name}: {rows[name]}")
        results[task] = rows
    return results


def speeds(
    teacher: Encoder, static: Model2Vec, work: Path, args: argparse.Namespace
) -> dict[str, Any]:
    """Time every way in turns over the same names."""
    texts = list(read_names(args.data / linking.FILES["ncbi-train"]))
    names = random.Random(0).sample(texts, 500 if args.small else args.strings)
    fast = fastembed(teacher.bundle.path, args.threads)
    students = {d: Encoder.open(work / f"student-{d}", threads=args.threads) for d in DIMS}
    ways: dict[str, Callable[[list[str]], object]] = {
        "teacher int8": teacher.encode,
        "fastembed int8": lambda texts: list(fast.embed(texts)),
        "model2vec": static.encode,
        **{f"student {dims}": student.encode for dims, student in students.items()},
        "starter": Encoder.open(STARTER, threads=args.threads).encode,
    }
    for way in ways.values():
        way(names[:200])
    seconds = harness.interleaved(
        {name: (lambda way=way: way(names)) for name, way in ways.items()}, repeats=3
    )
    return {
        name: {"strings_per_second": round(len(names) / sorted(taken)[1]), "seconds": taken}
        for name, taken in seconds.items()
    }


def fastembed(folder: Path, threads: int) -> Any:  # noqa: ANN401
    """Open a bundle in fastembed, as docs/bundle-format.md says."""
    from fastembed import TextEmbedding
    from fastembed.common.model_description import ModelSource, PoolingType

    TextEmbedding.add_custom_model(
        model="local/bundle", pooling=PoolingType.DISABLED, normalization=False,
        sources=ModelSource(hf="local/bundle"), dim=384, model_file="model.onnx",
    )  # fmt: skip
    return TextEmbedding("local/bundle", specific_model_path=str(folder), threads=threads)


def similarity(
    teacher: Encoder, static: Model2Vec, work: Path, args: argparse.Namespace
) -> dict[str, Any]:
    """Score sentences, which a static encoder is not for."""
    tested: dict[str, Embeds] = {
        f"student {dims}": Encoder.open(work / f"student-{dims}") for dims in DIMS
    }
    tested |= {"starter": Encoder.open(STARTER), "model2vec": static, "teacher int8": teacher}
    found: dict[str, Any] = {}
    for name, encoder in tested.items():
        report = evaluate(encoder, data=args.data, tasks=STS, name=name)
        found[name] = {result.task: dict(result.scores) for result in report.results}
        harness.say(f"{name}: {found[name]}")
    return found


if __name__ == "__main__":
    main()
