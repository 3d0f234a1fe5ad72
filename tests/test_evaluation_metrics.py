"""Scores against scipy and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mirror_rt.evaluation.metrics import (
    accuracy,
    area_under_curve,
    average_ranks,
    f1,
    macro_f1,
    spearman,
)

# Few different values: ties are frequent.
VALUES = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=3, max_size=40)


@settings(deadline=None)  # the first example imports scipy or scikit-learn
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


@settings(deadline=None)  # the first example imports scipy or scikit-learn
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
