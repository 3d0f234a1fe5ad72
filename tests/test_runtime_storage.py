"""Storing vectors with fewer bytes."""

from __future__ import annotations

import numpy as np
import pytest

from mirror_rt.runtime.storage import Dtype, quantize_embeddings, truncate_dim

VECTORS_ND = np.random.default_rng(5).normal(size=(200, 20)).astype(np.float32)


def test_int8_is_within_half_a_step_and_never_wraps() -> None:
    vectors_ND = np.concatenate([VECTORS_ND, np.eye(20, dtype=np.float32) * -1e3])
    stored = quantize_embeddings(vectors_ND, Dtype.INT8)
    assert stored.values_NP.dtype == np.int8
    back_ND = stored.values_NP * stored.scale_N[:, None]
    assert (np.abs(back_ND - vectors_ND) <= stored.scale_N[:, None] * 0.5001).all()


def test_a_row_of_zeros_stays_zero() -> None:
    stored = quantize_embeddings(np.zeros((1, 8), dtype=np.float32), Dtype.INT8)
    assert not stored.values_NP.any()
    assert np.isfinite(stored.scale_N).all()


def test_binary_keeps_the_signs() -> None:
    stored = quantize_embeddings(VECTORS_ND, Dtype.BINARY)
    assert stored.values_NP.shape == (200, 3)
    bits = np.unpackbits(stored.values_NP, axis=1, count=20)
    np.testing.assert_array_equal(bits == 1, VECTORS_ND > 0)


def test_float16_rounds() -> None:
    np.testing.assert_array_equal(
        quantize_embeddings(VECTORS_ND, Dtype.FLOAT16).values_NP, VECTORS_ND.astype(np.float16)
    )


@pytest.mark.parametrize("dtype", list(Dtype))
def test_rows_are_stored_each_for_itself(dtype: Dtype) -> None:
    rows = np.array([7, 3, 7])
    some, alone = (
        quantize_embeddings(VECTORS_ND, dtype).rows(rows),
        quantize_embeddings(VECTORS_ND[rows], dtype),
    )
    np.testing.assert_array_equal(some.values_NP, alone.values_NP)
    np.testing.assert_array_equal(some.scale_N, alone.scale_N)


def test_truncated_rows_are_unit_again() -> None:
    short_ND = truncate_dim(VECTORS_ND, 5)
    np.testing.assert_allclose(np.linalg.norm(short_ND, axis=1), 1, atol=1e-6)
    cosines = (short_ND * VECTORS_ND[:, :5]).sum(1) / np.linalg.norm(VECTORS_ND[:, :5], axis=1)
    np.testing.assert_allclose(cosines, 1, atol=1e-6)
