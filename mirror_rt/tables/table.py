"""Read a table row by row, in any format: CSV, TSV, JSON lines, Parquet, Excel.

Every row is a list of cells in the order of the headings. A missing cell (a missing JSON key, the
end of a short row) is None, like a null. Rows in = rows out + rows counted in ``Notes``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from mirror_rt._count import counted
from mirror_rt.encodings import encoding_hint, lone_surrogate
from mirror_rt.errors import ConfigError, InputError, one_line
from mirror_rt.tables.delimited import RowError, detect_delimiter, separator_line, split_rows
from mirror_rt.tables.file_formats import FileFormat, TableOptions, detect_format, parquet_parts
from mirror_rt.tables.json_rows import array_rows, is_sparql, line_rows, sparql_rows
from mirror_rt.tables.kept import Kept
from mirror_rt.tables.parquet import open_parquet, pyarrow_errors, records, seekable
from mirror_rt.tables.vocabulary import Column, heading_key, known, sound_like_headings
from mirror_rt.textfiles import Source, StrPath, numbered_lines, shown

if TYPE_CHECKING:
    from typing_extensions import TypeIs

__all__ = ["ArrowTable", "Cells", "Notes", "Table", "is_arrow"]

Cells: TypeAlias = "list[Any]"
Row: TypeAlias = "tuple[int, Cells | RowError]"

_LITERAL = re.compile(r'"((?:[^"\\]|\\.)*)"(?:@[\w-]+|\^\^\S+)?')
_ESCAPED = re.compile(r"\\(.)")

_NO_ARROW = "cannot be read as Arrow, where columns have different names and one type each"
_LOOKED_AT = 1_000
_LOOKED_AT_CHARACTERS = 1 << 22
_ROWS_AT_ONCE = 1_024


class ArrowTable(Protocol):
    """A table in memory (pandas, Polars, Arrow …) with the Arrow PyCapsule interface."""

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """Return a stream of record batches in a capsule."""
        ...


def is_arrow(source: object) -> TypeIs[ArrowTable]:
    """Return whether the source is a table in memory."""
    return hasattr(source, "__arrow_c_stream__")


@dataclass(slots=True, kw_only=True)
class Notes:
    """Counts of what was skipped, to report once.

    Attributes:
        blank_rows: Empty rows, and empty lines of JSON; they do not count as rows.
        missing: Rows without the requested text, which is read as an empty string.
        repeated_headings: Rows equal to the headings, as in concatenated files.
        lone_headings: Rows equal to the heading of the only column. They are kept, as the word
            may be a text.
        comments: Lines before the headings that start with ``#``.
        remarks: Sentences about how the file was read.
    """

    blank_rows: int = 0
    missing: int = 0
    repeated_headings: int = 0
    lone_headings: int = 0
    comments: int = 0
    remarks: list[str] = field(default_factory=list)

    def sentences(self) -> list[str]:
        """Return the sentences to report."""
        counts = [
            (self.blank_rows, "blank row", "passed over"),
            (self.missing, "row", "without text"),
            (self.repeated_headings, "row", "with the headings again passed over"),
            (self.lone_headings, "row", "with the word of the heading kept"),
            (self.comments, "line", "with # at the beginning passed over"),
        ]
        remarks = [one_line(remark) for remark in self.remarks]
        return remarks + [f"{counted(count, noun)} {fate}" for count, noun, fate in counts if count]


class Table:
    """A table that is being read.

    Attributes:
        shown: The name of the table in messages.
        kind: The format.
        unit: The unit of row numbers: "line" or "row".
        headings: The headings; empty if the first row is data. For JSON lines the list grows
            while rows are read.
        first: The first row, if it may be headings or data; otherwise None.
        head: The first rows (at most 1,000) without the headings.
        only: The columns of Parquet to read; None for all.
        kept: Stores all columns of Parquet, or of a table in memory, while they are read.
        notes: Counts of what was skipped so far.

    Args:
        source: A path, a ``Source`` or ``-``; or a table in memory.
        options: Options for reading it.
        default: The format if the name does not tell it.
        notes: Counts what is skipped.

    Raises:
        InputError: It cannot be opened, or is not what its name says.
        ConfigError: It is plain text.
    """

    def __init__(
        self,
        source: StrPath | ArrowTable,
        *,
        options: TableOptions | None = None,
        default: FileFormat = FileFormat.TEXT,
        notes: Notes | None = None,
    ) -> None:
        self._options = options = options or TableOptions()
        self.notes = notes if notes is not None else Notes()
        self.kept: Kept | None = None
        if is_arrow(source):
            self.shown, self.kind = "the table", FileFormat.PARQUET
        else:
            self._source = Source.of(source, encoding=options.encoding)
            if options.encoding is not None:
                self._source.encoding = options.encoding
            self.shown = shown(source)
            self.kind = detect_format(self._source, options, default)
        self.unit = (
            "line" if self.kind in (FileFormat.CSV, FileFormat.TSV, FileFormat.JSONL) else "row"
        )
        self.headings: list[str] = []
        self._places: dict[str, int] = {}
        self._blank_is_row = False
        self.only: list[int] | None = None
        match self.kind:
            case FileFormat.TEXT:
                raise ConfigError(
                    f"{self.shown}: plain text has no columns; name it .csv, .tsv, .jsonl, .xlsx "
                    "or .parquet, or say what it is with --input-format"
                )
            case FileFormat.JSONL:
                rows = self._json()
            case FileFormat.PARQUET:
                rows = self._arrow(source) if is_arrow(source) else self._parquet()
                next(rows, None)  # now its headings are known; it waits for ``only``
            case FileFormat.XLSX:
                rows = self._sheet()
            case FileFormat.CSV | FileFormat.TSV:
                rows = self._delimited()
        self._rows = rows
        self.head: list[Row] = []
        size = 0
        for number, row in islice(rows, 0 if self.kind is FileFormat.PARQUET else _LOOKED_AT):
            self.head.append((number, row))
            size += 0 if isinstance(row, RowError) else sum(map(len, map(str, row)))
            if size > _LOOKED_AT_CHARACTERS:
                break
        self.first: list[str] | None = None
        if self.kind in (FileFormat.CSV, FileFormat.TSV, FileFormat.XLSX) and self.head:
            first = self.head[0][1]
            if isinstance(first, RowError):
                raise InputError(f"{self.shown}: {self.unit} {self.head[0][0]}: {first}")
            self.first = [str(cell) for cell in first]

    @property
    def by_name(self) -> bool:
        """Whether its format always has column names."""
        return self.kind in (FileFormat.JSONL, FileFormat.PARQUET)

    def take_headings(self) -> None:
        """Use the first row as headings."""
        if self.first is None:
            return
        for heading in self.first:
            if lone_surrogate(heading) is not None:
                hint = encoding_hint(heading)
                where = f"{self.shown}: {self.unit} {self.head[0][0]}"
                raise InputError(f"{where}: the headings are not UTF-8; {hint}")
        self.headings = [cell.strip().removeprefix("#").strip() for cell in self.first]
        self.head = self.head[1:]
        self._blank_is_row = len(self.headings) == 1

    def call_columns(self, headings: Sequence[str]) -> None:
        """Set the headings of a table without headings; its first row is data."""
        self.headings = list(headings)
        self.first = None

    def rows(self) -> Iterator[Row]:
        """Yield (number, cells or error) for every row, once.

        With headings, every row gets as many cells. A longer row is an error, unless the surplus
        cells are blank. A row that equals the headings (two cells or more) is counted and
        skipped, and so is a blank row. In a table of one column, a blank line is an empty text.

        Raises:
            InputError: The rest cannot be read.
        """
        again = [*map(heading_key, self.first or [])] if self.headings else []
        sign = again[0][:1] if again else ""
        listed = not self.by_name
        of_sparql = bool(self.headings) and all(h.startswith("?") for h in self.first or [""])
        # A fast path: most rows have the right width, and start differently from the headings.
        usual = len(again) if listed and not of_sparql and len(again) > 1 else -1
        begins = {sign, sign.upper()}
        for number, row in chain(self.head, self._rows):
            if row.__class__ is list and len(row) == usual:
                start = row[0][:1]
                if start not in begins and start.isalnum():
                    yield number, row
                    continue
            if isinstance(row, RowError):
                yield number, row
                continue
            if listed:
                if len(row) < 2 and not self._blank_is_row and not "".join(row).strip():
                    self.notes.blank_rows += 1
                    continue
                if (
                    len(row) == len(again) > 0
                    and (row[0][:1].casefold() == sign or not row[0][:1].isalnum())
                    and len(row[0]) < 100
                    and heading_key(row[0]) == again[0]
                    and [*map(heading_key, row)] == again
                ):
                    if len(again) > 1:
                        self.notes.repeated_headings += 1
                        continue
                    self.notes.lone_headings += 1
                if of_sparql:
                    row = [_term(cell) for cell in row]
            width = len(self.headings)
            if len(row) != width and width:
                if len(row) > width and any(str(cell).strip() for cell in row[width:]):
                    yield (
                        number,
                        RowError(f"has {counted(len(row), 'column')}, the header has {width}"),
                    )
                    continue
                row = [*row[:width], *[None] * (width - len(row))]
            yield number, row

    def place(self, named: str) -> int:
        """Return the column with a name, ignoring case and spaces.

        Raises:
            InputError: There is no such column, or more than one.
        """
        exact = [i for i, heading in enumerate(self.headings) if heading == named]
        key = heading_key(named)
        found = exact or [i for i, h in enumerate(self.headings) if heading_key(h) == key]
        if not found:
            there = ", ".join(self.headings)
            raise InputError(f"{self.shown}: no column {named!r}; there are: {there}")
        if len(found) > 1:
            raise InputError(f"{self.shown}: more than one column {named!r}; rename the others")
        return found[0]

    def is_blank(self, cells: Cells) -> bool:
        """Return whether a row is empty, like those that spreadsheets leave at the end."""
        if self.by_name:
            return False
        for cell in cells:  # usually the first cell decides
            if cell and cell.strip():
                return False
        return True

    # -- layouts

    def _delimited(self) -> Iterator[Row]:
        lines = numbered_lines(self._source, strict=False, keep_ends=True)
        some = list(_some(lines))
        default = "," if self.kind is FileFormat.CSV else "\t"
        while some and some[0][1].startswith("#") and _is_comment(some[0][1], default):
            self.notes.comments += 1
            some.pop(0)
        if some and some[0][1].startswith("#"):  # headings as in CTD files, with more # lines below
            while len(some) > 1 and not some[1][1].strip("# \t\r\n,;|"):
                self.notes.comments += 1
                some.pop(1)
        named = separator_line(some[0][1]) if some else None
        if named is not None:
            some.pop(0)
        delimiter = self._options.delimiter or named or self._delimiter_of(some, default)
        return self._split(chain(some, lines), delimiter)

    def _delimiter_of(self, some: Sequence[tuple[int, str]], default: str) -> str:
        seen = [line.rstrip("\r\n") for _, line in some if line.strip()][:50]
        seen[:1] = [line.removeprefix("#") for line in seen[:1]]
        delimiter = detect_delimiter(seen, default)
        if delimiter is not None:
            return delimiter
        names = {"\t": "tab"}
        sign = next(sign for sign in (";", ",", "\t", "|") if sign in seen[0])
        if sign == default:
            raise InputError(
                f"{self.shown}: its first line is one quoted cell that holds "
                f"{names.get(sign, sign)!r}; remove the quotes around whole lines, or if there "
                f"is one column give --delimiter '{names.get(default, default)}'"
            )
        raise InputError(
            f"{self.shown}: its first line holds {names.get(sign, sign)!r}, but the lines after it "
            f"do not agree; if that separates columns give --delimiter '{names.get(sign, sign)}', "
            f"if there is one column give --delimiter '{names.get(default, default)}'"
        )

    def _split(self, lines: Iterable[tuple[int, str]], delimiter: str) -> Iterator[Row]:
        rows = split_rows(lines, delimiter, quoted=self._options.quoted)
        for number, row in rows:
            if isinstance(row, RowError) or any(cell.strip() for cell in row):
                yield number, row
                break
            self.notes.blank_rows += 1  # nothing is before the headings
        yield from rows

    def _json(self) -> Iterator[Row]:
        lines = numbered_lines(self._source, strict=False)
        for first in lines:
            if first[1].strip():
                break
            self.notes.blank_rows += 1
        else:
            return
        some = [first, *_some(lines)] if first[1].lstrip().startswith("{") else [first]
        lines = chain(some, lines)
        rows: Iterable[tuple[int, dict[str, Any] | RowError | None]] = line_rows(lines)
        if first[1].lstrip().startswith("["):
            self.unit = "row"
            rows = array_rows(lines, self.shown)
        elif is_sparql("\n".join(line for _, line in some[:100])):
            self.unit = "row"
            rows = sparql_rows(lines, self.shown)
        for number, record in rows:
            if record is None:
                self.notes.blank_rows += 1
            elif isinstance(record, RowError):
                yield number, record
            else:
                yield number, self._in_order(record)

    def _in_order(self, record: dict[str, Any]) -> Cells:
        row: Cells = [None] * len(self.headings)
        for key, value in record.items():
            place = self._places.get(key)
            if place is None:
                place = self._place_of_new(key, record)
                row += [None] * (len(self.headings) - len(row))
            row[place] = value
        return row

    def _place_of_new(self, key: str, record: dict[str, Any]) -> int:
        """Return the column of a key, ignoring case; a new column if there is none."""
        folded = f"\n{heading_key(key)}"  # no key of a file starts with this
        place = self._places.get(folded)
        taken = [self._places.get(other) for other in record]
        if place is None or self.kind is FileFormat.PARQUET or place in taken:
            place = len(self.headings)
            self.headings.append(key)
            self._places.setdefault(folded, place)
        self._places[key] = place
        return place

    def _parquet(self) -> Iterator[Row]:
        path = Path(self._source)
        with ExitStack() as stack:
            parts: list[tuple[str, Any, dict[str, str]]] = []
            if path.is_dir():
                for part in parquet_parts(path):
                    sides = (piece.partition("=") for piece in part.relative_to(path).parts[:-1])
                    beside = {key: value for key, equals, value in sides if equals}
                    parts.append((str(part), part, beside))
            else:
                parts.append((self.shown, stack.enter_context(seekable(self._source)), {}))
            for name, file, beside in parts:
                with pyarrow_errors(name, 0):
                    table = stack.enter_context(open_parquet(file)) if len(parts) == 1 else None
                    with nullcontext(table) if table else open_parquet(file) as opened:
                        names = [*opened.schema_arrow.names, *beside]
                self._refuse_twice(name, names)
                self._in_order(dict.fromkeys(names))
            yield 0, []
            number = 0
            for name, file, beside in parts:
                with nullcontext(table) if table else open_parquet(file) as opened:
                    names = opened.schema_arrow.names
                    if self.kept is None:
                        names = self._wanted(names)
                    batches = opened.iter_batches(batch_size=_ROWS_AT_ONCE, columns=names)
                    while True:
                        with pyarrow_errors(name, number):
                            batch = next(batches, None)
                        if batch is None:
                            break
                        yield from self._of_batch(batch, beside, number)
                        number += batch.num_rows

    def _arrow(self, table: ArrowTable) -> Iterator[Row]:
        import pyarrow as pa

        with pyarrow_errors(self.shown, 0, _NO_ARROW):
            reader = pa.RecordBatchReader.from_stream(table)
        names = reader.schema.names
        self._refuse_twice(self.shown, names)
        self._in_order(dict.fromkeys(names))
        yield 0, []
        number = 0
        while True:
            with pyarrow_errors(self.shown, number, "cannot be read as Arrow"):
                batch = next(reader, None)
            if batch is None:
                return
            for start in range(0, batch.num_rows, _ROWS_AT_ONCE):
                piece = batch.slice(start, _ROWS_AT_ONCE)
                yield from self._of_batch(piece, {}, number)
                number += piece.num_rows

    def _of_batch(self, batch: Any, beside: dict[str, str], number: int) -> Iterator[Row]:  # noqa: ANN401 - pyarrow has no types
        """Yield the rows of a batch; its first row has the number ``number`` + 1."""
        if self.kept is not None:
            self.kept.add_batch(batch, beside)
        for record in records(batch.select(self._wanted(batch.schema.names))):
            number += 1
            if record is None:
                yield number, RowError("not UTF-8")
            else:
                yield number, self._in_order({**record, **beside})

    def _wanted(self, names: Sequence[str]) -> list[str]:
        if self.only is None:
            return list(names)
        wanted = {self.headings[i] for i in self.only}
        return [key for key in names if key in wanted]

    def _refuse_twice(self, shown: str, names: Sequence[str]) -> None:
        twice = next((key for key in names if names.count(key) > 1), None)
        if twice is not None:
            raise InputError(f"{shown}: more than one column {twice!r}; rename the others")

    def _sheet(self) -> Iterator[Row]:
        from mirror_rt.tables.excel import read_sheet

        with seekable(self._source) as file:
            rows, remarks = read_sheet(self.shown, file)
        self.notes.remarks += remarks
        begun = False
        for number, row in enumerate(rows, 1):
            while row and not row[-1]:
                row.pop()
            if row or begun:
                begun = True
                yield number, row or [""]


def _some(lines: Iterator[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    size = 0
    for number, line in islice(lines, 200):
        yield number, line
        size += len(line)
        if size > _LOOKED_AT_CHARACTERS:
            return


def _is_comment(line: str, default: str) -> bool:
    """Return whether a line that starts with ``#`` is neither headings nor data."""
    line = line.removeprefix("#").rstrip("\r\n")
    if not line.strip():
        return True
    cells = [line.split(sign) for sign in dict.fromkeys([default, ",", ";", "\t", "|"])]
    if any(len(some) > 1 and _sound(some) for some in cells):
        return False
    return line[0].isspace() or all(len(some) < 2 for some in cells)


def _term(cell: str) -> str:
    r"""Return the value of a term in SPARQL's TSV.

    >>> _term("<http://e.org/Q1>"), _term('"gout"@en'), _term('"a \\"b\\""'), _term("7")
    ('http://e.org/Q1', 'gout', 'a "b"', '7')
    """
    if cell.startswith("<") and cell.endswith(">"):
        return cell[1:-1]
    literal = _LITERAL.fullmatch(cell)
    return _ESCAPED.sub(r"\1", literal[1]) if literal else cell


def _sound(cells: list[str]) -> bool:
    return sound_like_headings(cells) or bool(known(cells, Column.TEXT))
