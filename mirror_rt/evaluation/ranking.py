"""Compare the nearest neighbors of the same names under two encoders.

Cosine is misleading: vectors can have a cosine of 0.999 to their originals, and still change the
order of near neighbors. Users see the ranking.

Axes: N names, D width, Q names of a block, K neighbors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from mirror_rt.types import Float32, Int64

__all__ = ["Ranking", "compare"]

TIE = 1e-5
"""Scores that differ by less are equal, except for the rounding of float32 sums."""

BLOCK = 512

SHOWN = 80
"""Maximum characters of a name in the report, as a text may be very long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """How well quantized vectors keep the order of the originals.

    Attributes:
        names: The number of names, which are both queries and corpus.
        top1_agreement: Share of names whose nearest other name stayed (or is equally near).
        top10_overlap: Mean share of the ten nearest other names that stayed.
        mean_cosine_loss: Mean original cosine lost by taking the new nearest name instead of the
            old one.
        mean_cosine: Mean cosine of a vector and its original.
        min_cosine: The lowest of those cosines.
        most_changed: The ten names whose vectors changed most, cut to 80 characters, each with its
            cosine; lowest first.
    """

    names: int
    top1_agreement: float
    top10_overlap: float
    mean_cosine_loss: float
    mean_cosine: float
    min_cosine: float
    most_changed: tuple[tuple[str, float], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers for the manifest, with six places."""
        values = asdict(self)
        values["most_changed"] = [[name, round(c, 6)] for name, c in self.most_changed]
        return {k: round(v, 6) if isinstance(v, float) else v for k, v in values.items()}


def compare(original_ND: Float32, changed_ND: Float32, names: Sequence[str]) -> Ranking:
    """Compare the rankings of ``changed_ND`` and ``original_ND``.

    Args:
        original_ND: (N, D) float32 unit rows.
        changed_ND: (N, D) float32 unit rows of the same names.
        names: At least two different names.
    """
    count = len(names)
    nearest = min(10, count - 1)
    same = overlap = 0
    lost = 0.0
    for begin in range(0, count, BLOCK):
        rows_Q = np.arange(begin, min(begin + BLOCK, count))
        scores_QN = _without_self(original_ND, rows_Q)
        before_QK = _best(scores_QN, nearest)
        after_QK = _best(_without_self(changed_ND, rows_Q), nearest)
        lines_Q = np.arange(len(rows_Q))
        loss_Q = scores_QN[lines_Q, before_QK[:, 0]] - scores_QN[lines_Q, after_QK[:, 0]]
        same += int((loss_Q <= TIE).sum())
        lost += float(np.maximum(loss_Q, 0).sum())
        # A neighbor counts as kept if it is at least as near as the K-th, by the original.
        limit_Q = scores_QN[lines_Q, before_QK[:, -1]]
        kept_QK = np.take_along_axis(scores_QN, after_QK, axis=1) >= limit_Q[:, None] - TIE
        overlap += int(kept_QK.sum())
    cosines_N = np.einsum("nd,nd->n", original_ND, changed_ND)
    order_N = np.argsort(cosines_N, kind="stable")[:10]
    return Ranking(
        names=count,
        top1_agreement=same / count,
        top10_overlap=overlap / (count * nearest),
        mean_cosine_loss=lost / count,
        mean_cosine=float(cosines_N.mean()),
        min_cosine=float(cosines_N.min()),
        most_changed=tuple((names[i][:SHOWN], float(cosines_N[i])) for i in order_N),
    )


def _without_self(vectors_ND: Float32, rows_Q: Int64) -> Float32:
    scores_QN: Float32 = vectors_ND[rows_Q] @ vectors_ND.T
    scores_QN[np.arange(len(rows_Q)), rows_Q] = -2  # a name is not its own neighbor
    return scores_QN


def _best(scores_QN: Float32, count: int) -> Int64:
    some_QK = np.argpartition(-scores_QN, count - 1, axis=1)[:, :count]
    order_QK = np.argsort(-np.take_along_axis(scores_QN, some_QK, axis=1), axis=1, kind="stable")
    best_QK: Int64 = np.take_along_axis(some_QK, order_QK, axis=1)
    return best_QK
