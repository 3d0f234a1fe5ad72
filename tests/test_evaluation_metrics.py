"""Scores, compared with scipy and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror_rt.evaluation.intervals import auc_interval, spearman_intervals
from mirror_rt.evaluation.metrics import (
    accuracy,
    area_under_curve,
    average_ranks,
    f1,
    macro_f1,
    spearman,
)

# Few distinct values: ties are frequent.
VALUES = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=3, max_size=40)


@given(VALUES)
def test_spearman_and_ranks_are_those_of_scipy(pairs: list[tuple[int, int]]) -> None:
    from scipy.stats import rankdata, spearmanr

    a, b = (np.array(side, float) for side in zip(*pairs, strict=True))
    np.testing.assert_array_equal(average_ranks(a), rankdata(a))
    ours = spearman(a, b)
    if len(set(a)) == 1 or len(set(b)) == 1:
        assert ours is None
    else:
        assert ours == pytest.approx(spearmanr(a, b).statistic, abs=1e-12)


@given(VALUES)
def test_area_under_the_curve_is_that_of_scikit_learn(pairs: list[tuple[int, int]]) -> None:
    from sklearn.metrics import roc_auc_score

    truth = [a > 3 for a, _ in pairs]
    scores = [float(b) for _, b in pairs]
    ours = area_under_curve(truth, scores)
    if len(set(truth)) == 1:
        assert ours is None
    else:
        assert ours == pytest.approx(roc_auc_score(truth, scores))


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("abc")), min_size=1))
def test_accuracy_and_f1_are_those_of_scikit_learn(pairs: list[tuple[str, str]]) -> None:
    from sklearn.metrics import accuracy_score, f1_score

    gold, guessed = (list(side) for side in zip(*pairs, strict=True))
    assert accuracy(gold, guessed) == pytest.approx(accuracy_score(gold, guessed))
    expected = f1_score(gold, guessed, average="macro", zero_division=0)
    assert macro_f1(gold, guessed) == pytest.approx(expected)
    alone = f1_score(gold, guessed, labels=["a"], average="macro", zero_division=0)
    assert f1(gold, guessed, "a") == pytest.approx(alone)


@pytest.mark.parametrize("bad", [[0.5, 0.5, 0.5], [0.1, float("nan"), 0.3], [0.1]])
def test_an_undefined_correlation_is_none_and_never_nan(bad: list[float]) -> None:
    assert spearman([1.0, 2.0, 3.0][: len(bad)], bad) is None
    assert area_under_curve([True, False, True], [0.1, float("nan"), 0.2]) is None


def test_intervals_are_those_of_a_plain_bootstrap() -> None:
    """Compared with a loop over draws that ranks each one again."""
    from scipy.stats import spearmanr

    rng = np.random.default_rng(5)
    gold = rng.integers(0, 6, 120).astype(float)
    said = gold + rng.normal(0, 3, 120)
    groups = ["a"] * 80 + ["b"] * 40
    found = spearman_intervals(gold, said, groups)
    rows = [np.arange(80), np.arange(80, 120)]
    draws = [[rng.choice(r, len(r)) for r in rows] for _ in range(600)]
    plain = {
        "all": [spearmanr(gold[d := np.concatenate(two)], said[d]).statistic for two in draws],
        "mean": [np.mean([spearmanr(gold[d], said[d]).statistic for d in two]) for two in draws],
    }
    for metric, values in plain.items():
        assert found[metric] == pytest.approx(np.percentile(values, (2.5, 97.5)), abs=0.03)
    assert spearman_intervals(gold, said, [""] * 120).keys() == {"all"}

    positive = gold > 2
    aucs = [area_under_curve(positive[d], said[d]) for d in (rng.choice(120, 120) for _ in draws)]
    expected = np.percentile(np.array(aucs, float), (2.5, 97.5))
    assert auc_interval(positive, said) == pytest.approx(expected, abs=0.03)


def test_pairs_drawn_together_are_one_piece_of_evidence() -> None:
    rng = np.random.default_rng(6)
    gold, said = rng.normal(size=(2, 100))
    alone = spearman_intervals(gold, said, [""] * 100)["all"]
    doubled = (np.repeat(side, 2) for side in (gold, said))
    twice = spearman_intervals(*doubled, [""] * 200, together=2)["all"]
    assert twice == pytest.approx(alone, abs=1e-9)


def test_what_has_no_score_has_no_interval() -> None:
    same = np.ones(5)
    assert spearman_intervals(same, np.arange(5.0), [""] * 5) == {}
    assert auc_interval(same > 0, np.arange(5.0)) == ()
