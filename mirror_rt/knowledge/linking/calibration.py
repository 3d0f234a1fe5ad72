"""Fit the probabilities to a user's own gold links, and find thresholds for target precisions.

Axes: S gold links, P regularization strengths, R partitions into folds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING

import numpy as np

from mirror_rt._count import counted
from mirror_rt.errors import ConfigError, InputError
from mirror_rt.knowledge.entities.sketch import sketch
from mirror_rt.knowledge.linking.accepted import all_but_accepted
from mirror_rt.knowledge.linking.exact import exact_matches
from mirror_rt.knowledge.linking.linker import batches_ahead, check_strings
from mirror_rt.knowledge.linking.proposals import scored_pools
from mirror_rt.knowledge.linking.resources import LinkResources
from mirror_rt.knowledge.ranking.learning import (
    Outcomes,
    calibration_targets,
    fit_confidence,
    fit_names,
    precision_curve,
)
from mirror_rt.knowledge.ranking.name_probability import exact_match_features
from mirror_rt.knowledge.ranking.operating_points import (
    OperatingPoint,
    operating_points,
)
from mirror_rt.knowledge.ranking.reliability import (
    ReliabilityBin,
    expected_calibration_error,
    reliability,
)
from mirror_rt.knowledge.ranking.reranker import CONFIDENCE_FEATURES, Reranker
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
    "calibrate",
]

_FOLDS = 5
_PARTITIONS = 3
_SEED = 0
_L2_STRENGTHS = (300.0, 100.0, 30.0, 10.0, 1.0)
"""Regularization strengths, towards the weights before the calibration. Cross-validation chooses.

A few hundred links tell the level of the probabilities, but hardly the weight of each feature,
unless the old weights are far off (docs/experiments.md). So the strongest regularization within
one standard error of the best is taken.
"""
_Z_ONE_SIDED_5 = 1.645
"""Standard errors of a one-sided test at 5 %."""
FEWEST = 20
_FEWEST_NIL = 10
_CURVE_FIELDS = ("precision_curve", "operating_points", "risk_counts", "fitted_on")
"""Numbers of a reranker that say what its probabilities were worth where they were learned."""
_LEAST_NIL_SHARE = 0.02
_MIN_PROBABILITY = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationReport:
    """The report of a calibration. Fitted probabilities are measured by cross-validation.

    Attributes:
        links: Gold mentions used.
        reserved: Gold mentions set aside for the guarantee of ``wrong_at_most``.
        without_candidates: Gold mentions that were left out, as they have no candidate.
        accuracy: Share of mentions with a right entity as or tied with the best candidate.
        without_entity: Gold mentions without a right entity (NIL).
        kept: Whether the fitted probabilities are used. They are if their log loss on held-out
            mentions is significantly lower than before, and their calibration error not higher.
            Otherwise the old probabilities stay.
        ece_before: Expected calibration error before.
        ece_fitted: Expected calibration error of the fitted probabilities.
        ece_after: Expected calibration error of the probabilities in use afterwards.
        log_loss_before: Mean log loss (natural logarithm) before.
        log_loss_fitted: Mean log loss of the fitted probabilities.
        bins_before: The reliability diagram before, from low to high.
        bins: The reliability diagram afterwards.
        operating_points: Thresholds for target precisions; the knowledge base stores them.
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
        """Whether there are too few NIL mentions to learn what distinguishes them."""
        return self.without_entity < max(_FEWEST_NIL, _LEAST_NIL_SHARE * self.links)

    def to_dict(self) -> dict[str, object]:
        """Return the report as a dict for JSON."""
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
        gold: Mentions with their right ids; no ids means NIL.
        encode: Embeds texts.
        reserve: The share of the distinct mentions to set aside for a guarantee, not used in the
            fit (see ``ranking.risk``).
        without_accepted: Whether to leave out names that are accepted mentions: these mentions
            would find themselves.
        progress: Called with (mentions linked, mentions).

    Returns:
        The reranker with fitted probabilities, and the report.

    Raises:
        InputError: There are fewer than 20 mentions to learn from, or one is not valid text.
        ConfigError: ``reserve`` is below 0, or 1 or more.
    """
    if not 0.0 <= reserve < 1.0:
        raise ConfigError(f"reserve: must be at least 0 and below 1, got {reserve}")
    check_links(gold)
    mask = all_but_accepted(resources) if without_accepted else None
    links = _link(resources, gold, encode, mask=mask, progress=progress)
    if len(links) < FEWEST:
        raise InputError(
            f"{counted(len(links), 'gold mention')} with a candidate; at least {FEWEST} needed"
        )
    apart_S = _apart(links, reserve)
    kept_apart, links = links[apart_S], links[~apart_S]
    if len(links) < FEWEST:
        raise InputError(
            f"{counted(len(links), 'gold mention')} beside those that are reserved; "
            f"at least {FEWEST} needed"
        )
    # Start from the uncalibrated weights, so that repeated calibrations do not stack.
    before = resources.reranker.uncalibrated()
    fitted, compared = _calibrated(links, before)
    single_S = ~links.tied_S  # a mention with tied entities is never linked for a target precision
    points = operating_points(
        compared.after_S[single_S], links.hit_S[single_S], links.mention_S[single_S],
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
        kept=compared.better,
        ece_before=compared.error[0],
        ece_fitted=compared.error[1],
        ece_after=compared.error[int(compared.better)],
        log_loss_before=compared.loss[0],
        log_loss_fitted=compared.loss[1],
        bins_before=reliability(compared.before_S, links.hit_S, links.mention_S),
        bins=reliability(compared.after_S, links.hit_S, links.mention_S),
        operating_points=points,
    )


def _apart(links: _GoldLinks, reserve: float) -> Bools:
    """Return which links belong to the mentions that are set aside."""
    mentions = np.unique(links.mention_S)
    drawn = np.random.default_rng(_SEED).permutation(mentions)
    return np.isin(links.mention_S, drawn[: round(reserve * len(mentions))])


def _risk_counts(links: _GoldLinks, reranker: Reranker) -> tuple[tuple[float, int, int], ...]:
    """Count the wrong links above each threshold, each mention once; tied ones are not linked."""
    single = links[~links.tied_S]
    _, first = np.unique(single.mention_S, return_index=True)
    once = single[first.tolist()]
    return risk_counts(_probabilities(once, reranker), once.hit_S)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Compared:
    """Probabilities before and after a calibration, on held-out mentions.

    Attributes:
        before_S: (S,) float64 before.
        fitted_S: (S,) float64, each from a fit to the other folds.
        loss: Log loss of both.
        error: Expected calibration error of both.
        better: Whether the fitted ones are better by both measures.
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


