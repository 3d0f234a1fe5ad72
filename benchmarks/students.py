r"""Students compared with their teacher: strings per second, and links with all retrievers.

The teacher is all-MiniLM-L6-v2 with mean pooling. Compared are its int8 bundle, the same graph in
fastembed with its defaults, the static model that model2vec makes of it (``distill`` with its
defaults), the starter in the package, static students fitted to the names of each task, and
students of fewer layers trained on the names of all tasks, exported to int8. Linking: HPO with
20 % of the exact synonyms held out, the dev part of NCBI with train_dictionary, half of ESCO's job
titles (the other half was used to choose settings), and misspelled names of 10,000 places. A
mention is right if any entity with the best name is right. At the end, a knowledge base of many
place names is built with the teacher and with its student.

    pip install -c constraints.txt -e '.[students]'
    python benchmarks/students.py --data DIR --work DIR --out benchmarks/results/students.json
    python benchmarks/students.py --data DIR --small                # a minute or two

A run with --work that was killed goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import harness
import linking
import numpy as np
import places

from mirror_rt._extras import require_drawing
from mirror_rt.bundle import STARTER, Bundle
from mirror_rt.distillation.layers import LayerConfig, distil_layers
from mirror_rt.distillation.static import StaticConfig, distil_static
from mirror_rt.evaluation.gold import Convention, Query, read_gold
from mirror_rt.evaluation.suite import evaluate
from mirror_rt.exporting.pipeline import export
from mirror_rt.knowledge import KnowledgeBase
from mirror_rt.knowledge.formats import read_entities, read_names
from mirror_rt.quickstart import demo_model
from mirror_rt.runtime import Encoder
from mirror_rt.staging import staging_file
from mirror_rt.types import Entity, IndexKind, Pooling

TASKS = ("misspelt places", "esco-dev", "hpo", "ncbi-dev")
DIMS = (128, 256)
LAYERS = (3, 2)
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
        """Return (N, D) float32 unit rows; texts without a known token have the same row."""
        rows = np.asarray(self._model.encode(list(texts)), dtype=np.float32)
        norms = np.linalg.norm(rows, axis=1, keepdims=True)
        rows[norms[:, 0] < 1e-9] = 1
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


class CachedEmbedder(Encoder):
    """A teacher with a cache, so no name is embedded twice; the speed is measured first."""

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
            entities, typos, _ = places.places(10_000)
            queries = [Query(parts=(text,), ids=frozenset({id_})) for text, id_ in typos]
    if small:
        queries = queries[:100]
        wanted = {id_ for query in queries for id_ in query.ids}
        entities = [
            e for i, e in enumerate(entities) if i % 10 == 0 or wanted & {e.id, *e.alternative_ids}
        ]
    return entities, queries


def evaluate_student(
    encoder: Embeds,
    bundle: Bundle,
    entities: Sequence[Entity],
    queries: Sequence[Query],
    to: Path,
    *,
    query_encoder: Bundle | None = None,
) -> dict[str, float]:
    """Build a knowledge base, link all mentions, and return the scores."""
    begin = time.perf_counter()
    base = KnowledgeBase.build(
        bundle, entities, to, encoder=encoder, query_encoder=query_encoder, index=IndexKind.EXACT,
        force=True,
    )  # fmt: skip
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


@dataclass
class Ways:
    """The teacher and its students; finished ones are kept in ``work``."""

    teacher: Encoder
    static: Model2Vec
    work: Path
    args: argparse.Namespace

    def fitted(self, task: str, dims: int, names: Sequence[str], teacher: Encoder) -> Bundle:
        """Return the static student of a task's names."""
        out = self.work / f"student-{dims}-{task.replace(' ', '-')}"
        config = StaticConfig(dims=dims, min_top1=0.0)
        return Bundle.open(out) if out.exists() else distil_static(
            teacher, names, out, config=config
        )  # fmt: skip

    def layered(self, layers: int) -> Bundle:
        """Return the student with fewer layers, trained on the names of all tasks, as int8."""
        checkpoint, out = self.work / f"checkpoint-{layers}", self.work / f"layers-{layers}"
        if not (out.exists() or checkpoint.exists()):
            tasks = (load(task, self.args.data, small=self.args.small)[0] for task in TASKS)
            names = dict.fromkeys(n.text for es in tasks for e in es for n in e.names)
            steps = 2 if self.args.small else self.args.steps[LAYERS.index(layers)]
            config = LayerConfig(layers=layers, max_steps=steps)
            begin = time.process_time()
            distil_layers(demo_model(), list(names), checkpoint, config)
            harness.say(f"{layers} layers: {time.process_time() - begin:.0f} s of a core")
        if not out.exists():
            export(checkpoint, out, pooling=Pooling.MEAN, min_top1=0.0)
        return Bundle.open(out)

    def of_task(
        self, task: str, names: Sequence[str]
    ) -> Iterator[tuple[str, Callable[[], tuple[Embeds, Bundle, Bundle | None]]]]:
        """Yield every method: the encoder of names, its bundle, another encoder of mentions.

        model2vec's model has no bundle, so it gets that of another.
        """
        teacher = CachedEmbedder(self.teacher)
        yield "teacher int8", lambda: (teacher, teacher.bundle, None)
        for layers in LAYERS:
            yield f"{layers} layers int8", lambda n=layers: _opened(self.layered(n))
        for dims in DIMS:
            fitted = partial(self.fitted, task, dims, names, teacher)
            yield f"student {dims}", lambda f=fitted: _opened(f())
            yield f"teacher asked by student {dims}", lambda f=fitted: (
                teacher, teacher.bundle, f(),
            )  # fmt: skip
        yield "starter", lambda: _opened(Bundle.open(STARTER))
        yield "model2vec", lambda: (self.static, teacher.bundle, None)

    def every(self) -> dict[str, Embeds]:
        """Return the encoders; the static students are those of NCBI's names."""
        return {
            "teacher int8": self.teacher,
            **{f"{n} layers int8": _open(self.layered(n), self.args) for n in LAYERS},
            **{
                f"student {n}": _open(Bundle.open(self.work / f"student-{n}-ncbi-dev"), self.args)
                for n in DIMS
            },
            "starter": _open(Bundle.open(STARTER), self.args),
            "model2vec": self.static,
        }


