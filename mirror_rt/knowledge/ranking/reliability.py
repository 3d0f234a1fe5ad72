"""Reliability: how far probabilities are from the share of right links.

Axes: S links.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mirror_rt.knowledge.ranking.operating_points import share_interval

if TYPE_CHECKING:
    import numpy.typing as npt

    Float64 = npt.NDArray[np.float64]
    Bools = npt.NDArray[np.bool_]
    Int64 = npt.NDArray[np.int64]

__all__ = ["ReliabilityBin", "expected_calibration_error", "reliability"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReliabilityBin:
    """The links of one bin of probability (reliability diagram; Guo et al. 2017).

    Attributes:
        low: The lowest probability of the bin.
        count: The number of links.
        confidence: Their mean probability.
        accuracy: The share of right links.
        accuracy_low: The lower end of its 95 % interval.
        accuracy_high: The upper end of its 95 % interval.
    """

    low: float
    count: int
    confidence: float
    accuracy: float
    accuracy_low: float
    accuracy_high: float


def expected_calibration_error(probability_S: Float64, hit_S: Bools) -> float:
    """Return the mean gap between probability and accuracy over ten bins, weighted by links."""
    bins = reliability(probability_S, hit_S)
    total = sum(b.count for b in bins)
    return sum(b.count * abs(b.confidence - b.accuracy) for b in bins) / max(total, 1)


def reliability(
    probability_S: Float64, hit_S: Bools, mention_S: Int64 | None = None, *, bins: int = 10
) -> tuple[ReliabilityBin, ...]:
    """Sort links into equal bins of probability; empty bins are left out.

    Args:
        probability_S: (S,) float64 probabilities.
        hit_S: (S,) bool, whether each link is right.
        mention_S: (S,) int64 number of the mention; by default all are different.
        bins: The number of bins.
    """
    mention_S = np.arange(len(hit_S)) if mention_S is None else mention_S
    bin_S = np.clip((probability_S * bins).astype(np.int64), 0, bins - 1)
    found = []
    for number in range(bins):
        inside = bin_S == number
        if not inside.any():
            continue
        low, high = share_interval(hit_S[inside], mention_S[inside])
        found.append(
            ReliabilityBin(
                low=number / bins,
                count=int(inside.sum()),
                confidence=float(probability_S[inside].mean()),
                accuracy=float(hit_S[inside].mean()),
                accuracy_low=low or 0.0,
                accuracy_high=1.0 if high is None else high,
            )
        )
    return tuple(found)
