"""Arrays of names, against the same computed from strings."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mirror_rt.errors import KnowledgeBaseError
from mirror_rt.knowledge.arrays import hash_text
from mirror_rt.knowledge.entities.names import KINDS, NAME_FILES, NameArrays, NameArraysWriter
from mirror_rt.knowledge.text.match_levels import number_tokens, token_bag_key
from mirror_rt.knowledge.text.normalize import normalize

NAMES = [
    "Cancers of the liver", "liver cancer", "Sjögren's syndrome", "", "type 2a iv", "type 2b IV",
    "漢字 心臓 2", "عقار", "the a", "co-co co", "A" * 300, "", "Straße 12 Haus 3", "٣ x", "liver cancer",
]  # fmt: skip
WORDS = "liver livers heart of the Type II 2 2a ii c é e\u0301 漢字 心 ß 10 co".split()

texts = st.lists(st.lists(st.sampled_from(WORDS), max_size=4).map(" ".join), max_size=12)
named = st.lists(
    st.tuples(st.integers(0, 11), st.integers(0, 5), st.integers(0, len(KINDS) - 1)), max_size=20
)


def _written(
    names: list[str],
    folder: Path,
    *,
    entities: list[tuple[int, int, int]] | None = None,
    at_once: int = 4,
    keep_text: bool = True,
) -> NameArrays:
    writer = NameArraysWriter()
    for start in range(0, max(len(names), 1), at_once):
        writer.add([normalize(n) for n in names[start : start + at_once]], keep_text=keep_text)
    given = [(row, row, 0) for row in range(len(names))] if entities is None else entities
    writer.write(folder, entities=given)
    return NameArrays.open(folder)


def _row(values: np.ndarray, offsets: np.ndarray, row: int) -> list[int]:
    return values[offsets[row] : offsets[row + 1]].tolist()


def _checked(arrays: NameArrays, names: list[str]) -> None:
    """Compare every array with what strings say."""
    normalized = [normalize(name) for name in names]
    assert len(arrays) == len(names)
    assert arrays.lengths.tolist() == [len(text) for text in normalized]
    for row, text in enumerate(normalized):
        key = token_bag_key(text)
        assert arrays.hashes[row] == (hash_text(text) if text else -1)
        assert arrays.key_hashes[row] == (hash_text(key) if text else -1)
        words = [arrays.vocabulary[i] for i in _row(arrays.words, arrays.word_offsets, row)]
        assert words == [hash_text(word) for word in dict.fromkeys(text.split())]
        tokens = [arrays.vocabulary[i] for i in _row(arrays.tokens, arrays.token_offsets, row)]
        assert tokens == [hash_text(word) for word in key.split()]
    for row, text in enumerate(normalized):
        for other, name in enumerate(normalized[:row]):
            same = arrays.number_hashes[row] == arrays.number_hashes[other]
            assert same == (number_tokens(text) == number_tokens(name))
            same = arrays.digit_hashes[row] == arrays.digit_hashes[other]
            assert same == (_digits(text) == _digits(name))
    counts = Counter(hash_text(w) for text in normalized for w in token_bag_key(text).split())
    assert arrays.vocabulary.tolist() == sorted(set(arrays.vocabulary.tolist()))
    assert {*arrays.vocabulary.tolist()} == {
        hash_text(word) for text in normalized for word in [*text.split(), *token_bag_key(text).split()]
    }
    assert arrays.token_counts.tolist() == [counts[h] for h in arrays.vocabulary.tolist()]


def _digits(text: str) -> list[str]:
    return [sign for sign in text if sign.isdigit()]


def _sliced(found: tuple[np.ndarray, np.ndarray]) -> list[list[int]]:
    offsets, rows = found
    return [rows[a:b].tolist() for a, b in zip(offsets[:-1], offsets[1:], strict=True)]


@pytest.mark.parametrize("at_once", [1, 4, 100])
def test_arrays_hold_what_strings_say(tmp_path: Path, at_once: int) -> None:
    _checked(_written(NAMES, tmp_path, at_once=at_once), NAMES)


@given(names=texts, at_once=st.integers(1, 5))
@settings(deadline=None, max_examples=40)
def test_arrays_hold_what_any_strings_say(
    names: list[str], at_once: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    _checked(_written(names, tmp_path_factory.mktemp("names"), at_once=at_once), names)


def test_strings_come_back_in_any_order_and_in_blocks(tmp_path: Path) -> None:
    arrays = _written(NAMES, tmp_path)
    normalized = [normalize(name) for name in NAMES]
    rows = [14, 0, 3, 6, 6, 10, 7]
    assert arrays.texts(np.array(rows)) == [normalized[row] for row in rows]
    assert arrays.texts(np.zeros(0, dtype=np.int64)) == []
    blocks = [*arrays.blocks(size=4)]
    assert [len(block) for block in blocks] == [4, 4, 4, 3]
    assert [text for block in blocks for text in block] == normalized


def test_of_passages_no_text_is_kept_but_they_are_found(tmp_path: Path) -> None:
    arrays = _written(NAMES, tmp_path, keep_text=False)
    _checked(arrays, NAMES)
    assert (len(arrays.bytes), arrays.byte_offsets.tolist()) == (0, [0] * (len(NAMES) + 1))
    assert _sliced(arrays.rows_named(arrays.analyze(["LIVER-CANCER"]).hashes_Q)) == [[1, 14]]


@given(names=texts, asked=texts)
@settings(deadline=None, max_examples=40)
def test_rows_of_a_text_and_of_a_key_are_those_of_a_scan(
    names: list[str], asked: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    arrays = _written(names, tmp_path_factory.mktemp("names"))
    queries = arrays.analyze(asked)
    used = {row: normalize(name) for row, name in enumerate(names) if normalize(name)}
    assert _sliced(arrays.rows_named(queries.hashes_Q)) == [
        [row for row, name in used.items() if name == normalize(text)] for text in asked
    ]
    assert _sliced(arrays.rows_with_key(queries.key_hashes_Q)) == [
        [
            row
            for row, name in used.items()
            if token_bag_key(name) == token_bag_key(normalize(text))
        ]
        for text in asked
    ]


@given(names=texts, asked=texts)
@settings(deadline=None, max_examples=40)
def test_texts_are_analyzed_as_names_are_and_unknown_words_come_after_all_known(
    names: list[str], asked: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    arrays = _written(names, tmp_path_factory.mktemp("names"))
    asked = [*asked, "Unheard-of words", "words unheard", *names]
    found = arrays.analyze(asked)
    assert len(found) == len(asked)
    known = arrays.vocabulary.tolist()
    number_of: dict[str, int] = {}
    for i, text in enumerate(asked):
        normalized = normalize(text)
        assert (found.normalized[i], found.keys[i]) == (normalized, token_bag_key(normalized))
        assert found.lengths_Q[i] == len(normalized)
        for values, offsets, words in (
            (found.words, found.word_offsets, [*dict.fromkeys(normalized.split())]),
            (found.tokens, found.token_offsets, found.keys[i].split()),
        ):
            for word, number in zip(words, _row(values, offsets, i), strict=True):
                assert number_of.setdefault(word, number) == number
    assert len({*number_of.values()}) == len(number_of), "no two words have one number"
    for word, number in number_of.items():
        if hash_text(word) in known:
            assert number == known.index(hash_text(word))
        else:
            assert number >= len(known)
    # The same texts as names: word for word and hash for hash.
    for row, i in enumerate(range(len(asked) - len(names), len(asked))):
        assert _row(found.words, found.word_offsets, i) == _row(
            arrays.words, arrays.word_offsets, row
        )
        assert _row(found.tokens, found.token_offsets, i) == _row(
            arrays.tokens, arrays.token_offsets, row
        )
        assert found.number_hashes_Q[i] == arrays.number_hashes[row]
        assert found.digit_hashes_Q[i] == arrays.digit_hashes[row]


def test_a_string_that_names_nothing_any_more_is_no_answer(tmp_path: Path) -> None:
    arrays = _written(["", "heart", ""], tmp_path, entities=[(1, 0, 0)])
    queries = arrays.analyze(["", " -", "heart"])
    assert _sliced(arrays.rows_named(queries.hashes_Q)) == [[], [], [1]]
    assert _sliced(arrays.rows_with_key(queries.key_hashes_Q)) == [[], [], [1]]
    sizes, entities, _ = arrays.entities_of(np.arange(3))
    assert (sizes.tolist(), entities.tolist()) == ([0, 1, 0], [0])


@given(pairs=named, rows=st.lists(st.integers(0, 11), max_size=8))
@settings(deadline=None, max_examples=40)
def test_who_bears_a_name_and_as_what_is_read_row_after_row(
    pairs: list[tuple[int, int, int]], rows: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    pairs = sorted({(row, entity): kind for row, entity, kind in pairs}.items())
    entities = [(row, entity, kind) for (row, entity), kind in pairs]
    names = [f"name {row}" for row in range(12)]
    arrays = _written(names, tmp_path_factory.mktemp("names"), entities=entities)
    sizes, found, kinds = arrays.entities_of(np.array(rows, dtype=np.int64))
    expected = [[(e, k) for r, e, k in entities if r == row] for row in rows]
    assert sizes.tolist() == [len(some) for some in expected]
    assert [*zip(found.tolist(), kinds.tolist(), strict=True)] == [p for s in expected for p in s]


def test_files_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    for file in NAME_FILES:
        _written(NAMES, tmp_path)
        array = np.load(tmp_path / file)
        np.save(tmp_path / file, array[:-1])
        with pytest.raises(KnowledgeBaseError):
            NameArrays.open(tmp_path)
        (tmp_path / file).unlink()
        with pytest.raises(KnowledgeBaseError):
            NameArrays.open(tmp_path)
