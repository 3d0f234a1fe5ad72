"""Read what is trained on: the different strings of a file, and which entities they name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from mirror_rt.errors import InputError
from mirror_rt.textfiles import numbered_lines

__all__ = ["MAX_CHARACTERS", "Corpus", "read_corpus", "read_pairs", "text_column"]

MAX_CHARACTERS = 100_000
"""A longer string is a file by mistake; all but its first tokens would be cut off anyway."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Corpus:
    """Different strings in the order read.

    Attributes:
        strings: Each once, without spaces around it.
        entities: For each string the numbers of the entities it names; empty for plain text.
        lines: Strings read, before anything was dropped.
        blank: Of these, blank ones.
        duplicates: Of these, repeats of an earlier string.
    """

    strings: tuple[str, ...]
    entities: tuple[tuple[int, ...], ...]
    lines: int
    blank: int
    duplicates: int

    @property
    def names_by_entity(self) -> dict[int, list[int]]:
        """The rows of ``strings`` that name each entity."""
        rows: dict[int, list[int]] = {}
        for row, entities in enumerate(self.entities):
            for entity in entities:
                rows.setdefault(entity, []).append(row)
        return rows


def text_column(source: str | Path) -> str | None:
    """Return which column of a table has texts; None of a knowledge base, or of plain text.

    Raises:
        InputError: The file cannot be read.
    """
    from mirror_rt.knowledge.formats.tables import header_columns
    from mirror_rt.runtime import sources

    if str(source) == "-" or sources.kind_of(source) is sources.Kind.TEXT:
        return None
    columns = sources.columns_of(source)
    if header_columns(columns) is not None:
        return None
    usual = ("text", "mention", "query") if len(columns) > 1 else columns
    return next((column for column in usual if column in columns), None)


def read_corpus(source: str | Path) -> Corpus:
    """Read a text file (a string a line), a table of texts, or the names of a knowledge-base file.

    Raises:
        InputError: It cannot be read, or holds no string; a string is too long.
    """
    from mirror_rt.knowledge import formats
    from mirror_rt.runtime.sources import read_rows

    known = None if str(source) == "-" else formats.sniff(source)
    column = text_column(source)
    if column is not None:
        rows = enumerate((text for text, _ in read_rows(source, column=column)), 1)
        corpus = _collect(_checked(source, "text", rows))
    elif known is None:
        corpus = _collect(_checked(source, "line", numbered_lines(source)))
    else:
        entities = formats.read_entities(source, format=known)
        corpus = _collect((name.text, entity.id) for entity in entities for name in entity.names)
    if not corpus.strings:
        shown = "standard input" if str(source) == "-" else source
        raise InputError(f"{shown}: has no strings to train on; give one a line")
    return corpus


def read_pairs(source: str | Path) -> tuple[list[tuple[str, str]], int]:
    """Read ``a<TAB>b`` lines.

    Returns:
        The pairs, without repeats, pairs of equal strings and blank lines, and how many lines
        were dropped for that.

    Raises:
        InputError: The file cannot be read, or a line has not two strings.
    """
    pairs: dict[tuple[str, str], None] = {}
    dropped = 0
    for number, line in numbered_lines(source):
        if not line.strip():
            dropped += 1
            continue
        parts = [part.strip() for part in line.split("\t")]
        if len(parts) != 2 or not all(parts):
            raise InputError(f"{source}: line {number} is not two strings with a tab between")
        first, second = parts
        if first == second or (first, second) in pairs or (second, first) in pairs:
            dropped += 1
            continue
        pairs[(first, second)] = None
    if not pairs:
        raise InputError(f"{source}: has no pairs; give a<TAB>b lines")
    return list(pairs), dropped


def _checked(
    source: str | Path, unit: str, numbered: Iterable[tuple[int, str]]
) -> Iterator[tuple[str, None]]:
    for number, text in numbered:
        if len(text) > MAX_CHARACTERS:
            raise InputError(
                f"{source}: {unit} {number} has {len(text)} characters; "
                "give one name or sentence a line"
            )
        yield text, None


def _collect(named: Iterable[tuple[str, str | None]]) -> Corpus:
    rows: dict[str, set[int]] = {}
    numbers: dict[str, int] = {}
    lines = blank = duplicates = 0
    for text, entity in named:
        lines += 1
        string = text.strip()
        if not string:
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
    )