def _opened(bundle: Bundle) -> tuple[Embeds, Bundle, None]:
    return Encoder.open(bundle), bundle, None


def _open(bundle: Bundle, args: argparse.Namespace) -> Encoder:
    return Encoder.open(bundle, threads=args.threads)


def kept(path: Path, run: Callable[[], Any]) -> Any:  # noqa: ANN401
    """Return the result of a part of the benchmark, measured now or by an earlier run."""
    if not path.exists():
        found = json.dumps(run())
        path.parent.mkdir(exist_ok=True)
        with staging_file(path, force=True) as fresh:
            fresh.write_text(found, encoding="utf-8")
    return json.loads(path.read_text("utf-8"))


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
    parser.add_argument("--strings", type=int, default=5_000, help="for the speeds")
    parser.add_argument("--steps", type=int, nargs=len(LAYERS), default=[450] * len(LAYERS),
                        help=f"of training {', '.join(map(str, LAYERS))} layers")  # fmt: skip
    parser.add_argument("--names", type=int, default=1_000_000, help="of the large build; 0: none")
    args = harness.common(parser)
    with tempfile.TemporaryDirectory() as folder:
        work = args.work or Path(folder)
        work.mkdir(parents=True, exist_ok=True)
        path = args.bundle or work / "teacher"
        if not path.exists():
            export(demo_model(), path, pooling=Pooling.MEAN)
        teacher = Encoder.open(path, threads=args.threads)
        ways = Ways(teacher, Model2Vec(demo_model(), work / "model2vec"), work, args)
        results: dict[str, Any] = {"threads": args.threads, "strings": args.strings}
        results |= {"remark": args.remark} if args.remark else {}
        results["linking"] = {task: linked(task, ways) for task in args.tasks.split(",")}
        results["speed"] = kept(work / "parts/speed.json", lambda: speeds(ways))
        results["sts"] = {
            name: kept(work / f"parts/sts {name}.json", partial(similarity, name, encoder, args))
            for name, encoder in ways.every().items()
        }
        if args.names:
            results["build"] = {
                name: kept(work / f"parts/build {name}.json", partial(large, name, ways))
                for name in ("teacher int8", "student 128")
            }
    if args.plot:
        plot(results, args.plot)
    harness.finish(harness.record("students", args, results), args.out)


def plot(results: Mapping[str, Any], out: Path) -> None:
    """Draw acc@1 of each task against strings per second, and the Pareto front."""
    require_drawing("evaluate")
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    tasks = results["linking"]
    figure, axes = pyplot.subplots(1, len(tasks), figsize=(3.4 * len(tasks), 3.2))
    names = [name for name in results["speed"] if any(name in rows for rows in tasks.values())]
    colors = {name: f"C{i}" for i, name in enumerate(names)}
    for axis, (task, rows) in zip(axes, tasks.items(), strict=True):
        dots = [
            (results["speed"][name]["strings_per_second"], row["acc@1"], name)
            for name, row in rows.items()
            if name in results["speed"]
        ]
        front = [d for d in sorted(dots) if not any(o[0] > d[0] and o[1] >= d[1] for o in dots)]
        axis.plot([d[0] for d in front], [d[1] for d in front], color="0.75", zorder=0)
        for rate, accuracy, name in dots:
            axis.scatter([rate], [accuracy], s=24, color=colors[name])
        axis.set(xscale="log", title=task, xlabel="strings a second")
        axis.margins(x=0.1, y=0.1)
    axes[0].set_ylabel("acc@1, all retrievers together")
    dots = [pyplot.Line2D([], [], marker="o", linestyle="", color=colors[name]) for name in names]
    figure.legend(dots, names, ncols=len(names), loc="lower center", fontsize=8)
    figure.tight_layout(rect=(0, 0.08, 1, 1))
    figure.savefig(out, dpi=110)


