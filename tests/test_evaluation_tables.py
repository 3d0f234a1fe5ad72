"""Readers of the evaluation sets: layouts, and errors with their line."""

from __future__ import annotations

from pathlib import Path

import pytest

from mirror_rt.errors import InputError
from mirror_rt.evaluation.tables import Pair, read_labeled, read_lexicon, read_pairs
from tests.errors import about


def write(folder: Path, text: str) -> Path:
    path = folder / "set.tsv"
    path.write_text(text, encoding="utf-8")
    return path


def test_columns_are_found_by_name_and_quotes_are_text(tmp_path: Path) -> None:
    path = write(tmp_path, 'genre\tscore\tsentence1\tsentence2\nnews\t2.5\t"A\tB"\n\n')
    assert read_pairs(path) == [Pair(left='"A', right='B"', score=2.5)]


def test_a_word_pair_file_needs_no_header(tmp_path: Path) -> None:
    path = write(tmp_path, "null\tnan\t3\nbras\tmuscle\t2.6\n")
    assert [(p.left, p.right, p.score) for p in read_pairs(path)] == [
        ("null", "nan", 3.0),
        ("bras", "muscle", 2.6),
    ]


@pytest.mark.parametrize(
    ("row", "value"),
    [
        ("nan\ta\tb", "nan"),
        ("inf\ta\tb", "inf"),
        ("5.1\ta\tb", "5.1"),
        ("-1\ta\tb", "-1"),
        ("high\ta\tb", "'high'"),
        ("1\ta\t ", ""),
        ("1\ta", ""),
    ],
)
def test_a_bad_score_is_named_by_its_line(tmp_path: Path, row: str, value: str) -> None:
    path = write(tmp_path, f"score\tsentence1\tsentence2\n1\tx\ty\n{row}\n")
    with pytest.raises(InputError, check=about(path.name, line=3, value=value)):
        read_pairs(path, low=0.0, high=5.0)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", ""),
        ("score\tsentence1\tsentence2\n", ""),
        ("score\tfirst\tsecond\n1\ta\tb\n", "sentence1"),
    ],
)
def test_a_file_without_pairs_is_refused(tmp_path: Path, text: str, value: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(InputError, check=about(path.name, value=value)):
        read_pairs(path)


def test_labeled_texts_and_pairs(tmp_path: Path) -> None:
    single = read_labeled(write(tmp_path, "coarse\tfine\tquestion\nDESC\tmanner\tWhy?\n"))
    pair = read_labeled(write(tmp_path, "label\tid1\tsentence1\tsentence2\n1\t7\ta\tb\n"))
    qnli = read_labeled(write(tmp_path, "index\tquestion\tsentence\tlabel\n0\tq\ts\tyes\n"))
    tweet = read_labeled(write(tmp_path, "label\tlabel_name\ttext\n2\tjoy\tHa\n"))
    assert single == [Pair(left="Why?", right="", label="DESC")]
    assert pair == [Pair(left="a", right="b", label="1")]
    assert qnli == [Pair(left="q", right="s", label="yes")]
    assert tweet == [Pair(left="Ha", right="", label="2")]
    for label in ("", "NaN"):
        with pytest.raises(InputError, check=about("set.tsv", line=2)):
            read_labeled(write(tmp_path, f"label\tsentence\n{label}\ta\n"))


def test_a_bilingual_dictionary_collects_translations(tmp_path: Path) -> None:
    path = write(tmp_path, "cat\tchat\ndog\tchien\ncat\tmatou\n")
    assert read_lexicon(path) == {"cat": {"chat", "matou"}, "dog": {"chien"}}
    with pytest.raises(InputError, check=about("set.tsv", line=1)):
        read_lexicon(write(tmp_path, "cat chat\n"))
