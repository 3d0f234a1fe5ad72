"""Learn the reranker from the knowledge base itself: hold a name out, link it back.

No labels: a name of an entity that has others is linked as if it were a mention, with its own
row left out. A few are misspelt, with their row there, as names themselves hardly show what a
typo is. For a part of them every name of the entity is left out; then NIL is right.

Axes: S samples, P pairs of candidate name and entity of all samples, one sample after another, E
entities likewise, F features.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, groupby, islice
from typing import TYPE_CHECKING

import numpy as np

from mirror_rt.knowledge.arrays import offsets_of, ragged_indices, to_float32
from mirror_rt.knowledge.entities.names import NameArrays
from mirror_rt.knowledge.entities.reader import Catalogue
from mirror_rt.knowledge.ranking.features import FEATURES, FeatureInputs, compute_features
from mirror_rt.knowledge.ranking.name_probability import NAME_FEATURES
from mirror_rt.knowledge.ranking.operating_points import operating_points
from mirror_rt.knowledge.ranking.rank import best_names
from mirror_rt.knowledge.ranking.reranker import CONFIDENCE_FEATURES, Reranker, sigmoid
from mirror_rt.knowledge.ranking.ties import find_ties
from mirror_rt.knowledge.ranking.translation import TranslationTable
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

_PENALTY = 0.1
_ITERATIONS = 40
_ENOUGH = 40
"""Fewer samples than this teach nothing; the default numbers stay."""
_ENOUGH_HELD_OUT = 200
_HELD_OUT = 2_000
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
) -> Samples:
    """Link names of the knowledge base as if they were mentions.

    Each is linked with its own row left out; the first of them misspelt as well.

    Args:
        pairs: (row, entity) of the names, from ``held_out_names``.
        catalogue: The names.
        retrievers: What finds candidates.
        translation: Learned without these names.
        encoder: What made the vectors, for those misspelt.
        rng: Draws typos, and the names whose entity is left out whole.
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
        batch = generate_candidates(
            [texts[row] for row in some.tolist()],
            to_float32(retrievers.vectors.vectors_ND[some]),
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


def fit(samples: Samples, *, start: Reranker | None = None) -> Reranker:
    """Fit the weights on all samples, and the confidence on what each half says of the other.

    The probabilities are thus learned from samples that the weights in use there had not seen.

    Args:
        samples: What to learn from; too few leave the default numbers.
        start: The numbers to start from and to be pulled to.
    """
    start = start or Reranker()
    if len(samples) < _ENOUGH:
        return start
    order = np.arange(len(samples))
    halves = (order[::2], order[1::2])
    found = [
        calibration_targets(samples[halves[i]], _fit_weights(samples[halves[1 - i]], start))
        for i in (0, 1)
    ]
    outcomes = Outcomes(
        confidence_S3=np.concatenate([part.confidence_S3 for part in found]),
        hit_S=np.concatenate([part.hit_S for part in found]),
        in_candidates_S=np.concatenate([part.in_candidates_S for part in found]),
    )
    fitted = fit_confidence(outcomes, start=_fit_weights(samples, start))
    probability_S = fitted.top1_probability(outcomes.confidence_S3)
    fitted = replace(
        fitted,
        precision_curve=precision_curve(probability_S, outcomes.hit_S),
        fitted_on={"samples": len(samples), "right_at_1": round(float(outcomes.hit_S.mean()), 4)},
    )
    points = operating_points(probability_S, outcomes.hit_S, order, threshold=fitted.threshold)
    return replace(fitted, operating_points=[point.to_dict() for point in points])


def _fit_weights(samples: Samples, start: Reranker) -> Reranker:
    """Fit the weights and the score of NIL.

    Each round takes every entity's best name under the present weights, then makes one Newton
    step, pulled a little towards the numbers to start from (which few samples keep).
    """
    prior = np.array([*(start.weights[name] for name in FEATURES), start.nil_score])
    weights = prior.copy()
    groups = _Groups.of(samples)
    for _ in range(_ITERATIONS):
        gradient, curvature = _derivatives(samples, weights, groups)
        gradient -= _PENALTY * (weights - prior)
        step = np.linalg.solve(curvature + _PENALTY * np.eye(len(weights)), gradient)
        step *= min(1.0, 5.0 / max(float(np.abs(step).max()), 1e-12))
        weights += step
        if np.abs(step).max() < 1e-4:
            break
    fitted = dict(zip(FEATURES, weights[:-1].tolist(), strict=True))
    return replace(start, weights=fitted, nil_score=float(weights[-1]))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Groups:
    """The pairs of each entity of each sample, side by side.

    Attributes:
        order_P: (P,) int64 places of the pairs, group after group.
        starts_E: (E,) int64 the first of each group.
        sample_E: (E,) int64 which sample.
    """

    order_P: Int64
    starts_E: Int64
    sample_E: Int64

    @classmethod
    def of(cls, samples: Samples) -> _Groups:
        sample_P = samples.sample_P
        order_P = np.lexsort((samples.entity_P, sample_P))
        keys = np.stack([sample_P, samples.entity_P])[:, order_P]
        first = np.ones(len(order_P), dtype=bool)
        first[1:] = (np.diff(keys) != 0).any(axis=0)
        starts_E = np.flatnonzero(first)
        return cls(order_P=order_P, starts_E=starts_E, sample_E=keys[0, starts_E])

    def best(self, scores_P: Float64) -> Int64:
        """Return (E,) int64, the place of the best pair of each group; of equal ones the first."""
        scores = scores_P[self.order_P]
        sizes = np.diff(np.append(self.starts_E, len(scores)))
        highest = np.repeat(np.maximum.reduceat(scores, self.starts_E), sizes)
        places = np.where(scores == highest, np.arange(len(scores)), len(scores))
        return self.order_P[np.minimum.reduceat(places, self.starts_E)]


def _derivatives(samples: Samples, weights: Float64, groups: _Groups) -> tuple[Float64, Float64]:
    """Return gradient (F+1) and curvature (F+1, F+1) of the log likelihood at the weights."""
    count = len(samples)
    scores_P = samples.features_PF @ weights[:-1]
    places, sample_E = groups.best(scores_P), groups.sample_E
    scores_E = scores_P[places]
    features_EF = samples.features_PF[places].astype(np.float64)
    top_S = np.full(count, weights[-1])
    np.maximum.at(top_S, sample_E, scores_E)
    powers_E = np.exp(scores_E - top_S[sample_E])
    nil_S = np.exp(weights[-1] - top_S)
    total_S = np.bincount(sample_E, powers_E, minlength=count) + nil_S
    share_E, none_S = powers_E / total_S[sample_E], nil_S / total_S
    right_E = np.where(samples.right_P[places], share_E, 0.0)
    mass_S = np.bincount(sample_E, right_E, minlength=count)
    known_S = mass_S > 0
    target_E = right_E / np.where(known_S, mass_S, 1.0)[sample_E]
    gradient = np.append((target_E - share_E) @ features_EF, (~known_S - none_S).sum())
    weighted_EF = features_EF * share_E[:, None]
    mean_SF = np.stack(
        [np.bincount(sample_E, column, minlength=count) for column in weighted_EF.T], axis=1
    )
    full_SF = np.concatenate([mean_SF, none_S[:, None]], axis=1)
    second = np.zeros((len(weights), len(weights)))
    second[:-1, :-1] = features_EF.T @ weighted_EF
    second[-1, -1] = none_S.sum()
    return gradient, second - full_SF.T @ full_SF


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


def fit_confidence(outcomes: Outcomes, *, start: Reranker) -> Reranker:
    """Fit how likely the right entity is among the candidates, and the best one right if it is.

    Two logistic regressions, the second on the links where a candidate is right. But for the
    constants no weight becomes negative: what is further above its rivals never has less
    confidence. The constant of the second does not become positive.

    Args:
        outcomes: What to learn from.
        start: The numbers to start from and to be pulled to; the others are taken over.
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
) -> list[float]:
    """Fit weights within bounds, with Platt's smoothed targets (1999)."""
    right, wrong = int(hit_S.sum()), int((~hit_S).sum())
    target_S = np.where(hit_S, (right + 1) / (right + 2), 1 / (wrong + 2))
    prior_F, (least_F, most_F) = np.array(prior), np.array(bounds).T

    def loss(weights_F: Float64) -> float:
        odds_S = inputs_SF @ weights_F
        likely = (np.logaddexp(0.0, odds_S) - target_S * odds_S).sum()
        return float(likely + 0.5 * ((weights_F - prior_F) ** 2).sum())

    weights_F = prior_F
    for _ in range(_ITERATIONS):
        p_S = sigmoid(inputs_SF @ weights_F)
        gradient_F = inputs_SF.T @ (target_S - p_S) - (weights_F - prior_F)
        curvature_FF = (inputs_SF * (p_S * (1 - p_S))[:, None]).T @ inputs_SF
        curvature_FF += np.eye(len(prior_F))
        # A projected Newton step (Bertsekas 1982), halved until it does not lose.
        free = np.where(gradient_F > 0, weights_F < most_F, weights_F > least_F)
        step_F, size = np.zeros(len(prior_F)), 1.0
        step_F[free] = np.linalg.solve(curvature_FF[np.ix_(free, free)], gradient_F[free])
        before_F = weights_F
        weights_F = np.clip(before_F + step_F, least_F, most_F)
        while loss(weights_F) > loss(before_F) and size > 1e-6:
            size /= 2
            weights_F = np.clip(before_F + size * step_F, least_F, most_F)
        if np.abs(weights_F - before_F).max() < 1e-6:
            break
    fitted: list[float] = weights_F.tolist()
    return fitted
