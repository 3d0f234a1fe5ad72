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
from mirror_rt.knowledge.combination import FEATURES, Combination
from mirror_rt.knowledge.fitting import (
    Samples,
    fit,
    fit_sureness,
    held_out_samples,
    misspell,
    outcomes,
    precision_curve,
)
from tests.kb import LetterEncoder, entity, fake_bundle

TRUE = dict(zip(FEATURES, (8.0, 3.0, 0.0, -2.0, 0.0, 0.0, 1.0, 0.5, 0.0, 0.0, 0.0), strict=True))


def _samples(count: int, *, seed: int, truth: Combination) -> Samples:
    """Draw candidates, then the right one as the model says that it is drawn."""
    rng = np.random.default_rng(seed)
    features = rng.random((count, 12, len(FEATURES))).astype(np.float32)
    real = rng.random((count, 12)) < 0.9
    real[:, 0] = True
    right = np.zeros((count, 12), dtype=bool)
    for i in range(count):
        places = np.flatnonzero(real[i])
        scores = np.append(truth.scores(features[i, places]), truth.nil).astype(np.float64)
        drawn = rng.choice(len(places) + 1, p=softmax(scores))
        if drawn < len(places):
            right[i, places[drawn]] = True
    entity = np.where(real, np.arange(12), -1)
    return Samples(
        features_SKF=features, real_SK=real, right_SK=right, entity_SK=entity, name_SK=entity
    )


def test_it_finds_the_numbers_that_the_links_were_drawn_with() -> None:
    truth = Combination(weights=TRUE, nil=8.0)
    fitted = fit(_samples(6_000, seed=1, truth=truth))
    for name in FEATURES:
        assert fitted.weights[name] == pytest.approx(TRUE[name], abs=0.6)
    assert fitted.nil == pytest.approx(8.0, abs=0.8)


def test_its_probabilities_are_those_of_being_right() -> None:
    truth = Combination(weights=TRUE, nil=8.0)
    fitted = fit(_samples(4_000, seed=1, truth=truth))
    evidence, hit, _ = outcomes(_samples(4_000, seed=2, truth=truth), fitted)
    p = fitted.sure(evidence)
    for low in (0.0, 0.3, 0.6):
        inside = (p >= low) & (p < low + 0.3)
        assert p[inside].mean() == pytest.approx(hit[inside].mean(), abs=0.06)


def test_entities_of_one_name_are_sure_together() -> None:
    combination = Combination(weights=TRUE, nil=3.0)
    drawn = _samples(1, seed=1, truth=combination)
    features = drawn.features_SKF[:, [0, 0, 1]].copy()
    features[..., -1] = [[0, 1, 0]]  # the second bears the name as a loose one
    features[:, 2] = 0
    samples = Samples(
        features_SKF=features,
        real_SK=np.ones((1, 3), dtype=bool),
        right_SK=np.array([[False, True, False]]),
        entity_SK=np.array([[4, 7, 9]]),
        name_SK=np.array([[0, 0, 1]]),
    )
    scores = combination.scores(features[0])
    evidence, (right,), (there,) = outcomes(samples, combination)
    assert right
    assert there
    told = combination.probabilities(scores, np.array([True, True, False]))
    assert combination.sure(evidence) == pytest.approx([told[0] + told[1]])
    over_others = logsumexp(scores[:2]) - logsumexp([scores[2], combination.nil - 3])
    expected = [
        min(scores[0] - combination.nil, 8),
        min(over_others, 4),
        np.log1p(min(scores[0] - max(scores[2], combination.nil - 3), 3)),
    ]
    assert evidence[0] == pytest.approx(expected, rel=1e-4)


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
    combination = Combination(nil=nil)
    ranked = np.sort(np.array(scores, dtype=np.float32))[::-1]
    best = np.isin(np.arange(len(ranked)), [0, *ties])
    told = combination.probabilities(ranked, best)
    evidence = combination.evidence(ranked, best)[None]
    (sure,), (there,) = combination.sure(evidence), combination.likely_there(evidence)
    assert told[best].sum() == pytest.approx(sure)
    assert told.sum() <= there + 1e-9
    assert (told >= 0).all()
    for group in (told[best], told[~best]):
        assert (np.diff(group) <= 1e-12).all()
    assert told.max() == told[0]
    higher = np.where(best, ranked + np.float32(raised), ranked)
    assert combination.sure(combination.evidence(higher, best)[None])[0] >= sure - 1e-9


def test_what_the_best_leaves_is_shared_by_the_others() -> None:
    combination = Combination(nil=0.0)
    scores = np.array([5.0, 4.0, 3.0, 3.0], dtype=np.float32)
    told = combination.probabilities(scores, np.array([True, False, False, False]))
    evidence = combination.evidence(scores, np.array([True, False, False, False]))[None]
    left = combination.likely_there(evidence)[0] - told[0]
    assert told[1:] == pytest.approx(left * softmax([4.0, 3.0, 3.0]), rel=1e-5)
    # Of two that all but score the same neither is likelier, as if they were tied.
    near = combination.probabilities(np.array([5.0, 4.9999], dtype=np.float32), np.arange(2) < 1)
    tied = combination.probabilities(np.array([5.0, 5.0], dtype=np.float32), np.arange(2) < 2)
    assert near[0] == pytest.approx(near[1], rel=1e-3)
    assert near.sum() <= tied.sum()


