"""Read Parquet tables with named columns: a string ``id`` and ``name``, lists for the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow
import pyarrow.parquet as pq

from mirror_rt.errors import InputError
from mirror_rt.knowledge.formats._rows import RowError, SkippedRows, each
from mirror_rt.knowledge.formats.jsonl import entity_from_json
from mirror_rt.knowledge.formats.tables import Column, header_columns
from mirror_rt.types import Entity

__all__ = ["decoded", "read_parquet"]

_ROWS_AT_ONCE = 8192


def read_parquet(path: str | Path, skipped: SkippedRows) -> Iterator[Entity]:
    """Read a table whose columns are headed as in a TSV, a batch of rows at a time.

    Cells of list columns (aliases, types, …) are lists, or strings for one.

    Raises:
        InputError: It is not Parquet, has no id or no name column, or a row is bad (by number).
    """
    if str(path) == "-":
        raise InputError("standard input: Parquet cannot be streamed; name a file")
    try:
        with pq.ParquetFile(path) as table:
            columns = header_columns(table.schema_arrow.names)
            if columns is None:
                found = ", ".join(table.schema_arrow.names)
                raise InputError(f"{path}: no columns for id and name; it has {found}")
            headings = {table.schema_arrow.names[i]: column for i, column in columns.items()}
            yield from each(path, _rows(table, headings), _parser(headings), skipped, unit="row")
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except (pyarrow.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: cannot be read as Parquet ({reason})") from error


def _rows(
    table: pq.ParquetFile, headings: dict[str, Column]
) -> Iterator[tuple[int, dict[str, object] | None]]:
    number = 0
    for batch in table.iter_batches(batch_size=_ROWS_AT_ONCE, columns=list(headings)):
        for row in decoded(batch):
            number += 1
            yield number, row


def decoded(batch: pyarrow.RecordBatch) -> list[dict[str, object] | None]:
    """Return the rows of a batch, None for one that is not UTF-8."""
    try:
        return [*batch.to_pylist()]
    except UnicodeDecodeError:
        if batch.num_rows == 1:
            return [None]
        return [row for i in range(batch.num_rows) for row in decoded(batch.slice(i, 1))]


def _parser(headings: dict[str, Column]) -> Callable[[dict[str, object] | None], Entity]:
    has_aliases = Column.ALIASES in headings.values()

    def parse(row: dict[str, object] | None) -> Entity:
        if row is None:
            raise RowError("not UTF-8")
        aliases: list[object] = []
        values: dict[str, object] = {} if has_aliases else {"kind": "exact"}
        for heading, column in headings.items():
            value = row.get(heading)
            if column is Column.ALIASES:
                aliases += value if isinstance(value, list) else [value] if value else []
            elif value is not None:
                values[column.name.lower()] = value
        return entity_from_json(values | {"aliases": aliases})

    return parse
