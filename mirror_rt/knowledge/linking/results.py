"""Results of ``link``: the record of a mention, and the rows of an input with its records.

``result_files`` writes these rows.
"""

from __future__ import annotations

import hashlib
import json
import re
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from mirror_rt.tables import Kept, free_names, json_cell
from mirror_rt.types import LinkStatus

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "COLUMNS",
    "DROP_ORDER",
    "HYBRID_COLUMNS",
    "PASSAGE_COLUMNS",
    "ROW_GROUP",
    "SEARCH_COLUMNS",
    "Layout",
    "LinkedRows",
    "Review",
    "Rows",
    "best_candidates",
    "best_row",
    "context_decided",
    "fingerprint",
    "in_rows",
    "one_cell",
    "to_json_line",
]

# The fields of a candidate, the type of each, and the function that combines the best candidates
# of the parts of a composite in one row.
_FIELDS = (
    ("entity_id", "string", "join"),
    ("entity_name", "string", "join"),
    ("matched_name", "string", "join"),
    ("match_type", "string", "join"),
    ("relation", "string", "join"),
    ("score", "float64", "min"),
    ("probability", "float64", "min"),
    ("tied", "bool", "any"),
    ("expanded_form", "string", "join"),
    ("context_score", "float64", "min"),
)
_ID, _TIED, _EXPANDED = "entity_id", "tied", "expanded_form"
_CONTEXT, _STATUS, _REASON, _CANDIDATES = "context_score", "status", "nil_reason", "candidates"
_HYBRID = ("dense_score", "lexical_score")
"""Fields of a hybrid search."""

SEARCH_COLUMNS = ("rank", *(name for name, _, _ in _FIELDS), _REASON)
"""Columns for a candidate of a query, after the query itself."""
COLUMNS = (*SEARCH_COLUMNS[:-1], _STATUS, _REASON)
"""Columns for a candidate of a mention, after the mention itself."""
HYBRID_COLUMNS = (*SEARCH_COLUMNS, *_HYBRID)
"""Columns for a candidate of a hybrid search, after the query itself."""
PASSAGE_COLUMNS = (
    "rank", "id", "title", "text", "matched_text", "match_type", "score", *_HYBRID, _REASON,
)  # fmt: skip
DROP_ORDER = (
    _CONTEXT, _REASON, "relation", _TIED, "rank", _EXPANDED, "match_type", *_HYBRID,
    "score", "probability", "matched_name", _STATUS, "entity_name",
)  # fmt: skip
"""Columns to drop from a narrow table, in this order."""

_REVIEW = ("mention", "check", "decision", "correct_id")
"""Further columns of a row for review; a reviewer fills in the last two."""
_CONTROL = re.compile(r"[\x7f-\x9f]")
"""Control characters that JSON does not escape."""
ROW_GROUP = 16_384
"""Rows that are written together."""


def context_decided(found: Mapping[str, Any]) -> bool:
    """Return whether the context of a mention was compared with its candidates."""
    return any(_CONTEXT in candidate for candidate in found[_CANDIDATES])


def to_json_line(value: object) -> str:
    r"""Return JSON on one line, with all control characters escaped.

    >>> to_json_line("ä \x1b[31m \x9b31m")
    '"ä \\u001b[31m \\u009b31m"'
    """
    return _escaped(json.dumps(value, ensure_ascii=False))


def _escaped(text: str) -> str:
    return _CONTROL.sub(lambda sign: f"\\u{ord(sign.group()):04x}", text)


def in_rows(
    found: Mapping[str, Any],
    *,
    subject: str = "mention",
    columns: Sequence[str] = COLUMNS,
) -> Iterator[tuple[str, ...]]:
    """Yield the cells of a row for each candidate of a record; one row if there is no candidate."""
    same = {_STATUS: found.get(_STATUS), _REASON: found.get(_REASON)}
    if not found[_CANDIDATES]:
        yield (found[subject], *(_cell(same.get(name)) for name in columns))
    for rank, candidate in enumerate(found[_CANDIDATES], start=1):
        fields = {"rank": rank, **same, **candidate}
        yield (found[subject], *(_cell(fields.get(name)) for name in columns))


