"""Fit probabilities to a user's own gold links, and find thresholds for a precision.

Axes: S gold links.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING

import numpy as np

from mirror_rt.errors import ConfigError, InputError
from mirror_rt.knowledge.entities.sketch import sketch
from mirror_rt.knowledge.linking.accepted import all_but_accepted
from mirror_rt.knowledge.linking.exact import exact_matches
from mirror_rt.knowledge.linking.linker import check_texts, encoded_batches
from mirror_rt.knowledge.linking.proposals import scored_pools
from mirror_rt.knowledge.linking.resources import LinkResources
from mirror_rt.knowledge.ranking.learning import (
    Outcomes,
    calibration_targets,
    fit_confidence,
    fit_names,
    precision_curve,
)
from mirror_rt.knowledge.ranking.name_probability import name_features
from mirror_rt.knowledge.ranking.operating_points import (
    OperatingPoint,
    operating_points,
    share_interval,
)
from mirror_rt.knowledge.ranking.reranker import CONFIDENCE_FEATURES, Reranker, likeness
from mirror_rt.knowledge.ranking.risk import risk_counts
from mirror_rt.knowledge.ranking.samples import samples_of
from mirror_rt.knowledge.retrieval.filters import FilterMask
from mirror_rt.knowledge.text.normalize import normalize

if TYPE_CHECKING:
    import numpy.typing as npt

    from mirror_rt.knowledge.linking.resources import Encode

    Float64 = npt.NDArray[np.float64]
    Bools = npt.NDArray[np.bool_]
    Int64 = npt.NDArray[np.int64]

__all__ = [
    "FEWEST",
    "CalibrationReport",
    "ReliabilityBin",
    "calibrate",
    "expected_calibration_error",
    "reliability",
]

_FOLDS = 5
_PARTITIONS = 3
_SEED = 0
_PULLS = (300.0, 100.0, 30.0, 10.0, 1.0)
"""How strongly the probabilities are pulled to those before; held-out mentions choose.

