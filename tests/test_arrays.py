"""Arrays of a knowledge base, against plain lists and numpy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror_rt.errors import KnowledgeBaseError
from mirror_rt.knowledge.arrays import (
    array_file,
    hash_text,
    offsets_of,
    open_arrays,
    ragged_indices,
    to_float32,
    write_arrays,
)

sizes = st.lists(st.integers(0, 6), max_size=12)


@given(sizes)
def test_offsets_are_the_places_where_rows_of_a_list_of_lists_start(lengths: list[int]) -> None:
    found = offsets_of(lengths)
    assert found.dtype == np.int64
    assert found.tolist() == [sum(lengths[:i]) for i in range(len(lengths) + 1)]
    # Of small dtypes too, whose sums do not fit them.
    many = np.full(300, 200, dtype=np.uint8)
    assert offsets_of(many)[-1] == 60_000


@given(sizes, st.data())
def test_ragged_indices_read_the_rows_of_a_list_of_lists(
    lengths: list[int], data: st.DataObject
) -> None:
    offsets = offsets_of(lengths)
    values = np.arange(offsets[-1]) * 7
    rows = [values[a:b].tolist() for a, b in zip(offsets[:-1], offsets[1:], strict=True)]
    wanted = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=9)) if rows else []
    wanted_R = np.array(wanted, dtype=np.int64)
    found = ragged_indices(offsets[wanted_R], offsets[wanted_R + 1] - offsets[wanted_R])
    assert values[found].tolist() == [value for row in wanted for value in rows[row]]


def test_every_finite_half_is_the_single_that_numpy_makes_of_it() -> None:
    every = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    finite = every[np.isfinite(every)]
    assert len(finite) == (1 << 16) - 2 * (1 << 10)
    found, expected = to_float32(finite), finite.astype(np.float32)
    assert found.dtype == np.float32
    # Bit for bit: the sign of zero too.
    np.testing.assert_array_equal(found.view(np.uint32), expected.view(np.uint32))


def test_halves_are_left_as_they_are_and_keep_their_shape() -> None:
    halves = np.array([[0.5, -2.0, 6e-8], [1.0, 65504.0, 0.0]], dtype=np.float16)
    halves.flags.writeable = False  # as an array that is mapped into memory
    kept = halves.copy()
    np.testing.assert_array_equal(to_float32(halves), kept.astype(np.float32))
    np.testing.assert_array_equal(to_float32(halves[:, ::2]), kept[:, ::2].astype(np.float32))
    np.testing.assert_array_equal(halves, kept)
    assert to_float32(halves[:0]).shape == (0, 3)


@given(st.text(), st.text())
def test_a_hash_tells_texts_apart_and_is_never_negative(one: str, other: str) -> None:
    assert (hash_text(one) == hash_text(other)) is (one == other)
    assert 0 <= hash_text(one) < 1 << 63


def test_a_hash_is_the_same_everywhere() -> None:
    assert hash_text("short stature") == 0x63fe9d112219fb8c


def test_arrays_come_back_as_they_went_in(tmp_path: Path) -> None:
    arrays = {"a": np.arange(5, dtype=np.int64), "b": np.zeros(0, dtype=np.uint8)}
    write_arrays(tmp_path, "group", arrays)
    assert {path.name for path in tmp_path.iterdir()} == {"group_a.npy", "group_b.npy"}
    found = open_arrays(tmp_path, "group", {"a": np.int64, "b": np.uint8})
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)
    assert not found["a"].flags.writeable


def _pickled(path: Path) -> None:
    np.save(path, np.array([{}], dtype=object), allow_pickle=True)


@pytest.mark.parametrize(
    "damage",
    [
        Path.unlink,
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"nonsense"),
        lambda path: path.write_bytes(path.read_bytes()[:-8]),
        lambda path: np.save(path, np.zeros(5, dtype=np.int32)),
        lambda path: np.save(path, np.zeros((5, 1), dtype=np.int64)),
        lambda path: np.save(path, np.zeros((), dtype=np.int64)),
        _pickled,
    ],
    ids=["missing", "empty", "nonsense", "cut", "dtype", "two axes", "no axis", "pickle"],
)
def test_what_is_no_such_array_is_refused_by_its_name(tmp_path: Path, damage: Any) -> None:  # noqa: ANN401
    write_arrays(tmp_path, "group", {"a": np.arange(5, dtype=np.int64)})
    path = tmp_path / array_file("group", "a")
    damage(path)
    with pytest.raises(KnowledgeBaseError, match="build the knowledge base again") as caught:
        open_arrays(tmp_path, "group", {"a": np.int64})
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
