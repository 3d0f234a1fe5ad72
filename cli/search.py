"""``mirror-rt search``: the nearest names of a knowledge base."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import asked, kb_source, output


def search(
    kbdir: Annotated[Path, typer.Argument(help="The knowledge base.")],
    queries: Annotated[
        list[str], typer.Argument(help="A file of queries, - for stdin, or the queries.")
    ],
    top: Annotated[int, typer.Option("--top", "-k", min=1, help="Answers to a query.")] = 10,
    form: Annotated[
        output.Format, typer.Option("--format", "-f", help="How to print.")
    ] = output.Format.JSONL,
    column: asked.ColumnOption = None,
    input_format: asked.FormatOption = None,
    delimiter: kb_source.DelimiterOption = None,
    encoding: kb_source.EncodingOption = None,
    types: asked.TypeOption = None,
    where: asked.WhereOption = None,
    hybrid: Annotated[
        bool | None,
        typer.Option(
            "--hybrid/--no-hybrid",
            help="By vectors and letters together, or by vectors alone; passages by both if left "
            "out, names by vectors.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Find the passages nearest to queries, or the entities with the nearest names."""
    from mirror_rt.knowledge import KnowledgeBase

    filters = asked.conditions(where, types)
    options = asked.table_options(input_format, delimiter, encoding)
    some = asked.blocks(queries, column=column, options=options)
    encoder = asked.CountingEncoder(kbdir / "bundle")
    with KnowledgeBase.open(kbdir, encoder=encoder) as kb:
        encoder.kb = kb
        passages = kb.manifest.holds == "passages"
        both = passages if hybrid is None else hybrid
        asked.answer(
            some,
            lambda block: kb.search(block.texts, top=top, hybrid=both, filters=filters),
            lambda texts, found, head: output.candidates(
                texts, found, form, subject="query", head=head, passages=passages, hybrid=both
            ),
            encoder=encoder,
            what="search",
        )
