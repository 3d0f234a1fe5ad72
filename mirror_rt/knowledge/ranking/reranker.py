"""The reranker: from features to a score and a probability, by a conditional logit model.

A pair of name and entity has the score ``x·w``, an entity the score of its best name, and NIL the
score ``nil_score``. The model's shares are proportional to the exponentials of the scores
(McFadden 1974). The confidence in the best entity does not depend on its share alone. Its inputs
are margins: over NIL, over all others together, and over the runner-up. Two logistic functions
compute the probability that the right entity is a candidate, and the probability that the best
one is right, given that.

Axes: P pairs of candidate name and entity, E entities of all mentions, one mention after another,
best first, F features, Q mentions.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mirror_rt._count import counted
from mirror_rt.errors import ConfigError, KnowledgeBaseError
from mirror_rt.hashing import is_unchanged, write_checked_json
from mirror_rt.knowledge.ranking.features import ACCEPTED_MENTIONS, FEATURES
from mirror_rt.knowledge.ranking.name_probability import EXACT_MATCH_FEATURES
from mirror_rt.knowledge.ranking.risk import safe_threshold
from mirror_rt.knowledge.ranking.weights import FittedWeights

if TYPE_CHECKING:
    import numpy.typing as npt

    from mirror_rt.types import Float32, Int64

    Float64 = npt.NDArray[np.float64]
    Bools = npt.NDArray[np.bool_]

__all__ = ["CONFIDENCE_FEATURES", "Reranker", "name_similarity", "sigmoid"]

CONFIDENCE_FEATURES = ("margin_to_nil", "log_odds_vs_rest", "margin_to_runner_up")
"""The inputs of the confidence in the best entity. Entities tied with it count as one:

