from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rapidfuzz.distance import DamerauLevenshtein
from scipy.optimize import minimize
from scipy.special import expit, logsumexp, softmax
from sklearn.linear_model import LogisticRegression

from mirror_rt.errors import ConfigError
from mirror_rt.knowledge import KnowledgeBase
from mirror_rt.knowledge.ranking import samples as samples_module
from mirror_rt.knowledge.ranking.features import FEATURES, SIGNS
from mirror_rt.knowledge.ranking.learning import (
    Outcomes,
    calibration_targets,
    fit,
    fit_confidence,
    precision_curve,
)
from mirror_rt.knowledge.ranking.reranker import CONFIDENCE_FEATURES, Reranker
from mirror_rt.knowledge.ranking.samples import Samples, held_out_names, held_out_samples, misspell
from mirror_rt.knowledge.ranking.weights import BUILT_IN, FittedWeights, fit_weights, likeliest
from tests.kb import LetterEncoder, drawn_samples, entity, fake_bundle

TRUE = dict.fromkeys(FEATURES, 0.0) | {
    "dense_cosine": 8.0, "trigram_cosine": 3.0, "number_mismatch": -2.0,
    "translation_forward": 1.0, "translation_backward": 0.5,
}  # fmt: skip


def _prior(curvature: float = 0.0) -> FittedWeights:
    """Return the built-in weights with a prior that is equal in each direction."""
    eye_FF = np.eye(len(FEATURES))
    return replace(FittedWeights.built_in(), features=FEATURES, curvature_FF=curvature * eye_FF)


def test_it_finds_the_numbers_that_the_links_were_drawn_with() -> None:
    truth = Reranker(weights=TRUE, nil_score=8.0)
    fitted = fit(drawn_samples(6_000, seed=1, truth=truth), prior=_prior())
    for name in FEATURES:
        assert fitted.weights[name] == pytest.approx(TRUE[name], abs=0.7)
    assert fitted.nil_score == pytest.approx(8.0, abs=0.8)


WRONG = {
    name: -3.0 * SIGNS[name] if i % 2 else 3.0 * SIGNS[name] for i, name in enumerate(FEATURES)
}


@pytest.mark.parametrize("mentions", [20.0, 300.0])
@pytest.mark.parametrize("weights", [TRUE, WRONG])
def test_weights_are_those_that_a_general_optimizer_finds_within_their_signs(
    weights: dict[str, float], mentions: float
) -> None:
    samples = drawn_samples(80, seed=5, truth=Reranker(weights=weights, nil_score=4.0))
    rng = np.random.default_rng(1)
    half = rng.normal(size=(len(FEATURES), len(FEATURES)))
    prior = replace(_prior(), curvature_FF=half @ half.T / 50)
    heavy = rng.random(80) + 0.5
    fitted = fit_weights(samples, prior, prior_strength=mentions, sample_weight_S=heavy)
    for name in FEATURES:
        assert fitted.weights[name] * SIGNS[name] >= 0
    groups = [slice(*pair) for pair in pairwise(samples.offsets.tolist())]
    known = [i for i, mine in enumerate(groups) if samples.right_P[mine].any()]
    whole = heavy[known].sum()
    l2 = mentions / whole * prior.curvature_FF + 1e-3 * np.eye(len(FEATURES))

    def loss(w: np.ndarray) -> float:
        value = 0.0
        for i in known:
            scores = samples.features_PF[groups[i]].astype(np.float64) @ w
            right = scores[samples.right_P[groups[i]]]
            value += heavy[i] / whole * (logsumexp(scores) - logsumexp(right))
        return float(value + 0.5 * (w - prior.weights_F) @ l2 @ (w - prior.weights_F))

    bounds = [(0, None) if SIGNS[name] > 0 else (None, 0) for name in FEATURES]
    start = np.clip(prior.weights_F, *np.array([(a if a is not None else -9, b if b is not None
                                                 else 9) for a, b in bounds]).T)  # fmt: skip
    peer = minimize(loss, start, method="L-BFGS-B", bounds=bounds, options={"maxiter": 2_000})
    mine = fitted.weights_F
    assert loss(mine) <= peer.fun + 1e-7
    assert mine == pytest.approx(peer.x, abs=0.05)


