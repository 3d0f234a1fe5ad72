"""Read the strings to train on, and the entities that they name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mirror_rt._count import counted
from mirror_rt.errors import ConfigError, InputError
from mirror_rt.tables import (
    Column,
    FileFormat,
    Notes,
    RowError,
    Table,
    TableOptions,
    cell_text,
    detect_format,
    is_blank,
    known,
)
from mirror_rt.textfiles import Source, StrPath, shown

if TYPE_CHECKING:
    from mirror_rt.knowledge.formats import Columns, SkippedRows
    from mirror_rt.types import Entity

__all__ = [
    "MAX_CHARACTERS", "Corpus", "Strings", "open_strings", "read_corpus", "read_pairs",
    "refuse_nul",
]  # fmt: skip

MAX_CHARACTERS = 100_000
"""Maximum characters of a string; a longer one is a whole file by mistake."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Corpus:
    """Distinct strings in the order of reading.

    Attributes:
        strings: Distinct strings, without surrounding spaces.
        entities: The numbers of the entities that each string names; empty for plain text.
        lines: The number of strings read, before any was dropped.
        blank: The number of blank ones.
        duplicates: The number of repeats of an earlier string.
        files: The number of the file of each entity.
    """

    strings: tuple[str, ...]
    entities: tuple[tuple[int, ...], ...]
    lines: int
    blank: int
    duplicates: int
    files: tuple[int, ...] = ()

    @property
    def names_by_entity(self) -> dict[int, list[int]]:
        """Return the rows of ``strings`` that name each entity."""
        rows: dict[int, list[int]] = {}
        for row, entities in enumerate(self.entities):
            for entity in entities:
                rows.setdefault(entity, []).append(row)
        return rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Strings:
    """The strings of a file, to train on or to measure with.

    Attributes:
        texts: (row or line, text) of plain text or a table of texts.
        entities: The entities of a knowledge base.
        unit: The unit of the numbers of texts, row or line.
        notes: What is skipped of a table of texts.
    """

    texts: Iterator[tuple[int, str]] | None = None
    entities: Iterator[Entity] | None = None
    unit: str = "line"
    notes: Notes = field(default_factory=Notes)


def open_strings(
    source: StrPath,
    *,
    columns: Columns | None = None,
    options: TableOptions | None = None,
    skip_bad: SkippedRows | None = None,
) -> Strings:
    """Open plain text, a table of texts or a knowledge base, also from a pipe.

    Args:
        source: A path, or ``-``.
        columns: The columns to read; the text of a table of texts is in the column of names.
        options: The layout of a table, if it cannot be detected.
        skip_bad: Counts the skipped rows of a knowledge base.

    Raises:
        InputError: The file cannot be read.
        ConfigError: A column is named, but it is plain text.
    """
    from mirror_rt.knowledge import formats
    from mirror_rt.knowledge.formats._columns import has_entities
    from mirror_rt.knowledge.formats.tables import KINDS
    from mirror_rt.runtime.sources import read_rows, read_text

    options, columns = options or TableOptions(), columns or formats.Columns()
    given = Source.of(source, encoding=options.encoding)
    kind = detect_format(given, options, FileFormat.TEXT)
    known_as = formats.sniff(given)
    if kind is not FileFormat.TEXT and known_as in {None, *KINDS}:
        if not given.once:  # otherwise the reader looks for headings
            table = Table(source, options=options)
            if not table.by_name and table.first is None:
                raise InputError(f"{given}: has no strings to train on; give one a row")
            headings = table.headings if table.by_name else table.first or []
            of_texts = len(headings) == 1 or columns.name or known(headings, Column.TEXT)
            if columns.id is None and of_texts and not has_entities(table):
                notes = Notes()
                rows = read_rows(given, column=columns.name, options=options, notes=notes)
                numbered = enumerate((text for text, _ in rows), 1)
                return Strings(texts=numbered, unit="text", notes=notes)
    if known_as is None and kind is FileFormat.TEXT:
        if columns.named():
            raise ConfigError(
                f"{given}: plain text has no columns; name it .csv, .tsv, .jsonl, .xlsx or "
                ".parquet, or leave the columns away"
            )
        notes = Notes()
        return Strings(texts=read_text(given, options=options, notes=notes), notes=notes)
    skipped = skip_bad if skip_bad is not None else formats.SkippedRows(strict=True)
    return Strings(
        entities=formats.read_entities(
            given, format=known_as, skip_bad=skipped, columns=columns, options=options
        )
    )


