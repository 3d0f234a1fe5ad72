"""What an evaluation found: plain values, ready for a table or JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

__all__ = ["Report", "Result", "Status"]


class Status(Enum):
    """Whether a task gave a number."""

    SCORED = "scored"
    UNDEFINED = "undefined"
    MISSING = "missing"
    NOT_APPLICABLE = "not applicable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One task's outcome.

    Attributes:
        task: The task's name.
        metric: The name of its main metric, one of ``scores``.
        scores: Every metric by name, in [-1, 1] or [0, 1]; None where it is undefined.
        status: Why there is, or is not, a main score.
        items: How many items were scored.
        note: Where to get missing data, or why a score is undefined.
    """

    task: str
    metric: str
    scores: Mapping[str, float | None] = field(default_factory=dict)
    status: Status = Status.SCORED
    items: int = 0
    note: str = ""

    @property
    def score(self) -> float | None:
        """The main score, or None."""
        return self.scores.get(self.metric)

    def as_dict(self) -> dict[str, object]:
        """Return plain values for JSON."""
        return {
            "task": self.task,
            "metric": self.metric,
            "score": self.score,
            "scores": dict(self.scores),
            "status": self.status.value,
            "items": self.items,
            "note": self.note,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All that was found about one model."""

    model: str
    results: tuple[Result, ...]

    def as_dict(self) -> dict[str, object]:
        """Return plain values for JSON."""
        return {"model": self.model, "results": [r.as_dict() for r in self.results]}
