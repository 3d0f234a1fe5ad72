"""Ridge regression with many unknowns: conjugate gradients on the normal equations.

Axes: N samples, F unknowns, D targets.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import csr_array

from mirror_rt.errors import TrainingError

if TYPE_CHECKING:
    from mirror_rt.types import Float32

__all__ = ["solve_ridge"]


def solve_ridge(
    design_NF: csr_array,
    targets_ND: Float32,
    *,
    penalty: float,
    prior_FD: Float32 | None = None,
    iterations: int,
    tolerance: float = 1e-4,
    progress: Callable[[int, int], None] | None = None,
) -> Float32:
    """Return W, (F, D) float32, that makes |X W - Y|² + penalty |W - W0|² least.

    Each target has a direction and step of its own, all share the multiplications; the diagonal
    of the matrix preconditions (Hestenes and Stiefel 1952; Saad, Iterative Methods for Sparse
    Linear Systems, 2003, algorithm 9.1).

    Args:
        design_NF: X, (N, F) float32.
        targets_ND: Y, (N, D) float32.
        penalty: Above 0.
        prior_FD: W0, (F, D) float32; by default 0.
        iterations: The most iterations.
        tolerance: Stop where the residual of the normal equations has fallen to this part.
        progress: Called with (iterations done, iterations at most).

    Raises:
        TrainingError: The numbers overflow, as the targets are not finite.
    """
    transposed_FN = csr_array(design_NF.T)
    if prior_FD is not None:
        targets_ND = targets_ND - design_NF @ prior_FD
    squares_F = np.asarray(transposed_FN.multiply(transposed_FN).sum(axis=1)).ravel()
    inverse_F = (1 / (squares_F + penalty)).astype(np.float32)[:, None]
    residual_FD = transposed_FN @ targets_ND
    found_FD: Float32 = np.zeros_like(residual_FD)
    first = float(np.linalg.norm(residual_FD))
    direction_FD = inverse_F * residual_FD
    inner_D = np.einsum("fd,fd->d", residual_FD, direction_FD)
    for done in range(iterations):
        if not np.isfinite(inner_D).all():
            raise TrainingError("the teacher's vectors are not finite; export the teacher again")
        if np.linalg.norm(residual_FD) <= tolerance * first:
            break
        product_FD = transposed_FN @ (design_NF @ direction_FD)
        product_FD += penalty * direction_FD
        step_D = inner_D / _positive(np.einsum("fd,fd->d", direction_FD, product_FD))
        found_FD += step_D * direction_FD
        residual_FD -= step_D * product_FD
        scaled_FD = inverse_F * residual_FD
        before_D, inner_D = inner_D, np.einsum("fd,fd->d", residual_FD, scaled_FD)
        direction_FD = scaled_FD + inner_D / _positive(before_D) * direction_FD
        if progress is not None:
            progress(done + 1, iterations)
    if prior_FD is not None:
        found_FD += prior_FD
    return found_FD


def _positive(values_D: Float32) -> Float32:
    """Keep a target that is solved from a division by 0."""
    result: Float32 = np.maximum(values_D, np.finfo(np.float32).tiny)
    return result
