"""How the doors' evidence becomes one score and a probability: a small conditional logit.

A name has the score ``x·w``, an entity that of its best name, "none of them" the score
``nil``; they are drawn in proportion to their exponentials (McFadden 1974). How sure the best
entity is depends on more than its share of them: by how far it is above none, above all others
together and above the next one, two logistic functions say how likely the right entity is among
the candidates at all, and how likely, if it is, the best one is right.

Axes: K candidate names, E entities, F features, S links.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mirror_rt.bundle import sum_of
from mirror_rt.errors import ConfigError, KnowledgeBaseError

if TYPE_CHECKING:
    import numpy.typing as npt

    from mirror_rt.types import Float32

    Float64 = npt.NDArray[np.float64]
    Bools = npt.NDArray[np.bool_]

__all__ = ["FEATURES", "SURENESS", "Combination", "sigmoid"]

FEATURES = (
    "dense", "letters", "same_words", "numbers_differ", "length", "shared_words",
    "explains", "is_explained", "spelling", "misspelt", "loose",
)  # fmt: skip
"""The evidence for a name, in the order of the columns:

dense: cosine of the vectors; letters: cosine of the character trigrams; same_words: the same
but for plural, accents and word order; numbers_differ: another number, Roman numeral or single
letter; length: how far apart the lengths are (absolute natural log of their ratio);
shared_words: Jaccard overlap of the words; explains, is_explained: how likely the mention's
words are given the name's, and the other way (see ``wording``); spelling: 1 less the share of
letters that differ (optimal string alignment: changed, left out, put in, swapped with the next);
misspelt: 1 by the number of those edits, if they are few, change no digit and all spoil words
that no name has;
loose: a broad, narrow or related name.
"""

SURENESS = ("over_none", "over_others", "over_next")
"""What tells how sure the best entity is, those tied with it counted together:

