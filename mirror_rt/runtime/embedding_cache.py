"""Find strings in a finished folder of vectors of any size, with little memory."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import numpy as np
import pyarrow.parquet as pq

from mirror_rt.runtime.job import digests

if TYPE_CHECKING:
    from mirror_rt.types import Int64

__all__ = ["EmbeddingCache"]


class EmbeddingCache:
    """The strings of some shards, by hash, in a SQLite file.

    Args:
        path: The file.
        shards: The shards, by number.
    """

    def __init__(self, path: Path, shards: Sequence[Path]) -> None:
        self._path = path
        self.shards = shards

    @classmethod
    def build(cls, path: Path, shards: Sequence[Path]) -> EmbeddingCache:
        """Write the file ``path`` from the column ``text`` of Parquet shards.

        A repeated string has the place of its first row.
        """
        path.unlink(missing_ok=True)
        with closing(sqlite3.connect(path)) as base:
            base.execute("PRAGMA journal_mode = OFF")
            base.execute("PRAGMA synchronous = OFF")
            base.execute(
                "CREATE TABLE seen (hash BLOB PRIMARY KEY, shard INTEGER, row INTEGER)"
                " WITHOUT ROWID"
            )
            for number, shard in enumerate(shards):
                texts = pq.ParquetFile(shard).read(columns=["text"])["text"].to_pylist()
                base.executemany(
                    "INSERT OR IGNORE INTO seen VALUES (?, ?, ?)",
                    ((digests([text]), number, row) for row, text in enumerate(texts)),
                )
            base.commit()
        return cls(path, shards)

    def find(self, texts: Sequence[str]) -> tuple[Int64, Int64]:
        """Return the shard number and row of each of N texts, (N,) int64 each, -1 if not found."""
        places_N2 = np.full((len(texts), 2), -1, dtype=np.int64)
        # Immutable: no locks, since a disk shared by machines may not support them.
        name = f"file:{quote(str(self._path))}?mode=ro&immutable=1"
        with closing(sqlite3.connect(name, uri=True)) as base:
            for i, text in enumerate(texts):
                query = "SELECT shard, row FROM seen WHERE hash = ?"
                if found := base.execute(query, (digests([text]),)).fetchone():
                    places_N2[i] = found
        return places_N2[:, 0], places_N2[:, 1]
