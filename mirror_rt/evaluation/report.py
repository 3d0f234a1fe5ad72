"""Show reports: a table for people, JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table

from mirror_rt.errors import InputError
from mirror_rt.evaluation.result import Report, Result, Status

__all__ = ["as_json", "cell", "check_none_failed", "notes", "print_reports"]


def as_json(reports: Sequence[Report]) -> str:
    """Return the reports as a JSON object, keys in a fixed order."""
    content = {"reports": [report.as_dict() for report in reports]}
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)


def cell(result: Result | None, metric: str) -> str:
    """Return a score as three decimals, or the word for why there is none.

    >>> cell(Result(task="sts12", metric="all", scores={"all": 0.57342}), "all")
    '.573'
    >>> result = Result(task="x", metric="a", scores={"a": -0.02}, spreads={"a": 0.0049})
    >>> cell(result, "a")
    '-.020 ±.005'
    """
    if result is None:
        return ""
    match result.status:
        case Status.MISSING:
            return "missing"
        case Status.NOT_APPLICABLE:
            return "n/a"
        case Status.FAILED:
            return "failed"
        case Status.SCORED | Status.UNDEFINED:
            score = result.scores.get(metric)
            if score is None:
                return "undefined" if metric in result.scores else ""
            spread = result.spreads.get(metric)
            return _short(score) if spread is None else f"{_short(score)} ±{_short(spread)}"


def _short(value: float) -> str:
    return f"{value:.3f}".replace("0.", ".", 1) if abs(value) < 0.9995 else f"{value:.3f}"


def notes(reports: Iterable[Report]) -> list[str]:
    """Return what must be said of the results without a score, each sentence once."""
    said = (
        f"{result.task}: {result.note}"
        for report in reports
        for result in report.results
        if result.note
    )
    return list(dict.fromkeys(said))


def check_none_failed(reports: Iterable[Report]) -> None:
    """Refuse reports that lack a score because of a fault; called once they are shown.

    Raises:
        InputError: Tasks failed; the first one's fault is told.
    """
    lost = {
        result.task: result.note
        for report in reports
        for result in report.results
        if result.status is Status.FAILED
    }
    if lost:
        raise InputError(f"failed: {', '.join(lost)}; first fault: {next(iter(lost.values()))}")


def print_reports(reports: Sequence[Report], console: Console) -> None:
    """Print one row a task and metric, one column a model; one table a model if it is narrow."""
    widest = max((len(report.model) for report in reports), default=0)
    rows = _rows(reports)
    names = max((len(task) + len(metric) for task, metric in rows), default=0)
    if len(reports) > 1 and names + (widest + 3) * len(reports) + 8 > console.width:
        for report in reports:
            console.print(_table([report], _rows([report])))
    else:
        console.print(_table(reports, rows))


def _rows(reports: Sequence[Report]) -> list[tuple[str, str]]:
    rows: dict[tuple[str, str], None] = {}
    for report in reports:
        for result in report.results:
            for metric in result.scores or (result.metric,):
                rows[result.task, metric] = None
    return list(rows)


def _table(reports: Sequence[Report], rows: Sequence[tuple[str, str]]) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("task", overflow="fold")
    table.add_column("metric", overflow="fold")
    for report in reports:
        table.add_column(report.model, justify="right", overflow="fold")
    found = [{result.task: result for result in report.results} for report in reports]
    before = ""
    for task, metric in rows:
        cells = [cell(results.get(task), metric) for results in found]
        table.add_row(task if task != before else "", metric, *cells)
        before = task
    return table
