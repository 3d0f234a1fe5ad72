from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rapidfuzz.distance import DamerauLevenshtein
from scipy.optimize import minimize
from scipy.special import expit, logsumexp, softmax
from sklearn.linear_model import LogisticRegression

from mirror_rt.errors import ConfigError
from mirror_rt.knowledge import KnowledgeBase
from mirror_rt.knowledge.arrays import offsets_of
from mirror_rt.knowledge.ranking.features import FEATURES
from mirror_rt.knowledge.ranking.learning import (
    Outcomes,
    Samples,
    calibration_targets,
    fit,
    fit_confidence,
    held_out_names,
    held_out_samples,
    misspell,
    precision_curve,
)
from mirror_rt.knowledge.ranking.reranker import Reranker
from tests.kb import LetterEncoder, entity, fake_bundle

TRUE = dict(zip(FEATURES, (8.0, 3.0, 0.0, -2.0, 0.0, 0.0, 1.0, 0.5, 0.0, 0.0, 0.0), strict=True))


def _samples(count: int, *, seed: int, truth: Reranker) -> Samples:
    """Draw candidates, then the right one as the model says that it is drawn."""
    rng = np.random.default_rng(seed)
    features, entities, right, sizes = [], [], [], []
    for _ in range(count):
        places = np.append(0, 1 + np.flatnonzero(rng.random(11) < 0.9))
        drawn = rng.random((len(places), len(FEATURES))).astype(np.float32)
        scores = np.append(truth.scores(drawn), truth.nil_score).astype(np.float64)
        chosen = rng.choice(len(places) + 1, p=softmax(scores))
        features.append(drawn)
        entities.append(places)
        right.append(np.arange(len(places)) == chosen)
        sizes.append(len(places))
    entity_P = np.concatenate(entities)
    return Samples(
        offsets=offsets_of(sizes),
        features_PF=np.concatenate(features),
        right_P=np.concatenate(right),
        entity_P=entity_P,
        name_P=entity_P,
    )


def _alone(scores: np.ndarray) -> np.ndarray:
    """Return the offsets of one mention with these entities."""
    return np.array([0, len(scores)])


def test_it_finds_the_numbers_that_the_links_were_drawn_with() -> None:
    truth = Reranker(weights=TRUE, nil_score=8.0)
    fitted = fit(_samples(6_000, seed=1, truth=truth))
    for name in FEATURES:
        assert fitted.weights[name] == pytest.approx(TRUE[name], abs=0.6)
    assert fitted.nil_score == pytest.approx(8.0, abs=0.8)


def test_its_probabilities_are_those_of_being_right() -> None:
    truth = Reranker(weights=TRUE, nil_score=8.0)
    fitted = fit(_samples(4_000, seed=1, truth=truth))
    found = calibration_targets(_samples(4_000, seed=2, truth=truth), fitted)
    p, hit = fitted.top1_probability(found.confidence_S3), found.hit_S
    for low in (0.0, 0.3, 0.6):
        inside = (p >= low) & (p < low + 0.3)
        assert p[inside].mean() == pytest.approx(hit[inside].mean(), abs=0.06)


def test_entities_of_one_name_are_sure_together() -> None:
    reranker = Reranker(weights=TRUE, nil_score=3.0)
    drawn = _samples(1, seed=1, truth=reranker)
    features = drawn.features_PF[[0, 0, 1]].copy()
    features[:, -1] = [0, 1, 0]  # the second bears the name as a loose one
    features[2] = 0
    samples = Samples(
        offsets=np.array([0, 3]),
        features_PF=features,
        right_P=np.array([False, True, False]),
        entity_P=np.array([4, 7, 9]),
        name_P=np.array([0, 0, 1]),
    )
    scores = reranker.scores(features)
    outcomes = calibration_targets(samples, reranker)
    assert (outcomes.hit_S.tolist(), outcomes.in_candidates_S.tolist()) == ([True], [True])
    told = reranker.probabilities(_alone(scores), scores, np.array([True, True, False]))
    assert reranker.top1_probability(outcomes.confidence_S3) == pytest.approx([told[0] + told[1]])
    over_others = logsumexp(scores[:2]) - logsumexp([scores[2], reranker.nil_score - 3])
    expected = [
        min(scores[0] - reranker.nil_score, 8),
        min(over_others, 4),
        np.log1p(min(scores[0] - max(scores[2], reranker.nil_score - 3), 3)),
    ]
    assert outcomes.confidence_S3[0] == pytest.approx(expected, rel=1e-4)


