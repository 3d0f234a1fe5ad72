"""The options of every command that reads a knowledge-base file, and what was left out of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mirror_rt.types import Entity, KbFormat

if TYPE_CHECKING:
    from mirror_rt.knowledge.formats import SkippedRows

KbFile = Annotated[
    Path,
    typer.Argument(help="TSV, CSV, JSONL, id||name, OBO, RDF, Parquet, RRF, … (- is stdin)."),
]
FormatOption = Annotated[
    KbFormat | None, typer.Option("--kb-format", help="Its format; else told by name and content.")
]
LanguageOption = Annotated[
    list[str] | None,
    typer.Option("--language", help="Keep names of this language; repeat it, dearest first."),
]
SourceOption = Annotated[
    list[str] | None, typer.Option("--source", help="Keep names of this source (UMLS: MSH).")
]
SuppressedOption = Annotated[
    bool, typer.Option("--suppressed", help="Keep names that UMLS marks as suppressed.")
]
SkipBadOption = Annotated[
    bool, typer.Option("--skip-bad", help="Count bad rows instead of stopping at the first.")
]


def read(
    path: Path,
    kb_format: KbFormat | None,
    *,
    languages: list[str] | None,
    sources: list[str] | None,
    suppressed: bool,
    skipped: SkippedRows,
) -> Iterator[Entity]:
    """Read a knowledge-base file as the options say."""
    from mirror_rt.knowledge.formats import NameFilter, read_entities

    keep = NameFilter(
        languages=tuple(languages or ()), sources=tuple(sources or ()), suppressed=suppressed
    )
    return read_entities(path, format=kb_format, skip_bad=skipped, keep=keep)


def tell_skipped(skipped: SkippedRows) -> None:
    """Say on standard error what was left out, and why; nothing if nothing was."""
    for message in skipped.messages:
        typer.echo(message, err=True)
    counts = {"bad rows": skipped.bad, **left_out(skipped), "metadata values": skipped.metadata}
    if any(counts.values()):
        words = ", ".join(f"{count:,} {what}" for what, count in counts.items() if count)
        typer.echo(f"left out: {words}", err=True)


def left_out(skipped: SkippedRows) -> dict[str, int]:
    """Return how much of an entity file was left out, though no row was bad."""
    return {
        "obsolete terms": skipped.obsolete,
        "names filtered out": skipped.filtered,
        "old ids without successor": skipped.unresolved,
        "classes without a name": skipped.nameless,
        "classes without an id": skipped.anonymous,
        "types of concepts without a name": skipped.types,
    }
