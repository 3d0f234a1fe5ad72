"""Files of vectors: a shard (a Parquet file, written atomically), or all shards joined.

Axes: N rows, P stored numbers a row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mirror_rt.hashing import sha256_file
from mirror_rt.runtime.storage import Dtype, QuantizedVectors
from mirror_rt.staging import replacing

__all__ = [
    "Columns",
    "empty_stored",
    "read_stored",
    "write_npy",
    "write_parquet",
    "write_shard",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """The columns beside the vectors; None leaves a column out."""

    texts: Sequence[str] | None
    ids: Sequence[str] | None


def write_shard(
    path: Path, columns: Columns, stored: QuantizedVectors, *, about: Mapping[str, str]
) -> str:
    """Write a shard atomically, and return the sha256 of the file.

    Args:
        path: The file to write.
        columns: Columns ``id`` and ``text``.
        stored: Column ``vector``, a fixed-size list, and for int8 ``scale``.
        about: The metadata of the file.
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
    with replacing(path) as fresh:
        # Vectors do not compress, and dictionaries of them only cost time.
        pq.write_table(
            table,
            fresh,
            row_group_size=max(1, table.num_rows),
            compression={name: "zstd" for name in ("id", "text") if name in arrays} or "none",
            use_dictionary=False,
            write_statistics=False,
        )
        return sha256_file(fresh)


def read_stored(path: Path) -> QuantizedVectors:
    """Read the vectors of a shard."""
    file = pq.ParquetFile(path)
    names = [name for name in ("vector", "scale") if name in file.schema_arrow.names]
    table = file.read(columns=names)
    vectors = table["vector"].combine_chunks()
    width = table.schema.field("vector").type.list_size
    values_NP = vectors.flatten().to_numpy(zero_copy_only=False).reshape(-1, width)
    scale_N = table["scale"].to_numpy() if "scale" in names else np.empty(0, dtype=np.float32)
    return QuantizedVectors(values_NP=values_NP, scale_N=scale_N)


def write_npy(path: Path, shards: Sequence[Path]) -> None:
    """Join the vectors of shards in one (N, P) .npy file, with one shard in memory at a time."""
    first = read_stored(shards[0]).values_NP
    rows = sum(pq.ParquetFile(shard).metadata.num_rows for shard in shards)
    header = {"descr": first.dtype.str, "fortran_order": False, "shape": (rows, first.shape[1])}
    with open(path, "wb") as handle:
        np.lib.format.write_array_header_1_0(handle, header)
        for shard in shards:
            handle.write(read_stored(shard).values_NP.data)


def write_parquet(path: Path, shards: Sequence[Path]) -> None:
    """Join shards in one Parquet file, each a row group."""
    with pq.ParquetWriter(
        path,
        pq.read_schema(shards[0]),
        compression="none",
        use_dictionary=False,
        write_statistics=False,
    ) as writer:
        for shard in shards:
            table = pq.ParquetFile(shard).read()
            writer.write_table(table, row_group_size=max(1, table.num_rows))


def empty_stored(rows: int, dims: int, dtype: Dtype) -> QuantizedVectors:
    """Return empty arrays for ``rows`` stored vectors of ``dims`` numbers."""
    match dtype:
        case Dtype.FLOAT32 | Dtype.FLOAT16 | Dtype.INT8:
            values_NP = np.empty((rows, dims), dtype=dtype.value)
        case Dtype.BINARY:
            values_NP = np.empty((rows, -(-dims // 8)), dtype=np.uint8)
    scaled = rows if dtype is Dtype.INT8 else 0
    return QuantizedVectors(values_NP=values_NP, scale_N=np.empty(scaled, dtype=np.float32))
