"""Detect the role of each column in a table of entities."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from mirror_rt.errors import InputError
from mirror_rt.knowledge.formats._rows import is_kind, name_kind
from mirror_rt.tables import Column, Table, heading_key, known, seem
from mirror_rt.types import NameKind

__all__ = ["BARS", "Columns", "Roles", "has_entities", "resolved"]

BARS = re.compile(r"[|\r\n]+")
_COMMAS = re.compile(r", |,(?=\S)|\|")
_JOINED_BY_COMMAS = frozenset(
    "item_alt_label item_alt_labels alternatenames alias_symbols previous_symbols".split()
)

_ONE = (Column.KIND, Column.LANGUAGE, Column.SOURCE, Column.DESCRIPTION, Column.FIELDS)
_MANY = (Column.TYPES, Column.ALTERNATIVE_IDS, Column.CROSS_REFERENCES, Column.PARENTS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """The columns of a table to read, if the headings are not enough.

    Attributes:
        id: The column of ids; None to detect it.
        name: The column of names (for passages: the texts); None to detect it.
        aliases: The columns of aliases; empty to detect them.
        fields: Columns to keep as fields of the entity; ``*`` for all other columns.
    """

    id: str | None = None
    name: str | None = None
    aliases: tuple[str, ...] = ()
    fields: tuple[str, ...] = ()

    def named(self) -> list[str]:
        """Return all columns that are named."""
        some = [self.id, self.name, *self.aliases, *self.fields]
        return [name for name in some if name is not None and name != "*"]


@dataclass(slots=True, kw_only=True)
class Roles:
    """The role of each column, by position, among the first ``width`` columns."""

    width: int
    id: int
    names: list[int]
    aliases: list[tuple[int, NameKind, re.Pattern[str]]]
    kind: int | None
    language: int | None
    source: int | None
    description: int | None
    object: int | None
    types: list[int]
    alternative_ids: list[int]
    cross_references: list[int]
    parents: list[int]
    fields: list[tuple[int, str]]
    left_alone: list[str]

    def places(self) -> list[int]:
        """Return the columns that are read."""
        one = (self.kind, self.language, self.source, self.description, self.object)
        many = (self.types, self.alternative_ids, self.cross_references, self.parents)
        return [
            self.id, *self.names, *(i for i, _, _ in self.aliases), *(i for i, _ in self.fields),
            *(i for i in one if i is not None), *(i for held in many for i in held),
        ]  # fmt: skip


def has_entities(table: Table) -> bool:
    """Return whether the headings of a table include ids and names."""
    first = table.headings if table.by_name else table.first or []
    return bool(known(first, Column.ID) or seem(first, Column.ID)) and bool(
        known(first, Column.NAME) or seem(first, Column.NAME)
    )


def resolved(
    headings: Sequence[str],
    columns: Columns,
    shown: str,
    *,
    first: tuple[int, list[int]] | None = None,
) -> Roles:
    """Detect the role of each column.

    Args:
        headings: The headings.
        columns: The choices of the user.
        shown: The name of the file in messages.
        first: The columns of id and names, if they are known.

    Raises:
        InputError: A required column (ids, names) or one that the caller named is missing.
    """
    there = ", ".join(headings)

    def place(name: str) -> int:
        key = heading_key(name)
        found = [i for i, heading in enumerate(headings) if heading == name]
        found = found or [i for i, heading in enumerate(headings) if heading_key(heading) == key]
        if not found and name.isdecimal() and 0 < int(name) <= len(headings):
            found = [int(name) - 1]
        if not found:
            raise InputError(f"{shown}: no column {name!r}; there are: {there}")
        return found[0]

    if first is not None:
        id_at, names = first
    else:
        ids = known(headings, Column.ID) or seem(headings, Column.ID)
        guessed = _of_one_thing(headings, seem(headings, Column.NAME))
        titles = known(headings, Column.TITLE)
        # A symbol alone may be a code beside a title: of a share, a currency, a map.
        if titles and all(heading_key(headings[i]).endswith("symbol") for i in guessed):
            guessed = []
        names = known(headings, Column.NAME) or guessed or titles
        if columns.name is not None:
            at = place(columns.name)
            names = [at, *(i for i in names if i != at)]
        if columns.id is not None:
            ids = [place(columns.id)]
        ids = [i for i in ids if i not in names[:1]]
        missing = "ids" * (not ids) or "names" * (not names)
        if missing:
            option = "--id-column" if not ids else "--name-column"
            raise InputError(
                f"{shown}: which column holds the {missing}? choose with {option}: {there}"
            )
        id_at = ids[0]
        names = [i for i in names if i != id_at]
    if columns.aliases:
        chosen = [place(name) for name in columns.aliases]
        if first is None:
            names = names[:1]
    else:
        chosen = sorted([*known(headings, Column.ALIASES), *seem(headings, Column.ALIASES)])
        chosen = [i for i in chosen if i != id_at and i not in names]
    taken = {id_at, *names, *chosen}
    fields = [place(name) for name in columns.fields if name != "*"]
    one: dict[Column, int] = {}
    many: dict[Column, list[int]] = {}
    for column in (*_ONE, *_MANY):
        places = [i for i in known(headings, column) if i not in taken and i not in fields]
        if column is Column.ALTERNATIVE_IDS:
            places += [i for i in seem(headings, column) if i not in taken]
        if places and column in _ONE:
            one[column] = places[0]
        elif places:
            many[column] = sorted(places)
    taken.update(one.values(), *many.values())
    rest = [i for i in range(len(headings)) if i not in taken and i not in fields]
    if "*" in columns.fields:
        fields, rest = [*fields, *rest], []
    return Roles(
        width=len(headings),
        id=id_at,
        names=names,
        aliases=[(i, _alias_kind(headings[i]), _splitter(headings[i])) for i in chosen],
        kind=one.get(Column.KIND),
        language=one.get(Column.LANGUAGE),
        source=one.get(Column.SOURCE),
        description=one.get(Column.DESCRIPTION),
        object=one.get(Column.FIELDS),
        types=many.get(Column.TYPES, []),
        alternative_ids=many.get(Column.ALTERNATIVE_IDS, []),
        cross_references=many.get(Column.CROSS_REFERENCES, []),
        parents=many.get(Column.PARENTS, []),
        fields=[(i, headings[i].strip()) for i in fields],
        left_alone=[headings[i].strip() for i in rest if headings[i].strip()],
    )


def _of_one_thing(headings: Sequence[str], places: Sequence[int]) -> list[int]:
    """Return those that name the thing of the first: GeneSymbol and GeneName, but no ChipName."""
    things = [heading_key(headings[i]).rpartition("_")[0] for i in places]
    return [i for i, thing in zip(places, things, strict=True) if thing == things[0]]


def _alias_kind(heading: str) -> NameKind:
    key = heading_key(heading).rstrip("_0123456789")
    word = key.removesuffix("s") if is_kind(key.removesuffix("s")) else key
    return name_kind(word) if is_kind(word) else NameKind.EXACT


def _splitter(heading: str) -> re.Pattern[str]:
    return _COMMAS if heading_key(heading) in _JOINED_BY_COMMAS else BARS
