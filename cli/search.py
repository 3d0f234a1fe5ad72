"""``mirror-rt search``: the nearest names of a knowledge base."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import output


def search(
    kbdir: Annotated[Path, typer.Argument(help="The knowledge base.")],
    queries: Annotated[
        list[str], typer.Argument(help="A file, one query a line; - for stdin; or the queries.")
    ],
    top: Annotated[int, typer.Option("--top", "-k", help="Entities for a query.")] = 10,
    form: Annotated[
        output.Format, typer.Option("--format", "-f", help="How to print.")
    ] = output.Format.JSONL,
) -> None:
    """Find the entities with the nearest names, by meaning alone."""
    from mirror_rt.knowledge import KnowledgeBase

    texts = output.texts_of(queries)
    with KnowledgeBase.open(kbdir) as kb:
        output.candidates(texts, kb.search(texts, top=top), form, subject="query")
