"""Read the entities of a table: CSV, TSV, Excel, JSON lines, Parquet.

Headings say what a column holds (``mirror_rt.tables.Column`` lists those that are understood),
or the user does. A first row with a known heading of an id or a name is never data; without
headings, column 1 is the id and column 2 a name; a third column is the kind of the name if every
third cell among the first thousand rows is a kind (``label``, ``exact_synonym``, ``alt`` …), and
then there can be no fourth; all other columns are aliases.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from pathlib import Path

from mirror_rt.errors import InputError
from mirror_rt.knowledge.formats._filter import NameFilter
from mirror_rt.knowledge.formats._rows import (
    RowError,
    SkippedRows,
    checked,
    flat,
    is_kind,
    name_kind,
)
from mirror_rt.tables import (
    ArrowTable,
    Cells,
    Column,
    Kind,
    Notes,
    Table,
    TableOptions,
    cell_text,
    heading_key,
    known,
    seem,
    sound_like_headings,
)
from mirror_rt.textfiles import StrPath
from mirror_rt.types import Entity, KbFormat, Name, NameKind

__all__ = ["KINDS", "Columns", "entity_from_json", "field_values", "has_entities", "read_table"]

LONGEST_FIELD = 200
"""Longer values are no use to filter by, and are left out."""

KINDS = {
    KbFormat.CSV: Kind.CSV,
    KbFormat.TSV: Kind.TSV,
    KbFormat.JSONL: Kind.JSONL,
    KbFormat.PARQUET: Kind.PARQUET,
    KbFormat.XLSX: Kind.XLSX,
}

_BARS = re.compile(r"[|\r\n]+")
_COMMAS = re.compile(r", |,(?=\S)|\|")
_JOINED_BY_COMMAS = frozenset({"item_alt_label", "item_alt_labels", "alternatenames"})

_GEONAMES = (
    "geonameid name asciiname alternatenames latitude longitude feature_class feature_code "
    "country_code cc2 admin1 admin2 admin3 admin4 population elevation dem timezone "
    "modification_date"
).split()

_RF2 = frozenset({"effective_time", "active", "module_id"})
_RF2_DESCRIPTION = frozenset({"concept_id", "language_code", "type_id", "term"})
_RF2_FULL_NAME, _RF2_DEFINITION = "900000000000003001", "900000000000550004"
_RF2_IS_A = "116680003"
_SEMANTIC_TAG = re.compile(r" \(([^()]+)\)$")

_ONE = (Column.KIND, Column.LANGUAGE, Column.SOURCE, Column.DESCRIPTION, Column.FIELDS)
_MANY = (Column.TYPES, Column.ALTERNATIVE_IDS, Column.CROSS_REFERENCES, Column.PARENTS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """Which columns of a table to read, where the headings alone do not say.

    Attributes:
        id: The column of ids; None to tell it.
        name: The column of names (of passages: the texts); None to tell it.
        aliases: The columns of aliases; empty to tell them.
        fields: Columns to keep as fields of the entity; ``*`` for all that are left.
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
class _Roles:
    """What each column holds, by its place; ``width`` columns were looked at."""

    width: int
    id: int
    names: list[int]
    aliases: list[tuple[int, NameKind, re.Pattern[str]]]
    one: dict[Column, int] = field(default_factory=dict)
    many: dict[Column, list[int]] = field(default_factory=dict)
    fields: list[tuple[int, str]] = field(default_factory=list)
    left_alone: list[str] = field(default_factory=list)

    def places(self) -> list[int]:
        some = [self.id, *self.names, *(i for i, _, _ in self.aliases), *self.one.values()]
        return [
            *some,
            *(i for held in self.many.values() for i in held),
            *(i for i, _ in self.fields),
        ]


