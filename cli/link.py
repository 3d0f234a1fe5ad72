"""``mirror-rt link``: mentions to entities of a knowledge base."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import asked, output


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
    bundle: Annotated[
        Path | None, typer.Option(help="Refuse unless the knowledge base was built with it.")
    ] = None,
    precision: Annotated[
        float | None,
        typer.Option(help="Link only what was right this often where probabilities were learned."),
    ] = None,
    min_probability: Annotated[
        float, typer.Option(help="Link only what has this probability; the rest is NIL.")
    ] = 0.0,
    types: Annotated[
        list[str] | None,
        typer.Option("--type", help="Propose only entities of this type (or another one given)."),
    ] = None,
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
    composites: Annotated[
        bool, typer.Option("--composites", help="Split 'breast and ovarian cancer' into its parts.")
    ] = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="Show the evidence and the nearest rivals (jsonl).")
    ] = False,
) -> None:
    """Link mentions to entities, by name first, then by vectors, letters and words together."""
    from mirror_rt.errors import ConfigError
    from mirror_rt.knowledge import KnowledgeBase
    from mirror_rt.textfiles import read_lines

    narrowed = precision is not None or min_probability or document or composites
    if explain and (form is not output.Format.JSONL or narrowed):
        raise ConfigError("--explain prints JSON lines of every candidate; leave out the rest")
    if context is not None and context_column is not None:
        raise ConfigError("--context and --context-column: give one of them")
    filters = asked.conditions(where, types)

    def around(others: list[str]) -> list[str] | None:
        if context_column is not None:
            return others
        return None if context is None else [context] * len(others)

    some = asked.blocks(mentions, column=column, beside=context_column)
    encoder = asked.CountingEncoder(kbdir / "bundle")
    with KnowledgeBase.open(kbdir, bundle=bundle, encoder=encoder) as kb:
        if explain:
            from mirror_rt.knowledge.explain import explain as reasons

            asked.answer(
                some,
                lambda texts, others: reasons(
                    kb, texts, top=top, filters=filters, contexts=around(others)
                ),
                lambda texts, found, head: output.explained(texts, found),
                encoder=encoder,
                what="link",
            )
            return
        text = "\n".join(read_lines(document)) if document else None
        asked.answer(
            some,
            lambda texts, others: kb.link(
                texts,
                top=top,
                precision=precision,
                min_probability=min_probability,
                filters=filters,
                document=text,
                composites=composites,
                contexts=around(others),
            ),
            lambda texts, found, head: output.candidates(
                texts, found, form, subject="mention", head=head
            ),
            encoder=encoder,
            what="link",
        )