def test_evidence_has_bounds_and_none_is_always_a_rival() -> None:
    combination = Combination(nil=0.0)

    def of(*scores: float) -> list[float]:
        ranked = np.array(scores, dtype=np.float32)
        return combination.evidence(ranked, np.arange(len(ranked)) == 0).tolist()

    assert of(50, -50) == pytest.approx([8, 4, np.log(4)])
    assert of(-50, -51) == pytest.approx([-8, -4, 0])
    assert of(-1) == pytest.approx([-1, 2, np.log(3)])
    assert of(-4) == pytest.approx([-4, -1, 0])
    assert of() == [-8, -4, 0]


def test_a_few_links_change_nothing_and_order_does_not_matter() -> None:
    truth = Combination(weights=TRUE, nil=8.0)
    few = _samples(30, seed=1, truth=truth)
    assert fit(few) == Combination()
    many = _samples(200, seed=1, truth=truth)
    assert fit(many) == fit(many)


def test_every_sample_teaches() -> None:
    samples = _samples(400, seed=1, truth=Combination(weights=TRUE, nil=8.0))
    other = _samples(400, seed=2, truth=Combination(weights=TRUE, nil=8.0))
    for start in (0, 1):
        features, right = samples.features_SKF.copy(), samples.right_SK.copy()
        features[start::2], right[start::2] = other.features_SKF[start::2], other.right_SK[start::2]
        real = (features != 0).any(axis=2)
        changed = replace(samples, features_SKF=features, right_SK=right & real, real_SK=real)
        assert fit(changed).weights != fit(samples).weights


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
        pairs = kb.resources.catalogue.held_out_pairs(40, rng)
        samples = held_out_samples(
            pairs, kb.resources.catalogue, kb.resources.retrievers.vectors, kb.resources.retrievers.trigrams, kb.wording, encoder, absent=0.0, rng=rng
        )
        rows = kb.resources.catalogue.text_rows([row for row, _ in pairs])
    assert len(pairs) == 40
    assert len(samples) == 42
    spelling = FEATURES.index("spelling")
    for k in (40, 41):
        asked = rows[pairs[k - 40][0]].text
        right = samples.features_SKF[k, samples.right_SK[k], spelling].max()
        # The name itself is there, one or two letters away.
        assert 1 - 3 / len(asked) < right < 1


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
    fitted = fit_sureness(evidence, hit, there, start=Combination())
    peer = LogisticRegression(C=1e6).fit(evidence, there)
    assert list(fitted.there.values())[:3] == pytest.approx(peer.coef_[0].tolist(), abs=0.01)
    assert fitted.there["constant"] == pytest.approx(float(peer.intercept_[0]), abs=0.01)
    peer = LogisticRegression(C=1e6).fit(evidence[there, 1:], hit[there])
    assert list(fitted.first.values())[:2] == pytest.approx(peer.coef_[0].tolist(), abs=0.01)
    assert fitted.first["constant"] == pytest.approx(float(peer.intercept_[0]), abs=0.02)
    both = expit(evidence @ np.array([*fitted.there.values()][:3]) + fitted.there["constant"])
    both *= expit(evidence[:, 1:] @ [*fitted.first.values()][:2] + fitted.first["constant"])
    assert fitted.sure(evidence) == pytest.approx(both)


@pytest.mark.parametrize("count", [25, 400])
@pytest.mark.parametrize(
    "weights", [(0.7, -0.6, 1.2, -0.4), (-1, -1, -1, 2), (8, 9, -8, 0), (0, 0, 0, 9)]
)
def test_what_is_further_above_its_rivals_is_never_less_sure(
    weights: tuple[float, ...], count: int
) -> None:
    """As a general optimiser finds it within those bounds."""
    evidence, hit, there = _drawn(weights, weights[1:], count=count)
    start = Combination()
    fitted = fit_sureness(evidence, hit, there, start=start)
    inputs = np.append(evidence, np.ones((count, 1)), axis=1)
    for mine, prior, given_, asked, most in (
        (fitted.there, start.there, inputs, there, None),
        (fitted.first, start.first, inputs[there, 1:], hit[there], 0),
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
    combination = replace(Combination(), curve=precision_curve(p, hit))
    low = combination.threshold(0.9)
    assert hit[p >= low].mean() >= 0.9
    assert low < combination.threshold(0.97)
    for nonsense in (0.0, 1.1):
        with pytest.raises(ConfigError, match="precision must be"):
            combination.threshold(nonsense)
    with pytest.raises(ConfigError, match="was not reached"):
        Combination().threshold(0.9)


def test_links_of_one_probability_are_above_a_threshold_together() -> None:
    p = np.array([0.98] * 100 + [0.3] * 100)
    hit = np.array([True] * 10 + [False] * 90 + [True] * 100)  # the right ones stand first
    assert precision_curve(p, hit) == ((0.3, 0.55), (0.98, 0.1))


def test_a_few_lucky_links_promise_nothing() -> None:
    p = np.append([0.99, 0.98], np.full(98, 0.5))
    hit = np.append([True, True], np.arange(98) % 2 == 0)
    assert precision_curve(p, hit) == ((0.5, 0.51),)
    assert precision_curve(p[:0], hit[:0]) == ()