def read_table(
    source: StrPath | ArrowTable,
    skipped: SkippedRows,
    *,
    kind: Kind,
    columns: Columns | None = None,
    options: TableOptions | None = None,
    keep: NameFilter | None = None,
) -> Iterator[Entity]:
    """Read the entities of a table, a row each.

    Raises:
        InputError: It cannot be read, its headings are not understood, or a row is bad.
    """
    columns, keep = columns or Columns(), keep or NameFilter()
    given = options or TableOptions()
    given = TableOptions(
        format=kind, delimiter=given.delimiter, encoding=given.encoding, quoted=given.quoted
    )
    notes = Notes()
    table = Table(source, options=given, notes=notes)
    if not table.by_name and table.first is None:
        return  # it is empty
    parse, roles = _parser(table, columns, skipped, keep)
    try:
        for number, cells in table.rows():
            try:
                if isinstance(cells, RowError):
                    raise cells
                if table.is_blank(cells):
                    notes.blank_rows += 1
                    continue
                entity = parse(cells)
            except RowError as fault:
                skipped.refuse(f"{table.shown}: {table.unit} {number}: {fault}")
                continue
            if entity is not None:
                yield entity
    finally:
        skipped.repeated_headings += notes.repeated_headings
        skipped.left_alone += roles().left_alone if roles is not None else []
        skipped.remarks += notes.remarks
        if notes.comments:
            skipped.remarks.append(f"{notes.comments:,} lines that begin with # passed over")


_Parse = Callable[[Cells], "Entity | None"]


def _parser(
    table: Table, columns: Columns, skipped: SkippedRows, keep: NameFilter
) -> tuple[_Parse, Callable[[], _Roles] | None]:
    if not _take_headings(table, columns):
        return _without_headings(table, columns, skipped, keep)
    keys = {heading_key(heading) for heading in table.headings}
    if keys >= _RF2 and not columns.named():
        return _rf2(table, keys, skipped), None
    if table.kind is Kind.JSONL and not table.headings:
        return _no_parser, None
    roles = resolved(table.headings, columns, table.shown)
    table.only = roles.places()

    def parse(cells: Cells) -> Entity | None:
        nonlocal roles
        if len(table.headings) > roles.width:  # JSON lines may bring more keys at any row
            first = (roles.id, roles.names)
            roles = resolved(table.headings, columns, table.shown, first=first)
        return _entity(cells, roles, skipped, keep)

    return parse, lambda: roles


def _no_parser(cells: Cells) -> Entity | None:
    raise RowError("no id")


def _take_headings(table: Table, columns: Columns) -> bool:
    """Decide whether the first row is headings; refuse where it looks like ones not understood."""
    if table.by_name:
        return True
    first = table.first or []
    named = columns.named()
    if named and not all(name.isdecimal() for name in named):
        table.take_headings()
        return True
    rows = [row for _, row in table.head if isinstance(row, list)]
    cells = [cell for i, cell in enumerate(first) if i != 2] if _third_is_kind(rows) else first
    cells = [cell.strip().removeprefix("#").strip() for cell in cells]
    keys = {heading_key(cell) for cell in cells}
    if sound_like_headings(cells) or keys >= _RF2:
        table.take_headings()
        return True
    if not named and _is_unlike_the_rest(rows):
        raise InputError(
            f"{table.shown}: {table.unit} {table.head[0][0]}: looks like headings of which none is "
            f"the id or the name ({', '.join(first)}); say which they are with --id-column and "
            "--name-column, or, if the row is data, put a row of id and name above it"
        )
    return False


def _is_unlike_the_rest(rows: Sequence[Cells]) -> bool:
    """Tell whether the first id alone has no digit, among three or more."""
    numbered = [any(sign.isdigit() for sign in row[0]) for row in rows if len(row) > 1]
    return len(numbered) > 2 and not numbered[0] and all(numbered[1:])


def _third_is_kind(rows: Sequence[Cells]) -> bool:
    thirds = [row[2] for row in rows if len(row) > 2 and row[2].strip()]
    return bool(thirds) and all(map(is_kind, thirds))


