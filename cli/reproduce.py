"""``mirror-rt reproduce``: the paper's numbers beside ours."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer


class Table(Enum):
    """The choices of --table, so that --help needs no stage."""

    STS = "sts"
    LEXICAL = "lexical"
    LINKING = "linking"


def reproduce(
    data: Annotated[Path, typer.Option(help="The folder of evaluation sets.")],
    out: Annotated[Path, typer.Option(help="Folder for the checkpoints, one a seed.")],
    base: Annotated[
        str, typer.Option(help="Folder or hub name of a masked language model.")
    ] = "bert-base-uncased",
    table: Annotated[Table, typer.Option(help="The paper's table.")] = Table.STS,
    seeds: Annotated[str, typer.Option(help="One run each, with commas.")] = "33,44,55",
    corpus: Annotated[
        Path | None, typer.Option(help="The training strings, if not in the data folder.")
    ] = None,
    max_steps: Annotated[
        int | None, typer.Option(help="Cut the runs short, to try the command.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, not a table.")] = False,
) -> None:
    """Train with the paper's settings over seeds and print the paper's row beside ours.

    What was trained stays in OUT and is used again by the next call with the same options.
    """
    import sys

    from rich.console import Console

    from mirror_rt.evaluation.paper import PaperTable
    from mirror_rt.evaluation.report import as_json as to_json
    from mirror_rt.evaluation.report import check_none_failed, notes, print_reports
    from mirror_rt.reproduce import reproduce as run

    try:
        chosen = [int(word) for word in seeds.split(",") if word.strip()]
    except ValueError as error:
        raise typer.BadParameter("numbers with commas", param_hint="--seeds") from error
    with Console(stderr=True, quiet=not sys.stderr.isatty()).status("reproduce") as status:
        reports = run(
            base=base,
            table=PaperTable(table.value),
            data=data,
            out=out,
            seeds=chosen,
            corpus=corpus,
            max_steps=max_steps,
            device=device,
            progress=status.update,
        )
    if as_json:
        typer.echo(to_json(reports))
    else:
        print_reports(reports, Console())
        for note in notes(reports):
            typer.echo(note, err=True)
    check_none_failed(reports)