def read_corpus(
    *sources: StrPath,
    columns: Columns | None = None,
    options: TableOptions | None = None,
    skip_bad: SkippedRows | None = None,
) -> Corpus:
    """Read text files (one string per line), tables of texts, and names of knowledge-base files.

    Raises:
        InputError: A file cannot be read or has no string, or a string is too long.
    """

    def named() -> Iterator[tuple[str, tuple[int, str] | None]]:
        for file, source in enumerate(sources):
            found = open_strings(source, columns=columns, options=options, skip_bad=skip_bad)
            empty = True
            if found.texts is not None:
                for text in _checked(source, found.unit, found.texts):
                    empty = empty and is_blank(text)
                    yield text, None
                if skip_bad is not None:
                    skip_bad.remarks += found.notes.sentences()
            for entity in found.entities or ():
                for name in entity.names:
                    empty = False
                    yield name.text, (file, entity.id)
            if empty:
                raise InputError(f"{shown(source)}: has no strings to train on; give one a line")

    return _collect(named())


def read_pairs(
    source: StrPath, *, options: TableOptions | None = None, notes: Notes | None = None
) -> tuple[list[tuple[str, str]], int]:
    """Read pairs: ``a<TAB>b`` lines, or a table of two columns, or of ``sentence1, sentence2``.

    Args:
        source: A path, or ``-``.
        options: The layout of a table, if it cannot be detected.
        notes: Gets a note if the first row may be headings.

    Returns:
        The pairs, without repeats, pairs of equal strings and blank lines; and the number of
        rows dropped.

    Raises:
        InputError: The file cannot be read, or a row does not have two strings.
    """
    pairs: dict[tuple[str, str], None] = {}
    notes = notes if notes is not None else Notes()
    table = Table(source, options=options, default=FileFormat.TSV, notes=notes)
    first = table.headings if table.by_name else table.first or []
    left, right = known(first, Column.LEFT), known(first, Column.RIGHT)
    places = [left[0], right[0]] if left and right else [0, 1]
    if left and right:
        table.take_headings()
    elif len(first) == len(known(first, *Column)) == 2 and not table.by_name:
        raise InputError(
            f"{table.shown}: its first row, {' and '.join(first)}, is headings; call them "
            "sentence1 and sentence2, or remove the row"
        )
    elif known(first, *Column) and not table.by_name:
        notes.remarks.append(
            f"the first row ({', '.join(first)}) is read as a pair; if it is headings, call them "
            "sentence1 and sentence2"
        )
    dropped = 0
    for number, cells in table.rows():
        try:
            if isinstance(cells, RowError):
                raise cells
            parts = [cell_text(cell, "string").strip() for cell in cells]
        except RowError as fault:
            raise InputError(f"{table.shown}: {table.unit} {number}: {fault}") from fault
        if left and right:
            parts = [parts[place] for place in places]
        if len(parts) != 2 or not all(parts):
            raise InputError(
                f"{table.shown}: {table.unit} {number} is not two strings with a tab between"
            )
        one, other = parts
        refuse_nul(source, table.unit, number, one + other)
        if one == other or (one, other) in pairs or (other, one) in pairs:
            dropped += 1
            continue
        pairs[(one, other)] = None
    if not pairs:
        raise InputError(f"{table.shown}: has no pairs; give a<TAB>b lines")
    return list(pairs), dropped + notes.blank_rows + notes.repeated_headings


def refuse_nul(source: StrPath, unit: str, number: int, text: str) -> None:
    """Raise an ``InputError`` if a string to train on contains NUL."""
    if "\0" in text:
        raise InputError(
            f"{shown(source)}: {unit} {number} contains a NUL character; remove it, or name a file "
            "of text"
        )


def _checked(source: StrPath, unit: str, numbered: Iterable[tuple[int, str]]) -> Iterator[str]:
    for number, text in numbered:
        if len(text) > MAX_CHARACTERS:
            raise InputError(
                f"{source}: {unit} {number} has {counted(len(text), 'character')}; "
                "give one name or sentence a line"
            )
        refuse_nul(source, unit, number, text)
        yield text


def _collect(named: Iterable[tuple[str, tuple[int, str] | None]]) -> Corpus:
    rows: dict[str, set[int]] = {}
    numbers: dict[tuple[int, str], int] = {}
    lines = blank = duplicates = 0
    for text, entity in named:
        lines += 1
        string = text.strip()
        if is_blank(string):
            blank += 1
            continue
        duplicates += string in rows
        found = rows.setdefault(string, set())
        if entity is not None:
            found.add(numbers.setdefault(entity, len(numbers)))
    return Corpus(
        strings=tuple(rows),
        entities=tuple(tuple(sorted(found)) for found in rows.values()),
        lines=lines,
        blank=blank,
        duplicates=duplicates,
        files=tuple(file for file, _ in numbers),
    )
