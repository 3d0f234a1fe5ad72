"""The weights of the reranker: the built-in ones, and their adaptation to a knowledge base.

benchmarks/default_weights.py fits two sets of built-in weights: one on mentions of several domains
with equal weight, one on names of places, which are related by their letters rather than by what
they mean. The signs are constrained: higher similarity never lowers a score. A knowledge base
takes the set under which its own names are likelier, and adapts the weights to its own names. A
change is penalized by its loss on what the set was fitted on, through the curvature of its log
likelihood (Laplace's approximation). So weights that matter there hardly change.

Axes: S samples, P pairs of candidate name and entity, E entities of all samples, F features.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.resources import files
from typing import TYPE_CHECKING

import numpy as np

from mirror_rt.knowledge.ranking.features import FEATURES, SIGNS

if TYPE_CHECKING:
    import numpy.typing as npt

    from mirror_rt.knowledge.ranking.samples import Samples
    from mirror_rt.types import Int64

    Float64 = npt.NDArray[np.float64]
    Bools = npt.NDArray[np.bool_]

__all__ = [
    "BUILT_IN",
    "DEFAULT_WEIGHTS",
    "FittedWeights",
    "fit_weight",
    "fit_weights",
    "likeliest",
    "minimize_within",
]

DEFAULT_WEIGHTS = "default_weights.json"
BUILT_IN = ("mentions", "places")
"""The sets of built-in weights, by what they are fitted on."""
_ITERATIONS = 60
_RIDGE = 1e-3
"""A small ridge penalty, in addition to the curvature, for weights without influence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FittedWeights:
    """Fitted weights with their curvature, so that a later fit can start from them as a prior.

    Attributes:
        name: What the weights are fitted on, of ``BUILT_IN``.
        features: The features that have a weight; the weights of the others stay 0.
        weights: The weight of each feature, by name.
        nil_score: The score of NIL.
        in_candidates_weights: See ``reranker.Reranker``.
        top1_weights: See ``reranker.Reranker``.
        curvature_FF: (F, F) float64 curvature of the mean negative log likelihood of a mention
            at these weights, in the order of ``FEATURES``.
    """

    name: str
    features: Sequence[str]
    weights: Mapping[str, float]
    nil_score: float
    curvature_FF: Float64
    in_candidates_weights: Mapping[str, float]
    top1_weights: Mapping[str, float]

    @classmethod
    @lru_cache(maxsize=len(BUILT_IN))
    def built_in(cls, name: str = "mentions") -> FittedWeights:
        """Return a set of the built-in weights."""
        text = (files("mirror_rt.knowledge.ranking") / DEFAULT_WEIGHTS).read_text("utf-8")
        content = json.loads(text)[name]
        features = tuple(name for name in FEATURES if name in content["features"])
        here = [FEATURES.index(feature) for feature in features]
        there = [content["features"].index(feature) for feature in features]
        curvature_FF = np.zeros((len(FEATURES), len(FEATURES)))
        curvature_FF[np.ix_(here, here)] = np.array(content["curvature"])[np.ix_(there, there)]
        return cls(
            name=name,
            features=features,
            weights={feature: content["weights"].get(feature, 0.0) for feature in FEATURES},
            nil_score=content["nil_score"],
            curvature_FF=curvature_FF,
            in_candidates_weights=content["in_candidates_weights"],
            top1_weights=content["top1_weights"],
        )

    @property
    def weights_F(self) -> Float64:
        """(F,) float64, the weights in the order of ``FEATURES``."""
        return np.array([self.weights[name] for name in FEATURES])


def likeliest(samples: Samples, priors: Iterable[FittedWeights]) -> FittedWeights:
    """Return the weights under which the right entities of samples are likeliest.

    Samples without a right candidate do not count.
    """
    known_S = np.bincount(samples.sample_P, samples.right_P, minlength=len(samples)) > 0
    groups, features_PF = _Groups.of(samples), samples.features_PF.astype(np.float64)
    weight_S = known_S.astype(np.float64)
    return min(priors, key=lambda prior: _loss(features_PF, prior.weights_F, groups, weight_S)[0])


