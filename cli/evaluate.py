"""``mirror-rt evaluate``: judge models and knowledge bases on gold data."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from mirror_rt.errors import ConfigError

from . import models


class Rule(Enum):
    """The choices of --convention, so that --help needs no stage."""

    ENTITY = "entity"
    BIOSYN = "biosyn"


def evaluate(
    model: Annotated[
        str,
        typer.Argument(
            help="A knowledge base, bundle, checkpoint, hub model, or baseline:char-ngram, "
            "baseline:exact."
        ),
    ],
    gold: Annotated[
        Path | None,
        typer.Option(help="Gold mentions: a TSV with a header, or BioSyn .concept files."),
    ] = None,
    kb: Annotated[
        Path | None,
        typer.Option("--kb", help="The names to link to, for a MODEL that is no knowledge base."),
    ] = None,
    convention: Annotated[
        Rule, typer.Option(help="entity (each entity once) or biosyn (the k nearest names).")
    ] = Rule.ENTITY,
    mention_column: Annotated[
        str | None, typer.Option(help="The gold TSV's column of mentions.")
    ] = None,
    id_column: Annotated[str | None, typer.Option(help="The gold TSV's column of ids.")] = None,
    compare: Annotated[
        list[str] | None, typer.Option(help="A further MODEL to put beside it; repeatable.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, not a table.")] = False,
) -> None:
    """Judge MODEL on entity linking: acc@1, acc@5, recall and mean reciprocal rank."""
    from mirror_rt.evaluation.gold import Convention, read_gold
    from mirror_rt.evaluation.link_report import judge_linking
    from mirror_rt.evaluation.report import as_json as to_json
    from mirror_rt.evaluation.report import print_reports

    if gold is None:
        raise ConfigError("evaluate: nothing to judge on; give --gold FILE")
    rule = Convention(convention.value)
    asked = read_gold(gold, convention=rule, mention_column=mention_column, id_column=id_column)
    reports = [
        judge_linking(name, models.open_model(name), asked, task=gold.stem, kb=kb, convention=rule)
        for name in [model, *(compare or [])]
    ]
    if as_json:
        typer.echo(to_json(reports))
        return
    from rich.console import Console

    print_reports(reports, Console())
