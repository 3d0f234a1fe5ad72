"""Compare two linkers on the same gold mentions, mention by mention."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from mirror_rt.errors import InputError
from mirror_rt.evaluation.intervals import bootstrap_intervals
from mirror_rt.evaluation.link_report import LinkingEvaluation, Outcome
from mirror_rt.evaluation.linking import metrics_of

__all__ = ["Comparison", "Difference", "compare"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """The score of the first minus that of the second.

    Attributes:
        value: The difference.
        low: The lower end of its 95 % interval.
        high: The upper end.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two linkers on the same mentions.

    Attributes:
        first: The name of the first.
        second: The name of the second.
        mentions: The number of mentions.
        differences: The differences by metric.
        only_first: Mentions whose first candidate is right only with the first.
        only_second: Mentions whose first candidate is right only with the second.
        p_value: The p-value of the two-sided exact sign test over distinct mentions (McNemar
            1947); 1.0 if they never differ.
    """

    first: str
    second: str
    mentions: int
    differences: dict[str, Difference]
    only_first: int
    only_second: int
    p_value: float

    def to_dict(self) -> dict[str, object]:
        """Return plain values for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        parts = [
            f"{metric} {found.value:+.3f} [{found.low:+.3f}, {found.high:+.3f}]"
            for metric, found in self.differences.items()
            if metric in {"acc@1", "mrr"}
        ]
        return (
            f"{self.first} less {self.second}: {', '.join(parts)}; right first by it alone "
            f"{self.only_first:,}, by the other alone {self.only_second:,} "
            f"(sign test p = {self.p_value:.2g})"
        )


def compare(first: LinkingEvaluation, second: LinkingEvaluation) -> Comparison:
    """Compare two evaluations of the same gold mentions with ids.

    The interval is a paired bootstrap over distinct mentions.

    Raises:
        InputError: No mention has an id.
    """
    one, other = _asked(first), _asked(second)
    if not one:
        raise InputError("no gold mention has an id, so there is nothing to compare")
    mentions = [outcome.query.parts for outcome in one]
    values_2QM = np.array(
        [[list(metrics_of(o.rank).values()) for o in side] for side in (one, other)]
    )
    difference_QM = values_2QM[0] - values_2QM[1]
    ends_2M = bootstrap_intervals(difference_QM, mentions)
    names = list(metrics_of(None))
    won: dict[tuple[str, ...], float] = {}
    for key, gain in zip(mentions, difference_QM[:, names.index("acc@1")].tolist(), strict=True):
        won[key] = won.get(key, 0.0) + gain
    return Comparison(
        first=first.report.model,
        second=second.report.model,
        mentions=len(one),
        differences={
            name: Difference(
                value=float(difference_QM[:, i].mean()),
                low=float(ends_2M[0, i]),
                high=float(ends_2M[1, i]),
            )
            for i, name in enumerate(names)
        },
        only_first=sum(a.rank == 1 != b.rank for a, b in zip(one, other, strict=True)),
        only_second=sum(b.rank == 1 != a.rank for a, b in zip(one, other, strict=True)),
        p_value=_sign_test(
            sum(gain > 0 for gain in won.values()), sum(gain < 0 for gain in won.values())
        ),
    )


def _asked(evaluation: LinkingEvaluation) -> Sequence[Outcome]:
    return [outcome for outcome in evaluation.outcomes if outcome.query.ids]


def _sign_test(more: int, less: int) -> float:
    if not more + less:
        return 1.0
    from scipy.stats import binomtest

    return float(binomtest(more, more + less).pvalue)