def test_an_entity_counts_by_the_name_that_scores_best() -> None:
    """Names of one entity beside its best one change nothing."""
    samples = drawn_samples(200, seed=3, truth=Reranker(weights=TRUE, nil_score=4.0))
    doubled = np.repeat(np.arange(len(samples.right_P)), 2)
    poor = samples.features_PF[doubled]
    poor[1::2] = np.where([SIGNS[name] > 0 for name in FEATURES], 0, 2)
    twice = Samples(
        offsets=2 * samples.offsets,
        features_PF=poor,
        right_P=samples.right_P[doubled],
        entity_P=samples.entity_P[doubled],
        name_P=np.arange(len(doubled)),
        names_P3=samples.names_P3[doubled],
    )
    one, two = (fit_weights(s, _prior(), prior_strength=0.0) for s in (samples, twice))
    assert two.weights_F == pytest.approx(one.weights_F, abs=1e-4)
    assert two.nil_score == pytest.approx(one.nil_score, abs=1e-4)


def test_nil_is_right_as_often_as_it_was() -> None:
    samples = drawn_samples(3_000, seed=3, truth=Reranker(weights=TRUE, nil_score=8.0))
    fitted = fit_weights(samples, _prior(), prior_strength=0.0)
    scores = samples.features_PF.astype(np.float64) @ fitted.weights_F
    nil = [
        softmax(np.append(scores[first:last], fitted.nil_score))[-1]
        for first, last in pairwise(samples.offsets.tolist())
    ]
    right = np.bincount(samples.sample_P, samples.right_P, minlength=len(samples)) > 0
    assert np.mean(nil) == pytest.approx((~right).mean(), abs=1e-3)


def test_a_strong_prior_holds_the_weights_where_mentions_care() -> None:
    samples = drawn_samples(400, seed=2, truth=Reranker(weights=WRONG, nil_score=4.0))
    curvature = np.zeros(len(FEATURES))
    curvature[0] = 1e6
    prior = replace(_prior(), curvature_FF=np.diag(curvature))
    held = fit_weights(samples, prior, prior_strength=1_000.0)
    assert held.weights[FEATURES[0]] == pytest.approx(prior.weights[FEATURES[0]], abs=1e-3)
    assert np.abs(held.weights_F[1:] - prior.weights_F[1:]).max() > 0.5


@pytest.mark.parametrize("name", BUILT_IN)
def test_the_built_in_weights_are_of_the_features_and_have_their_signs(name: str) -> None:
    prior = FittedWeights.built_in(name)
    assert prior.name == name
    assert {*prior.weights} == {*FEATURES} == {*SIGNS}
    assert all(prior.weights[name] * SIGNS[name] >= 0 for name in FEATURES)
    assert prior.weights["dense_cosine"] > 1
    np.testing.assert_allclose(prior.curvature_FF, prior.curvature_FF.T, atol=1e-6)
    assert np.linalg.eigvalsh(prior.curvature_FF).min() > -1e-6
    scores = [Reranker.of(prior).scores(np.eye(len(FEATURES), dtype=np.float32))]
    assert [*scores[0]] == pytest.approx(prior.weights_F, rel=1e-6)


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_knowledge_base_takes_the_built_in_weights_its_names_are_drawn_from(name: str) -> None:
    priors = [*map(FittedWeights.built_in, BUILT_IN)]
    truth = Reranker.of(FittedWeights.built_in(name))
    samples = drawn_samples(400, seed=3, truth=truth)
    losses = {}
    for prior in priors:
        scores_P = Reranker.of(prior).scores(samples.features_PF).astype(np.float64)
        loss = 0.0
        for sample in range(len(samples)):
            mine = slice(*samples.offsets[sample : sample + 2])
            best: dict[int, float] = {}
            right: set[int] = set()
            for one, score, is_right in zip(
                samples.entity_P[mine], scores_P[mine], samples.right_P[mine], strict=True
            ):
                best[one] = max(best.get(one, -np.inf), score)
                right |= {one} if is_right else set()
            if right:
                masses = {e: np.exp(score) for e, score in best.items()}
                loss -= np.log(sum(masses[e] for e in right) / sum(masses.values()))
        losses[prior.name] = loss
    assert likeliest(samples, priors).name == min(losses, key=losses.__getitem__) == name
    assert fit(samples).fitted_on["prior"] == name


def test_its_probabilities_are_those_of_being_right() -> None:
    truth = Reranker(weights=TRUE, nil_score=8.0)
    fitted = fit(drawn_samples(4_000, seed=1, truth=truth), prior=_prior())
    found = calibration_targets(drawn_samples(4_000, seed=2, truth=truth), fitted)
    p, hit = fitted.top1_probability(found.confidence_S3), found.hit_S
    for low in (0.0, 0.3, 0.6):
        inside = (p >= low) & (p < low + 0.3)
        assert p[inside].mean() == pytest.approx(hit[inside].mean(), abs=0.06)


