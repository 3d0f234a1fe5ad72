"""Write a catalogue from a stream of entities."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from mirror_rt.encodings import lone_surrogate
from mirror_rt.errors import InputError
from mirror_rt.knowledge.entities.reader import Catalogue
from mirror_rt.knowledge.entities.schema import (
    HIERARCHY,
    INDEXES,
    KEEP_SCRATCH,
    PREFERRED_FIRST,
    SCHEMA,
    SCRATCH,
    BuildCounts,
    Pieces,
)
from mirror_rt.types import Entity

__all__ = ["write_catalogue"]

_AT_ONCE = 16_384
"""Names per insert statement."""


def write_catalogue(
    entities: Iterable[Entity], path: Path, *, first_texts: Iterable[str] = ()
) -> BuildCounts:
    """Write a new catalogue from a stream of entities.

    Args:
        entities: The entities; pieces with the same id are joined.
        path: The file to write.
        first_texts: Strings that get the first rows, in this order, even if no entity has them.
            An index that is reused needs the rows of its catalogue.

    Raises:
        InputError: There is no entity, an entity has no id or no name, a name is empty, or a
            string contains a control character or a lone surrogate.
    """
    connection = sqlite3.connect(path)
    try:
        # The file is in a staging folder, which is deleted after a crash. No journal is needed.
        connection.executescript(
            "PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF;" + SCHEMA + SCRATCH
        )
        counts = _fill(connection, entities, first_texts)
        connection.executescript(INDEXES)
        settled = _settle_shared_ids(connection)
        connection.executescript(HIERARCHY)
        connection.execute("ANALYZE")
        connection.execute(
            "UPDATE entities SET name = (SELECT text FROM names JOIN texts USING(row) "
            f"WHERE entity = entities.number ORDER BY {PREFERRED_FIRST}, names.number LIMIT 1)"
        )
        ambiguous = connection.execute(
            "SELECT count(*) FROM (SELECT row FROM names GROUP BY row "
            "HAVING count(DISTINCT entity) > 1)"
        ).fetchone()[0]
        shadowed = connection.execute(
            "SELECT count(*) FROM alternative_ids JOIN entities USING(id)"
        ).fetchone()[0]
        (missing_parents,) = connection.execute(
            "SELECT count(DISTINCT id) FROM parents WHERE id NOT IN (SELECT id FROM entities) "
            "AND id NOT IN (SELECT id FROM alternative_ids)"
        ).fetchone()
        counts["entities"] -= settled["joined_entities"]
        (stored,) = connection.execute("SELECT count(*) FROM names").fetchone()
        counts["names"] = stored - settled["shared_names"]
        counts["repeated_names"] = counts["names_read"] - counts["names"]
        connection.commit()
    finally:
        connection.close()
    return BuildCounts(
        **counts,
        **settled,
        ambiguous_texts=ambiguous,
        shadowed_ids=shadowed,
        missing_parents=missing_parents,
    )


def _settle_shared_ids(connection: sqlite3.Connection) -> dict[str, int]:
    """Resolve alternative ids that are the own id of another entity.

    If an entity lists the id in some of its pieces only, the names of these pieces become names
    of both entities (a homonym, ``A|B||name``). If it lists the id in all pieces, both ids mean
    the same thing: the other entity is merged into it if it has fewer pieces. If the other
    entity has more pieces, the names become names of both. Two entities with equally many pieces
    stay separate.
    """
    found = connection.execute(
        "SELECT listing.entity, number, count(DISTINCT piece), own.pieces, other.pieces "
        "FROM pieces_listing AS listing JOIN entities ON entities.id = alternative "
        "JOIN piece_counts AS own ON own.entity = listing.entity "
        "JOIN piece_counts AS other ON other.entity = number GROUP BY listing.entity, number"
    ).fetchall()
    joins = {o: e for e, o, listed, own, other in found if listed == own and own > other}
    shares = [(e, o) for e, o, listed, own, other in found if listed < own or own < other]
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
        while entity in joins:  # ends, as the number of pieces grows with every step
            entity = joins[entity]
        connection.execute(
            "UPDATE OR IGNORE names SET kind = 'exact' WHERE entity = ? AND kind = 'preferred'",
            (other,),
        )
        # The rest already exist as exact synonyms.
        connection.execute("DELETE FROM names WHERE entity = ? AND kind = 'preferred'", (other,))
        connection.execute(
            "INSERT OR IGNORE INTO alternative_ids(id, entity) "
            "SELECT id, ? FROM entities WHERE number = ?",
            (entity, other),
        )
        for table in (
            "names", "types", "alternative_ids", "cross_references", "parents", "fields",
        ):  # fmt: skip
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
    connection.executescript(KEEP_SCRATCH)
    return {"shared_names": shared, "joined_entities": len(joins)}


def _fill(
    connection: sqlite3.Connection, entities: Iterable[Entity], first_texts: Iterable[str]
) -> dict[str, int]:
    numbers: dict[str, int] = {}
    rows: dict[str, int] = {}

    def row_of(text: str) -> int:
        return rows.setdefault(text, len(rows))

    for text in first_texts:
        row_of(text)
    pieces_of: dict[int, int] = {}
    pieces = names_read = further_descriptions = 0
    named: list[tuple[int, int, str, str, str]] = []
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
        named += [
            (number, row_of(name.text), name.kind.value, name.language, name.source)
            for name in piece.names
        ]
        if len(named) >= _AT_ONCE:
            _insert_names(connection, named)
        if piece.alternative_ids:
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
            ("parents(entity, id)", piece.parents),
        ):
            if values:
                connection.executemany(
                    f"INSERT OR IGNORE INTO {table} VALUES(?, ?)", [(number, v) for v in values]
                )
        if piece.fields:
            connection.executemany(
                "INSERT OR IGNORE INTO fields VALUES(?, ?, ?)",
                [(number, *pair) for pair in piece.fields],
            )
    _insert_names(connection, named)
    connection.executemany("INSERT INTO texts VALUES(?, ?)", enumerate(rows))
    connection.executemany("INSERT INTO piece_counts VALUES(?, ?)", pieces_of.items())
    if not numbers:
        raise InputError("the knowledge base has no entities; add rows with id and name")
    return {
        "pieces": pieces,
        "entities": len(numbers),
        "names_read": names_read,
        "further_descriptions": further_descriptions,
        "texts": len(rows),
        "unused_texts": connection.execute(
            "SELECT (SELECT count(*) FROM texts) - (SELECT count(DISTINCT row) FROM names)"
        ).fetchone()[0],
    }


def _insert_names(
    connection: sqlite3.Connection, named: list[tuple[int, int, str, str, str]]
) -> None:
    connection.executemany(
        "INSERT OR IGNORE INTO names(entity, row, kind, language, source) VALUES(?, ?, ?, ?, ?)",
        named,
    )
    named.clear()


def _listings(piece: Entity, ordinal: int) -> Iterable[tuple[str, int, str, str, str]]:
    if isinstance(piece, Pieces):
        return piece.listings
    others = [other for other in piece.alternative_ids if other != piece.id]
    return [(o, ordinal, n.text, n.language, n.source) for o in others for n in piece.names]


def _check(piece: Entity) -> None:
    if not piece.id.strip():
        shown = piece.names[0].text[:40] if piece.names else ""
        raise InputError(f"{shown!r}: an entity without id; every row needs an id")
    if not piece.names:
        raise InputError(f"{piece.id}: an entity without a name; every row needs a name")
    tags = {tag for n in piece.names for tag in (n.text, n.language, n.source)}
    fields = [text for pair in piece.fields for text in pair]
    references = (*piece.alternative_ids, *piece.cross_references, *piece.parents)
    others = (*piece.types, *references, *fields)
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