A few hundred links say how sure to be, but hardly how much each lead counts, unless those before
are far off (docs/experiments.md). So the strongest within a standard error of the best is taken.
"""
_SURELY = 1.645
"""Standard errors by which a mean is above 0 by chance once in twenty times."""
FEWEST = 20
_FEWEST_NIL = 10
_LEAST_NIL_SHARE = 0.02
_LEAST_SAID = 1e-9


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
        reserved: Gold mentions kept apart, which a guarantee is given on.
        without_candidates: Gold mentions without a candidate, which were left out.
        accuracy: Share whose best candidate is right, or one tied with it.
        without_entity: Gold mentions of which no entity is right (NIL).
        kept: Whether the fitted probabilities were taken: their log loss was lower than before on
            mentions that were held out, by more than chance, and their calibration error no
            higher. Otherwise probabilities stay as they were.
        ece_before: Expected calibration error before.
        ece_fitted: The same of the fitted probabilities.
        ece_after: That of those taken.
        log_loss_before: Mean negative natural log of what was said of each outcome, before.
        log_loss_fitted: The same of the fitted probabilities.
        bins_before: The reliability diagram before, from low to high.
        bins: The same after.
        operating_points: What wanted precisions give; the knowledge base keeps them.
    """

    links: int
    reserved: int
    without_candidates: int
    accuracy: float
    without_entity: int
    kept: bool
    ece_before: float
    ece_fitted: float
    ece_after: float
    log_loss_before: float
    log_loss_fitted: float
    bins_before: tuple[ReliabilityBin, ...]
    bins: tuple[ReliabilityBin, ...]
    operating_points: tuple[OperatingPoint, ...]

    @property
    def has_few_nil(self) -> bool:
        """Whether too few mentions are NIL to learn from what a mention without entity is."""
        return self.without_entity < max(_FEWEST_NIL, _LEAST_NIL_SHARE * self.links)

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
    reserve: float = 0.0,
    without_accepted: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Reranker, CalibrationReport]:
    """Fit the probabilities to gold links.

    Args:
        resources: The opened knowledge base.
        gold: Mentions with the ids that are right; no ids means NIL.
        encode: Embeds texts.
        reserve: The share of the different mentions that nothing is fitted to: what a guarantee
            is given on (see ``ranking.risk``).
        without_accepted: Whether names that are accepted mentions are left out, as each of these
            would find itself.
        progress: Called with (mentions linked, mentions).

    Returns:
        The reranker with fitted probabilities, and what was found.

    Raises:
        InputError: There are fewer than 20 mentions to learn from, or one is no valid text.
        ConfigError: ``reserve`` is not from 0 to below 1.
    """
    if not 0.0 <= reserve < 1.0:
        raise ConfigError(f"reserve must be at least 0 and below 1, got {reserve}")
    check_texts([mention for mention, _ in gold])
    mask = all_but_accepted(resources) if without_accepted else None
    links = _link(resources, gold, encode, mask=mask, progress=progress)
    if len(links) < FEWEST:
        raise InputError(f"{len(links)} gold mentions with a candidate; at least {FEWEST} needed")
    apart_S = _apart(links, reserve)
    kept_apart, links = links[apart_S], links[~apart_S]
    if len(links) < FEWEST:
        raise InputError(
            f"{len(links)} gold mentions beside those that are reserved; at least {FEWEST} needed"
        )
    # Start from the uncalibrated weights, so that repeated calibrations do not stack.
    before = resources.reranker.uncalibrated()
    fitted, told = _calibrated(links, before)
    single_S = ~links.tied_S  # of several entities alike none is linked for its precision
    points = operating_points(
        told.after_S[single_S], links.hit_S[single_S], links.mention_S[single_S],
        threshold=fitted.threshold, mentions=len(gold) - len(kept_apart),
    )  # fmt: skip
    fitted = replace(
        fitted,
        operating_points=[point.to_dict() for point in points],
        risk_counts=_risk_counts(kept_apart, fitted),
        fitted_on={**fitted.fitted_on, "gold_sketch": sketch(mention for mention, _ in gold)},
    )
    return fitted, CalibrationReport(
        links=len(links),
        reserved=len(kept_apart),
        without_candidates=len(gold) - len(links) - len(kept_apart),
        accuracy=float(links.hit_S.mean()),
        without_entity=int(links.nil_S.sum()),
        kept=told.better,
        ece_before=told.error[0],
        ece_fitted=told.error[1],
        ece_after=told.error[int(told.better)],
        log_loss_before=told.loss[0],
        log_loss_fitted=told.loss[1],
        bins_before=reliability(told.before_S, links.hit_S, links.mention_S),
        bins=reliability(told.after_S, links.hit_S, links.mention_S),
        operating_points=points,
    )


def _apart(links: _GoldLinks, reserve: float) -> Bools:
    """Return which links are of the mentions that are kept apart from what is fitted."""
    mentions = np.unique(links.mention_S)
    drawn = np.random.default_rng(_SEED).permutation(mentions)
    return np.isin(links.mention_S, drawn[: round(reserve * len(mentions))])


def _risk_counts(links: _GoldLinks, reranker: Reranker) -> tuple[tuple[float, int, int], ...]:
    """Count what is wrong above each threshold, each mention once; no tied ones are linked."""
    single = links[~links.tied_S]
    _, first = np.unique(single.mention_S, return_index=True)
    once = single[first.tolist()]
    return risk_counts(_probabilities(once, reranker), once.hit_S)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Judged:
    """Probabilities before and after a calibration, on mentions that were held out.

    Attributes:
        before_S: (S,) float64 before.
        fitted_S: (S,) float64, each by what the other folds teach.
        loss: Log loss of both.
        error: Expected calibration error of both.
        better: Whether the fitted ones are better by both.
    """

    before_S: Float64
    fitted_S: Float64
    loss: tuple[float, float]
    error: tuple[float, float]
    better: bool

    @property
    def after_S(self) -> Float64:
        """(S,) float64, the better ones."""
        return self.fitted_S if self.better else self.before_S


