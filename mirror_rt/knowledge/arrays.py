"""The arrays of a knowledge base: written once, memory-mapped when opened.

A ragged array consists of two arrays: the values of all rows in sequence, and the offsets. Row
``i`` has the values from ``offsets[i]`` to ``offsets[i + 1]``.

Axes: R requested rows, V values, N rows.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mirror_rt.errors import KnowledgeBaseError

if TYPE_CHECKING:
    import numpy.typing as npt

    from mirror_rt.types import Float16, Float32, Int64

    Array = npt.NDArray[Any]

__all__ = [
    "ScaledRows",
    "Scratch",
    "array_file",
    "hash_text",
    "offsets_of",
    "open_arrays",
    "ragged_indices",
    "to_float32",
    "write_arrays",
]

_MANTISSA_SHIFT = 13
_SIGN_AND_BITS = np.int32(np.uint32(0x8FFFE000).astype(np.int32))
_REBIAS = np.float32(2.0**112)


class Scratch(threading.local):
    """Arrays of zeros that each thread reuses: new large arrays cost page faults.

    A caller that writes into one must set it back to zeros.
    """

    def __init__(self) -> None:
        self._arrays: dict[str, Array] = {}

    def zeros(self, name: str, size: int, dtype: type) -> Array:
        """Return the array with a name, of at least ``size`` numbers."""
        found = self._arrays.get(name)
        if found is None or len(found) < size:
            found = self._arrays[name] = np.zeros(size, dtype=dtype)
        return found


def array_file(group: str, name: str) -> str:
    """Return the name of an array's file."""
    return f"{group}_{name}.npy"


def write_arrays(folder: Path, group: str, arrays: Mapping[str, Array]) -> None:
    """Write the arrays of a group, one file for each."""
    for name, array in arrays.items():
        np.save(folder / array_file(group, name), np.asarray(array), allow_pickle=False)


def open_arrays(folder: Path, group: str, names: Mapping[str, type]) -> dict[str, Array]:
    """Memory-map the arrays of a group.

    Args:
        folder: The knowledge base.
        group: The group.
        names: The arrays and the dtype of each.

    Raises:
        KnowledgeBaseError: An array is missing, cannot be read, or has another dtype or shape.
    """
    found: dict[str, Array] = {}
    for name, dtype in names.items():
        path = folder / array_file(group, name)
        try:
            array = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:  # numpy raises EOFError for an empty file
            raise KnowledgeBaseError(
                f"{path}: cannot be read ({error}); build the knowledge base again"
            ) from error
        if array.ndim != 1 or array.dtype != dtype:
            raise KnowledgeBaseError(
                f"{path}: shape {array.shape} of {array.dtype}, not one axis of {np.dtype(dtype)}; "
                "build the knowledge base again"
            )
        # A plain view of the map: the class np.memmap adds microseconds to every slice.
        found[name] = np.asarray(array)
    return found


def offsets_of(sizes_N: Array | Sequence[int]) -> Int64:
    """Return the (N + 1,) int64 offsets of rows with these sizes.

    >>> offsets_of([2, 0, 1]).tolist()
    [0, 2, 2, 3]
    """
    offsets = np.zeros(len(sizes_N) + 1, dtype=np.int64)
    np.asarray(sizes_N).cumsum(out=offsets[1:])
    return offsets


def ragged_indices(starts_R: Int64, sizes_R: Int64) -> Int64:
    """Return the (V,) int64 indices of the values of some rows, row after row.

    >>> ragged_indices(np.array([5, 0]), np.array([2, 3])).tolist()
    [5, 6, 0, 1, 2]
    """
    ends_R = sizes_R.cumsum()
    places: Int64 = (starts_R - ends_R + sizes_R).repeat(sizes_R)
    places += np.arange(len(places))
    return places


@lru_cache(maxsize=1 << 16)
def hash_text(text: str) -> int:
    """Return a hash of a text, equal on every machine: 63 bits, never negative."""
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def to_float32(rows_ND: Float16) -> Float32:
    """Return finite (N, D) float16 numbers as (N, D) float32, exactly.

    numpy converts float16 number by number. Here, exponent and mantissa are shifted to their
    positions, and the result is multiplied by 2^112, the difference of the exponent biases. That
    is six times faster.
    """
    found = _scaled(rows_ND.view(np.int16).astype(np.int32))
    found *= _REBIAS
    return found


class ScaledRows:
    """Rows of a float16 array as float32, scaled by 2^-112; ``to_queries`` corrects the scale.

    That saves one multiplication per number. The memory is reused for the next rows.
    """

    def __init__(self, vectors_ND: Float16, *, most: int) -> None:
        """Make room.

        Args:
            vectors_ND: (N, D) float16.
            most: The maximum number of rows for one call of ``take``.
        """
        self._halves_ND = vectors_ND.view(np.int16)
        self._halves_RD = np.empty((most, vectors_ND.shape[1]), dtype=np.int16)
        self._bits_RD = np.empty_like(self._halves_RD, dtype=np.int32)

    def take(self, rows_R: Int64) -> Float32:
        """Return (R, D) float32, valid until the next call; a row of -1 returns row 0."""
        halves_RD, bits_RD = self._halves_RD[: len(rows_R)], self._bits_RD[: len(rows_R)]
        np.take(self._halves_ND, rows_R, axis=0, out=halves_RD, mode="clip")
        np.copyto(bits_RD, halves_RD)
        return _scaled(bits_RD)

    @staticmethod
    def to_queries(queries_QD: Float32) -> Float32:
        """Return scaled queries: their products with these rows equal those with the vectors."""
        scaled_QD: Float32 = queries_QD * _REBIAS
        return scaled_QD


def _scaled(bits_RD: npt.NDArray[np.int32]) -> Float32:
    bits_RD <<= _MANTISSA_SHIFT
    bits_RD &= _SIGN_AND_BITS
    return bits_RD.view(np.float32)