def linked(task: str, ways: Ways) -> dict[str, Any]:
    """Evaluate every encoder on a task."""
    entities, queries = load(task, ways.args.data, small=ways.args.small)
    texts = list(dict.fromkeys(n.text for e in entities for n in e.names))
    rows: dict[str, Any] = {"mentions": len(queries), "names": len(texts)}
    for name, made in ways.of_task(task, texts):

        def run(made: Callable[[], Any] = made) -> dict[str, float]:
            encoder, bundle, query_encoder = made()
            return evaluate_student(
                encoder, bundle, entities, queries, ways.work / "kb", query_encoder=query_encoder
            )

        rows[name] = kept(ways.work / f"parts/{task} {name}.json", run)
        harness.say(f"{task}, {name}: {rows[name]}")
    return rows


def speeds(ways: Ways) -> dict[str, Any]:
    """Time every encoder, interleaved, on the same names."""
    args = ways.args
    texts = list(read_names(args.data / linking.FILES["ncbi-train"]))
    names = random.Random(0).sample(texts, 500 if args.small else args.strings)
    fast = fastembed(ways.teacher.bundle.path, args.threads)
    timed: dict[str, Callable[[list[str]], object]] = {
        "fastembed int8": lambda texts: list(fast.embed(texts)),
        **{name: encoder.encode for name, encoder in ways.every().items()},
    }
    for way in timed.values():
        way(names[:200])
    seconds = harness.interleaved(
        {name: (lambda way=way: way(names)) for name, way in timed.items()}, repeats=3
    )
    return {
        name: {"strings_per_second": round(len(names) / sorted(taken)[1]), "seconds": taken}
        for name, taken in seconds.items()
    }


def large(name: str, ways: Ways) -> dict[str, float]:
    """Time the build of many place names, including embedding."""
    entities = places.places(2_000 if ways.args.small else ways.args.names)[0]
    texts = list({n.text for e in entities for n in e.names})
    bundle, begin = ways.teacher.bundle, time.perf_counter()
    if name != "teacher int8":
        some = random.Random(0).sample(sorted(texts), min(len(texts), 50_000))
        bundle = ways.fitted("places of the build", 128, some, ways.teacher)
    fitting = time.perf_counter() - begin
    encoder = _open(bundle, ways.args)
    embedded = 0.0

    class Timed:
        """The encoder, with the seconds that it took."""

        dim = encoder.dim

        def encode(self, texts: Sequence[str]) -> np.ndarray:
            nonlocal embedded
            begin = time.perf_counter()
            found = encoder.encode(texts)
            embedded += time.perf_counter() - begin
            return found

    begin = time.perf_counter()
    KnowledgeBase.build(bundle, entities, ways.work / "large", encoder=Timed(), force=True).close()
    seconds = time.perf_counter() - begin
    shutil.rmtree(ways.work / "large")
    found = {
        "names": len(texts), "seconds": round(seconds, 1), "embedding": round(embedded, 1),
        "fitting": round(fitting, 1),
    }  # fmt: skip
    harness.say(f"build, {name}: {found}")
    return found


def fastembed(folder: Path, threads: int) -> Any:  # noqa: ANN401
    """Open a bundle in fastembed, as docs/bundle-format.md says."""
    from fastembed import TextEmbedding
    from fastembed.common.model_description import ModelSource, PoolingType

    TextEmbedding.add_custom_model(
        model="local/bundle", pooling=PoolingType.DISABLED, normalization=False,
        sources=ModelSource(hf="local/bundle"), dim=384, model_file="model.onnx",
    )  # fmt: skip
    return TextEmbedding("local/bundle", specific_model_path=str(folder), threads=threads)


def similarity(name: str, encoder: Embeds, args: argparse.Namespace) -> dict[str, Any]:
    """Evaluate on sentences, for which a static encoder is not made."""
    report = evaluate(encoder, data=args.data, tasks=STS[-1:] if args.small else STS, name=name)
    found = {result.task: dict(result.scores) for result in report.results}
    harness.say(f"{name}: {found}")
    return found


if __name__ == "__main__":
    main()
