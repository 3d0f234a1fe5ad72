"""The known headings, one list for all formats and commands.

Case, spaces, ``-`` and ``camelCase`` do not matter: ``Concept ID``, ``concept_id`` and
``conceptId`` are the same heading.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import Enum

__all__ = [
    "Column", "column_of", "guessed", "heading_key", "known", "ranked", "seem",
    "sound_like_headings",
]  # fmt: skip

_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_APART = re.compile(r"[\s\-_.]+")


class Column(Enum):
    """The role of a column. The value lists its known headings, the preferred one first."""

    ID = (
        "id identifier entity_id concept_id concept_uri curie cui uri iri item ids gold gold_id "
        "gold_ids qid hgnc_id geonameid code concept entity"
    )
    NAME = (
        "name preferred_name preferred_label preferred_term pref_label preferred label term "
        "canonical_name concept_name entity_name item_label main_label symbol"
    )
    TEXT = "mention query text string sentence"
    TITLE = "title"
    ALIASES = (
        "alias aliases synonym synonyms alt_label alt_labels alternative alternatives "
        "alternative_label alternative_labels alternative_name alternative_names alternate_name "
        "alternate_names alternatenames alt_name alt_names other_name other_names item_alt_label "
        "item_alt_labels alias_symbol alias_symbols alias_name alias_names prev_symbol "
        "prev_symbols previous_symbol previous_symbols prev_name prev_names previous_name "
        "previous_names former_name former_names short_name official_name brand_name trade_name "
        "also_known_as aka exact_synonym exact_synonyms broad_synonym broad_synonyms "
        "narrow_synonym narrow_synonyms related_synonym related_synonyms hidden_label "
        "hidden_labels abbreviation abbreviations abbr acronym acronyms"
    )
    KIND = "kind name_kind scope"
    TYPES = "type types semantic_type semantic_types category"
    LANGUAGE = "language lang language_code"
    SOURCE = "source sab vocabulary"
    DESCRIPTION = "description definition def item_description"
    ALTERNATIVE_IDS = "alternative_ids alternative_id alt_ids alt_id obsolete_ids"
    CROSS_REFERENCES = "cross_references cross_reference xref xrefs"
    PARENTS = (
        "parent parents parent_id parent_ids parent_code parent_concept parent_concept_id "
        "parent_uri broader broader_id broader_uri broader_concept broader_concepts is_a "
        "subclass_of sub_class_of super_class superclass"
    )
    FIELDS = "fields"
    LEFT = "sentence1 word1 left anchor"
    RIGHT = "sentence2 word2 right positive target"


_RANK = {
    heading: (column, rank)
    for column in Column
    for rank, heading in enumerate(column.value.split())
}

# With these words, an id or a name belongs to something else than the row's entity.
_OF_OTHERS = frozenset(
    "parent broader narrower super sub class category type kind source module status language "
    "tax taxon definition case effective file user author document doc previous prev alt alias "
    "other related currency group family sheet chromosome locus in by replaced mapped "
    "stock num n number count has is no".split()
)


_GUESSES = {
    "id": Column.ID, "uri": Column.ID,
    "name": Column.NAME, "label": Column.NAME, "symbol": Column.NAME,
    "synonym": Column.ALIASES, "synonyms": Column.ALIASES,
}  # fmt: skip
"""Roles by the last word of an unknown heading."""


def heading_key(heading: str) -> str:
    """Return the normalized form of a heading, for look-up.

    >>> heading_key(" Preferred Label"), heading_key("conceptURI"), heading_key("altLabels")
    ('preferred_label', 'concept_uri', 'alt_labels')
    """
    plain = heading.strip().removeprefix("?")  # a SPARQL variable
    apart = _CAMEL.sub("_", plain.replace("IDs", "Ids").replace("URIs", "Uris"))
    return _APART.sub("_", apart).strip("_").casefold()


def ranked(heading: str) -> tuple[Column, int] | None:
    """Return the role of a known heading and its rank: 0 is the most specific; None if unknown.

    >>> ranked("Concept Name")[0].name, ranked("alias2")[0].name, ranked("colour")
    ('NAME', 'ALIASES', None)
    """
    key = heading_key(heading)
    plain = key.replace("_", "")
    return _RANK.get(key) or _RANK.get(key.rstrip("_0123456789")) or _JOINED.get(plain)


_JOINED = {heading.replace("_", ""): found for heading, found in _RANK.items()}


def column_of(heading: str) -> Column | None:
    """Return the role of a heading; None if it is unknown.

    >>> column_of("altLabels").name, column_of("prefLabel").name
    ('ALIASES', 'NAME')
    """
    found = ranked(heading)
    return None if found is None else found[0]


def guessed(heading: str) -> Column | None:
    """Guess the role of an unknown heading: ``disease_id`` is an id, ``DiseaseName`` a name.

    >>> guessed("DiseaseName").name, guessed("esco_id").name, guessed("parent_id")
    ('NAME', 'ID', None)
    >>> guessed("MESHSynonyms").name
    'ALIASES'
    """
    thing, _, last = heading_key(heading).rpartition("_")
    if thing.startswith("alt_") and last == "ids":
        return Column.ALTERNATIVE_IDS
    if not thing or thing.partition("_")[0] in _OF_OTHERS:
        return None
    return _GUESSES.get(last)


def known(headings: Sequence[str], *columns: Column) -> list[int]:
    """Return the positions of the known headings of these roles, the most specific first.

    >>> known(["code", "title", "id", "label"], Column.ID, Column.NAME)
    [2, 0, 3]
    """
    rated = [
        (columns.index(found[0]), found[1], i)
        for i, heading in enumerate(headings)
        if (found := ranked(heading)) and found[0] in columns
    ]
    return [i for _, _, i in sorted(rated)]


def seem(headings: Sequence[str], column: Column) -> list[int]:
    """Return the positions of unknown headings that seem to have this role, in order.

    >>> seem(["disease", "diseaseLabel"], Column.ID), seem(["x", "y_id"], Column.ID)
    ([0], [1])
    """
    keys = [heading_key(heading) for heading in headings]
    labeled = [f"{key}_label" in keys for key in keys]  # a Wikidata query: ?x ?xLabel
    return [
        i
        for i, heading in enumerate(headings)
        if ranked(heading) is None
        and (guessed(heading) is column or (column is Column.ID and labeled[i]))
    ]


def sound_like_headings(cells: Sequence[str]) -> bool:
    """Return whether a first row is headings of entities: one is known, or two are guessed."""
    return bool(known(cells, Column.ID, Column.NAME)) or bool(
        seem(cells, Column.ID) and seem(cells, Column.NAME)
    )
