from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rapidfuzz.distance import DamerauLevenshtein
from scipy.optimize import minimize
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
        shares = truth.shares(truth.scores(features[i, places])).astype(np.float64)
        drawn = rng.choice(len(places) + 1, p=np.append(shares, 1 - shares.sum()))
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
    evidence, hit = outcomes(_samples(4_000, seed=2, truth=truth), fitted)
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
    (evidence,), (right,) = outcomes(samples, combination)
    told = combination.probabilities(scores, np.array([True, True, False]))
    assert right
    assert combination.sure(evidence) == pytest.approx(told[0] + told[1])
    shares = combination.shares(scores)
    above, none = scores[0] - combination.nil, 1 - shares.sum()
    both = np.log((shares[0] + shares[1]) / (1 - shares[0] - shares[1] - none))
    assert evidence == pytest.approx(
        [min(above, 8), min(both, 4), np.log1p(min(scores[0] - scores[2], 3)), 1], rel=1e-4
    )


@given(
    scores=st.lists(st.floats(-30, 30, width=16), min_size=1, max_size=8),
    tied=st.integers(1, 8),
    nil=st.floats(-10, 10),
    raised=st.floats(0.1, 5),
)
@settings(deadline=None)
def test_probabilities_go_by_the_scores(
    scores: list[float], tied: int, nil: float, raised: float
) -> None:
    combination = Combination(nil=nil)
    ranked = np.sort(np.array(scores, dtype=np.float32))[::-1]
    best = (np.arange(len(ranked)) < tied) & (ranked == ranked[0])
    told = combination.probabilities(ranked, best)
    sure = float(combination.sure(combination.evidence(ranked, best)))
    assert told[best].sum() == pytest.approx(sure)
    assert told.sum() <= 1 + 1e-6
    assert (np.diff(told) <= 1e-12).all()
    assert (told >= 0).all()
    higher = np.where(best, ranked + np.float32(raised), ranked)
    assert combination.sure(combination.evidence(higher, best)) >= sure - 1e-9


def test_nothing_is_less_sure_than_no_candidate() -> None:
    combination = Combination()
    none = combination.evidence(np.array([], dtype=np.float32), np.array([], dtype=bool))
    poor = combination.evidence(np.array([-30, -30.5], dtype=np.float32), np.array([True, False]))
    assert combination.sure(none) <= combination.sure(poor) < 0.1


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
        pairs = kb.catalogue.held_out_pairs(40, rng)
        samples = held_out_samples(
            pairs, kb.catalogue, kb.index, kb.ngrams, kb.wording, encoder, absent=0.0, rng=rng
        )
        rows = kb.catalogue.text_rows([row for row, _ in pairs])
    assert len(pairs) == 40
    assert len(samples) == 42
    spelling = FEATURES.index("spelling")
    for k in (40, 41):
        asked = rows[pairs[k - 40][0]].text
        right = samples.features_SKF[k, samples.right_SK[k], spelling].max()
        # The name itself is there, one or two letters away.
        assert 1 - 3 / len(asked) < right < 1


def _drawn(weights: tuple[float, ...], *, count: int = 5_000) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    evidence = np.append(4 * rng.normal(size=(count, 3)), np.ones((count, 1)), axis=1)
    return evidence, rng.random(count) < 1 / (1 + np.exp(-evidence @ np.array(weights)))


def test_how_sure_agrees_with_scikit_learn() -> None:
    evidence, hit = _drawn((0.7, 0.3, 1.2, -0.4))
    peer = LogisticRegression(C=1e6).fit(evidence[:, :3], hit)
    fitted = list(fit_sureness(evidence, hit, Combination()).values())
    assert fitted[:3] == pytest.approx(peer.coef_[0].tolist(), abs=0.01)
    assert fitted[3] == pytest.approx(float(peer.intercept_[0]), abs=0.01)


@pytest.mark.parametrize("count", [25, 400])
@pytest.mark.parametrize(
    "weights", [(0.7, -0.6, 1.2, -0.4), (-1, -1, -1, 2), (8, 9, -8, 0), (0, 0, 0, 9)]
)
def test_what_is_further_above_its_rivals_is_never_less_sure(
    weights: tuple[float, ...], count: int
) -> None:
    """As a general optimiser finds it within those bounds."""
    evidence, hit = _drawn(weights, count=count)
    start = Combination()
    fitted = np.array(list(fit_sureness(evidence, hit, start).values()))
    prior = np.array(list(start.sureness.values()))

    right, wrong = int(hit.sum()), int((~hit).sum())
    target = np.where(hit, (right + 1) / (right + 2), 1 / (wrong + 2))  # Platt's

    def loss(weights: np.ndarray) -> float:
        odds = evidence @ weights
        likely = (np.logaddexp(0, odds) - target * odds).sum()
        return float(likely + ((weights - prior) ** 2).sum() / 2)

    peer = minimize(loss, prior, method="L-BFGS-B", bounds=[(0, None)] * 3 + [(None, None)])
    assert (fitted[:3] >= 0).all()
    assert fitted == pytest.approx(peer.x, abs=0.01)


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
