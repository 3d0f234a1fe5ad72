"""The tables of the catalogue: entities and their names in one SQLite file.

::

    entities(number, id, name, description)      numbers from 0, in the order of reading
    texts(row, text)                             each distinct string; row = row of the vectors
    names(number, entity, row, kind, language, source)
    types(entity, type)  alternative_ids(id, entity)  cross_references(entity, id)
    parents(entity, id)                          as read; an id may be unknown here
    hierarchy(parent, child)                     numbers of entities: the parents that are known
    fields(entity, field, value)                 further columns of the input

An update needs these tables to end in the same catalogue as a build from the same records::

    several(entity, pieces)                      entities read in more than one record
    listings(entity, alternative, piece, row, language, source)     the record that listed an id
    unsettled(entity, content)                   entities before shared ids were resolved
"""

from __future__ import annotations

from dataclasses import dataclass

from mirror_rt.types import Entity

__all__ = [
    "CLOSE_KINDS",
    "HIERARCHY",
    "INDEXES",
    "KEEP_SCRATCH",
    "PREFERRED_FIRST",
    "SCHEMA",
    "SCRATCH",
    "BuildCounts",
    "Pieces",
]

SCHEMA = """
CREATE TABLE entities(number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE,
                      name TEXT NOT NULL, description TEXT NOT NULL);
CREATE TABLE texts(row INTEGER PRIMARY KEY, text TEXT NOT NULL);
CREATE TABLE names(number INTEGER PRIMARY KEY, entity INTEGER NOT NULL, row INTEGER NOT NULL,
                   kind TEXT NOT NULL, language TEXT NOT NULL, source TEXT NOT NULL,
                   UNIQUE(entity, row, kind, language, source));
CREATE TABLE types(entity INTEGER NOT NULL, type TEXT NOT NULL,
                   PRIMARY KEY(entity, type)) WITHOUT ROWID;
CREATE TABLE alternative_ids(id TEXT NOT NULL, entity INTEGER NOT NULL,
                             PRIMARY KEY(id, entity)) WITHOUT ROWID;
CREATE TABLE cross_references(entity INTEGER NOT NULL, id TEXT NOT NULL,
                              PRIMARY KEY(entity, id)) WITHOUT ROWID;
CREATE TABLE parents(entity INTEGER NOT NULL, id TEXT NOT NULL,
                     PRIMARY KEY(entity, id)) WITHOUT ROWID;
CREATE TABLE hierarchy(parent INTEGER NOT NULL, child INTEGER NOT NULL,
                       PRIMARY KEY(parent, child)) WITHOUT ROWID;
CREATE TABLE fields(entity INTEGER NOT NULL, field TEXT NOT NULL, value TEXT NOT NULL,
                    PRIMARY KEY(entity, field, value)) WITHOUT ROWID;
CREATE TABLE unsettled(entity INTEGER PRIMARY KEY, content TEXT NOT NULL);
"""
SCRATCH = """
CREATE TEMP TABLE pieces_listing(entity INTEGER, alternative TEXT, piece INTEGER, row INTEGER,
                                 language TEXT, source TEXT);
CREATE INDEX temp.pieces_listing_pair ON pieces_listing(entity, alternative);
CREATE TEMP TABLE piece_counts(entity INTEGER PRIMARY KEY, pieces INTEGER);
"""
KEEP_SCRATCH = """
CREATE TABLE several AS SELECT * FROM piece_counts WHERE pieces > 1;
CREATE TABLE listings AS SELECT * FROM pieces_listing WHERE entity IN (SELECT entity FROM several);
CREATE INDEX several_entity ON several(entity);
CREATE INDEX listings_entity ON listings(entity);
DROP TABLE pieces_listing;
DROP TABLE piece_counts;
"""
INDEXES = """
CREATE INDEX names_row ON names(row);
CREATE INDEX types_type ON types(type);
CREATE INDEX cross_references_id ON cross_references(id);
CREATE INDEX fields_value ON fields(field, value);
CREATE INDEX alternative_ids_entity ON alternative_ids(entity);
"""
HIERARCHY = """
CREATE INDEX parents_id ON parents(id);
INSERT OR IGNORE INTO hierarchy SELECT number, entity FROM parents JOIN entities USING(id)
WHERE number <> entity;
INSERT OR IGNORE INTO hierarchy SELECT other.entity, parents.entity FROM parents
JOIN alternative_ids AS other USING(id)
WHERE other.entity <> parents.entity AND id NOT IN (SELECT id FROM entities);
CREATE INDEX hierarchy_child ON hierarchy(child);
"""
CLOSE_KINDS = "'preferred', 'exact', 'abbreviation'"
PREFERRED_FIRST = "CASE kind WHEN 'preferred' THEN 0 ELSE 1 END"


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildCounts:
    """Counts of a build: ``names_read == names + repeated_names``.

    Attributes:
        pieces: Entities as the reader gave them.
        entities: Entities after pieces with the same id were joined.
        names_read: Names in those pieces.
        names: Names stored.
        repeated_names: Names that the same entity had already, equal in every field.
        texts: Distinct strings, one vector each, including ``unused_texts``.
        unused_texts: Strings that no longer name an entity, kept so that rows stay the same.
        ambiguous_texts: Strings that name more than one entity.
        shared_names: Names that a second entity got as well: a piece of the first one listed
            the second one's id as an alternative, other pieces did not (``A|B||name``).
        joined_entities: Entities that were merged into another one, which has more pieces and
            lists their ids.
        shadowed_ids: Alternative ids that are the own id of another entity. A look-up finds that
            entity.
        further_descriptions: Descriptions left out because the entity already had another.
        missing_parents: Distinct ids of parents that no entity has.
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
    missing_parents: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Pieces(Entity):
    """An entity that was read in several pieces; ``Catalogue.pieces`` yields it.

    Attributes:
        pieces: How many pieces.
        listings: (alternative id, number of the piece, string, language, source) of each name
            in a piece that listed an alternative id.
    """

    pieces: int
    listings: tuple[tuple[str, int, str, str, str], ...]