def has_entities(table: Table) -> bool:
    """Say whether a table has columns of ids and of names, by its headings."""
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
) -> _Roles:
    """Tell what each column holds.

    Args:
        headings: The headings.
        columns: What the user says.
        shown: What to call the file in a message.
        first: The columns of id and names, where they are settled.

    Raises:
        InputError: A column that is needed (ids, names) or that the caller named is missing.
    """
    there = ", ".join(headings)

    def place(name: str) -> int:
        key = heading_key(name)
        found = [i for i, heading in enumerate(headings) if heading == name]
        found = found or [i for i, heading in enumerate(headings) if heading_key(heading) == key]
        if not found:
            raise InputError(f"{shown}: no column {name!r}; there are: {there}")
        return found[0]

    if first is not None:
        id_at, names = first
    else:
        ids = known(headings, Column.ID) or seem(headings, Column.ID)
        names = (
            known(headings, Column.NAME)
            or seem(headings, Column.NAME)[:1]
            or known(headings, Column.TITLE)
        )
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
        chosen = sorted(known(headings, Column.ALIASES))
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
    return _Roles(
        width=len(headings),
        id=id_at,
        names=names,
        aliases=[(i, _alias_kind(headings[i]), _splitter(headings[i])) for i in chosen],
        one=one,
        many=many,
        fields=[(i, headings[i].strip()) for i in fields],
        left_alone=[headings[i].strip() for i in rest if headings[i].strip()],
    )


def _alias_kind(heading: str) -> NameKind:
    key = heading_key(heading).rstrip("_0123456789")
    word = key.removesuffix("s") if is_kind(key.removesuffix("s")) else key
    return name_kind(word) if is_kind(word) else NameKind.EXACT


def _splitter(heading: str) -> re.Pattern[str]:
    return _COMMAS if heading_key(heading) in _JOINED_BY_COMMAS else _BARS


def _entity(cells: Cells, roles: _Roles, skipped: SkippedRows, keep: NameFilter) -> Entity | None:
    def cell(column: Column) -> object:
        place = roles.one.get(column)
        return None if place is None else cells[place]

    def many(column: Column, what: str) -> tuple[str, ...]:
        return tuple(
            checked(cell_text(part, what, numbers=True), what)
            for place in roles.many.get(column, ())
            for part in _parts(cells[place], _BARS, what)
        )

    identifier = checked(cell_text(cells[roles.id], "id", numbers=True), "id")
    plain = NameKind.PREFERRED if roles.aliases or len(roles.names) > 1 else NameKind.EXACT
    if Column.KIND in roles.one:
        plain = name_kind(cell_text(cell(Column.KIND), "kind"))
    language = flat(cell_text(cell(Column.LANGUAGE), "language"), "language")
    source = flat(cell_text(cell(Column.SOURCE), "source"), "source")
    given = [
        one
        for one in (cells[place] for place in roles.names)
        if one is not None and not (isinstance(one, str) and not one.strip())
    ]
    if not given:
        raise RowError("no name")
    found = [(cell_text(given[0], "name"), "name", plain, language, source)]
    for one in given[1:]:
        found.append((cell_text(one, "name"), "name", NameKind.EXACT, language, source))
    for place, kind, splitter in roles.aliases:
        for part in _parts(cells[place], splitter, "aliases"):
            found.append(_alias(part, kind, language, source))
    names = []
    for text, what, kind, tag, origin in found:
        name = Name(text=text, kind=kind, language=tag, source=origin)
        if keep.keeps(name):
            names.append(Name(text=checked(text, what), kind=kind, language=tag, source=origin))
        else:
            skipped.filtered += 1
    if not names:
        return None
    fields = list(_object_fields(cell(Column.FIELDS)))
    for place, heading in roles.fields:
        values, lost = field_values(cells[place])
        fields += [(heading, value) for value in values]
        skipped.metadata += lost
    return Entity(
        id=identifier,
        names=tuple(names),
        types=many(Column.TYPES, "type"),
        alternative_ids=many(Column.ALTERNATIVE_IDS, "alternative id"),
        cross_references=many(Column.CROSS_REFERENCES, "cross-reference"),
        parents=many(Column.PARENTS, "parent"),
        description=flat(cell_text(cell(Column.DESCRIPTION), "description")),
        fields=tuple(fields),
    )


