"""Choose the search parameters of an index: the fastest that reach a target recall.

Axes: Q queries, K hits, N rows, D width.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from mirror_rt.knowledge.arrays import to_float32
from mirror_rt.knowledge.retrieval.vector_index import LEAST_SEARCHED, VectorIndex

if TYPE_CHECKING:
    from mirror_rt.types import Float16, Float32, Int64

__all__ = ["RECALL", "autotune"]

RECALL = 0.98
"""Target recall of the true ten nearest rows."""
_TOP = 10
_QUERIES = 500
_TIMED = 200
_MIN_NPROBE = 8
_MIN_EF = 42
"""``efSearch`` is never less than the number of rows that a search scores exactly."""
_LARGEST_EF = 2_048
_STEP = 1.4
_APART = 0.4
_K_FACTORS = (4, 6, 8, 12, 16)


def autotune(
    index: VectorIndex,
    *,
    recall: float = RECALL,
    seed: int = 0,
    as_mentions: Callable[[Int64], Float32] | None = None,
) -> dict[str, float | int]:
    """Find the smallest search parameters that reach a recall.

    For indexes of codes, ``k_factor`` is tuned first: the smallest value with which a scan of all
    codes reaches the recall. If only some lists will be read, half of the allowed loss is left for
    that. If no value reaches the recall, the largest is taken; the measured recall shows the loss.

    Args:
        index: Any index. An exhaustive one needs no tuning.
        recall: The target recall, in (0, 1].
        seed: Seed for drawing the queries from the rows.
        as_mentions: Returns the (Q, D) vectors of the names of (Q,) rows as mentions; by default
            the vectors of the rows.

    Returns:
        ``efSearch`` or ``nprobe``, and ``k_factor``, for ``VectorIndex.with_parameters``; and
        ``recall_at_10``, ``search_ms_p50`` and ``search_ms_p99``, measured on other queries than
        the tuning used. A search requests 32 rows, as candidate generation does.
    """
    queries_QD, tenth_Q = _queries(
        index.vectors_ND, 2 * _QUERIES, seed=seed, as_mentions=as_mentions
    )
    half = len(queries_QD) // 2 if len(queries_QD) > 1 else len(queries_QD)

    def found_by(settings: dict[str, int]) -> float:
        return _recall(index.with_parameters(settings), queries_QD[:half], tenth_Q[:half])

    settings: dict[str, int] = {}
    if not index.is_graph and not index.is_exhaustive:
        all_lists = {"nprobe": index.nlist} if index.nlist else {}
        for k_factor in _K_FACTORS:
            settings = {"k_factor": k_factor}
            if found_by(settings | all_lists) >= ((1 + recall) / 2 if index.nlist else recall):
                break
    if index.is_graph or index.nlist:
        name = "efSearch" if index.is_graph else "nprobe"
        largest = min(_LARGEST_EF, len(index.vectors_ND)) if index.is_graph else index.nlist
        value = min(_MIN_EF if index.is_graph else _MIN_NPROBE, largest)
        while found_by(settings | {name: value}) < recall and value < largest:
            value = min(math.ceil(_STEP * value), largest)
        settings[name] = value
    tuned = index.with_parameters(settings)
    return settings | _measured(tuned, queries_QD[-half:], tenth_Q[-half:])


def _measured(index: VectorIndex, queries_QD: Float32, tenth_Q: Float32) -> dict[str, float | int]:
    taken = []
    for query_D in queries_QD[:_TIMED]:
        start = time.perf_counter()
        index.search(query_D[None, :], top=LEAST_SEARCHED)
        taken.append(1e3 * (time.perf_counter() - start))
    return {
        "recall_at_10": round(_recall(index, queries_QD, tenth_Q), 4),
        "search_ms_p50": round(float(np.percentile(taken, 50)), 3),
        "search_ms_p99": round(float(np.percentile(taken, 99)), 3),
    }


def _queries(
    vectors_ND: Float16,
    count: int,
    *,
    seed: int,
    as_mentions: Callable[[Int64], Float32] | None = None,
) -> tuple[Float32, Float32]:
    """Return queries near the rows, and the score of the tenth nearest row of each.

    A query is a row that is moved towards another row, as a row itself is too easy to find. The
    distance is chosen so that the query is about as hard as a misspelled name.
    """
    rng = np.random.default_rng(seed)
    count = min(count, len(vectors_ND))
    rows: Int64 = rng.choice(len(vectors_ND), size=count, replace=False)
    rows_QD = to_float32(vectors_ND[rows]) if as_mentions is None else as_mentions(rows)
    blend = rows_QD + _APART * rows_QD[rng.permutation(count)]
    queries_QD = blend / np.maximum(np.linalg.norm(blend, axis=1, keepdims=True), 1e-9)
    top = min(_TOP, len(vectors_ND))
    best_QK = np.full((count, top), -np.inf, dtype=np.float32)
    for start in range(0, len(vectors_ND), 16_384):
        block_ND = to_float32(np.ascontiguousarray(vectors_ND[start : start + 16_384]))
        scores = queries_QD @ block_ND.T
        kept = min(top, scores.shape[1])
        scores = np.partition(scores, -kept, axis=1)[:, -kept:]
        both = np.concatenate([best_QK, scores], axis=1)
        best_QK = np.partition(both, -top, axis=1)[:, -top:]
    return queries_QD, best_QK.min(axis=1)


def _recall(index: VectorIndex, queries_QD: Float32, tenth_Q: Float32) -> float:
    hits = index.search(queries_QD, top=min(LEAST_SEARCHED, len(index.vectors_ND)))
    # Compare scores, not rows: rows with equal vectors count as each other.
    found_Q = (hits.scores_QK >= tenth_Q[:, None] - 1e-5).sum(axis=1)
    wanted = min(_TOP, len(index.vectors_ND))
    return float((np.minimum(found_Q, wanted) / wanted).mean())
