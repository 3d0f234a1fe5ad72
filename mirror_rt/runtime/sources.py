"""Read strings to embed, a row at a time, from text, CSV, TSV, JSON lines or Parquet."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from mirror_rt.errors import ConfigError, InputError
from mirror_rt.textfiles import csv_rows, lone_surrogate, numbered_lines, open_binary

__all__ = ["Gaps", "Kind", "Row", "columns_of", "count_rows", "kind_of", "read_rows"]

Row = tuple[str, str]
"""A text and its id; the id is empty where none was asked for."""

USUAL_COLUMNS = ("text", "name", "mention", "query")


@dataclass(slots=True)
class Gaps:
    """What is missing from a file, for a reader who goes on: a null is read as an empty string.

    Attributes:
        blank_rows: Rows of a table, and lines of JSON, with nothing in them: they are no rows.
    """

    blank_rows: int = 0


class Kind(Enum):
    """The layout of an input file, told by its name."""

    TEXT = "text"
    CSV = "csv"
    TSV = "tsv"
    JSONL = "jsonl"
    PARQUET = "parquet"


def kind_of(source: str | Path) -> Kind:
    """Tell the layout by the last suffix, compression aside; what is unknown is plain text.

    >>> kind_of("names.tsv.gz")
    <Kind.TSV: 'tsv'>
    """
    suffixes = [suffix.lower() for suffix in Path(source).suffixes]
    if suffixes and suffixes[-1] in {".gz", ".zst"}:
        suffixes.pop()
    kinds = {".csv": Kind.CSV, ".tsv": Kind.TSV, ".jsonl": Kind.JSONL, ".ndjson": Kind.JSONL}
    kinds[".parquet"] = Kind.PARQUET
    return kinds.get(suffixes[-1], Kind.TEXT) if suffixes else Kind.TEXT


def read_rows(
    source: str | Path,
    *,
    column: str | None = None,
    id_column: str | None = None,
    gaps: Gaps | None = None,
) -> Iterator[Row]:
    """Yield (text, id) of every row, in order, reading as it goes.

    Args:
        source: A path, or ``-`` for plain text on standard input.
        column: The column or field that holds the text; by default ``text``, ``name``,
            ``mention`` or the only one there is. Plain text has none: a line is a row,
            blank lines too.
        id_column: The column or field that holds an id to keep beside the vector; of a list
            of ids, in JSON lines and Parquet, they are joined by ``|``.
        gaps: Counts what is passed over, and takes nulls; None to refuse a null.

    Raises:
        InputError: The file cannot be read, lacks the column, or a row is broken; the message
            names the row.
        ConfigError: Plain text was asked for a column.
    """
    match kind_of(source):
        case Kind.TEXT:
            if column or id_column:
                raise ConfigError(
                    f"{source}: plain text has no columns; name it .csv, .tsv, .jsonl or .parquet"
                )
            return ((text, "") for _, text in numbered_lines(source))
        case Kind.CSV:
            return _tables(source, column, id_column, gaps, _split_csv)
        case Kind.TSV:
            return _tables(source, column, id_column, gaps, _split_tsv)
        case Kind.JSONL:
            return _json_lines(source, column, id_column, gaps)
        case Kind.PARQUET:
            return _parquet(source, column, id_column, gaps)


def columns_of(source: str | Path) -> list[str]:
    """Return the columns of a table, or the fields of the first of its JSON lines.

    Raises:
        InputError: The file cannot be read, is empty, or does not begin as its name says.
        ConfigError: It is plain text.
    """
    match kind_of(source):
        case Kind.TEXT:
            raise ConfigError(f"{source}: plain text has no columns")
        case Kind.PARQUET:
            return list(_open_parquet(source).schema_arrow.names)
        case Kind.JSONL:
            found = next((list(record) for _, record in _records(source)), None)
        case kind:
            split = _split_csv if kind is Kind.CSV else _split_tsv
            try:
                found = next(split(text + "\n" for _, text in numbered_lines(source)), None)
            except csv.Error as error:
                raise InputError(f"{source}: row 1 is not CSV ({error})") from error
    if not found:
        raise InputError(f"{source}: is empty")
    return found


def count_rows(source: str | Path) -> int | None:
    """Return about how many rows there are, quickly, for showing the time left.

    None for what can be read but once: standard input, a pipe.
    """
    if not Path(source).is_file():
        return None
    if kind_of(source) is Kind.PARQUET:
        return int(_open_parquet(source).metadata.num_rows)
    with open_binary(source) as handle:
        try:
            return sum(block.count(b"\n") for block in iter(lambda: handle.read(1 << 20), b""))
        except (OSError, EOFError):
            return None  # a broken file is told of by the reader, which knows the line


def _pick(source: str | Path, column: str | None, available: Sequence[str]) -> str:
    if column is None:
        if len(available) == 1:
            return available[0]
        column = next((usual for usual in USUAL_COLUMNS if usual in available), None)
        if column is None:
            raise InputError(
                f"{source}: which column holds the text? choose with --column: "
                f"{', '.join(available)}"
            )
    if column not in available:
        raise InputError(f"{source}: no column {column!r}; there are: {', '.join(available)}")
    if available.count(column) > 1:
        raise InputError(f"{source}: more than one column {column!r}; rename the others")
    return column


def _tables(
    source: str | Path,
    column: str | None,
    id_column: str | None,
    gaps: Gaps | None,
    split: Callable[[Iterator[str]], Iterator[list[str]]],
) -> Iterator[Row]:
    # A quoted cell may go over several lines, so the line ends are put back.
    rows = split(text + "\n" for _, text in numbered_lines(source))
    header = next(rows, None)
    if header is None:
        return
    place = header.index(_pick(source, column, header))
    id_place = None if id_column is None else header.index(_pick(source, id_column, header))
    number = 1
    while True:
        number += 1
        try:
            row = next(rows, None)
        except csv.Error as error:
            raise InputError(f"{source}: row {number} is not CSV ({error})") from error
        if row is None:
            return
        if row in ([], [""]):
            if len(header) > 1:
                if gaps is not None:
                    gaps.blank_rows += 1
                continue
            row = [""]  # an empty line of a single column is an empty text
        if len(row) != len(header):
            raise InputError(
                f"{source}: row {number} has {len(row)} columns, the header has {len(header)}"
            )
        yield row[place], "" if id_place is None else row[id_place]


def _split_csv(lines: Iterator[str]) -> Iterator[list[str]]:
    for _, row in csv_rows(lines):
        if isinstance(row, csv.Error):
            raise row
        yield row


def _split_tsv(lines: Iterator[str]) -> Iterator[list[str]]:
    return (line[:-1].split("\t") for line in lines)


def _json_lines(
    source: str | Path, column: str | None, id_column: str | None, gaps: Gaps | None
) -> Iterator[Row]:
    field: str | None = None
    for number, record in _records(source, gaps):
        if field is None:
            field = _pick(source, column, list(record))
        if gaps is not None:
            record = {key: "" if value is None else value for key, value in record.items()}
        text, row_id = record.get(field), record.get(id_column) if id_column else ""
        if not isinstance(text, str):
            raise InputError(f"{source}: line {number}: field {field!r} is not a string")
        if row_id is None:
            raise InputError(f"{source}: line {number}: no field {id_column!r}")
        shown = _joined(row_id)
        if lone_surrogate(text + shown) is not None:
            raise InputError(f"{source}: line {number} holds a lone surrogate; remove it")
        yield text, shown


def _records(source: str | Path, gaps: Gaps | None = None) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in numbered_lines(source):
        if not line.strip():
            if gaps is not None:
                gaps.blank_rows += 1
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{source}: line {number} is not JSON ({error})") from error
        if not isinstance(record, dict):
            raise InputError(f"{source}: line {number} is not a JSON object")
        yield number, record


def _joined(row_id: object) -> str:
    return "|".join(map(str, row_id)) if isinstance(row_id, list) else str(row_id)


def _parquet(
    source: str | Path, column: str | None, id_column: str | None, gaps: Gaps | None
) -> Iterator[Row]:
    import pyarrow as pa

    file = _open_parquet(source)
    column = _pick(source, column, file.schema_arrow.names)
    columns = (
        [column]
        if id_column is None
        else [column, _pick(source, id_column, file.schema_arrow.names)]
    )
    number = 0
    try:
        for batch in file.iter_batches(batch_size=1024, columns=columns):
            texts = batch.column(column).to_pylist()
            ids = [""] * len(texts) if id_column is None else batch.column(id_column).to_pylist()
            for text, row_id in zip(texts, ids, strict=True):
                number += 1
                if gaps is not None:
                    text, row_id = ("" if value is None else value for value in (text, row_id))
                if not isinstance(text, str):
                    raise InputError(f"{source}: row {number}: {column!r} is not a string")
                if row_id is None:
                    raise InputError(f"{source}: row {number}: {id_column!r} is missing")
                yield text, _joined(row_id)
    except (pa.ArrowException, UnicodeDecodeError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{source}: broken Parquet after row {number} ({reason})") from error


def _open_parquet(source: str | Path) -> Any:  # noqa: ANN401 - pyarrow has no types
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        # Otherwise the columns of a whole row group are read at once.
        return pq.ParquetFile(source, pre_buffer=False, buffer_size=1 << 20)
    except FileNotFoundError as error:
        raise InputError(f"{source}: no such file") from error
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{source}: not a Parquet file ({reason})") from error
