"""From a mention to entities: by name first, then by all doors together.

Axes: Q queries, K candidate names, D width.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from mirror_rt.knowledge.catalogue import Catalogue, TextRow
from mirror_rt.knowledge.combination import Combination
from mirror_rt.knowledge.doors import Pool
from mirror_rt.knowledge.filters import Allowed, nearest
from mirror_rt.knowledge.grades import grade, is_loose, loose_key
from mirror_rt.knowledge.index import Index
from mirror_rt.knowledge.normalise import normalise
from mirror_rt.types import Candidate, How

if TYPE_CHECKING:
    from mirror_rt.types import Float32

__all__ = [
    "alike",
    "best",
    "by_name",
    "by_vectors",
    "confidence",
    "has_content",
    "is_name",
    "judge",
    "tied",
    "within",
]

_STEPS = (How.EXACT, How.CASE, How.PUNCTUATION)
"""The steps of a match by name, the strictest first."""
_EQUAL = 1e-5
"""Scores no further apart differ by how their sums were rounded."""


def has_content(text: str) -> bool:
    """Tell whether a text has anything but spaces and punctuation."""
    return bool(normalise(text))


def by_name(
    mention: str,
    catalogue: Catalogue,
    combination: Combination,
    *,
    allowed: Allowed | None = None,
) -> list[Candidate]:
    """Return every entity that bears the mention as a name, the strictest match first.

    More than one entity at the same step means that the name is ambiguous: all of them are
    returned and flagged as tied, those first whose preferred name it is.
    """
    wanted = mention.strip()
    matches = catalogue.by_name(normalise(wanted))
    if allowed is not None:
        matches = [match for match in matches if match.entity in allowed]
    found: dict[int, tuple[How, str]] = {}
    # Names of punctuation only all normalise to nothing: they get no grade but EXACT or CASE.
    graded = [(grade(wanted, match.text), match) for match in matches]
    for step in _STEPS:
        for how, match in graded:
            if how is step:
                found.setdefault(match.entity, (step, match.text))
    headings = catalogue.headings(list(found))
    holders = {step: sum(how is step for how, _ in found.values()) for step in _STEPS}
    strictest = next((step for step in _STEPS if holders[step]), How.EXACT)
    return [
        Candidate(
            entity_id=headings[entity][0],
            name=headings[entity][1],
            matched=text,
            score=1.0,
            probability=combination.by_name / holders[how]
            if how is strictest
            else (1 - combination.by_name) / len(found),
            how=how,
            tied=holders[how] > 1,
        )
        for entity, (how, text) in found.items()
    ]


def is_name(found: Sequence[Candidate]) -> bool:
    """Tell whether candidates are the bearers of a mention that is a name."""
    return any(candidate.how in _STEPS for candidate in found)


def alike(names: Sequence[Hashable], scores: Sequence[float]) -> list[int]:
    """Group entities that neither their names nor their scores tell apart.

    Args:
        names: For each entity its best name, normalised.
        scores: Its score, best first.

    Returns:
        The number of each entity's group: equal names are one, and so are equal scores.

    >>> alike(["cold", "flu", "cold", "chill"], [3.0, 2.0, 1.0, 1.0])
    [0, 1, 0, 0]
    >>> alike(["cold", "flu", "cold"], [3.0, 2.0, 2.0])
    [0, 0, 0]
    """
    groups: list[int] = []
    group_of: dict[Hashable, int] = {}
    for i, name in enumerate(names):
        equal = i > 0 and scores[i - 1] - scores[i] <= _EQUAL
        before = groups[-1] if equal else i
        groups.append(group_of.setdefault(name, before))
        if equal and groups[-1] != before:  # alike one group by its name, another by its score
            low, high = sorted((groups[-1], before))
            groups = [low if group == high else group for group in groups]
            group_of = {n: low if group == high else group for n, group in group_of.items()}
    return groups


def tied(groups: Sequence[int]) -> list[bool]:
    """Tell of each entity whether another one is alike."""
    sizes = Counter(groups)
    return [sizes[group] > 1 for group in groups]


def within(found: Sequence[Candidate], top: int) -> list[Candidate]:
    """Return the first ``top`` candidates and, past them, all that are tied with the first."""
    if len(found) <= top:
        return list(found)
    groups = _groups(found)
    return [c for i, c in enumerate(found) if i < top or groups[i] == groups[0]]


def best(found: Sequence[Candidate]) -> list[Candidate]:
    """Return the first candidate and all that are tied with it."""
    groups = _groups(found)
    return [c for c, group in zip(found, groups, strict=True) if group == groups[0]]


def confidence(found: Sequence[Candidate]) -> float:
    """Return the probability that the best match is right; those tied with it count together."""
    return min(sum(c.probability or 0.0 for c in best(found)), 1.0)


def _groups(found: Sequence[Candidate]) -> list[int]:
    # A context puts candidates in another order than that of their probabilities.
    order = sorted(range(len(found)), key=lambda i: -(found[i].probability or 0.0))
    ranked = [found[i] for i in order]
    # A stricter step of a match by name sets names apart that are the same once normalised.
    steps = [c.how if c.how in _STEPS else None for c in ranked]
    names = [(step, normalise(c.matched)) for step, c in zip(steps, ranked, strict=True)]
    # Probabilities are exponentials of scores: their logarithms are as far apart as those.
    heights = [math.log(max(c.probability or 0.0, 1e-300)) for c in ranked]
    group_of = dict(zip(order, alike(names, heights), strict=True))
    return [group_of[i] for i in range(len(found))]


def judge(
    mention: str,
    pool: Pool,
    catalogue: Catalogue,
    combination: Combination,
    *,
    top: int,
    allowed: Allowed | None = None,
) -> list[Candidate]:
    """Return the ``top`` entities of a pool by the combination, each with its best name.

    Past them come all that are tied with the first: a tie is never cut.
    Only allowed entities are compared, and share the probability.
    """
    spread = [
        (k, entity, kind)
        for k, text in enumerate(pool.texts)
        for entity, kind in text.holders.items()
        if allowed is None or entity in allowed
    ]
    if not spread:
        return []
    places = [k for k, _, _ in spread]
    entities = [entity for _, entity, _ in spread]
    features_KF = pool.features_KF[np.array(places)]
    features_KF[:, -1] = [is_loose(kind) for _, _, kind in spread]
    scores_K = combination.scores(features_KF)
    place_of: dict[int, int] = {}
    for i in np.argsort(-scores_K, kind="stable").tolist():
        place_of.setdefault(entities[i], i)
    scores_E = scores_K[list(place_of.values())]
    names = [pool.texts[places[i]].normalised for i in place_of.values()]
    groups = alike(names, scores_E.tolist())
    best_E = np.array(groups) == groups[0]
    sure_E = combination.probabilities(scores_E, best_E)
    ranked = sorted(
        zip(place_of.items(), sure_E.tolist(), groups, tied(groups), strict=True),
        key=lambda one: one[2] != groups[0],  # what is tied with the best stands beside it
    )
    chosen = [one for n, one in enumerate(ranked) if n < top or one[2] == groups[0]]
    headings = catalogue.headings([entity for (entity, _), *_ in chosen])
    normalised = normalise(mention)
    key = loose_key(normalised) if normalised.isascii() else None
    found = []
    for (entity, i), sure, _, is_tied in chosen:
        text = pool.texts[places[i]]
        # Of ASCII names, those with other keys are alike at no step, which are dear to try.
        unlike = key is not None and text.loose != key and text.normalised.isascii()
        door = How.DENSE if pool.from_vectors_K[places[i]] else How.LETTERS
        found.append(
            Candidate(
                entity_id=headings[entity][0],
                name=headings[entity][1],
                matched=text.text,
                score=float(min(pool.features_KF[places[i], 0], 1.0)),
                probability=sure,
                how=(None if unlike else grade(mention.strip(), text.text)) or door,
                tied=is_tied,
            )
        )
    return found


def by_vectors(
    vectors_QD: Float32,
    catalogue: Catalogue,
    index: Index,
    *,
    top: int,
    allowed: Allowed | None = None,
) -> list[list[Candidate]]:
    """Return the ``top`` entities nearest to each vector, each once with its nearest name.

    Args:
        vectors_QD: (Q, D) float32 unit rows.
        catalogue: Where the rows of the index have their strings and entities.
        index: The index of those rows.
        top: How many entities at most.
        allowed: The entities to choose from; None for all.
    """
    hits = nearest(index, vectors_QD, top=4 * top + 16, allowed=allowed)
    most = len(index.vectors_ND) if allowed is None else len(allowed.rows_R)
    texts = catalogue.text_rows(np.unique(hits.rows_QK[hits.rows_QK >= 0]).tolist())
    results: list[list[Candidate]] = []
    for i in range(len(vectors_QD)):
        rows, scores = hits.rows_QK[i], hits.scores_QK[i]
        found = _entities(rows.tolist(), scores.tolist(), texts, allowed)
        # An entity of many names may fill the list alone: look further until there are enough.
        while len(found) < top and len(rows) < most:
            more = nearest(index, vectors_QD[i : i + 1], top=4 * len(rows), allowed=allowed)
            rows, scores = more.rows_QK[0], more.scores_QK[0]
            texts |= catalogue.text_rows(rows[rows >= 0].tolist())
            found = _entities(rows.tolist(), scores.tolist(), texts, allowed)
        groups = alike(
            [texts[row].normalised for row, _ in found.values()], [s for _, s in found.values()]
        )
        chosen = list(zip(found.items(), tied(groups), strict=True))[:top]
        headings = catalogue.headings([entity for (entity, _), _ in chosen])
        results.append(
            [
                Candidate(
                    entity_id=headings[entity][0],
                    name=headings[entity][1],
                    matched=texts[row].text,
                    score=min(score, 1.0),  # float16 rows are a shade longer or shorter than 1
                    how=How.DENSE,
                    tied=is_tied,
                )
                for (entity, (row, score)), is_tied in chosen
            ]
        )
    return results


def _entities(
    rows: Sequence[int],
    scores: Sequence[float],
    texts: dict[int, TextRow],
    allowed: Allowed | None,
) -> dict[int, tuple[int, float]]:
    """Return entity number → (row, score) of its nearest name, nearest first."""
    found: dict[int, tuple[int, float]] = {}
    for row, score in zip(rows, scores, strict=True):
        if row < 0:
            break
        for entity in texts[row].holders:
            if allowed is None or entity in allowed:
                found.setdefault(entity, (row, score))
    return found
