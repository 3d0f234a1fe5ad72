"""``mirror-rt index``: a file of entities to a knowledge base."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mirror_rt.types import IndexKind

from . import output


def index(
    bundle: Annotated[Path, typer.Argument(help="The bundle that embeds the names.")],
    kb: Annotated[Path, typer.Argument(help="TSV, CSV, JSONL, id||name, OBO, … (- is stdin).")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder to make.")],
    kind: Annotated[
        IndexKind, typer.Option("--index", help="How nearest names are found.")
    ] = IndexKind.AUTO,
    force: Annotated[bool, typer.Option("--force", help="Replace the folder.")] = False,
) -> None:
    """Build a knowledge base: its entities, the vectors of their names, an index."""
    from mirror_rt.knowledge import KnowledgeBase

    with output.progress_bar("embedding names") as progress:
        built = KnowledgeBase.build(bundle, kb, out, index=kind, force=force, progress=progress)
    counts = built.manifest.counts
    words = f"{out}: {counts['entities']:,} entities, {counts['texts']:,} different names"
    if counts["ambiguous_texts"]:
        words += f", {counts['ambiguous_texts']:,} of them ambiguous"
    if counts["repeated_names"]:
        words += f"; {counts['repeated_names']:,} repeated names were read once"
    typer.echo(words, err=True)
