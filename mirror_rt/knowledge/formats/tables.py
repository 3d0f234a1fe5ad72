"""Read TSV (unquoted) and CSV (quoted) tables: ``id, name[, kind | alias …]`` or named columns.

A first row is taken for a header only if it names both an id column and a name column; else
it is data, or refused where its id alone has no digit. Without a header, column 1 is the id
and column 2 a name; a third column is the kind of the name if every third cell among the first
thousand rows is a kind (``label``, ``exact_synonym``, ``alt`` …), and then there can be no
fourth; all other columns are aliases. With a header, columns of other headings are left alone.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from enum import Enum
from itertools import chain, islice
from pathlib import Path
from typing import TypeAlias

from mirror_rt.knowledge.formats._rows import (
    RowError,
    SkippedRows,
    checked,
    each,
    flat,
    is_kind,
    name_kind,
)
from mirror_rt.textfiles import csv_rows, numbered_lines
from mirror_rt.types import Entity, Name, NameKind

__all__ = ["Column", "header_columns", "read_csv", "read_tsv"]

_LOOKED_AT = 1000

Row: TypeAlias = "list[str] | csv.Error"


class Column(Enum):
    """What a column holds; the value lists the headings that say so."""

    ID = "id identifier entity_id concept_id code cui curie uri iri"
    NAME = "name label term preferred preferred_name preferred_label preferred_term preflabel"
    ALIASES = "alias aliases synonym synonyms altlabel altlabels alt_label alt_labels alternatives"
    KIND = "kind name_kind scope"
    TYPES = "type types semantic_type semantic_types category"
    LANGUAGE = "language lang"
    SOURCE = "source sab vocabulary"
    DESCRIPTION = "description definition def"
    ALTERNATIVE_IDS = "alternative_ids alternative_id alt_ids alt_id obsolete_ids"
    CROSS_REFERENCES = "cross_references cross_reference xref xrefs"


_COLUMN_OF = {heading: column for column in Column for heading in column.value.split()}


def read_tsv(path: str | Path, skipped: SkippedRows) -> Iterator[Entity]:
    """Read a tab-separated table; nothing is quoted, so a name may hold ``"``."""
    rows = ((n, line.split("\t")) for n, line in numbered_lines(path, strict=False) if line.strip())
    return _read(path, rows, skipped)


def read_csv(path: str | Path, skipped: SkippedRows) -> Iterator[Entity]:
    r"""Read a comma-separated table, quoted as RFC 4180 says; a row is named by its last line."""
    return _read(path, _csv_rows(path), skipped)


def header_columns(cells: Sequence[str]) -> dict[int, Column] | None:
    """Return what each column holds if ``cells`` are headings, else None.

    >>> sorted(column.name for column in header_columns(["esco_id", "isco", "preferred"]).values())
    ['ID', 'NAME']
    >>> header_columns(["HP:0000001", "All", "label"]) is None
    True
    """
    columns: dict[int, Column] = {}
    headings = [cell.strip().casefold().replace(" ", "_").replace("-", "_") for cell in cells]
    has_id = any(_COLUMN_OF.get(heading) is Column.ID for heading in headings)
    for i, heading in enumerate(headings):
        column = _COLUMN_OF.get(heading) or _COLUMN_OF.get(heading.rstrip("_0123456789"))
        if column is None and heading.endswith("_id") and not has_id:  # parent_id beside id
            column = Column.ID
        if column is Column.NAME and column in columns.values():
            column = Column.ALIASES  # a second name is one more name, not a column to pass over
        if column is None or (column in columns.values() and column is not Column.ALIASES):
            continue
        columns[i] = column
    return columns if {Column.ID, Column.NAME} <= set(columns.values()) else None


def _csv_rows(path: str | Path) -> Iterator[tuple[int, Row]]:
    lines = (text + "\n" for _, text in numbered_lines(path, strict=False))
    for number, row in csv_rows(lines):
        if isinstance(row, csv.Error) or any(cell.strip() for cell in row):
            yield number, row


