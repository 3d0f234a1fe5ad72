"""Read the catalogue of entities and names. This module knows nothing of vectors."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from mirror_rt.errors import KnowledgeBaseError
from mirror_rt.knowledge.entities.names import KINDS
from mirror_rt.knowledge.entities.schema import CLOSE_KINDS, Pieces
from mirror_rt.types import Entity, Name, NameKind

__all__ = ["STANDARD_FIELDS", "Catalogue"]

_MAPPED = 1 << 40
"""Bytes of the file to map into memory: all, up to SQLite's own limit."""

_BEGINS = "id >= ?1 AND id < ?1 || char(1114111)"
"""The ids that start with a text, as a range, so that SQLite uses an index on them."""

_WITH = {
    "type": "SELECT entity FROM types WHERE type = ?1",
    "source": "SELECT DISTINCT entity FROM names WHERE source = ?1",
    "language": "SELECT DISTINCT entity FROM names WHERE language = ?1",
    "id": f"SELECT number FROM entities WHERE {_BEGINS}",
    "xref": f"SELECT DISTINCT entity FROM cross_references WHERE {_BEGINS}",
    "under": (
        "WITH RECURSIVE branch(number) AS (SELECT number FROM entities WHERE id = ?1 "
        "UNION SELECT entity FROM alternative_ids WHERE id = ?1 "
        "AND NOT EXISTS (SELECT 1 FROM entities WHERE id = ?1) "
        "UNION SELECT entity FROM parents WHERE id = ?1 "
        "UNION SELECT child FROM branch JOIN hierarchy ON parent = branch.number) "
        "SELECT number FROM branch"
    ),
    "description": "SELECT number FROM entities WHERE (description <> '') = (?1 = 'yes')",
}
"""The entities with a value in a field; ``under`` selects an entity and all its descendants."""
STANDARD_FIELDS = tuple(_WITH)
"""Fields of every entity. Any other field comes from ``Entity.fields``."""

_OF_NAMES = {"source", "language"}
"""Fields of names. They have few values, and no index."""

_WHOLE = re.compile(r"0|-?[1-9]\d*")
_CLOSENESS = (
    "CASE kind WHEN 'preferred' THEN 3 WHEN 'exact' THEN 2 WHEN 'abbreviation' THEN 1 ELSE 0 END"
)


