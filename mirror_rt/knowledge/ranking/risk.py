"""A threshold with a guarantee: at most a share of the links is wrong.

The method is Learn then Test (Angelopoulos et al. 2021, "Learn then Test: Calibrating predictive
algorithms to achieve risk control") with fixed-sequence testing. Thresholds are tested from the
highest on. An exact binomial test, as in the interval of Clopper and Pearson (1934), tests the
hypothesis that more than the share is wrong, until a test does not reject it. There are several
starts, which share the error level. So the threshold fails with a probability of at most the error
level, for any number of links and any quality of the probabilities, if future mentions are drawn
like these.

Axes: S links of distinct mentions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Float64 = npt.NDArray[np.float64]
    Bools = npt.NDArray[np.bool_]

__all__ = ["risk_counts", "safe_threshold"]

_POINTS = 100
_STARTS = (1, 2, 4, 8, 16)
"""The starts of the tests, as multiples of the minimum number of links: few links without an error,
or more links with some errors."""


def risk_counts(
    probability_S: Float64, hit_S: Bools, *, points: int = _POINTS, fewest: int = 1
) -> tuple[tuple[float, int, int], ...]:
    """Return (threshold, links at or above it, wrong links), from the highest threshold on.

    The thresholds depend on the probabilities alone, not on the outcomes.

    Args:
        probability_S: (S,) float64, probabilities that were not fitted to these links.
        hit_S: (S,) bool, whether each is right.
        points: The maximum number of thresholds.
        fewest: The minimum number of links at or above a threshold.
    """
    if not len(probability_S):
        return ()
    order = np.argsort(-probability_S, kind="stable")
    sorted_S = probability_S[order]
    wrong_S = np.cumsum(~hit_S[order])
    lasts = np.flatnonzero(np.append(sorted_S[:-1] > sorted_S[1:], True))
    lasts = lasts[lasts + 1 >= fewest]
    places = np.unique(lasts[np.linspace(0, len(lasts) - 1, points).astype(np.int64)])
    # Rounded down, so that links with exactly this probability reach it.
    return tuple(
        (float(np.floor(sorted_S[i] * 1e6) / 1e6), int(i) + 1, int(wrong_S[i])) for i in places
    )


def safe_threshold(
    counts: Sequence[Sequence[float]], wrong_at_most: float, *, error: float
) -> float | None:
    """Return the lowest threshold that guarantees a share of wrong links, or None.

    Args:
        counts: The result of ``risk_counts``.
        wrong_at_most: The share, between 0 and 1.
        error: The probability that the guarantee fails.
    """
    each = error / len(_STARTS)
    # With fewer links, even zero errors are not enough.
    fewest = math.ceil(math.log(each) / math.log1p(-wrong_at_most))
    tested = [count for count in counts if count[1] >= fewest]
    safe: list[float] = []
    for factor in _STARTS:
        for threshold, links, wrong in tested:
            if links < factor * fewest:
                continue
            if _at_most(int(wrong), int(links), wrong_at_most) > each:
                break
            safe.append(threshold)
    return min(safe, default=None)


def _at_most(wrong: int, links: int, share: float) -> float:
    """Return the binomial probability of at most this many wrong links, given their share."""
    log_odds = math.log(share) - math.log1p(-share)
    logs = [
        math.lgamma(links + 1) - math.lgamma(k + 1) - math.lgamma(links - k + 1) + k * log_odds
        for k in range(wrong + 1)
    ]
    peak = max(logs)
    total = math.fsum(math.exp(one - peak) for one in logs)
    return min(math.exp(peak + links * math.log1p(-share)) * total, 1.0)
