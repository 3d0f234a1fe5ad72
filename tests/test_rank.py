"""Ranking of whole batches, compared with plain loops over single mentions."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mirror_rt.errors import KnowledgeBaseError
from mirror_rt.hashing import checksum
from mirror_rt.knowledge.arrays import offsets_of
from mirror_rt.knowledge.ranking.features import FEATURES
from mirror_rt.knowledge.ranking.rank import best_names
from mirror_rt.knowledge.ranking.reranker import CONFIDENCE_FEATURES, Reranker
from mirror_rt.knowledge.ranking.ties import find_ties

SEEDS = range(20)
MISSING = object()


def _slices(offsets: np.ndarray) -> Iterator[slice]:
    """Yield the slice of each mention's entities."""
    for first, last in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True):
        yield slice(first, last)


def _ranked(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw offsets, names and scores, best first within a mention; some mentions have nothing."""
    rng = np.random.default_rng(seed)
    offsets = offsets_of(rng.integers(0, 9, size=12) * (rng.random(12) < 0.8))
    # Few distinct scores and names, so that many are equal, and ties form chains.
    scores = rng.choice([-3.0, 0.0, 0.5, 2.0, 2.000004, 7.0, 30.0], size=offsets[-1])
    scores += np.where(rng.random(len(scores)) < 0.5, rng.normal(size=len(scores)), 0.0)
    for mine in _slices(offsets):
        scores[mine] = -np.sort(-scores[mine])
    return offsets, rng.integers(0, 6, size=offsets[-1]), scores.astype(np.float32)


def _groups(names: list[int], scores: list[float]) -> list[set[int]]:
    """Join entities with the same name, and neighbors with the same score, until none is left."""
    groups = [{i} for i in range(len(names))]

    def joined(one: set[int], other: set[int]) -> bool:
        return any(
            names[i] == names[j] or (abs(i - j) == 1 and abs(scores[i] - scores[j]) <= 1e-5)
            for i in one
            for j in other
        )

    while True:
        pair = next(((a, b) for a in groups for b in groups if a is not b and joined(a, b)), None)
        if pair is None:
            return groups
        groups = [group for group in groups if group not in pair] + [pair[0] | pair[1]]


@pytest.mark.parametrize("seed", SEEDS)
def test_each_entity_keeps_its_best_name(seed: int) -> None:
    rng = np.random.default_rng(seed)
    mentions, pairs = 8, int(rng.integers(0, 80))
    mention_P = np.sort(rng.integers(0, mentions, size=pairs))
    entity_P = rng.integers(0, 5, size=pairs)
    scores_P = rng.integers(0, 6, size=pairs).astype(np.float32)
    offsets, places = best_names(mention_P, entity_P, scores_P, mentions=mentions)
    for mention, mine in enumerate(_slices(offsets)):
        best: dict[int, int] = {}
        for place in range(pairs):
            entity = int(entity_P[place])
            if mention_P[place] == mention and (
                entity not in best or scores_P[place] > scores_P[best[entity]]
            ):
                best[entity] = place
        expected = sorted(best.values(), key=lambda place: (-scores_P[place], place))
        assert places[mine].tolist() == expected


@pytest.mark.parametrize("seed", SEEDS)
def test_ties_are_equal_names_and_equal_scores_and_what_these_chain(seed: int) -> None:
    offsets, names, scores = _ranked(seed)
    best, tied = find_ties(offsets, names, scores)
    for mine in _slices(offsets):
        groups = _groups(names[mine].tolist(), scores[mine].tolist())
        of = {i: group for group in groups for i in group}
        count = mine.stop - mine.start
        assert best[mine].tolist() == [0 in of[i] for i in range(count)]
        assert tied[mine].tolist() == [len(of[i]) > 1 for i in range(count)]


def test_scores_of_two_mentions_are_no_tie() -> None:
    offsets, names = np.array([0, 1, 1, 3]), np.array([5, 5, 6])
    best, tied = find_ties(offsets, names, np.array([2.0, 2.0, 1.0], dtype=np.float32))
    assert best.tolist() == [True, True, False]
    assert not tied.any()
    for nothing in find_ties(np.zeros(4, dtype=np.int64), names[:0], np.zeros(0, np.float32)):
        assert nothing.tolist() == []


def _reranker(seed: int) -> Reranker:
    """Draw the weights of the confidence; none is negative."""
    rng = np.random.default_rng(seed)
    inside, top1 = rng.random(4).tolist(), rng.random(3).tolist()
    return replace(
        Reranker(),
        nil_score=float(rng.normal(scale=3.0)),
        in_candidates_weights=dict(zip((*CONFIDENCE_FEATURES, "constant"), inside, strict=True)),
        top1_weights=dict(zip((*CONFIDENCE_FEATURES[1:], "constant"), top1, strict=True)),
    )


def _confidence_features(reranker: Reranker, scores: list[float], best: list[bool]) -> list[float]:
    """Compute the features of one mention by their definition."""
    if not scores:
        return [-8.0, -4.0, 0.0]
    floor = reranker.nil_score - 3.0
    rest = [score for score, is_best in zip(scores, best, strict=True) if not is_best] + [floor]
    mine = [score for score, is_best in zip(scores, best, strict=True) if is_best]

    def log_sum(values: list[float]) -> float:
        return max(values) + math.log(sum(math.exp(v - max(values)) for v in values))

    return [
        min(max(scores[0] - reranker.nil_score, -8.0), 8.0),
        min(max(log_sum(mine) - log_sum(rest), -4.0), 4.0),
        math.log1p(min(max(scores[0] - max(rest), 0.0), 3.0)),
    ]


@pytest.mark.parametrize("seed", SEEDS)
def test_confidence_and_probabilities_are_those_of_each_mention_alone(seed: int) -> None:
    offsets, names, scores = _ranked(seed)
    best, _ = find_ties(offsets, names, scores)
    reranker = _reranker(seed)
    features = reranker.confidence_features(offsets, scores, best)
    assert features.shape == (len(offsets) - 1, 3)
    assert features.dtype == np.float64
    probabilities = reranker.probabilities(offsets, scores, best)
    inside_weights, top1_weights = reranker.in_candidates_weights, reranker.top1_weights
    for mention, mine in enumerate(_slices(offsets)):
        ranked, is_best = scores[mine].astype(float).tolist(), best[mine].tolist()
        expected = _confidence_features(reranker, ranked, is_best)
        assert features[mention] == pytest.approx(expected, abs=1e-9)
        named = dict(zip(CONFIDENCE_FEATURES, expected, strict=True), constant=1.0)
        inside = 1 / (1 + math.exp(-sum(inside_weights[n] * named[n] for n in inside_weights)))
        top1 = inside / (1 + math.exp(-sum(top1_weights[n] * named[n] for n in top1_weights)))
        assert reranker.p_in_candidates(features)[mention] == pytest.approx(inside)
        assert reranker.top1_probability(features)[mention] == pytest.approx(top1)
        best_mass = sum(math.exp(s) for s, b in zip(ranked, is_best, strict=True) if b)
        rest_mass = sum(math.exp(s) for s, b in zip(ranked, is_best, strict=True) if not b)
        for probability, score, b in zip(
            probabilities[mine].tolist(), ranked, is_best, strict=True
        ):
            share = top1 * math.exp(score) / best_mass
            if not b:
                share = min(share, (inside - top1) * math.exp(score) / rest_mass)
            assert probability == pytest.approx(share, rel=1e-6)
        assert probabilities[mine].sum() <= inside + 1e-9


def test_a_batch_in_which_nothing_was_found_has_no_confidence() -> None:
    offsets, scores, best = np.zeros(4, np.int64), np.zeros(0, np.float32), np.zeros(0, bool)
    reranker = Reranker()
    assert reranker.confidence_features(offsets, scores, best).tolist() == [[-8.0, -4.0, 0.0]] * 3
    assert reranker.probabilities(offsets, scores, best).tolist() == []


@pytest.mark.parametrize("feature", FEATURES)
@pytest.mark.parametrize("value", [MISSING, None, float("nan"), float("-inf"), "1.0"])
def test_numbers_without_a_feature_or_with_one_that_is_none_are_refused(
    tmp_path: Path, feature: str, value: object
) -> None:
    path = tmp_path / "reranker.json"
    Reranker().write(path)
    content = json.loads(path.read_text())
    del content["sha256"]
    if value is MISSING:
        del content["weights"][feature]
    else:
        content["weights"][feature] = value
    path.write_text(json.dumps({**content, "sha256": checksum(content, key="sha256")}))
    if value is MISSING and feature in {
        "accepted_mentions",
        "one_sided_gap",
        "top_edit_similarity",
    }:
        # A knowledge base built before these existed is used without them.
        assert Reranker.read(path).weights == {**Reranker().weights, feature: 0.0}
        return
    with pytest.raises(KnowledgeBaseError):
        Reranker.read(path)


def test_the_numbers_written_are_read_again(tmp_path: Path) -> None:
    reranker = replace(_reranker(1), precision_curve=[[0.5, 0.9]], fitted_on={"samples": 3})
    reranker.write(tmp_path / "reranker.json")
    assert Reranker.read(tmp_path / "reranker.json") == reranker