def one_cell(text: str) -> str:
    """Return a text as a cell of TSV, without tabs and line ends."""
    return " ".join(text.split()) if any(sign in text for sign in "\t\n\r") else text


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The layout of the rows of a result.

    Attributes:
        long: Whether every candidate gets a row, rather than every mention.
        bom: Whether a text file starts with a byte order mark, for Excel.
        expanded: Whether there is a column ``expanded_form``.
        context: Whether there is a column ``context_score``.
        review: Whether there are cells for a reviewer to fill in.
    """

    long: bool = False
    bom: bool = False
    expanded: bool = False
    context: bool = False
    review: bool = False

    def columns(self) -> list[tuple[str, str]]:
        """Return the name and the type of each added column."""
        optional = {_EXPANDED: self.expanded, _CONTEXT: self.context}
        found = [(name, kind) for name, kind, _ in _FIELDS if optional.get(name, True)]
        found += [(_STATUS, "string"), (_REASON, "string")]
        if self.long:
            return [("row", "int64"), ("rank", "int64"), *found]
        found.append((_CANDIDATES, _CANDIDATES))
        if self.review:
            mention, *to_fill_in = ((name, "string") for name in _REVIEW)
            return [("row", "int64"), mention, *found, *to_fill_in]
        return found

    def cells(self, found: Mapping[str, Any], row: int) -> list[dict[str, Any]]:
        """Return the added cells for the rows of a record; ``row`` is the input's row, from 1."""
        same = {_STATUS: found[_STATUS], _REASON: found.get(_REASON), "row": row}
        if self.long:
            ranked = [{"rank": i, **c, **same} for i, c in enumerate(found[_CANDIDATES], start=1)]
            return ranked or [same]
        cells = {**best_row(found), **same, _CANDIDATES: found[_CANDIDATES]}
        if self.review:
            form = cells.get(_EXPANDED, "")
            cells["mention"] = form if form and "|" not in form else found["mention"]
            cells["check"] = fingerprint(cells["mention"], cells[_ID])
        return [cells]


def fingerprint(mention: str, entity_id: str) -> str:
    """Return a short checksum of a mention and an id, to detect rows that were changed.

    It starts with a letter; otherwise a spreadsheet would read some values as numbers.
    """
    text = "\n".join(" ".join(value.split()) for value in (mention, entity_id))
    return "k" + hashlib.blake2b(text.encode(), digest_size=5).hexdigest()


class Rows(Protocol):
    """The rows for a writer; they can be read once."""

    layout: Layout

    @property
    def names(self) -> list[str]:
        """The headings of all columns; headings of the input may be repeated."""
        ...

    def schema(self, *, as_text: bool = False) -> pa.Schema:
        """Return all columns with unique names; with ``as_text``, no added column is a list."""
        ...

    def batches(self, *, as_text: bool = False) -> Iterator[pa.RecordBatch]:
        """Yield the rows in pieces with the columns of ``schema``."""
        ...

    def json_lines(self) -> Iterator[str]:
        """Yield a JSON object for each row."""
        ...

    def records(self) -> Iterator[dict[str, Any]]:
        """Yield the record of each row of the input."""
        ...