@given(
    scores=st.lists(st.floats(-300, 300, width=16), min_size=1, max_size=8),
    ties=st.sets(st.integers(0, 7)),
    nil=st.floats(-10, 10),
    raised=st.floats(0.1, 5),
)
@settings(deadline=None)
def test_probabilities_go_by_the_scores(
    scores: list[float], ties: set[int], nil: float, raised: float
) -> None:
    reranker = Reranker(nil_score=nil)
    ranked = np.sort(np.array(scores, dtype=np.float32))[::-1]
    best = np.isin(np.arange(len(ranked)), [0, *ties])
    offsets = _alone(ranked)
    told = reranker.probabilities(offsets, ranked, best)
    found = reranker.confidence_features(offsets, ranked, best)
    (sure,), (there,) = reranker.top1_probability(found), reranker.p_in_candidates(found)
    assert told[best].sum() == pytest.approx(sure)
    assert told.sum() <= there + 1e-9
    assert (told >= 0).all()
    for group in (told[best], told[~best]):
        assert (np.diff(group) <= 1e-12).all()
    assert told.max() == told[0]
    higher = np.where(best, ranked + np.float32(raised), ranked)
    found = reranker.confidence_features(offsets, higher, best)
    assert reranker.top1_probability(found)[0] >= sure - 1e-9


def test_what_the_best_leaves_is_shared_by_the_others() -> None:
    reranker = Reranker(nil_score=0.0)
    scores = np.array([5.0, 4.0, 3.0, 3.0], dtype=np.float32)
    best = np.arange(4) < 1
    told = reranker.probabilities(_alone(scores), scores, best)
    found = reranker.confidence_features(_alone(scores), scores, best)
    left = reranker.p_in_candidates(found)[0] - told[0]
    assert told[1:] == pytest.approx(left * softmax([4.0, 3.0, 3.0]), rel=1e-5)
    # Of two that all but score the same neither is likelier, as if they were tied.
    two, even = (np.array([5.0, second], dtype=np.float32) for second in (4.9999, 5.0))
    near = reranker.probabilities(_alone(two), two, np.arange(2) < 1)
    tied = reranker.probabilities(_alone(even), even, np.arange(2) < 2)
    assert near[0] == pytest.approx(near[1], rel=1e-3)
    assert near.sum() <= tied.sum()


def test_confidence_has_bounds_and_none_is_always_a_rival() -> None:
    reranker = Reranker(nil_score=0.0)

    def of(*scores: float) -> list[float]:
        ranked = np.array(scores, dtype=np.float32)
        best = np.arange(len(ranked)) == 0
        (found,) = reranker.confidence_features(_alone(ranked), ranked, best).tolist()
        return list(found)

    assert of(50, -50) == pytest.approx([8, 4, np.log(4)])
    assert of(-50, -51) == pytest.approx([-8, -4, 0])
    assert of(-1) == pytest.approx([-1, 2, np.log(3)])
    assert of(-4) == pytest.approx([-4, -1, 0])
    assert of() == [-8, -4, 0]


def test_a_few_links_change_nothing_and_order_does_not_matter() -> None:
    truth = Reranker(weights=TRUE, nil_score=8.0)
    few = _samples(30, seed=1, truth=truth)
    assert fit(few) == Reranker()
    many = _samples(200, seed=1, truth=truth)
    assert fit(many) == fit(many)
    turned = fit(many[np.arange(200)[::-1]])  # the halves change places
    assert turned.weights == pytest.approx(fit(many).weights, abs=1e-5)


def test_every_sample_teaches() -> None:
    samples = _samples(400, seed=1, truth=Reranker(weights=TRUE, nil_score=8.0))
    other = _samples(400, seed=2, truth=Reranker(weights=TRUE, nil_score=8.0))
    for start in (0, 1):
        every = np.arange(400)
        parts = [samples[every[1 - start :: 2]], other[every[start::2]]]
        assert fit(Samples.joined(parts)).weights != fit(samples).weights


