"""``mirror-rt evaluate``: judge models and knowledge bases on the field's tasks and own data."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mirror_rt.errors import ConfigError
from mirror_rt.types import Pooling

from . import kb_source, models

if TYPE_CHECKING:
    from mirror_rt.evaluation.baselines import Model
    from mirror_rt.evaluation.result import Report
    from mirror_rt.knowledge import KnowledgeBase
    from mirror_rt.tables import TableOptions


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
    tasks: Annotated[
        str,
        typer.Option(
            help="Tasks or families, with commas: sts, lexical, linking, crosslingual, transfer, "
            "or single ones such as sts12,ncbi; all of them by default."
        ),
    ] = "",
    data: Annotated[
        Path | None, typer.Option(help="The folder of evaluation sets for --tasks.")
    ] = None,
    hub: Annotated[
        bool, typer.Option("--hub", help="Fetch what is missing in --data from the hub, if it can.")
    ] = False,
    gold: Annotated[
        Path | None,
        typer.Option(help="Gold mentions: a table with a header, or BioSyn .concept files."),
    ] = None,
    kb: Annotated[
        Path | None,
        typer.Option("--kb", help="The names to link to, for a MODEL that is no knowledge base."),
    ] = None,
    convention: Annotated[
        Rule | None,
        typer.Option(
            help="entity (each entity once) or biosyn (the k nearest names); by default entity "
            "with --gold, each task's own with --data."
        ),
    ] = None,
    mention_column: Annotated[
        str | None, typer.Option(help="The gold table's column of mentions.")
    ] = None,
    id_column: Annotated[str | None, typer.Option(help="The gold table's column of ids.")] = None,
    delimiter: kb_source.DelimiterOption = None,
    encoding: kb_source.EncodingOption = None,
    pooling: Annotated[
        Pooling | None,
        typer.Option(help="How MODEL, a checkpoint or base, pools; by default its own, else cls."),
    ] = None,
    compare: Annotated[
        list[str] | None, typer.Option(help="A further MODEL to put beside it; repeatable.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, not a table.")] = False,
    plot: Annotated[
        Path | None, typer.Option(help="Draw the scores into this PNG (needs matplotlib).")
    ] = None,
    card: Annotated[
        bool,
        typer.Option("--card", help="Put the scores into the model card of MODEL, a checkpoint."),
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace the PNG if it exists.")] = False,
) -> None:
    """Judge MODEL: on its own names with --gold, or on the field's tasks with --data."""
    from mirror_rt.evaluation.report import as_json as to_json
    from mirror_rt.evaluation.report import check_none_failed, notes, print_reports

    if (gold is None) == (data is None):
        raise ConfigError("evaluate: give either --gold FILE or --data DIR")
    if gold is not None and (tasks or hub):
        raise ConfigError("evaluate: --tasks and --hub go with --data DIR, not with --gold")
    if data is not None and kb is not None:
        raise ConfigError("evaluate: --kb goes with --gold FILE, not with --data")
    if data is not None and (mention_column or id_column):
        raise ConfigError("evaluate: --mention-column and --id-column go with --gold, not --data")
    if plot is not None:
        from mirror_rt.evaluation.plot import check_plot
        from mirror_rt.staging import check_apart

        check_plot(plot, force=force)
        check_apart(plot, {"gold": gold, "kb": kb, "model": model})
    if card and pooling is not None:
        raise ConfigError("evaluate: a card tells of a model's own pooling; leave --pooling away")
    if card:
        from mirror_rt.training.card import add_scores, read_training

        read_training(Path(model))
    # All are opened before any is judged, which may take hours.
    opened = [_opened(model, pooling), *(_opened(other, None) for other in compare or [])]
    if gold is not None:
        columns = (mention_column, id_column)
        options = kb_source.table_options(delimiter, encoding)
        reports = _linking(
            opened, gold, kb, convention or Rule.ENTITY, columns=columns, options=options
        )
    else:
        judged = _without_bases(opened)
        folder = Path(str(data))
        if hub:
            from mirror_rt.evaluation.hub import fetch_missing
            from mirror_rt.evaluation.tasks import choose, discover

            folder.mkdir(parents=True, exist_ok=True)
            fetch_missing(
                choose(tasks.split(","), discover(folder)),
                folder,
                progress=lambda words: typer.echo(words, err=True),
            )
        reports = [_suite(*one, folder, tasks, convention) for one in judged]
    if as_json:
        typer.echo(to_json(reports))
    else:
        from rich.console import Console

        print_reports(reports, Console())
        for note in notes(reports):
            typer.echo(note, err=True)
    if plot is not None:
        from mirror_rt.evaluation.plot import draw

        draw(reports, plot, force=force)
    if card:
        add_scores(Path(model), [result.as_dict() for result in reports[0].results])
    check_none_failed(reports)


def _opened(name: str, pooling: Pooling | None) -> tuple[str, Model | KnowledgeBase]:
    """Open a model, pooling as asked; return what to call it, and the model."""
    model = models.open_model(name)
    if pooling is None:
        return name, model
    from dataclasses import replace

    from mirror_rt.training.checkpoint import TorchEncoder

    if not isinstance(model, TorchEncoder):
        raise ConfigError(f"--pooling: is for a checkpoint or base, and {name} is none")
    return f"{name} ({pooling.value})", TorchEncoder(replace(model.model, pooling=pooling))


def _without_bases(
    opened: list[tuple[str, Model | KnowledgeBase]],
) -> list[tuple[str, Model]]:
    """Refuse knowledge bases, which have no vectors to give."""
    from mirror_rt.knowledge import KnowledgeBase

    judged: list[tuple[str, Model]] = []
    for name, model in opened:
        if isinstance(model, KnowledgeBase):
            raise ConfigError(
                f"{name}: a knowledge base is judged with --gold, a model with --data"
            )
        judged.append((name, model))
    return judged


def _linking(
    opened: list[tuple[str, Model | KnowledgeBase]],
    gold: Path,
    kb: Path | None,
    rule: Rule,
    *,
    columns: tuple[str | None, str | None],
    options: TableOptions,
) -> list[Report]:
    from mirror_rt.evaluation.gold import Convention, read_gold
    from mirror_rt.evaluation.link_report import judge_linking

    convention = Convention(rule.value)
    asked = read_gold(
        gold, convention=convention, mention_column=columns[0], id_column=columns[1],
        options=options,
    )  # fmt: skip
    reports = [
        judge_linking(*one, asked, task=gold.stem, kb=kb, convention=convention) for one in opened
    ]
    if asked.without_id:
        typer.echo(f"{gold}: {asked.without_id:,} mentions without an id are left out", err=True)
    return reports


def _suite(name: str, model: Model, data: Path, tasks: str, rule: Rule | None) -> Report:
    import sys

    from rich.console import Console

    from mirror_rt.evaluation.gold import Convention
    from mirror_rt.evaluation.suite import evaluate as run

    with Console(stderr=True, quiet=not sys.stderr.isatty()).status(name) as status:
        return run(
            model,
            data=data,
            tasks=tasks.split(","),
            name=name,
            convention=None if rule is None else Convention(rule.value),
            progress=lambda task: status.update(f"{name}: {task}"),
        )