class LinkedRows:
    """The rows of an input, together with the records of their mentions.

    Args:
        kept: The input's columns.
        lines: The JSON line of each row.
        layout: The layout.
        review: Receives the rows for review.
        take: Called with each record.
        written: Called with the number of rows so far, for each piece of them.

    Attributes:
        counts: The number of mentions with each status; and the number of ``tied`` ones, whose
            row has one of several tied candidates.
    """

    def __init__(
        self,
        kept: Kept,
        lines: Iterable[str],
        layout: Layout,
        *,
        review: Review | None = None,
        take: Callable[[Mapping[str, Any]], object] | None = None,
        written: Callable[[int], object] | None = None,
    ) -> None:
        self.layout = layout
        self.counts: Counter[str] = Counter()
        self._kept, self._lines, self._review, self._take = kept, iter(lines), review, take
        self._columns, self._written = layout.columns(), written

    @property
    def names(self) -> list[str]:
        """The headings of all columns; headings of the input may be repeated."""
        given = self._kept.headings
        return [*given, *free_names([name for name, _ in self._columns], given)]

    def schema(self, *, as_text: bool = False) -> pa.Schema:
        """Return all columns with unique names; with ``as_text``, no added column is a list."""
        import pyarrow as pa

        kept = self._kept.schema()
        own = zip(self.names[len(kept) :], self._columns, strict=True)
        added = [pa.field(name, _arrow_type(kind, as_text=as_text)) for name, (_, kind) in own]
        return pa.schema([*kept, *added], metadata=kept.metadata)

    def batches(self, *, as_text: bool = False) -> Iterator[pa.RecordBatch]:
        """Yield the rows in pieces with the columns of ``schema``."""
        schema = self.schema(as_text=as_text)
        for row, piece, records in self._pieces():
            yield self.joined(piece, records, range(row, row + len(records)), schema)

    def joined(
        self,
        piece: pa.RecordBatch,
        records: Sequence[dict[str, Any]],
        rows: Sequence[int],
        schema: pa.Schema,
    ) -> pa.RecordBatch:
        """Return rows together with their records, in the columns of ``schema()``."""
        import pyarrow as pa

        typed = self._kept.typed(piece, self._kept.schema())
        found = [self.layout.cells(*one) for one in zip(records, rows, strict=True)]
        if self.layout.long:
            typed = typed.take(pa.array([i for i, some in enumerate(found) for _ in some]))
        columns = [*typed.columns]
        for name, kind in self._columns:
            values: list[Any] = [cells.get(name) for some in found for cells in some]
            field = schema.field(len(columns))
            if kind == _CANDIDATES and pa.types.is_string(field.type):
                values = [_in_words(candidates) for candidates in values]
            columns.append(pa.array(values, field.type))
        return pa.RecordBatch.from_arrays(columns, schema=schema)

    def json_lines(self) -> Iterator[str]:
        """Yield a JSON object for each row."""
        schema = self._kept.schema()
        keys = [json.dumps(name, ensure_ascii=False) for name in schema.names]
        own = [*zip(self.names[len(keys) :], (name for name, _ in self._columns), strict=True)]
        for row, piece, records in self._pieces():
            given = zip(*self._kept.as_json(piece, schema), strict=True)
            for i, (values, found) in enumerate(zip(given, records, strict=True)):
                start = ", ".join(f"{key}: {cell}" for key, cell in zip(keys, values, strict=True))
                for cells in self.layout.cells(found, row + i):
                    added = {name: cells.get(key) for name, key in own}
                    end = json.dumps(added, ensure_ascii=False)[1:]
                    yield _escaped(f"{{{start}, {end}")

    def records(self) -> Iterator[dict[str, Any]]:
        """Yield the record of each row of the input."""
        for _, _, records in self._pieces():
            yield from records

    def _pieces(self) -> Iterator[tuple[int, pa.RecordBatch, list[dict[str, Any]]]]:
        """Yield pieces of rows: the number of the first, the input's columns, the records."""
        row = 1
        for piece in self._kept.pieces():
            records = [json.loads(line) for line in islice(self._lines, piece.num_rows)]
            for found in records:
                self.counts[found[_STATUS]] += 1
                self.counts[_TIED] += any(
                    c[_TIED] and _CONTEXT not in c for c in best_candidates(found)
                )
                if self._take is not None:
                    self._take(found)
            if self._review is not None:
                self._review.take(self._kept, piece, records, row)
            yield row, piece, records
            row += len(records)
            if self._written is not None:
                self._written(row - 1)


