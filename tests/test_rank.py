"""Ranking of whole batches, against loops over single mentions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mirror_rt.knowledge.arrays import offsets_of
from mirror_rt.knowledge.ranking.rank import best_names
from mirror_rt.knowledge.ranking.reranker import Reranker
from mirror_rt.knowledge.ranking.ties import find_ties, is_tied, tie_groups

SCORE = st.sampled_from([3.0, 2.0, 2.0, 1.5, 0.0, -4.0])
entities = st.lists(st.tuples(SCORE, st.integers(0, 3)), max_size=6)
batches = st.lists(entities, max_size=6)


def _ranked(batch: list[list[tuple[float, int]]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return offsets, scores and names of entities, best first within a mention."""
    ordered = [sorted(mine, key=lambda pair: -pair[0]) for mine in batch]
    flat = [pair for mine in ordered for pair in mine]
    return (
        offsets_of([len(mine) for mine in batch]),
        np.array([score for score, _ in flat], dtype=np.float32),
        np.array([name for _, name in flat], dtype=np.int64),
    )


@given(batches)
@settings(deadline=None)
def test_ties_are_those_of_each_mention_alone(batch: list[list[tuple[float, int]]]) -> None:
    offsets, scores, names = _ranked(batch)
    best, tied = find_ties(offsets, names, scores)
    for first, last in zip(offsets[:-1], offsets[1:], strict=True):
        mine = slice(first, last)
        groups = tie_groups(names[mine].tolist(), scores[mine].tolist())
        assert best[mine].tolist() == [group == groups[0] for group in groups]
        assert tied[mine].tolist() == is_tied(groups)


@given(batches, st.floats(-3, 3))
@settings(deadline=None)
def test_probabilities_are_those_of_each_mention_alone(
    batch: list[list[tuple[float, int]]], nil: float
) -> None:
    offsets, scores, names = _ranked(batch)
    best, _ = find_ties(offsets, names, scores)
    reranker = Reranker(nil_score=nil)
    together = reranker.probabilities(offsets, scores, best)
    confidence = reranker.confidence_features(offsets, scores, best)
    sure = reranker.top1_probability(confidence)
    for i, (first, last) in enumerate(zip(offsets[:-1], offsets[1:], strict=True)):
        mine = slice(first, last)
        alone = np.array([0, last - first])
        found = reranker.probabilities(alone, scores[mine], best[mine])
        assert together[mine] == pytest.approx(found)
        own = reranker.confidence_features(alone, scores[mine], best[mine])
        assert confidence[i] == pytest.approx(own[0])
        if last > first:
            assert found[best[mine]].sum() == pytest.approx(sure[i])


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4), SCORE), max_size=25))
@settings(deadline=None)
def test_an_entity_counts_by_its_best_name(pairs: list[tuple[int, int, float]]) -> None:
    pairs = sorted(pairs, key=lambda pair: pair[0])
    mentions, owners, scores = (np.array([p[i] for p in pairs]) for i in range(3))
    offsets, places = best_names(
        mentions.astype(np.int64), owners.astype(np.int64), scores.astype(np.float32), mentions=4
    )
    for mention in range(4):
        best: dict[int, float] = {}
        for other, owner, score in pairs:
            if other == mention:
                best[owner] = max(best.get(owner, -np.inf), score)
        mine = places[offsets[mention] : offsets[mention + 1]]
        assert {int(owners[p]): float(scores[p]) for p in mine} == best
        assert len(mine) == len(best)
        ranked = [float(scores[p]) for p in mine]
        assert ranked == sorted(ranked, reverse=True)
