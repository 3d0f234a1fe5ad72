"""Project a teacher's vectors into the space of its static student, to search either's vectors.

Axes: N texts, T width of the teacher, D width of the student.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from mirror_rt.bundle import PROJECTION, Bundle
from mirror_rt.errors import BundleError, ConfigError
from mirror_rt.runtime.static import load_array
from mirror_rt.types import BundleKind, Embedder

if TYPE_CHECKING:
    from mirror_rt.types import Float32

__all__ = ["ProjectedTeacher", "check_student"]


class ProjectedTeacher:
    """A teacher whose vectors are projected into its student's space."""

    def __init__(self, teacher: Embedder, student: Bundle) -> None:
        """Read the projection.

        Raises:
            BundleError: It is not an array, has another shape or type, or is not all finite.
        """
        self.dim = student.manifest.dim
        self._teacher = teacher
        self._projection_TD = _read(student, teacher.dim)

    def encode(self, texts: Sequence[str]) -> Float32:
        """Return (N, D) float32 unit rows, row i for texts[i]."""
        vectors_ND: Float32 = self._teacher.encode(texts) @ self._projection_TD
        norms_N = np.linalg.norm(vectors_ND, axis=1, keepdims=True)
        vectors_ND /= np.maximum(norms_N, np.finfo(np.float32).tiny)
        return vectors_ND


def check_student(student: Bundle, teacher: Bundle) -> None:
    """Check that a bundle is a static student of another one.

    Raises:
        ConfigError: It is not a static student, has another teacher, or has no projection of its
            teacher's vectors (as bundles of older versions).
    """
    manifest = student.manifest
    if manifest.kind is not BundleKind.STATIC:
        raise ConfigError(
            f"{student.path}: is not a static student; make one with: mirror-rt distil "
            f"{teacher.path}"
        )
    if manifest.source.get("fingerprint") != teacher.fingerprint:
        raise ConfigError(
            f"{student.path}: was not distilled from the bundle {teacher.path}; make a student "
            f"with: mirror-rt distil {teacher.path}"
        )
    if PROJECTION not in manifest.files:
        raise ConfigError(
            f"{student.path}: has no {PROJECTION}; distil it again from {teacher.path}"
        )


def _read(student: Bundle, width: int) -> Float32:
    """Return the projection, (T, D) float32."""
    path = student.path / PROJECTION
    projection_TD = load_array(path, np.float32, 2)
    if projection_TD.shape != (width, student.manifest.dim):
        raise BundleError(
            f"{path}: of shape {projection_TD.shape}, not ({width}, {student.manifest.dim}) as "
            "its teacher and its manifest say; distil again"
        )
    if not np.isfinite(projection_TD).all():
        raise BundleError(f"{path}: not all finite; distil again")
    return np.array(projection_TD)
