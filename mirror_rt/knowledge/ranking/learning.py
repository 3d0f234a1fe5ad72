"""Learn the reranker from mentions with known answers: its weights and its probabilities.

Axes: S samples, P pairs of candidate name and entity of all samples, one sample after another, E
entities likewise, F features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

import numpy as np

from mirror_rt.knowledge.ranking.features import (
    ACCEPTED_MENTIONS,
    FEATURES,
)
from mirror_rt.knowledge.ranking.name_probability import EXACT_MATCH_FEATURES
from mirror_rt.knowledge.ranking.operating_points import operating_points
from mirror_rt.knowledge.ranking.rank import best_names
from mirror_rt.knowledge.ranking.reranker import (
    CONFIDENCE_FEATURES,
    Reranker,
    name_similarity,
    sigmoid,
)
from mirror_rt.knowledge.ranking.risk import risk_counts
from mirror_rt.knowledge.ranking.samples import ENOUGH, Samples
from mirror_rt.knowledge.ranking.ties import find_ties
from mirror_rt.knowledge.ranking.weights import (
    BUILT_IN,
    FittedWeights,
    fit_weights,
    likeliest,
    minimize_within,
)

if TYPE_CHECKING:
    import numpy.typing as npt

    Float64 = npt.NDArray[np.float64]
    Bools = npt.NDArray[np.bool_]

__all__ = [
    "Outcomes",
    "RefitReport",
    "calibration_targets",
    "fit",
    "fit_confidence",
    "fit_names",
    "precision_curve",
]

_PRIOR_STRENGTH = {"mentions": 1_000.0, "places": 100.0}
"""The strength of each set of built-in weights, in held-out names. Mentions in texts differ from
names, so weights fitted to mentions get a strong prior. Names of places are queried verbatim, so
held-out names are the better sample, and the prior is weak (docs/experiments.md)."""
_MIN_REPORTED_CHANGE = 0.005
_FEWEST_ABOVE = 20
"""A precision is measured on at least this many links."""


def fit(samples: Samples, *, prior: FittedWeights | None = None) -> Reranker:
    """Adapt the weights to the samples, and learn the confidence.

    The confidence is fitted by cross-fitting: the scores of each half come from weights that were
    learned on the other half.

    Args:
        samples: The samples; if they are too few, the built-in numbers stay.
        prior: The weights to regularize towards; by default the built-in ones under which the
            samples are likeliest.
    """
    if len(samples) < ENOUGH:
        return Reranker.of(prior or FittedWeights.built_in())
    prior = prior or likeliest(samples, map(FittedWeights.built_in, BUILT_IN))
    start = Reranker.of(prior)
    found = _crossed(samples, prior)
    before = calibration_targets(samples, start)
    weights = fit_weights(samples, prior, prior_strength=_PRIOR_STRENGTH[prior.name])
    adapted = replace(start, weights=weights.weights, nil_score=weights.nil_score)
    fitted = fit_confidence(found, start=adapted)
    probability_S = found.probabilities(fitted)
    fitted = replace(
        fitted,
        precision_curve=precision_curve(probability_S, found.hit_S),
        fitted_on={
            "prior": prior.name,
            "samples": len(samples),
            "right_at_1": round(float(found.hit_S.mean()), 4),
            "right_at_1_before": round(float(before.hit_S.mean()), 4),
        },
    )
    order = np.arange(len(samples))
    points = operating_points(probability_S, found.hit_S, order, threshold=fitted.threshold)
    return replace(fitted, operating_points=[point.to_dict() for point in points])


def _crossed(samples: Samples, prior: FittedWeights) -> Outcomes:
    """Return the outcomes of each half with the weights of the other, in the order of samples."""
    halves = []
    for half in (0, 1):
        other = samples[np.arange(1 - half, len(samples), 2)]
        weights = fit_weights(other, prior, prior_strength=_PRIOR_STRENGTH[prior.name])
        there = replace(Reranker(), weights=weights.weights, nil_score=weights.nil_score)
        halves.append(calibration_targets(samples[np.arange(half, len(samples), 2)], there))
    order = np.argsort(np.append(*(np.arange(half, len(samples), 2) for half in (0, 1))))
    return Outcomes(
        **{
            one.name: np.concatenate([getattr(half, one.name) for half in halves])[order]
            for one in fields(Outcomes)
        }
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class RefitReport:
    """The changes of a refit.

    Attributes:
        samples: Names of the knowledge base that were linked as mentions.
        right_before: The share of them that the old weights link right.
        right_after: The share that the new weights link right.
        changes: The weights that change by at least .005, by name: before and after.
        calibration_links_dropped: Gold links of a calibration, which is removed with the old
            weights.
    """

    samples: int
    right_before: float
    right_after: float
    changes: Mapping[str, tuple[float, float]]
    calibration_links_dropped: int

    @classmethod
    def of(cls, before: Reranker, after: Reranker, samples: Samples) -> RefitReport:
        """Compare two rerankers on samples."""
        right = [
            float(calibration_targets(samples, one).hit_S.mean()) if len(samples) else 0.0
            for one in (before, after)
        ]
        taught = [name for name in FEATURES if name != FEATURES[ACCEPTED_MENTIONS]]
        numbers = {name: (before.weights[name], after.weights[name]) for name in taught}
        numbers["nil_score"] = (before.nil_score, after.nil_score)
        return cls(
            samples=len(samples),
            right_before=right[0],
            right_after=right[1],
            changes={
                name: (round(old, 4), round(new, 4))
                for name, (old, new) in numbers.items()
                if abs(new - old) >= _MIN_REPORTED_CHANGE
            },
            calibration_links_dropped=int(before.fitted_on.get("gold_links", 0)),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcomes:
    """The data of a calibration.

    Attributes:
        confidence_S3: (S, 3) float64 values of ``reranker.CONFIDENCE_FEATURES``.
        names_S3: (S, 3) float64 values of ``EXACT_MATCH_FEATURES`` of the best name.
        similarity_S: (S,) float64 similarity to it; minus infinity without candidates.
        hit_S: (S,) bool, the best entity, or one tied with it, is right.
        in_candidates_S: (S,) bool, some candidate is right.
    """

    confidence_S3: Float64
    names_S3: Float64
    similarity_S: Float64
    hit_S: Bools
    in_candidates_S: Bools

    def probabilities(self, reranker: Reranker) -> Float64:
        """Return (S,) float64, the probability that ``link`` states for each."""
        return reranker.link_probability(self.confidence_S3, self.names_S3, self.similarity_S)


def calibration_targets(samples: Samples, reranker: Reranker) -> Outcomes:
    """Return the confidence features and the outcome of each sample."""
    scores_P = reranker.scores(samples.features_PF)
    count = len(samples)
    offsets, places = best_names(samples.sample_P, samples.entity_P, scores_P, mentions=count)
    scores_E = scores_P[places]
    best_E, _ = find_ties(offsets, samples.name_P[places], scores_E)
    sample_E = np.repeat(np.arange(count), np.diff(offsets))
    names_S3, similarity_S = np.zeros((count, samples.names_P3.shape[1])), np.full(count, -np.inf)
    found_S = np.diff(offsets) > 0
    first = places[offsets[:-1][found_S]]
    names_S3[found_S] = samples.names_P3[first]
    similarity_S[found_S] = name_similarity(samples.features_PF[first])
    return Outcomes(
        confidence_S3=reranker.confidence_features(offsets, scores_E, best_E),
        names_S3=names_S3,
        similarity_S=similarity_S,
        hit_S=np.bincount(sample_E, samples.right_P[places] & best_E, minlength=count) > 0,
        in_candidates_S=np.bincount(samples.sample_P, samples.right_P, minlength=count) > 0,
    )


def precision_curve(
    probability_S: Float64, hit_S: Bools, *, points: int = 50
) -> tuple[tuple[float, float], ...]:
    """Return (threshold, precision of the links at or above it), thresholds ascending.

    Thresholds are only between different probabilities, and only where enough links are above
    them.
    """
    fewest = min(_FEWEST_ABOVE, len(probability_S))
    counts = risk_counts(probability_S, hit_S, points=points, fewest=fewest)
    return tuple(
        (threshold, round((links - wrong) / links, 6)) for threshold, links, wrong in counts[::-1]
    )


def fit_confidence(outcomes: Outcomes, *, start: Reranker, l2: float = 1.0) -> Reranker:
    """Fit two logistic regressions: a candidate is right; the best one is right, given that.

    The second one is fitted on links where a candidate is right. Except for the constants, weights
    are never negative: a larger margin never lowers the confidence. The constant of the second is
    never positive.

    Args:
        outcomes: The data.
        start: The reranker to start from and to regularize towards.
        l2: The strength of the L2 regularization.
    """
    found_S = outcomes.in_candidates_S
    inputs_S4 = np.append(outcomes.confidence_S3, np.ones((len(found_S), 1)), axis=1)
    free = (-np.inf, np.inf)
    fitted: list[dict[str, float]] = []
    for first, old, inputs, targets, bounds in (
        (0, start.in_candidates_weights, inputs_S4, found_S, free),
        (1, start.top1_weights, inputs_S4[found_S, 1:], outcomes.hit_S[found_S], (-np.inf, 0.0)),
    ):
        names = [*CONFIDENCE_FEATURES[first:], "constant"]
        weights = _logistic(
            inputs,
            targets,
            [old[name] for name in names],
            bounds=[(0.0, np.inf)] * (len(names) - 1) + [bounds],
            l2=l2,
        )
        fitted.append(dict(zip(names, weights, strict=True)))
    return replace(start, in_candidates_weights=fitted[0], top1_weights=fitted[1])


def fit_names(names_S3: Float64, hit_S: Bools, *, start: Reranker) -> dict[str, float]:
    """Fit the weights of ``EXACT_MATCH_FEATURES`` to exact matches.

    Args:
        names_S3: (S, 3) float64 values of ``EXACT_MATCH_FEATURES``.
        hit_S: (S,) bool, whether the entity of the name is right.
        start: The reranker to start from and to regularize towards.
    """
    names = [*EXACT_MATCH_FEATURES, "constant"]
    weights = _logistic(
        np.append(names_S3, np.ones((len(hit_S), 1)), axis=1),
        hit_S,
        [start.name_weights[name] for name in names],
        # A longer name never has less; a short word, or a name of common words, never more.
        bounds=[(0.0, np.inf), (-np.inf, 0.0), (-np.inf, 0.0), (-np.inf, np.inf)],
    )
    return dict(zip(names, weights, strict=True))


def _logistic(
    inputs_SF: Float64,
    hit_S: Bools,
    prior: Sequence[float],
    *,
    bounds: Sequence[tuple[float, float]],
    l2: float = 1.0,
) -> list[float]:
    """Fit weights within bounds, with Platt's smoothed targets (1999)."""
    right, wrong = int(hit_S.sum()), int((~hit_S).sum())
    target_S = np.where(hit_S, (right + 1) / (right + 2), 1 / (wrong + 2))
    prior_F = np.array(prior)

    def loss(weights_F: Float64) -> tuple[float, Float64, Float64]:
        odds_S = inputs_SF @ weights_F
        p_S = sigmoid(odds_S)
        likely = (np.logaddexp(0.0, odds_S) - target_S * odds_S).sum()
        change_F = weights_F - prior_F
        return (
            float(likely + 0.5 * l2 * (change_F**2).sum()),
            inputs_SF.T @ (p_S - target_S) + l2 * change_F,
            (inputs_SF * (p_S * (1 - p_S))[:, None]).T @ inputs_SF + l2 * np.eye(len(prior_F)),
        )

    fitted: list[float] = minimize_within(loss, prior_F, bounds).tolist()
    return fitted
