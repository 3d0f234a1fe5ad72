"""Arrays of a knowledge base, compared with loops and numpy's own conversions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror_rt.errors import KnowledgeBaseError
from mirror_rt.knowledge.arrays import (
    ScaledRows,
    array_file,
    hash_text,
    offsets_of,
    open_arrays,
    ragged_indices,
    to_float32,
    write_arrays,
)


def test_every_finite_float16_is_the_very_same_float32() -> None:
    every = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    finite = every[np.isfinite(every)]
    assert len(finite) == 63_488
    found = to_float32(finite)
    assert found.dtype == np.float32
    assert found.tobytes() == finite.astype(np.float32).tobytes(), "zeros keep their sign"


def test_products_with_scaled_rows_are_those_with_the_numbers_themselves() -> None:
    rng = np.random.default_rng(1)
    vectors_ND = (rng.standard_normal((40, 24)) * 10.0 ** -rng.integers(0, 8, (40, 1))).astype("f2")
    queries_QD = rng.standard_normal((3, 24)).astype(np.float32)
    scaled = ScaledRows(vectors_ND, most=8)
    for rows in ([5, 5, 39, 0], [7], []):
        found = np.einsum("rd,qd->qr", scaled.take(np.array(rows, dtype=np.int64)),
                          scaled.to_queries(queries_QD))  # fmt: skip
        wanted = np.einsum("rd,qd->qr", to_float32(vectors_ND[rows]), queries_QD)
        assert found.tobytes() == wanted.tobytes()


def test_rows_keep_their_shape_and_are_not_changed() -> None:
    rows = np.random.default_rng(0).standard_normal((7, 3)).astype(np.float16)
    before = rows.tobytes()
    np.testing.assert_array_equal(to_float32(rows), rows.astype(np.float32))
    np.testing.assert_array_equal(to_float32(rows[[4, 1, 1]]), rows[[4, 1, 1]].astype(np.float32))
    assert to_float32(rows[:0]).shape == (0, 3)
    assert rows.tobytes() == before


@given(st.lists(st.integers(0, 5), max_size=30))
def test_offsets_are_sums_from_zero(sizes: list[int]) -> None:
    offsets = offsets_of(sizes)
    assert offsets.dtype == np.int64
    assert offsets.tolist() == [sum(sizes[:i]) for i in range(len(sizes) + 1)]


@given(st.lists(st.tuples(st.integers(0, 1 << 40), st.integers(0, 4)), max_size=30))
def test_places_of_rows_are_those_of_loops(rows: list[tuple[int, int]]) -> None:
    starts = np.array([start for start, _ in rows], dtype=np.int64)
    sizes = np.array([size for _, size in rows], dtype=np.int64)
    expected = [start + i for start, size in rows for i in range(size)]
    found = ragged_indices(starts, sizes)
    assert found.dtype == np.int64
    assert found.tolist() == expected


@given(st.lists(st.text(), max_size=40, unique=True))
def test_hashes_of_texts_are_63_bits_and_differ(texts: list[str]) -> None:
    hashes = [hash_text(text) for text in texts]
    assert all(0 <= one < 1 << 63 for one in hashes)
    assert len(set(hashes)) == len(texts)


def test_a_hash_is_the_same_everywhere() -> None:
    assert (hash_text(""), hash_text("heart")) == (8238016292129134938, 7887922080778419697)
    assert hash_text("\ud800") != hash_text("\ud801")


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.uint8, np.float32])
@pytest.mark.parametrize("count", [0, 1, 1_000])
def test_arrays_come_back_mapped(tmp_path: Path, dtype: type, count: int) -> None:
    values = np.arange(count).astype(dtype)
    write_arrays(tmp_path, "group", {"one": values, "two": values[::-1]})
    found = open_arrays(tmp_path, "group", {"one": dtype, "two": dtype})
    assert found["one"].tobytes() == values.tobytes()
    assert found["two"].tobytes() == values[::-1].tobytes()
    assert not found["one"].flags.writeable
    assert type(found["one"]) is np.ndarray


@pytest.mark.parametrize(
    "content",
    [b"", b"nonsense", b"\x93NUMPY", "missing", np.zeros(3, np.float64), np.zeros((2, 2), np.int64),
     np.array(["a"], dtype=object), np.array([1, 2], dtype=">i8")],
)  # fmt: skip
def test_a_wrong_array_is_an_error_with_its_path(
    tmp_path: Path, content: bytes | str | np.ndarray
) -> None:
    path = tmp_path / array_file("group", "one")
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif isinstance(content, np.ndarray):
        np.save(path, content, allow_pickle=True)
    with pytest.raises(KnowledgeBaseError) as fault:
        open_arrays(tmp_path, "group", {"one": np.int64})
    assert str(path) in str(fault.value)
    assert "\n" not in str(fault.value)
