"""One shard of embedded rows: a Parquet file that appears whole, and the record of it.

N rows, P stored numbers a row.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mirror_rt.bundle import sha256_file
from mirror_rt.runtime.storage import Dtype, Stored

__all__ = [
    "Columns",
    "Shard",
    "empty_stored",
    "read_stored",
    "write_npy",
    "write_parquet",
    "write_shard",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """The record of a finished shard.

    Attributes:
        name: Its file name.
        content: Hex hash of the settings of the job, and its texts and ids, in order.
        rows: How many there are.
        sha256: Of the file.
        truncated: Different texts of it that are over the longest length, and were cut off.
        sidecar: sha256 of the file of its texts' hashes; empty in folders of before it was kept.
    """

    name: str
    content: str
    rows: int
    sha256: str
    truncated: int
    sidecar: str = ""

    @property
    def number(self) -> int:
        """Which of the folder's shards, from 0."""
        return int(self.name.split("-")[1])

    def fault(self, folder: Path) -> str | None:
        """Tell what is wrong with the file, if anything."""
        path = folder / self.name
        if not path.is_file():
            return f"{path}: is missing"
        if sha256_file(path) != self.sha256:
            return f"{path}: changed since it was written (sha256 differs)"
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """What is written beside the vectors; None leaves a column out."""

    texts: Sequence[str] | None
    ids: Sequence[str] | None


def write_shard(path: Path, columns: Columns, stored: Stored, *, about: Mapping[str, str]) -> str:
    """Write a shard under its name at once, and return the sha256 of the file.

    Args:
        path: Where to.
        columns: Columns ``id`` and ``text``.
        stored: Column ``vector``, a fixed-size list, and for int8 ``scale``.
        about: Kept in the metadata of the file.
    """
    arrays: dict[str, Any] = {}
    if columns.ids is not None:
        arrays["id"] = pa.array(columns.ids, pa.string())
    if columns.texts is not None:
        arrays["text"] = pa.array(columns.texts, pa.string())
    flat = pa.array(np.ascontiguousarray(stored.values_NP).reshape(-1))
    arrays["vector"] = pa.FixedSizeListArray.from_arrays(flat, stored.values_NP.shape[1])
    if len(stored.scale_N):
        arrays["scale"] = pa.array(stored.scale_N)
    table = pa.table(arrays).replace_schema_metadata(dict(about))
    # Where a worker was given up for dead and is not, two may be writing the same shard.
    fresh = path.with_name(f".{path.name}.{token_hex(4)}.partial")
    try:
        # Numbers that look random do not compress, and dictionaries of them only cost time.
        pq.write_table(
            table,
            fresh,
            row_group_size=max(1, table.num_rows),
            compression={name: "zstd" for name in ("id", "text") if name in arrays} or "none",
            use_dictionary=False,
            write_statistics=False,
        )
        sha256 = sha256_file(fresh)
        os.replace(fresh, path)
    finally:
        fresh.unlink(missing_ok=True)
    return sha256


def read_stored(path: Path) -> Stored:
    """Read the vectors of a shard."""
    file = pq.ParquetFile(path)
    names = [name for name in ("vector", "scale") if name in file.schema_arrow.names]
    table = file.read(columns=names)
    vectors = table["vector"].combine_chunks()
    width = table.schema.field("vector").type.list_size
    values_NP = vectors.flatten().to_numpy(zero_copy_only=False).reshape(-1, width)
    scale_N = table["scale"].to_numpy() if "scale" in names else np.empty(0, dtype=np.float32)
    return Stored(values_NP=values_NP, scale_N=scale_N)


def write_npy(path: Path, folder: Path, shards: Sequence[Shard]) -> None:
    """Join the vectors of shards in one (N, P) .npy file, a shard in memory at a time."""
    first = read_stored(folder / shards[0].name).values_NP
    shape = (sum(shard.rows for shard in shards), first.shape[1])
    header = {"descr": first.dtype.str, "fortran_order": False, "shape": shape}
    with open(path, "wb") as handle:
        np.lib.format.write_array_header_1_0(handle, header)
        for shard in shards:
            handle.write(read_stored(folder / shard.name).values_NP.data)


def write_parquet(path: Path, folder: Path, shards: Sequence[Shard]) -> None:
    """Join shards in one Parquet file, each a row group."""
    schema = pq.read_schema(folder / shards[0].name)
    with pq.ParquetWriter(
        path, schema, compression="none", use_dictionary=False, write_statistics=False
    ) as writer:
        for shard in shards:
            table = pq.ParquetFile(folder / shard.name).read()
            writer.write_table(table, row_group_size=max(1, table.num_rows))


def empty_stored(rows: int, dims: int, dtype: Dtype) -> Stored:
    """Return room for ``rows`` stored vectors of ``dims`` numbers."""
    match dtype:
        case Dtype.FLOAT32 | Dtype.FLOAT16 | Dtype.INT8:
            values_NP = np.empty((rows, dims), dtype=dtype.value)
        case Dtype.BINARY:
            values_NP = np.empty((rows, -(-dims // 8)), dtype=np.uint8)
    scaled = rows if dtype is Dtype.INT8 else 0
    return Stored(values_NP=values_NP, scale_N=np.empty(scaled, dtype=np.float32))
