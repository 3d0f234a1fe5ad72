"""Transfer: logistic regression on frozen vectors (SentEval's tasks, tweets).

Source: SentEval (Conneau and Kiela 2018): ten folds where there is no split, the strength of
regularization chosen on the dev part or on a tenth of the training part; a pair is |u − v|, u·v.
Axes: N items, D features.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from mirror_rt._extras import require
from mirror_rt.errors import InputError
from mirror_rt.evaluation.baselines import CharNgrams
from mirror_rt.evaluation.metrics import accuracy, f1, finite, macro_f1
from mirror_rt.evaluation.tables import Pair
from mirror_rt.types import Embedder

if TYPE_CHECKING:
    import numpy.typing as npt

    from mirror_rt.types import Float32

__all__ = ["STRENGTHS", "features", "fit_and_predict", "score_folds", "score_split"]

STRENGTHS = (0.25, 1.0, 4.0, 16.0, 64.0)
"""Inverse regularization strengths tried. Rows have length 1, so the useful ones are large."""


def features(embedder: Embedder, items: Sequence[Pair]) -> Float32:
    """Return (N, D) float32 features: the text's vector, or |u − v| and u·v of a pair.

    Raises:
        ModelError: A vector is not finite.
    """
    paired = any(item.right for item in items)
    both_sides = [i.left for i in items] + [i.right for i in items if paired]
    texts = list(dict.fromkeys(both_sides))
    if isinstance(embedder, CharNgrams):
        embedder = embedder.fitted(texts)
    vectors_ND = finite(embedder.encode(texts))
    row = {text: i for i, text in enumerate(texts)}
    left_ND = vectors_ND[[row[item.left] for item in items]]
    if not paired:
        return left_ND
    right_ND = vectors_ND[[row[item.right] for item in items]]
    both: Float32 = np.concatenate([np.abs(left_ND - right_ND), left_ND * right_ND], axis=1)
    return both


def fit_and_predict(
    train_ND: Float32,
    train: Sequence[str],
    test_ND: Float32,
    *,
    dev: tuple[Float32, Sequence[str]] | None = None,
    seed: int = 0,
) -> list[str]:
    """Fit on the training part and predict the test part's labels.

    Args:
        train_ND: (N, D) float32.
        train: N labels.
        test_ND: (M, D) float32.
        dev: Features and labels that choose the strength of regularization; None takes a tenth
            of the training part, then fits again on all of it.
        seed: Chooses that tenth.

    Raises:
        MissingExtraError: scikit-learn is not installed.
        InputError: The training part has a single label.
    """
    require("sklearn", extra="evaluate")
    labels = np.array(train)
    if len(set(train)) < 2:
        raise InputError("transfer: the training part has one label only; nothing to learn")
    if dev is None:
        rows = np.random.default_rng(seed).permutation(len(train))
        held, rest = np.split(rows, [max(1, len(rows) // 10)])
        held_ND, held_labels = train_ND[held], labels[held].tolist()
    else:
        rest = np.arange(len(train))
        held_ND, held_labels = dev[0], list(dev[1])
    best = STRENGTHS[0]
    if len(set(labels[rest].tolist())) > 1:
        guesses = {c: _fitted(train_ND[rest], labels[rest], held_ND, c) for c in STRENGTHS}
        best = max(guesses, key=lambda c: (accuracy(held_labels, guesses[c]), -c))
    return _fitted(train_ND, labels, test_ND, best)


def _fitted(
    train_ND: Float32, labels: npt.NDArray[np.str_], test_ND: Float32, strength: float
) -> list[str]:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    with warnings.catch_warnings():
        # A fit stopped at 200 steps predicts as well as a finished one; it is not news.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = LogisticRegression(C=strength, max_iter=200).fit(train_ND, labels)
    return [str(label) for label in model.predict(test_ND)]


def score_split(
    embedder: Embedder,
    train: Sequence[Pair],
    test: Sequence[Pair],
    dev: Sequence[Pair] | None = None,
    *,
    seed: int = 0,
) -> Mapping[str, float | None]:
    """Score a task with a training and a test part: accuracy, macro F1, and F1 of label ``1``."""
    parts = [*train, *(dev or ()), *test]
    all_ND = features(embedder, parts)
    first, last = len(train), len(train) + len(dev or ())
    held = (all_ND[first:last], [p.label for p in dev]) if dev else None
    truth = [p.label for p in test]
    guessed = fit_and_predict(
        all_ND[:first], [p.label for p in train], all_ND[last:], dev=held, seed=seed
    )
    return _scores(truth, guessed)


def score_folds(
    embedder: Embedder, items: Sequence[Pair], *, folds: int = 10, seed: int = 0
) -> Mapping[str, float | None]:
    """Score a task without a split by cross-validation: every item is predicted once."""
    all_ND = features(embedder, items)
    labels = [item.label for item in items]
    order = np.random.default_rng(seed).permutation(len(items))
    guessed = [""] * len(items)
    for fold in range(min(folds, len(items))):
        test = order[fold::folds]
        rest = np.setdiff1d(order, test)
        predicted = fit_and_predict(
            all_ND[rest], [labels[i] for i in rest], all_ND[test], seed=seed
        )
        for i, label in zip(test.tolist(), predicted, strict=True):
            guessed[i] = label
    return _scores(labels, guessed)


def _scores(truth: Sequence[str], guessed: Sequence[str]) -> Mapping[str, float | None]:
    scores: dict[str, float | None] = {
        "accuracy": accuracy(truth, guessed),
        "macro f1": macro_f1(truth, guessed),
    }
    if {*truth} == {"0", "1"}:
        scores["f1"] = f1(truth, guessed, "1")
    return scores
