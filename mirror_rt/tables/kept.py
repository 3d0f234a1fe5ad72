"""Keep the columns of an input on disk, to write them again together with results.

Rows of text are kept as text. Rows of JSON lines and of sheets are kept as one JSON value per cell,
rows of Parquet and Arrow in their types. Only one piece of rows is in memory at a time.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date, datetime, time
from typing import IO, TYPE_CHECKING, Any

from mirror_rt.errors import InputError
from mirror_rt.tables.vocabulary import heading_key

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Kept", "free_names", "json_cell", "kept_name", "unique_names", "written_text"]

_ROWS, _CHARACTERS = 4_096, 1 << 23
_PREFIX = "link_"
_LARGEST_EXACT = 1 << 53
_READERS: Mapping[str, Callable[[str], object]] = {
    "date32[day]": date.fromisoformat,
    "timestamp[us]": datetime.fromisoformat,
    "time64[us]": time.fromisoformat,
}
"""The parsers of dates and times in JSON, by Arrow type."""


class Kept:
    """The columns of an input, stored while its rows are read.

    Attributes:
        headings: The headings of the input, unchanged. For JSON lines the list grows.
        shown: The name of the input in messages.
        unit: The unit of row numbers, such as "line".
        rows: The number of rows so far.
    """

    def __init__(self, handle: IO[bytes] | None = None) -> None:
        """Store rows in a file, which must be readable; by default in memory."""
        self.headings: list[str] = []
        self.shown, self.unit = "the input", "row"
        self.rows = 0
        self._handle = io.BytesIO() if handle is None else handle
        self._json, self._by_name = False, False
        self._numbers: list[int] = []
        self._cells: list[Sequence[Any]] = []
        self._characters = 0
        self._writer: pa.ipc.RecordBatchStreamWriter | None = None
        self._schemas: list[pa.Schema] = []  # the offset of each stream in the file
        self._metadata: dict[bytes, bytes] | None = None
        self._types: list[set[type]] = []  # of the values in each column

    def begin(self, headings: list[str], *, shown: str, unit: str, as_json: bool = False) -> None:
        """Start with the headings of an input.

        Args:
            headings: The headings; the list may grow while rows are read.
            shown: The name of the input in messages.
            unit: The unit of row numbers.
            as_json: Whether cells are values of JSON or of a sheet, rather than text.
        """
        self.headings, self.shown, self.unit, self._json = headings, shown, unit, as_json

    def add(self, number: int, cells: Sequence[Any]) -> None:
        """Store a row: a text or None for each cell, or values of JSON.

        Raises:
            InputError: A cell is not valid text; the message names the row.
        """
        if self._json:
            self._types += [set() for _ in range(len(cells) - len(self._types))]
            for cell, types in zip(cells, self._types, strict=False):
                types.add(_type_of(cell))
            cells = [None if c is None else json_cell(c) for c in cells]
        self.rows += 1
        self._numbers.append(number)
        self._cells.append(cells)
        self._characters += sum(len(cell) for cell in cells if cell)
        if len(self._cells) >= _ROWS or self._characters >= _CHARACTERS:
            self._flush()

    def add_batch(self, batch: pa.RecordBatch, beside: Mapping[str, str]) -> None:
        """Store rows with their types.

        Args:
            batch: The rows.
            beside: Further columns, each with one value for all rows.
        """
        import pyarrow as pa

        self.rows += batch.num_rows
        self._by_name = True
        self._metadata = self._metadata or batch.schema.metadata
        columns = {
            name: _plain(column)
            for name, column in zip(batch.schema.names, batch.columns, strict=True)
        }
        for name, value in beside.items():
            columns[name] = pa.array([value] * batch.num_rows, pa.string())
        self._write(pa.record_batch(columns))

    def pieces(self) -> Iterator[pa.RecordBatch]:
        """Yield all rows as they are stored; afterwards no rows can be added."""
        import pyarrow as pa

        self._flush()
        self._end()
        self._handle.seek(0)
        for _ in self._schemas:
            with pa.ipc.open_stream(self._handle) as reader:
                yield from reader

    def schema(self) -> pa.Schema:
        """Return the columns as ``typed`` returns them, with unique names."""
        import pyarrow as pa

        names = unique_names(self.headings)
        if self._json:
            types = [self._types[i] if i < len(self._types) else set() for i in range(len(names))]
            return pa.schema([(n, _arrow_type(t)) for n, t in zip(names, types, strict=True)])
        if self._by_name:
            fields = [(name, _shared_type(self._schemas, name)) for name in names]
            return pa.schema(fields, metadata=self._metadata)
        return pa.schema([(name, pa.string()) for name in names])

    def typed(self, piece: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
        """Return a piece with the columns of ``schema()``."""
        import pyarrow as pa

        columns = []
        for i, field in enumerate(schema):
            place = piece.schema.get_field_index(field.name) if self._by_name else i
            if not 0 <= place < piece.num_columns:
                columns.append(pa.nulls(piece.num_rows, field.type))
            elif self._json:
                columns.append(pa.array(_values(piece.column(place), field.type), field.type))
            else:
                columns.append(piece.column(place).cast(field.type))
        return pa.RecordBatch.from_arrays(columns, schema=schema)

    def as_json(self, piece: pa.RecordBatch, schema: pa.Schema) -> list[list[str]]:
        """Return each column of a piece as JSON, one text per cell."""
        if self._json:
            found = [
                ["null" if cell is None else cell for cell in column.to_pylist()]
                for column in piece.columns
            ]
            missing = len(schema) - len(found)
            return found + [["null"] * piece.num_rows for _ in range(missing)]
        return [
            [json_cell(cell) for cell in column.to_pylist()]
            for column in self.typed(piece, schema).columns
        ]

    def _flush(self) -> None:
        import pyarrow as pa

        if not self._cells:
            return
        width = max(map(len, self._cells))
        rows = [[*row, *[None] * (width - len(row))] if len(row) < width else row
                for row in self._cells]  # fmt: skip
        columns = []
        for i, column in enumerate(zip(*rows, strict=True)):
            try:
                columns.append(pa.array(column, pa.string()))
            except UnicodeEncodeError as error:
                raise InputError(self._not_text(i, column)) from error
        self._write(pa.RecordBatch.from_arrays(columns, names=[str(i) for i in range(width)]))
        self._numbers, self._cells, self._characters = [], [], 0

    def _not_text(self, place: int, column: Sequence[Any]) -> str:
        from mirror_rt.tables.cells import cell_text
        from mirror_rt.tables.delimited import RowError

        for number, cell in zip(self._numbers, column, strict=True):
            try:
                cell_text(cell, self.headings[place] or f"cell of column {place + 1}")
            except RowError as fault:
                return f"{self.shown}: {self.unit} {number}: {fault}"
        return f"{self.shown}: holds what is not text"

    def _write(self, batch: pa.RecordBatch) -> None:
        import pyarrow as pa

        if self._writer is None or self._schemas[-1] != batch.schema:
            self._end()
            self._schemas.append(batch.schema)
            self._writer = pa.ipc.new_stream(self._handle, batch.schema)
        self._writer.write_batch(batch)

    def _end(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def unique_names(headings: Sequence[str]) -> list[str]:
    """Return unique headings: a repeated one gets a number.

    >>> unique_names(["a", "b", "a", "a_2", "a"])
    ['a', 'b', 'a_3', 'a_2', 'a_4']
    """
    taken, seen, names = set(headings), set[str](), list[str]()
    for heading in headings:
        name, number = heading, 1
        while name in seen or (number > 1 and name in taken):
            number += 1
            name = f"{heading}_{number}"
        seen.add(name)
        names.append(name)
    return names


def free_names(names: Sequence[str], headings: Sequence[str]) -> list[str]:
    """Return names for new columns, with a prefix if the input has a column of this name.

    >>> free_names(["score", "status"], ["id", "Score", "link_score"])
    ['link_link_score', 'status']
    """
    found = {heading_key(heading) for heading in headings}
    return [_PREFIX * _prefixes(name, found) + name for name in names]


def kept_name(name: str, headings: Sequence[str]) -> str:
    """Return the name that ``free_names`` gave a column in a file with these headings."""
    found = {heading_key(heading) for heading in headings}
    return _PREFIX * max(_prefixes(name, found) - 1, 0) + name


def _prefixes(name: str, keys: set[str]) -> int:
    """Return one more prefix than any heading has before the name."""
    before = [key.removesuffix(name) for key in keys if key.endswith(name)]
    counts = [len(some) // len(_PREFIX) for some in before if some.replace(_PREFIX, "") == ""]
    return max(counts, default=-1) + 1


def json_cell(cell: object) -> str:
    """Return a cell as JSON. NaN and infinity become null; bytes and dates become strings.

    >>> json_cell({"a": [float("nan"), b"b"]})
    '{"a": [null, "b"]}'
    """
    try:
        return json.dumps(cell, ensure_ascii=False, allow_nan=False, default=_as_string)
    except ValueError:  # JSON has no such numbers
        return json.dumps(_finite(cell), ensure_ascii=False, default=_as_string)


def written_text(value: object) -> str:
    """Return a cell as the text that it has in CSV files and, unless it keeps its type, in sheets.

    >>> written_text([1, "a"]), written_text(True), written_text(b"b")
    ('[1, "a"]', 'true', 'b')
    """
    match value:
        case str():
            return value
        case bool():
            return "true" if value else "false"
        case bytes():
            return _as_string(value)
        case list() | dict():
            return json_cell(value)
        case _:
            return str(value)


def _as_string(value: object) -> str:
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)


def _finite(value: object) -> object:
    match value:
        case float() if not math.isfinite(value):
            return None
        case list() | tuple():
            return [_finite(item) for item in value]
        case dict():
            return {key: _finite(item) for key, item in value.items()}
        case _:
            return value


def _type_of(cell: object) -> type:
    if isinstance(cell, int) and not isinstance(cell, bool) and abs(cell) > _LARGEST_EXACT:
        return object  # no float is exactly equal
    return type(cell)


def _arrow_type(types: set[type]) -> pa.DataType:
    import pyarrow as pa

    match types - {type(None)}:
        case found if found == {bool}:
            return pa.bool_()
        case found if found == {int}:
            return pa.int64()
        case found if found in ({float}, {int, float}):
            return pa.float64()
        case found if found == {date}:
            return pa.date32()
        case found if found in ({datetime}, {date, datetime}):
            return pa.timestamp("us")
        case found if found == {time}:
            return pa.time64("us")
        case _:
            return pa.string()


def _values(column: pa.Array, kind: pa.DataType) -> list[Any]:
    """Parse cells of JSON. If the column becomes text, values that are not strings stay JSON."""
    import pyarrow as pa

    cells = column.to_pylist()
    if kind != pa.string():
        found = [None if cell is None else json.loads(cell) for cell in cells]
        reader = _READERS.get(str(kind))
        return found if reader is None else [None if c is None else reader(c) for c in found]
    return [
        json.loads(cell) if cell is not None and cell.startswith('"') else cell for cell in cells
    ]


def _plain(column: pa.Array) -> pa.Array:
    """Return a column in a type that all writers support, without views."""
    import pyarrow as pa

    if pa.types.is_string_view(column.type):
        return column.cast(pa.string())
    if pa.types.is_binary_view(column.type):
        return column.cast(pa.binary())
    return column


def _shared_type(schemas: Sequence[pa.Schema], name: str) -> pa.DataType:
    """Return the common type of a column in all parts of an input, or one that holds all."""
    import pyarrow as pa

    fields = [pa.schema([s.field(name)]) for s in schemas if name in s.names]
    try:
        return pa.unify_schemas(fields, promote_options="permissive").field(0).type
    except (pa.ArrowTypeError, pa.ArrowInvalid):
        return pa.string()