@given(data=st.data())
@settings(deadline=None, max_examples=40)
def test_chosen_samples_are_those_of_lists(data: st.DataObject) -> None:
    samples = _samples(6, seed=1, truth=Reranker())
    chosen = data.draw(st.lists(st.integers(0, 5), max_size=9))
    found = samples[np.array(chosen, dtype=np.int64)]
    assert len(found) == len(chosen)
    pieces = [slice(samples.offsets[k], samples.offsets[k + 1]) for k in chosen]
    for name in ("features_PF", "right_P", "entity_P", "name_P"):
        whole, mine = getattr(samples, name), getattr(found, name)
        expected = np.concatenate([whole[:0], *(whole[piece] for piece in pieces)])
        np.testing.assert_array_equal(mine, expected)
    sizes = [piece.stop - piece.start for piece in pieces]
    assert found.sample_P.tolist() == [k for k, size in enumerate(sizes) for _ in range(size)]


@given(text=st.text(alphabet="abcdeé漢 -12", max_size=30), seed=st.integers(0, 1_000))
@settings(deadline=None)
def test_a_misspelt_text_is_two_letters_away_at_most(text: str, seed: int) -> None:
    slip = misspell(text, np.random.default_rng(seed))
    if sum(map(str.isalpha, text)) < 6:
        assert slip == ""
    else:
        assert DamerauLevenshtein.distance(text, slip) <= 2
        others = [[s for s in t if not s.isalpha()] for t in (text, slip)]
        assert others[0] == others[1]


def test_most_slips_differ_and_no_two_seeds_agree_on_them() -> None:
    slips = {misspell("nephritis of 2", np.random.default_rng(seed)) for seed in range(40)}
    assert len(slips - {"nephritis of 2"}) > 25


def test_some_names_are_asked_misspelt_beside_themselves(tmp_path: Path) -> None:
    words = [f"{a}{b}itis" for a in ("card", "nephr", "gastr", "derm", "oste") for b in "aeiouylm"]
    entities = [entity(w, f"{w} of the heart", f"cardiac {w}") for w in words]
    bundle, encoder = fake_bundle(tmp_path / "bundle"), LetterEncoder()
    with KnowledgeBase.build(bundle, entities, tmp_path / "kb", encoder=encoder) as kb:
        rng = np.random.default_rng(0)
        resources = kb.resources
        pairs = held_out_names(resources.catalogue, resources.names, rng, count=40)
        samples = held_out_samples(
            pairs,
            resources.catalogue,
            resources.retrievers,
            resources.translation,
            encoder,
            _NeverNil(),  # type: ignore[arg-type]
        )
        texts = resources.catalogue.texts()
    assert len(pairs) == 40
    assert len(samples) == 42
    similarity = FEATURES.index("edit_similarity")
    for k in (40, 41):
        asked = texts[pairs[k - 40][0]]
        mine = slice(samples.offsets[k], samples.offsets[k + 1])
        right = samples.features_PF[mine][samples.right_P[mine], similarity].max()
        # The name itself is there, one or two letters away.
        assert 1 - 3 / len(asked) < right < 1


class _NeverNil:
    """Draws typos by chance, and no name whose entity is left out whole."""

    def __init__(self) -> None:
        self._rng = np.random.default_rng(0)

    def random(self, count: int) -> np.ndarray:
        return np.ones(count)

    def __getattr__(self, name: str) -> object:
        return getattr(self._rng, name)


