"""``mirror-rt link``: mentions to entities of a knowledge base."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import output


def link(
    kbdir: Annotated[Path, typer.Argument(help="The knowledge base.")],
    mentions: Annotated[
        list[str], typer.Argument(help="A file, one mention a line; - for stdin; or the mentions.")
    ],
    top: Annotated[int, typer.Option("--top", "-k", help="Candidates for a mention.")] = 5,
    form: Annotated[
        output.Format, typer.Option("--format", "-f", help="How to print.")
    ] = output.Format.JSONL,
    bundle: Annotated[
        Path | None, typer.Option(help="Refuse unless the knowledge base was built with it.")
    ] = None,
) -> None:
    """Link mentions to entities, by name first, then by meaning."""
    from mirror_rt.knowledge import KnowledgeBase

    texts = output.texts_of(mentions)
    with KnowledgeBase.open(kbdir, bundle=bundle) as kb:
        output.candidates(texts, kb.link(texts, top=top), form, subject="mention")
