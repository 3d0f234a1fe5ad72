"""``mirror-rt corpus``: write strings to train on, one per line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import inputs, kb_source, output
from .file_options import NAMES, ROWS, FileOptions, with_file_options

if TYPE_CHECKING:
    from mirror_rt.training.make_corpus import CorpusReport

corpus = typer.Typer(
    no_args_is_help=True, help="Make a corpus to train on: words, names or sentences."
)

OutOption = Annotated[
    Path | None, typer.Option("--out", "-o", help="File to write; by default standard output.")
]
SeedOption = Annotated[int, typer.Option(min=0, help="Seed of the sample.")]


@corpus.command()
def words(
    lang: Annotated[str, typer.Option(help="Language code, such as en or zh.")] = "en",
    count: Annotated[int, typer.Option(min=1, help="Maximum number of words.")] = 10_000,
    out: OutOption = None,
    force: output.ForceOption = False,
) -> None:
    """Write the most frequent words of a language (with wordfreq)."""
    from mirror_rt.training import make_corpus

    _write(make_corpus.words(lang, count=count), out, force=force)


@corpus.command()
@with_file_options(*NAMES)
def names(
    kb: Annotated[str, typer.Argument(help="Knowledge-base file.")],
    count: Annotated[
        int | None, typer.Option(min=1, help="Names to sample; all by default.")
    ] = None,
    seed: SeedOption = 42,
    *,
    file_options: FileOptions,
    out: OutOption = None,
    force: output.ForceOption = False,
) -> None:
    """Write the names of a knowledge base, or a sample."""
    from mirror_rt.knowledge.formats import SkippedRows
    from mirror_rt.training import make_corpus

    _check(out, kb, force=force)
    skipped = SkippedRows(strict=True)
    made = make_corpus.names(
        kb, count=count, seed=seed, format=file_options.kb_format, skip_bad=skipped,
        columns=file_options.columns(), options=file_options.table(),
    )  # fmt: skip
    kb_source.report_skipped(skipped)
    _write(made, out, force=force)


@corpus.command()
@with_file_options(*ROWS)
def sentences(
    file: Annotated[
        str, typer.Argument(help="Text, a line each, or a table of texts (- is stdin).")
    ],
    count: Annotated[
        int | None, typer.Option(min=1, help="Sentences to sample; all by default.")
    ] = None,
    split: Annotated[
        bool, typer.Option("--split", help="Lines are paragraphs: split them into sentences.")
    ] = False,
    min_chars: Annotated[int, typer.Option(min=1, help="Minimum characters of a sentence.")] = 1,
    max_chars: Annotated[int, typer.Option(min=1, help="Maximum characters of a sentence.")] = 1000,
    seed: SeedOption = 42,
    column: inputs.ColumnOption = None,
    *,
    file_options: FileOptions,
    out: OutOption = None,
    force: output.ForceOption = False,
) -> None:
    """Write the sentences of a text, or a sample."""
    from mirror_rt.tables import Notes
    from mirror_rt.training import make_corpus

    _check(out, file, force=force)
    notes = Notes()
    made = make_corpus.sentences(
        file, count=count, split=split, min_chars=min_chars, max_chars=max_chars, seed=seed,
        column=column, options=file_options.table(),
        notes=notes,
    )  # fmt: skip
    inputs.report_notes(file, notes)
    _write(made, out, force=force)


def _check(out: Path | None, source: str, *, force: bool) -> None:
    from mirror_rt.staging import check_apart, check_target

    if out is not None:
        check_target(out, force=force)
        check_apart(out, {"input": source})


def _write(made: CorpusReport, out: Path | None, *, force: bool) -> None:
    from mirror_rt.staging import staging_file

    text = "".join(f"{string}\n" for string in made.strings)
    if out is None:
        typer.echo(text, nl=False)
    else:
        with staging_file(out, force=force) as fresh:
            fresh.write_text(text, encoding="utf-8")
    typer.echo(str(made), err=True)
