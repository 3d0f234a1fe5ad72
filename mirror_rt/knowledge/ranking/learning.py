"""Learn the reranker from the knowledge base itself: hold a name out, link it back.

No labels: a name of an entity that has others is linked as if it were a mention, with its own
row left out. A few are misspelt, with their row there, as names themselves hardly show what a
typo is. For a part of them every name of the entity is left out; then NIL is right.

Axes: S samples, P pairs of candidate name and entity of all samples, one sample after another, E
entities likewise, F features.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, groupby, islice
from typing import TYPE_CHECKING

import numpy as np

from mirror_rt.knowledge.arrays import offsets_of, ragged_indices, to_float32
from mirror_rt.knowledge.entities.names import NameArrays
from mirror_rt.knowledge.entities.reader import Catalogue
from mirror_rt.knowledge.ranking.features import (
    ACCEPTED_MENTIONS,
    FEATURES,
    FeatureInputs,
    compute_features,
)
from mirror_rt.knowledge.ranking.name_probability import NAME_FEATURES
from mirror_rt.knowledge.ranking.operating_points import operating_points
from mirror_rt.knowledge.ranking.rank import best_names
from mirror_rt.knowledge.ranking.reranker import CONFIDENCE_FEATURES, Reranker, sigmoid
from mirror_rt.knowledge.ranking.ties import find_ties
from mirror_rt.knowledge.ranking.translation import TranslationTable
from mirror_rt.knowledge.ranking.weights import WeightPrior, fit_weights, minimize_within
from mirror_rt.knowledge.retrieval.candidates import (
    CandidateBatch,
    Retrievers,
    generate_candidates,
)
from mirror_rt.knowledge.text.held_out import is_held_out

if TYPE_CHECKING:
    import numpy.typing as npt

    from mirror_rt.types import Embedder, Float32, Int64

    Float64 = npt.NDArray[np.float64]
    Bools = npt.NDArray[np.bool_]

__all__ = [
    "Outcomes",
    "RefitReport",
    "Samples",
    "alias_pairs",
    "calibration_targets",
    "fit",
    "fit_confidence",
    "fit_names",
    "held_out_names",
    "held_out_samples",
    "misspell",
    "precision_curve",
    "samples_of",
]

_PRIOR_MENTIONS = 1_000.0
"""For how many held-out names the built-in weights stand."""
_ENOUGH = 40
"""Fewer samples than this teach nothing; the default numbers stay."""
_ENOUGH_HELD_OUT = 200
_HELD_OUT = 2_000
_NOTEWORTHY = 0.005
_NIL_SHARE = 0.15
_MISSPELT_ONE_IN = 20
"""One is misspelt for this many held out: more of them link more typos right, and fewer mentions
of NCBI (docs/experiments.md)."""
_LONG = 6
"""Shorter names are not misspelt: what they become may be anything."""
_FEWEST_ABOVE = 20
"""A precision is promised on no fewer links than this."""
_AT_ONCE = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """Mentions with known answers and their candidates, in flat arrays.

    Attributes:
        offsets: (S + 1,) int64 offsets of the samples' pairs.
        features_PF: (P, F) float32.
        right_P: (P,) bool, names of the right entity; none in a sample: NIL is right.
        entity_P: (P,) int64, the entity of each pair.
        name_P: (P,) int64, equal in a sample where the normalized names are.
    """

    offsets: Int64
    features_PF: Float32
    right_P: Bools
    entity_P: Int64
    name_P: Int64

    def __getitem__(self, chosen: npt.NDArray[np.int64]) -> Samples:
        sizes = np.diff(self.offsets)[chosen]
        places = ragged_indices(self.offsets[chosen], sizes)
        return Samples(
            offsets=offsets_of(sizes),
            features_PF=self.features_PF[places],
            right_P=self.right_P[places],
            entity_P=self.entity_P[places],
            name_P=self.name_P[places],
        )

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def without_own(self) -> Samples:
        """Return mentions that people have accepted, each as if it alone had not been."""
        features_PF = self.features_PF.copy()
        counts_P = np.expm1(features_PF[:, ACCEPTED_MENTIONS]) - self.right_P
        features_PF[:, ACCEPTED_MENTIONS] = np.log1p(np.maximum(counts_P, 0.0))
        return replace(self, features_PF=features_PF)

    @property
    def sample_P(self) -> Int64:
        """(P,) int64, which sample each pair is of."""
        return np.repeat(np.arange(len(self)), np.diff(self.offsets))

    @classmethod
    def joined(cls, parts: Sequence[Samples]) -> Samples:
        """Return the samples of all parts."""
        return cls(
            offsets=offsets_of(np.concatenate([np.diff(part.offsets) for part in parts])),
            features_PF=np.concatenate([part.features_PF for part in parts]),
            right_P=np.concatenate([part.right_P for part in parts]),
            entity_P=np.concatenate([part.entity_P for part in parts]),
            name_P=np.concatenate([part.name_P for part in parts]),
        )


def held_out_names(
    catalogue: Catalogue, names: NameArrays, rng: np.random.Generator, *, count: int = _HELD_OUT
) -> list[tuple[int, int]]:
    """Return up to ``count`` (row, entity), one an entity with more names, none ambiguous.

    Names that training leaves out (see ``text.held_out``) come first. There are others only as
    long as these are fewer than ``count``, and none where these are enough to learn from.
    """
    held_out: list[tuple[int, int]] = []
    others: list[tuple[int, int]] = []
    for entity in rng.permutation(catalogue.largest_number() + 1)[: 40 * count].tolist():
        found = catalogue.close_texts(entity)
        if len(found) < 2:
            continue
        reserved = [row for row, text in found if is_held_out(text)]
        rows = reserved or [row for row, _ in found]
        row = rows[int(rng.integers(len(rows)))]
        if names.entity_offsets[row + 1] - names.entity_offsets[row] == 1:
            (held_out if reserved else others).append((row, entity))
        if len(held_out) == count:
            break
    return held_out if len(held_out) >= _ENOUGH_HELD_OUT else [*held_out, *others][:count]


def alias_pairs(
    close_names: Iterable[tuple[int, int]],
    names: NameArrays,
    *,
    per_entity: int = 8,
    most: int = 500_000,
) -> Iterator[tuple[int, int]]:
    """Yield rows of two names of one entity that differ in more than plural and word order.

    Args:
        close_names: (entity number, row), entity by entity.
        names: The arrays of names.
        per_entity: Pairs of an entity.
        most: Pairs in all.
    """
    left = most
    for _, pairs in groupby(close_names, key=lambda pair: pair[0]):
        rows = [row for _, row in pairs]
        if len(rows) < 2:
            continue
        by_key: dict[int, int] = {}
        for row in rows:
            by_key.setdefault(int(names.key_hashes[row]), row)
        for pair in islice(combinations(by_key.values(), 2), min(per_entity, left)):
            left -= 1
            yield pair


def held_out_samples(
    pairs: Sequence[tuple[int, int]],
    catalogue: Catalogue,
    retrievers: Retrievers,
    translation: TranslationTable,
    encoder: Embedder,
    rng: np.random.Generator,
    *,
    embed: bool = False,
) -> Samples:
    """Link names of the knowledge base as if they were mentions.

    Each is linked with its own row left out; the first of them misspelt as well.

    Args:
        pairs: (row, entity) of the names, from ``held_out_names``.
        catalogue: The names.
        retrievers: What finds candidates.
        translation: Learned without these names.
        encoder: What embeds mentions, for those misspelt.
        rng: Draws typos, and the names whose entity is left out whole.
        embed: Whether all names are embedded, as mentions are embedded by another encoder than
            the one that made the vectors.
    """
    names = retrievers.names
    rows = np.array([row for row, _ in pairs], dtype=np.int64)
    texts = catalogue.texts_of(rows.tolist())
    typos: list[str] = []
    right = [{entity} for _, entity in pairs]
    for row in rows[: len(rows) // _MISSPELT_ONE_IN].tolist() if len(rows) >= _ENOUGH else ():
        typo = misspell(texts[row], rng)
        if typo and not len(names.rows_named(names.analyze([typo]).hashes_Q)[1]):
            typos.append(typo)
            right.append(set(names.entities_of(np.array([row]))[1].tolist()))
    nil = rng.random(len(right)) < _NIL_SHARE
    parts: list[Samples] = []
    for start in range(0, len(rows), _AT_ONCE):
        some = rows[start : start + _AT_ONCE]
        mentions = [texts[row] for row in some.tolist()]
        batch = generate_candidates(
            mentions,
            encoder.encode(mentions) if embed else to_float32(retrievers.vectors.vectors_ND[some]),
            retrievers,
            without=some.tolist(),
        )
        mine = slice(start, start + len(some))
        parts.append(_samples(batch, retrievers, translation, right[mine], nil[mine]))
    if typos:
        batch = generate_candidates(typos, encoder.encode(typos), retrievers)
        mine = slice(len(rows), None)
        parts.append(_samples(batch, retrievers, translation, right[mine], nil[mine]))
    return Samples.joined(parts) if parts else _none()


def _samples(
    batch: CandidateBatch,
    retrievers: Retrievers,
    translation: TranslationTable,
    right: Sequence[set[int]],
    nil: Bools,
) -> Samples:
    features_PF = compute_features(FeatureInputs(batch, retrievers, translation))
    features_PF[:, ACCEPTED_MENTIONS] = 0.0  # names say nothing of how often each is meant
    return samples_of(batch, features_PF, retrievers.names, right, nil=nil)


def _none() -> Samples:
    nothing = np.zeros(0, dtype=np.int64)
    return Samples(
        offsets=np.zeros(1, dtype=np.int64),
        features_PF=np.zeros((0, len(FEATURES)), dtype=np.float32),
        right_P=nothing.astype(bool),
        entity_P=nothing,
        name_P=nothing,
    )


def misspell(text: str, rng: np.random.Generator) -> str:
    """Return a text with one or two slips in its letters, or nothing where it has too few.

    A slip changes a letter to another of the text, leaves it out, doubles it, or swaps it with
    the one before. Digits, spaces and punctuation stay.
    """
    signs = list(text)
    if sum(sign.isalpha() for sign in signs) < _LONG:
        return ""
    for _ in range(int(rng.integers(1, 3))):
        places = [i for i, sign in enumerate(signs) if sign.isalpha()]
        i, other = rng.choice(places, size=2).tolist()
        kind = rng.integers(4)
        if kind == 0:
            signs[i] = signs[other]
        elif kind == 1:
            del signs[i]
        elif kind == 2:
            signs.insert(i, signs[i])
        elif i - 1 in places:
            signs[i - 1 : i + 1] = signs[i], signs[i - 1]
    return "".join(signs)


def samples_of(
    batch: CandidateBatch,
    features_PF: Float32,
    names: NameArrays,
    right: Sequence[set[int]],
    *,
    nil: Bools | None = None,
) -> Samples:
    """Put candidates and answers together.

    Args:
        batch: The candidates of S mentions.
        features_PF: (P, F) float32 their features.
        names: The arrays of names.
        right: The numbers of the entities that are right for each mention; none for NIL.
        nil: (S,) bool, whether to leave the right entities out, so that NIL is right.
    """
    mention_P = batch.mention_K[batch.name_P]
    answers = [(i, entity) for i, entities in enumerate(right) for entity in entities]
    keys = np.array([i << 32 | entity for i, entity in answers], dtype=np.int64)
    right_P = np.isin(mention_P << 32 | batch.entity_P, keys)
    kept = np.ones(len(mention_P), dtype=bool) if nil is None else ~(right_P & nil[mention_P])
    return Samples(
        offsets=offsets_of(np.bincount(mention_P[kept], minlength=len(batch))),
        features_PF=features_PF[kept],
        right_P=right_P[kept],
        entity_P=batch.entity_P[kept],
        name_P=names.hashes[batch.row_K[batch.name_P[kept]]],
    )


def fit(samples: Samples, *, prior: WeightPrior | None = None) -> Reranker:
    """Adapt the weights to the samples, and learn the confidence from what they say.

    The confidence is fitted on what the weights of each half say of the other. The probabilities
    are thus learned from samples that the weights in use there had not seen.

    Args:
        samples: What to learn from; too few leave the built-in numbers.
        prior: The weights to be pulled to; by default the built-in ones.
    """
    prior = prior or WeightPrior.default()
    start = replace(Reranker(), weights=prior.weights, nil_score=prior.nil_score)
    if len(samples) < _ENOUGH:
        return start
    found = _crossed(samples, prior)
    before = calibration_targets(samples, start)
    weights = fit_weights(samples, prior, mentions=_PRIOR_MENTIONS)
    adapted = replace(start, weights=weights.weights, nil_score=weights.nil_score)
    fitted = fit_confidence(found, start=adapted)
    probability_S = fitted.top1_probability(found.confidence_S3)
    fitted = replace(
        fitted,
        precision_curve=precision_curve(probability_S, found.hit_S),
        fitted_on={
            "samples": len(samples),
            "right_at_1": round(float(found.hit_S.mean()), 4),
            "right_at_1_before": round(float(before.hit_S.mean()), 4),
        },
    )
    order = np.arange(len(samples))
    points = operating_points(probability_S, found.hit_S, order, threshold=fitted.threshold)
    return replace(fitted, operating_points=[point.to_dict() for point in points])


def _crossed(samples: Samples, prior: WeightPrior) -> Outcomes:
    """Return what the weights of each half say of the other, in the order of the samples."""
    hit_S, inside_S = np.zeros((2, len(samples)), dtype=bool)
    confidence_S3 = np.zeros((len(samples), len(CONFIDENCE_FEATURES)))
    for half in (0, 1):
        other = samples[np.arange(1 - half, len(samples), 2)]
        weights = fit_weights(other, prior, mentions=_PRIOR_MENTIONS)
        there = replace(Reranker(), weights=weights.weights, nil_score=weights.nil_score)
        found = calibration_targets(samples[np.arange(half, len(samples), 2)], there)
        hit_S[half::2], inside_S[half::2] = found.hit_S, found.in_candidates_S
        confidence_S3[half::2] = found.confidence_S3
    return Outcomes(confidence_S3=confidence_S3, hit_S=hit_S, in_candidates_S=inside_S)


@dataclass(frozen=True, slots=True, kw_only=True)
class RefitReport:
    """What learning the weights anew changes.

    Attributes:
        samples: Names of the knowledge base that were linked as if they were mentions.
        right_before: The share of them that the weights so far link right.
        right_after: The share that the new weights link right.
        changes: The weights that change by at least .005, by name: before and after.
        calibration_links_dropped: Links of a calibration on gold, which goes with the old weights.
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
                if abs(new - old) >= _NOTEWORTHY
            },
            calibration_links_dropped=int(before.fitted_on.get("gold_links", 0)),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcomes:
    """What a calibration learns from.

    Attributes:
        confidence_S3: (S, 3) float64 values of ``reranker.CONFIDENCE_FEATURES``.
        hit_S: (S,) bool, the best entity, or one tied with it, is right.
        in_candidates_S: (S,) bool, some candidate is right.
    """

    confidence_S3: Float64
    hit_S: Bools
    in_candidates_S: Bools


