"""Make probabilities true on the user's own gold links, and find thresholds for a precision.

Axes: S links, B bins.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mirror_rt._extras import require_drawing
from mirror_rt.errors import ConfigError, InputError
from mirror_rt.knowledge import answering, linker, store
from mirror_rt.knowledge.combination import SURENESS, Combination
from mirror_rt.knowledge.fitting import fit_sureness, outcomes, precision_curve, stack
from mirror_rt.knowledge.knowledge_base import KnowledgeBase
from mirror_rt.staging import check_target, staging_file

if TYPE_CHECKING:
    import numpy.typing as npt

    Float64 = npt.NDArray[np.float64]
    Bools = npt.NDArray[np.bool_]
    Int64 = npt.NDArray[np.int64]

__all__ = [
    "Bin",
    "Calibration",
    "calibrate",
    "check_drawing",
    "draw_reliability",
    "expected_calibration_error",
    "reliability",
]

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
        accuracy: Share whose best candidate is right, or one tied with it.
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
        InputError: There are fewer than 20 mentions to learn from, or one is no valid text.
        KnowledgeBaseError: The folder holds passages, another process is changing it, or has
            changed it since it was opened.
    """
    answering.check_names(kb)
    answering.check([mention for mention, _ in gold], top=1)
    asked = _ask(kb, gold)
    if len(asked) < _FEWEST:
        raise InputError(f"{len(asked)} gold mentions with a candidate; at least {_FEWEST} needed")
    # What was learned from names: to calibrate again is not to calibrate what is calibrated.
    old = replace(kb.combination, **kb.combination.uncalibrated)
    judges = int((~asked.named_S).sum()) >= _FEWEST
    before_S, after_S = _sure(asked, old), np.empty(len(asked))
    for fold in range(_FOLDS):
        held = asked.link_S % _FOLDS == fold
        after_S[held] = _sure(asked[held], _fit(asked[~held], old, judges=judges))
    found = _fit(asked, old, judges=judges)
    found = replace(
        found,
        uncalibrated={"there": old.there, "first": old.first, "by_name": old.by_name},
        curve=precision_curve(_sure(asked, found), asked.hit_S),
        fitted_on={**old.fitted_on, "gold_links": len(asked)},
    )
    with (
        store.still(kb.path, kb.manifest),
        staging_file(kb.path / store.COMBINATION, force=True) as path,
    ):
        found.write(path)
    kb.combination = found
    return Calibration(
        links=len(asked),
        left_out=len(gold) - len(asked),
        accuracy=float(asked.hit_S.mean()),
        error_before=expected_calibration_error(before_S, asked.hit_S),
        error_after=expected_calibration_error(after_S, asked.hit_S),
        bins=reliability(after_S, asked.hit_S),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """Gold links; what is tied with the best candidate counts together with it.

    Attributes:
        link_S: (S,) int64, equal for equal links, from 0 in the order they first come in.
        named_S: (S,) bool, the mention is a name.
        tied_S: (S,) bool, it is one of several entities.
        evidence_S3: (S, 3) float64 values of ``combination.SURENESS`` where it is none.
        hit_S: (S,) bool, the best candidate is right.
        there_S: (S,) bool, a candidate is right, where it is none.
    """

    link_S: Int64
    named_S: Bools
    tied_S: Bools
    evidence_S3: Float64
    hit_S: Bools
    there_S: Bools

    def __getitem__(self, chosen: Bools | Sequence[int]) -> _Asked:
        return _Asked(
            link_S=self.link_S[chosen],
            named_S=self.named_S[chosen],
            tied_S=self.tied_S[chosen],
            evidence_S3=self.evidence_S3[chosen],
            hit_S=self.hit_S[chosen],
            there_S=self.there_S[chosen],
        )

    def __len__(self) -> int:
        return len(self.hit_S)


def _ask(kb: KnowledgeBase, gold: Sequence[tuple[str, frozenset[str]]]) -> _Asked:
    """Link the mentions that have a candidate as ``link`` does, each once, in the order of gold."""
    asked = [
        (mention.strip(), frozenset(n for id_ in ids for n in kb.catalogue.resolve(id_)))
        for mention, ids in gold
    ]
    number_of = {link: n for n, link in enumerate(dict.fromkeys(asked))}
    links = list(number_of)
    named_S, tied_S, hit_S, there_S, found_S = np.zeros((5, len(links)), dtype=bool)
    evidence_S3 = np.zeros((len(links), len(SURENESS)))
    unnamed: dict[str, list[int]] = {}
    for n, (mention, right) in enumerate(links):
        best = linker.best(linker.by_name(mention, kb.catalogue, kb.combination))
        if best:
            bearers = {number for c in best for number in kb.catalogue.resolve(c.entity_id)}
            found_S[n] = named_S[n] = True
            tied_S[n], hit_S[n] = len(best) > 1, not bearers.isdisjoint(right)
        elif linker.has_content(mention):
            unnamed.setdefault(mention, []).append(n)
    for mention, _, pool in answering.gathered(kb, list(unnamed)):
        some = unnamed[mention]
        samples = stack(
            [pool] * len(some), [set(links[n][1]) for n in some], gone=[False] * len(some)
        )
        evidence_S3[some], hit_S[some], there_S[some] = outcomes(samples, kb.combination)
        found_S[some] = samples.real_SK.any(axis=1)
    whole = _Asked(
        link_S=np.arange(len(links)),
        named_S=named_S,
        tied_S=tied_S,
        evidence_S3=evidence_S3,
        hit_S=hit_S,
        there_S=there_S,
    )
    return whole[[n for link in asked if found_S[n := number_of[link]]]]


def _fit(asked: _Asked, old: Combination, *, judges: bool) -> Combination:
    named_S = asked.hit_S[asked.named_S & ~asked.tied_S]
    judged = asked[~asked.named_S]
    # The old value stands for two more links: a few gold mentions should not overthrow it.
    by_name = (float(named_S.sum()) + 2 * old.by_name) / (len(named_S) + 2)
    if judges:
        old = fit_sureness(judged.evidence_S3, judged.hit_S, judged.there_S, start=old)
    return replace(old, by_name=by_name)


def _sure(asked: _Asked, combination: Combination) -> Float64:
    return np.where(asked.named_S, combination.by_name, combination.sure(asked.evidence_S3))


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
    require_drawing("evaluate")
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
