"""Read mentions, a row at a time, each with its context and the document that it is from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from mirror_rt.errors import ConfigError

__all__ = ["Notes", "Row", "read_mentions"]

Row: TypeAlias = tuple[str, str, str]
"""A mention, its context, and the document that may define it; the last two may be empty."""


@dataclass(slots=True)
class Notes:
    """What is worth knowing of a file when it has been read.

    Attributes:
        blank_rows: Rows of a table, and lines of JSON, with nothing in them: they are no rows.
        misplaced: Mentions of PubTator that do not stand in the text at their offsets.
    """

    blank_rows: int = 0
    misplaced: int = 0


def read_mentions(
    source: str | Path,
    *,
    column: str | None = None,
    context_column: str | None = None,
    document_column: str | None = None,
    abbreviations: bool = True,
    notes: Notes | None = None,
) -> Iterator[Row]:
    """Yield the mentions of a file as it is read. A null in it is an empty string.

    Args:
        source: A file in any layout that ``embed`` reads, ``-``, or a PubTator file.
        column: The column of the mentions.
        context_column: The column of the text around each; of PubTator ``sentence`` or
            ``document``.
        document_column: The column of the document of each; PubTator has its own.
        abbreviations: Whether documents are wanted, for the abbreviations that they define.
        notes: Filled while the file is read.

    Raises:
        InputError: The file cannot be read, or a row is broken; the message names the row.
        ConfigError: There are no columns to choose from.
    """
    from mirror_rt.knowledge.pubtator import is_pubtator

    noted = Notes() if notes is None else notes
    if is_pubtator(source):
        if column or document_column or context_column not in {None, "sentence", "document"}:
            raise ConfigError(
                f"{source}: PubTator has no columns; --context-column takes sentence or document"
            )
        rows = _pubtator(source, context_column, noted)
    else:
        rows = _table(source, column, context_column, document_column, noted)
    if abbreviations:
        return _defining(rows)
    return ((mention, context, "") for mention, context, _ in rows)


def _table(
    source: str | Path,
    column: str | None,
    context_column: str | None,
    document_column: str | None,
    notes: Notes,
) -> Iterator[Row]:
    from mirror_rt.runtime.sources import Gaps, read_rows

    gaps = Gaps()
    rows = read_rows(source, column=column, id_column=context_column, gaps=gaps)
    if document_column is None:
        yield from ((mention, context, "") for mention, context in rows)
    else:
        others = read_rows(source, column=column, id_column=document_column, gaps=Gaps())
        for (mention, context), (_, document) in zip(rows, others, strict=True):
            yield mention, context, document
    notes.blank_rows = gaps.blank_rows


def _pubtator(source: str | Path, context: str | None, notes: Notes) -> Iterator[Row]:
    from mirror_rt.knowledge.pubtator import read_mentions as read

    for mention in read(source):
        notes.misplaced += not mention.stands
        around = {None: "", "document": mention.document}.get(context)
        yield mention.text, mention.sentence if around is None else around, mention.document


def _defining(rows: Iterable[Row]) -> Iterator[Row]:
    """Leave out a document that does not define its mention: nothing stands beside it then."""
    from mirror_rt.knowledge.mentions import abbreviations

    last, defined = "", dict[str, str]()
    for mention, context, document in rows:
        if document != last:
            last, defined = document, abbreviations(document)
        yield mention, context, document if mention.strip() in defined else ""
