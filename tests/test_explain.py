from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from mirror_rt.bundle import Bundle
from mirror_rt.knowledge import KnowledgeBase
from mirror_rt.knowledge.ranking.features import FEATURES
from mirror_rt.knowledge.explain import explain
from mirror_rt.knowledge.text.normalize import normalize
from mirror_rt.types import NilReason
from tests.kb import HEARTS, LetterEncoder, entity, fake_bundle

if TYPE_CHECKING:
    from mirror_rt.types import Float32

VARIANTS = [f"septal defect variant {i}" for i in range(150)]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return fake_bundle(tmp_path_factory.mktemp("bundle") / "bundle")


@pytest.fixture(scope="module")
def kb(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> KnowledgeBase:
    out = tmp_path_factory.mktemp("kb") / "kb"
    things = [*HEARTS, entity("V", VARIANTS[0], *VARIANTS[1:]), entity("Q", "???")]
    made = KnowledgeBase.build(bundle, things, out, encoder=LetterEncoder())
    made.combination = replace(made.combination, by_name=0.98)  # more than any slip of a name has
    return made


def test_a_reading_that_links_to_nothing_has_its_own_rivals(kb: KnowledgeBase) -> None:
    mentions = ["liver cancer, short statue", "SH"]
    both, short = explain(
        kb,
        mentions,
        document="She had a short height (SH).",
        split_composites=True,
        min_probability=0.979,
        top=1,
    )
    assert [e.candidate.expanded_form for e in both if not e.rival] == ["liver cancer"]
    assert both.nil_reason is short.nil_reason is NilReason.BELOW_THRESHOLD
    rivals = [e.candidate for e in both if e.rival and e.candidate.expanded_form == "short statue"]
    assert (len(rivals), rivals[0].entity_id) == (3, "H:3")
    assert {(e.rival, e.candidate.expanded_form) for e in short} == {(True, "short height")}


def test_every_candidate_has_its_evidence_even_behind_an_entity_of_many_names(
    kb: KnowledgeBase,
) -> None:
    for mention in ("septal defect variants", "???"):
        linked = kb.link([mention], top=3)[0]
        (told,) = explain(kb, [mention], top=3)
        assert [e.candidate.entity_id for e in told if not e.rival] == [c.entity_id for c in linked]
        for one in told:
            assert list(one.evidence) == list(one.weighed) == list(FEATURES)
            assert min(one.rank_by_vectors, one.rank_by_letters, one.rank_without_context) >= 1


def test_types_restrict_what_is_explained(kb: KnowledgeBase) -> None:
    (told,) = explain(kb, ["liver cancer"], filters={"type": ["growth"]})
    assert {e.candidate.entity_id for e in told} == {"H:3"}


class Fickle(LetterEncoder):
    """As an int8 bundle, more so: a vector depends on the texts beside it."""

    def encode(self, texts: Sequence[str]) -> "Float32":
        """Return (N, D) float32 unit rows, turned by the number of texts."""
        return np.roll(super().encode(texts), len(texts) - 1, axis=1)


def test_a_candidate_that_only_its_batch_found_is_explained(bundle: Bundle, tmp_path: Path) -> None:
    names = [f"{word} {i}" for i in range(9) for word in ("heart", "lung")]
    things = [entity(f"N:{name}", name) for name in names]
    KnowledgeBase.build(bundle, things, tmp_path / "kb", encoder=LetterEncoder()).close()
    with KnowledgeBase.open(tmp_path / "kb", encoder=Fickle()) as kb:
        mentions, contexts = ["hearts", "lungs"], ["", "in the chest"]
        linked = kb.link(mentions, contexts=contexts)
        assert {c.entity_id for c in linked[0]} != {c.entity_id for c in kb.link(mentions)[0]}
        told = explain(kb, mentions, contexts=contexts)
    for found, reasons in zip(linked, told, strict=True):
        assert [e.candidate for e in reasons if not e.rival] == found


def test_ranks_evidence_and_weights_are_those_of_brute_force(
    bundle: Bundle, tmp_path: Path
) -> None:
    mention = "autism, liver and holes of short statures"
    with KnowledgeBase.build(bundle, HEARTS, tmp_path / "kb", encoder=LetterEncoder()) as kb:
        (told,) = explain(kb, [mention], top=5)
        texts, learned = kb.resources.catalogue.texts(), kb.resources.reranker
        dense_N = kb.resources.retrievers.vectors.vectors_ND.astype(np.float32) @ LetterEncoder().encode([mention])[0]
        letters_N = kb.resources.retrievers.trigrams.cosines(normalize(mention), [normalize(text) for text in texts])
    own = {thing.id: [texts.index(name.text) for name in thing.names] for thing in HEARTS}
    by_vectors, by_letters = (
        {id_: max(scores_N[rows].tolist()) for id_, rows in own.items()}
        for scores_N in (dense_N, letters_N)
    )
    assert min(by_letters.values()) > 0, "or their order would be open"

    def place(id_: str, best: dict[str, float]) -> int:
        return 1 + sum(score > best[id_] + 1e-6 for score in best.values())

    assert sorted(e.candidate.entity_id for e in told) == sorted(own)
    for one in told:
        id_, row = one.candidate.entity_id, texts.index(one.candidate.matched_name)
        assert one.rank_by_vectors == place(id_, by_vectors)
        assert one.rank_by_letters == place(id_, by_letters)
        assert one.evidence["dense"] == pytest.approx(dense_N[row], abs=1e-3)
        assert one.evidence["letters"] == pytest.approx(letters_N[row], abs=1e-3)
        for name in FEATURES:
            weighed = one.evidence[name] * learned.weights[name]
            assert one.weighed[name] == pytest.approx(weighed, abs=1e-3)
    sums = np.array([sum(one.weighed.values()) for one in told], dtype=np.float32)
    assert (np.diff(sums) <= 1e-3).all()
    expected = learned.probabilities(sums, np.arange(len(sums)) == 0).tolist()
    assert [e.candidate.probability for e in told] == pytest.approx(expected, abs=1e-3)


def test_rivals_are_as_likely_as_link_says(tmp_path: Path) -> None:
    """Also beside an entity of so many names that they fill every door."""
    ends = (f"{a}{b}{c}" for a in "bdfgkl" for b in "aeiou" for c in "mnprst")
    flood = entity("M:1", *(f"river blindness of the upper bank {end}" for end in ends))
    bundle, mention = fake_bundle(tmp_path / "bundle"), "river blindnes of the upper bank"
    with KnowledgeBase.build(
        bundle, [flood, *HEARTS], tmp_path / "kb", encoder=LetterEncoder()
    ) as kb:
        (linked,) = kb.link([mention], top=4)
        (told,) = explain(kb, [mention], top=1)
        (nothing,) = explain(kb, [mention], top=1, min_probability=1.0)
    assert [one.candidate for one in told] == linked
    assert [one.rival for one in told] == [False, True, True, True]
    assert [one.candidate for one in nothing] == linked[:3]
