"""Find strings among those embedded before, with little memory however many they are.

Each shard has a sidecar file: the hashes of its texts, sorted. They are merged, a range of
hashes at a time, into one sorted file that is searched where it lies on disk.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Sequence
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mirror_rt.bundle import sha256_file

if TYPE_CHECKING:
    from mirror_rt.types import Int64

__all__ = ["Seen", "digests", "write_sidecar"]

RANGE = 500_000
"""About so many strings are merged, or mapped into memory, at a time, 24 bytes each."""

_ENTRY = np.dtype([("high", "<u8"), ("low", "<u8"), ("shard", "<u4"), ("row", "<u4")])


def digests(texts: Sequence[str]) -> bytes:
    """Return the 16-byte hashes of texts, end to end."""
    return b"".join(hashlib.blake2b(text.encode(), digest_size=16).digest() for text in texts)


def write_sidecar(path: Path, digests_of_rows: bytes) -> str:
    """Write the sorted hashes of a shard's texts, and return the sha256 of the file.

    A text that comes again keeps its first row.
    """
    entries = _entries(digests_of_rows)
    order = np.lexsort((entries["row"], entries["low"], entries["high"]))
    fresh = path.with_name(f".{path.name}.{token_hex(4)}.partial")
    content = io.BytesIO()  # NumPy itself would not tell why a disk refuses
    np.save(content, entries[order], allow_pickle=False)
    fresh.write_bytes(content.getbuffer())
    sha256 = sha256_file(fresh)
    os.replace(fresh, path)
    return sha256


class Seen:
    """The strings of some shards, by hash.

    Args:
        path: The merged file.
        shards: The shards, by number.
        edges: The first hash (its first half) of each range but the first.
        places: The first row in the file of each range, and the end of the last.
    """

    def __init__(
        self, path: Path, shards: Sequence[Path], *, edges: Sequence[int], places: Sequence[int]
    ) -> None:
        self._path = path
        self.shards = shards
        self._edges = np.array(edges, dtype=np.uint64)
        self._places = places

    @classmethod
    def merge(cls, path: Path, shards: Sequence[tuple[Path, Path]]) -> Seen:
        """Merge the sidecars of ``shards``, each (shard, sidecar), into the file ``path``.

        They are opened one at a time, for every range anew: there may be more of them than
        files that a process may hold.
        """
        sidecars = [sidecar for _, sidecar in shards]
        ranges = sum(len(_mapped(sidecar)) for sidecar in sidecars) // RANGE + 1
        edges = [2**64 * number // ranges for number in range(1, ranges)]
        cuts = [_cuts(_mapped(sidecar), edges) for sidecar in sidecars]
        places = [0]
        with open(path, "wb") as handle:
            for number in range(ranges):
                pieces = [np.empty(0, dtype=_ENTRY)]
                for shard, sidecar in enumerate(sidecars):
                    begin, end = cuts[shard][number : number + 2]
                    piece = np.array(_mapped(sidecar)[begin:end])
                    piece["shard"] = shard
                    pieces.append(piece)
                merged = np.concatenate(pieces)
                handle.write(merged[np.argsort(merged["high"], kind="stable")].data)
                places.append(places[-1] + len(merged))
        return cls(path, [shard for shard, _ in shards], edges=edges, places=places)

    def find(self, digests_of_rows: bytes) -> tuple[Int64, Int64]:
        """Return the shard number and row of each hash, (N,) int64 each, -1 where unseen."""
        wanted = _entries(digests_of_rows)
        shards_N = np.full(len(wanted), -1, dtype=np.int64)
        rows_N = np.full(len(wanted), -1, dtype=np.int64)
        ranges_N = np.searchsorted(self._edges, wanted["high"], side="right")
        for number in np.unique(ranges_N):
            begin, end = self._places[number : number + 2]
            if begin == end:
                continue
            # Of a file mapped as a whole, all that was ever looked at would count as memory.
            known = np.memmap(
                self._path, _ENTRY, mode="r", offset=begin * _ENTRY.itemsize, shape=end - begin
            )
            here_N = np.flatnonzero(ranges_N == number)
            asked = wanted[here_N]
            places = np.searchsorted(known["high"], asked["high"])
            found = known[np.minimum(places, len(known) - 1)]
            # Two texts that share the first half of a hash are, for one of them, not found.
            same = (found["high"] == asked["high"]) & (found["low"] == asked["low"])
            shards_N[here_N[same]] = found["shard"][same]
            rows_N[here_N[same]] = found["row"][same]
        return shards_N, rows_N


def _mapped(sidecar: Path) -> npt.NDArray[Any]:
    """Return the entries of a sidecar, as they lie on disk."""
    entries: npt.NDArray[Any] = np.load(sidecar, mmap_mode="r", allow_pickle=False)
    return entries


def _cuts(entries: npt.NDArray[Any], edges: Sequence[int]) -> list[int]:
    """Return the first row of each range, and the end of the last."""
    inner = np.searchsorted(entries["high"], np.array(edges, dtype=np.uint64))
    return [0, *inner.tolist(), len(entries)]


def _entries(digests_of_rows: bytes) -> npt.NDArray[Any]:
    halves = np.frombuffer(digests_of_rows, dtype="<u8").reshape(-1, 2)
    entries = np.zeros(len(halves), dtype=_ENTRY)
    entries["high"], entries["low"] = halves[:, 0], halves[:, 1]
    entries["row"] = np.arange(len(halves))
    return entries
