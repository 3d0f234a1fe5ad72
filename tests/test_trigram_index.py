from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rapidfuzz.distance import OSA
from sklearn.feature_extraction.text import TfidfVectorizer

from mirror_rt.errors import KnowledgeBaseError
from mirror_rt.knowledge.entities.names import NameArrays, NameArraysWriter
from mirror_rt.knowledge.retrieval import trigram_index
from mirror_rt.knowledge.retrieval.trigram_index import (
    TRIGRAM_FILES,
    TrigramIndex,
    write_trigrams,
)
from tests.errors import about
from tests.spelling import edits
from tests.tiny import NAMES, WORDS

if TYPE_CHECKING:
    from mirror_rt.types import Float32

MORE = [*NAMES, "cough", "heart", "心臓病", "心臓 ab", "ear t", "cancer of the left liver"]
QUERIES = ["livre cancer", "hart", "cou", "acute cofgh", "心臓ab", "xyz", "é", "kidney diseases"]


def _trigrams(text: str) -> list[str]:
    padded = f" {text} "
    return [padded[i - 1 : i + 2] for i in range(1, len(padded) - 1) if padded[i] != " "]


def _open(names: list[str], folder: Path) -> TrigramIndex:
    write_trigrams((names[i : i + 7] for i in range(0, len(names), 7)), folder, rows=len(names))
    return TrigramIndex.open(folder)


def _letters(names: list[str], folder: Path) -> NameArrays:
    writer = NameArraysWriter()
    writer.add(names)
    writer.write(folder, entities=((row, row, 0) for row in range(len(names))))
    return NameArrays.open(folder)


def _cosines(index: TrigramIndex, queries: list[str]) -> Float32:
    """Return (Q, N) cosines of all pairs."""
    count, rows = len(queries), len(index.norms)
    query_K, row_K = np.divmod(np.arange(count * rows), rows)
    return index.cosines(index.analyze(queries), query_K, row_K).reshape(count, rows)


def _by_hand(query: str, names: list[str]) -> list[float]:
    """Return TF-IDF cosines from strings."""
    grams = [set(_trigrams(name)) for name in names]
    counts = Counter(gram for some in grams for gram in some)

    def weight(gram: str) -> float:
        return (math.log((1 + len(names)) / (1 + counts[gram])) + 1) ** 2

    def length(some: set[str]) -> float:
        return math.sqrt(math.fsum(map(weight, some)))

    requested = set(_trigrams(query))
    return [
        math.fsum(map(weight, requested & some)) / max(length(requested) * length(some), 1e-9)
        for some in grams
    ]


@pytest.mark.parametrize("query", ["kidney diseases", "heart defects", "limb", "xyz", "é"])
def test_cosines_are_those_of_scikit_learn(tmp_path: Path, query: str) -> None:
    index = _open(NAMES, tmp_path)
    peer = TfidfVectorizer(analyzer=_trigrams, binary=True)
    rows = peer.fit_transform(NAMES)
    # scikit-learn leaves unknown trigrams out of the query's length; here they count.
    known = [g for g in set(_trigrams(query)) if g in peer.vocabulary_]
    unknown = len(set(_trigrams(query))) - len(known)
    mass = sum(peer.idf_[peer.vocabulary_[g]] ** 2 for g in known)
    whole = mass + unknown * (np.log(1 + len(NAMES)) + 1) ** 2
    expected = (rows @ peer.transform([query]).T).toarray().ravel() * np.sqrt(mass / whole)
    np.testing.assert_allclose(_cosines(index, [query])[0], expected, atol=1e-5)


texts = st.text(alphabet="abc漢é ", min_size=1, max_size=12).map(lambda t: " ".join(t.split()))


