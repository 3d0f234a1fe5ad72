"""Read the entities of a table: CSV, TSV, Excel, JSON lines, Parquet.

The headings decide the role of a column (``mirror_rt.tables.Column`` lists the known ones), or the
user does. A first row with a known heading of an id or a name is never data. Without headings,
column 1 is the id, column 2 a name, and all others are aliases. There is one exception: the third
column is the kind of the name if it is the last and all its cells in the first thousand rows are
kinds (``label``, ``exact_synonym``, ``alt`` …).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from datetime import date
from decimal import Decimal

from mirror_rt._count import counted
from mirror_rt.errors import InputError
from mirror_rt.knowledge.formats._columns import BARS, Columns, Roles, resolved
from mirror_rt.knowledge.formats._filter import NameFilter
from mirror_rt.knowledge.formats._rows import (
    RowError,
    SkippedRows,
    checked,
    flat,
    is_kind,
    name_kind,
)
from mirror_rt.knowledge.formats._snomed import RF2, rf2_parser
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
    is_blank,
    is_null,
    known,
    sound_like_headings,
)
from mirror_rt.textfiles import StrPath
from mirror_rt.types import Entity, KbFormat, Name, NameKind

__all__ = ["KINDS", "entity_from_json", "field_values", "read_table"]

NULL_WORDS = frozenset({"NULL", "null", "NaN", "nan", "None", "N/A", "#N/A", "\\N", "<NA>"})
"""Null values of databases and pandas. They may be names, so they are read and reported."""

LONGEST_FIELD = 200
"""Longer values are left out, as they cannot be used in filters."""

KINDS = {
    KbFormat.CSV: FileFormat.CSV,
    KbFormat.TSV: FileFormat.TSV,
    KbFormat.JSONL: FileFormat.JSONL,
    KbFormat.PARQUET: FileFormat.PARQUET,
    KbFormat.XLSX: FileFormat.XLSX,
}

_GEONAMES = (
    "geonameid name asciiname alternatenames latitude longitude feature_class feature_code "
    "country_code cc2 admin1 admin2 admin3 admin4 population elevation dem timezone "
    "modification_date"
).split()


def read_table(
    source: StrPath | ArrowTable,
    skipped: SkippedRows,
    *,
    kind: FileFormat,
    columns: Columns | None = None,
    options: TableOptions | None = None,
    keep: NameFilter | None = None,
) -> Iterator[Entity]:
    """Read the entities of a table, one for each row.

    Raises:
        InputError: It cannot be read, its headings are unknown, or a row is bad.
    """
    columns, keep = columns or Columns(), keep or NameFilter()
    given = options or TableOptions()
    given = TableOptions(
        format=kind, delimiter=given.delimiter, encoding=given.encoding, quoted=given.quoted
    )
    notes = Notes()
    table = Table(source, options=given, notes=notes)
    if not table.by_name and table.first is None:
        return  # an empty table
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
                skipped.null_words += entity.names[0].text in NULL_WORDS
                yield entity
    finally:
        skipped.repeated_headings += notes.repeated_headings
        skipped.left_alone += roles().left_alone if roles is not None else []
        skipped.remarks += notes.remarks
        if notes.comments:
            skipped.remarks.append(
                f"{counted(notes.comments, 'line')} with # at the beginning passed over"
            )


_Parse = Callable[[Cells], "Entity | None"]


def _parser(
    table: Table, columns: Columns, skipped: SkippedRows, keep: NameFilter
) -> tuple[_Parse, Callable[[], Roles] | None]:
    if not _take_headings(table, columns):
        return _without_headings(table, columns, skipped, keep)
    keys = {heading_key(heading) for heading in table.headings}
    if keys >= RF2 and not columns.named():
        return rf2_parser(table, keys, skipped), None
    if table.kind is FileFormat.JSONL and not table.headings:
        return _no_parser, None
    roles = resolved(table.headings, columns, table.shown)
    table.only = roles.places()

    def parse(cells: Cells) -> Entity | None:
        nonlocal roles
        if len(table.headings) > roles.width:  # JSON lines may have new keys in any row
            first = (roles.id, roles.names)
            roles = resolved(table.headings, columns, table.shown, first=first)
        return _entity(cells, roles, skipped, keep)

    return parse, lambda: roles


def _no_parser(cells: Cells) -> Entity | None:
    raise RowError("no id")


def _take_headings(table: Table, columns: Columns) -> bool:
    """Decide whether the first row is headings; raise an error if they seem unknown headings."""
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
    # One known word in the columns that are given by number may be data, two are not.
    given = [first[int(name) - 1] for name in named if 0 < int(name) <= len(first)]
    if sound_like_headings(cells) or keys >= RF2 or len(known(given, *Column)) > 1:
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
    """Return whether the first id is the only one without a digit, among three or more."""
    numbered = [any(sign.isdigit() for sign in row[0]) for row in rows if len(row) > 1]
    return len(numbered) > 2 and not numbered[0] and all(numbered[1:])


def _third_is_kind(rows: Sequence[Cells]) -> bool:
    thirds = [row[2] for row in rows if len(row) > 2 and row[2].strip()]
    return bool(thirds) and all(map(is_kind, thirds))


def _entity(cells: Cells, roles: Roles, skipped: SkippedRows, keep: NameFilter) -> Entity | None:
    identifier = checked(cell_text(cells[roles.id], "id", numbers=True), "id")
    plain = NameKind.PREFERRED if roles.aliases or len(roles.names) > 1 else NameKind.EXACT
    language = source = description = ""
    if roles.kind is not None:
        plain = name_kind(cell_text(cells[roles.kind], "kind"))
    if roles.language is not None:
        language = flat(cell_text(cells[roles.language], "language"), "language")
    if roles.source is not None:
        source = flat(cell_text(cells[roles.source], "source"), "source")
    if roles.description is not None:
        description = flat(cell_text(cells[roles.description], "description"))
    given = [
        one
        for one in (cells[place] for place in roles.names)
        if not is_null(one) and not (isinstance(one, str) and is_blank(one))
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
        # A name that is filtered out need not be valid.
        if keep.all or keep.keeps(Name(text=text, kind=kind, language=tag, source=origin)):
            names.append(Name(text=checked(text, what), kind=kind, language=tag, source=origin))
        else:
            skipped.filtered += 1
    if not names:
        return None
    fields: list[tuple[str, str]] = []
    if roles.object is not None:
        fields += _object_fields(cells[roles.object])
    for place, heading in roles.fields:
        values, lost = field_values(cells[place])
        fields += [(heading, value) for value in values]
        skipped.metadata += lost
    return Entity(
        id=identifier,
        names=tuple(names),
        types=_ids(cells, roles.types, "type"),
        alternative_ids=_ids(cells, roles.alternative_ids, "alternative id"),
        cross_references=_ids(cells, roles.cross_references, "cross-reference"),
        parents=_ids(cells, roles.parents, "parent"),
        description=description,
        fields=tuple(fields),
    )


def _ids(cells: Cells, places: Sequence[int], what: str) -> tuple[str, ...]:
    return tuple(
        checked(cell_text(part, what, numbers=True), what)
        for place in places
        for part in _parts(cells[place], BARS, what)
    )


def _parts(cell: object, splitter: re.Pattern[str], what: str) -> list[object]:
    """Return the values of a cell: a list as it is; a string is split at ``|``."""
    if is_null(cell):
        return []
    match cell:
        case str():
            return [part for part in splitter.split(cell) if not is_blank(part)]
        case list():
            return [part for part in cell if not is_null(part) and not is_blank(str(part))]
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
    return (
        cell_text(part.get("name"), "name of an alias"),
        "name of an alias",
        kind,
        language,
        source,
    )


def _object_fields(cell: object) -> Iterator[tuple[str, str]]:
    if is_null(cell) or cell == "":
        return
    if not isinstance(cell, dict):
        raise RowError("fields is not an object")
    for key, given in cell.items():
        values, _ = field_values(given)
        yield from ((flat(str(key), "field"), value) for value in values)


def field_values(cell: object) -> tuple[list[str], int]:
    """Return the values of a cell for filters, and the number of values that are unusable.

    Whole floats lose their decimal point: ``2021.0`` becomes ``2021``.

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
    """Return the entity of a JSON object; its keys are headings.

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
) -> tuple[_Parse, Callable[[], Roles] | None]:
    rows = [row for _, row in table.head if isinstance(row, list)]
    width = max(map(len, rows), default=0)
    if rows and all(map(_of_geonames, rows[:50])) and not columns.named():
        table.call_columns(_GEONAMES)
        roles = resolved(table.headings, columns, table.shown)
        table.notes.remarks.append("has no headings; its columns are those of GeoNames")
        return lambda cells: _entity(cells, roles, skipped, keep), lambda: roles
    if rows and all(map(_of_alternate_names, rows[:50])) and not columns.named():
        raise InputError(
            f"{table.shown}: is GeoNames' table of alternate names, which has no preferred ones; "
            "give cities15000.txt, allCountries.txt or the file of a country, or --id-column 2 "
            "--name-column 4"
        )
    if columns.named():
        table.call_columns([str(i + 1) for i in range(width)])
        chosen = Columns(
            id=columns.id or "1", name=columns.name or "2", aliases=columns.aliases,
            fields=columns.fields,
        )  # fmt: skip
        roles = resolved(table.headings, chosen, table.shown)
        first = rows[0] if rows else []
        id_ = "".join(first[roles.id : roles.id + 1])
        if known(first, *Column) or not any(sign.isdigit() for sign in id_):
            table.notes.remarks.append(f"the first row ({', '.join(first)}) is read as data")
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
        if known(cells[:1], Column.ID) and known(cells[1:2], Column.NAME):
            raise RowError(f"is headings ({', '.join(cells)}) below data; put them first")
        return parse(cells)

    return two, None


def _of_geonames(row: Cells) -> bool:
    return (
        len(row) == len(_GEONAMES)
        and row[0].isdecimal()
        and row[6] in set("AHLPRSTUV")
        and all(re.fullmatch(r"-?\d+(\.\d+)?", row[i]) for i in (4, 5))
    )


def _of_alternate_names(row: Cells) -> bool:
    return (
        len(row) == 10
        and row[0].isdecimal()
        and row[1].isdecimal()
        and re.fullmatch(r"[a-zA-Z_-]{0,8}", row[2]) is not None
        and set(row[4:8]) <= {"", "1"}
    )


def _with_kind(cells: Cells) -> Entity:
    if any(cell.strip() for cell in cells[3:]):
        raise RowError(
            f"has {counted(len(cells), 'column')} where others have id, name and kind; "
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
    aliases = [Name(text=checked(cell, "alias")) for cell in cells[2:] if not is_blank(cell)]
    return Entity(id=checked(cells[0], "id"), names=(first, *aliases))
