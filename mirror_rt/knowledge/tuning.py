"""Search an approximate index as broadly as its users' recall asks for, and no more.

Axes: Q queries, K hits, N rows, D width.
"""

from __future__ import annotations

import math
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
_QUERIES = 1_000
_TIMED = 200
_LEAST = 8
_MOST = 2_048
_STEP = 1.4
_APART = 0.4
_OVERFETCH = (2, 4, 8, 16, 32)


def tune(index: Index, *, recall: float = RECALL, seed: int = 0) -> dict[str, float | int]:
    """Find the least breadth of search that reaches a recall.

    Of lists the overfetch comes first: the least with which every list read would find the
    wanted share and half of what is missing to all. If none does, the widest is taken, and the
    recall measured says what it gives.

    Args:
        index: Any index; one that scans every row finds them all.
        recall: The share wanted, in (0, 1].
        seed: Draws the queries from the rows.

    Returns:
        ``breadth`` and ``overfetch``, for ``Index.reaching`` (not of an index that scans every
        row), and the fields of ``measure``, from other queries than it was tuned on.
    """
    if index.widest is None:
        return measure(index, seed=seed + 1)
    queries_QD, nearest_Q = _questions(index.vectors_ND, seed=seed)

    overfetch = index.overfetch
    if not index.is_graph:
        for overfetch in _OVERFETCH:
            all_read = index.reaching({"breadth": index.widest, "overfetch": overfetch})
            if _recall(all_read, queries_QD, nearest_Q) >= (1 + recall) / 2:
                break
    breadth = min(_LEAST, index.widest)
    while True:
        settings = {"breadth": breadth, "overfetch": overfetch}
        index = index.reaching(settings)
        found = _recall(index, queries_QD, nearest_Q)
        if found >= recall or breadth >= min(index.widest or 0, _MOST):
            return settings | measure(index, seed=seed + 1)
        breadth = min(math.ceil(_STEP * breadth), index.widest or 0)


def measure(index: Index, *, seed: int = 1) -> dict[str, float | int]:
    """Return recall of the true ten nearest rows, and the milliseconds of a single search."""
    queries_QD, nearest_Q = _questions(index.vectors_ND, seed=seed)
    taken = []
    for query_D in queries_QD[:_TIMED]:
        start = time.perf_counter()
        index.search(query_D[None, :], top=_TOP)
        taken.append(1e3 * (time.perf_counter() - start))
    return {
        "recall_at_10": round(_recall(index, queries_QD, nearest_Q), 4),
        "search_ms_p50": round(float(np.percentile(taken, 50)), 3),
        "search_ms_p99": round(float(np.percentile(taken, 99)), 3),
    }


def _questions(vectors_ND: Float16, *, seed: int) -> tuple[Float32, Float32]:
    """Return queries near the rows, as mentions are near names, and their tenth best scores.

    A query is a row moved towards another one: a row itself would find itself too easily. So far
    that its ten nearest are about as hard to find as those of a misspelt name.
    """
    rng = np.random.default_rng(seed)
    count = min(_QUERIES, len(vectors_ND))
    rows: Int64 = rng.choice(len(vectors_ND), size=count, replace=False)
    others = rng.permutation(rows)
    blend = vectors_ND[rows].astype(np.float32) + _APART * vectors_ND[others].astype(np.float32)
    queries_QD = blend / np.maximum(np.linalg.norm(blend, axis=1, keepdims=True), 1e-9)
    top = min(_TOP, len(vectors_ND))
    best_QK = np.full((count, top), -np.inf, dtype=np.float32)
    for start in range(0, len(vectors_ND), 65_536):
        scores = queries_QD @ vectors_ND[start : start + 65_536].astype(np.float32).T
        both = np.concatenate([best_QK, scores], axis=1)
        best_QK = np.partition(both, -top, axis=1)[:, -top:]
    return queries_QD, best_QK.min(axis=1)


def _recall(index: Index, queries_QD: Float32, tenth_Q: Float32) -> float:
    hits = index.search(queries_QD, top=min(_TOP, len(index.vectors_ND)))
    # By score: rows with equal vectors may stand for each other.
    return float((hits.scores_QK >= tenth_Q[:, None] - 1e-5).mean())