def fit_weights(
    samples: Samples,
    prior: FittedWeights,
    *,
    prior_strength: float,
    sample_weight_S: Float64 | None = None,
) -> FittedWeights:
    """Fit the weights on samples whose right entity is a candidate, then the score of NIL on all.

    This maximizes the conditional log likelihood of the right entities, with constrained signs.
    Each round uses the best name of every entity under the current weights.

    Args:
        samples: Mentions with known answers and their candidates.
        prior: The weights to regularize towards.
        prior_strength: The strength of the prior, in samples.
        sample_weight_S: (S,) float64 weight of each sample; 1 by default.

    Returns:
        The weights, with the curvature of the mean loss of these samples.
    """
    weight_S = np.ones(len(samples)) if sample_weight_S is None else sample_weight_S
    known_S = np.bincount(samples.sample_P, samples.right_P, minlength=len(samples)) > 0
    groups, features_PF = _Groups.of(samples), samples.features_PF.astype(np.float64)
    prior_F, count = prior.weights_F, max(float(weight_S[known_S].sum()), 1e-12)
    penalty_FF = prior_strength / count * prior.curvature_FF + _RIDGE * np.eye(len(FEATURES))

    def loss(weights_F: Float64) -> tuple[float, Float64, Float64]:
        value, gradient_F, curvature_FF = _loss(
            features_PF, weights_F, groups, np.where(known_S, weight_S, 0.0) / count
        )
        change_F = weights_F - prior_F
        value += 0.5 * float(change_F @ penalty_FF @ change_F)
        return value, gradient_F + penalty_FF @ change_F, curvature_FF + penalty_FF

    bounds = [
        (0.0, 0.0) if name not in prior.features
        else (0.0, np.inf) if SIGNS[name] > 0 else (-np.inf, 0.0)
        for name in FEATURES
    ]  # fmt: skip
    weights_F = minimize_within(loss, prior_F, bounds) if known_S.any() else prior_F
    _, _, curvature_FF = _loss(
        features_PF, weights_F, groups, np.where(known_S, weight_S, 0.0) / count
    )
    nil = _fit_nil(features_PF @ weights_F, groups, known_S, weight_S, prior.nil_score)
    return replace(
        prior,
        weights=dict(zip(FEATURES, weights_F.tolist(), strict=True)),
        nil_score=nil,
        curvature_FF=curvature_FF,
    )


def fit_weight(samples: Samples, weights: Mapping[str, float], feature: str, *, l2: float) -> float:
    """Fit the weight of one feature, with its sign constrained and the others fixed.

    Args:
        samples: Mentions with known answers and their candidates.
        weights: All weights.
        feature: The feature to fit.
        l2: The strength of the L2 regularization towards 0, in samples.
    """
    known_S = np.bincount(samples.sample_P, samples.right_P, minlength=len(samples)) > 0
    if not known_S.any():
        return 0.0
    groups, features_PF = _Groups.of(samples), samples.features_PF.astype(np.float64)
    weights_F = np.array([weights[name] for name in FEATURES])
    at = FEATURES.index(feature)

    def loss(weight_1: Float64) -> tuple[float, Float64, Float64]:
        tried_F = weights_F.copy()
        tried_F[at] = weight_1[0]
        value, gradient_F, curvature_FF = _loss(
            features_PF, tried_F, groups, known_S.astype(np.float64)
        )
        value += 0.5 * l2 * float(weight_1[0] ** 2)
        gradient = gradient_F[at] + l2 * weight_1[0]
        return value, np.array([gradient]), np.array([[curvature_FF[at, at] + l2]])

    bound = (0.0, np.inf) if SIGNS[feature] > 0 else (-np.inf, 0.0)
    return float(minimize_within(loss, np.zeros(1), [bound])[0])


def minimize_within(
    loss: Callable[[Float64], tuple[float, Float64, Float64]],
    start_F: Float64,
    bounds: Sequence[tuple[float, float]],
) -> Float64:
    """Minimize a loss within bounds, by projected Newton steps (Bertsekas 1982).

    A step is halved until the loss does not increase.

    Args:
        loss: Returns the loss at a point, its gradient (F,) and its curvature (F, F).
        start_F: (F,) float64 start, clipped to the bounds.
        bounds: The minimum and maximum of each number.
    """
    least_F, most_F = np.array(bounds, dtype=np.float64).T
    found_F = np.clip(start_F, least_F, most_F)
    value, gradient_F, curvature_FF = loss(found_F)
    for _ in range(_ITERATIONS):
        free = np.where(gradient_F < 0, found_F < most_F, found_F > least_F)
        step_F, size = np.zeros(len(found_F)), 1.0
        step_F[free] = np.linalg.solve(curvature_FF[np.ix_(free, free)], -gradient_F[free])
        while True:
            tried_F = np.clip(found_F + size * step_F, least_F, most_F)
            new = loss(tried_F)
            if new[0] <= value or size < 1e-6:
                break
            size /= 2
        if new[0] > value:
            break
        moved = np.abs(tried_F - found_F).max(initial=0.0)
        found_F, (value, gradient_F, curvature_FF) = tried_F, new
        if moved < 1e-6:
            break
    return found_F


