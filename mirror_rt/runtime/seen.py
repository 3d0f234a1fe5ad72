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

RANGE = 2_000_000
"""Strings merged at a time, 24 bytes each."""

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
    """The strings of some shards, by hash."""

    def __init__(self, path: Path, shards: Sequence[Path]) -> None:
        self._path = path
        self.shards = shards

    @classmethod
    def merge(cls, path: Path, shards: Sequence[tuple[Path, Path]]) -> Seen:
        """Merge the sidecars of ``shards``, each (shard, sidecar), into the file ``path``."""
        sidecars = [np.load(sidecar, mmap_mode="r", allow_pickle=False) for _, sidecar in shards]
        total = sum(len(entries) for entries in sidecars)
        parts = total // RANGE + 1
        edges = np.array([2**64 * part // parts for part in range(1, parts)], dtype=np.uint64)
        places = [
            np.concatenate([[0], np.searchsorted(e["high"], edges), [len(e)]]) for e in sidecars
        ]
        with open(path, "wb") as handle:
            for part in range(parts):
                pieces = []
                for number, (entries, cuts) in enumerate(zip(sidecars, places, strict=True)):
                    piece = np.array(entries[cuts[part] : cuts[part + 1]])
                    piece["shard"] = number
                    pieces.append(piece)
                merged = np.concatenate(pieces) if pieces else np.empty(0, dtype=_ENTRY)
                handle.write(merged[np.argsort(merged["high"], kind="stable")].tobytes())
        return cls(path, [shard for shard, _ in shards])

    def find(self, digests_of_rows: bytes) -> tuple[Int64, Int64]:
        """Return the shard number and row of each hash, (N,) int64 each, -1 where unseen."""
        wanted = _entries(digests_of_rows)
        shards_N = np.full(len(wanted), -1, dtype=np.int64)
        rows_N = np.full(len(wanted), -1, dtype=np.int64)
        if self._path.stat().st_size and len(wanted):
            known = np.memmap(self._path, dtype=_ENTRY, mode="r")
            places_N = np.searchsorted(known["high"], wanted["high"])
            places_N = np.minimum(places_N, len(known) - 1)
            found = known[places_N]
            # Two texts that share the first half of a hash are, for one of them, not found.
            same_N = (found["high"] == wanted["high"]) & (found["low"] == wanted["low"])
            shards_N[same_N] = found["shard"][same_N]
            rows_N[same_N] = found["row"][same_N]
        return shards_N, rows_N


def _entries(digests_of_rows: bytes) -> npt.NDArray[Any]:
    halves = np.frombuffer(digests_of_rows, dtype="<u8").reshape(-1, 2)
    entries = np.zeros(len(halves), dtype=_ENTRY)
    entries["high"], entries["low"] = halves[:, 0], halves[:, 1]
    entries["row"] = np.arange(len(halves))
    return entries
