"""Search an approximate index as broadly as its users' recall asks for, and no more.

Axes: Q queries, K hits, N rows, D width.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from mirror_rt.knowledge.index import Index

if TYPE_CHECKING:
    from mirror_rt.types import Float16, Float32, Int64

__all__ = ["RECALL", "measure", "tune"]

RECALL = 0.98
"""Share of the true ten nearest rows that ``AUTO`` wants found."""
_TOP = 10
_QUERIES = 200
_BREADTHS = (32, 64, 128, 256, 512, 1024)


def tune(index: Index, *, recall: float = RECALL, seed: int = 0) -> dict[str, float | int]:
    """Set the least breadth of search that reaches a recall; return it with what it measured.

    Args:
        index: An HNSW index; it keeps the breadth found.
        recall: The share wanted, in (0, 1].
        seed: Draws the queries from the rows.

    Returns:
        ``efSearch`` and the fields of ``measure``.
    """
    queries_QD, nearest_Q = _questions(index.vectors_ND, seed=seed)
    found: dict[str, float | int] = {}
    for breadth in _BREADTHS:
        index.set_breadth(breadth)
        found = {"efSearch": breadth, **_measured(index, queries_QD, nearest_Q)}
        if found["recall_at_10"] >= recall:
            break
    return found


def measure(index: Index, *, seed: int = 0) -> dict[str, float | int]:
    """Return recall of the true ten nearest rows, and the milliseconds of a single search."""
    return _measured(index, *_questions(index.vectors_ND, seed=seed))


def _questions(vectors_ND: Float16, *, seed: int) -> tuple[Float32, Float32]:
    """Return queries near the rows, as mentions are near names, and their tenth best scores.

    A query is the middle of a row and another one: a row itself would find itself too easily.
    """
    rng = np.random.default_rng(seed)
    count = min(_QUERIES, len(vectors_ND))
    rows: Int64 = rng.choice(len(vectors_ND), size=count, replace=False)
    others = rng.permutation(rows)
    blend = vectors_ND[rows].astype(np.float32) + 0.5 * vectors_ND[others].astype(np.float32)
    queries_QD = blend / np.maximum(np.linalg.norm(blend, axis=1, keepdims=True), 1e-9)
    top = min(_TOP, len(vectors_ND))
    best_QK = np.full((count, top), -np.inf, dtype=np.float32)
    for start in range(0, len(vectors_ND), 65_536):
        scores = queries_QD @ vectors_ND[start : start + 65_536].astype(np.float32).T
        both = np.concatenate([best_QK, scores], axis=1)
        best_QK = np.partition(both, -top, axis=1)[:, -top:]
    return queries_QD, best_QK.min(axis=1)


def _measured(index: Index, queries_QD: Float32, tenth_Q: Float32) -> dict[str, float | int]:
    top = min(_TOP, len(index.vectors_ND))
    shares, taken = [], []
    for query_D, tenth in zip(queries_QD, tenth_Q, strict=True):
        start = time.perf_counter()
        hits = index.search(query_D[None, :], top=top)
        taken.append(1e3 * (time.perf_counter() - start))
        # By score: rows with equal vectors may stand for each other.
        shares.append(float((hits.scores_QK >= tenth - 1e-5).mean()))
    return {
        "recall_at_10": round(float(np.mean(shares)), 4),
        "search_ms_p50": round(float(np.percentile(taken, 50)), 3),
        "search_ms_p99": round(float(np.percentile(taken, 99)), 3),
    }