def test_thresholds_are_learned_from_probabilities_with_their_cap() -> None:
    """An exact match with any of these names has a probability of at most one half."""
    truth = Reranker(weights=TRUE, nil_score=4.0)
    samples = drawn_samples(2_000, seed=1, truth=truth)
    free = fit(samples, prior=_prior())
    capped = fit(
        replace(samples, names_P3=np.tile([1.5, 1.0, -4.0], (len(samples.name_P), 1))),
        prior=_prior(),
    )
    (cap,) = capped.name_probability(np.array([[1.5, 1.0, -4.0]]))
    assert max(low for low, _ in capped.precision_curve) <= cap < 0.8
    assert max(low for low, _ in free.precision_curve) > cap
    assert capped.top1_weights == free.top1_weights


def test_the_confidence_of_entities_of_one_name_is_theirs_together() -> None:
    reranker = Reranker(weights=TRUE, nil_score=3.0)
    features = np.random.default_rng(1).random((3, len(FEATURES))).astype(np.float32)
    features[1] = features[0]
    features[:, FEATURES.index("non_exact_synonym")] = [0, 1, 0]
    samples = Samples(
        offsets=np.array([0, 3]),
        features_PF=features,
        right_P=np.array([False, True, False]),
        entity_P=np.array([4, 7, 9]),
        name_P=np.array([0, 0, 1]),
        names_P3=np.zeros((3, 3)),
    )
    scores = reranker.scores(features)
    assert scores[0] > scores[2]
    found = calibration_targets(samples, reranker)
    assert found.hit_S.tolist() == found.in_candidates_S.tolist() == [True]
    p = reranker.probabilities(samples.offsets, scores, np.array([True, True, False]))
    assert reranker.top1_probability(found.confidence_S3) == pytest.approx([p[0] + p[1]])
    over_rest = logsumexp(scores[:2]) - logsumexp([scores[2], reranker.nil_score - 3])
    expected = [
        min(scores[0] - reranker.nil_score, 8),
        min(over_rest, 4),
        np.log1p(min(scores[0] - max(scores[2], reranker.nil_score - 3), 3)),
    ]
    assert found.confidence_S3[0] == pytest.approx(expected, rel=1e-4)


def _one(count: int) -> np.ndarray:
    """Return the offsets of the entities of one mention."""
    return np.array([0, count])


@given(
    scores=st.lists(st.floats(-300, 300, width=16), min_size=1, max_size=8),
    ties=st.sets(st.integers(0, 7)),
    nil=st.floats(-10, 10),
    raised=st.floats(0.1, 5),
)
def test_probabilities_go_by_the_scores(
    scores: list[float], ties: set[int], nil: float, raised: float
) -> None:
    reranker = Reranker(nil_score=nil)
    ranked = np.sort(np.array(scores, dtype=np.float32))[::-1]
    one, best = _one(len(ranked)), np.isin(np.arange(len(ranked)), [0, *ties])
    p = reranker.probabilities(one, ranked, best)
    confidence = reranker.confidence_features(one, ranked, best)
    (top1,), (inside,) = reranker.top1_probability(confidence), reranker.p_in_candidates(confidence)
    assert p[best].sum() == pytest.approx(top1)
    assert p.sum() <= inside + 1e-9
    assert (p >= 0).all()
    for group in (p[best], p[~best]):
        assert (np.diff(group) <= 1e-12).all()
    assert p.max() == p[0]
    higher = np.where(best, ranked + np.float32(raised), ranked)
    above = reranker.confidence_features(one, higher, best)
    assert reranker.top1_probability(above)[0] >= top1 - 1e-9


def test_what_the_best_leaves_is_shared_by_the_others() -> None:
    top1 = dict(zip([*CONFIDENCE_FEATURES[1:], "constant"], (0.7, 0.95, 0.0), strict=True))
    reranker = Reranker(nil_score=0.0, top1_weights=top1)
    scores, best = np.array([5.0, 4.0, 3.0, 3.0], dtype=np.float32), np.arange(4) < 1
    p = reranker.probabilities(_one(4), scores, best)
    confidence = reranker.confidence_features(_one(4), scores, best)
    left = reranker.p_in_candidates(confidence)[0] - p[0]
    assert p[1:] == pytest.approx(left * softmax([4.0, 3.0, 3.0]), rel=1e-5)
    # If two have almost the same score, neither is more probable, as if they were tied.
    near, tied = (
        reranker.probabilities(
            _one(2), np.array([5.0, second], dtype=np.float32), np.arange(2) < best
        )
        for second, best in ((4.9999, 1), (5.0, 2))
    )
    assert near[0] == pytest.approx(near[1], rel=1e-3)
    assert near.sum() <= tied.sum()