def _parts(cell: object, splitter: re.Pattern[str], what: str) -> list[object]:
    """Return the values of a cell: a list as it stands, of a string what is between bars."""
    match cell:
        case None:
            return []
        case str():
            return [part for part in splitter.split(cell) if part.strip()]
        case list():
            return [part for part in cell if part is not None]
        case int() if not isinstance(cell, bool):
            return [cell]
        case _:
            raise RowError(f"{what} is neither a string nor a list")


def _alias(
    part: object, kind: NameKind, language: str, source: str
) -> tuple[str, str, NameKind, str, str]:
    if not isinstance(part, dict):
        if not isinstance(part, str):
            raise RowError("an alias is neither a string nor an object with a name")
        return cell_text(part, "alias"), "alias", kind, language, source
    if part.get("kind"):
        kind = name_kind(cell_text(part["kind"], "kind"))
    if part.get("language") is not None:
        language = flat(cell_text(part["language"], "language"), "language")
    if part.get("source") is not None:
        source = flat(cell_text(part["source"], "source"), "source")
    return cell_text(part.get("name"), "name"), "name", kind, language, source


def _object_fields(cell: object) -> Iterator[tuple[str, str]]:
    if cell is None or cell == "":
        return
    if not isinstance(cell, dict):
        raise RowError("fields is not an object")
    for key, given in cell.items():
        values, _ = field_values(given)
        yield from ((flat(str(key), "field"), value) for value in values)


def field_values(cell: object) -> tuple[list[str], int]:
    """Return the values of a cell that can be filtered by, and how many are no use for that.

    Whole floats lose their point, so that ``2021.0`` is found as ``2021``.

    >>> field_values([2021.0, "a", None, {"b": 1}])
    (['2021', 'a'], 1)
    """
    values, lost = [], 0
    for one in cell if isinstance(cell, list) else [cell]:
        match one:
            case None:
                text = ""
            case str():
                text = flat(one, "metadata")
            case bool():
                text = "true" if one else "false"
            case int() | float():
                text = cell_text(one, "metadata", numbers=True)
            case date() | Decimal():  # from Parquet
                text = str(one)
            case _:
                lost += 1
                continue
        if len(text) > LONGEST_FIELD:
            lost += 1
        elif text:
            values.append(text)
    return values, lost


def entity_from_json(row: dict[str, object]) -> Entity:
    """Make an entity of a JSON object; its keys are headings.

    An alias may be a string, or an object with ``name``, ``kind``, ``language``, ``source``.

    Raises:
        RowError: A key is missing or of a wrong type.
    """
    headings = list(row)
    try:
        roles = resolved(headings, Columns(), "the object")
    except InputError as error:
        raise RowError(str(error)) from error
    entity = _entity(list(row.values()), roles, SkippedRows(), NameFilter())
    if entity is None:
        raise RowError("no name")
    return entity


# -- without headings


def _without_headings(
    table: Table, columns: Columns, skipped: SkippedRows, keep: NameFilter
) -> tuple[_Parse, Callable[[], _Roles] | None]:
    rows = [row for _, row in table.head if isinstance(row, list)]
    width = max(map(len, rows), default=0)
    if rows and all(map(_of_geonames, rows[:50])) and not columns.named():
        table.call_columns(_GEONAMES)
        roles = resolved(table.headings, columns, table.shown)
        table.notes.remarks.append("has no headings; its columns are those of GeoNames")
        return lambda cells: _entity(cells, roles, skipped, keep), lambda: roles
    if columns.named():
        table.call_columns([str(i + 1) for i in range(width)])
        chosen = Columns(
            id=columns.id or "1", name=columns.name or "2", aliases=columns.aliases,
            fields=columns.fields,
        )  # fmt: skip
        roles = resolved(table.headings, chosen, table.shown)
        return lambda cells: _entity(cells, roles, skipped, keep), lambda: roles
    parse = _with_kind if _third_is_kind(rows) else _with_aliases
    first = table.first or [""]
    if parse is _with_aliases and (width > 2 or not any(sign.isdigit() for sign in first[0])):
        last = f", 3{f' to {width}' if width > 3 else ''} as aliases" if width > 2 else ""
        table.notes.remarks.append(
            f"no known headings: the first row ({', '.join(first)}) is read as data, "
            f"column 1 as the id, 2 as the name{last}"
        )

    def two(cells: Cells) -> Entity:
        if len(cells) < 2:
            raise RowError("has one column; id and name must be in two")
        return parse(cells)

    return two, None