class Catalogue:
    """A catalogue opened for reading; safe to open from many processes at once."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection = connection
        self._path = path
        self._one_of: dict[str, dict[str, int]] = {}

    @classmethod
    def open(cls, path: Path) -> Catalogue:
        """Open ``catalogue.sqlite`` read-only.

        Raises:
            KnowledgeBaseError: It is missing or not a catalogue.
        """
        if not path.is_file():
            raise KnowledgeBaseError(f"{path}: missing; build the knowledge base again")
        # immutable: the folder is only replaced as a whole, so SQLite needs no locks.
        uri = f"{path.absolute().as_uri()}?mode=ro&immutable=1"
        connection: sqlite3.Connection | None = None
        try:
            connection = sqlite3.connect(uri, uri=True, check_same_thread=False)
            # Memory-map the database: reads then need no system call.
            connection.execute(f"PRAGMA mmap_size={_MAPPED}")
            connection.execute("SELECT 1 FROM texts, names, entities LIMIT 1")
        except sqlite3.DatabaseError as error:
            if connection is not None:
                connection.close()
            raise KnowledgeBaseError(
                f"{path}: not a catalogue ({error}); build the knowledge base again"
            ) from error
        return cls(connection, path)

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def field_names(self) -> list[str]:
        """Return the fields of entities beside the standard ones."""
        return [field for (field,) in self._rows("SELECT DISTINCT field FROM fields", ())]

    def texts(self, *, start: int = 0, stop: int | None = None) -> list[str]:
        """Return the strings of vector rows ``start`` to ``stop`` (exclusive)."""
        stop = 1 << 62 if stop is None else stop
        sql = "SELECT text FROM texts WHERE row >= ? AND row < ? ORDER BY row"
        return [text for (text,) in self._rows(sql, (start, stop))]

    def named_texts(self, *, size: int = 16_384) -> Iterator[list[str]]:
        """Yield every distinct string in the order of rows, in pieces.

        A string that no longer names an entity is returned as an empty one.
        """
        read = self._connection.execute(
            "SELECT CASE WHEN row IN (SELECT row FROM names) THEN text ELSE '' END "
            "FROM texts ORDER BY row"
        )
        while block := [text for (text,) in read.fetchmany(size)]:
            yield block

    def names_of_rows(self) -> Iterator[tuple[int, int, int]]:
        """Yield (row, entity number, kind) of each name; a kind is a position in ``names.KINDS``.

        The order is by row, then by entity. If one string is several names of an entity, the
        closest kind is yielded; ``accepted`` is yielded in addition to it.
        """
        number_of = {kind.value: number for number, kind in enumerate(KINDS)}
        sql = (
            "SELECT row, entity, kind FROM names "
            f"ORDER BY row, entity, {_CLOSENESS} DESC, kind DESC"
        )
        last = (-1, -1)
        for row, entity, kind in self._connection.execute(sql):
            if (row, entity) != last or kind == NameKind.ACCEPTED.value:
                last = row, entity
                yield row, entity, number_of[kind]

    def close_names(self, *, without: Container[int] = ()) -> Iterator[tuple[int, int]]:
        """Yield (entity number, row) of each preferred, exact or abbreviated name.

        Args:
            without: Rows to leave out.
        """
        sql = f"SELECT entity, row FROM names WHERE kind IN ({CLOSE_KINDS}) ORDER BY entity, number"
        for entity, row in self._connection.execute(sql):
            if row not in without:
                yield entity, row

    def close_texts(self, entity: int) -> list[tuple[int, str]]:
        """Return (row, string) of the names of an entity that ``close_names`` yields, by row."""
        sql = (
            "SELECT DISTINCT row, text FROM names JOIN texts USING(row) WHERE entity = ? AND "
            f"kind IN ({CLOSE_KINDS}) ORDER BY row"
        )
        return self._rows(sql, (entity,))

    def largest_number(self) -> int:
        """Return the largest entity number."""
        (found,) = self._rows("SELECT max(number) FROM entities", ())[0]
        return int(found)

    def texts_of(self, rows: Iterable[int]) -> dict[int, str]:
        """Return the string of each row."""
        found: dict[int, str] = {}
        for some in _in_pieces(rows):
            sql = f"SELECT row, text FROM texts WHERE row IN ({_marks(some)})"
            found.update(self._rows(sql, some))
        return found

    def ids_and_names(self, entities: Iterable[int]) -> dict[int, tuple[str, str]]:
        """Return (id, preferred name) of each entity number."""
        found: dict[int, tuple[str, str]] = {}
        for some in _in_pieces(entities):
            sql = f"SELECT number, id, name FROM entities WHERE number IN ({_marks(some)})"
            found.update((number, (id_, name)) for number, id_, name in self._rows(sql, some))
        return found

    def types(self) -> list[tuple[str, int]]:
        """Return every type and the number of its entities, the most frequent first."""
        return self._rows(
            "SELECT type, count(*) AS n FROM types GROUP BY type ORDER BY n DESC, 1", ()
        )

    def ids_beginning(self, prefix: str, *, most: int) -> list[str]:
        """Return the first ids that start with a text, in ascending order."""
        sql = f"SELECT id FROM entities WHERE {_BEGINS} ORDER BY id LIMIT ?2"
        return [id_ for (id_,) in self._rows(sql, (prefix, most))]

    def about(self, ids: Sequence[str]) -> dict[str, tuple[str, tuple[str, ...], str]]:
        """Return (name, types, description) of the entities with these ids, by id."""
        found: dict[str, tuple[str, tuple[str, ...], str]] = {}
        for start in range(0, len(ids), 900):
            some = list(dict.fromkeys(ids[start : start + 900]))
            sql = "SELECT number, id, name, description FROM entities WHERE id IN "
            read = self._rows(f"{sql}({_marks(some)})", some)
            types: dict[int, list[str]] = {number: [] for number, *_ in read}
            sql = f"SELECT entity, type FROM types WHERE entity IN ({_marks(read)})"
            for entity, type_ in self._rows(sql, list(types)):
                types[entity].append(type_)
            found |= {
                id_: (name, tuple(types[n]), description) for n, id_, name, description in read
            }
        return found

    def entities_with(
        self, field: str, values: Sequence[str], *, most: int | None = None
    ) -> list[int]:
        """Return the entities (numbers, ascending) that have one of the values in a field.

        Args:
            field: A field as in ``filters.Filters``.
            values: The values; one of them must match.
            most: Look up at most this many entities per value, the lowest numbers.
        """
        limit = "" if most is None else f" ORDER BY 1 LIMIT {most}"
        found: set[int] = set()
        for value in values:
            if field in _OF_NAMES and most == 1:
                found.update(self._one_with(field, value))
            elif field in _WITH:
                read = self._rows(_WITH[field] + limit, [value])
                found.update(entity for (entity,) in read)
            sql = "SELECT entity FROM fields WHERE field = ? AND value = ?"
            for same in _written(value):
                found.update(entity for (entity,) in self._rows(sql + limit, [field, same]))
        return sorted(found)

    def _one_with(self, field: str, value: str) -> list[int]:
        """Return one entity with a value in a field of names, or none; only the first call scans.

        Otherwise a client could ask for any number of scans with values that do not occur.
        """
        if field not in self._one_of:
            sql = f"SELECT {field}, min(entity) FROM names GROUP BY {field}"
            self._one_of[field] = dict(self._rows(sql, ()))
        one = self._one_of[field].get(value)
        return [] if one is None else [one]

    def rows_of(self, entities: Sequence[int]) -> list[int]:
        """Return the rows of all names of the entities (numbers), ascending."""
        found: set[int] = set()
        for some in _in_pieces(entities):
            sql = f"SELECT DISTINCT row FROM names WHERE entity IN ({_marks(some)})"
            found.update(row for (row,) in self._rows(sql, some))
        return sorted(found)

    def resolve(self, id_: str) -> list[int]:
        """Return the entities (numbers) of an id: its own, else those that it was merged into."""
        own = self._rows("SELECT number FROM entities WHERE id = ?", (id_,))
        sql = "SELECT entity FROM alternative_ids WHERE id = ? ORDER BY entity"
        return [number for (number,) in own or self._rows(sql, (id_,))]

    def parents(self, number: int) -> set[int]:
        """Return the parents (numbers) of an entity, as the source file lists them."""
        found = self._rows("SELECT parent FROM hierarchy WHERE child = ?", (number,))
        return {parent for (parent,) in found}

    def ancestors(self, number: int) -> set[int]:
        """Return all ancestors (numbers) of an entity."""
        sql = (
            "WITH RECURSIVE above(number) AS (SELECT parent FROM hierarchy WHERE child = ?1 "
            "UNION SELECT parent FROM above JOIN hierarchy ON child = above.number) "
            "SELECT number FROM above"
        )
        return {found for (found,) in self._rows(sql, (number,))}

    def has_hierarchy(self) -> bool:
        """Return whether any entity has a parent."""
        return bool(self._rows("SELECT 1 FROM hierarchy LIMIT 1", ()))

    def entity(self, number: int) -> Entity:
        """Return an entity with all its fields, the names in the order they were read.

        Raises:
            KnowledgeBaseError: No entity has this number.
        """
        heading = self._rows("SELECT id, description FROM entities WHERE number = ?", (number,))
        if not heading:
            raise KnowledgeBaseError(f"{self._path}: no entity number {number}")
        names = self._rows(
            "SELECT text, kind, language, source FROM names JOIN texts USING(row) "
            "WHERE entity = ? ORDER BY names.number",
            (number,),
        )
        return Entity(
            id=heading[0][0],
            description=heading[0][1],
            names=tuple(
                Name(text=text, kind=NameKind(kind), language=language, source=source)
                for text, kind, language, source in names
            ),
            types=self._column("SELECT type FROM types WHERE entity = ?", number),
            alternative_ids=self._column("SELECT id FROM alternative_ids WHERE entity = ?", number),
            cross_references=self._column(
                "SELECT id FROM cross_references WHERE entity = ?", number
            ),
            parents=self._column("SELECT id FROM parents WHERE entity = ?", number),
            fields=tuple(self._rows("SELECT field, value FROM fields WHERE entity = ?", (number,))),
        )

    def entities(self) -> Iterator[Entity]:
        """Yield every entity, in the order they were read."""
        for (number,) in self._rows("SELECT number FROM entities ORDER BY number", ()):
            yield self.entity(number)

    def pieces(self) -> Iterator[Entity]:
        """Yield the entities as they were read: a build from them gives the same catalogue."""
        sql = "SELECT number FROM entities UNION SELECT entity FROM unsettled ORDER BY 1"
        for (number,) in self._rows(sql, ()):
            kept = self._rows("SELECT content FROM unsettled WHERE entity = ?", (number,))
            entity = _from_json(kept[0][0]) if kept else self.entity(number)
            several = self._rows("SELECT pieces FROM several WHERE entity = ?", (number,))
            if several:
                listings = self._rows(
                    "SELECT alternative, piece, text, language, source FROM listings "
                    "JOIN texts USING(row) WHERE entity = ?",
                    (number,),
                )
                same = {f.name: getattr(entity, f.name) for f in fields(Entity)}
                entity = Pieces(**same, pieces=several[0][0], listings=tuple(listings))
            yield entity

    def _column(self, sql: str, value: int) -> tuple[str, ...]:
        return tuple(text for (text,) in self._rows(sql, (value,)))

    def _rows(self, sql: str, values: Sequence[object]) -> list[tuple]:  # type: ignore[type-arg]
        try:
            return self._connection.execute(sql, tuple(values)).fetchall()
        except sqlite3.DatabaseError as error:
            raise KnowledgeBaseError(
                f"{self._path}: damaged ({error}); build the knowledge base again"
            ) from error


def _from_json(content: str) -> Entity:
    given: dict[str, Any] = json.loads(content)
    names = [Name(**name | {"kind": NameKind(name["kind"])}) for name in given["names"]]
    given["fields"] = [tuple(pair) for pair in given["fields"]]
    given |= {field: tuple(v) for field, v in given.items() if isinstance(v, list)}
    return Entity(**given | {"names": tuple(names)})


def _written(value: str) -> list[str]:
    """Return the ways to write a value: a whole number with and without a decimal point.

    >>> _written("2021.0"), _written("7"), _written("1.10"), _written("007")
    (['2021.0', '2021'], ['7', '7.0'], ['1.10'], ['007'])
    """
    whole = value.removesuffix(".0")
    if not _WHOLE.fullmatch(whole):
        return [value]
    return [value, f"{value}.0" if whole == value else whole]


def _in_pieces(values: Iterable[int], *, size: int = 900) -> Iterator[list[int]]:
    distinct = sorted({*map(int, values)})
    for start in range(0, len(distinct), size):
        yield distinct[start : start + size]


def _marks(values: Sequence[object]) -> str:
    return ",".join("?" * len(values))
