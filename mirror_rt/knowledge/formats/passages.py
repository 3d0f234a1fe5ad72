"""Passages: texts to search, stored like the entities of a knowledge base.

A passage is stored as an entity. The names are its text, or the pieces of it; the title is the
preferred name; the original text is the description; metadata are fields.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from mirror_rt._count import counted
from mirror_rt.encodings import lone_surrogate
from mirror_rt.errors import ConfigError, InputError
from mirror_rt.knowledge.formats._columns import Columns
from mirror_rt.knowledge.formats._rows import RowError, SkippedRows, checked, each, flat
from mirror_rt.knowledge.formats.tables import field_values
from mirror_rt.tables import (
    ArrowTable,
    Cells,
    Column,
    FileFormat,
    Notes,
    Table,
    TableOptions,
    cell_text,
    heading_key,
    known,
)
from mirror_rt.textfiles import StrPath
from mirror_rt.types import Entity, Name, NameKind, Passage

__all__ = ["as_entities", "passage_of", "read_passages"]


def read_passages(
    path: StrPath | ArrowTable,
    *,
    skip_bad: SkippedRows | None = None,
    columns: Columns | None = None,
    options: TableOptions | None = None,
) -> Iterator[Passage]:
    """Read passages: ``id``, ``text`` and optionally ``title``; other fields are metadata.

    Args:
        path: A table in any format, compressed or not; a pipe; or a table in memory.
        skip_bad: Counts bad rows, instead of stopping at the first; and omitted metadata:
            values over 200 characters, objects, nested lists. None to stop at a bad row.
        columns: The columns of the id and (as ``name``) of the text; None to detect them.
        options: Options for reading the table, if its name and content are not enough.

    Raises:
        InputError: It cannot be read, contains no passage, or a row is bad: no id, a repeated
            id, no text, not UTF-8. The message names the row.
    """
    skipped = skip_bad if skip_bad is not None else SkippedRows(strict=True)
    columns, notes = columns or Columns(), Notes()
    seen: set[str] = set()
    table = Table(path, options=options, default=FileFormat.CSV, notes=notes)
    table.take_headings()
    if not table.headings and not table.head:
        raise InputError(f"{table.shown}: holds no passage; give rows of id and text")
    roles = _roles(table, columns)

    def parse(cells: Cells | RowError) -> Passage | None:
        nonlocal roles
        if isinstance(cells, RowError):
            raise cells
        if table.is_blank(cells):
            return None
        if len(table.headings) > roles.width:
            roles = _roles(table, columns)
        passage = _passage(cells, table.headings, roles, skipped)
        if passage.id in seen:
            raise RowError(_repeated(passage.id))
        seen.add(passage.id)
        return passage

    yield from each(table.shown, table.rows(), parse, skipped, unit=table.unit)
    skipped.repeated_headings += notes.repeated_headings
    skipped.remarks += notes.remarks
    if not seen:
        because = (
            f" ({counted(skipped.bad, 'bad row')}, first: {skipped.messages[0]})"
            if skipped.bad
            else ""
        )
        raise InputError(f"{table.shown}: holds no passage{because}; give rows of id and text")


def as_entities(passages: Iterable[Passage], *, split: int | None = None) -> Iterator[Entity]:
    """Convert passages to entities.

    Args:
        passages: The passages.
        split: Split the text into names of this many words, instead of one name.

    Raises:
        ConfigError: ``split`` is not positive.
        InputError: A passage has no text, a repeated id, or a lone surrogate.
    """
    if split is not None and split < 1:
        raise ConfigError(f"split: must be at least 1 word, got {split}")
    seen: set[str] = set()
    for number, passage in enumerate(passages, 1):
        if not isinstance(passage, Passage):  # from Python
            raise InputError(
                f"passage {number}: is a {type(passage).__name__}; give Passage objects or a file"
            )
        if passage.id in seen:
            raise InputError(_repeated(passage.id))
        seen.add(passage.id)
        if lone_surrogate(passage.text + passage.title) is not None:
            raise InputError(f"passage {passage.id!r}: holds a lone surrogate")
        text, title = flat(passage.text), flat(passage.title)
        if not text:
            raise InputError(f"passage {passage.id!r}: no text")
        words = text.split(" ")
        size = split or len(words)
        pieces = [" ".join(words[i : i + size]) for i in range(0, len(words), size)]
        preferred = [Name(text=title, kind=NameKind.PREFERRED)] if title else []
        yield Entity(
            id=passage.id,
            names=(*preferred, *(Name(text=piece) for piece in pieces)),
            description=passage.text,
            fields=passage.metadata,
        )


def passage_of(entity: Entity) -> Passage:
    """Return the passage of an entity."""
    first = entity.names[0]
    return Passage(
        id=entity.id,
        text=entity.description,
        title=first.text if first.kind is NameKind.PREFERRED else "",
        metadata=entity.fields,
    )


def _repeated(id_: str) -> str:
    return f"the id {id_!r} was there before; each passage needs its own"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Roles:
    """The columns of id, text and title; None if JSON lines do not have them yet."""

    width: int
    id: int | None
    text: int | None
    title: int | None


def _roles(table: Table, columns: Columns) -> _Roles:
    def find(named: str | None, column: Column, plainest: str) -> int | None:
        if named is not None:
            return table.place(named)
        found = known(table.headings, column)
        plain = [i for i in found if heading_key(table.headings[i]) == plainest]
        return next(iter(plain or found), None)

    roles = _Roles(
        width=len(table.headings),
        id=find(columns.id, Column.ID, "id"),
        text=find(columns.name, Column.TEXT, "text"),
        title=find(None, Column.TITLE, "title"),
    )
    if (roles.id is None or roles.text is None) and table.kind is not FileFormat.JSONL:
        there = ", ".join(table.headings)
        raise InputError(
            f"{table.shown}: the headings must name the columns id and text; there are: {there}; "
            "choose with --id-column and --name-column"
        )
    return roles


def _passage(cells: Cells, headings: list[str], roles: _Roles, skipped: SkippedRows) -> Passage:
    def text_of(place: int | None, what: str) -> str:
        cell = None if place is None else cells[place]
        whole = isinstance(cell, int) or (isinstance(cell, float) and what == "id")
        return cell_text(cell, what, numbers=whole)

    id_, text, title = (
        text_of(place, what)
        for place, what in ((roles.id, "id"), (roles.text, "text"), (roles.title, "title"))
    )
    if not flat(text):
        raise RowError("no text")
    fields: list[tuple[str, str]] = []
    lost = 0
    for place, cell in enumerate(cells):
        if place not in (roles.id, roles.text, roles.title):
            values, useless = field_values(cell)
            fields += [(headings[place].strip(), value) for value in values]
            lost += useless
    passage = Passage(id=checked(id_, "id"), text=text, title=flat(title), metadata=tuple(fields))
    skipped.metadata += lost
    return passage
