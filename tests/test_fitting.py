from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from mirror_rt.errors import ConfigError
from mirror_rt.knowledge.combination import FEATURES, Combination
from mirror_rt.knowledge.fitting import (
    Samples,
    fit,
    fit_platt,
    outcomes,
    precision_curve,
    together,
)

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
    assert fitted.slope == pytest.approx(1.0, abs=0.15)


def test_its_probabilities_are_those_of_being_right() -> None:
    truth = Combination(weights=TRUE, nil=8.0)
    fitted = fit(_samples(4_000, seed=1, truth=truth))
    share, hit = outcomes(_samples(4_000, seed=2, truth=truth), fitted)
    p = np.array([fitted.probability(s) for s in share.tolist()])
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
    shares = combination.shares(combination.scores(features[0]))
    told = [combination.probability(share) for share in shares.tolist()]
    assert [a.tolist() for a in outcomes(samples, combination)] == [[shares[0]], [False]]
    sure, right = together(samples, combination)
    assert (sure.tolist(), right.tolist()) == ([pytest.approx(told[0] + told[1])], [True])


def test_a_few_links_change_nothing_and_order_does_not_matter() -> None:
    truth = Combination(weights=TRUE, nil=8.0)
    few = _samples(30, seed=1, truth=truth)
    assert fit(few) == Combination()
    many = _samples(200, seed=1, truth=truth)
    assert fit(many) == fit(many)


def test_platt_agrees_with_scikit_learn() -> None:
    rng = np.random.default_rng(3)
    share = rng.random(5_000)
    odds = np.log(share / (1 - share))
    hit = rng.random(5_000) < 1 / (1 + np.exp(-(0.7 * odds - 0.4)))
    peer = LogisticRegression(C=1e6).fit(odds[:, None], hit)
    slope, intercept = fit_platt(share, hit)
    assert slope == pytest.approx(float(peer.coef_[0, 0]), abs=0.01)
    assert intercept == pytest.approx(float(peer.intercept_[0]), abs=0.01)


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
