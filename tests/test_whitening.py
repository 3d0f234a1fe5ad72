"""Whitening against what it promises and against an independent computation."""

from __future__ import annotations

import numpy as np
import pytest

from mirror_rt.errors import InputError
from mirror_rt.training.whitening import fit_whitening


def correlated(rows: int = 500, width: int = 6) -> np.ndarray:
    rng = np.random.default_rng(3)
    return (rng.normal(size=(rows, width)) @ rng.normal(size=(width, width)) + 4).astype(np.float32)


def test_the_mean_becomes_nothing_and_the_covariance_the_unit_matrix() -> None:
    vectors = correlated()
    found = fit_whitening(vectors)
    whitened = (vectors - found.mean_D) @ found.matrix_DK
    assert np.abs(whitened.mean(axis=0)).max() < 1e-4
    assert np.cov(whitened.T, bias=True) == pytest.approx(np.eye(6), abs=1e-3)


def test_applied_rows_have_the_cosines_of_mahalanobis() -> None:
    vectors = correlated()
    rows = fit_whitening(vectors).apply(vectors[:20])
    centred = vectors[:20] - vectors.mean(axis=0)
    products = centred @ np.linalg.inv(np.cov(vectors.T, bias=True)) @ centred.T
    lengths = np.sqrt(np.diag(products))
    assert rows @ rows.T == pytest.approx(products / np.outer(lengths, lengths), abs=1e-3)
    assert rows.dtype == np.float32


def test_a_width_keeps_the_directions_of_greatest_variance() -> None:
    vectors = correlated()
    whole, narrow = fit_whitening(vectors), fit_whitening(vectors, width=2)
    assert narrow.matrix_DK.tolist() == whole.matrix_DK[:, :2].tolist()
    _, _, principal = np.linalg.svd(vectors - vectors.mean(axis=0), full_matrices=False)
    for column, axis in zip(narrow.matrix_DK.T, principal, strict=False):
        assert abs(column @ axis) / np.linalg.norm(column) == pytest.approx(1, abs=1e-4)


def test_directions_without_variance_are_left_out() -> None:
    vectors = correlated(rows=4)
    assert fit_whitening(vectors).matrix_DK.shape == (6, 3)
    assert np.isfinite(fit_whitening(vectors).apply(vectors)).all()
    with pytest.raises(InputError, match="all vectors are the same"):
        fit_whitening(np.full((5, 3), 0.1, dtype=np.float32))
