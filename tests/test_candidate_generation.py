"""Candidate names of mentions: the results of each retriever, compared with slow computations."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rapidfuzz.distance import OSA

from mirror_rt.knowledge import KnowledgeBase
from mirror_rt.knowledge.linking.resources import Background
from mirror_rt.knowledge.retrieval.candidates import (
    PER_RETRIEVER,
    CandidateBatch,
    LexicalMatches,
    generate_candidates,
    lexical_matches,
)
from mirror_rt.knowledge.text.match_levels import token_bag_key
from mirror_rt.knowledge.text.normalize import normalize
from mirror_rt.types import IndexKind
from tests.kb import LetterEncoder, entity, fake_bundle, pool_of
from tests.name_arrays import Names, unit_rows

NAMES = [f"{word} {kind} {i}" for i in range(60) for word, kind in (
    ("liver", "cancer"), ("hepatic", "tumour"), ("heart", "defect"), ("心臓", "病"),
)]  # fmt: skip
MENTIONS = ["livre cancer 7", "cancers of the liver 31", "7 cancer liver", "心臓病", "x", "", "?"]
WIDTH = 5


@pytest.fixture(scope="module")
def kb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KnowledgeBase]:
    folder = tmp_path_factory.mktemp("kb")
    things = [
        entity(f"E:{i}", name, f"the {name}", types=("odd" if i % 2 else "even",))
        for i, name in enumerate(NAMES)
    ]
    things.append(entity("E:twin", "liver cancer 7", types=("odd",)))
    bundle = fake_bundle(folder / "bundle")
    with KnowledgeBase.build(bundle, things, folder / "kb", encoder=LetterEncoder()) as kb:
        yield kb


def _rows_of(batch: CandidateBatch, mention: int) -> list[int]:
    rows: list[int] = batch.row_K[batch.mention_K == mention].tolist()
    return rows


@pytest.mark.parametrize("filters", [None, {"type": "odd"}, {"id": ["E:7", "E:1"]}])
def test_each_retriever_brings_what_it_ranks_first(
    kb: KnowledgeBase, filters: dict[str, str | list[str]] | None
) -> None:
    retrievers, catalogue = kb.resources.retrievers, kb.resources.catalogue
    mask = kb.resources.masks.get(filters)
    vectors_QD = LetterEncoder().encode(MENTIONS)
    batch = generate_candidates(MENTIONS, vectors_QD, retrievers, width=WIDTH, mask=mask)
    texts = [normalize(text) for text in catalogue.texts()]
    bearers: dict[int, list[int]] = {}
    for row, number, _ in catalogue.names_of_rows():
        if mask is None or mask.allows(np.array([number]))[0]:
            bearers.setdefault(row, []).append(number)
    allowed = sorted(bearers)
    dense_QN = vectors_QD @ retrievers.vectors.vectors_ND.astype(np.float32).T
    lexical = retrievers.trigrams.search(
        retrievers.trigrams.analyze([normalize(m) for m in MENTIONS]),
        top=WIDTH,
        names=retrievers.names,
        mask_N=None if mask is None else mask.mask_N,
    )
    for i, mention in enumerate(MENTIONS):
        found = _rows_of(batch, i)
        assert found == sorted(set(found)), "each name once"
        by_vectors = sorted(allowed, key=lambda row: -dense_QN[i, row])[:WIDTH]
        key = token_bag_key(normalize(mention))
        same_key = [r for r in allowed if key and token_bag_key(texts[r]) == key][:WIDTH]
        expected = {*by_vectors, *lexical[i][0].tolist(), *lexical[i][1].tolist(), *same_key}
        assert set(found) == expected
        near = batch.from_dense_K[batch.mention_K == i].tolist()
        assert {r for r, dense in zip(found, near, strict=True) if dense} == set(by_vectors)
    pairs = [
        (k, number) for k, row in enumerate(batch.row_K.tolist()) for number in bearers.get(row, ())
    ]
    assert [*zip(batch.name_P.tolist(), batch.entity_P.tolist(), strict=True)] == pairs
    assert len(pairs) > len(batch.row_K) or filters is not None, "a name of two"


def test_a_name_that_is_held_out_leaves_its_place_to_another(kb: KnowledgeBase) -> None:
    texts = kb.resources.catalogue.texts()
    rows = [texts.index(name) for name in NAMES[:8]]
    vectors_QD = LetterEncoder().encode(NAMES[:8])
    retrievers = kb.resources.retrievers
    whole = generate_candidates(NAMES[:8], vectors_QD, retrievers, width=WIDTH)
    apart = generate_candidates(NAMES[:8], vectors_QD, retrievers, width=WIDTH, without=rows)
    assert (whole.held_out, apart.held_out) == (False, True)
    for i, row in enumerate(rows):
        assert row in _rows_of(whole, i)
        assert row not in _rows_of(apart, i)
        assert set(_rows_of(apart, i)) >= set(_rows_of(whole, i)) - {row}
        dense = apart.from_dense_K[apart.mention_K == i]
        assert dense.sum() >= WIDTH


def test_rows_that_an_index_found_already_are_taken(kb: KnowledgeBase) -> None:
    retrievers = kb.resources.retrievers
    vectors_QD = LetterEncoder().encode(["zzzz"])
    given = np.array([[3, 9, -1]])
    batch = generate_candidates(["zzzz"], vectors_QD, retrievers, dense_QK=given)
    assert batch.row_K[batch.from_dense_K].tolist() == [3, 9]


def test_lexical_matches_found_beforehand_are_taken(kb: KnowledgeBase) -> None:
    retrievers = kb.resources.retrievers
    vectors_QD = LetterEncoder().encode(NAMES[:3])
    alone = generate_candidates(NAMES[:3], vectors_QD, retrievers, width=WIDTH)
    before = lexical_matches(NAMES[:3], retrievers, width=WIDTH)
    given = generate_candidates(NAMES[:3], vectors_QD, retrievers, width=WIDTH, lexical=before)
    np.testing.assert_array_equal(given.row_K, alone.row_K)
    np.testing.assert_array_equal(given.mention_K, alone.mention_K)
    none = LexicalMatches(
        mentions=before.mentions, trigrams=before.trigrams, pairs=[np.zeros(0, np.int64)]
    )
    dense = generate_candidates(NAMES[:3], vectors_QD, retrievers, width=WIDTH, lexical=none)
    assert dense.from_dense_K.all()
    assert len(dense.row_K) < len(alone.row_K)


def test_no_mention_has_no_candidate(kb: KnowledgeBase) -> None:
    batch = generate_candidates([], np.zeros((0, 48), np.float32), kb.resources.retrievers)
    assert (len(batch), len(batch.row_K), len(batch.entity_P)) == (0, 0, 0)


def test_a_misspelled_name_goes_before_names_that_share_more_trigrams(tmp_path: Path) -> None:
    entities = [entity("right", "Leonberg"), entity("wrong", "Enberg"), entity("far", "Marienberg")]
    bundle, encoder = fake_bundle(tmp_path / "bundle"), LetterEncoder()
    with KnowledgeBase.build(bundle, entities, tmp_path / "kb", encoder=encoder) as kb:
        (found,) = kb.link(["Loenberg"])
    assert found[0].entity_id == "right"


def test_the_names_of_the_fewest_edits_are_among_them(kb: KnowledgeBase) -> None:
    for requested in ("livre cancer 7", "hepatik tumor 33", "hraet defect 5"):
        names = [normalize(text) for text in kb.resources.catalogue.texts()]
        best = max(
            range(len(names)), key=lambda row: OSA.normalized_similarity(requested, names[row])
        )
        assert best in pool_of(kb, [requested]).batch.row_K


def test_names_that_were_removed_take_no_place_among_the_nearest(tmp_path: Path) -> None:
    bundle, encoder, out = fake_bundle(tmp_path / "bundle"), LetterEncoder(), tmp_path / "kb"
    names = [f"number {i}" for i in range(440)]
    things = [entity(name, name) for name in names]
    kb = KnowledgeBase.build(bundle, things, out, encoder=encoder, index=IndexKind.HNSW)
    with kb:
        asked_D = encoder.encode(["number 77"])
        scores_N = kb.resources.retrievers.vectors.vectors_ND.astype(np.float32) @ asked_D[0]
        texts = kb.resources.catalogue.texts()
        nearest = [texts[row] for row in np.argsort(-scores_N, kind="stable").tolist()]
        kb.remove(nearest[:40])
        assert (kb.manifest.counts["texts"], kb.manifest.counts["unused_texts"]) == (440, 40)
        batch = pool_of(kb, ["number 77"]).batch
        texts = kb.resources.catalogue.texts()
    brought = [texts[row] for row in batch.row_K[batch.from_dense_K]]
    assert len(brought) == PER_RETRIEVER
    assert nearest[40] in brought
    assert not set(nearest[:40]) & {texts[row] for row in batch.row_K}


texts = st.lists(st.sampled_from("a liver livers cancer s é heart ? the 心臓".split()), max_size=4)


@given(
    names=st.lists(texts.map(" ".join), min_size=1, max_size=14),
    mentions=st.lists(texts.map(" ".join), max_size=4),
    width=st.integers(1, 3),
)
@example(  # the same words except for accents share no trigram
    names=["e b", "e c", "e d", "é à", "è á", "ê â", "ë ä"], mentions=["e a"], width=2
)
@example(names=["liver", "s", "heart", "cancer"], mentions=["?"], width=1)
@settings(max_examples=60)
def test_of_any_names_the_first_with_the_same_words_are_brought_beside_the_nearest(
    names: list[str], mentions: list[str], width: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    made = Names.of(names, tmp_path_factory.mktemp("names"))
    vectors_QD = unit_rows(len(mentions), 2)
    batch = generate_candidates(mentions, vectors_QD, made.retrievers, width=width)
    requested = [normalize(mention) for mention in mentions]
    trigrams = made.retrievers.trigrams
    lexical = trigrams.search(trigrams.analyze(requested), top=width, names=made.retrievers.names)
    keys = [token_bag_key(text) if text else "" for text in made.texts]
    for i, mention in enumerate(requested):
        by_vectors = np.argsort(-(made.vectors @ vectors_QD[i]), kind="stable")[:width].tolist()
        key = token_bag_key(mention)
        same_key = [row for row, other in enumerate(keys) if key and key == other][:width]
        rows = {*by_vectors, *lexical[i][0].tolist(), *lexical[i][1].tolist(), *same_key}
        assert _rows_of(batch, i) == sorted(rows)


def test_the_answer_does_not_depend_on_how_many_are_asked_together(kb: KnowledgeBase) -> None:
    mentions = [f"{name}{letter}" for letter in "ab" for name in NAMES]
    assert len(mentions) > 300
    together = kb.link(mentions)
    assert [kb.link([mention])[0] for mention in mentions[:20]] == together[:20]
    assert kb.link(mentions[:8]) == together[:8]
    assert kb.link(mentions[40:170]) == together[40:170]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_threads_beside_the_caller_are_made_again_after_a_fork_and_end_when_closed() -> None:
    before = set(threading.enumerate())
    background = Background()
    assert background.submit(threading.get_ident).result() != threading.get_ident()
    (thread,) = set(threading.enumerate()) - before
    read, write = os.pipe()
    child = os.fork()
    if not child:
        try:  # the child has no thread of its parent, and would wait for ever
            os.write(write, str(background.submit(sum, [1, 2]).result(timeout=20)).encode())
        finally:
            os._exit(0)
    os.close(write)
    os.waitpid(child, 0)
    assert os.read(read, 10) == b"3"
    os.close(read)
    background.close()
    thread.join(20)
    assert not thread.is_alive()


def test_work_beside_the_caller_is_done_when_no_thread_can_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("cannot schedule new futures after interpreter shutdown")

    monkeypatch.setattr(ThreadPoolExecutor, "submit", refuse)
    assert Background().submit(sum, [1, 2]).result() == 3