def calibration_targets(samples: Samples, reranker: Reranker) -> Outcomes:
    """Return the confidence features of each sample, and whether its best entity is right."""
    scores_P = reranker.scores(samples.features_PF)
    count = len(samples)
    offsets, places = best_names(samples.sample_P, samples.entity_P, scores_P, mentions=count)
    scores_E = scores_P[places]
    best_E, _ = find_ties(offsets, samples.name_P[places], scores_E)
    sample_E = np.repeat(np.arange(count), np.diff(offsets))
    return Outcomes(
        confidence_S3=reranker.confidence_features(offsets, scores_E, best_E),
        hit_S=np.bincount(sample_E, samples.right_P[places] & best_E, minlength=count) > 0,
        in_candidates_S=np.bincount(samples.sample_P, samples.right_P, minlength=count) > 0,
    )


def precision_curve(
    probability_S: Float64, hit_S: Bools, *, points: int = 50
) -> tuple[tuple[float, float], ...]:
    """Return (threshold, precision of the links at or above it), thresholds ascending.

    A threshold stands only where the probability changes, as links of one probability are all
    above it or none, and where enough links are above it for a share of them to mean something.
    """
    if not len(probability_S):
        return ()
    order = np.argsort(-probability_S, kind="stable")
    sorted_S = probability_S[order]
    precision_S = np.cumsum(hit_S[order]) / np.arange(1, len(order) + 1)
    lasts = np.flatnonzero(np.append(sorted_S[:-1] > sorted_S[1:], True))
    lasts = lasts[lasts + 1 >= min(_FEWEST_ABOVE, len(order))]
    places = np.unique(lasts[np.linspace(0, len(lasts) - 1, points).astype(np.int64)])[::-1]
    # Rounded down, or the links of just this probability would not reach it.
    return tuple(
        (float(np.floor(sorted_S[i] * 1e6) / 1e6), round(float(precision_S[i]), 6)) for i in places
    )


