from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mirror_rt.errors import KnowledgeBaseError
from mirror_rt.knowledge.entities.names import NameArrays, NameArraysWriter
from mirror_rt.knowledge.ranking.translation import (
    TRANSLATION_FILES,
    TranslationTable,
    WordPairs,
    write_translation,
)
from mirror_rt.knowledge.text.match_levels import token_bag_key
from tests.errors import about
from tests.model_1 import explained, model_1

NAMES = [
    "finger little short", "finger pinky short", "finger little long", "finger long pinky",
    "limb pain upper", "arm pain", "limb pain lower", "leg pain", "arm short", "limb short upper",
]  # fmt: skip
ALIASES = [(0, 1), (2, 3), (4, 5), (6, 7)]


def _written(
    names: Sequence[str], aliases: Sequence[tuple[int, int]], folder: Path
) -> tuple[NameArrays, TranslationTable]:
    writer = NameArraysWriter()
    writer.add(names)
    writer.write(folder, entities=((row, row, 0) for row in range(len(names))))
    arrays = NameArrays.open(folder)
    write_translation(aliases, arrays, folder)
    return arrays, TranslationTable.open(folder, arrays)


def _explained(
    mentions: Sequence[str],
    rows: Sequence[Sequence[int]],
    names: NameArrays,
    table: TranslationTable,
) -> list[list[list[float]]]:
    """Return for each mention and each of its candidate rows both shares and both gaps."""
    analyzed = names.analyze(mentions)
    sizes = [len(mine) for mine in rows]
    row_K = np.array([row for mine in rows for row in mine], dtype=np.int64)
    batch = _Batch(analyzed, np.repeat(np.arange(len(mentions)), sizes), row_K)
    pairs = WordPairs.of(batch, names)  # type: ignore[arg-type]
    both = table.explained(pairs, candidates=len(row_K), known=len(names.vocabulary))
    found = np.concatenate(both, axis=1)
    ends = np.cumsum(sizes)
    return [found[end - size : end].tolist() for size, end in zip(sizes, ends, strict=True)]


class _Batch:
    """The data from which pairs of words are made."""

    def __init__(self, mentions: object, mention_K: np.ndarray, row_K: np.ndarray) -> None:
        self.mentions, self.mention_K, self.row_K = mentions, mention_K, row_K


class Textbook:
    """Return both directions, computed from strings."""

    def __init__(self, names: Sequence[str], aliases: Sequence[tuple[int, int]]) -> None:
        self.keys = [token_bag_key(name) for name in names]
        self.t = model_1([(self.keys[a], self.keys[b]) for a, b in aliases])

    def explains(self, mention: str, name: str) -> list[float]:
        """Return the shares of the mention and of the name, then their gaps."""
        keys = token_bag_key(mention), token_bag_key(name)
        forward, backward = (explained(*pair, self.t, self.keys) for pair in (keys, keys[::-1]))
        return [forward[0], backward[0], forward[1], backward[1]]


def test_it_agrees_with_model_1_written_out(tmp_path: Path) -> None:
    names, table = _written(NAMES, ALIASES, tmp_path)
    book = Textbook(NAMES, ALIASES)
    mentions = ["finger pinky lower", "pain upper limb", "something else", "", "pinky pinky"]
    every = [[*range(len(NAMES))]] * len(mentions)
    for mention, found in zip(mentions, _explained(mentions, every, names, table), strict=True):
        expected = [book.explains(mention, n) for n in NAMES]
        np.testing.assert_allclose(found, expected, atol=2e-3)


words = st.lists(
    st.sampled_from("a little pinky finger fingers limbs limbic the fing1 é 心臓".split()),
    max_size=4,
)
texts = words.map(" ".join)


@given(
    names=st.lists(texts, min_size=1, max_size=8),
    mentions=st.lists(texts, min_size=1, max_size=5),
    chosen=st.data(),
)
@settings(max_examples=60)
def test_any_batch_agrees_with_strings(
    names: list[str],
    mentions: list[str],
    chosen: st.DataObject,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    row = st.integers(0, len(names) - 1)
    aliases = chosen.draw(st.lists(st.tuples(row, row), max_size=5))
    rows = [chosen.draw(st.lists(row, max_size=4)) for _ in mentions]
    arrays, table = _written(names, aliases, tmp_path_factory.mktemp("translation"))
    book = Textbook(names, aliases)
    found = _explained(mentions, rows, arrays, table)
    for mention, mine, values in zip(mentions, rows, found, strict=True):
        expected = [book.explains(mention, names[k]) for k in mine]
        np.testing.assert_allclose(
            np.array(values).reshape(-1, 4), np.reshape(expected, (-1, 4)), atol=2e-3
        )


def test_a_word_that_stands_for_another_counts_more_than_one_that_does_not(tmp_path: Path) -> None:
    names, table = _written(NAMES, ALIASES, tmp_path)
    ((arm, leg),) = _explained(["pain upper limb"], [[5, 7]], names, table)
    assert arm[0] > leg[0]
    assert arm[1] > leg[1]
    assert arm[2] < leg[2]
    assert arm[3] < leg[3]


def test_unknown_and_no_words_are_taken(tmp_path: Path) -> None:
    names, table = _written(["arm pain", ""], [], tmp_path)
    first, second, nothing, none = _explained(
        ["something else", "arm", "", "arm"], [[0], [0, 1], [0, 1], []], names, table
    )
    assert second[0][0] > first[0][0]
    assert nothing[0][0] == nothing[1][0] == nothing[1][1] == second[1][1] == 0
    assert none == []
    assert _explained([], [], names, table) == []


def test_what_is_learned_is_the_same_bytes_whatever_the_order_of_a_pair(tmp_path: Path) -> None:
    for name, pairs in (("a", ALIASES), ("b", [(b, a) for a, b in ALIASES])):
        (tmp_path / name).mkdir()
        _written(NAMES, pairs, tmp_path / name)
    for file in TRANSLATION_FILES:
        one, two = (np.load(tmp_path / name / file) for name in "ab")
        np.testing.assert_allclose(one, two, rtol=1e-6)


@pytest.mark.parametrize("file", TRANSLATION_FILES)
def test_a_table_that_is_missing_or_of_other_names_is_refused(tmp_path: Path, file: str) -> None:
    names, _ = _written(NAMES, ALIASES, tmp_path)
    array = np.load(tmp_path / file)
    for other in (array[:0], np.append(array, array)):
        np.save(tmp_path / file, other)
        with pytest.raises(KnowledgeBaseError, check=about(hint="again")):
            TranslationTable.open(tmp_path, names)
    (tmp_path / file).unlink()
    with pytest.raises(KnowledgeBaseError, check=about(file)):
        TranslationTable.open(tmp_path, names)