def _drawn(
    there: tuple[float, ...], first: tuple[float, ...], *, count: int = 5_000
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    evidence = 3 * rng.normal(size=(count, 3))
    is_there = rng.random(count) < expit(evidence @ np.array(there[:3]) + there[3])
    hit = is_there & (rng.random(count) < expit(evidence[:, 1:] @ np.array(first[:2]) + first[2]))
    return evidence, hit, is_there


def test_how_sure_agrees_with_scikit_learn() -> None:
    evidence, hit, there = _drawn((0.7, 0.3, 1.2, -0.4), (0.5, 0.9, -0.6))
    outcomes = Outcomes(confidence_S3=evidence, hit_S=hit, in_candidates_S=there)
    fitted = fit_confidence(outcomes, start=Reranker())
    peer = LogisticRegression(C=1e6).fit(evidence, there)
    assert list(fitted.in_candidates_weights.values())[:3] == pytest.approx(
        peer.coef_[0].tolist(), abs=0.01
    )
    assert fitted.in_candidates_weights["constant"] == pytest.approx(
        float(peer.intercept_[0]), abs=0.01
    )
    peer = LogisticRegression(C=1e6).fit(evidence[there, 1:], hit[there])
    assert list(fitted.top1_weights.values())[:2] == pytest.approx(peer.coef_[0].tolist(), abs=0.01)
    assert fitted.top1_weights["constant"] == pytest.approx(float(peer.intercept_[0]), abs=0.02)
    both = expit(
        evidence @ np.array([*fitted.in_candidates_weights.values()][:3])
        + fitted.in_candidates_weights["constant"]
    )
    both *= expit(
        evidence[:, 1:] @ [*fitted.top1_weights.values()][:2] + fitted.top1_weights["constant"]
    )
    assert fitted.top1_probability(evidence) == pytest.approx(both)


@pytest.mark.parametrize("count", [25, 400])
@pytest.mark.parametrize(
    "weights", [(0.7, -0.6, 1.2, -0.4), (-1, -1, -1, 2), (8, 9, -8, 0), (0, 0, 0, 9)]
)
def test_what_is_further_above_its_rivals_is_never_less_sure(
    weights: tuple[float, ...], count: int
) -> None:
    """As a general optimiser finds it within those bounds."""
    evidence, hit, there = _drawn(weights, weights[1:], count=count)
    start = Reranker()
    outcomes = Outcomes(confidence_S3=evidence, hit_S=hit, in_candidates_S=there)
    fitted = fit_confidence(outcomes, start=start)
    inputs = np.append(evidence, np.ones((count, 1)), axis=1)
    for mine, prior, given_, asked, most in (
        (fitted.in_candidates_weights, start.in_candidates_weights, inputs, there, None),
        (fitted.top1_weights, start.top1_weights, inputs[there, 1:], hit[there], 0),
    ):
        x, before = given_, np.array([*prior.values()])
        right, wrong = int(asked.sum()), int((~asked).sum())
        target = np.where(asked, (right + 1) / (right + 2), 1 / (wrong + 2))  # Platt's

        def loss(
            w: np.ndarray, x: np.ndarray = x, t: np.ndarray = target, b: np.ndarray = before
        ) -> float:
            return float((np.logaddexp(0, x @ w) - t * (x @ w)).sum() + ((w - b) ** 2).sum() / 2)

        bounds = [(None, most) if name == "constant" else (0, None) for name in prior]
        peer = minimize(loss, before, method="L-BFGS-B", bounds=bounds)
        assert [*mine.values()] == pytest.approx(peer.x, abs=0.01)


def test_a_threshold_keeps_its_promise_on_the_links_it_came_from() -> None:
    rng = np.random.default_rng(4)
    p = rng.random(2_000)
    hit = rng.random(2_000) < p
    reranker = replace(Reranker(), precision_curve=precision_curve(p, hit))
    low = reranker.threshold(0.9)
    assert hit[p >= low].mean() >= 0.9
    assert low < reranker.threshold(0.97)
    for nonsense in (0.0, 1.1):
        with pytest.raises(ConfigError, match="precision must be"):
            reranker.threshold(nonsense)
    with pytest.raises(ConfigError, match="was not reached"):
        Reranker().threshold(0.9)


def test_links_of_one_probability_are_above_a_threshold_together() -> None:
    p = np.array([0.98] * 100 + [0.3] * 100)
    hit = np.array([True] * 10 + [False] * 90 + [True] * 100)  # the right ones stand first
    assert precision_curve(p, hit) == ((0.3, 0.55), (0.98, 0.1))


def test_a_few_lucky_links_promise_nothing() -> None:
    p = np.append([0.99, 0.98], np.full(98, 0.5))
    hit = np.append([True, True], np.arange(98) % 2 == 0)
    assert precision_curve(p, hit) == ((0.5, 0.51),)
    assert precision_curve(p[:0], hit[:0]) == ()