over_none: its score less that of none, at most 8 either way; over_others: natural log of its
share over that of all other entities together, at most 4 either way; over_next: natural log of
1 plus how far its score is above the next entity's, at most 3. Beside the others there is always
one whose score is 3 below that of none, so that being alone makes nothing sure.
"""

_DEFAULTS = (9.0, 2.0, 3.0, -1.5, -1.0, -4.0, 0.9, 0.3, 1.0, 4.0, -0.3)
_DEFAULT_NIL = 10.0
_DEFAULT_THERE = (0.5, 0.2, 0.0, 0.7)
_DEFAULT_FIRST = (0.7, 0.95, 0.0)
"""As the names of HPO and MEDIC teach them."""
_MOST_OVER_NONE = 8.0
_MOST_OVER_OTHERS = 4.0
_MOST_OVER_NEXT = 3.0
_NEVER_ALONE = 3.0
_BY_NAME = 0.93
"""How often a mention that is a name in MEDIC means that entity, on NCBI disease; nothing in a
knowledge base tells it (docs/experiments.md, "How often a match by name is right")."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Combination:
    """The learned numbers of a knowledge base.

    Attributes:
        weights: The weight of each feature, by name.
        nil: The score of "none of these".
        there: The weights by which ``SURENESS`` tells whether the right entity is among the
            candidates, and a constant; none but that is negative.
        first: Those by which ``SURENESS`` without ``over_none`` tells whether, if it is there,
            the best one is right, and a constant that is not positive: of two that all but
            score the same, neither has more than half.
        by_name: Probability that an unambiguous match by name is right; a calibration learns it.
        uncalibrated: ``there``, ``first`` and ``by_name`` before a calibration, if there was one.
        curve: (threshold, precision) of links at or above it, thresholds ascending.
        fitted_on: How many links each number was learned from, and how good they are.
    """

    weights: Mapping[str, float] = field(
        default_factory=lambda: dict(zip(FEATURES, _DEFAULTS, strict=True))
    )
    nil: float = _DEFAULT_NIL
    there: Mapping[str, float] = field(
        default_factory=lambda: dict(zip((*SURENESS, "constant"), _DEFAULT_THERE, strict=True))
    )
    first: Mapping[str, float] = field(
        default_factory=lambda: dict(zip((*SURENESS[1:], "constant"), _DEFAULT_FIRST, strict=True))
    )
    by_name: float = _BY_NAME
    uncalibrated: Mapping[str, Any] = field(default_factory=dict)
    curve: Sequence[Sequence[float]] = ()
    fitted_on: Mapping[str, Any] = field(default_factory=dict)

    @property
    def judges_names(self) -> bool:
        """Whether matches by name were among the links that the curve was learned from."""
        return "gold_links" in self.fitted_on

    def scores(self, features_KF: Float32) -> Float32:
        """Return the (K,) float32 scores of candidate names."""
        weights_F = np.array([self.weights[name] for name in FEATURES], dtype=np.float32)
        scores_K: Float32 = features_KF @ weights_F
        return scores_K

    def evidence(self, scores_E: Float32, best_E: Bools) -> Float64:
        """Return the (3,) float64 values of ``SURENESS``.

        Args:
            scores_E: (E,) float32 scores of entities; of none at all, nothing could be less sure.
            best_E: (E,) bool, the best one and those tied with it.
        """
        if not len(scores_E):
            return np.array([-_MOST_OVER_NONE, -_MOST_OVER_OTHERS, 0.0])
        best, others = (scores_E[chosen].astype(np.float64) for chosen in (best_E, ~best_E))
        others = np.append(others, self.nil - _NEVER_ALONE)
        ratio = np.logaddexp.reduce(best) - np.logaddexp.reduce(others)
        lead = best.max() - others.max()
        return np.array(
            [
                np.clip(best.max() - self.nil, -_MOST_OVER_NONE, _MOST_OVER_NONE),
                np.clip(ratio, -_MOST_OVER_OTHERS, _MOST_OVER_OTHERS),
                math.log1p(np.clip(lead, 0.0, _MOST_OVER_NEXT)),
            ]
        )

    def likely_there(self, evidence_S3: Float64) -> Float64:
        """Return (S,) float64, how likely the right entity is among the candidates."""
        weights_3 = np.array([self.there[name] for name in SURENESS])
        likely_S: Float64 = sigmoid(evidence_S3 @ weights_3 + self.there["constant"])
        return likely_S

    def sure(self, evidence_S3: Float64) -> Float64:
        """Return (S,) float64 probabilities of being right by rows of ``evidence``."""
        weights_2 = np.array([self.first[name] for name in SURENESS[1:]])
        first_S = sigmoid(evidence_S3[:, 1:] @ weights_2 + self.first["constant"])
        sure_S: Float64 = self.likely_there(evidence_S3) * first_S
        return sure_S

    def probabilities(self, scores_E: Float32, best_E: Bools) -> Float64:
        """Return the (E,) float64 probability of each entity of being right; at most 1 in all.

        The best one and those tied with it have together what ``sure`` says; the others have
        together no more than what is missing from that to ``likely_there``, and each no more
        than the best for its score. Either part is shared in proportion to the exponentials.

        Args:
            scores_E: As ``evidence`` takes them.
            best_E: The same.
        """
        evidence_13 = self.evidence(scores_E, best_E)[None]
        sure, there = float(self.sure(evidence_13)[0]), float(self.likely_there(evidence_13)[0])
        scores = scores_E.astype(np.float64)
        own_E: Float64 = sure * np.exp(scores - np.logaddexp.reduce(scores[best_E]))
        if not best_E.all():
            others = scores[~best_E]
            left = (there - sure) * np.exp(others - np.logaddexp.reduce(others))
            own_E[~best_E] = np.minimum(own_E[~best_E], left)
        return own_E

    def threshold(self, precision: float) -> float:
        """Return the lowest probability at and above which links were right that often.

        Raises:
            ConfigError: ``precision`` is out of range, or was not reached on any sample.
        """
        if not 0.0 < precision <= 1.0:
            raise ConfigError(f"precision must be above 0 and at most 1, got {precision}")
        reached = [low for low, share in self.curve if share >= precision]
        if not reached:
            best = max((share for _, share in self.curve), default=0.0)
            raise ConfigError(
                f"precision {precision} was not reached on the links it was learned from (best "
                f"{best:.3f}); give gold links with: mirror-rt calibrate"
            )
        return min(reached)

    def write(self, path: Path) -> None:
        """Write the numbers as JSON, with a sum of themselves.

        The sum is not in the manifest, as a calibration replaces this file alone, in one step.
        """
        content = json.loads(json.dumps(asdict(self)))
        content["self"] = sum_of(content)
        text = json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False)
        path.write_text(text + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Combination:
        """Read the numbers.

        Raises:
            KnowledgeBaseError: The file is missing, not JSON, has changed, or lacks a number.
        """
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if content.pop("self", None) not in {None, sum_of(content)}:
                raise ValueError("changed since it was written, sha256 differs")
            made = cls(**content)
            missing = [n for n in FEATURES if n not in made.weights]
            missing += [n for n in (*SURENESS, "constant") if n not in made.there]
            missing += [n for n in (*SURENESS[1:], "constant") if n not in made.first]
            if missing:
                raise ValueError(f"no weight of {missing[0]}: written by an older version")
            numbers = [made.weights[n] for n in FEATURES]
            for one in (made, replace(made, **made.uncalibrated)):
                numbers += [one.there[n] for n in (*SURENESS, "constant")]
                numbers += [one.first[n] for n in (*SURENESS[1:], "constant")]
                numbers += [one.nil, one.by_name]
            if not all(math.isfinite(number) for number in numbers):
                raise ValueError("a number is not finite")
        except (OSError, ValueError, TypeError, AttributeError, KeyError) as error:
            raise KnowledgeBaseError(
                f"{path}: cannot be used ({error}); build the knowledge base again"
            ) from error
        return made


def sigmoid(odds: Any) -> Any:  # noqa: ANN401  (a number or an array, as given)
    """Return 1 / (1 + e^-odds), for odds of any size."""
    return 0.5 * (1.0 + np.tanh(0.5 * odds))