def _fit_nil(
    scores_P: Float64, groups: _Groups, known_S: Bools, weight_S: Float64, prior: float
) -> float:
    """Return the score of NIL that gives it its observed frequency."""
    scores_E = scores_P[groups.best(scores_P)]
    top_S = np.zeros(len(known_S))
    np.maximum.at(top_S, groups.sample_E, scores_E)
    mass_S = np.bincount(
        groups.sample_E, np.exp(scores_E - top_S[groups.sample_E]), minlength=len(known_S)
    )
    rest_S = top_S + np.log(np.maximum(mass_S, 1e-300))

    def loss(nil: Float64) -> tuple[float, Float64, Float64]:
        odds_S = nil[0] - rest_S
        none_S = 0.5 * (1.0 + np.tanh(0.5 * odds_S))
        value = weight_S @ (np.logaddexp(0.0, odds_S) - np.where(known_S, 0.0, odds_S))
        gradient = weight_S @ (none_S - ~known_S) + _RIDGE * (nil[0] - prior)
        curvature = weight_S @ (none_S * (1 - none_S)) + _RIDGE
        value += 0.5 * _RIDGE * (nil[0] - prior) ** 2
        return float(value), np.array([gradient]), np.array([[curvature]])

    return float(minimize_within(loss, np.array([prior]), [(-np.inf, np.inf)])[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Groups:
    """The pairs, grouped by sample and entity.

    Attributes:
        order_P: (P,) int64 positions of the pairs, group by group.
        starts_E: (E,) int64 the start of each group.
        sample_E: (E,) int64 the sample of each group.
        right_E: (E,) bool, the right entity of its sample.
    """

    order_P: Int64
    starts_E: Int64
    sample_E: Int64
    right_E: Bools

    @classmethod
    def of(cls, samples: Samples) -> _Groups:
        sample_P = samples.sample_P
        order_P = np.lexsort((samples.entity_P, sample_P))
        keys = np.stack([sample_P, samples.entity_P])[:, order_P]
        first = np.ones(len(order_P), dtype=bool)
        first[1:] = (np.diff(keys) != 0).any(axis=0)
        starts_E = np.flatnonzero(first)
        return cls(
            order_P=order_P,
            starts_E=starts_E,
            sample_E=keys[0, starts_E],
            right_E=samples.right_P[order_P[starts_E]],
        )

    def best(self, scores_P: Float64) -> Int64:
        """Return (E,) int64, the position of the best pair of each group; the first for ties."""
        if not len(self.starts_E):
            return self.starts_E
        scores = scores_P[self.order_P]
        sizes = np.diff(np.append(self.starts_E, len(scores)))
        highest = np.repeat(np.maximum.reduceat(scores, self.starts_E), sizes)
        places = np.where(scores == highest, np.arange(len(scores)), len(scores))
        return self.order_P[np.minimum.reduceat(places, self.starts_E)]


def _loss(
    features_PF: Float64, weights_F: Float64, groups: _Groups, weight_S: Float64
) -> tuple[float, Float64, Float64]:
    """Return the negative log likelihood of the right entities, its gradient and curvature.

    The curvature is the Gauss-Newton approximation, which is never negative.
    """
    count = len(weight_S)
    scores_P = features_PF @ weights_F
    places, sample_E = groups.best(scores_P), groups.sample_E
    scores_E, features_EF = scores_P[places], features_PF[places]
    top_S = np.full(count, -np.inf)
    np.maximum.at(top_S, sample_E, scores_E)
    powers_E = np.exp(scores_E - top_S[sample_E])
    share_E = powers_E / np.bincount(sample_E, powers_E, minlength=count)[sample_E]
    right_E = np.where(groups.right_E, share_E, 0.0)
    mass_S = np.bincount(sample_E, right_E, minlength=count)
    counts_S = weight_S > 0
    value = -float(weight_S[counts_S] @ np.log(np.maximum(mass_S[counts_S], 1e-300)))
    target_E = right_E / np.where(mass_S > 0, mass_S, 1.0)[sample_E]
    weight_E = weight_S[sample_E]
    gradient_F = ((share_E - target_E) * weight_E) @ features_EF
    weighted_EF = features_EF * share_E[:, None]
    mean_SF = np.stack(
        [np.bincount(sample_E, column, minlength=count) for column in weighted_EF.T], axis=1
    )
    curvature_FF = features_EF.T @ (weighted_EF * weight_E[:, None])
    curvature_FF -= mean_SF.T @ (mean_SF * weight_S[:, None])
    return value, gradient_F, curvature_FF
