"""Learn the combination from the knowledge base itself: hold a name out, link it back.

No labels: a name of an entity that has others is asked as if it were a mention, with its own
row left out; a few are asked misspelt, with their row there, as names themselves hardly show what
a slip is. For a part of them every name of the entity is left out; then "none" is right.

Axes: S samples, K candidate names (padded), F features, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from mirror_rt.knowledge.catalogue import Catalogue
from mirror_rt.knowledge.combination import FEATURES, SURENESS, Combination, sigmoid
from mirror_rt.knowledge.doors import Pool, gather
from mirror_rt.knowledge.grades import is_loose
from mirror_rt.knowledge.index import Index
from mirror_rt.knowledge.lexical import NgramIndex
from mirror_rt.knowledge.linker import alike
from mirror_rt.knowledge.normalise import normalise
from mirror_rt.knowledge.wording import Wording

if TYPE_CHECKING:
    import numpy.typing as npt

    from mirror_rt.types import Embedder, Float32, Int64

    Float64 = npt.NDArray[np.float64]
    Bools = npt.NDArray[np.bool_]

__all__ = [
    "Samples",
    "fit",
    "fit_sureness",
    "held_out_samples",
    "misspell",
    "outcomes",
    "precision_curve",
    "stack",
]

_PENALTY = 0.1
_ROUNDS = 40
_ENOUGH = 40
"""Fewer samples than this teach nothing; the built-in numbers stay."""
_MISSPELT_ONE_IN = 20
"""One is asked misspelt for this many held out: more of them link more slips right, and fewer
mentions of NCBI (docs/experiments.md)."""
_LONG = 6
"""Shorter names are not misspelt: what they become may be anything."""
_FEWEST_ABOVE = 20
"""A precision is promised on no fewer links than this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """Mentions with known answers and their candidate names.

    Attributes:
        features_SKF: (S, K, F) float32, zero where padded.
        real_SK: (S, K) bool, false where padded.
        right_SK: (S, K) bool, names of the right entity; a row of none: "none" is right.
        entity_SK: (S, K) int64, the entity of each candidate, -1 where padded.
        name_SK: (S, K) int64, equal in a row where the normalised names are, -1 where padded.
    """

    features_SKF: Float32
    real_SK: Bools
    right_SK: Bools
    entity_SK: Int64
    name_SK: Int64

    def __getitem__(self, chosen: npt.NDArray[np.int64]) -> Samples:
        return Samples(
            features_SKF=self.features_SKF[chosen],
            real_SK=self.real_SK[chosen],
            right_SK=self.right_SK[chosen],
            entity_SK=self.entity_SK[chosen],
            name_SK=self.name_SK[chosen],
        )

    def __len__(self) -> int:
        return len(self.features_SKF)


