"""The catalogue: entities and their names in one SQLite file. Knows nothing of vectors.

::

    entities(number, id, name, description)      number from 0, in the order read
    texts(row, text, normalised, loose)          each distinct string once; row = row of the vectors
    names(number, entity, row, kind, language, source)
    types(entity, type)  alternative_ids(id, entity)  cross_references(entity, id)

What a later change needs to end where a build from the same pieces does::

    several(entity, pieces)                      entities read in more pieces than one
    listings(entity, alternative, piece, row, language, source)     which of them listed an id
    unsettled(entity, content)                   entities before ids they share were settled
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import combinations, groupby, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mirror_rt.errors import InputError, KnowledgeBaseError
from mirror_rt.knowledge.grades import loose_key
from mirror_rt.knowledge.normalise import normalise
from mirror_rt.knowledge.reserve import is_reserved
from mirror_rt.textfiles import lone_surrogate
from mirror_rt.types import Entity, Name, NameKind

if TYPE_CHECKING:
    import numpy as np

__all__ = ["Catalogue", "Counts", "NameMatch", "TextRow", "write_catalogue"]

_SCHEMA = """
CREATE TABLE entities(number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE,
                      name TEXT NOT NULL, description TEXT NOT NULL);
CREATE TABLE texts(row INTEGER PRIMARY KEY, text TEXT NOT NULL, normalised TEXT NOT NULL,
                   loose TEXT NOT NULL);
CREATE TABLE names(number INTEGER PRIMARY KEY, entity INTEGER NOT NULL, row INTEGER NOT NULL,
                   kind TEXT NOT NULL, language TEXT NOT NULL, source TEXT NOT NULL,
                   UNIQUE(entity, row, kind, language, source));
CREATE TABLE types(entity INTEGER NOT NULL, type TEXT NOT NULL,
                   PRIMARY KEY(entity, type)) WITHOUT ROWID;
CREATE TABLE alternative_ids(id TEXT NOT NULL, entity INTEGER NOT NULL,
                             PRIMARY KEY(id, entity)) WITHOUT ROWID;
CREATE TABLE cross_references(entity INTEGER NOT NULL, id TEXT NOT NULL,
                              PRIMARY KEY(entity, id)) WITHOUT ROWID;
CREATE TABLE unsettled(entity INTEGER PRIMARY KEY, content TEXT NOT NULL);
"""
_SCRATCH = """
CREATE TEMP TABLE pieces_listing(entity INTEGER, alternative TEXT, piece INTEGER, row INTEGER,
                                 language TEXT, source TEXT);
