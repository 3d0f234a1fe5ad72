"""The arrays of names, compared with computations on strings."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mirror_rt.errors import KnowledgeBaseError
from mirror_rt.knowledge.arrays import hash_text
from mirror_rt.knowledge.entities.names import (
    KINDS,
    NAME_FILES,
    NameArrays,
    NameArraysWriter,
    analyze,
)
from mirror_rt.knowledge.text.match_levels import token_bag_key
from mirror_rt.knowledge.text.normalize import normalize
from mirror_rt.knowledge.text.numbers import fold_numbers, number_tokens
from mirror_rt.types import NameKind

WORDS = [
    "liver",
    "livers",
    "cancer",
    "of",
    "the",
    "2a",
    "iv",
    "7",
    "é",
    "e\u0301",
    "心臓",
    "ß",
    "b",
]
names = st.lists(st.sampled_from(WORDS), max_size=5).map(lambda w: normalize(" ".join(w)))
bearers = st.lists(st.tuples(st.integers(0, 9), st.integers(0, len(KINDS) - 1)), max_size=3)


def _open(texts: list[str], folder: Path, entities: list[tuple[int, int, int]]) -> NameArrays:
    writer = NameArraysWriter()
    for start in range(0, len(texts), 3):
        writer.add(texts[start : start + 3])
    writer.write(folder, entities=entities)
    return NameArrays.open(folder)


def _each(offsets: np.ndarray, values: np.ndarray) -> list[list[int]]:
    return [values[a:b].tolist() for a, b in pairwise(offsets)]


@given(
    rows=st.lists(st.tuples(names, bearers), min_size=1, max_size=12),
    queries=st.lists(names, max_size=6),
)
@settings(max_examples=80)
def test_the_arrays_say_what_the_strings_say(
    rows: list[tuple[str, list[tuple[int, int]]]],
    queries: list[str],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    texts = [text for text, _ in rows]
    owned = [sorted(dict(own).items()) for _, own in rows]
    entities = [(row, number, kind) for row, own in enumerate(owned) for number, kind in own]
    found = _open(texts, tmp_path_factory.mktemp("names"), entities)
    keys = [token_bag_key(text) for text in texts]
    assert len(found) == len(texts)
    assert found.lengths.tolist() == [len(text) for text in texts]
    assert found.texts(np.arange(len(texts))[::-1]) == texts[::-1]
    assert [text for block in found.blocks(size=5) for text in block] == texts
    # Words: each distinct one of the string, with its count in the key.
    number_of = {int(h): n for n, h in enumerate(found.vocabulary)}
    folded = [fold_numbers(text) for text in texts]
    words = {word for text in (*folded, *keys) for word in text.split()}
    assert found.vocabulary.tolist() == sorted(map(hash_text, words))
    numbered = [[number_of[hash_text(w)] for w in dict.fromkeys(t.split())] for t in folded]
    assert _each(found.word_offsets, found.words) == numbered
    assert _each(found.token_offsets, found.tokens) == [
        [number_of[hash_text(w)] for w in key.split()] for key in keys
    ]
    counts = Counter(hash_text(word) for key in keys for word in key.split())
    assert found.token_counts.tolist() == [counts[h] for h in found.vocabulary.tolist()]
    # The entities with the name, and its kind for each.
    requested = np.array([*range(len(texts)), 0, 0])
    sizes, who, kinds = found.entities_of(requested)
    flat = [pair for row in requested for pair in owned[row]]
    assert sizes.tolist() == [len(owned[row]) for row in requested]
    assert [*zip(who.tolist(), kinds.tolist(), strict=True)] == flat
    # The names that equal a text, and those with its words.
    analyzed = found.analyze(queries)
    for method, of_query, own in (
        (found.rows_named, [normalize(q) for q in queries], texts),
        (found.rows_with_key, [token_bag_key(normalize(q)) for q in queries], keys),
    ):
        hashes = analyzed.hashes_Q if own is texts else analyzed.key_hashes_Q
        offsets, same = method(hashes)
        expected = [
            [row for row, text in enumerate(own) if text == query and texts[row]]
            for query in of_query
        ]
        assert _each(offsets, same) == expected


@given(st.lists(st.text(alphabet="ab 12vié漢", max_size=9).map(normalize), max_size=9))
def test_equal_numbers_and_digits_have_equal_hashes(texts: list[str]) -> None:
    found = analyze(texts, {})
    numbers = [number_tokens(text) for text in texts]
    digits = ["".join(filter(str.isdigit, text)) for text in texts]
    for i in range(len(texts)):
        for j in range(i):
            same = found.number_hashes_Q[i] == found.number_hashes_Q[j]
            assert same == (numbers[i] == numbers[j])
            assert (found.digit_hashes_Q[i] == found.digit_hashes_Q[j]) == (digits[i] == digits[j])


def test_rows_that_name_nothing_any_more_are_found_by_nothing(tmp_path: Path) -> None:
    found = _open(["liver", "", "cancer", ""], tmp_path, [(0, 4, 0), (2, 5, 1)])
    analyzed = found.analyze(["", "?", "liver", "livers"])
    assert _each(*found.rows_named(analyzed.hashes_Q)) == [[], [], [0], []]
    assert _each(*found.rows_with_key(analyzed.key_hashes_Q)) == [[], [], [0], [0]]
    assert found.entities_of(np.array([1, 3]))[0].tolist() == [0, 0]
    assert found.token_counts.tolist() == [1, 1]
    assert found.texts(np.array([1, 0])) == ["", "liver"]


def test_unknown_words_have_numbers_of_their_own(tmp_path: Path) -> None:
    found = _open(["liver cancer", "heart"], tmp_path, [])
    texts = ["liver lump", "Lump of HEART", "other lump"]
    analyzed = found.analyze(texts)
    known = len(found.vocabulary)
    first, second, third = _each(analyzed.token_offsets, analyzed.tokens)
    number = {int(h): n for n, h in enumerate(found.vocabulary)}
    assert first == [number[hash_text("liver")], second[1]]
    assert second[0] == number[hash_text("heart")]
    lump, other = second[1], third[1]
    assert third == [lump, other]
    assert lump != other
    assert min(lump, other) >= known
    assert analyzed.normalized == ["liver lump", "lump of heart", "other lump"]
    of_nothing = _open([""], tmp_path, []).analyze(["a b"])
    assert of_nothing.words.tolist() == [0, 1]


def test_letters_can_be_left_out(tmp_path: Path) -> None:
    writer = NameArraysWriter()
    writer.add(["a long passage", "another"], keep_text=False)
    writer.write(tmp_path, entities=[(0, 0, 0), (1, 1, 0)])
    found = NameArrays.open(tmp_path)
    assert found.bytes.size == 0
    assert found.lengths.tolist() == [14, 7]
    assert _each(*found.rows_named(found.analyze(["Another"]).hashes_Q)) == [[1]]


def test_kinds_are_numbered_in_the_order_of_their_class() -> None:
    """Files on disk contain these numbers."""
    assert [kind.value for kind in KINDS] == [
        "preferred", "exact", "broad", "narrow", "related", "abbreviation", "accepted",
    ]  # fmt: skip
    assert {*KINDS} == {*NameKind}


@pytest.mark.parametrize("file", NAME_FILES)
def test_an_array_of_another_length_is_refused(tmp_path: Path, file: str) -> None:
    _open(["liver cancer", "heart"], tmp_path, [(0, 0, 0), (1, 0, 1), (1, 1, 1)])
    array = np.load(tmp_path / file)
    for other in (array[:0], np.append(array, array)):
        np.save(tmp_path / file, other)
        with pytest.raises(KnowledgeBaseError):
            NameArrays.open(tmp_path)
