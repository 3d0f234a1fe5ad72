"""``mirror-rt search``: the nearest names of a knowledge base."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import asked, output


def search(
    kbdir: Annotated[Path, typer.Argument(help="The knowledge base.")],
    queries: Annotated[
        list[str], typer.Argument(help="A file of queries, - for stdin, or the queries.")
    ],
    top: Annotated[int, typer.Option("--top", "-k", min=1, help="Entities for a query.")] = 10,
    form: Annotated[
        output.Format, typer.Option("--format", "-f", help="How to print.")
    ] = output.Format.JSONL,
    column: asked.ColumnOption = None,
    where: asked.WhereOption = None,
) -> None:
    """Find the entities with the nearest names, by meaning alone."""
    from mirror_rt.knowledge import KnowledgeBase

    filters = asked.conditions(where)
    some = asked.blocks(queries, column=column)
    encoder = asked.CountingEncoder(kbdir / "bundle")
    with KnowledgeBase.open(kbdir, encoder=encoder) as kb:
        asked.answer(
            some,
            lambda texts, _: kb.search(texts, top=top, filters=filters),
            lambda texts, found, head: output.candidates(
                texts, found, form, subject="query", head=head
            ),
            encoder=encoder,
            what="search",
        )