def _calibrated(links: _GoldLinks, before: Reranker) -> tuple[Reranker, _Judged]:
    """Fit the probabilities, keep the better ones, and learn which precision they reach."""
    fits = int((~links.exact_S).sum()) >= FEWEST
    mentions, number_S = np.unique(links.mention_S, return_inverse=True)
    before_S = _probabilities(links, before)
    fitted_PRS = np.stack(
        [_held_out_probabilities(links, number_S, before, fits=fits, pull=pull) for pull in _PULLS]
    )
    gain_PS = _losses(before_S, links.hit_S) - _losses(fitted_PRS, links.hit_S).mean(axis=1)
    best = int(gain_PS.mean(axis=1).argmax())
    chosen = next(
        i
        for i in range(best + 1)
        if not _above_chance(gain_PS[best] - gain_PS[i], number_S, errors=1.0)
    )
    error = expected_calibration_error(before_S, links.hit_S)
    errors = [expected_calibration_error(p_S, links.hit_S) for p_S in fitted_PRS[chosen]]
    # Fewer mentions than folds cannot tell one from the other.
    better = (
        _above_chance(gain_PS[chosen], number_S, errors=_SURELY)
        and float(np.mean(errors)) <= error
        and len(mentions) >= _FOLDS
    )
    fitted = replace(
        _fit(links, before, fits=fits, pull=_PULLS[chosen]) if better else before,
        before_calibration=before.calibrated_values(),
        fitted_on={**before.fitted_on, "gold_links": len(links)},
    )
    curve = precision_curve(_probabilities(links, fitted), links.hit_S)
    loss = _log_loss(before_S, links.hit_S)
    return replace(fitted, precision_curve=curve), _Judged(
        before_S=before_S,
        fitted_S=fitted_PRS[chosen, 0],
        loss=(loss, loss - float(gain_PS[chosen].mean())),
        error=(error, float(np.mean(errors))),
        better=better,
    )


def _held_out_probabilities(
    links: _GoldLinks, number_S: Int64, before: Reranker, *, fits: bool, pull: float
) -> Float64:
    """Return (R, S) float64: what the other folds teach of each link, for some partitions.

    Equal mentions are of one fold.
    """
    fitted_RS = np.empty((_PARTITIONS, len(links)))
    rng = np.random.default_rng(_SEED)
    for fitted_S in fitted_RS:
        fold_S = (rng.permutation(int(number_S.max()) + 1) % _FOLDS)[number_S]
        for fold in np.unique(fold_S):
            held_out = fold_S == fold
            fitted_S[held_out] = _probabilities(
                links[held_out], _fit(links[~held_out], before, fits=fits, pull=pull)
            )
    return fitted_RS


def _above_chance(gain_S: Float64, number_S: Int64, *, errors: float) -> bool:
    """Return whether the mean is so many standard errors above 0; equal mentions go together."""
    mean = gain_S.mean()
    apart_C = np.bincount(number_S, gain_S - mean)
    return bool(mean > errors * np.sqrt((apart_C**2).sum()) / len(gain_S))


@dataclass(frozen=True, slots=True, kw_only=True)
class _GoldLinks:
    """Gold links; what is tied with the best candidate counts together with it.

    Attributes:
        mention_S: (S,) int64, equal for equal mentions, from 0 in the order they first come in.
        exact_S: (S,) bool, the mention is a name.
        tied_S: (S,) bool, it is the name of several entities.
        names_S3: (S, 3) float64 values of ``NAME_FEATURES`` of the best candidate's name.
        likeness_S: (S,) float64, how like it is; infinite where the mention is a name.
        confidence_S3: (S, 3) float64 values of ``CONFIDENCE_FEATURES`` where it is none.
        hit_S: (S,) bool, the best candidate is right.
        in_candidates_S: (S,) bool, a candidate is right, where it is none.
        nil_S: (S,) bool, no entity is right.
    """

    mention_S: Int64
    exact_S: Bools
    tied_S: Bools
    names_S3: Float64
    likeness_S: Float64
    confidence_S3: Float64
    hit_S: Bools
    in_candidates_S: Bools
    nil_S: Bools

    def __getitem__(self, chosen: Bools | Sequence[int]) -> _GoldLinks:
        return _GoldLinks(**{one.name: getattr(self, one.name)[chosen] for one in fields(self)})

    def __len__(self) -> int:
        return len(self.hit_S)