def test_confidence_features_have_bounds_and_nil_is_always_a_rival() -> None:
    reranker = Reranker(nil_score=0.0)

    def of(*scores: float) -> list[float]:
        ranked = np.array(scores, dtype=np.float32)
        best = np.arange(len(ranked)) == 0
        (found,) = reranker.confidence_features(_one(len(ranked)), ranked, best)
        values: list[float] = found.tolist()
        return values

    assert of(50, -50) == pytest.approx([8, 4, np.log(4)])
    assert of(-50, -51) == pytest.approx([-8, -4, 0])
    assert of(-1) == pytest.approx([-1, 2, np.log(3)])
    assert of(-4) == pytest.approx([-4, -1, 0])
    assert of() == [-8, -4, 0]


def test_a_few_links_change_nothing_and_order_does_not_matter() -> None:
    truth = Reranker(weights=TRUE, nil_score=8.0)
    few = drawn_samples(30, seed=1, truth=truth)
    assert fit(few) == Reranker()
    many = drawn_samples(200, seed=1, truth=truth)
    assert fit(many) == fit(many)


def test_every_sample_teaches() -> None:
    samples = drawn_samples(400, seed=1, truth=Reranker(weights=TRUE, nil_score=8.0))
    other = drawn_samples(400, seed=2, truth=Reranker(weights=TRUE, nil_score=8.0))
    both = Samples.joined([samples, other])
    for start in (0, 1):
        chosen = np.arange(400)
        chosen[start::2] += 400
        assert fit(both[chosen]).weights != fit(samples).weights


def test_chosen_samples_are_those_samples() -> None:
    samples = drawn_samples(30, seed=1, truth=Reranker(weights=TRUE, nil_score=8.0))
    chosen = samples[np.array([4, 0, 29])]
    assert len(chosen) == 3
    for k, i in enumerate((4, 0, 29)):
        mine, there = (
            slice(*of.offsets[n : n + 2].tolist()) for of, n in ((chosen, k), (samples, i))
        )
        assert (chosen.sample_P[mine] == k).all()
        for name in ("features_PF", "right_P", "entity_P", "name_P"):
            assert getattr(chosen, name)[mine].tolist() == getattr(samples, name)[there].tolist()


@given(text=st.text(alphabet="abcdeé漢 -12", max_size=30), seed=st.integers(0, 1_000))
def test_a_misspelled_text_is_two_letters_away_at_most(text: str, seed: int) -> None:
    slip = misspell(text, np.random.default_rng(seed))
    if sum(map(str.isalpha, text)) < 6:
        assert slip == ""
    else:
        assert DamerauLevenshtein.distance(text, slip) <= 2
        others = [[s for s in t if not s.isalpha()] for t in (text, slip)]
        assert others[0] == others[1]


def test_most_typos_differ_and_each_seed_has_its_own() -> None:
    slips = {misspell("nephritis of 2", np.random.default_rng(seed)) for seed in range(40)}
    assert len(slips - {"nephritis of 2"}) > 25


def test_some_names_are_also_linked_misspelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [f"{a}{b}itis" for a in ("card", "nephr", "gastr", "derm", "oste") for b in "aeiouylm"]
    entities = [entity(w, f"{w} of the heart", f"cardiac {w}") for w in words]
    bundle, encoder = fake_bundle(tmp_path / "bundle"), LetterEncoder()
    monkeypatch.setattr(samples_module, "_NIL_SHARE", 0.0)
    with KnowledgeBase.build(bundle, entities, tmp_path / "kb", encoder=encoder) as kb:
        rng, parts = np.random.default_rng(0), kb.resources
        pairs = held_out_names(parts.catalogue, parts.names, rng, count=40)
        samples = held_out_samples(
            pairs, parts.catalogue, parts.retrievers, parts.translation, encoder, rng
        )
        texts = parts.catalogue.texts_of([row for row, _ in pairs])
    assert len(pairs) == 40
    assert len(samples) == 42
    similarity = samples.features_PF[:, FEATURES.index("edit_similarity")]
    for k in (40, 41):
        requested = texts[pairs[k - 40][0]]
        right = similarity[(samples.sample_P == k) & samples.right_P].max()
        # The name itself is among the names, one or two letters away.
        assert 1 - 3 / len(requested) < right < 1