@given(names=st.lists(texts, min_size=1, max_size=12), queries=st.lists(texts, max_size=40))
@settings(max_examples=40)
def test_cosines_and_the_nearest_are_those_of_strings(
    names: list[str], queries: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    index = _open(names, tmp_path_factory.mktemp("trigrams"))
    cosines = _cosines(index, queries)
    found = index.search(index.analyze(queries), top=3)
    for i, query in enumerate(queries):
        expected = _by_hand(query, names)
        assert cosines[i].tolist() == pytest.approx(expected, abs=1e-5)
        rows, none = (kind.tolist() for kind in found[i])
        assert none == []
        best = sorted((v for v in expected if v > 0), reverse=True)[:3]
        assert [expected[row] for row in rows] == pytest.approx(best, abs=1e-5)


@pytest.mark.parametrize("allow", ["all", "even", "none"])
def test_those_of_the_fewest_edits_are_those_of_brute_force(tmp_path: Path, allow: str) -> None:
    """The pool has every name that shares a trigram, because there are few."""
    index, letters = _open(MORE, tmp_path), _letters(MORE, tmp_path)
    allowed = np.full(len(MORE), allow == "all")
    allowed[::2] |= allow == "even"
    mask_N = None if allow == "all" else allowed
    found = index.search(index.analyze(QUERIES), top=3, names=letters, mask_N=mask_N)
    for query, (lexical, alike) in zip(QUERIES, found, strict=True):
        cosines = _by_hand(query, MORE)
        near = [
            row
            for row, name in enumerate(MORE)
            if cosines[row] > 0
            and allowed[row]
            and 2 * min(len(query), len(name)) >= max(len(query), len(name))
        ]
        similar = [1 - edits(query, n) / max(len(query), len(n)) for n in MORE]
        peer = [OSA.normalized_similarity(query, name) for name in MORE]
        assert similar == pytest.approx(peer)
        expected = sorted((similar[row] for row in near), reverse=True)[:3]
        assert [similar[row] for row in alike.tolist()] == pytest.approx(expected)
        assert set(alike.tolist()) <= set(near)
        best = sorted((cosines[r] for r in range(len(MORE)) if allowed[r]), reverse=True)[:3]
        assert [cosines[row] for row in lexical.tolist()] == pytest.approx(
            [value for value in best if value > 0], abs=1e-5
        )
        assert allowed[lexical].all()


def test_a_typo_is_found_among_many_names(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    names = list(dict.fromkeys(" ".join(rng.choice(WORDS, 3)) for _ in range(5_000)))
    index, letters = _open(names, tmp_path), _letters(names, tmp_path)
    rows = rng.choice(len(names), 100, replace=False).tolist()
    typos = []
    for row in rows:
        at = int(rng.integers(1, len(names[row]) - 1))
        typos.append(names[row][:at] + names[row][at + 1 :])
    found = index.search(index.analyze(typos), top=5, names=letters)
    hits = [row in alike.tolist() for row, (_, alike) in zip(rows, found, strict=True)]
    assert np.mean(hits) > 0.97
    hits = [row in lexical.tolist() for row, (lexical, _) in zip(rows, found, strict=True)]
    assert np.mean(hits) > 0.9


def test_a_query_leaves_nothing_behind_for_the_next(tmp_path: Path) -> None:
    index = _open(MORE, tmp_path)
    together = index.search(index.analyze(QUERIES * 9), top=5)
    for i, query in enumerate(QUERIES * 9):
        (alone,) = index.search(index.analyze([query]), top=5)
        np.testing.assert_array_equal(alone[0], together[i][0])


def test_no_shared_trigram_is_no_name(tmp_path: Path) -> None:
    index = _open(NAMES, tmp_path)
    for found in index.search(index.analyze(["漢字", "", "qqq"]), top=5):
        assert [len(rows) for rows in found] == [0, 0]
    assert index.search(index.analyze([]), top=5) == []
    nothing = np.zeros(0, dtype=np.int64)
    assert len(index.cosines(index.analyze([]), nothing, nothing)) == 0


@given(names=st.lists(st.text(alphabet="ab漢é ", min_size=1), min_size=1, max_size=12))
@settings(max_examples=30)
def test_every_name_is_nearest_to_itself(
    names: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    names = [" ".join(name.split()) for name in names]
    index = _open(names, tmp_path_factory.mktemp("trigrams"))
    cosines = _cosines(index, names)
    found = index.search(index.analyze(names), top=len(names))
    for i, (name, (rows, _)) in enumerate(zip(names, found, strict=True)):
        if name:
            assert cosines[i, i] == pytest.approx(1.0, abs=1e-5)
            assert i in rows.tolist()


def test_files_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    for damaged in TRIGRAM_FILES:
        _open(NAMES, tmp_path)
        dtype = np.load(tmp_path / damaged).dtype
        np.save(tmp_path / damaged, np.zeros(3, dtype=dtype))
        with pytest.raises(KnowledgeBaseError, check=about(hint="again")):
            TrigramIndex.open(tmp_path)
        np.save(tmp_path / damaged, np.zeros(0, dtype=dtype))
        with pytest.raises(KnowledgeBaseError):
            TrigramIndex.open(tmp_path)
    (tmp_path / TRIGRAM_FILES[0]).unlink()
    with pytest.raises(KnowledgeBaseError, check=about("trigram_offsets.npy")):
        TrigramIndex.open(tmp_path)


@pytest.mark.parametrize(("names", "breadth"), [(1, 4), (50, 4), (100, 2), (200, 1), (10**6, 1)])
def test_more_postings_are_read_of_more_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: int, breadth: int
) -> None:
    """Eight trigrams of the text have 25 postings each; lists are read until there are 40."""
    monkeypatch.setattr(trigram_index, "_POOL", 40)
    monkeypatch.setattr(trigram_index, "_BROADER_FROM", names)
    text = "abcdefghij"
    index = _open([gram.strip() for gram in _trigrams(text)[1:-1] for _ in range(25)], tmp_path)
    (rows, _) = index.search(index.analyze([text]), top=500)[0]
    lists = len({row // 25 for row in rows.tolist()})
    assert lists == min(-(-40 * breadth // 25), 8)