def fit_confidence(outcomes: Outcomes, *, start: Reranker, pull: float = 1.0) -> Reranker:
    """Fit how likely the right entity is among the candidates, and the best one right if it is.

    Two logistic regressions, the second on the links where a candidate is right. But for the
    constants no weight becomes negative: what is further above its rivals never has less
    confidence. The constant of the second does not become positive.

    Args:
        outcomes: What to learn from.
        start: The numbers to start from and to be pulled to; the others are taken over.
        pull: How strongly.
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
            pull=pull,
        )
        fitted.append(dict(zip(names, weights, strict=True)))
    return replace(start, in_candidates_weights=fitted[0], top1_weights=fitted[1])


def fit_names(names_S3: Float64, hit_S: Bools, *, start: Reranker) -> dict[str, float]:
    """Fit the weights of ``NAME_FEATURES`` to mentions that are names.

    Args:
        names_S3: (S, 3) float64 values of ``NAME_FEATURES``.
        hit_S: (S,) bool, whether the entity of the name is right.
        start: The numbers to start from and to be pulled to.
    """
    names = [*NAME_FEATURES, "constant"]
    weights = _logistic(
        np.append(names_S3, np.ones((len(hit_S), 1)), axis=1),
        hit_S,
        [start.name_weights[name] for name in names],
        # A longer name is never less sure; a short word, or one of common words, never more.
        bounds=[(0.0, np.inf), (-np.inf, 0.0), (-np.inf, 0.0), (-np.inf, np.inf)],
    )
    return dict(zip(names, weights, strict=True))


def _logistic(
    inputs_SF: Float64,
    hit_S: Bools,
    prior: Sequence[float],
    *,
    bounds: Sequence[tuple[float, float]],
    pull: float = 1.0,
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
            float(likely + 0.5 * pull * (change_F**2).sum()),
            inputs_SF.T @ (p_S - target_S) + pull * change_F,
            (inputs_SF * (p_S * (1 - p_S))[:, None]).T @ inputs_SF + pull * np.eye(len(prior_F)),
        )

    fitted: list[float] = minimize_within(loss, prior_F, bounds).tolist()
    return fitted
