import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from mirror_rt.bundle import Bundle
from mirror_rt.knowledge import KnowledgeBase
from mirror_rt.knowledge.arrays import to_float32
from mirror_rt.knowledge.ranking.features import FEATURES
from mirror_rt.knowledge.ranking.name_probability import exact_match_features
from mirror_rt.knowledge.text.normalize import normalize
from mirror_rt.types import NilReason
from tests.kb import HEARTS, LetterEncoder, entity, fake_bundle

if TYPE_CHECKING:
    from mirror_rt.types import Float32

VARIANTS = [f"septal defect variant {i}" for i in range(150)]


NO_NAME = {"log_length": 0.0, "short_word": 0.0, "log_word_share": 0.0}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return fake_bundle(tmp_path_factory.mktemp("bundle") / "bundle")


@pytest.fixture(scope="module")
def kb(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> KnowledgeBase:
    out = tmp_path_factory.mktemp("kb") / "kb"
    things = [*HEARTS, entity("V", VARIANTS[0], *VARIANTS[1:]), entity("Q", "???")]
    made = KnowledgeBase.build(bundle, things, out, encoder=LetterEncoder())
    # More edits than any typo has.
    reranker = replace(made.resources.reranker, name_weights={"constant": 4.0, **NO_NAME})
    made._resources = replace(made.resources, reranker=reranker)
    return made


def test_a_reading_that_links_to_nothing_shows_its_own_others(kb: KnowledgeBase) -> None:
    mentions = ["liver cancer, short statue", "SH"]
    both, short = kb.explain(
        mentions,
        document="She had a short height (SH).",
        split_composites=True,
        min_probability=0.979,
        top=1,
    )
    assert [e.candidate.expanded_form for e in both.candidates if e.returned] == ["liver cancer"]
    assert both.nil_reason is short.nil_reason is NilReason.BELOW_THRESHOLD
    others = [
        e.candidate
        for e in both.candidates
        if not e.returned and e.candidate.expanded_form == "short statue"
    ]
    assert (len(others), others[0].entity_id) == (3, "H:3")
    forms = {(e.returned, e.candidate.expanded_form) for e in short.candidates}
    assert forms == {(False, "short height")}


def test_every_candidate_has_its_evidence_even_behind_an_entity_of_many_names(
    kb: KnowledgeBase,
) -> None:
    for mention in ("septal defect variants", "???"):
        linked = kb.link([mention], top=3)[0]
        (output,) = kb.explain([mention], top=3)
        assert [e.candidate.entity_id for e in output.candidates if e.returned] == [
            c.entity_id for c in linked
        ]
        for one in output.candidates:
            assert list(one.features) == list(one.contributions) == list(FEATURES)
            assert min(one.dense_rank, one.lexical_rank, one.rank_without_context) >= 1


def test_filters_restrict_what_is_explained(kb: KnowledgeBase) -> None:
    (output,) = kb.explain(["liver cancer"], filters={"type": "growth"})
    assert {e.candidate.entity_id for e in output.candidates} == {"H:3"}


class Fickle(LetterEncoder):
    """Like an int8 bundle, but more so: a vector depends on the other texts of the batch."""

    def encode(self, texts: Sequence[str]) -> "Float32":
        """Return (N, D) float32 unit rows, rotated by the number of texts."""
        return np.roll(super().encode(texts), len(texts) - 1, axis=1)


def test_a_candidate_that_only_its_batch_found_is_explained(bundle: Bundle, tmp_path: Path) -> None:
    names = [f"{word} {i}" for i in range(9) for word in ("heart", "lung")]
    things = [entity(f"N:{name}", name) for name in names]
    KnowledgeBase.build(bundle, things, tmp_path / "kb", encoder=LetterEncoder()).close()
    with KnowledgeBase.open(tmp_path / "kb", encoder=Fickle()) as kb:
        mentions, contexts = ["hearts", "lungs"], ["", "in the chest"]
        linked = kb.link(mentions, contexts=contexts)
        assert {c.entity_id for c in linked[0]} != {c.entity_id for c in kb.link(mentions)[0]}
        output = kb.explain(mentions, contexts=contexts)
    for found, reasons in zip(linked, output, strict=True):
        assert [e.candidate for e in reasons.candidates if e.returned] == list(found)


def _trigram_cosines(query: str, names: list[str]) -> "Float32":
    """Return TF-IDF cosines of character trigrams, name by name."""

    def trigrams(text: str) -> set[str]:
        padded = f" {text} "
        return {padded[i - 1 : i + 2] for i in range(1, len(padded) - 1) if padded[i] != " "}

    counts = Counter(gram for name in names for gram in trigrams(name))

    def norm(grams: set[str]) -> float:
        return math.sqrt(sum(idf(gram) ** 2 for gram in grams))

    def idf(gram: str) -> float:
        return math.log((1 + len(names)) / (1 + counts[gram])) + 1

    mine = trigrams(query)
    return np.array(
        [
            sum(idf(g) ** 2 for g in mine & theirs) / (norm(mine) * norm(theirs))
            for theirs in map(trigrams, names)
        ],
        dtype=np.float32,
    )


def test_ranks_features_and_contributions_are_those_of_brute_force(
    bundle: Bundle, tmp_path: Path
) -> None:
    mention = "autism, liver and holes of short statures"
    with KnowledgeBase.build(bundle, HEARTS, tmp_path / "kb", encoder=LetterEncoder()) as kb:
        (output,) = kb.explain([mention], top=5)
        texts, learned = kb.resources.catalogue.texts(), kb.resources.reranker
        retrievers = kb.resources.retrievers
        dense_N = to_float32(retrievers.vectors.vectors_ND) @ LetterEncoder().encode([mention])[0]
        rows = [texts.index(one.candidate.matched_name) for one in output.candidates]
        by_name = learned.name_probability(exact_match_features(kb.resources.names, np.array(rows)))
    trigrams_N = _trigram_cosines(normalize(mention), [normalize(text) for text in texts])
    own = {thing.id: [texts.index(name.text) for name in thing.names] for thing in HEARTS}
    by_dense, by_lexical = (
        {id_: max(scores_N[rows].tolist()) for id_, rows in own.items()}
        for scores_N in (dense_N, trigrams_N)
    )
    assert min(by_lexical.values()) > 0, "or their order would be open"

    def place(id_: str, best: dict[str, float]) -> int:
        return 1 + sum(score > best[id_] + 1e-6 for score in best.values())

    assert sorted(e.candidate.entity_id for e in output.candidates) == sorted(own)
    for one in output.candidates:
        id_, row = one.candidate.entity_id, texts.index(one.candidate.matched_name)
        assert one.dense_rank == place(id_, by_dense)
        assert one.lexical_rank == place(id_, by_lexical)
        assert one.features["dense_cosine"] == pytest.approx(dense_N[row], abs=1e-3)
        assert one.features["trigram_cosine"] == pytest.approx(trigrams_N[row], abs=1e-3)
        for name in FEATURES:
            contribution = one.features[name] * learned.weights[name]
            assert one.contributions[name] == pytest.approx(contribution, abs=1e-3)
    sums = np.array(
        [sum(one.contributions.values()) for one in output.candidates], dtype=np.float32
    )
    assert (np.diff(sums) <= 1e-3).all()
    alike = ("dense_cosine", "trigram_cosine", "edit_similarity")
    mean = np.array([np.mean([one.features[name] for name in alike]) for one in output.candidates])
    most = np.minimum(by_name, 1 / (1 + np.exp(-20 * (mean - 0.35))))
    first = np.arange(len(sums)) == 0
    expected = learned.probabilities(np.array([0, len(sums)]), sums, first, most)
    assert [e.candidate.probability for e in output.candidates] == pytest.approx(
        expected.tolist(), abs=1e-3
    )


def test_others_are_as_likely_as_link_says(tmp_path: Path) -> None:
    """Also if another entity has so many names that they fill every retriever."""
    ends = (f"{a}{b}{c}" for a in "bdfgkl" for b in "aeiou" for c in "mnprst")
    flood = entity("M:1", *(f"river blindness of the upper bank {end}" for end in ends))
    bundle, mention = fake_bundle(tmp_path / "bundle"), "river blindnes of the upper bank"
    with KnowledgeBase.build(
        bundle, [flood, *HEARTS], tmp_path / "kb", encoder=LetterEncoder()
    ) as kb:
        (linked,) = kb.link([mention], top=4)
        (output,) = kb.explain([mention], top=1)
        (nothing,) = kb.explain([mention], top=1, min_probability=1.0)
    assert [one.candidate for one in output.candidates] == list(linked)
    assert [one.returned for one in output.candidates] == [True, False, False, False]
    assert [one.candidate for one in nothing.candidates] == list(linked[:3])
