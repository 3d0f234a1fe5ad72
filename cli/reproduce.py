"""``mirror-rt reproduce``: reproduce tables of the paper."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from . import output, progress, text_table


class Table(Enum):
    """The choices of --table, defined here to keep --help fast."""

    STS = "sts"
    LEXICAL = "lexical"
    LINKING = "linking"


def reproduce(
    data: Annotated[Path, typer.Option(help="The folder of evaluation sets.")],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder for the checkpoints, one per seed.")
    ],
    base: Annotated[
        str, typer.Option(help="Folder or hub name of the model to start from.")
    ] = "bert-base-uncased",
    table: Annotated[Table, typer.Option(help="The paper's table.")] = Table.STS,
    seeds: Annotated[
        str, typer.Option(help="Seeds, separated by commas; one run each.")
    ] = "33,44,55",
    corpus: Annotated[
        Path | None, typer.Option(help="The training strings, if not in the data folder.")
    ] = None,
    max_steps: Annotated[
        int | None, typer.Option(help="Maximum number of steps, to try the command.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1.")] = "auto",
    form: output.FormatOption = None,
) -> None:
    """Train with the paper's settings; compare with its results.

    All files are checked before the training. Checkpoints stay in OUT, and the next call with the
    same options reuses them.

    For example:

    mirror-rt reproduce --data sets --out runs --table sts
    """
    from mirror_rt.evaluation.paper import PaperTable
    from mirror_rt.evaluation.report import (
        COLUMNS,
        as_record,
        as_rows,
        check_scored,
        notes,
        tables,
    )
    from mirror_rt.reproduce import reproduce as run

    written_as = output.chosen(form)

    try:
        chosen = [int(word) for word in seeds.split(",") if word.strip()]
    except ValueError as error:
        raise typer.BadParameter("numbers with commas", param_hint="--seeds") from error
    with progress.bar("reproduce") as show:
        reports = run(
            base=base,
            table=PaperTable(table.value),
            data=data,
            out=out,
            seeds=chosen,
            corpus=corpus,
            max_steps=max_steps,
            device=device,
            progress=show,
        )
    with output.lines_to(None) as write:
        output.report(
            as_record(reports), COLUMNS, as_rows(reports), written_as, write,
            people=lambda: [
                line
                for drawn in tables(reports, width=text_table.width(), together=True)
                for line in output.rendered(drawn)
            ],
        )  # fmt: skip
    if written_as is output.Format.TABLE:
        for note in notes(reports):
            typer.echo(note, err=True)
    check_scored(reports)
