"""Operating points: the threshold of a target precision, and the share of linked mentions.

Axes: S links, C distinct mentions.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from mirror_rt.errors import ConfigError

if TYPE_CHECKING:
    import numpy.typing as npt

    Float64 = npt.NDArray[np.float64]
    Bools = npt.NDArray[np.bool_]
    Int64 = npt.NDArray[np.int64]

__all__ = ["TARGET_PRECISIONS", "OperatingPoint", "operating_points", "share_interval"]

TARGET_PRECISIONS = (0.80, 0.85, 0.90, 0.95, 0.97, 0.98, 0.99)
_Z = 1.959964
"""The normal quantile of a two-sided 95 % interval."""
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatingPoint:
    """The threshold of a target precision, and its effect.

    Attributes:
        target_precision: The target precision.
        probability: The lowest probability that ``link(target_precision=…)`` links; None if no
            threshold reaches the target.
        linked: The number of linked mentions.
        coverage: The share of linked mentions.
        precision: The share of right links; None if none is linked.
        precision_low: The lower end of its 95 % interval.
        precision_high: The upper end of its 95 % interval.
    """

    target_precision: float
    probability: float | None
    linked: int = 0
    coverage: float = 0.0
    precision: float | None = None
    precision_low: float | None = None
    precision_high: float | None = None

    def to_dict(self) -> dict[str, float | int | None]:
        """Return the fields for JSON, with numbers rounded to six places."""
        return {
            name: round(value, 6) if isinstance(value, float) else value
            for name, value in asdict(self).items()
        }


def operating_points(
    probability_S: Float64,
    hit_S: Bools,
    mention_S: Int64,
    *,
    threshold: Callable[[float], float],
    mentions: int | None = None,
) -> tuple[OperatingPoint, ...]:
    """Return the operating point of each of ``TARGET_PRECISIONS`` on links with known answers.

    Args:
        probability_S: (S,) float64, the probability of each link.
        hit_S: (S,) bool, whether it is right.
        mention_S: (S,) int64 number of the mention; equal mentions are not independent.
        threshold: Returns the threshold of a precision, or raises ConfigError, as
            ``Reranker.threshold``.
        mentions: The number of mentions, including those without a candidate; by default S.
    """
    total = len(probability_S) if mentions is None else mentions
    points = []
    for wanted in TARGET_PRECISIONS:
        try:
            least = threshold(wanted)
        except ConfigError:  # not reached
            points.append(OperatingPoint(target_precision=wanted, probability=None))
            continue
        above_S = probability_S >= least - _ROUNDING
        linked = int(above_S.sum())
        low, high = share_interval(hit_S[above_S], mention_S[above_S])
        points.append(
            OperatingPoint(
                target_precision=wanted,
                probability=least,
                linked=linked,
                coverage=linked / max(total, 1),
                precision=float(hit_S[above_S].mean()) if linked else None,
                precision_low=low,
                precision_high=high,
            )
        )
    return tuple(points)


def share_interval(hit_S: Bools, mention_S: Int64) -> tuple[float | None, float | None]:
    """Return the 95 % interval of the share of right links (Wilson 1927).

    Links of equal mentions are right or wrong together, so the sample size is Kish's effective
    size (1965) over distinct mentions. Unlike a bootstrap, this also gives an interval for a
    share of 0 or 1.

    >>> import numpy as np
    >>> low, high = share_interval(np.ones(20, bool), np.arange(20))
    >>> round(low, 3), round(high, 3)
    (0.839, 1.0)
    """
    if not len(hit_S):
        return None, None
    _, counts_C = np.unique(mention_S, return_counts=True)
    n = float(counts_C.sum() ** 2 / (counts_C.astype(np.float64) ** 2).sum())
    share, z2 = float(hit_S.mean()), _Z * _Z
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = _Z / (1 + z2 / n) * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    return max(middle - half, 0.0), min(middle + half, 1.0)
