"""``mirror-rt link``: mentions to entities of a knowledge base."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from . import asked, kb_source, output


def link(
    kbdir: Annotated[Path, typer.Argument(help="The knowledge base.")],
    mentions: Annotated[
        list[str], typer.Argument(help="A file of mentions, - for stdin, or the mentions.")
    ],
    top: Annotated[int, typer.Option("--top", "-k", min=1, help="Candidates for a mention.")] = 5,
    form: Annotated[
        output.Format, typer.Option("--format", "-f", help="How to print.")
    ] = output.Format.JSONL,
    column: asked.ColumnOption = None,
    input_format: asked.FormatOption = None,
    delimiter: kb_source.DelimiterOption = None,
    encoding: kb_source.EncodingOption = None,
    bundle: Annotated[
        Path | None, typer.Option(help="Refuse unless the knowledge base was built with it.")
    ] = None,
    precision: Annotated[
        float | None,
        typer.Option(help="Link only what was right this often where probabilities were learned."),
    ] = None,
    min_probability: Annotated[
        float,
        typer.Option(help="Link only what has this probability, the rest is NIL; 0 links all."),
    ] = 0.0,
    types: asked.TypeOption = None,
    where: asked.WhereOption = None,
    context: Annotated[
        str | None, typer.Option(help="The text around the mention: decides between close ones.")
    ] = None,
    context_column: Annotated[
        str | None, typer.Option(help="Column or field of the file with each mention's context.")
    ] = None,
    document: Annotated[
        Path | None,
        typer.Option(help="The text the mentions are from: its abbreviations are written out."),
    ] = None,
    document_column: Annotated[
        str | None, typer.Option(help="Column or field of the file with each mention's document.")
    ] = None,
    as_written: Annotated[
        bool,
        typer.Option("--no-abbreviations", help="Of PubTator: write no abbreviation out."),
    ] = False,
    composites: Annotated[
        bool, typer.Option("--composites", help="Split 'breast and ovarian cancer' into its parts.")
    ] = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="Show the evidence and the nearest rivals (jsonl).")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(help="Write .jsonl, .tsv, .parquet or .pubtator; after a kill, go on."),
    ] = None,
    workers: Annotated[
        int,
        typer.Option(
            min=1, help="Processes that judge mentions, one a core at most; same answers."
        ),
    ] = 1,
    force: Annotated[bool, typer.Option("--force", help="Replace the file.")] = False,
) -> None:
    """Link mentions to entities, by name first, then by vectors, letters and words together.

    With --out there is a file in the end: the rows of the mentions, in their order. Run again
    after a kill, it goes on where it was.
    """
    from mirror_rt.errors import ConfigError
    from mirror_rt.knowledge import KnowledgeBase
    from mirror_rt.knowledge.answering import read_mentions
    from mirror_rt.textfiles import read_lines

    if explain and (form is not output.Format.JSONL or out):
        raise ConfigError("--explain prints JSON lines; leave out --format and --out")
    if context is not None and context_column is not None:
        raise ConfigError("--context and --context-column: give one of them")
    if document is not None and document_column is not None:
        raise ConfigError("--document and --document-column: give one of them")
    if as_written and (document is not None or document_column is not None):
        raise ConfigError("--no-abbreviations: a document is asked for nothing else; leave it out")
    filters = asked.conditions(where, types)

    def around(block: asked.Block) -> list[str] | None:
        if context_column is not None:
            return block.contexts
        return None if context is None else [context] * len(block.texts)

    some = asked.blocks(
        mentions,
        column=column,
        beside=context_column,
        documents=document_column,
        abbreviations=not as_written,
        options=asked.table_options(input_format, delimiter, encoding),
    )
    encoder = asked.CountingEncoder(kbdir / "bundle")
    with KnowledgeBase.open(kbdir, bundle=bundle, encoder=encoder, workers=workers) as kb:
        encoder.kb = kb
        text = "\n".join(read_lines(document)) if document else None

        def read(block: asked.Block) -> list[tuple[str, ...]]:
            documents = block.documents if text is None else text
            return read_mentions(kb, block.texts, document=documents, composites=composites)

        def options(block: asked.Block) -> dict[str, Any]:
            return {
                "top": top,
                "precision": precision,
                "min_probability": min_probability,
                "filters": filters,
                "document": block.documents if text is None else text,
                "composites": composites,
                "contexts": around(block),
            }

        if explain:
            from mirror_rt.knowledge.explain import explain as reasons

            asked.answer(
                some,
                lambda block: reasons(kb, block.texts, **options(block)),
                lambda texts, found, head: output.explained(texts, found),
                encoder=encoder,
                what="link",
                read=read,
                around=around,
            )
            return

        def find(block: asked.Block) -> list[str]:
            found = kb.link(block.texts, **options(block))
            return output.in_lines(block.texts, found)

        remembered = asked.Remembered(find)
        if out is None:
            asked.answer(
                some,
                remembered,
                lambda texts, lines, head: output.show(lines, form, head=head),
                encoder=encoder,
                what="link",
                read=read,
                around=around,
            )
            return
        from .linkjob import LinkJob, settings_of

        settings = settings_of(
            kb, top=top, precision=precision, min_probability=min_probability, filters=filters,
            context=context, document=text, composites=composites,
        )  # fmt: skip
        beside = {"document": document}
        with LinkJob.hold(mentions[0], out, settings, force=force, inputs=beside) as job:
            asked.answer(
                some,
                lambda block: job.answer(block, remembered),
                lambda texts, lines, head: None,
                encoder=encoder,
                what="link",
                read=read,
                around=around,
                total=asked.count(mentions),
            )
            job.finish(force=force)
    words = f"{out}: {job.rows:,} mentions"
    words += f", {job.kept:,} blocks of an earlier run kept" if job.kept else ""
    if job.undecided:
        words += f"; {job.undecided:,} of them have several ids alike: the first is written"
    typer.echo(words, err=True)