class Review:
    """Rows for review, the least certain first. They are collected on disk and then sorted.

    Args:
        path: The file for collecting them.
        layout: The layout.
        as_text: Whether they will be written as text.
    """

    def __init__(self, path: Path, layout: Layout, *, as_text: bool) -> None:
        self.layout = replace(layout, long=False, review=True)
        self._path, self._as_text = path, as_text
        self._writer: pa.ipc.RecordBatchFileWriter | None = None
        self._rows = LinkedRows(Kept(), (), self.layout)
        self._certain = array("f")
        self._starts = [0]  # the offset of each batch, and the end

    def take(
        self, kept: Kept, piece: pa.RecordBatch, records: Sequence[dict[str, Any]], row: int
    ) -> None:
        """Add those of some rows that are for review; ``row`` is the number of the first."""
        import pyarrow as pa

        if self._writer is None:
            self._rows = LinkedRows(kept, (), self.layout)
            self._writer = pa.ipc.new_file(str(self._path), self.schema())
        chosen = [i for i, found in enumerate(records) if found[_STATUS] == LinkStatus.REVIEW.value]
        if not chosen:
            return
        some = [records[i] for i in chosen]
        piece = piece.take(pa.array(chosen))
        self._writer.write_batch(
            self._rows.joined(piece, some, [row + i for i in chosen], self.schema())
        )
        self._certain.extend(best_row(found)["probability"] or 0.0 for found in some)
        self._starts.append(len(self._certain))

    @property
    def names(self) -> list[str]:
        """The headings of all columns; headings of the input may be repeated."""
        return self._rows.names

    def schema(self, *, as_text: bool = False) -> pa.Schema:
        """Return all columns with unique names."""
        return self._rows.schema(as_text=self._as_text)

    def batches(self, *, as_text: bool = False) -> Iterator[pa.RecordBatch]:
        """Yield the rows in pieces; one piece is in memory at a time."""
        import numpy as np
        import pyarrow as pa

        if self._writer is None:
            return
        self._writer.close()
        order_N = np.argsort(np.frombuffer(self._certain, np.float32), kind="stable")
        batch_N = np.searchsorted(self._starts, order_N, side="right") - 1
        with pa.memory_map(str(self._path)) as file:
            reader = pa.ipc.open_file(file)
            for start in range(0, len(order_N), ROW_GROUP):
                rows, batches = order_N[start:][:ROW_GROUP], batch_N[start:][:ROW_GROUP]
                parts, places = [], []
                for number in np.unique(batches).tolist():
                    in_batch = np.flatnonzero(batches == number)
                    inside = rows[in_batch] - self._starts[number]
                    parts.append(reader.get_batch(number).take(pa.array(inside)))
                    places.append(in_batch)
                back = pa.array(np.argsort(np.concatenate(places), kind="stable"))
                yield from pa.Table.from_batches(parts).take(back).combine_chunks().to_batches()

    def json_lines(self) -> Iterator[str]:
        """Yield a JSON object for each row."""
        for batch in self.batches():
            for cells in batch.to_pylist():
                yield _escaped(json_cell(cells))

    def records(self) -> Iterator[dict[str, Any]]:
        """Yield nothing: reviews are not written in formats of records."""
        yield from ()


def best_candidates(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the best candidate of each part of a mention; most mentions have one part."""
    best: dict[str, dict[str, Any]] = {}
    for candidate in found[_CANDIDATES]:
        best.setdefault(candidate[_EXPANDED], candidate)
    return list(best.values())


def best_row(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of the best candidate; for a composite, those of all parts combined."""
    best, row = best_candidates(found), dict[str, Any]()
    if len(best) == 1:
        return best[0]
    for name, _, summed in _FIELDS if best else ():
        values = [c[name] for c in best if c.get(name) is not None]
        match summed:
            case "join":
                row[name] = "|".join(values)
            case "min":
                row[name] = min(values, default=None)
            case _:
                row[name] = any(values)
    return row


def _in_words(candidates: Sequence[Mapping[str, Any]]) -> str:
    """Return candidates as one readable cell, short enough for a spreadsheet."""
    return " | ".join(f"{c[_ID]} {c['entity_name']} ({_certainty(c)})" for c in candidates)


def _certainty(candidate: Mapping[str, Any]) -> str:
    found = candidate["probability"]
    return f"{candidate['score'] if found is None else found:.2f}"


def _arrow_type(kind: str, *, as_text: bool) -> pa.DataType:
    import pyarrow as pa

    types = {
        "string": pa.string(), "float64": pa.float64(), "bool": pa.bool_(), "int64": pa.int64(),
    }  # fmt: skip
    if kind != _CANDIDATES:
        return types[kind]
    return pa.string() if as_text else pa.list_(pa.struct([(n, types[k]) for n, k, _ in _FIELDS]))


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)