def _drawn(inside: tuple[float, ...], top1: tuple[float, ...], *, count: int = 5_000) -> Outcomes:
    rng = np.random.default_rng(3)
    confidence = 3 * rng.normal(size=(count, 3))
    in_candidates = rng.random(count) < expit(confidence @ np.array(inside[:3]) + inside[3])
    right = rng.random(count) < expit(confidence[:, 1:] @ np.array(top1[:2]) + top1[2])
    return Outcomes(
        confidence_S3=confidence,
        names_S3=np.zeros((count, 3)),
        similarity_S=np.ones(count),
        hit_S=in_candidates & right,
        in_candidates_S=in_candidates,
    )


def test_the_confidence_agrees_with_scikit_learn() -> None:
    found = _drawn((0.7, 0.3, 1.2, -0.4), (0.5, 0.9, -0.6))
    fitted = fit_confidence(found, start=Reranker())
    x, inside = found.confidence_S3, found.in_candidates_S
    probability = np.ones(len(x))
    for weights, first, rows, hit in (
        (fitted.in_candidates_weights, 0, slice(None), inside),
        (fitted.top1_weights, 1, inside, found.hit_S[inside]),
    ):
        peer = LogisticRegression(C=1e6).fit(x[rows, first:], hit)
        names = CONFIDENCE_FEATURES[first:]
        mine = np.array([weights[name] for name in names])
        assert mine == pytest.approx(peer.coef_[0], abs=0.01)
        assert weights["constant"] == pytest.approx(float(peer.intercept_[0]), abs=0.02)
        probability *= expit(x[:, first:] @ mine + weights["constant"])
    assert fitted.top1_probability(x) == pytest.approx(probability)


@pytest.mark.parametrize("count", [25, 400])
@pytest.mark.parametrize(
    "weights", [(0.7, -0.6, 1.2, -0.4), (-1, -1, -1, 2), (8, 9, -8, 0), (0, 0, 0, 9)]
)
def test_what_is_further_above_its_rivals_never_has_less_confidence(
    weights: tuple[float, ...], count: int
) -> None:
    """A general optimizer finds the same within these bounds."""
    found = _drawn(weights, weights[1:], count=count)
    start = Reranker()
    fitted = fit_confidence(found, start=start)
    hit, inside = found.hit_S, found.in_candidates_S
    inputs = np.append(found.confidence_S3, np.ones((count, 1)), axis=1)
    for mine, prior, given_, requested, most in (
        (fitted.in_candidates_weights, start.in_candidates_weights, inputs, inside, None),
        (fitted.top1_weights, start.top1_weights, inputs[inside, 1:], hit[inside], 0),
    ):
        x, before = given_, np.array([*prior.values()])
        right, wrong = int(requested.sum()), int((~requested).sum())
        target = np.where(requested, (right + 1) / (right + 2), 1 / (wrong + 2))  # Platt's

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
        with pytest.raises(ConfigError):
            reranker.threshold(nonsense)
    with pytest.raises(ConfigError):
        Reranker().threshold(0.9)


def test_links_of_one_probability_are_above_a_threshold_together() -> None:
    p = np.array([0.98] * 100 + [0.3] * 100)
    hit = np.array([True] * 10 + [False] * 90 + [True] * 100)  # the right ones are first
    assert precision_curve(p, hit) == ((0.3, 0.55), (0.98, 0.1))


def test_a_few_lucky_links_promise_nothing() -> None:
    p = np.append([0.99, 0.98], np.full(98, 0.5))
    hit = np.append([True, True], np.arange(98) % 2 == 0)
    assert precision_curve(p, hit) == ((0.5, 0.51),)
    assert precision_curve(p[:0], hit[:0]) == ()


def test_a_feature_that_a_set_leaves_out_keeps_the_weight_0() -> None:
    samples = drawn_samples(300, seed=4)
    left_out = FEATURES[3]
    prior = replace(_prior(), features=[name for name in FEATURES if name != left_out])
    without = fit_weights(
        samples, replace(prior, weights={**prior.weights, left_out: 0.0}), prior_strength=1
    )
    blank = samples.features_PF.copy()
    blank[:, 3] = 0.0
    never_there = fit_weights(replace(samples, features_PF=blank), _prior(), prior_strength=1)
    for name in FEATURES:
        expected = 0.0 if name == left_out else never_there.weights[name]
        assert without.weights[name] == pytest.approx(expected, abs=1e-3)
