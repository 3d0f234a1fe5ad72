"""Metrics in numpy. An undefined score is None, never NaN.

Axes: N items, D width of a vector.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from mirror_rt._count import counted
from mirror_rt.errors import ModelError

if TYPE_CHECKING:
    from mirror_rt.types import Float32

    Floats: TypeAlias = npt.NDArray[np.floating[Any]] | Sequence[float]

__all__ = [
    "accuracy",
    "area_under_curve",
    "average_ranks",
    "f1",
    "finite",
    "macro_f1",
    "spearman",
    "why_undefined",
]


def average_ranks(values: Floats) -> npt.NDArray[np.float64]:
    """Return (N,) float64 ranks from 1; equal values share the mean of their ranks.

    >>> average_ranks([0.5, 0.1, 0.5]).tolist()
    [2.5, 1.0, 2.5]
    """
    _, place, counts = np.unique(np.asarray(values), return_inverse=True, return_counts=True)
    last = np.cumsum(counts).astype(np.float64)
    ranks: npt.NDArray[np.float64] = (last - (counts - 1) / 2.0)[place]
    return ranks


def spearman(gold: Floats, predicted: Floats) -> float | None:
    """Return Spearman's ρ with ties averaged; None if either side is constant or not finite.

    >>> spearman([1, 2, 3], [0.1, 0.2, 0.9])
    1.0
    """
    a, b = np.asarray(gold, np.float64), np.asarray(predicted, np.float64)
    if len(a) < 2 or not (np.isfinite(a).all() and np.isfinite(b).all()):
        return None
    a, b = average_ranks(a), average_ranks(b)
    a, b = a - a.mean(), b - b.mean()
    spread = float(np.sqrt((a @ a) * (b @ b)))
    return None if spread == 0.0 else float(np.clip((a @ b) / spread, -1.0, 1.0))


def area_under_curve(positive: Sequence[bool], scores: Floats) -> float | None:
    """Return the area under the ROC curve; None with one class only, or a score not finite.

    >>> area_under_curve([True, False, False], [0.9, 0.1, 0.9])
    0.75
    """
    truth = np.asarray(positive, bool)
    right, wrong = int(truth.sum()), int((~truth).sum())
    if not right or not wrong or not np.isfinite(np.asarray(scores, np.float64)).all():
        return None
    total = float(average_ranks(scores)[truth].sum())
    return (total - right * (right + 1) / 2.0) / (right * wrong)


def why_undefined(gold: Floats, predicted: Floats) -> str:
    """Return why ``spearman``, or with bool gold ``area_under_curve``, is None.

    >>> why_undefined([1, 1], [0.3, 0.4])
    'all 2 items have the same gold score'
    """
    a = np.asarray(gold)
    if len(a) < 2:
        return f"there {'is' if len(a) else 'are'} {counted(len(a), 'item')}"
    if not np.isfinite(np.asarray(predicted, np.float64)).all():
        return "a prediction is not a finite number"
    if (a == a[0]).all():
        one = "are of one class only" if a.dtype == bool else "have the same gold score"
        return f"all {counted(len(a), 'item')} {one}"
    return "every prediction is the same"


def finite(vectors_ND: Float32) -> Float32:
    """Return (N, D) float32 vectors unchanged, after a check that all numbers are finite.

    Raises:
        ModelError: A number is not finite.
    """
    broken = int((~np.isfinite(vectors_ND).all(axis=1)).sum())
    if broken:
        raise ModelError(
            f"{broken:,} of {counted(len(vectors_ND), 'text')} without a finite vector, "
            "so there is no score; are the weights whole?"
        )
    return vectors_ND


def accuracy(gold: Sequence[str], predicted: Sequence[str]) -> float:
    """Return the share of equal labels."""
    return sum(a == b for a, b in zip(gold, predicted, strict=True)) / len(gold)


def f1(gold: Sequence[str], predicted: Sequence[str], label: str) -> float:
    """Return F1 of one label; 0 if it is neither given nor predicted."""
    both = sum(a == b == label for a, b in zip(gold, predicted, strict=True))
    either = sum(a == label for a in gold) + sum(b == label for b in predicted)
    return 2.0 * both / either if either else 0.0


def macro_f1(gold: Sequence[str], predicted: Sequence[str]) -> float:
    """Return the mean F1 over every label that is given or predicted."""
    labels = sorted({*gold, *predicted})
    return sum(f1(gold, predicted, label) for label in labels) / len(labels)