def _link(
    resources: LinkResources,
    gold: Sequence[tuple[str, frozenset[str]]],
    encode: Encode,
    *,
    mask: FilterMask | None = None,
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
    row_S, likeness_S = np.zeros(len(links), dtype=np.int64), np.full(len(links), np.inf)
    confidence_S3 = np.zeros((len(links), len(CONFIDENCE_FEATURES)))
    unknown: dict[str, list[int]] = {}
    matches = exact_matches(resources, [mention for mention, _ in links], mask=mask)
    for n, ((mention, right), match) in enumerate(zip(links, matches, strict=True)):
        if len(match):
            best = [e for e, is_best in zip(match.entities, match.best, strict=True) if is_best]
            found_S[n] = exact_S[n] = True
            row_S[n] = match.rows[0]
            tied_S[n], hit_S[n] = len(best) > 1, not right.isdisjoint(best)
        elif normalize(mention):
            unknown.setdefault(mention, []).append(n)
    numbers = list(unknown.values())
    for start, texts, vectors_QD in encoded_batches(list(unknown), encode):
        for places, pool in scored_pools(resources, texts, vectors_QD, mask=mask):
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
                if mask is not None:
                    samples = samples.without_own()
                outcomes = calibration_targets(samples, resources.reranker)
                kept = [k for k, n in enumerate(links_of) if n >= 0]
                some = [links_of[k] for k in kept]
                confidence_S3[some] = outcomes.confidence_S3[kept]
                hit_S[some] = outcomes.hit_S[kept]
                inside_S[some] = outcomes.in_candidates_S[kept]
                found_S[some] = np.diff(samples.offsets)[kept] > 0
                first = [(n, k) for n, k in zip(some, kept, strict=True) if found_S[n]]
                some, at = [n for n, _ in first], pool.ranked.offsets[[k for _, k in first]]
                row_S[some] = pool.ranked.row_E[at]
                likeness_S[some] = likeness(pool.features_PF[pool.ranked.pair_E[at]])
        if progress is not None:
            progress(start + len(texts), len(unknown))
    number_of_mention = {m: n for n, m in enumerate(dict.fromkeys(m for m, _ in links))}
    whole = _GoldLinks(
        mention_S=np.array([number_of_mention[mention] for mention, _ in links], dtype=np.int64),
        exact_S=exact_S,
        tied_S=tied_S,
        names_S3=name_features(names, row_S),
        likeness_S=likeness_S,
        confidence_S3=confidence_S3,
        hit_S=hit_S,
        in_candidates_S=inside_S,
        nil_S=np.array([not right for _, right in links], dtype=bool),
    )
    return whole[[n for link in given if found_S[n := number_of[link]]]]


def _fit(links: _GoldLinks, before: Reranker, *, fits: bool, pull: float) -> Reranker:
    named, others = links[links.exact_S & ~links.tied_S], links[~links.exact_S]
    name_weights = fit_names(named.names_S3, named.hit_S, start=before)
    if fits:
        outcomes = Outcomes(
            confidence_S3=others.confidence_S3,
            hit_S=others.hit_S,
            in_candidates_S=others.in_candidates_S,
        )
        before = fit_confidence(outcomes, start=before, pull=pull)
    return replace(before, name_weights=name_weights)


def _probabilities(links: _GoldLinks, reranker: Reranker) -> Float64:
    scored_S = reranker.top1_probability(links.confidence_S3)
    most_S = reranker.most_probable(links.names_S3, links.likeness_S)
    return np.where(links.exact_S, most_S, np.minimum(scored_S, most_S))


def _log_loss(probability_S: Float64, hit_S: Bools) -> float:
    return float(_losses(probability_S, hit_S).mean())


def _losses(probability_S: Float64, hit_S: Bools) -> Float64:
    losses_S: Float64 = -np.log(
        np.maximum(np.where(hit_S, probability_S, 1.0 - probability_S), _LEAST_SAID)
    )
    return losses_S


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
