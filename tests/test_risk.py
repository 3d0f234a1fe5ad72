"""A guaranteed share of wrong links holds as often as promised."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror_rt.errors import ConfigError, InputError
from mirror_rt.knowledge import KnowledgeBase
from mirror_rt.knowledge.ranking.risk import _at_most, risk_counts, safe_threshold
from mirror_rt.types import LinkStatus
from tests.kb import HEARTS, LetterEncoder, entity, fake_bundle

TRUTHS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "as said": lambda p: p,
    "half as sure": lambda p: p**2,
    "sure of the wrong ones": lambda p: 1 - p / 5,
    "all a little too often wrong": lambda p: np.full_like(p, 0.94),
    "right from some on": lambda p: np.where(p > 0.7, 0.97, 0.5),
}


@pytest.mark.parametrize("truth", TRUTHS)
@pytest.mark.parametrize("links", [150, 1_500])
def test_more_than_the_share_is_wrong_as_rarely_as_promised(truth: str, links: int) -> None:
    rng = np.random.default_rng(0)
    everything = np.round(rng.beta(2, 1, 20_000), 3)
    right = TRUTHS[truth](everything)
    broken, draws = 0, 200
    for _ in range(draws):
        p = rng.choice(everything, links)
        hit = rng.random(links) < TRUTHS[truth](p)
        least = safe_threshold(risk_counts(p, hit), 0.05, error=0.05)
        if least is not None:
            broken += float(1 - right[everything >= least].mean()) > 0.05
    assert broken / draws <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / draws)


def test_with_enough_links_most_of_what_is_safe_is_linked() -> None:
    rng = np.random.default_rng(1)
    covered = []
    for _ in range(50):
        p = rng.random(3_000)
        hit = rng.random(3_000) < np.where(p > 0.5, 0.98, 0.3)
        least = safe_threshold(risk_counts(p, hit), 0.05, error=0.05)
        covered.append(0.0 if least is None else float((p >= least).mean()))
    # Half is safe, and the wrong ones among the next few hundredths hardly change the share.
    assert np.mean(covered) > 0.4
    assert max(covered) < 0.56


@given(st.integers(0, 60), st.integers(0, 60), st.floats(0.01, 0.99))
def test_the_binomial_tail_is_the_sum_of_its_terms(wrong: int, more: int, share: float) -> None:
    links = wrong + more
    terms = (math.comb(links, k) * share**k * (1 - share) ** (links - k) for k in range(wrong + 1))
    assert _at_most(wrong, links, share) == pytest.approx(math.fsum(terms), abs=1e-9)


@given(st.lists(st.tuples(st.sampled_from([0.1, 0.5, 0.50001, 0.9, 1.0]), st.booleans())))
def test_counts_are_of_all_links_at_or_above(links: list[tuple[float, bool]]) -> None:
    p = np.array([one for one, _ in links])
    hit = np.array([right for _, right in links], dtype=bool)
    for threshold, count, wrong in risk_counts(p, hit):
        above = p >= threshold
        assert (count, wrong) == (int(above.sum()), int((~hit[above]).sum()))


def test_no_links_promise_nothing() -> None:
    nothing = np.zeros(0)
    assert safe_threshold(risk_counts(nothing, nothing.astype(bool)), 0.5, error=0.05) is None


MANY = [entity(f"N:{i}", f"name of number {i}", f"alias {i} of it") for i in range(300)]


@pytest.fixture
def kb(tmp_path: Path) -> KnowledgeBase:
    bundle = fake_bundle(tmp_path / "bundle")
    return KnowledgeBase.build(bundle, [*HEARTS, *MANY], tmp_path / "kb", encoder=LetterEncoder())


def test_links_kept_apart_make_the_promise(kb: KnowledgeBase) -> None:
    gold = [(f"name of number {i}", frozenset({f"N:{i}"})) for i in range(300)]
    gold += [(f"nothing of {i} here", frozenset[str]()) for i in range(40)]
    with pytest.raises(ConfigError):
        kb.link(["x"], wrong_at_most=0.05)
    output = kb.calibrate(gold, reserve=0.5)
    assert (output.links, output.reserved) == (170, 170)
    found = kb.link([mention for mention, _ in gold], wrong_at_most=0.05)
    linked = [
        one[0].entity_id in ids
        for one, (_, ids) in zip(found, gold, strict=True)
        if one.status is LinkStatus.LINKED
    ]
    assert len(linked) > 200
    assert np.mean(linked) >= 0.95
    reopened = KnowledgeBase.open(kb.path, encoder=LetterEncoder())
    assert reopened.link(["name of number 3"], wrong_at_most=0.05) == kb.link(
        ["name of number 3"], wrong_at_most=0.05
    )
    for share in (0.0, 1.0, -1.0, 1e-4):
        with pytest.raises(ConfigError):
            kb.link(["x"], wrong_at_most=share)
    # If all links were used to calibrate, none is left for the guarantee.
    kb.calibrate(gold)
    with pytest.raises(ConfigError):
        kb.link(["x"], wrong_at_most=0.05)


def test_what_is_fitted_never_sees_what_is_kept_apart(kb: KnowledgeBase) -> None:
    gold = [(f"name of numbr {i}", frozenset({f"N:{i}"})) for i in range(60)]
    kb.calibrate(gold, reserve=0.5)
    reranker = kb.resources.reranker
    assert reranker.fitted_on["gold_links"] == 30
    assert reranker.risk_counts[-1][1] <= 30


@pytest.mark.parametrize("reserve", [-0.1, 1.0, 2.0])
def test_a_reserve_out_of_range_is_refused(kb: KnowledgeBase, reserve: float) -> None:
    with pytest.raises(ConfigError):
        kb.calibrate([("a", frozenset({"N:1"}))] * 30, reserve=reserve)


def test_a_reserve_that_leaves_too_few_is_refused(kb: KnowledgeBase) -> None:
    gold = [(f"name of numbr {i}", frozenset({f"N:{i}"})) for i in range(30)]
    with pytest.raises(InputError):
        kb.calibrate(gold, reserve=0.9)
