"""A threshold with a guarantee: of what is linked, no more than a share is wrong.

Learn then Test (Angelopoulos et al. 2021, "Learn then Test: Calibrating predictive algorithms to
achieve risk control") with fixed-sequence testing: for one threshold after another, from the
surest links on, the hypothesis that more than the share is wrong is tested by an exact binomial
test, as the interval of Clopper and Pearson (1934) does, until one cannot be rejected. There are
several starts, among which the error is divided. So the chance that the threshold taken is one
above which more than the share is wrong is at most the error, for any number of links, whatever
the probabilities are worth, if the mentions are drawn as those to come are.

Axes: S links of different mentions.
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
"""Where tests start, as a multiple of the fewest links that may pass: few links that are all right,
or more of which some are wrong."""


def risk_counts(
    probability_S: Float64, hit_S: Bools, *, points: int = _POINTS
) -> tuple[tuple[float, int, int], ...]:
    """Return (threshold, links at or above it, how many of them are wrong), from the surest on.

    Which thresholds there are depends on the probabilities alone, not on what is right.

    Args:
        probability_S: (S,) float64, probabilities that were not fitted to these links.
        hit_S: (S,) bool, whether each is right.
        points: How many thresholds at most.
    """
    if not len(probability_S):
        return ()
    order = np.argsort(-probability_S, kind="stable")
    sorted_S = probability_S[order]
    wrong_S = np.cumsum(~hit_S[order])
    lasts = np.flatnonzero(np.append(sorted_S[:-1] > sorted_S[1:], True))
    places = np.unique(lasts[np.linspace(0, len(lasts) - 1, points).astype(np.int64)])
    # Rounded down, or the links of just this probability would not reach it.
    return tuple(
        (float(np.floor(sorted_S[i] * 1e6) / 1e6), int(i) + 1, int(wrong_S[i])) for i in places
    )


def safe_threshold(
    counts: Sequence[Sequence[float]], wrong_at_most: float, *, error: float
) -> float | None:
    """Return the lowest threshold at and above which no more than a share is wrong, or None.

    Args:
        counts: From ``risk_counts``.
        wrong_at_most: The share, between 0 and 1.
        error: How likely the threshold may be one that lets more than the share through.
    """
    each = error / len(_STARTS)
    # With fewer links even none wrong would not show it.
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
    """Return the chance of so many wrong ones, or fewer, if a share of them is (binomial)."""
    log_odds = math.log(share) - math.log1p(-share)
    logs = [
        math.lgamma(links + 1) - math.lgamma(k + 1) - math.lgamma(links - k + 1) + k * log_odds
        for k in range(wrong + 1)
    ]
    peak = max(logs)
    total = math.fsum(math.exp(one - peak) for one in logs)
    return min(math.exp(peak + links * math.log1p(-share)) * total, 1.0)
