"""The options of all commands that read a knowledge-base file, and reports on skipped rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mirror_rt.errors import InputError
from mirror_rt.types import Entity, KbFormat

if TYPE_CHECKING:
    from mirror_rt.knowledge.formats import Columns, SkippedRows
    from mirror_rt.knowledge.vocabularies import Vocabulary
    from mirror_rt.tables import TableOptions

FILE_PANEL = "The file that is read"

KbFile = Annotated[
    Path,
    typer.Argument(
        help="TSV, CSV, Excel, JSONL, id||name, OBO, RDF, Parquet, RRF, … (- is stdin)."
    ),
]
FormatOption = Annotated[
    KbFormat | None,
    typer.Option(
        "--kb-format",
        help="File format; by default detected from name and content.",
        rich_help_panel=FILE_PANEL,
    ),
]
LanguageOption = Annotated[
    list[str] | None,
    typer.Option(
        "--language",
        help="Keep names of this language; repeatable, preferred first.",
        rich_help_panel=FILE_PANEL,
    ),
]
SourceOption = Annotated[
    list[str] | None,
    typer.Option(
        "--source", help="Keep names from this source (UMLS: MSH).", rich_help_panel=FILE_PANEL
    ),
]
SuppressedOption = Annotated[
    bool,
    typer.Option(
        "--suppressed", help="Keep names that UMLS marks as suppressed.", rich_help_panel=FILE_PANEL
    ),
]
SkipBadOption = Annotated[
    bool,
    typer.Option(
        "--skip-bad",
        help="Count bad rows instead of stopping at the first.",
        rich_help_panel=FILE_PANEL,
    ),
]
IdColumnOption = Annotated[
    str | None,
    typer.Option(
        "--id-column", help="Heading of the ids, or its number.", rich_help_panel=FILE_PANEL
    ),
]
NameColumnOption = Annotated[
    str | None,
    typer.Option(
        "--name-column", help="Heading of the names, or its number.", rich_help_panel=FILE_PANEL
    ),
]
AliasColumnOption = Annotated[
    list[str] | None,
    typer.Option(
        "--alias-column", help="Heading of aliases; repeatable.", rich_help_panel=FILE_PANEL
    ),
]
FieldOption = Annotated[
    list[str] | None,
    typer.Option(
        "--field",
        help="Keep this column as a field; repeatable; '*' for all others.",
        rich_help_panel=FILE_PANEL,
    ),
]
NoNameOption = Annotated[
    list[str] | None,
    typer.Option(
        "--field",
        help="As for index: this column is a field, so it gives no names.",
        rich_help_panel=FILE_PANEL,
    ),
]
DelimiterOption = Annotated[
    str | None,
    typer.Option(
        help="Separator of a table's cells: one character, or tab.", rich_help_panel=FILE_PANEL
    ),
]
EncodingOption = Annotated[
    str | None,
    typer.Option(
        help="Encoding, such as windows-1252; by default UTF-8.",
        rich_help_panel=FILE_PANEL,
    ),
]
AllowFewTwinsOption = Annotated[
    bool,
    typer.Option("--allow-few-twins", help="Go on if less than 1 % of the entities have a twin."),
]


def columns(
    id_column: str | None,
    name_column: str | None,
    aliases: list[str] | None,
    fields: list[str] | None = None,
) -> Columns:
    """Return the columns of a table from the options."""
    from mirror_rt.knowledge.formats import Columns

    return Columns(
        id=id_column, name=name_column, aliases=tuple(aliases or ()), fields=tuple(fields or ())
    )


def table_options(delimiter: str | None, encoding: str | None) -> TableOptions:
    """Return the options for reading a table."""
    from mirror_rt.tables import TableOptions

    return TableOptions(delimiter=delimiter, encoding=encoding)


def read(
    path: Path,
    kb_format: KbFormat | None,
    *,
    languages: list[str] | None,
    sources: list[str] | None,
    suppressed: bool,
    skipped: SkippedRows,
    columns: Columns | None = None,
    options: TableOptions | None = None,
) -> Iterator[Entity]:
    """Read a knowledge-base file with the options of the command."""
    from mirror_rt.knowledge.formats import NameFilter, read_entities

    keep = NameFilter(
        languages=tuple(languages or ()), sources=tuple(sources or ()), suppressed=suppressed
    )
    return read_entities(
        path, format=kb_format, skip_bad=skipped, keep=keep, columns=columns, options=options
    )


def vocabularies(
    paths: Sequence[Path],
    kb_format: KbFormat | None,
    *,
    skipped: SkippedRows,
    columns: Columns,
    options: TableOptions,
) -> list[Vocabulary]:
    """Read vocabularies, each a file or a knowledge base. The columns are those of the tables."""
    from mirror_rt.knowledge.formats import sniff
    from mirror_rt.knowledge.formats.tables import KINDS
    from mirror_rt.knowledge.vocabularies import read_vocabulary
    from mirror_rt.textfiles import Source

    sources = [Source.of(path, encoding=options.encoding) for path in paths]
    kinds = [kb_format or sniff(source) for source in sources]
    tables = [
        kind in KINDS or (kind is None and not path.is_dir())
        for kind, path in zip(kinds, paths, strict=True)
    ]
    return [
        read_vocabulary(
            source, format=kb_format, skip_bad=skipped, options=options,
            columns=columns if table or not any(tables) else None,
        )
        for source, table in zip(sources, tables, strict=True)
    ]  # fmt: skip


def strings(
    source: str, columns: Columns | None = None, options: TableOptions | None = None
) -> list[str]:
    """Read the strings of a text or of a table of texts, or the names of a knowledge-base file.

    Raises:
        InputError: It cannot be read, or contains no strings.
    """
    from mirror_rt.knowledge.formats import SkippedRows
    from mirror_rt.tables import is_blank
    from mirror_rt.training.read_corpus import open_strings

    skipped = SkippedRows(strict=True)
    found = open_strings(source, columns=columns, options=options, skip_bad=skipped)
    if found.texts is not None:
        texts = [text for _, text in found.texts]
        skipped.remarks += found.notes.sentences()
    else:
        texts = [name.text for entity in found.entities or () for name in entity.names]
    report_skipped(skipped)
    texts = [text for text in texts if not is_blank(text)]
    if not texts:
        raise InputError(f"{source}: is empty; give one string a line")
    return texts


def report_columns(skipped: SkippedRows) -> None:
    """Report on standard error how a table was read, and which columns were not read."""
    for remark in skipped.understood():
        typer.echo(remark, err=True)


def report_skipped(skipped: SkippedRows) -> None:
    """Report on standard error how a file was read, and what was left out and why, if anything."""
    for sentence in skipped.sentences():
        typer.echo(sentence, err=True)