def _of_geonames(row: Cells) -> bool:
    return (
        len(row) == len(_GEONAMES)
        and row[0].isdecimal()
        and row[6] in set("AHLPRSTUV")
        and all(re.fullmatch(r"-?\d+(\.\d+)?", row[i]) for i in (4, 5))
    )


def _with_kind(cells: Cells) -> Entity:
    if any(cell.strip() for cell in cells[3:]):
        raise RowError(
            f"has {len(cells)} columns where others have id, name and kind; "
            "if the third holds names, head the columns: id, name, alias, alias"
        )
    kind = name_kind(cells[2]) if len(cells) > 2 else NameKind.EXACT
    return Entity(
        id=checked(cells[0], "id"), names=(Name(text=checked(cells[1], "name"), kind=kind),)
    )


def _with_aliases(cells: Cells) -> Entity:
    first = Name(
        text=checked(cells[1], "name"),
        kind=NameKind.PREFERRED if len(cells) > 2 else NameKind.EXACT,
    )
    aliases = [Name(text=checked(cell, "alias")) for cell in cells[2:] if cell.strip()]
    return Entity(id=checked(cells[0], "id"), names=(first, *aliases))


# -- SNOMED CT


def _rf2(table: Table, keys: set[str], skipped: SkippedRows) -> _Parse:
    """Make the parser of the descriptions of SNOMED CT, release format 2 (a snapshot).

    Raises:
        InputError: It is another file of the release.
    """
    if not keys >= _RF2_DESCRIPTION:
        raise InputError(
            f"{table.shown}: is SNOMED CT (RF2), but not its descriptions; "
            "give the file sct2_Description_Snapshot-…"
        )
    if "description_full" in heading_key(table.shown.rpartition("/")[2]):
        raise InputError(
            f"{table.shown}: holds every version of SNOMED CT; give sct2_Description_Snapshot-…"
        )
    at = {heading_key(heading): i for i, heading in enumerate(table.headings)}
    parents = _rf2_parents(Path(table.shown), skipped)

    def parse(cells: Cells) -> Entity | None:
        texts = {key: cell_text(cells[i], key) for key, i in at.items()}
        if texts["active"].strip() == "0":
            skipped.obsolete += 1
            return None
        name = checked(texts["term"], "term")
        if texts["type_id"] == _RF2_DEFINITION:
            skipped.filtered += 1
            return None
        full = texts["type_id"] == _RF2_FULL_NAME
        tag = _SEMANTIC_TAG.search(name) if full else None
        language = flat(texts["language_code"], "language")
        kind = NameKind.PREFERRED if full else NameKind.EXACT
        return Entity(
            id=checked(texts["concept_id"], "concept id"),
            names=(Name(text=name, kind=kind, language=language),),
            types=(tag[1],) if tag else (),
            parents=parents.get(texts["concept_id"], ()) if full else (),
        )

    return parse


def _rf2_parents(path: Path, skipped: SkippedRows) -> dict[str, tuple[str, ...]]:
    """Read the active "is a" relationships of the file that a release has beside descriptions."""
    found = [p for p in path.parent.glob("sct2_Relationship_Snapshot*") if p.is_file()]
    parents: dict[str, tuple[str, ...]] = {}
    if len(found) == 1:
        table = Table(found[0], options=TableOptions(format=Kind.TSV))
        table.take_headings()
        places = [table.place(h) for h in ("active", "typeId", "sourceId", "destinationId")]
        for number, cells in table.rows():
            if isinstance(cells, RowError):
                skipped.refuse(f"{table.shown}: {table.unit} {number}: {cells}")
                continue
            active, kind, child, parent = (cells[place] for place in places)
            if active == "1" and kind == _RF2_IS_A:
                parents[child] = (*parents.get(child, ()), parent)
    return parents
