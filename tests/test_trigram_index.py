from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.feature_extraction.text import TfidfVectorizer

from mirror_rt.errors import KnowledgeBaseError
from mirror_rt.knowledge.lexical import NGRAM_FILES, NgramIndex, write_ngrams
from tests.spelling import edits
from tests.tiny import NAMES


def _trigrams(text: str) -> list[str]:
    padded = f" {text} "
    return [padded[i - 1 : i + 2] for i in range(1, len(padded) - 1) if padded[i] != " "]


def _open(names: list[str], folder: Path) -> NgramIndex:
    write_ngrams((names[i : i + 7] for i in range(0, len(names), 7)), folder, rows=len(names))
    return NgramIndex.open(folder)


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
    np.testing.assert_allclose(index.cosines(query, NAMES), expected, atol=1e-5)


@pytest.mark.parametrize("query", ["kidney diseases", "heart defekt", "acute cofgh"])
def test_the_nearest_are_those_of_brute_force(tmp_path: Path, query: str) -> None:
    index = _open(NAMES, tmp_path)
    scores = index.cosines(query, NAMES)
    best = index.nearest(query, top=3)
    np.testing.assert_allclose(scores[best], np.sort(scores)[::-1][:3], atol=1e-6)


@pytest.mark.parametrize("query", ["livre cancer", "hart", "cou", "acute cofgh", "心臓ab", "xyz"])
def test_those_spelt_alike_are_those_of_counting_edits(tmp_path: Path, query: str) -> None:
    names = [*NAMES, "cough", "heart", "心臓病", "心臓 ab", "ear t", "cancer of the left liver"]
    index = _open(names, tmp_path)
    shares = [
        bool(set(_trigrams(query)) & set(_trigrams(name)))
        and 0.5 <= (len(query.encode()) + 1) / (len(name.encode()) + 1) <= 2
        for name in names
    ]
    spelt = [1 - edits(query, name) / max(len(query), len(name)) for name in names]
    # Of equally many edits, those first that share more trigrams.
    nearest = index.nearest(query, top=len(names)).tolist()
    ranked = sorted((row for row in nearest if shares[row]), key=lambda row: -spelt[row])
    expected = {*ranked[:2], *index.nearest(query, top=2).tolist()}
    found = index.alike(query, top=2).tolist()
    assert len(found) >= (2 if any(shares) else 0)
    assert found == sorted(expected)
    assert index.alike(query, top=2, allowed_N=np.zeros(len(names), dtype=bool)).tolist() == []


def test_of_passages_no_letters_are_kept(tmp_path: Path) -> None:
    write_ngrams(iter([NAMES]), tmp_path, rows=len(NAMES), names=False)
    index = NgramIndex.open(tmp_path)
    assert np.load(tmp_path / NGRAM_FILES[4]).size == 0
    assert set(index.alike("kidney", top=4)) == set(index.nearest("kidney", top=4))


def test_a_query_leaves_nothing_behind_for_the_next(tmp_path: Path) -> None:
    index = _open(NAMES, tmp_path)
    first = index.nearest("kidney disease", top=5)
    index.nearest("liver cancer", top=5)
    np.testing.assert_array_equal(index.nearest("kidney disease", top=5), first)


def test_no_shared_trigram_is_no_name(tmp_path: Path) -> None:
    assert len(_open(NAMES, tmp_path).nearest("漢字", top=5)) == 0
    assert len(_open(NAMES, tmp_path).nearest("", top=5)) == 0


@given(names=st.lists(st.text(alphabet="ab漢é ", min_size=1), min_size=1, max_size=12))
@settings(deadline=None, max_examples=30)
def test_every_name_is_nearest_to_itself(
    names: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    names = [" ".join(name.split()) for name in names]
    index = _open(names, tmp_path_factory.mktemp("ngrams"))
    for name in filter(None, names):
        assert float(index.cosines(name, [name])[0]) == pytest.approx(1.0, abs=1e-5)
        assert name in [names[row] for row in index.nearest(name, top=len(names))]


def test_files_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    for damaged in (NGRAM_FILES[1], NGRAM_FILES[3], NGRAM_FILES[4]):
        _open(NAMES, tmp_path)
        np.save(tmp_path / damaged, np.zeros(3, dtype=np.int32))
        with pytest.raises(KnowledgeBaseError, match="does not fit"):
            NgramIndex.open(tmp_path)
    (tmp_path / NGRAM_FILES[0]).unlink()
    with pytest.raises(KnowledgeBaseError, match="cannot be read"):
        NgramIndex.open(tmp_path)
