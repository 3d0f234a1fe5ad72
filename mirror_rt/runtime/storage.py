"""Store vectors as float32, float16, int8 with a scale per row, or one bit per dimension.

Axes: N rows, D width, P stored numbers a row.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from mirror_rt.types import Float32, Int64

__all__ = ["Dtype", "QuantizedVectors", "quantize_embeddings", "truncate_dim"]


class Dtype(Enum):
    """The number type of stored vectors."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    INT8 = "int8"
    BINARY = "binary"


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizedVectors:
    """Vectors as stored.

    Attributes:
        values_NP: (N, P): float32, float16 or int8 with P = D; for binary, uint8 with
            P = ceil(D / 8), the first dimension in the highest bit, 1 for a positive number.
        scale_N: (N,) float32 for int8: ``values * scale`` restores the vector. Otherwise
            empty.
    """

    values_NP: npt.NDArray[Any]
    scale_N: Float32

    def rows(self, rows_N: Int64) -> QuantizedVectors:
        """Return chosen rows."""
        scale_N = self.scale_N[rows_N] if len(self.scale_N) else self.scale_N
        return QuantizedVectors(values_NP=self.values_NP[rows_N], scale_N=scale_N)


def truncate_dim(vectors_ND: Float32, dims: int) -> Float32:
    """Keep the first ``dims`` numbers and normalize the rows again (matryoshka models)."""
    if dims == vectors_ND.shape[1]:
        return vectors_ND
    first_ND = vectors_ND[:, :dims]
    norms_N = np.linalg.norm(first_ND, axis=1, keepdims=True)
    short_ND: Float32 = first_ND / np.maximum(norms_N, np.float32(1e-12))
    return short_ND


def quantize_embeddings(vectors_ND: Float32, dtype: Dtype) -> QuantizedVectors:
    """Convert vectors to ``dtype``, each row by itself: stored rows can be reused.

    int8 is symmetric, rounded to nearest and scaled by the largest number of the row: nothing
    wraps or clips.
    """
    none = np.empty(0, dtype=np.float32)
    match dtype:
        case Dtype.FLOAT32:
            return QuantizedVectors(values_NP=vectors_ND, scale_N=none)
        case Dtype.FLOAT16:
            return QuantizedVectors(values_NP=vectors_ND.astype(np.float16), scale_N=none)
        case Dtype.INT8:
            scale_N = np.maximum(np.abs(vectors_ND).max(axis=1), 1e-12).astype(np.float32) / 127
            values_NP = np.rint(vectors_ND / scale_N[:, None]).astype(np.int8)
            return QuantizedVectors(values_NP=values_NP, scale_N=scale_N)
        case Dtype.BINARY:
            return QuantizedVectors(values_NP=np.packbits(vectors_ND > 0, axis=1), scale_N=none)
