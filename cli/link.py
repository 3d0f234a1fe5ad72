"""``mirror-rt link``: mentions to entities of a knowledge base."""

from __future__ import annotations

from functools import partial
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
        typer.Option("--type", help="Propose only entities of this type; repeatable."),
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

    narrowed = precision is not None or min_probability or types or document or composites
    if explain and (form is not output.Format.JSONL or narrowed):
        raise ConfigError("--explain prints JSON lines of every candidate; leave out the rest")
    some = asked.blocks(mentions, column=column)
    encoder = asked.CountingEncoder(kbdir / "bundle")
    with KnowledgeBase.open(kbdir, bundle=bundle, encoder=encoder) as kb:
        if explain:
            from mirror_rt.knowledge.explain import explain as reasons

            asked.answer(
                some,
                partial(reasons, kb, top=top),
                lambda texts, found, head: output.explained(texts, found),
                encoder=encoder,
                what="link",
            )
            return
        asked.answer(
            some,
            partial(
                kb.link,
                top=top,
                precision=precision,
                min_probability=min_probability,
                types=types or (),
                document="\n".join(read_lines(document)) if document else None,
                composites=composites,
            ),
            lambda texts, found, head: output.candidates(
                texts, found, form, subject="mention", head=head
            ),
            encoder=encoder,
            what="link",
        )
