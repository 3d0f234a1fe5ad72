"""The results of an evaluation: plain values for a table or JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from statistics import fmean, stdev
from typing import Any

__all__ = ["Report", "Result", "Status", "mean_report"]


class Status(Enum):
    """Whether a task has a score."""

    SCORED = "scored"
    UNDEFINED = "undefined"
    MISSING = "missing"
    NOT_APPLICABLE = "not applicable"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The result of a task.

    Attributes:
        task: The task's name.
        metric: The name of its main metric, one of ``scores``.
        scores: Every metric by name, in [-1, 1] or [0, 1]; None where it is undefined.
        status: Why there is, or is not, a main score.
        spreads: Standard deviation of each metric over seeds, if there are several.
        intervals: The 95 % interval of each metric, if it is computed: the Wilson score interval of
            shares of mentions, a bootstrap interval of other scores.
        items: The number of items.
        note: The source of missing data, or the reason for an undefined score or a failure.
    """

    task: str
    metric: str
    scores: Mapping[str, float | None] = field(default_factory=dict)
    status: Status = Status.SCORED
    spreads: Mapping[str, float] = field(default_factory=dict)
    intervals: Mapping[str, Sequence[float]] = field(default_factory=dict)
    items: int = 0
    note: str = ""

    @property
    def score(self) -> float | None:
        """The main score, or None."""
        return self.scores.get(self.metric)

    def to_dict(self) -> dict[str, object]:
        """Return plain values for JSON."""
        return {
            "task": self.task,
            "metric": self.metric,
            "score": self.score,
            "scores": dict(self.scores),
            "spreads": dict(self.spreads),
            "intervals": {metric: list(ends) for metric, ends in self.intervals.items()},
            "status": self.status.value,
            "items": self.items,
            "note": self.note,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All results of one model."""

    model: str
    results: tuple[Result, ...]

    def to_dict(self) -> dict[str, object]:
        """Return plain values for JSON."""
        return {"model": self.model, "results": [r.to_dict() for r in self.results]}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Report:
        """Return the report from the result of ``to_dict``."""
        names = ("task", "metric", "scores", "spreads", "intervals", "items", "note")
        return cls(
            model=content["model"],
            results=tuple(
                Result(status=Status(r["status"]), **{name: r[name] for name in names if name in r})
                for r in content["results"]
            ),
        )


def mean_report(model: str, reports: Sequence[Report]) -> Report:
    """Return the mean of reports over seeds, with the sample standard deviation as spread.

    A score that is undefined for one seed is undefined in the mean; a task without a score
    keeps what the first report says of it.
    """
    results = []
    for first in reports[0].results:
        same = [r for report in reports for r in report.results if r.task == first.task]
        columns = {metric: [r.scores.get(metric) for r in same] for metric in first.scores}
        known = {
            metric: [value for value in values if value is not None]
            for metric, values in columns.items()
        }
        whole = {m: v for m, v in known.items() if len(v) == len(columns[m])}
        results.append(
            replace(
                first,
                scores={m: fmean(whole[m]) if m in whole else None for m in columns},
                spreads={m: stdev(v) for m, v in whole.items() if len(v) > 1},
                intervals=first.intervals if len(reports) == 1 else {},
            )
        )
    return Report(model=model, results=tuple(results))
