"""Make probabilities true on the user's own gold links, and find thresholds for a precision.

Axes: S links, B bins.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mirror_rt._extras import require
from mirror_rt.errors import ConfigError, InputError
from mirror_rt.knowledge import linker, store
from mirror_rt.knowledge.combination import Combination
from mirror_rt.knowledge.fitting import fit_platt, precision_curve
from mirror_rt.knowledge.knowledge_base import KnowledgeBase
from mirror_rt.staging import check_target, staging_file
from mirror_rt.types import Candidate, How

if TYPE_CHECKING:
    import numpy.typing as npt

    Float64 = npt.NDArray[np.float64]
    Bools = npt.NDArray[np.bool_]

__all__ = [
    "Bin",
    "Calibration",
    "calibrate",
    "check_drawing",
    "draw_reliability",
    "expected_calibration_error",
    "reliability",
]

_BY_NAME = frozenset({How.EXACT, How.CASE, How.PUNCTUATION})
_FOLDS = 5
_FEWEST = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Bin:
    """Links whose probability fell into one tenth.

    Attributes:
        links: How many.
        probability: Their mean probability.
        right: The share of them that are right.
    """

    links: int
    probability: float
    right: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """What a calibration found; all numbers after it are from folds that were held out.

    Attributes:
        links: Gold mentions used.
        left_out: Gold mentions without a candidate.
        accuracy: Share whose first candidate is right.
        error_before: Expected calibration error before.
        error_after: The same after.
        bins: The reliability diagram after, from low to high.
    """

    links: int
    left_out: int
    accuracy: float
    error_before: float
    error_after: float
    bins: tuple[Bin, ...]

    def as_dict(self) -> dict[str, object]:
        """Return it as JSON has it."""
        return asdict(self)


def calibrate(kb: KnowledgeBase, gold: Sequence[tuple[str, frozenset[str]]]) -> Calibration:
    """Fit the probabilities to gold links and store them in the knowledge base.

    Args:
        kb: The knowledge base; its ``combination.json`` is replaced.
        gold: Mentions with the ids that are right; no ids means that none is.

    Raises:
        InputError: There are fewer than 20 mentions to learn from.
        KnowledgeBaseError: Another process is changing it, or has changed it since it was opened.
    """
    answers = kb.link([mention for mention, _ in gold], top=2)
    asked = [
        (linker.best(found), _own_ids(kb, ids))
        for (_, ids), found in zip(gold, answers, strict=True)
        if found
    ]
    rows = [(best[0], best[0].entity_id in own) for best, own in asked]
    if len(rows) < _FEWEST:
        raise InputError(f"{len(rows)} gold mentions with a candidate; at least {_FEWEST} needed")
    before_S = np.array([candidate.probability for candidate, _ in rows], dtype=np.float64)
    hit_S = np.array([hit for _, hit in rows])
    after_S = np.empty(len(rows))
    # A precision is promised of what ``link`` asks a threshold of: all that are tied, together.
    sure_S = np.empty(len(rows))
    any_S = np.array([any(c.entity_id in own for c in best) for best, own in asked])
    for fold in range(_FOLDS):
        held = np.arange(len(rows)) % _FOLDS == fold
        fitted = _fit([row for row, out in zip(rows, held, strict=True) if not out], kb.combination)
        for i in np.flatnonzero(held):
            after = [_again(candidate, kb.combination, fitted) for candidate in asked[i][0]]
            after_S[i], sure_S[i] = after[0], min(sum(after), 1.0)
    found = replace(
        _fit(rows, kb.combination),
        curve=precision_curve(sure_S, any_S),
        fitted_on={**kb.combination.fitted_on, "gold_links": len(rows)},
    )
    with (
        store.still(kb.path, kb.manifest),
        staging_file(kb.path / store.COMBINATION, force=True) as path,
    ):
        found.write(path)
    kb.combination = found
    return Calibration(
        links=len(rows),
        left_out=len(gold) - len(rows),
        accuracy=float(hit_S.mean()),
        error_before=expected_calibration_error(before_S, hit_S),
        error_after=expected_calibration_error(after_S, hit_S),
        bins=reliability(after_S, hit_S),
    )


def _own_ids(kb: KnowledgeBase, ids: frozenset[str]) -> set[str]:
    numbers = [number for id_ in ids for number in kb.catalogue.resolve(id_)]
    return {id_ for id_, _ in kb.catalogue.headings(numbers).values()}


def _fit(rows: Sequence[tuple[Candidate, bool]], old: Combination) -> Combination:
    named = [hit for candidate, hit in rows if candidate.how in _BY_NAME and not candidate.tied]
    judged = [(_share(c, old), hit) for c, hit in rows if c.how not in _BY_NAME]
    # The old value stands for two more links: a few gold mentions should not overthrow it.
    by_name = (sum(named) + 2 * old.by_name) / (len(named) + 2)
    slope, intercept = old.slope, old.intercept
    if len(judged) >= _FEWEST:
        slope, intercept = fit_platt(
            np.array([share for share, _ in judged]), np.array([hit for _, hit in judged])
        )
    return replace(old, by_name=by_name, slope=slope, intercept=intercept)


def _share(candidate: Candidate, combination: Combination) -> float:
    """Undo the Platt scaling of a candidate's probability."""
    p = min(max(candidate.probability or 0.0, 1e-9), 1 - 1e-9)
    odds = (math.log(p / (1 - p)) - combination.intercept) / combination.slope
    return 1 / (1 + math.exp(-max(min(odds, 30.0), -30.0)))


