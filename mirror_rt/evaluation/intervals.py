"""Bootstrap intervals of scores.

Axes: Q mentions, C distinct mentions, M metrics, B draws, N scored pairs, L distinct values.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Float64 = npt.NDArray[np.float64]
    Int64 = npt.NDArray[np.int64]

__all__ = ["DRAWS", "auc_interval", "bootstrap_intervals", "spearman_intervals"]

DRAWS = 1_000
_AT_ONCE = 50
_ENDS = (2.5, 97.5)
_SEED = 0


def bootstrap_intervals(
    values_QM: Float64, mentions: Sequence[Hashable], *, draws: int = DRAWS
) -> Float64:
    """Return the (2, M) float64 ends of 95 % intervals of the mean of each metric.

    Distinct mentions are drawn with replacement, each with all its rows, as a mention that occurs a
    hundred times is one piece of evidence (percentile bootstrap over clusters; Davison and
    Hinkley 1997). For the difference of two systems, pass the differences row by row.

    Args:
        values_QM: (Q, M) float64, the score of each mention.
        mentions: Q keys, equal for equal mentions.
        draws: The number of draws; equal mentions give equal intervals.

    >>> bootstrap_intervals(np.array([[1.0], [1.0]]), ["a", "b"]).tolist()
    [[1.0], [1.0]]
    """
    place: dict[Hashable, int] = {}
    cluster_Q = np.array([place.setdefault(m, len(place)) for m in mentions], dtype=np.int64)
    counts_C = np.bincount(cluster_Q).astype(np.float64)
    sums_CM = np.stack([np.bincount(cluster_Q, values_M) for values_M in values_QM.T], axis=1)
    rng, clusters = np.random.default_rng(_SEED), len(place)
    even_C = np.full(clusters, 1.0 / clusters)
    means: list[Float64] = []
    for start in range(0, draws, _AT_ONCE):
        drawn_BC = rng.multinomial(clusters, even_C, size=min(_AT_ONCE, draws - start))
        weights_BC = drawn_BC.astype(np.float64)
        means.append((weights_BC @ sums_CM) / (weights_BC @ counts_C)[:, None])
    found: Float64 = np.percentile(np.concatenate(means), _ENDS, axis=0)
    return found


def spearman_intervals(
    gold_N: npt.NDArray[Any],
    predicted_N: npt.NDArray[Any],
    groups: Sequence[str],
    *,
    together: int = 1,
) -> dict[str, tuple[float, ...]]:
    """Return the 95 % intervals of Spearman's ρ: ``all``, and ``mean`` of groups if there are some.

    Pairs are drawn with replacement within each group. A draw with a constant side has no ρ and
    does not count.

    Args:
        gold_N: (N,) scores of people.
        predicted_N: (N,) scores of a model.
        groups: N names of subsets.
        together: The number of consecutive pairs that are drawn together.

    >>> spearman_intervals(np.arange(9.0), np.arange(9.0) * 2, [""] * 9)
    {'all': (1.0, 1.0)}
    """
    place: dict[str, int] = {}
    group_N = np.array([place.setdefault(group, len(place)) for group in groups], dtype=np.int64)
    rows = [np.flatnonzero(group_N == number) for number in range(len(place))]
    found: dict[str, list[Float64]] = {"all": [], "mean": []}
    for weights_BN in _drawn(rows, together):
        found["all"].append(_spearman(gold_N, predicted_N, weights_BN))
        if len(rows) > 1:
            each = [_spearman(gold_N[r], predicted_N[r], weights_BN[:, r]) for r in rows]
            found["mean"].append(np.mean(each, axis=0))
    return {metric: ends for metric, some in found.items() if (ends := _ends(some))}


def auc_interval(
    positive_N: npt.NDArray[np.bool_], scores_N: npt.NDArray[Any]
) -> tuple[float, ...]:
    """Return the 95 % interval of the area under the ROC curve; empty if no draw has one.

    Args:
        positive_N: (N,) bool, the positive items.
        scores_N: (N,) scores.
    """
    found = []
    for weights_BN in _drawn([np.arange(len(positive_N))], 1):
        rank_BN = _ranks(scores_N, weights_BN)
        right_B = weights_BN[:, positive_N].sum(axis=1)
        wrong_B = weights_BN.sum(axis=1) - right_B
        total_B = (weights_BN * rank_BN)[:, positive_N].sum(axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            found.append((total_B - right_B * (right_B + 1) / 2) / (right_B * wrong_B))
    return _ends(found)


def _drawn(rows: Sequence[Int64], together: int) -> Iterator[Float64]:
    """Yield (B, N) float64, how often each row is drawn, for each part of the rows."""
    rng = np.random.default_rng(_SEED)
    total = sum(map(len, rows))
    for start in range(0, DRAWS, _AT_ONCE):
        draws = min(_AT_ONCE, DRAWS - start)
        weights_BN = np.empty((draws, total))
        for some in rows:
            clusters, cluster_R = np.unique(some // together, return_inverse=True)
            even_C = np.full(len(clusters), 1.0 / len(clusters))
            drawn_BC = rng.multinomial(len(clusters), even_C, size=draws)
            weights_BN[:, some] = drawn_BC[:, cluster_R]
        yield weights_BN


def _ranks(values_N: npt.NDArray[Any], weights_BN: Float64) -> Float64:
    """Return (B, N) float64 ranks from 1 of weighted values; equal values share ranks."""
    _, level_N = np.unique(values_N, return_inverse=True)
    order_N = np.argsort(level_N, kind="stable")
    starts_L = np.searchsorted(level_N[order_N], np.arange(level_N.max(initial=0) + 1))
    counts_BL = np.add.reduceat(weights_BN[:, order_N], starts_L, axis=1)
    ranks_BL: Float64 = np.cumsum(counts_BL, axis=1) - (counts_BL - 1) / 2
    return ranks_BL[:, level_N]


def _spearman(
    gold_N: npt.NDArray[Any], predicted_N: npt.NDArray[Any], weights_BN: Float64
) -> Float64:
    """Return (B,) float64, the ρ of each draw; NaN if a side is constant."""
    size_B1 = weights_BN.sum(axis=1, keepdims=True)
    sides = []
    for values_N in (gold_N, predicted_N):
        rank_BN = _ranks(values_N, weights_BN)
        sides.append(rank_BN - (weights_BN * rank_BN).sum(axis=1, keepdims=True) / size_B1)
    a_BN, b_BN = sides
    both_B, a_B, b_B = (
        (weights_BN * product).sum(axis=1) for product in (a_BN * b_BN, a_BN * a_BN, b_BN * b_BN)
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        found_B: Float64 = np.clip(both_B / np.sqrt(a_B * b_B), -1.0, 1.0)
    return found_B


def _ends(parts: Sequence[Float64]) -> tuple[float, ...]:
    values = np.concatenate(parts) if parts else np.zeros(0)
    values = values[np.isfinite(values)]
    return tuple(np.percentile(values, _ENDS).tolist()) if len(values) else ()
