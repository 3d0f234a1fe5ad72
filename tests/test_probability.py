"""Probabilities: of exact matches, of very different names, and of small calibrations."""

from __future__ import annotations

import random
import string
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mirror_rt.errors import InputError
from mirror_rt.knowledge import KnowledgeBase
from mirror_rt.knowledge.ranking.name_probability import EXACT_MATCH_FEATURES, exact_match_features
from mirror_rt.knowledge.ranking.reranker import Reranker
from mirror_rt.knowledge.storage.manifest import RERANKER
from mirror_rt.knowledge.text.match_levels import token_bag_key
from mirror_rt.types import LinkResult
from tests.kb import HEARTS, LetterEncoder, entity, fake_bundle

MANY = [
    entity(f"N:{i}", f"disorder of the {word} number {i}", f"{word} alias {i}")
    for i, word in enumerate(["kidney", "liver", "spleen", "lung", "bone", "hand"] * 10)
]
SHORT = [entity("S:1", "DM", "diabetes mellitus of adults"), entity("S:2", "myotonic dystrophy")]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kb")
    things = [*HEARTS, *MANY, *SHORT]
    bundle = fake_bundle(folder / "bundle")
    with KnowledgeBase.build(bundle, things, folder / "kb", encoder=LetterEncoder()) as kb:
        return kb.path


@pytest.fixture
def kb(built: Path) -> KnowledgeBase:
    made = KnowledgeBase.open(built, encoder=LetterEncoder())
    made._resources = replace(made.resources, reranker=made.resources.reranker.uncalibrated())
    return made


def _sure(found: LinkResult) -> float:
    return sum(c.probability or 0.0 for c in found if c is found[0] or c.tied)


def _gibberish(count: int, seed: int = 3) -> list[str]:
    draw = random.Random(seed)

    def word() -> str:
        return "".join(draw.choice(string.ascii_lowercase) for _ in range(draw.randint(7, 11)))

    return [f"{word()} {word()}" for _ in range(count)]


def test_what_is_known_of_a_name_is_what_its_string_says(kb: KnowledgeBase) -> None:
    names = kb.resources.names
    rows = np.arange(len(names))
    texts = names.texts(rows)
    keys = [token_bag_key(text).split() for text in texts]
    bearing = {word: sum(k.count(word) for k in keys) for key in keys for word in key}
    for text, key, found in zip(texts, keys, exact_match_features(names, rows), strict=True):
        rarest = min(bearing[word] for word in key)
        assert found.tolist() == pytest.approx(
            [np.log(len(text)), float(len(text) <= 5 and " " not in text),
             np.log(rarest / len(names))]
        )  # fmt: skip


def test_a_short_name_is_less_sure_than_a_long_one(kb: KnowledgeBase) -> None:
    short, long = kb.link(["DM", "diabetes mellitus of adults"])
    assert 0.3 < _sure(short) < _sure(long) - 0.05 < 0.95


@given(
    st.tuples(*[st.floats(0.0, 6.0), st.sampled_from([0.0, 1.0]), st.floats(-12.0, 0.0)]),
    st.tuples(*[st.floats(0.0, 2.0), st.floats(-3.0, 0.0)]),
)
def test_no_weight_of_a_name_has_the_wrong_sign(
    name: tuple[float, float, float], change: tuple[float, float]
) -> None:
    length, _, share = name
    better = (length + change[0], 0.0, share + change[1])
    worse_p, better_p = Reranker().name_probability(np.array([name, better]))
    assert better_p >= worse_p
    assert tuple(Reranker().name_weights) == (*EXACT_MATCH_FEATURES, "constant")


@settings(max_examples=30)
@given(st.sampled_from([n.text for e in [*HEARTS, *MANY, *SHORT] for n in e.names]),
       st.sampled_from(["{}s", "the {}", "{} of it", "a {}"]))  # fmt: skip
def test_a_name_is_never_less_sure_than_what_is_like_it(
    built: Path, name: str, written: str
) -> None:
    with KnowledgeBase.open(built, encoder=LetterEncoder()) as kb:
        exact, like = kb.link([name, written.format(name)])
    sure_of = {c.entity_id: c.probability or 0.0 for c in exact}
    for candidate in like:
        if candidate.matched_name == name and not like[0].match_type.is_exact:
            assert (candidate.probability or 0.0) <= sure_of[candidate.entity_id] + 1e-9


def _gold(kb: KnowledgeBase, kind: str) -> list[tuple[str, frozenset[str]]]:
    right = [(f"disordr of the {e.names[0].text[16:]}", frozenset({e.id})) for e in MANY]
    match kind:
        case "all right":
            return right[:50]
        case "all wrong":
            return [(mention, frozenset({"H:1"})) for mention, _ in right[:50]]
        case "contradicting":
            return [*right[:30], *((mention, frozenset({"H:1"})) for mention, _ in right[:30])]
        case "equal":
            return right[:1] * 60
        case _:
            return [*right[:40], *((f"nothing {i} alike", frozenset[str]()) for i in range(20))]


KINDS = ["all right", "all wrong", "contradicting", "equal", "mixed"]


@pytest.mark.parametrize("kind", KINDS)
def test_random_letters_stay_near_0_whatever_a_calibration_learned(
    kb: KnowledgeBase, kind: str
) -> None:
    before = [_sure(found) for found in kb.link(_gibberish(40))]
    kb.calibrate(_gold(kb, kind))
    after = [_sure(found) for found in kb.link(_gibberish(40))]
    assert np.quantile(before, 0.95) < 0.1
    assert np.quantile(after, 0.95) < 0.1


@pytest.mark.parametrize("kind", KINDS)
def test_a_calibration_is_never_worse_on_what_it_did_not_see(kb: KnowledgeBase, kind: str) -> None:
    gold = _gold(kb, kind)
    mentions = [mention for mention, _ in gold]
    before = [_sure(found) for found in kb.link(mentions)]
    found = kb.calibrate(gold)
    assert found.ece_after <= found.ece_before
    if found.kept:
        assert found.log_loss_fitted < found.log_loss_before
        assert found.ece_fitted <= found.ece_before
    assert found.ece_after == (found.ece_fitted if found.kept else found.ece_before)
    if not found.kept:
        assert [_sure(one) for one in kb.link(mentions)] == pytest.approx(before)
    for one in kb.link(mentions):
        assert 0.0 < _sure(one) < 1.0
    if kind == "equal":
        assert not found.kept, "one mention cannot be held out from itself"


def test_few_without_entity_are_reported(kb: KnowledgeBase) -> None:
    assert kb.calibrate(_gold(kb, "all right"), dry_run=True).has_few_nil
    mixed = kb.calibrate(_gold(kb, "mixed"), dry_run=True)
    assert (mixed.without_entity, mixed.has_few_nil) == (20, False)


def test_a_dry_run_changes_nothing(kb: KnowledgeBase) -> None:
    gold = _gold(kb, "mixed")
    numbers, reranker = (kb.path / RERANKER).read_bytes(), kb.resources.reranker
    output = kb.calibrate(gold, dry_run=True)
    assert (kb.path / RERANKER).read_bytes() == numbers
    assert kb.resources.reranker is reranker
    assert kb.calibrate(gold) == output


def test_ten_links_are_too_few(kb: KnowledgeBase) -> None:
    with pytest.raises(InputError):
        kb.calibrate(_gold(kb, "mixed")[:10])