margin_to_nil: its score minus that of NIL, between -8 and 8; log_odds_vs_rest: natural log of its
share divided by that of all other entities, between -4 and 4; margin_to_runner_up: natural log of
1 plus its score minus the next entity's, at most 3. A virtual entity with a score of 3 below NIL is
always added, so a single candidate is not certain.
"""

_CONSTANT = "constant"
_IN_CANDIDATES = (*CONFIDENCE_FEATURES, _CONSTANT)
_TOP1 = (*CONFIDENCE_FEATURES[1:], _CONSTANT)
_RISK_ERROR = 0.05
_MOST_OVER_NIL = 8.0
_MOST_LOG_ODDS = 4.0
_MOST_OVER_RUNNER_UP = 3.0
_NIL_MARGIN = 3.0
_NAME = (*EXACT_MATCH_FEATURES, _CONSTANT)
_DEFAULTS: Mapping[str, Mapping[str, float]] = json.loads(
    files(__package__).joinpath("name_probability.json").read_text(encoding="utf-8")
)
"""Fitted to mentions of several domains (``benchmarks/name_probability.py``)."""
_SIMILARITIES = tuple(
    FEATURES.index(name) for name in ("dense_cosine", "trigram_cosine", "edit_similarity")
)
_CAP_MIDPOINT = 0.35
_CAP_SLOPE = 20.0
"""The upper bound of a probability falls steeply below this similarity of mention and name. So
random letters never have a high probability, even after a calibration."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reranker:
    """The learned numbers of a knowledge base.

    Attributes:
        weights: The weight of each feature, by name.
        nil_score: The score of NIL.
        in_candidates_weights: Weights of ``CONFIDENCE_FEATURES`` and a constant, for the
            probability that the right entity is among the candidates. Only the constant may be
            negative.
        top1_weights: Weights of ``CONFIDENCE_FEATURES`` without ``margin_to_nil`` and a constant,
            for the probability that the best entity is right, given that. The constant is never
            positive: of two entities with almost equal scores, neither has more than half.
        name_weights: Weights of ``EXACT_MATCH_FEATURES`` and a constant, for the probability that
            an exact match is right. A longer name never has less; a short word, or a name of more
            common words, never has more.
        before_calibration: The values that a calibration replaced, if there was one.
        precision_curve: (threshold, precision of links at or above it), thresholds ascending.
        operating_points: The operating points on the links of the curve (see
            ``operating_points.OperatingPoint``).
        risk_counts: (threshold, links, wrong links) of gold links that were not used in the fit
            (see ``risk.risk_counts``).
        fitted_on: The number of links behind each value, and their quality.
    """

    weights: Mapping[str, float] = field(
        default_factory=lambda: dict(FittedWeights.built_in().weights)
    )
    nil_score: float = field(default_factory=lambda: FittedWeights.built_in().nil_score)
    in_candidates_weights: Mapping[str, float] = field(
        default_factory=lambda: dict(FittedWeights.built_in().in_candidates_weights)
    )
    top1_weights: Mapping[str, float] = field(
        default_factory=lambda: dict(FittedWeights.built_in().top1_weights)
    )
    name_weights: Mapping[str, float] = field(
        default_factory=lambda: dict(_DEFAULTS["name_weights"])
    )
    before_calibration: Mapping[str, Any] = field(default_factory=dict)
    precision_curve: Sequence[Sequence[float]] = ()
    operating_points: Sequence[Mapping[str, Any]] = field(default_factory=list)
    risk_counts: Sequence[Sequence[float]] = field(default_factory=list)
    fitted_on: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, prior: FittedWeights) -> Reranker:
        """Return the reranker of built-in weights, before it has learned from anything."""
        return cls(
            weights=prior.weights,
            nil_score=prior.nil_score,
            in_candidates_weights=prior.in_candidates_weights,
            top1_weights=prior.top1_weights,
        )

    @property
    def has_gold_thresholds(self) -> bool:
        """Whether thresholds come from gold links, so that they hold for exact matches too.

        After feedback, probabilities come from the decisions, but thresholds still from held-out
        names if there were enough of them.
        """
        return "gold_links" in self.fitted_on

    def uncalibrated(self) -> Reranker:
        """Return the reranker without its calibration."""
        return replace(self, **self.before_calibration, before_calibration={})

    def without_feedback(self) -> Reranker:
        """Return the reranker without its calibration and without the weight of feedback."""
        return self.uncalibrated().with_accepted(0.0)

    def with_accepted(self, weight: float) -> Reranker:
        """Return the reranker with a weight of ``accepted_mentions``."""
        return replace(self, weights={**self.weights, FEATURES[ACCEPTED_MENTIONS]: weight})

    def calibrated_values(self) -> dict[str, Any]:
        """Return the values that a calibration replaces."""
        return {name: getattr(self, name) for name in _CALIBRATED}

    def scores(self, features_PF: Float32) -> Float32:
        """Return the (P,) float32 scores of candidates."""
        weights_F = np.array([self.weights[name] for name in FEATURES], dtype=np.float32)
        scores_P: Float32 = features_PF @ weights_F
        return scores_P

    def confidence_features(self, offsets: Int64, scores_E: Float32, best_E: Bools) -> Float64:
        """Return the (Q, 3) float64 values of ``CONFIDENCE_FEATURES``.

        Args:
            offsets: (Q + 1,) int64 offsets of the mentions' entities; a mention may have none.
            scores_E: (E,) float32 scores of entities, best first within a mention.
            best_E: (E,) bool, the best one of its mention and those tied with it.
        """
        found_Q = offsets[1:] > offsets[:-1]
        return self._confidence(found_Q, _Masses.of(offsets[:-1][found_Q], scores_E, best_E))

    def _confidence(self, found_Q: Bools, some: _Masses) -> Float64:
        floor = self.nil_score - _NIL_MARGIN
        runner_up_Q = np.maximum(some.runner_up_Q, floor)
        with np.errstate(divide="ignore"):
            rest_Q = np.logaddexp(some.peak_Q + np.log(some.rest_Q), floor)
            odds_Q = some.peak_Q + np.log(some.best_Q) - rest_Q
        features_Q3 = np.empty((len(found_Q), 3))
        features_Q3[~found_Q] = (-_MOST_OVER_NIL, -_MOST_LOG_ODDS, 0.0)
        features_Q3[found_Q] = np.array(
            [
                np.clip(some.peak_Q - self.nil_score, -_MOST_OVER_NIL, _MOST_OVER_NIL),
                np.clip(odds_Q, -_MOST_LOG_ODDS, _MOST_LOG_ODDS),
                np.log1p(np.clip(some.peak_Q - runner_up_Q, 0.0, _MOST_OVER_RUNNER_UP)),
            ]
        ).T
        return features_Q3

    def p_in_candidates(self, confidence_Q3: Float64) -> Float64:
        """Return (Q,) float64 probabilities that the right entity is among the candidates."""
        weights_3 = np.array([self.in_candidates_weights[name] for name in CONFIDENCE_FEATURES])
        constant = self.in_candidates_weights[_CONSTANT]
        p_Q: Float64 = sigmoid(confidence_Q3 @ weights_3 + constant)
        return p_Q

    def top1_probability(self, confidence_Q3: Float64) -> Float64:
        """Return (Q,) float64 probabilities that the best entity of a mention is right."""
        p_Q: Float64 = self.p_in_candidates(confidence_Q3)
        return p_Q * self._top1_if_in_candidates(confidence_Q3)

    def _top1_if_in_candidates(self, confidence_Q3: Float64) -> Float64:
        weights_2 = np.array([self.top1_weights[name] for name in CONFIDENCE_FEATURES[1:]])
        p_Q: Float64 = sigmoid(confidence_Q3[:, 1:] @ weights_2 + self.top1_weights[_CONSTANT])
        return p_Q

    def name_probability(self, features_R3: Float64) -> Float64:
        """Return (R,) float64 probabilities that exact matches of some names are right.

        Args:
            features_R3: (R, 3) float64 values of ``EXACT_MATCH_FEATURES``.
        """
        weights_3 = np.array([self.name_weights[name] for name in EXACT_MATCH_FEATURES])
        p_R: Float64 = sigmoid(features_R3 @ weights_3 + self.name_weights[_CONSTANT])
        return p_R

    def probability_cap(self, names_E3: Float64, similarity_E: Float64) -> Float64:
        """Return (E,) float64, the upper bound of the probability of each entity.

        It is the smaller of two: the probability of an exact match with its best name, and the
        bound for the similarity to that name.

        Args:
            names_E3: (E, 3) float64 values of ``EXACT_MATCH_FEATURES`` of the best names.
            similarity_E: (E,) float64 from ``name_similarity``.
        """
        allowed_E: Float64 = sigmoid(_CAP_SLOPE * (similarity_E - _CAP_MIDPOINT))
        cap_E: Float64 = np.minimum(self.name_probability(names_E3), allowed_E)
        return cap_E

    def link_probability(
        self, confidence_Q3: Float64, names_Q3: Float64, similarity_Q: Float64
    ) -> Float64:
        """Return (Q,) float64, the probability that ``link`` states for the best entity.

        Entities tied with it count as one with it: ``link`` shares the probability among them.

        Args:
            confidence_Q3: (Q, 3) float64 values of ``CONFIDENCE_FEATURES``.
            names_Q3: (Q, 3) float64 values of ``EXACT_MATCH_FEATURES`` of its best name.
            similarity_Q: (Q,) float64 from ``name_similarity``; minus infinity without candidates.
        """
        p_Q: Float64 = np.minimum(
            self.top1_probability(confidence_Q3), self.probability_cap(names_Q3, similarity_Q)
        )
        return p_Q

    def probabilities(
        self,
        offsets: Int64,
        scores_E: Float32,
        best_E: Bools,
        cap_E: Float64 | None = None,
    ) -> Float64:
        """Return the (E,) float64 probability of each entity; their sum per mention is at most 1.

        The best one and those tied with it share ``top1_probability``. The others share at most
        the rest of ``p_in_candidates``, and none has a higher probability per exp(score) than the
        best.
        Both parts are shared in proportion to the exponentials of the scores.

        Args:
            offsets: As for ``confidence_features``.
            scores_E: As for ``confidence_features``.
            best_E: As for ``confidence_features``.
            cap_E: (E,) float64 from ``probability_cap``: the upper bound of each entity. The bound
                of the first one also holds for the sum of the best ones. None for 1.
        """
        sizes_Q = offsets[1:] - offsets[:-1]
        found_Q = sizes_Q > 0
        starts_Q = offsets[:-1][found_Q]
        some = _Masses.of(starts_Q, scores_E, best_E)
        confidence_Q3 = self._confidence(found_Q, some)
        inside_Q = self.p_in_candidates(confidence_Q3)
        top1_Q = inside_Q * self._top1_if_in_candidates(confidence_Q3)
        if cap_E is not None:
            top1_Q[found_Q] = np.minimum(top1_Q[found_Q], cap_E[starts_Q])
        rest_Q = np.where(some.rest_Q > 0, some.rest_Q, np.inf)
        shares_2Q = np.array([top1_Q[found_Q] / some.best_Q, (inside_Q - top1_Q)[found_Q] / rest_Q])
        shares_E, others_E = shares_2Q.repeat(sizes_Q[found_Q], axis=1) * some.powers_E
        if cap_E is not None:
            shares_E = np.minimum(shares_E, cap_E)
        probability_E: Float64 = np.where(best_E, shares_E, np.minimum(shares_E, others_E))
        return probability_E

    def threshold(self, precision: float) -> float:
        """Return the lowest threshold that reached a precision.

        Raises:
            ConfigError: ``precision`` is out of range, or was not reached on any sample.
        """
        if not 0.0 < precision <= 1.0:
            raise ConfigError(f"target_precision: must be above 0 and at most 1, got {precision}")
        if not self.precision_curve:
            raise ConfigError(
                f"target_precision {precision}: no threshold was learned from so few names; give "
                "gold links with: mirror-rt calibrate"
            )
        reached = [low for low, share in self.precision_curve if share >= precision]
        if not reached:
            best = max(share for _, share in self.precision_curve)
            raise ConfigError(
                f"target_precision {precision}: was not reached on the links it was learned from "
                f"(best {best:.3f}); give gold links with: mirror-rt calibrate"
            )
        return min(reached)

    def safe_threshold(self, wrong_at_most: float) -> float:
        """Return the lowest threshold that guarantees a share of wrong links.

        The guarantee has 95 % confidence, for mentions like those that the calibration set aside.

        Raises:
            ConfigError: The share is out of range, or cannot be guaranteed.
        """
        if not 0.0 < wrong_at_most < 1.0:
            raise ConfigError(f"wrong_at_most: must be above 0 and below 1, got {wrong_at_most}")
        if not self.risk_counts:
            raise ConfigError(
                "wrong_at_most: needs gold links that the probabilities were not fitted to; keep "
                "some apart with: mirror-rt calibrate KBDIR GOLD --reserve 0.5"
            )
        least = safe_threshold(self.risk_counts, wrong_at_most, error=_RISK_ERROR)
        if least is None:
            raise ConfigError(
                f"wrong_at_most {wrong_at_most}: cannot be guaranteed with the "
                f"{counted(int(self.risk_counts[-1][1]), 'link')} set aside; give more gold links, "
                "or take a larger share"
            )
        return least

    def write(self, path: Path) -> None:
        """Write the numbers as JSON, with a checksum in the same file.

        The checksum is not in the manifest, so a calibration can replace this file alone.
        """
        write_checked_json(path, asdict(self), key="sha256")

    @classmethod
    def read(cls, path: Path) -> Reranker:
        """Read the numbers.

        Raises:
            KnowledgeBaseError: The file is missing, not JSON, has changed, lacks a number or
                holds one that is not finite.
        """
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if not is_unchanged(content, key="sha256"):
                raise ValueError("changed since it was written, sha256 differs")
            del content["sha256"]
            # A knowledge base from before these features works without them.
            later = (FEATURES[ACCEPTED_MENTIONS], "one_sided_gap", "top_edit_similarity")
            content["weights"] = {**dict.fromkeys(later, 0.0), **content["weights"]}
            reranker = cls(**content)
            for one in (reranker, reranker.uncalibrated()):
                one._check()
        except (OSError, ValueError, TypeError, AttributeError, KeyError) as error:
            raise KnowledgeBaseError(
                f"{path}: cannot be used ({error}); build the knowledge base again"
            ) from error
        return reranker

    def _check(self) -> None:
        """Check that no number is missing or not finite (ValueError)."""
        numbers = [("nil_score", self.nil_score)]
        for values, names in (
            (self.weights, FEATURES),
            (self.in_candidates_weights, _IN_CANDIDATES),
            (self.top1_weights, _TOP1),
            (self.name_weights, _NAME),
        ):
            for name in names:
                if name not in values:
                    raise ValueError(f"no weight of {name}")
                numbers.append((name, values[name]))
        for name, number in numbers:
            if not math.isfinite(number):
                raise ValueError(f"{name} is not finite")


