"""Fit and apply whitening: a linear map after which vectors have no favoured direction.

It is no part of a checkpoint or bundle. Axes: N strings, D width, K width kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mirror_rt.errors import InputError

if TYPE_CHECKING:
    from mirror_rt.types import Float32

__all__ = ["Whitening", "fit_whitening"]

_NOTHING = 1e-10
"""The variance below which a direction is rounding error, as a share of the mean squared length."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Whitening:
    """A fitted map.

    Attributes:
        mean_D: (D,) float32.
        matrix_DK: (D, K) float32.
    """

    mean_D: Float32
    matrix_DK: Float32

    def apply(self, vectors_ND: Float32) -> Float32:
        """Return (N, K) float32 unit rows."""
        whitened_NK = (vectors_ND - self.mean_D) @ self.matrix_DK
        lengths_N1 = np.linalg.norm(whitened_NK, axis=1, keepdims=True)
        unit_NK: Float32 = whitened_NK / np.maximum(lengths_N1, np.finfo(np.float32).tiny)
        return unit_NK


def fit_whitening(vectors_ND: Float32, *, width: int | None = None) -> Whitening:
    """Fit the map that takes vectors to mean 0 and the unit matrix as covariance.

    Directions in which the vectors do not vary are left out.
    Source: Su et al. 2021, *Whitening Sentence Representations*, section 3.

    Args:
        vectors_ND: (N, D) float32.
        width: K, the directions of greatest variance to keep; None for all.

    Raises:
        InputError: All vectors are one and the same.
    """
    wide_ND = np.asarray(vectors_ND, dtype=np.float64)
    mean_D = wide_ND.mean(axis=0)
    centred_ND = wide_ND - mean_D
    variances_D, directions_DD = np.linalg.eigh(centred_ND.T @ centred_ND / len(wide_ND))
    variances_D, directions_DD = variances_D[::-1], directions_DD[:, ::-1]  # the greatest first
    kept = int((variances_D > _NOTHING * np.square(wide_ND).sum(axis=1).mean()).sum())
    if kept == 0:
        raise InputError("whitening: all vectors are the same; give different strings")
    kept = kept if width is None else min(kept, width)
    matrix_DK = directions_DD[:, :kept] / np.sqrt(variances_D[:kept])
    return Whitening(mean_D=mean_D.astype(np.float32), matrix_DK=matrix_DK.astype(np.float32))