def _read(
    path: str | Path, rows: Iterator[tuple[int, Row]], skipped: SkippedRows
) -> Iterator[Entity]:
    head = list(islice(rows, _LOOKED_AT))
    first = head[0][1] if head else []
    columns = header_columns(first) if isinstance(first, list) else None
    parse: Callable[[list[str]], Entity]
    if columns is not None:
        parse = _named(columns, width=len(first) if isinstance(first, list) else 0)
        head = head[1:]
    else:
        parse = _with_kind if _third_is_kind(head) else _with_aliases
    unknown = first if columns is None and _is_unlike_the_rest(head) else None

    def checked_row(row: Row) -> Entity:
        if isinstance(row, csv.Error):
            raise RowError(f"not CSV ({row})")
        if len(row) < 2:
            raise RowError("has one column; id and name must be in two")
        if row is unknown:
            raise RowError(
                f"looks like headings of which none is the id or the name ({', '.join(row)}); call "
                "them id and name, or, if the row is data, put a row of id and name above it"
            )
        return parse(row)

    return each(path, chain(head, rows), checked_row, skipped)


def _is_unlike_the_rest(rows: Sequence[tuple[int, Row]]) -> bool:
    """Tell whether the first id alone has no digit, among three or more."""
    ids = [row[0] for _, row in rows if isinstance(row, list) and len(row) > 1]
    numbered = [any(sign.isdigit() for sign in id_) for id_ in ids]
    return len(numbered) > 2 and not numbered[0] and all(numbered[1:])


def _third_is_kind(rows: Sequence[tuple[int, Row]]) -> bool:
    thirds = [row[2] for _, row in rows if isinstance(row, list) and len(row) > 2]
    thirds = [cell for cell in thirds if cell.strip()]
    return bool(thirds) and all(map(is_kind, thirds))


def _with_kind(cells: list[str]) -> Entity:
    if any(cell.strip() for cell in cells[3:]):
        raise RowError(
            f"has {len(cells)} columns where others have id, name and kind; "
            "if the third holds names, head the columns: id, name, alias, alias"
        )
    kind = name_kind(cells[2]) if len(cells) > 2 else NameKind.EXACT
    return Entity(
        id=checked(cells[0], "id"), names=(Name(text=checked(cells[1], "name"), kind=kind),)
    )


def _with_aliases(cells: list[str]) -> Entity:
    first = Name(
        text=checked(cells[1], "name"),
        kind=NameKind.PREFERRED if len(cells) > 2 else NameKind.EXACT,
    )
    aliases = [Name(text=checked(cell, "alias")) for cell in cells[2:] if cell.strip()]
    return Entity(id=checked(cells[0], "id"), names=(first, *aliases))


def _named(columns: dict[int, Column], *, width: int) -> Callable[[list[str]], Entity]:
    """Make the parser of rows under a header; cells of list columns are split at ``|``."""
    has_kind = Column.KIND in columns.values()
    has_aliases = Column.ALIASES in columns.values()
    plain = NameKind.EXACT if not has_aliases else NameKind.PREFERRED

    def parse(cells: list[str]) -> Entity:
        if any(cell.strip() for cell in cells[width:]):
            raise RowError(f"has {len(cells)} columns, the header has {width}")
        held: dict[Column, list[str]] = {column: [] for column in Column}
        for i, column in columns.items():
            if i < len(cells):
                held[column].append(cells[i])

        def one(column: Column) -> str:
            return "".join(held[column])

        def many(column: Column, what: str) -> list[str]:
            parts = [part for cell in held[column] for part in cell.split("|") if part.strip()]
            return [checked(part, what) for part in parts]

        kind = name_kind(one(Column.KIND)) if has_kind else plain
        language = flat(one(Column.LANGUAGE), "language")
        source = flat(one(Column.SOURCE), "source")
        texts = [(checked(one(Column.NAME), "name"), kind)]
        texts += [(alias, NameKind.EXACT) for alias in many(Column.ALIASES, "alias")]
        return Entity(
            id=checked(one(Column.ID), "id"),
            names=tuple(
                Name(text=text, kind=kind, language=language, source=source) for text, kind in texts
            ),
            types=tuple(many(Column.TYPES, "type")),
            alternative_ids=tuple(many(Column.ALTERNATIVE_IDS, "alternative id")),
            cross_references=tuple(many(Column.CROSS_REFERENCES, "cross-reference")),
            description=flat(one(Column.DESCRIPTION)),
        )

    return parse