_CALIBRATED = ("in_candidates_weights", "top1_weights", "name_weights")


@dataclass(frozen=True, slots=True)
class _Masses:
    """Sums over the best entities and over the rest, for the Q mentions with entities.

    Attributes:
        peak_Q: (Q,) float64, the highest score.
        powers_E: (E,) float64, the exponential of each score minus the highest.
        best_Q: (Q,) float64, the sum of these over the best entities.
        rest_Q: (Q,) float64, the sum over the rest.
        runner_up_Q: (Q,) float64, the highest score of the rest; -inf if there is none.
    """

    peak_Q: Float64
    powers_E: Float64
    best_Q: Float64
    rest_Q: Float64
    runner_up_Q: Float64

    @classmethod
    def of(cls, starts_Q: Int64, scores_E: Float32, best_E: Bools) -> _Masses:
        """Compute the sums; ``starts_Q`` are the positions of the best entity of each mention."""
        scores = scores_E.astype(np.float64)
        if not len(starts_Q):
            nothing = np.zeros(0)
            return cls(nothing, nothing, nothing, nothing, nothing)
        peak_Q = scores[starts_Q]
        sizes_Q = np.diff(starts_Q, append=len(scores))
        powers_E = np.exp(scores - peak_Q.repeat(sizes_Q))
        masses_2E = np.array([np.where(best_E, powers_E, 0.0), np.where(best_E, 0.0, powers_E)])
        best_Q, rest_Q = np.add.reduceat(masses_2E, starts_Q, axis=1)
        runner_up_Q = np.maximum.reduceat(np.where(best_E, -np.inf, scores), starts_Q)
        return cls(peak_Q, powers_E, best_Q, rest_Q, runner_up_Q)


def name_similarity(features_PF: Float32) -> Float64:
    """Return (P,) float64 similarity: the mean of the two cosines and the edit similarity."""
    similarity_P: Float64 = features_PF[:, _SIMILARITIES].astype(np.float64).mean(axis=1)
    return similarity_P


def sigmoid(odds: Any) -> Any:  # noqa: ANN401  (a number or an array, as given)
    """Return 1 / (1 + e^-odds), for odds of any size."""
    return 0.5 * (1.0 + np.tanh(0.5 * odds))
