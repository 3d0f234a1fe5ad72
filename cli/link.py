"""``mirror-rt link``: mentions to entities of a knowledge base."""

from __future__ import annotations

from functools import partial
from itertools import chain
from pathlib import Path
from typing import Annotated

import typer

from . import output

_PIECE = 20_000


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
    texts = output.texts_of(mentions)
    with KnowledgeBase.open(kbdir, bundle=bundle) as kb:
        if explain:
            from mirror_rt.knowledge.explain import explain as reasons

            output.explained(texts, reasons(kb, texts, top=top))
            return
        link_some = partial(
            kb.link,
            top=top,
            precision=precision,
            min_probability=min_probability,
            types=types or (),
            document="\n".join(read_lines(document)) if document else None,
            composites=composites,
        )
        # Piece by piece, so that a long file is answered as it goes; the first one before
        # anything is printed, so that an option that cannot be met prints nothing.
        first = link_some(texts[:_PIECE])
        starts = range(_PIECE, len(texts), _PIECE)
        rest = (link_some(texts[start : start + _PIECE]) for start in starts)
        found = chain(first, chain.from_iterable(rest))
        output.candidates(texts, found, form, subject="mention")
