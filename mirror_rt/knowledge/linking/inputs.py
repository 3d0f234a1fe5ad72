"""Read mentions row by row, each with its context and its document."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from mirror_rt._count import counted
from mirror_rt.errors import ConfigError
from mirror_rt.knowledge.formats.pubtator import is_pubtator
from mirror_rt.knowledge.formats.pubtator import read_mentions as read_pubtator
from mirror_rt.knowledge.text.abbreviations import SpelledPhrases, find_abbreviations
from mirror_rt.runtime.sources import read_columns
from mirror_rt.tables import ArrowTable, Kept, Notes, TableOptions, is_arrow
from mirror_rt.textfiles import Source, StrPath

__all__ = ["MentionNotes", "Row", "is_elsewhere", "read_mentions"]

Row: TypeAlias = tuple[str, str, str]
"""A mention, its context, and a document that may define it. The last two may be empty."""


_BETWEEN = "; "
"""Separates phrases."""


@dataclass(slots=True)
class MentionNotes(Notes):
    """Problems that were ignored in a file of mentions.

    Attributes:
        misplaced: PubTator mentions that differ from the text at their offsets.
        elsewhere: Mentions that are not in the text of their document's column.
    """

    misplaced: int = 0
    elsewhere: int = 0

    def sentences(self) -> list[str]:
        """Return a sentence for each problem."""
        found = Notes.sentences(self)
        if self.misplaced:
            found.append(
                f"{counted(self.misplaced, 'mention')} not in the text at the offset given"
            )
        if self.elsewhere:
            found.append(
                f"{counted(self.elsewhere, 'mention')} not in the document given; "
                "--document-column names the column with the text of the document"
            )
        return found


def read_mentions(
    source: StrPath | ArrowTable,
    *,
    column: str | None = None,
    context_column: str | None = None,
    document_column: str | None = None,
    expand_abbreviations: bool = True,
    table: TableOptions | None = None,
    notes: MentionNotes | None = None,
    kept: Kept | None = None,
) -> Iterator[Row]:
    """Yield the mentions of a file while it is read. A null becomes an empty string.

    Args:
        source: A file in any format that ``embed`` reads, ``-``, a PubTator file, or a table in
            memory.
        column: The column of the mentions.
        context_column: The column with the text around each mention; for PubTator ``sentence``
            or ``document``.
        document_column: The column with the text of each mention's document; PubTator files
            contain the documents.
        expand_abbreviations: Whether to read documents, for the abbreviations they define.
        table: Options for reading the file, if its name and content are not enough.
        notes: Filled while the file is read.
        kept: Stores all columns of the rows.

    Raises:
        InputError: The file cannot be read, or a row is broken; the message names the row.
        ConfigError: A column is given, but the file has no columns.
    """
    noted = MentionNotes() if notes is None else notes
    known = table is not None and table.format is not None
    if not is_arrow(source):
        source = Source.of(source, encoding=None if table is None else table.encoding)
    if not known and isinstance(source, Source) and is_pubtator(source):
        if column or document_column or context_column not in {None, "sentence", "document"}:
            raise ConfigError(
                f"{source}: PubTator has no columns; --context-column takes sentence or document"
            )
        rows = _pubtator(source, context_column, noted, kept)
    else:
        rows = _table(source, column, context_column, document_column, table, noted, kept)
    if expand_abbreviations:
        return _defining(rows)
    return ((mention, context, "") for mention, context, _ in rows)


def is_elsewhere(mention: str, document: str) -> bool:
    """Return whether a document is given that does not contain the mention, in any case."""
    return bool(document) and mention.casefold() not in document.casefold()


def _table(
    source: StrPath | ArrowTable,
    column: str | None,
    context_column: str | None,
    document_column: str | None,
    table: TableOptions | None,
    notes: MentionNotes,
    kept: Kept | None,
) -> Iterator[Row]:
    others = [name for name in (context_column, document_column) if name is not None]
    for mention, *rest in read_columns(
        source, column, others, options=table, notes=notes, kept=kept
    ):
        context = rest[0] if context_column is not None else ""
        document = rest[-1] if document_column is not None else ""
        notes.elsewhere += is_elsewhere(mention, document)
        yield mention, context, document


def _pubtator(
    source: StrPath, context: str | None, notes: MentionNotes, kept: Kept | None
) -> Iterator[Row]:
    if kept is not None:
        kept.begin(["document_id", "start", "end", "mention"], shown=str(source), unit="mention")
    for number, mention in enumerate(read_pubtator(source), start=1):
        if kept is not None:
            kept.add(
                number, [mention.document_id, str(mention.start), str(mention.end), mention.text]
            )
        notes.misplaced += not mention.stands
        around = {None: "", "document": mention.document}.get(context)
        yield mention.text, mention.sentence if around is None else around, mention.document


def _defining(rows: Iterable[Row]) -> Iterator[Row]:
    """Drop each document that cannot define its mention; such a row needs no document.

    If a document only has phrases whose initials may spell the mention, keep just these phrases.
    """
    last, defined, phrases = "", dict[str, str](), SpelledPhrases("")
    for mention, context, document in rows:
        if document != last:
            last, defined = document, find_abbreviations(document)
            phrases = SpelledPhrases(document)
        if mention.strip() in defined:
            yield mention, context, document
        else:
            spelled = phrases.of(mention.strip())
            short = f" ({mention.strip()})"
            texts = [phrase + short if surely == 2 else phrase for phrase, surely in spelled]
            yield mention, context, _BETWEEN.join(texts)
