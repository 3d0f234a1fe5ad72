"""``mirror-rt calibrate``: make a knowledge base's probabilities true on gold links."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from . import kb_source


def calibrate(
    kbdir: Annotated[Path, typer.Argument(help="The knowledge base; its numbers are replaced.")],
    gold: Annotated[
        Path,
        typer.Argument(
            help="A table with a header, mentions and ids (no id: nothing is right), or .concept."
        ),
    ],
    mention_column: Annotated[
        str | None, typer.Option(help="The gold table's column of mentions.")
    ] = None,
    id_column: Annotated[str | None, typer.Option(help="The gold table's column of ids.")] = None,
    delimiter: kb_source.DelimiterOption = None,
    encoding: kb_source.EncodingOption = None,
    plot: Annotated[
        Path | None, typer.Option(help="Draw the reliability diagram as this PNG.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the PNG.")] = False,
) -> None:
    """Fit the probabilities to your own gold links; print what that changed."""
    from mirror_rt.evaluation.gold import read_gold
    from mirror_rt.knowledge import KnowledgeBase
    from mirror_rt.knowledge.linking.calibration import check_plot, plot_reliability
    from mirror_rt.staging import check_apart

    if plot is not None:
        check_plot(plot, force=force)
        check_apart(plot, {"gold": gold})
    options = kb_source.table_options(delimiter, encoding)
    asked = read_gold(
        gold, mention_column=mention_column, id_column=id_column, keep_nil=True, options=options
    )
    pairs = [(part, query.ids) for query in asked.queries for part in query.parts]
    with KnowledgeBase.open(kbdir) as kb:
        unknown = [
            ids for _, ids in pairs if ids and not any(map(kb.resources.catalogue.resolve, ids))
        ]
        found = kb.calibrate(pairs)
    if plot is not None:
        plot_reliability(found, plot, force=force)
    typer.echo(json.dumps(found.to_dict()))
    typer.echo(
        f"{found.links:,} links, {found.accuracy:.3f} right; calibration error "
        f"{found.ece_before:.3f} before, {found.ece_after:.3f} after",
        err=True,
    )
    if found.without_candidates:
        typer.echo(
            f"{found.without_candidates:,} gold mentions without a candidate left out", err=True
        )
    if unknown:
        typer.echo(
            f"{len(unknown):,} of {len(pairs):,} gold mentions have ids that {kbdir} lacks "
            f"(first {min(unknown[0])}): whatever they link to counts as wrong",
            err=True,
        )
