"""Read a knowledge base with the reader of its format."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from mirror_rt._count import counted
from mirror_rt.errors import ConfigError, InputError
from mirror_rt.knowledge.formats import dictionary, tables
from mirror_rt.knowledge.formats._columns import Columns
from mirror_rt.knowledge.formats._filter import NameFilter, filtered
from mirror_rt.knowledge.formats._rows import RowError, SkippedRows
from mirror_rt.knowledge.formats.detect import sniff
from mirror_rt.tables import ArrowTable, FileFormat, TableOptions, is_arrow
from mirror_rt.textfiles import Source, StrPath, shown
from mirror_rt.types import Entity, KbFormat

__all__ = ["given_entities", "read_entities", "read_names"]


def read_entities(
    path: StrPath | ArrowTable,
    *,
    format: KbFormat | None = None,
    skip_bad: SkippedRows | None = None,
    keep: NameFilter | None = None,
    columns: Columns | None = None,
    options: TableOptions | None = None,
) -> Iterator[Entity]:
    """Read a knowledge base, piece by piece in the order of the file.

    Args:
        path: The file, compressed or not; a pipe; or ``-`` for standard input. For UMLS also the
            folder of the RRF files, for Parquet the folder of the parts. Or a table in memory.
        format: The format; None to detect it from the name and the first lines.
        skip_bad: Counts bad rows, instead of stopping at the first, and all that is left out.
            None to stop at a bad row.
        keep: The names to keep; None for all that are not suppressed.
        columns: The columns of a table to read; None to detect them by the headings.
        options: Options for reading a table; None to detect them.

    Raises:
        ConfigError: The format cannot be detected.
        InputError: The file is missing or contains no entity, or a row is bad: no id, no name, a
            control character, not UTF-8, not in the format. The message names the line.
        MissingExtraError: The format needs a library that is not installed.
    """
    skipped = skip_bad if skip_bad is not None else SkippedRows(strict=True)
    keep = keep or NameFilter()
    if is_arrow(path):
        found = tables.read_table(
            path, skipped, kind=FileFormat.PARQUET, columns=columns, options=options, keep=keep
        )
        return _not_empty("the table", KbFormat.PARQUET, filtered(found, keep, skipped), skipped)
    if Path(path).is_file() and not Path(path).stat().st_size:
        raise InputError(f"{path}: is empty; give an entity a row")
    options = options or TableOptions()
    source = Source.of(path, encoding=options.encoding)
    chosen = format or sniff(source)
    if chosen is None and columns is not None and columns.named():
        chosen = KbFormat.CSV  # what has columns is a table
    if chosen is None:
        if not source.head().strip():
            raise InputError(f"{shown(path)}: is empty; give an entity a row")
        formats = ", ".join(member.value for member in KbFormat)
        raise ConfigError(
            f"{shown(path)}: cannot tell its format; name it with --kb-format: {formats}"
        )
    if chosen in tables.KINDS:
        kind = tables.KINDS[chosen]
        found = tables.read_table(
            source, skipped, kind=kind, columns=columns, options=options, keep=keep
        )
    elif columns is not None and columns.named():
        raise ConfigError(
            f"{shown(path)}: is read as {chosen.value}, which has no columns to choose; "
            "leave --id-column, --name-column, --alias-column and --field out"
        )
    else:
        found = _reader(source, chosen, skipped, keep)
    return _not_empty(path, chosen, filtered(found, keep, skipped), skipped)


def given_entities(given: Iterable[object]) -> Iterator[Entity]:
    """Yield entities from Python objects: entities, or dicts with headings as keys.

    Args:
        given: Entities or dicts. None and NaN in a dict mean a missing value, as in pandas.

    Raises:
        ConfigError: ``given`` is not a list.
        InputError: An element is neither an entity nor a dict, or a dict cannot be used; the
            message gives its position.
    """
    how = "give Entity objects, dicts with id and name, a table"
    if isinstance(given, (Entity, Mapping)) or not isinstance(given, Iterable):
        raise ConfigError(f"entities: a single {type(given).__name__}; {how}, or a file")
    for number, one in enumerate(given, 1):
        if isinstance(one, Entity):
            yield one
            continue
        if not isinstance(one, Mapping):
            raise InputError(f"entity {number}: is a {type(one).__name__}; {how}, or a file")
        try:
            yield tables.entity_from_json(
                {str(key): None if value != value else value for key, value in one.items()}
            )
        except RowError as fault:
            raise InputError(f"entity {number}: {fault}") from fault


def read_names(
    path: StrPath,
    *,
    format: KbFormat | None = None,
    skip_bad: SkippedRows | None = None,
    keep: NameFilter | None = None,
    columns: Columns | None = None,
    options: TableOptions | None = None,
) -> Iterator[str]:
    """Read every name of a knowledge base, with repetitions; see ``read_entities``."""
    found = read_entities(
        path, format=format, skip_bad=skip_bad, keep=keep, columns=columns, options=options
    )
    for entity in found:
        for name in entity.names:
            yield name.text


def _not_empty(
    path: StrPath, chosen: KbFormat, found: Iterator[Entity], skipped: SkippedRows
) -> Iterator[Entity]:
    entity = None
    for entity in found:
        yield entity
    if entity is None:
        reasons = (
            [f"{counted(skipped.bad, 'bad row')}, first: {skipped.messages[0]}"]
            if skipped.bad
            else []
        )
        reasons += (
            [f"{counted(skipped.filtered, 'name')} left out by the filter"]
            if skipped.filtered
            else []
        )
        reasons += (
            [f"{counted(skipped.nameless, 'class')} without a name"] if skipped.nameless else []
        )
        reasons += (
            [f"{counted(skipped.anonymous, 'class')} without an id"] if skipped.anonymous else []
        )
        because = f" ({'; '.join(reasons)})" if reasons else ""
        raise InputError(f"{shown(path)}: holds no entity, read as {chosen.value}{because}")


def _reader(
    path: StrPath, chosen: KbFormat, skipped: SkippedRows, keep: NameFilter
) -> Iterator[Entity]:
    # Readers that need another library are imported on use.
    match chosen:
        case KbFormat.DICTIONARY:
            return dictionary.read_dictionary(path, skipped)
        case KbFormat.OBO:
            from mirror_rt.knowledge.formats import obo

            return obo.read_obo(path, skipped)
        case KbFormat.RDF:
            from mirror_rt.knowledge.formats import rdf

            return rdf.read_rdf(path, skipped, keep)
        case KbFormat.RRF:
            from mirror_rt.knowledge.formats import rrf

            return rrf.read_rrf(path, skipped, keep)
        case KbFormat.ICD10CM:
            from mirror_rt.knowledge.formats import icd10cm

            return icd10cm.read_icd10cm(path, skipped)
        case KbFormat.WIKIDATA:
            from mirror_rt.knowledge.formats import wikidata

            return wikidata.read_wikidata(path, skipped, keep)
        case _:
            raise AssertionError(f"{chosen}: is a table")
