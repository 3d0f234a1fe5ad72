"""``mirror-rt evaluate``: evaluate models and knowledge bases on gold mentions or tasks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mirror_rt._count import counted
from mirror_rt.errors import ConfigError
from mirror_rt.types import Pooling

from . import inputs, models, output, progress, text_table, thresholds
from .file_options import TABLE, FileOptions, with_file_options

if TYPE_CHECKING:
    from mirror_rt.evaluation.baselines import Model
    from mirror_rt.evaluation.gold import Gold
    from mirror_rt.evaluation.link_report import LinkingEvaluation, LinkSettings, Outcome
    from mirror_rt.evaluation.result import Report
    from mirror_rt.knowledge import KnowledgeBase

_GOLD, _BASE = "Your own gold mentions", "How a knowledge base links"
_TASKS = "The field's tasks"


class Rule(Enum):
    """The choices of --convention, defined here to keep --help fast."""

    ENTITY = "entity"
    BIOSYN = "biosyn"


@with_file_options(*TABLE)
def evaluate(
    model: Annotated[
        str,
        typer.Argument(
            help="A knowledge base, bundle, checkpoint, hub model, or baseline:char-ngram, "
            "baseline:exact."
        ),
    ],
    compare: Annotated[
        list[str] | None, typer.Option(help="Another MODEL to compare with; repeatable.")
    ] = None,
    pooling: Annotated[
        Pooling | None,
        typer.Option(help="Pooling of a checkpoint or base; by default its own, or cls."),
    ] = None,
    gold: Annotated[
        Path | None,
        typer.Option(
            help="Gold mentions: a table with a header, BioSyn .concept files, or PubTator.",
            rich_help_panel=_GOLD,
        ),
    ] = None,
    kb: Annotated[
        Path | None,
        typer.Option(
            "--kb",
            help="The names to link to, if MODEL is not a knowledge base.",
            rich_help_panel=_GOLD,
        ),
    ] = None,
    convention: Annotated[
        Rule | None,
        typer.Option(
            help="entity (each entity once) or biosyn (the k nearest names); by default entity "
            "with --gold, each task's own with --data.",
            rich_help_panel=_GOLD,
        ),
    ] = None,
    mention_column: Annotated[
        str | None,
        typer.Option(help="The gold table's column of mentions.", rich_help_panel=_GOLD),
    ] = None,
    id_column: Annotated[
        str | None, typer.Option(help="The gold table's column of ids.", rich_help_panel=_GOLD)
    ] = None,
    context_column: Annotated[
        str | None,
        typer.Option(
            help="Column or field with the text around each mention; "
            "PubTator: sentence or document.",
            rich_help_panel=_GOLD,
        ),
    ] = None,
    document_column: Annotated[
        str | None,
        typer.Option(
            help="Column or field with the text of each mention's document.",
            rich_help_panel=_GOLD,
        ),
    ] = None,
    *,
    file_options: FileOptions,
    target_precision: Annotated[
        float | None,
        typer.Option(
            help="Count links from the threshold of this precision on.",
            rich_help_panel=_BASE,
        ),
    ] = None,
    min_probability: Annotated[
        float,
        typer.Option(help="Count links from this probability on.", rich_help_panel=_BASE),
    ] = 0.0,
    review_below: Annotated[
        float | None,
        typer.Option(
            help="Count links from this probability on, without ties; "
            ".5 if no other threshold is given.",
            rich_help_panel=_BASE,
        ),
    ] = None,
    filter_: inputs.FilterOption = None,
    under: inputs.UnderOption = None,
    split_composites: Annotated[
        bool,
        typer.Option(
            "--split-composites",
            help="Split 'breast and ovarian cancer' into two.",
            rich_help_panel=_BASE,
        ),
    ] = False,
    data: Annotated[
        Path | None,
        typer.Option(help="The folder of evaluation sets for --tasks.", rich_help_panel=_TASKS),
    ] = None,
    tasks: Annotated[
        str,
        typer.Option(
            help="Tasks or families, with commas: sts, lexical, linking, crosslingual, transfer, "
            "or single ones such as sts12,ncbi; all of them by default.",
            rich_help_panel=_TASKS,
        ),
    ] = "",
    hub: Annotated[
        bool,
        typer.Option(
            "--hub",
            help="Download sets that are missing in --data from the hub.",
            rich_help_panel=_TASKS,
        ),
    ] = False,
    form: output.FormatOption = None,
    out: output.OutOption = None,
    errors: Annotated[
        Path | None,
        typer.Option(
            help="Write the errors of --gold to this .csv, .tsv, .jsonl or .json.",
            rich_help_panel=output.PANEL,
        ),
    ] = None,
    reliability: Annotated[
        Path | None,
        typer.Option(
            help="Draw a reliability diagram of a knowledge base as this PNG.",
            rich_help_panel=output.PANEL,
        ),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            help="Draw the scores into this PNG (needs matplotlib).", rich_help_panel=output.PANEL
        ),
    ] = None,
    card: Annotated[
        bool,
        typer.Option(
            "--card",
            help="Write the scores into the model card of MODEL, a checkpoint.",
            rich_help_panel=output.PANEL,
        ),
    ] = False,
    force: output.ForceOptionInPanel = False,
) -> None:
    """Evaluate models on gold mentions or standard tasks.

    Scores of linking have 95 % intervals over distinct mentions: shares the Wilson score interval,
    the mean reciprocal rank and the differences of --compare a bootstrap interval. For a knowledge
    base, the target precisions are checked too.

    For example:

    mirror-rt evaluate kb --gold gold.tsv --errors errors.csv
    mirror-rt evaluate kb --gold gold.tsv --compare other-kb
    mirror-rt evaluate encoder --data sets --tasks sts,ncbi
    """
    written_as = output.chosen(form, out)
    _check_options(
        gold, data,
        with_gold={
            "--kb": kb, "--mention-column": mention_column, "--id-column": id_column,
            "--context-column": context_column, "--document-column": document_column,
            "--errors": errors, "--reliability": reliability, "--filter": filter_, "--under": under,
            "--target-precision": target_precision, "--min-probability": min_probability,
            "--review-below": review_below is not None, "--split-composites": split_composites,
        },
        with_data={"--tasks": tasks, "--hub": hub},
    )  # fmt: skip
    read = {"gold": gold, "kb": kb, "model": model}
    _check_outputs({"out": out, "errors": errors, "plot": plot}, reliability, read, force=force)
    if card and pooling is not None:
        raise ConfigError("evaluate: a card describes a model's own pooling; leave --pooling out")
    if card:
        from mirror_rt.training.model_card import read_training

        read_training(Path(model))
    # Open all before evaluating any, which may take hours.
    opened = [_opened(model, pooling), *(_opened(other, None) for other in compare or [])]
    evaluations: list[LinkingEvaluation] = []
    if gold is not None:
        from mirror_rt.evaluation.gold import Convention, read_gold
        from mirror_rt.evaluation.link_report import LinkSettings

        rule = Convention(Rule.ENTITY.value if convention is None else convention.value)
        mentions = read_gold(
            gold, convention=rule, mention_column=mention_column, id_column=id_column,
            context_column=context_column, document_column=document_column, keep_nil=True,
            options=file_options.table(),
        )  # fmt: skip
        for remark in mentions.remarks:
            typer.echo(f"{gold}: {remark}", err=True)
        settings = LinkSettings(
            target_precision=target_precision, min_probability=min_probability,
            review_below=review_below, filters=inputs.parsed_filters(filter_, under),
            split_composites=split_composites,
        )  # fmt: skip
        evaluations = _on_gold(opened, mentions, gold, kb, rule, settings)
        reports = [evaluation.report for evaluation in evaluations]
    else:
        reports = _on_tasks(opened, Path(str(data)), tasks, convention, hub=hub)
    _print(reports, evaluations, written_as, out, force=force)
    if errors is not None:
        _write_errors(opened[0][1], evaluations[0].outcomes, errors, force=force)
    if reliability is not None:
        _draw_reliability(opened[0], mentions, settings, evaluations[0], reliability, force=force)
    if plot is not None:
        from mirror_rt.evaluation.plot import draw

        draw(reports, plot, force=force)
    if card:
        from mirror_rt.training.model_card import add_scores

        add_scores(Path(model), [result.to_dict() for result in reports[0].results])
    from mirror_rt.evaluation.report import check_scored

    check_scored(reports)


def _check_options(
    gold: Path | None,
    data: Path | None,
    *,
    with_gold: dict[str, object],
    with_data: dict[str, object],
) -> None:
    """Raise an error for options that belong to the other kind of evaluation."""
    if (gold is None) == (data is None):
        raise ConfigError("evaluate: give either --gold FILE or --data DIR")
    given, here, there = (
        (with_data, "--data DIR", "--gold")
        if data is None
        else (with_gold, "--gold FILE", "--data")
    )
    wrong = [name for name, value in given.items() if value]
    if wrong:
        goes = "goes" if len(wrong) == 1 else "go"
        raise ConfigError(f"evaluate: {' and '.join(wrong)} {goes} with {here}, not with {there}")


def _check_outputs(
    outs: dict[str, Path | None],
    reliability: Path | None,
    read: dict[str, Path | str | None],
    *,
    force: bool,
) -> None:
    """Check before any work that the output files can be written."""
    from mirror_rt.staging import check_apart, check_different, check_target

    named = {f"--{name}": path for name, path in outs.items()}
    check_different({**named, "--reliability": reliability})
    if reliability is not None:
        from mirror_rt.evaluation.reliability import check_drawing

        check_drawing(reliability, force=force)
    if outs["plot"] is not None:
        from mirror_rt.evaluation.plot import check_plot

        check_plot(outs["plot"], force=force)
    if outs["errors"] is not None:
        output.chosen(None, outs["errors"])
    for path in (*outs.values(), reliability):
        if path is not None:
            check_target(path, force=force)
            check_apart(path, read)


def _opened(name: str, pooling: Pooling | None) -> tuple[str, Model | KnowledgeBase]:
    """Open a model with a pooling; return its name and the model."""
    model = models.open_model(name)
    if pooling is None:
        return name, model
    from dataclasses import replace

    from mirror_rt.training.checkpoint import TorchEncoder

    if not isinstance(model, TorchEncoder):
        raise ConfigError(f"--pooling: is for a checkpoint or base, and {name} is none")
    return f"{name} ({pooling.value})", TorchEncoder(replace(model.model, pooling=pooling))


def _on_gold(
    opened: Sequence[tuple[str, Model | KnowledgeBase]],
    mentions: Gold,
    gold: Path,
    kb: Path | None,
    rule: Any,  # noqa: ANN401  (a Convention)
    settings: LinkSettings,
) -> list[LinkingEvaluation]:
    """Link the gold mentions with each model."""
    from mirror_rt.evaluation.link_report import evaluate_linking
    from mirror_rt.evaluation.overlap import overlaps
    from mirror_rt.knowledge import KnowledgeBase

    found = []
    for name, model in opened:
        own = isinstance(model, KnowledgeBase)
        with progress.bar(name, unit="mentions" if own else "strings") as show:
            found.append(
                evaluate_linking(
                    name,
                    model if own else _with_progress(model, show),
                    mentions,
                    task=gold.stem,
                    kb=kb,
                    convention=rule,
                    settings=settings if own else None,
                    progress=show,
                )
            )
        for warning in overlaps(name, model, found[-1]):
            typer.echo(f"warning: {warning}", err=True)
    if without := sum(not query.ids for query in mentions.queries):
        any_base = any(isinstance(model, KnowledgeBase) for _, model in opened)
        fate = "count for NIL alone" if any_base else "are left out"
        typer.echo(f"{gold}: {counted(without, 'mention')} without an id {fate}", err=True)
    return found


def _with_progress(model: Any, show: progress.ProgressCallback) -> Any:  # noqa: ANN401  (a Model)
    """Return a model that reports the progress of its encoding."""
    from mirror_rt.evaluation.baselines import CharNgrams, ExactMatch
    from mirror_rt.evaluation.cached_embedder import CachedEmbedder

    if isinstance(model, CharNgrams | ExactMatch):
        return model
    return CachedEmbedder(model, progress=show)


def _on_tasks(
    opened: Sequence[tuple[str, Model | KnowledgeBase]],
    data: Path,
    tasks: str,
    rule: Rule | None,
    *,
    hub: bool,
) -> list[Report]:
    """Run the standard tasks on each model."""
    from mirror_rt.evaluation.gold import Convention
    from mirror_rt.evaluation.suite import evaluate as run
    from mirror_rt.evaluation.tasks import find_custom_tasks, select_tasks
    from mirror_rt.knowledge import KnowledgeBase

    for name, model in opened:
        if isinstance(model, KnowledgeBase):
            raise ConfigError(
                f"{name}: a knowledge base is scored with --gold, a model with --data"
            )
    if hub:
        from mirror_rt.evaluation.hub import fetch_missing

        data.mkdir(parents=True, exist_ok=True)
        fetch_missing(
            select_tasks(tasks.split(","), find_custom_tasks(data)),
            data,
            progress=lambda words: typer.echo(words, err=True),
        )
    total = len(select_tasks(tasks.split(","), find_custom_tasks(data)))
    reports = []
    for name, model in opened:
        with progress.tasks(name, total) as show:
            reports.append(
                run(
                    _with_progress(model, show.encoded),
                    data=data,
                    tasks=tasks.split(","),
                    name=name,
                    convention=None if rule is None else Convention(rule.value),
                    progress=show.begin,
                )
            )
    return reports


def _print(
    reports: Sequence[Report],
    evaluations: Sequence[LinkingEvaluation],
    form: output.Format,
    out: Path | None,
    *,
    force: bool,
) -> None:
    from mirror_rt.evaluation.compare import compare
    from mirror_rt.evaluation.report import COLUMNS, as_record, as_rows, notes, tables

    comparisons = [compare(evaluations[0], other) for other in evaluations[1:]]
    points = {e.report.model: e.operating_points for e in evaluations if e.operating_points}

    def people() -> Iterator[str]:
        for table in tables(reports, width=text_table.width()):
            yield from output.rendered(table)
        for comparison in comparisons:
            yield ""
            yield from text_table.folded(str(comparison))
        for model, found in points.items():
            yield ""
            if all(point.probability is None for point in found):
                yield from text_table.folded(
                    f"{model}: no target precision was reached on the links that it has learned "
                    "from; mirror-rt calibrate learns from gold links"
                )
                continue
            yield from text_table.folded(
                f"{model}: the threshold of each target precision, measured here"
            )
            yield from thresholds.lines([point.to_dict() for point in found])

    with output.lines_to(out, force=force) as write:
        record = as_record(reports, comparisons, points)
        output.report(record, COLUMNS, as_rows(reports), form, write, people=people)
    if form is output.Format.TABLE:
        for note in notes(reports):
            typer.echo(note, err=True)


def _write_errors(
    model: Model | KnowledgeBase, outcomes: Sequence[Outcome], path: Path, *, force: bool
) -> None:
    """Write a row for each gold mention with a wrong link, in order."""
    from mirror_rt.evaluation.link_errors import COLUMNS, error_rows

    rows = error_rows(model, outcomes)
    with output.lines_to(path, force=force) as write:
        output.table(COLUMNS, rows, output.chosen(None, path), write)
    typer.echo(f"{path}: {len(rows):,} of {counted(len(outcomes), 'mention')} wrong", err=True)


def _draw_reliability(
    opened: tuple[str, Model | KnowledgeBase],
    mentions: Gold,
    settings: LinkSettings,
    evaluation: LinkingEvaluation,
    path: Path,
    *,
    force: bool,
) -> None:
    """Draw the reliability on these mentions, and without the calibration if there is one."""
    from dataclasses import replace

    from mirror_rt.evaluation.link_report import base_outcomes
    from mirror_rt.evaluation.reliability import draw_reliability, outcome_bins
    from mirror_rt.knowledge import KnowledgeBase

    name, model = opened
    if not isinstance(model, KnowledgeBase):
        raise ConfigError(f"--reliability: {name} is not a knowledge base and has no probabilities")
    reranker, sides = model.resources.reranker, {"after": evaluation.outcomes}
    settings = replace(settings, target_precision=None)  # which the earlier may not reach
    if reranker.before_calibration:
        with progress.bar("before calibration", unit="mentions") as show:
            before = base_outcomes(
                model, mentions.queries, settings, reranker=reranker.uncalibrated(), progress=show
            )
            sides = {"before": tuple(before), **sides}
    diagrams = {}
    for when, outcomes in sides.items():
        bins, error = outcome_bins(outcomes)
        diagrams[f"{when}, error {error:.3f}" if len(sides) > 1 else f"error {error:.3f}"] = bins
    title = f"{name}: {counted(len(mentions.queries), 'gold mention')}"
    draw_reliability(diagrams, evaluation.operating_points, path, title=title, force=force)