def held_out_samples(
    pairs: Sequence[tuple[int, int]],
    catalogue: Catalogue,
    index: Index,
    ngrams: NgramIndex,
    wording: Wording,
    encoder: Embedder,
    *,
    absent: float,
    rng: np.random.Generator,
) -> Samples:
    """Gather candidates for names of the knowledge base as if they were mentions.

    Each is asked with its own row left out; the first of them misspelt as well.

    Args:
        pairs: (row, entity) of the names, from ``Catalogue.held_out_pairs``.
        catalogue: The names.
        index: The dense door, which has the names' vectors.
        ngrams: The door of letters.
        wording: Learned without these names.
        encoder: What made the vectors, for those misspelt.
        absent: Share of the names whose entity is left out whole.
        rng: Draws those.
    """
    rows = [row for row, _ in pairs]
    texts = catalogue.text_rows(rows)
    pools: list[Pool] = []
    for start in range(0, len(rows), 256):
        part = rows[start : start + 256]
        pools += gather(
            [texts[row].normalised for row in part],
            index.vectors_ND[np.array(part)].astype(np.float32),
            catalogue,
            index,
            ngrams,
            wording,
            without=part,
        )
    right = [{entity} for _, entity in pairs]
    slips: list[str] = []
    for row in rows[: len(rows) // _MISSPELT_ONE_IN] if len(rows) >= _ENOUGH else ():
        slip = misspell(texts[row].text, rng)
        if slip and not catalogue.by_name(normalise(slip)):
            slips.append(slip)
            right.append(set(texts[row].holders))
    if slips:
        asked = [normalise(slip) for slip in slips]
        pools += gather(asked, encoder.encode(slips), catalogue, index, ngrams, wording)
    return stack(pools, right, gone=(rng.random(len(pools)) < absent).tolist())


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


def stack(pools: Sequence[Pool], right: Sequence[set[int]], *, gone: Sequence[bool]) -> Samples:
    """Put pools side by side, a candidate for each holder of each name.

    Args:
        pools: The candidates of each mention.
        right: The numbers of the entities that are right for it; empty for none.
        gone: Whether to leave the right entities out, so that none is right.
    """
    spread: list[tuple[Float32, Int64, Int64]] = []
    for pool, answers, out in zip(pools, right, gone, strict=True):
        places, entities, loose = [], [], []
        number_of: dict[str, int] = {}
        numbers = [number_of.setdefault(text.normalised, k) for k, text in enumerate(pool.texts)]
        for k, text in enumerate(pool.texts):
            for entity, kind in text.holders.items():
                if not (out and entity in answers):
                    places.append(k)
                    entities.append(entity)
                    loose.append(is_loose(kind))
        chosen = np.array(places, dtype=np.int64)
        features = pool.features_KF[chosen]
        features[:, -1] = loose
        names = np.array(numbers, dtype=np.int64)[chosen]
        spread.append((features, np.array(entities, dtype=np.int64), names))
    widest = max((len(entities) for _, entities, _ in spread), default=0)
    count = len(spread)
    features_SKF = np.zeros((count, widest, len(FEATURES)), dtype=np.float32)
    entity_SK = np.full((count, widest), -1, dtype=np.int64)
    name_SK = np.full((count, widest), -1, dtype=np.int64)
    right_SK = np.zeros((count, widest), dtype=bool)
    for i, ((features, held, names), answers) in enumerate(zip(spread, right, strict=True)):
        features_SKF[i, : len(features)] = features
        entity_SK[i, : len(held)] = held
        name_SK[i, : len(held)] = names
        right_SK[i, : len(held)] = np.isin(held, list(answers))
    return Samples(
        features_SKF=features_SKF,
        real_SK=entity_SK >= 0,
        right_SK=right_SK,
        entity_SK=entity_SK,
        name_SK=name_SK,
    )


def fit(samples: Samples, *, start: Combination | None = None) -> Combination:
    """Fit the weights on all samples, how sure they are on what each half says of the other.

    The probabilities are thus learned from samples that the weights in use there had not seen.

    Args:
        samples: What to learn from; too few leave the built-in numbers.
        start: The numbers to start from and to be pulled to.
    """
    start = start or Combination()
    if len(samples) < _ENOUGH:
        return start
    order = np.arange(len(samples))
    halves = (order[::2], order[1::2])
    told = [outcomes(samples[halves[i]], _weigh(samples[halves[1 - i]], start)) for i in (0, 1)]
    evidence_S3, hit_S, there_S = (np.concatenate(parts) for parts in zip(*told, strict=True))
    fitted = fit_sureness(evidence_S3, hit_S, there_S, start=_weigh(samples, start))
    return replace(
        fitted,
        curve=precision_curve(fitted.sure(evidence_S3), hit_S),
        fitted_on={"samples": len(samples), "right_at_1": round(float(hit_S.mean()), 4)},
    )


def _weigh(samples: Samples, start: Combination) -> Combination:
    """Fit the weights and the score of none.

    Each round takes every entity's best name under the present weights, then makes one Newton
    step, pulled a little towards the numbers to start from (which few samples keep).
    """
    prior = np.array([*(start.weights[name] for name in FEATURES), start.nil])
    weights = prior.copy()
    for _ in range(_ROUNDS):
        gradient, curvature = _slopes(samples, weights)
        gradient -= _PENALTY * (weights - prior)
        step = np.linalg.solve(curvature + _PENALTY * np.eye(len(weights)), gradient)
        step *= min(1.0, 5.0 / max(float(np.abs(step).max()), 1e-12))
        weights += step
        if np.abs(step).max() < 1e-4:
            break
    fitted = dict(zip(FEATURES, weights[:-1].tolist(), strict=True))
    return replace(start, weights=fitted, nil=float(weights[-1]))


def _slopes(samples: Samples, weights: Float64) -> tuple[Float64, Float64]:
    """Return gradient (F+1) and curvature (F+1, F+1) of the log likelihood at the weights."""
    scores_SK = np.where(samples.real_SK, samples.features_SKF @ weights[:-1], -np.inf)
    scores_SK = np.where(_best_names(samples, scores_SK), scores_SK, -np.inf)
    top_S = np.maximum(scores_SK.max(axis=1, initial=-np.inf), weights[-1])
    powers_SK = np.exp(scores_SK - top_S[:, None])
    nil_S = np.exp(weights[-1] - top_S)
    total_S = powers_SK.sum(axis=1) + nil_S
    share_SK, none_S = powers_SK / total_S[:, None], nil_S / total_S
    right_SK = np.where(samples.right_SK, share_SK, 0.0)
    mass_S = right_SK.sum(axis=1)
    known_S = mass_S > 0
    target_SK = right_SK / np.where(known_S, mass_S, 1.0)[:, None]
    features = samples.features_SKF
    mean_SF = np.einsum("sk,skf->sf", share_SK, features)
    gradient = np.append(
        np.einsum("sk,skf->f", target_SK - share_SK, features), (~known_S - none_S).sum()
    )
    full_SF = np.concatenate([mean_SF, none_S[:, None]], axis=1)
    flat = features.reshape(-1, features.shape[2])
    second = np.zeros((len(weights), len(weights)))
    second[:-1, :-1] = flat.T @ (flat * share_SK.reshape(-1, 1))
    second[-1, -1] = none_S.sum()
    return gradient, second - full_SF.T @ full_SF


def _best_names(samples: Samples, scores_SK: Float64 | Float32) -> Bools:
    """Return (S, K) bool: the best name of each entity in each sample."""
    sample_SK = np.broadcast_to(np.arange(len(samples))[:, None], scores_SK.shape)
    order = np.lexsort((-scores_SK.ravel(), samples.entity_SK.ravel(), sample_SK.ravel()))
    groups = np.stack([sample_SK.ravel()[order], samples.entity_SK.ravel()[order]])
    first = np.ones(len(order), dtype=bool)
    first[1:] = (groups[:, 1:] != groups[:, :-1]).any(axis=0)
    best = np.zeros(len(order), dtype=bool)
    best[order[first]] = True
    return best.reshape(scores_SK.shape) & samples.real_SK


def outcomes(samples: Samples, combination: Combination) -> tuple[Float64, Bools, Bools]:
    """Return how sure the best entity of each sample is, and if it or one tied with it is right.

    It is what ``link`` asks a threshold of (see ``linker.confidence``).

    Returns:
        (S, 3) float64 values of ``combination.SURENESS``; (S,) bool, the best is right; (S,) bool,
        a candidate is.
    """
    evidence_S3 = np.zeros((len(samples), len(SURENESS)))
    right_S = np.zeros(len(samples), dtype=bool)
    scores_SK = combination.scores(samples.features_SKF)
    best_SK = _best_names(samples, scores_SK)
    for i in range(len(samples)):
        scores_E = scores_SK[i, best_SK[i]]
        order = np.argsort(-scores_E, kind="stable")
        names = samples.name_SK[i, best_SK[i]][order]
        groups = np.array(alike(names.tolist(), scores_E[order].tolist()))
        best_E = groups == groups[:1]
        evidence_S3[i] = combination.evidence(scores_E[order], best_E)
        right_S[i] = samples.right_SK[i, best_SK[i]][order][best_E].any()
    return evidence_S3, right_S, np.logical_or.reduce(samples.right_SK, axis=1)


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


def fit_sureness(
    evidence_S3: Float64, hit_S: Bools, there_S: Bools, *, start: Combination
) -> Combination:
    """Fit how likely the right entity is there, and how likely the best one is right if it is.

    Two logistic regressions, the second on the links where a candidate is right. But for the
    constants no weight becomes negative: what is further above its rivals is never less sure.
    The constant of the second does not become positive.

    Args:
        evidence_S3: As ``outcomes`` returns it.
        hit_S: The same.
        there_S: The same.
        start: The numbers to start from and to be pulled to; the others are taken over.
    """
    inputs_S4 = np.append(evidence_S3, np.ones((len(evidence_S3), 1)), axis=1)
    free = (-np.inf, np.inf)
    fitted: list[dict[str, float]] = []
    for names, old, inputs, asked, bounds in (
        (SURENESS, start.there, inputs_S4, there_S, free),
        (SURENESS[1:], start.first, inputs_S4[there_S, 1:], hit_S[there_S], (-np.inf, 0.0)),
    ):
        every = (*names, "constant")
        weights = _logistic(
            inputs, asked, [old[n] for n in every], bounds=[(0.0, np.inf)] * len(names) + [bounds]
        )
        fitted.append(dict(zip(every, weights, strict=True)))
    return replace(start, there=fitted[0], first=fitted[1])


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
    for _ in range(_ROUNDS):
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
