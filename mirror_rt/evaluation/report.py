"""Format reports as a readable table or as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from rich.table import Table

from mirror_rt.errors import InputError
from mirror_rt.evaluation.result import Report, Result, Status

if TYPE_CHECKING:
    from mirror_rt.evaluation.compare import Comparison
    from mirror_rt.knowledge.ranking.operating_points import OperatingPoint

__all__ = ["COLUMNS", "as_record", "as_rows", "cell", "check_scored", "notes", "tables"]

_GAP = 2
_COUNT = 8
"""Characters of the column of counts."""


COLUMNS = ("model", "task", "metric", "score", "low", "high", "spread", "n", "status", "note")
"""The columns of ``as_rows``."""


def as_record(
    reports: Sequence[Report],
    comparisons: Sequence[Comparison] = (),
    points: Mapping[str, Sequence[OperatingPoint]] | None = None,
) -> dict[str, object]:
    """Return everything as JSON types, keys in a fixed order.

    Args:
        reports: The reports.
        comparisons: The first model compared with each other one.
        points: The operating points by model.
    """
    return {
        "reports": [report.to_dict() for report in reports],
        "comparisons": [comparison.to_dict() for comparison in comparisons],
        "operating_points": {
            model: [point.to_dict() for point in found] for model, found in (points or {}).items()
        },
    }


def as_rows(reports: Iterable[Report]) -> list[list[object]]:
    """Return a row of ``COLUMNS`` for each model, task and metric."""
    rows: list[list[object]] = []
    for report in reports:
        for result in report.results:
            for metric in result.scores or (result.metric,):
                low, high = result.intervals.get(metric, (None, None))
                rows.append(
                    [
                        report.model, result.task, metric, result.scores.get(metric), low, high,
                        result.spreads.get(metric), result.items, result.status.value, result.note,
                    ]
                )  # fmt: skip
    return rows


def cell(result: Result | None, metric: str) -> str:
    """Return a score with three decimals, or the reason why there is none.

    >>> cell(Result(task="sts12", metric="all", scores={"all": 0.57342}), "all")
    '.573'
    >>> result = Result(task="x", metric="a", scores={"a": -0.02}, spreads={"a": 0.0049})
    >>> cell(result, "a")
    '-.020 ±.005'
    >>> result = Result(task="x", metric="a", scores={"a": 0.5}, intervals={"a": (0.4, 0.62)})
    >>> cell(result, "a")
    '.500 [.400, .620]'
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
            if (spread := result.spreads.get(metric)) is not None:
                return f"{_short(score)} ±{_short(spread)}"
            if metric in result.intervals:
                low, high = result.intervals[metric]
                return f"{_short(score)} [{_short(low)}, {_short(high)}]"
            return _short(score)


def _short(value: float) -> str:
    return f"{value:.3f}".replace("0.", ".", 1) if abs(value) < 0.9995 else f"{value:.3f}"


def notes(reports: Iterable[Report]) -> list[str]:
    """Return the distinct notes of results without a score."""
    said = (
        f"{result.task}: {result.note}"
        for report in reports
        for result in report.results
        if result.note
    )
    return list(dict.fromkeys(said))


def check_scored(reports: Iterable[Report]) -> None:
    """Raise an error if a task failed, or none had data; called after the reports are printed.

    Raises:
        InputError: Tasks failed, or all files are missing; the message has the first fault.
    """
    results = [result for report in reports for result in report.results]
    lost = {result.task: result.note for result in results if result.status is Status.FAILED}
    if lost:
        raise InputError(f"failed: {', '.join(lost)}; first fault: {next(iter(lost.values()))}")
    if results and all(result.status is Status.MISSING for result in results):
        raise InputError(f"nothing was scored, no task has its files: {results[0].note}")


def tables(reports: Sequence[Report], *, width: int, together: bool = False) -> list[Table]:
    """Return tables with a row per task and metric and a column per model.

    In a narrow terminal, each model has its own table.

    Args:
        reports: The reports.
        width: The width in characters.
        together: Whether to use one table in any case; cells are then wrapped.
    """
    rows = _rows(reports)
    found = [{result.task: result for result in report.results} for report in reports]
    widest = [
        max((len(cell(results.get(task), metric)) for task, metric in rows), default=0)
        for results in found
    ]
    words = [max(map(len, report.model.split()), default=0) for report in reports]
    needed = sum(max(pair) + _GAP for pair in zip(widest, words, strict=True))
    needed += max((len(task) for task, _ in rows), default=0) + _GAP
    needed += max((len(metric) for _, metric in rows), default=0) + _GAP + _COUNT
    if len(reports) > 1 and needed > width and not together:
        return [_table([report], _rows([report])) for report in reports]
    return [_table(reports, rows)]


def _rows(reports: Sequence[Report]) -> list[tuple[str, str]]:
    rows: dict[tuple[str, str], None] = {}
    for report in reports:
        for result in report.results:
            for metric in result.scores or (result.metric,):
                rows[result.task, metric] = None
    tasks = list(dict.fromkeys(task for task, _ in rows))
    return sorted(rows, key=lambda row: tasks.index(row[0]))


def _table(reports: Sequence[Report], rows: Sequence[tuple[str, str]]) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("task", overflow="fold")
    table.add_column("n", justify="right", no_wrap=True)
    table.add_column("metric", overflow="fold")
    for report in reports:
        table.add_column(report.model, justify="right", overflow="fold")
    found = [{result.task: result for result in report.results} for report in reports]
    before = ""
    for task, metric in rows:
        cells = [cell(results.get(task), metric) for results in found]
        items = max((results[task].items for results in found if task in results), default=0)
        new = task != before
        table.add_row(task if new else "", f"{items:,}" if new and items else "", metric, *cells)
        before = task
    return table
