"""Other methods to find the nearest name: scispaCy's approach and RapidFuzz."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module

import numpy as np

CORES = 2


@dataclass(frozen=True, kw_only=True)
class Peer:
    """A peer: another method to find the nearest name.

    Attributes:
        how: Its description.
        one: Returns the ids of the best name of one text, in a list.
        many: Returns those of many texts.
    """

    how: str
    one: Callable[[Sequence[str]], list[str]]
    many: Callable[[Sequence[str]], list[str]]


def tfidf_peer(texts: Sequence[str], ids: Sequence[str]) -> Peer:
    """Build scispaCy's approach."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(
        analyzer="char_wb", ngram_range=(3, 3), min_df=10, dtype=np.float32
    )
    rows = vectorizer.fit_transform(texts)
    some = np.flatnonzero(np.diff(rows.indptr))  # scispaCy drops names of rare trigrams
    rows, ids = rows[some], [ids[i] for i in some]
    try:
        nmslib = import_module("nmslib")
    except ImportError:
        how = "char-3-gram TF-IDF, exact product"
        columns = rows.T.tocsr()

        def best(mentions: Sequence[str]) -> list[str]:
            scores = (vectorizer.transform(mentions) @ columns).toarray()
            return [ids[i] for i in scores.argmax(axis=1)]
    else:
        m, construction = (100, 2_000) if len(texts) <= 15_000 else (16, 100)
        how = f"char-3-gram TF-IDF, nmslib HNSW M {m}, efConstruction {construction}"
        kind = nmslib.DataType.SPARSE_VECTOR
        index = nmslib.init(method="hnsw", space="cosinesimil_sparse", data_type=kind)
        index.addDataPointBatch(rows)
        options = {"M": m, "efConstruction": construction, "post": 0, "indexThreadQty": CORES}
        index.createIndex(options)
        index.setQueryTimeParams({"efSearch": 200})

        def best(mentions: Sequence[str]) -> list[str]:
            queries = vectorizer.transform(mentions)
            hits = index.knnQueryBatch(queries, k=1, num_threads=min(CORES, len(mentions)))
            return [ids[near[0]] if len(near) else "" for near, _ in hits]

    return Peer(how=how, one=best, many=best)


def rapidfuzz_peer(texts: Sequence[str], ids: Sequence[str]) -> Peer:
    """Build a comparison with every name."""
    from rapidfuzz import fuzz, process, utils

    folded = [utils.default_process(text) for text in texts]

    def one(mentions: Sequence[str]) -> list[str]:
        text = utils.default_process(mentions[0])
        found = process.extractOne(text, folded, scorer=fuzz.ratio)
        return [ids[found[2]] if found else ""]

    def many(mentions: Sequence[str]) -> list[str]:
        queries = [utils.default_process(text) for text in mentions]
        scores = process.cdist(queries, folded, scorer=fuzz.ratio, workers=CORES)
        return [ids[i] for i in scores.argmax(axis=1)]

    how = "extractOne and cdist, ratio, names through default_process beforehand"
    return Peer(how=how, one=one, many=many)


PEERS: Mapping[str, tuple[str, Callable[[Sequence[str], Sequence[str]], Peer]]] = {
    "tfidf": ("scispaCy's approach", tfidf_peer),
    "rapidfuzz": ("RapidFuzz", rapidfuzz_peer),
}


def within(
    budget: float, ask: Callable[[Sequence[str]], list[str]], blocks: Sequence[Sequence[str]]
) -> tuple[list[str], list[float]]:
    """Link blocks until the budget is spent; return the answers, and the seconds per block."""
    found: list[str] = []
    seconds: list[float] = []
    for block in blocks:
        start = time.perf_counter()
        found += ask(block)
        seconds.append(time.perf_counter() - start)
        if sum(seconds) > budget:
            break
    return found, seconds


def percentiles(seconds: Sequence[float]) -> dict[str, float]:
    return {f"p{n}": round(1e3 * float(np.percentile(seconds, n)), 3) for n in (50, 99)}