def _calibrated(links: _GoldLinks, before: Reranker) -> tuple[Reranker, _Compared]:
    """Fit the probabilities, keep the better ones, and find their operating points."""
    fits = int((~links.exact_S).sum()) >= FEWEST
    mentions, number_S = np.unique(links.mention_S, return_inverse=True)
    before_S = _probabilities(links, before)
    fitted_PRS = np.stack(
        [_held_out_probabilities(links, number_S, before, fits=fits, l2=l2) for l2 in _L2_STRENGTHS]
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
    # With fewer mentions than folds, no comparison is possible.
    better = (
        _above_chance(gain_PS[chosen], number_S, errors=_Z_ONE_SIDED_5)
        and float(np.mean(errors)) <= error
        and len(mentions) >= _FOLDS
    )
    fitted = replace(
        _fit(links, before, fits=fits, l2=_L2_STRENGTHS[chosen]) if better else before,
        before_calibration={
            **before.calibrated_values(),
            **{name: getattr(before, name) for name in _CURVE_FIELDS},
        },
        fitted_on={**before.fitted_on, "gold_links": len(links)},
    )
    curve = precision_curve(_probabilities(links, fitted), links.hit_S)
    loss = _log_loss(before_S, links.hit_S)
    return replace(fitted, precision_curve=curve), _Compared(
        before_S=before_S,
        fitted_S=fitted_PRS[chosen, 0],
        loss=(loss, loss - float(gain_PS[chosen].mean())),
        error=(error, float(np.mean(errors))),
        better=better,
    )


def _held_out_probabilities(
    links: _GoldLinks, number_S: Int64, before: Reranker, *, fits: bool, l2: float
) -> Float64:
    """Return (R, S) float64: the probability of each link by the other folds, for R partitions.

    Equal mentions are in the same fold.
    """
    fitted_RS = np.empty((_PARTITIONS, len(links)))
    rng = np.random.default_rng(_SEED)
    for fitted_S in fitted_RS:
        fold_S = (rng.permutation(int(number_S.max()) + 1) % _FOLDS)[number_S]
        for fold in np.unique(fold_S):
            held_out = fold_S == fold
            fitted_S[held_out] = _probabilities(
                links[held_out], _fit(links[~held_out], before, fits=fits, l2=l2)
            )
    return fitted_RS


def _above_chance(gain_S: Float64, number_S: Int64, *, errors: float) -> bool:
    """Return whether the mean is some standard errors above 0, clustered by mention."""
    mean = gain_S.mean()
    apart_C = np.bincount(number_S, gain_S - mean)
    return bool(mean > errors * np.sqrt((apart_C**2).sum()) / len(gain_S))


@dataclass(frozen=True, slots=True, kw_only=True)
class _GoldLinks:
    """Gold links. Candidates that are tied with the best one count as one with it.

    Attributes:
        mention_S: (S,) int64 number of the mention, from 0 in the order of first occurrence.
        exact_S: (S,) bool, the mention is an exact match.
        tied_S: (S,) bool, the mention is the name of several entities.
        names_S3: (S, 3) float64 values of ``EXACT_MATCH_FEATURES`` of the best candidate's name.
        similarity_S: (S,) float64 similarity to the best candidate's name; infinite if exact.
        confidence_S3: (S, 3) float64 values of ``CONFIDENCE_FEATURES``, if not an exact match.
        hit_S: (S,) bool, the best candidate is right.
        in_candidates_S: (S,) bool, some candidate is right, if not an exact match.
        nil_S: (S,) bool, no entity is right.
    """

    mention_S: Int64
    exact_S: Bools
    tied_S: Bools
    names_S3: Float64
    similarity_S: Float64
    confidence_S3: Float64
    hit_S: Bools
    in_candidates_S: Bools
    nil_S: Bools

    def __getitem__(self, chosen: Bools | Sequence[int]) -> _GoldLinks:
        return _GoldLinks(**{one.name: getattr(self, one.name)[chosen] for one in fields(self)})

    def __len__(self) -> int:
        return len(self.hit_S)


def check_links(gold: Sequence[tuple[str, frozenset[str]]]) -> None:
    """Raise an error unless gold links are pairs of a mention and its ids.

    Raises:
        InputError: One is not; the message has its place.
    """
    for i, link in enumerate(gold):
        pair = isinstance(link, (tuple, list)) and len(link) == 2
        if not pair or not isinstance(link[1], (frozenset, set, list, tuple)):
            raise InputError(f"gold[{i}]: is not a pair of a mention and the set of its ids")
    check_strings([mention for mention, _ in gold])


def _link(
    resources: LinkResources,
    gold: Sequence[tuple[str, frozenset[str]]],
    encode: Encode,
    *,
    mask: FilterMask | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> _GoldLinks:
    """Link the gold mentions as ``link`` does, each once; keep those with a candidate, in order."""
    catalogue, names = resources.catalogue, resources.names
    given = [
        (mention.strip(), frozenset(n for id_ in ids for n in catalogue.resolve(id_)))
        for mention, ids in gold
    ]
    number_of = {link: n for n, link in enumerate(dict.fromkeys(given))}
    links = list(number_of)
    exact_S, tied_S, hit_S, inside_S, found_S = np.zeros((5, len(links)), dtype=bool)
    names_S3, similarity_S = np.zeros((len(links), 3)), np.full(len(links), np.inf)
    confidence_S3 = np.zeros((len(links), len(CONFIDENCE_FEATURES)))
    unknown: dict[str, list[int]] = {}
    matches = exact_matches(resources, [mention for mention, _ in links], mask=mask)
    for n, ((mention, right), match) in enumerate(zip(links, matches, strict=True)):
        if len(match):
            best = [e for e, is_best in zip(match.entities, match.best, strict=True) if is_best]
            found_S[n] = exact_S[n] = True
            names_S3[n] = exact_match_features(names, np.array(match.rows[:1]))
            tied_S[n], hit_S[n] = len(best) > 1, not right.isdisjoint(best)
        elif normalize(mention):
            unknown.setdefault(mention, []).append(n)
    numbers = list(unknown.values())
    for start, texts, vectors_QD in batches_ahead(list(unknown), encode):
        for places, pool in scored_pools(resources, texts, vectors_QD, mask=mask):
            # A mention may occur several times with different answers; each is a link.
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
                names_S3[some] = outcomes.names_S3[kept]
                similarity_S[some] = outcomes.similarity_S[kept]
                found_S[some] = np.diff(samples.offsets)[kept] > 0
        if progress is not None:
            progress(start + len(texts), len(unknown))
    number_of_mention = {m: n for n, m in enumerate(dict.fromkeys(m for m, _ in links))}
    whole = _GoldLinks(
        mention_S=np.array([number_of_mention[mention] for mention, _ in links], dtype=np.int64),
        exact_S=exact_S,
        tied_S=tied_S,
        names_S3=names_S3,
        similarity_S=similarity_S,
        confidence_S3=confidence_S3,
        hit_S=hit_S,
        in_candidates_S=inside_S,
        nil_S=np.array([not right for _, right in links], dtype=bool),
    )
    return whole[[n for link in given if found_S[n := number_of[link]]]]


def _fit(links: _GoldLinks, before: Reranker, *, fits: bool, l2: float) -> Reranker:
    named, others = links[links.exact_S & ~links.tied_S], links[~links.exact_S]
    name_weights = fit_names(named.names_S3, named.hit_S, start=before)
    if fits:
        outcomes = Outcomes(
            confidence_S3=others.confidence_S3,
            names_S3=others.names_S3,
            similarity_S=others.similarity_S,
            hit_S=others.hit_S,
            in_candidates_S=others.in_candidates_S,
        )
        before = fit_confidence(outcomes, start=before, l2=l2)
    return replace(before, name_weights=name_weights)


def _probabilities(links: _GoldLinks, reranker: Reranker) -> Float64:
    return np.where(
        links.exact_S,
        reranker.name_probability(links.names_S3),
        reranker.link_probability(links.confidence_S3, links.names_S3, links.similarity_S),
    )


def _log_loss(probability_S: Float64, hit_S: Bools) -> float:
    return float(_losses(probability_S, hit_S).mean())


def _losses(probability_S: Float64, hit_S: Bools) -> Float64:
    losses_S: Float64 = -np.log(
        np.maximum(np.where(hit_S, probability_S, 1.0 - probability_S), _MIN_PROBABILITY)
    )
    return losses_S
