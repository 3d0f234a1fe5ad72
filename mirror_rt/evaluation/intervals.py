"""How far a score may be from that of other mentions of the kind: bootstrap intervals.

Axes: Q mentions asked, C different ones, M metrics, B draws.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Float64 = npt.NDArray[np.float64]

__all__ = ["DRAWS", "bootstrap_intervals"]

DRAWS = 1_000
_AT_ONCE = 50
_ENDS = (2.5, 97.5)
_SEED = 0


def bootstrap_intervals(
    values_QM: Float64, mentions: Sequence[Hashable], *, draws: int = DRAWS
) -> Float64:
    """Return the (2, M) float64 ends of 95 % intervals of the mean of each metric.

    Different mentions are drawn with replacement, each with all its rows: a mention that comes
    a hundred times is one piece of evidence (percentile bootstrap over clusters; Davison and
    Hinkley 1997). For the difference of two systems give the differences row by row.

    Args:
        values_QM: (Q, M) float64, the score of each mention asked.
        mentions: Q keys, equal for equal mentions.
        draws: How many samples are drawn; the same mentions give the same intervals.

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