def _again(candidate: Candidate, old: Combination, new: Combination) -> float:
    if candidate.how in _BY_NAME:
        return (candidate.probability or 0.0) * new.by_name / old.by_name
    return new.probability(_share(candidate, old))


def expected_calibration_error(probability_S: Float64, hit_S: Bools) -> float:
    """Return the mean gap of probability and share right over ten equal bins, by their links."""
    bins = reliability(probability_S, hit_S)
    total = sum(b.links for b in bins)
    return sum(b.links * abs(b.probability - b.right) for b in bins) / max(total, 1)


def reliability(probability_S: Float64, hit_S: Bools, *, bins: int = 10) -> tuple[Bin, ...]:
    """Sort links into equal bins of probability; empty bins are left out."""
    bin_S = np.clip((probability_S * bins).astype(np.int64), 0, bins - 1)
    return tuple(
        Bin(
            links=int(inside.sum()),
            probability=float(probability_S[inside].mean()),
            right=float(hit_S[inside].mean()),
        )
        for inside in (bin_S == b for b in range(bins))
        if inside.any()
    )


def check_drawing(path: Path, *, force: bool = False) -> None:
    """Tell before any work whether ``draw_reliability`` can draw there.

    Raises:
        MissingExtraError: matplotlib is not installed.
        ConfigError: ``path`` does not end in .png.
        TargetError: ``path`` exists and ``force`` is not set.
    """
    require("matplotlib", extra="evaluate")
    if path.suffix.lower() != ".png":
        raise ConfigError(f"{path}: a reliability diagram is a PNG; end the name in .png")
    check_target(path, force=force)


def draw_reliability(calibration: Calibration, path: Path, *, force: bool = False) -> None:
    """Draw the reliability diagram as a PNG (needs [evaluate]); errors as ``check_drawing``."""
    check_drawing(path, force=force)
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.5, 4.5), layout="constrained")
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], linestyle=":", color="grey")
    axes.plot(
        [b.probability for b in calibration.bins],
        [b.right for b in calibration.bins],
        marker="o",
    )
    for b in calibration.bins:
        axes.annotate(f" {b.links:,}", (b.probability, b.right), va="top", fontsize=8)
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="probability", ylabel="share right")
    axes.set_title(f"{calibration.links:,} links, calibration error {calibration.error_after:.3f}")
    with staging_file(path, force=force) as fresh:
        figure.savefig(fresh, dpi=120)
