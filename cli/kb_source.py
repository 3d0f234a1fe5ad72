"""Read files of names with the options of a command, and report on skipped rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mirror_rt.errors import InputError
from mirror_rt.types import Entity

if TYPE_CHECKING:
    from mirror_rt.knowledge.formats import SkippedRows
    from mirror_rt.knowledge.vocabularies import Vocabulary

    from .file_options import FileOptions

KbFile = Annotated[
    Path,
    typer.Argument(
        help="TSV, CSV, Excel, JSONL, id||name, OBO, RDF, Parquet, RRF, … (- is stdin)."
    ),
]
AllowFewTwinsOption = Annotated[
    bool,
    typer.Option("--allow-few-twins", help="Go on if less than 1 % of the entities have a twin."),
]


def read(path: Path, options: FileOptions, *, skipped: SkippedRows) -> Iterator[Entity]:
    """Read a knowledge-base file with the options of the command."""
    from mirror_rt.knowledge.formats import NameFilter, read_entities

    keep = NameFilter(
        languages=tuple(options.language or ()), sources=tuple(options.source or ()),
        suppressed=options.suppressed,
    )  # fmt: skip
    return read_entities(
        path, format=options.kb_format, skip_bad=skipped, keep=keep, columns=options.columns(),
        options=options.table(),
    )  # fmt: skip


def vocabularies(
    paths: Sequence[Path], options: FileOptions, *, skipped: SkippedRows
) -> list[Vocabulary]:
    """Read vocabularies, each a file or a knowledge base. The columns are those of the tables."""
    from mirror_rt.knowledge.formats import sniff
    from mirror_rt.knowledge.formats.tables import KINDS
    from mirror_rt.knowledge.vocabularies import read_vocabulary
    from mirror_rt.textfiles import Source

    sources = [Source.of(path, encoding=options.encoding) for path in paths]
    kinds = [options.kb_format or sniff(source) for source in sources]
    tables = [
        kind in KINDS or (kind is None and not path.is_dir())
        for kind, path in zip(kinds, paths, strict=True)
    ]
    return [
        read_vocabulary(
            source, format=options.kb_format, skip_bad=skipped, options=options.table(),
            columns=options.columns() if table or not any(tables) else None,
        )
        for source, table in zip(sources, tables, strict=True)
    ]  # fmt: skip


def strings(source: str, options: FileOptions) -> list[str]:
    """Read the strings of a text or of a table of texts, or the names of a knowledge-base file.

    Raises:
        InputError: It cannot be read, or contains no strings.
    """
    from mirror_rt.knowledge.formats import SkippedRows
    from mirror_rt.tables import is_blank
    from mirror_rt.training.read_corpus import open_strings

    skipped = SkippedRows(strict=True)
    found = open_strings(
        source, columns=options.columns(), options=options.table(), skip_bad=skipped
    )
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