CREATE INDEX temp.pieces_listing_pair ON pieces_listing(entity, alternative);
CREATE TEMP TABLE piece_counts(entity INTEGER PRIMARY KEY, pieces INTEGER);
"""
_KEEP_SCRATCH = """
CREATE TABLE several AS SELECT * FROM piece_counts WHERE pieces > 1;
CREATE TABLE listings AS SELECT * FROM pieces_listing WHERE entity IN (SELECT entity FROM several);
CREATE INDEX several_entity ON several(entity);
CREATE INDEX listings_entity ON listings(entity);
DROP TABLE pieces_listing;
DROP TABLE piece_counts;
"""
_INDEXES = """
CREATE INDEX texts_normalised ON texts(normalised);
CREATE INDEX texts_loose ON texts(loose);
CREATE INDEX names_row ON names(row);
CREATE INDEX types_type ON types(type);
CREATE INDEX alternative_ids_entity ON alternative_ids(entity);
"""
_CLOSE_KINDS = "'preferred', 'exact', 'abbreviation'"
_CLOSEST_LAST = (
    "CASE kind WHEN 'preferred' THEN 3 WHEN 'exact' THEN 2 WHEN 'abbreviation' THEN 1 ELSE 0 END"
)
_ENOUGH_UNSEEN = 200
_MAPPED = 1 << 40
"""Bytes of the file to map: all of it, as far as SQLite allows."""
_KINDS = {kind.value: kind for kind in NameKind}
_PREFERRED_FIRST = "CASE kind WHEN 'preferred' THEN 0 ELSE 1 END"

_WITH = {
    "type": "SELECT entity FROM types WHERE type = ?1",
    "source": "SELECT DISTINCT entity FROM names WHERE source = ?1",
    "language": "SELECT DISTINCT entity FROM names WHERE language = ?1",
    "id": "SELECT number FROM entities WHERE substr(id, 1, length(?1)) = ?1",
    "xref": "SELECT DISTINCT entity FROM cross_references WHERE substr(id, 1, length(?1)) = ?1",
    "description": "SELECT number FROM entities WHERE (description <> '') = (?1 = 'yes')",
}
"""The entities with a value in a field."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What went into a catalogue: ``names_read == names + repeated_names``.

    Attributes:
        pieces: Entities as the reader gave them.
        entities: Entities after pieces with the same id were joined.
        names_read: Names in those pieces.
        names: Names stored.
        repeated_names: Names that the same entity had already, alike in every field.
        texts: Distinct strings, one vector each; ``unused_texts`` of them name nothing any more.
        unused_texts: Strings kept for their rows' sake after the last entity they named went.
        ambiguous_texts: Strings that name more than one entity.
        shared_names: Names given to a second entity as well: a piece listed that entity's own
            id as an alternative, which other pieces of the first did not (``A|B||name``).
        joined_entities: Entities that another one, of more pieces, lists as itself.
        shadowed_ids: Alternative ids that are another entity's own id, which goes first.
        further_descriptions: Descriptions left out, as their entity was read with another.
    """

    pieces: int
    entities: int
    names_read: int
    names: int
    repeated_names: int
    texts: int
    unused_texts: int
    ambiguous_texts: int
    shared_names: int
    joined_entities: int
    shadowed_ids: int
    further_descriptions: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NameMatch:
    """An entity that bears a name.

    Attributes:
        entity: Its number.
        text: The name as stored.
        row: The row of the name's vector.
        kind: What the name is to the entity.
    """

    entity: int
    text: str
    row: int
    kind: NameKind


@dataclass(frozen=True, slots=True, kw_only=True)
class TextRow:
    """A distinct string and what its names are.

    Attributes:
        text: The string.
        normalised: Its normalised form.
        loose: Its key for plural, accents and word order.
        holders: Entity number → the closest kind of name the string is to it, by number.
    """

    text: str
    normalised: str
    loose: str
    holders: Mapping[int, NameKind]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pieces(Entity):
    """An entity read in several pieces, as a catalogue gives it back.

    Attributes:
        pieces: How many.
        listings: (alternative id, number of the piece, string, language, source) of each name
            in a piece that listed an alternative id.
    """

    pieces: int
    listings: tuple[tuple[str, int, str, str, str], ...]


def write_catalogue(
    entities: Iterable[Entity], path: Path, *, first_texts: Iterable[str] = ()
) -> Counts:
    """Write a new catalogue from a stream of entities.

    Args:
        entities: The entities; pieces with the same id are joined.
        path: The file to write.
        first_texts: Strings that get the first rows, in this order, named by an entity or not:
            those of a catalogue whose rows an index goes on to use.

    Raises:
        InputError: There is no entity, one has no id or no name, a name is empty, or one
            of them holds a control character or a lone surrogate.
    """
    connection = sqlite3.connect(path)
    try:
        # The file is in a staging folder: if we die it is thrown away, so no journal is needed.
        connection.executescript(
            "PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF;" + _SCHEMA + _SCRATCH
        )
        counts = _fill(connection, entities, first_texts)
        connection.executescript(_INDEXES)
        settled = _settle_shared_ids(connection)
        connection.execute("ANALYZE")
        connection.execute(
            "UPDATE entities SET name = (SELECT text FROM names JOIN texts USING(row) "
            f"WHERE entity = entities.number ORDER BY {_PREFERRED_FIRST}, names.number LIMIT 1)"
        )
        ambiguous = connection.execute(
            "SELECT count(*) FROM (SELECT row FROM names GROUP BY row "
            "HAVING count(DISTINCT entity) > 1)"
        ).fetchone()[0]
        shadowed = connection.execute(
            "SELECT count(*) FROM alternative_ids JOIN entities USING(id)"
        ).fetchone()[0]
        counts["entities"] -= settled["joined_entities"]
        (stored,) = connection.execute("SELECT count(*) FROM names").fetchone()
        counts["names"] = stored - settled["shared_names"]
        counts["repeated_names"] = counts["names_read"] - counts["names"]
        connection.commit()
    finally:
        connection.close()
    return Counts(**counts, **settled, ambiguous_texts=ambiguous, shadowed_ids=shadowed)


def _settle_shared_ids(connection: sqlite3.Connection) -> dict[str, int]:
    """Decide what it means that an entity lists another one's own id as an alternative.

    Listed with some of its names only: those are names of both (a homonym, ``A|B||name``).
    With all of them: the same thing under two ids, and the one with fewer pieces joins the
    one with more; if it is the smaller one that lists, its names are names of both. Two
    alike in size stay apart, each under its own id.
    """
    found = connection.execute(
        "SELECT listing.entity, number, count(DISTINCT piece), mine.pieces, other.pieces "
        "FROM pieces_listing AS listing JOIN entities ON entities.id = alternative "
        "JOIN piece_counts AS mine ON mine.entity = listing.entity "
        "JOIN piece_counts AS other ON other.entity = number GROUP BY listing.entity, number"
    ).fetchall()
    joins = {o: e for e, o, listed, mine, other in found if listed == mine and mine > other}
    shares = [(e, o) for e, o, listed, mine, other in found if listed < mine or mine < other]
    catalogue = Catalogue(connection, Path())
    connection.executemany(
        "INSERT INTO unsettled VALUES(?, ?)",
        [
            (number, json.dumps(asdict(catalogue.entity(number)), default=lambda kind: kind.value))
            for number in sorted({n for pair in (*joins.items(), *shares) for n in pair})
        ],
    )
    shared = 0
    for entity, other in shares:
        shared += connection.execute(
            "INSERT OR IGNORE INTO names(entity, row, kind, language, source) "
            "SELECT ?, row, 'exact', language, source FROM pieces_listing JOIN entities "
            "ON entities.id = alternative WHERE entity = ? AND number = ?",
            (other, entity, other),
        ).rowcount
        connection.execute(
            "DELETE FROM alternative_ids WHERE entity = ? AND id = "
            "(SELECT id FROM entities WHERE number = ?)",
            (entity, other),
        )
    for other in joins:
        entity = other
        while entity in joins:  # ends: pieces grow with every step
            entity = joins[entity]
        connection.execute(
            "UPDATE OR IGNORE names SET kind = 'exact' WHERE entity = ? AND kind = 'preferred'",
            (other,),
        )
        # What is left of them is an exact synonym already.
        connection.execute("DELETE FROM names WHERE entity = ? AND kind = 'preferred'", (other,))
        connection.execute(
            "INSERT OR IGNORE INTO alternative_ids(id, entity) "
            "SELECT id, ? FROM entities WHERE number = ?",
            (entity, other),
        )
        for table in ("names", "types", "alternative_ids", "cross_references"):
            connection.execute(
                f"UPDATE OR IGNORE {table} SET entity = ? WHERE entity = ?", (entity, other)
            )
            connection.execute(f"DELETE FROM {table} WHERE entity = ?", (other,))
        connection.execute(
            "UPDATE entities SET description = (SELECT description FROM entities WHERE number = ?) "
            "WHERE number = ? AND description = ''",
            (other, entity),
        )
        connection.execute("DELETE FROM entities WHERE number = ?", (other,))
    connection.executescript(_KEEP_SCRATCH)
    return {"shared_names": shared, "joined_entities": len(joins)}


def _fill(
    connection: sqlite3.Connection, entities: Iterable[Entity], first_texts: Iterable[str]
) -> dict[str, int]:
    numbers: dict[str, int] = {}
    rows: dict[str, int] = {}

    def row_of(text: str) -> int:
        row = rows.get(text)
        if row is None:
            row = rows[text] = len(rows)
            folded = normalise(text)
            connection.execute(
                "INSERT INTO texts VALUES(?, ?, ?, ?)", (row, text, folded, loose_key(folded))
            )
        return row

    for text in first_texts:
        row_of(text)
    pieces_of: dict[int, int] = {}
    pieces = names_read = names = further_descriptions = 0
    for piece in entities:
        _check(piece)
        names_read += len(piece.names)
        number = numbers.get(piece.id)
        if number is None:
            number = numbers[piece.id] = len(numbers)
            connection.execute("INSERT INTO entities VALUES(?, ?, '', '')", (number, piece.id))
        read = piece.pieces if isinstance(piece, Pieces) else 1
        pieces += read
        ordinal = pieces_of[number] = pieces_of.get(number, 0) + read
        if piece.description:
            kept = connection.execute(
                "UPDATE entities SET description = ?1 "
                "WHERE number = ?2 AND description IN ('', ?1)",
                (piece.description, number),
            ).rowcount
            further_descriptions += not kept
        for name in piece.names:
            row = row_of(name.text)
            names += connection.execute(
                "INSERT OR IGNORE INTO names(entity, row, kind, language, source) "
                "VALUES(?, ?, ?, ?, ?)",
                (number, row, name.kind.value, name.language, name.source),
            ).rowcount
        connection.executemany(
            "INSERT INTO pieces_listing VALUES(?, ?, ?, ?, ?, ?)",
            [
                (number, other, listing, row_of(text), language, source)
                for other, listing, text, language, source in _listings(piece, ordinal)
            ],
        )
        for table, values in (
            ("types(entity, type)", piece.types),
            ("alternative_ids(entity, id)", [i for i in piece.alternative_ids if i != piece.id]),
            ("cross_references(entity, id)", piece.cross_references),
        ):
            if values:
                connection.executemany(
                    f"INSERT OR IGNORE INTO {table} VALUES(?, ?)", [(number, v) for v in values]
                )
    connection.executemany("INSERT INTO piece_counts VALUES(?, ?)", pieces_of.items())
    if not numbers:
        raise InputError("the knowledge base has no entity; give rows of id and name")
    return {
        "pieces": pieces,
        "entities": len(numbers),
        "names_read": names_read,
        "names": names,
        "repeated_names": names_read - names,
        "further_descriptions": further_descriptions,
        "texts": len(rows),
        "unused_texts": connection.execute(
            "SELECT (SELECT count(*) FROM texts) - (SELECT count(DISTINCT row) FROM names)"
        ).fetchone()[0],
    }


def _listings(piece: Entity, ordinal: int) -> Iterable[tuple[str, int, str, str, str]]:
    if isinstance(piece, Pieces):
        return piece.listings
    others = [other for other in piece.alternative_ids if other != piece.id]
    return [(o, ordinal, n.text, n.language, n.source) for o in others for n in piece.names]


def _check(piece: Entity) -> None:
    if not piece.id.strip():
        shown = piece.names[0].text[:40] if piece.names else ""
        raise InputError(f"an entity without id (name {shown!r}); every row needs an id")
    if not piece.names:
        raise InputError(f"{piece.id}: an entity without a name; every row needs a name")
    tags = {tag for n in piece.names for tag in (n.text, n.language, n.source)}
    others = (*piece.types, *piece.alternative_ids, *piece.cross_references)
    for text in (piece.id, piece.description, *tags, *others):
        if lone_surrogate(text) is not None:
            raise InputError(f"{piece.id!r}: a lone surrogate in {text[:40]!r}")
    for name in piece.names:
        if not name.text.strip():
            raise InputError(f"{piece.id}: an empty name; remove the row or give it a name")
        if _has_control(name.text):
            raise InputError(f"{piece.id}: a control character in the name {name.text[:40]!r}")
    if _has_control(piece.id):
        raise InputError(f"{piece.id!r}: a control character in the id")


def _has_control(text: str) -> bool:
    return not text.isprintable() and any(ord(s) < 32 or 127 <= ord(s) < 160 for s in text)


class Catalogue:
    """A catalogue opened for reading; safe to open from many processes at once."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection = connection
        self._path = path

    @classmethod
    def open(cls, path: Path) -> Catalogue:
        """Open ``catalogue.sqlite`` read-only.

        Raises:
            KnowledgeBaseError: It is missing or not a catalogue.
        """
        if not path.is_file():
            raise KnowledgeBaseError(f"{path}: missing; build the knowledge base again")
        # immutable: the folder is replaced as a whole, never written in place, so no locks.
        uri = f"{path.absolute().as_uri()}?mode=ro&immutable=1"
        connection: sqlite3.Connection | None = None
        try:
            connection = sqlite3.connect(uri, uri=True, check_same_thread=False)
            # Mapped, as the other files are: a page more to read is no call to the system.
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
        """Give the file back."""
        self._connection.close()

    def texts(self, *, start: int = 0, stop: int | None = None) -> list[str]:
        """Return the strings of vector rows ``start`` to ``stop`` (exclusive)."""
        stop = 1 << 62 if stop is None else stop
        sql = "SELECT text FROM texts WHERE row >= ? AND row < ? ORDER BY row"
        return [text for (text,) in self._rows(sql, (start, stop))]

    def by_name(self, normalised: str) -> list[NameMatch]:
        """Return who bears a name equal to ``normalised`` once normalised, preferred names first.

        One match for each entity and string.
        """
        sql = (
            f"SELECT entity, text, row, kind FROM texts JOIN names USING(row) "
            f"WHERE normalised = ? ORDER BY {_PREFERRED_FIRST}, entity, names.number"
        )
        found: dict[tuple[int, int], NameMatch] = {}
        for entity, text, row, kind in self._rows(sql, (normalised,)):
            match = NameMatch(entity=entity, text=text, row=row, kind=NameKind(kind))
            found.setdefault((entity, row), match)
        return list(found.values())

    def normalised_blocks(self, *, size: int = 16_384) -> Iterator[list[str]]:
        """Yield the normalised form of every distinct string, in the order of rows, in pieces.

        A string that names nothing any more is empty, so that no letters lead to it.
        """
        read = self._connection.execute(
            "SELECT CASE WHEN row IN (SELECT row FROM names) THEN normalised ELSE '' END "
            "FROM texts ORDER BY row"
        )
        while block := [text for (text,) in read.fetchmany(size)]:
            yield block

    def loose_keys(self) -> Iterator[str]:
        """Yield the loose key of every distinct string that names something, in row order."""
        sql = "SELECT loose FROM texts WHERE row IN (SELECT row FROM names) ORDER BY row"
        for (key,) in self._connection.execute(sql):
            yield key

    def alias_pairs(
        self, without: Container[int], *, each: int = 8, most: int = 500_000
    ) -> Iterator[tuple[str, str]]:
        """Yield loose keys of two names of one entity, at most ``each`` pairs an entity.

        Args:
            without: Rows of names to leave out.
            each: Pairs of an entity.
            most: Pairs in all.
        """
        sql = (
            "SELECT entity, row, loose FROM names JOIN texts USING(row) WHERE kind IN "
            f"({_CLOSE_KINDS}) ORDER BY entity, names.number"
        )
        read = self._connection.execute(sql)
        left = most
        for _, names in groupby(read, key=lambda record: int(record[0])):
            keys = dict.fromkeys(key for _, row, key in names if row not in without)
            for pair in islice(combinations(keys, 2), min(each, left)):
                left -= 1
                yield pair

    def by_loose(self, key: str) -> list[int]:
        """Return the rows of the names with this key (see ``grades.loose_key``)."""
        if not key:
            return []
        named = "EXISTS (SELECT 1 FROM names WHERE names.row = texts.row)"
        sql = f"SELECT row FROM texts WHERE loose = ? AND {named}"
        return [row for (row,) in self._rows(sql, (key,))]

    def held_out_pairs(self, count: int, rng: np.random.Generator) -> list[tuple[int, int]]:
        """Return up to ``count`` (row, entity), one an entity with more names, none ambiguous.

        Names that training leaves unseen (see ``reserve``) come first; of others there are only
        as many as are missing to ``count``, and none where the unseen are enough to learn from.
        """
        (most,) = self._rows("SELECT max(number) FROM entities", ())[0]
        unseen: list[tuple[int, int]] = []
        others: list[tuple[int, int]] = []
        sql = (
            "SELECT DISTINCT row, text FROM names JOIN texts USING(row) WHERE entity = ? AND "
            f"kind IN ({_CLOSE_KINDS}) ORDER BY row"
        )
        holders = "SELECT 1 FROM names WHERE row = ? AND entity <> ? LIMIT 1"
        for entity in rng.permutation(most + 1)[: 40 * count].tolist():
            found = self._rows(sql, (entity,))
            if len(found) < 2:
                continue
            reserved = [row for row, text in found if is_reserved(text)]
            rows = reserved or [row for row, _ in found]
            row = rows[int(rng.integers(len(rows)))]
            if not self._rows(holders, (row, entity)):
                (unseen if reserved else others).append((row, entity))
            if len(unseen) == count:
                break
        return unseen if len(unseen) >= _ENOUGH_UNSEEN else [*unseen, *others][:count]

    def text_rows(self, rows: Sequence[int]) -> dict[int, TextRow]:
        """Return the string of each vector row with its holders."""
        found: dict[int, TextRow] = {}
        for piece in _pieces(rows):
            holders: dict[int, dict[int, NameKind]] = {row: {} for row in piece}
            sql = f"SELECT row, entity, kind FROM names WHERE row IN ({_marks(piece)})"
            # The weakest kinds first, so that the closest one is what stays.
            for row, entity, kind in self._rows(f"{sql} ORDER BY {_CLOSEST_LAST}, entity", piece):
                holders[row][entity] = _KINDS[kind]
            sql = f"SELECT row, text, normalised, loose FROM texts WHERE row IN ({_marks(piece)})"
            for row, text, normalised, loose in self._rows(sql, piece):
                mine = dict(sorted(holders[row].items()))
                found[row] = TextRow(text=text, normalised=normalised, loose=loose, holders=mine)
        return found

    def headings(self, entities: Sequence[int]) -> dict[int, tuple[str, str]]:
        """Return (id, preferred name) of each entity number."""
        found: dict[int, tuple[str, str]] = {}
        for piece in _pieces(entities):
            sql = f"SELECT number, id, name FROM entities WHERE number IN ({_marks(piece)})"
            found.update((number, (id_, name)) for number, id_, name in self._rows(sql, piece))
        return found

    def entities_with(
        self, field: str, values: Sequence[str], *, most: int | None = None
    ) -> list[int]:
        """Return the entities (numbers, ascending) that have one of the values in a field.

        Args:
            field: As in ``filters.Filters``.
            values: What is looked for.
            most: Stop at so many.
        """
        limit = "" if most is None else f" LIMIT {most}"
        found: set[int] = set()
        for value in values:
            # Metadata of a passage is kept as a type.
            for sql, asked in ((_WITH.get(field), value), (_WITH["type"], f"{field}={value}")):
                if sql is not None:
                    found.update(entity for (entity,) in self._rows(sql + limit, [asked]))
        return sorted(found)

    def rows_of(self, entities: Sequence[int]) -> list[int]:
        """Return the rows of all names of the entities (numbers), ascending."""
        found: set[int] = set()
        for piece in _pieces(entities):
            sql = f"SELECT DISTINCT row FROM names WHERE entity IN ({_marks(piece)})"
            found.update(row for (row,) in self._rows(sql, piece))
        return sorted(found)

    def resolve(self, id_: str) -> list[int]:
        """Return the entities (numbers) an id means: its own, else those it was merged into."""
        own = self._rows("SELECT number FROM entities WHERE id = ?", (id_,))
        sql = "SELECT entity FROM alternative_ids WHERE id = ? ORDER BY entity"
        return [number for (number,) in own or self._rows(sql, (id_,))]

    def entity(self, number: int) -> Entity:
        """Return an entity whole, its names in the order read.

        Raises:
            KnowledgeBaseError: There is no such number.
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
        )

    def entities(self) -> Iterator[Entity]:
        """Yield every entity, in the order read."""
        for (number,) in self._rows("SELECT number FROM entities ORDER BY number", ()):
            yield self.entity(number)

    def pieces(self) -> Iterator[Entity]:
        """Yield every entity as it was read, of which a build makes this catalogue again."""
        tables = "SELECT 1 FROM sqlite_master WHERE name = 'unsettled'"
        if not self._rows(tables, ()):  # of an older version
            yield from self.entities()
            return
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
    given |= {field: tuple(v) for field, v in given.items() if isinstance(v, list)}
    return Entity(**given | {"names": tuple(names)})


def _pieces(values: Sequence[int], *, size: int = 900) -> Iterator[list[int]]:
    distinct = sorted({int(value) for value in values})
    for start in range(0, len(distinct), size):
        yield distinct[start : start + size]


def _marks(values: Sequence[int]) -> str:
    return ",".join("?" * len(values))
