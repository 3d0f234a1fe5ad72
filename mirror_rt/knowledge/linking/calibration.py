"""Fit probabilities to a user's own gold links, and find thresholds for a precision.

Axes: S gold links.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from mirror_rt.errors import InputError
from mirror_rt.knowledge.entities.sketch import sketch
from mirror_rt.knowledge.linking.exact import exact_matches
from mirror_rt.knowledge.linking.linker import check_texts, encoded_batches
from mirror_rt.knowledge.linking.proposals import scored_pools
from mirror_rt.knowledge.linking.resources import LinkResources
from mirror_rt.knowledge.ranking.learning import (
    Outcomes,
    calibration_targets,
    fit_confidence,
    precision_curve,
    samples_of,
)
from mirror_rt.knowledge.ranking.operating_points import (
    OperatingPoint,
    operating_points,
    share_interval,
)
from mirror_rt.knowledge.ranking.reranker import CONFIDENCE_FEATURES, Reranker
from mirror_rt.knowledge.text.normalize import normalize

if TYPE_CHECKING:
    import numpy.typing as npt

    from mirror_rt.knowledge.linking.resources import Encode

    Float64 = npt.NDArray[np.float64]
    Bools = npt.NDArray[np.bool_]
    Int64 = npt.NDArray[np.int64]

__all__ = [
    "CalibrationReport",
    "ReliabilityBin",
    "calibrate",
    "expected_calibration_error",
    "reliability",
]

_FOLDS = 5
_FEWEST = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ReliabilityBin:
    """Links whose probability fell into one tenth (reliability diagram; Guo et al. 2017).

    Attributes:
        low: The lowest probability of the tenth.
        count: How many.
        confidence: Their mean probability.
        accuracy: The share of them that are right.
        accuracy_low: The lower end of its 95 % interval.
        accuracy_high: The upper end.
    """

    low: float
    count: int
    confidence: float
    accuracy: float
    accuracy_low: float
    accuracy_high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationReport:
    """What a calibration found; all numbers after it are from folds that were held out.

    Attributes:
        links: Gold mentions used.
        without_candidates: Gold mentions without a candidate, which were left out.
        accuracy: Share whose best candidate is right, or one tied with it.
        ece_before: Expected calibration error before.
        ece_after: The same after.
        bins_before: The reliability diagram before, from low to high.
        bins: The same after.
        operating_points: What wanted precisions give; the knowledge base keeps them.
    """

    links: int
    without_candidates: int
    accuracy: float
    ece_before: float
    ece_after: float
    bins_before: tuple[ReliabilityBin, ...]
    bins: tuple[ReliabilityBin, ...]
    operating_points: tuple[OperatingPoint, ...]

    def to_dict(self) -> dict[str, object]:
        """Return the report as JSON has it."""
        return asdict(self) | {
            "operating_points": [point.to_dict() for point in self.operating_points]
        }


def calibrate(
    resources: LinkResources,
    gold: Sequence[tuple[str, frozenset[str]]],
    encode: Encode,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Reranker, CalibrationReport]:
    """Fit the probabilities to gold links.

    Args:
        resources: The opened knowledge base.
        gold: Mentions with the ids that are right; no ids means NIL.
        encode: Embeds texts.
        progress: Called with (mentions linked, mentions).

    Returns:
        The reranker with fitted probabilities, and what was found.

    Raises:
        InputError: There are fewer than 20 mentions to learn from, or one is no valid text.
    """
    check_texts([mention for mention, _ in gold])
    links = _link(resources, gold, encode, progress=progress)
    if len(links) < _FEWEST:
        raise InputError(f"{len(links)} gold mentions with a candidate; at least {_FEWEST} needed")
    # Start from the uncalibrated weights, so that repeated calibrations do not stack.
    before = resources.reranker.uncalibrated()
    fits = int((~links.exact_S).sum()) >= _FEWEST
    before_S, after_S = _probabilities(links, before), np.empty(len(links))
    for fold in range(_FOLDS):
        held_out = links.link_S % _FOLDS == fold
        after_S[held_out] = _probabilities(
            links[held_out], _fit(links[~held_out], before, fits=fits)
        )
    fitted = _fit(links, before, fits=fits)
    seen = sketch(mention for mention, _ in gold)
    fitted = replace(
        fitted,
        before_calibration=before.calibrated_values(),
        precision_curve=precision_curve(_probabilities(links, fitted), links.hit_S),
        fitted_on={**before.fitted_on, "gold_links": len(links), "gold_sketch": seen},
    )
    single_S = ~links.tied_S  # of several entities alike none is linked for its precision
    points = operating_points(
        after_S[single_S], links.hit_S[single_S], links.link_S[single_S],
        threshold=fitted.threshold, mentions=len(gold),
    )  # fmt: skip
    fitted = replace(fitted, operating_points=[point.to_dict() for point in points])
    return fitted, CalibrationReport(
        links=len(links),
        without_candidates=len(gold) - len(links),
        accuracy=float(links.hit_S.mean()),
        ece_before=expected_calibration_error(before_S, links.hit_S),
        ece_after=expected_calibration_error(after_S, links.hit_S),
        bins_before=reliability(before_S, links.hit_S, links.link_S),
        bins=reliability(after_S, links.hit_S, links.link_S),
        operating_points=points,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _GoldLinks:
    """Gold links; what is tied with the best candidate counts together with it.

    Attributes:
        link_S: (S,) int64, equal for equal links, from 0 in the order they first come in.
        exact_S: (S,) bool, the mention is a name.
        tied_S: (S,) bool, it is the name of several entities.
        confidence_S3: (S, 3) float64 values of ``CONFIDENCE_FEATURES`` where it is none.
        hit_S: (S,) bool, the best candidate is right.
        in_candidates_S: (S,) bool, a candidate is right, where it is none.
    """

    link_S: Int64
    exact_S: Bools
    tied_S: Bools
    confidence_S3: Float64
    hit_S: Bools
    in_candidates_S: Bools

    def __getitem__(self, chosen: Bools | Sequence[int]) -> _GoldLinks:
        return _GoldLinks(
            link_S=self.link_S[chosen],
            exact_S=self.exact_S[chosen],
            tied_S=self.tied_S[chosen],
            confidence_S3=self.confidence_S3[chosen],
            hit_S=self.hit_S[chosen],
            in_candidates_S=self.in_candidates_S[chosen],
        )

    def __len__(self) -> int:
        return len(self.hit_S)


def _link(
    resources: LinkResources,
    gold: Sequence[tuple[str, frozenset[str]]],
    encode: Encode,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> _GoldLinks:
    """Link the mentions that have a candidate as ``link`` does, each once, in the order of gold."""
    catalogue, names = resources.catalogue, resources.names
    given = [
        (mention.strip(), frozenset(n for id_ in ids for n in catalogue.resolve(id_)))
        for mention, ids in gold
    ]
    number_of = {link: n for n, link in enumerate(dict.fromkeys(given))}
    links = list(number_of)
    exact_S, tied_S, hit_S, inside_S, found_S = np.zeros((5, len(links)), dtype=bool)
    confidence_S3 = np.zeros((len(links), len(CONFIDENCE_FEATURES)))
    unknown: dict[str, list[int]] = {}
    matches = exact_matches(resources, [mention for mention, _ in links])
    for n, ((mention, right), match) in enumerate(zip(links, matches, strict=True)):
        if len(match):
            best = [e for e, is_best in zip(match.entities, match.best, strict=True) if is_best]
            found_S[n] = exact_S[n] = True
            tied_S[n], hit_S[n] = len(best) > 1, not right.isdisjoint(best)
        elif normalize(mention):
            unknown.setdefault(mention, []).append(n)
    numbers = list(unknown.values())
    for start, texts, vectors_QD in encoded_batches(list(unknown), encode):
        for places, pool in scored_pools(resources, texts, vectors_QD, mask=None):
            # A mention may have several answers, each a link of its own.
            for answer in range(max(len(numbers[start + i]) for i in range(len(texts)))):
                links_of = [
                    numbers[start + i][answer]
                    if i >= 0 and answer < len(numbers[start + i])
                    else -1
                    for i in places
                ]
                answers = [set(links[n][1]) if n >= 0 else set[int]() for n in links_of]
                samples = samples_of(pool.batch, pool.features_PF, names, answers)
                outcomes = calibration_targets(samples, resources.reranker)
                kept = [k for k, n in enumerate(links_of) if n >= 0]
                some = [links_of[k] for k in kept]
                confidence_S3[some] = outcomes.confidence_S3[kept]
                hit_S[some] = outcomes.hit_S[kept]
                inside_S[some] = outcomes.in_candidates_S[kept]
                found_S[some] = np.diff(samples.offsets)[kept] > 0
        if progress is not None:
            progress(start + len(texts), len(unknown))
    whole = _GoldLinks(
        link_S=np.arange(len(links)),
        exact_S=exact_S,
        tied_S=tied_S,
        confidence_S3=confidence_S3,
        hit_S=hit_S,
        in_candidates_S=inside_S,
    )
    return whole[[n for link in given if found_S[n := number_of[link]]]]


def _fit(links: _GoldLinks, before: Reranker, *, fits: bool) -> Reranker:
    exact_S = links.hit_S[links.exact_S & ~links.tied_S]
    others = links[~links.exact_S]
    # The old value stands for two more links: a few gold mentions should not overthrow it.
    prior = (float(exact_S.sum()) + 2 * before.exact_match_prior) / (len(exact_S) + 2)
    if fits:
        outcomes = Outcomes(
            confidence_S3=others.confidence_S3,
            hit_S=others.hit_S,
            in_candidates_S=others.in_candidates_S,
        )
        before = fit_confidence(outcomes, start=before)
    return replace(before, exact_match_prior=prior)


def _probabilities(links: _GoldLinks, reranker: Reranker) -> Float64:
    scored_S = reranker.top1_probability(links.confidence_S3)
    return np.where(links.exact_S, reranker.exact_match_prior, scored_S)


def expected_calibration_error(probability_S: Float64, hit_S: Bools) -> float:
    """Return the mean gap of probability and share right over ten equal bins, by their links."""
    bins = reliability(probability_S, hit_S)
    total = sum(b.count for b in bins)
    return sum(b.count * abs(b.confidence - b.accuracy) for b in bins) / max(total, 1)


def reliability(
    probability_S: Float64, hit_S: Bools, mention_S: Int64 | None = None, *, bins: int = 10
) -> tuple[ReliabilityBin, ...]:
    """Sort links into equal bins of probability; empty bins are left out.

    Args:
        probability_S: (S,) float64 probabilities.
        hit_S: (S,) bool, whether each link is right.
        mention_S: (S,) int64, equal for equal mentions; by default all are different.
        bins: How many.
    """
    mention_S = np.arange(len(hit_S)) if mention_S is None else mention_S
    bin_S = np.clip((probability_S * bins).astype(np.int64), 0, bins - 1)
    found = []
    for number in range(bins):
        inside = bin_S == number
        if not inside.any():
            continue
        low, high = share_interval(hit_S[inside], mention_S[inside])
        found.append(
            ReliabilityBin(
                low=number / bins,
                count=int(inside.sum()),
                confidence=float(probability_S[inside].mean()),
                accuracy=float(hit_S[inside].mean()),
                accuracy_low=low or 0.0,
                accuracy_high=1.0 if high is None else high,
            )
        )
    return tuple(found)
