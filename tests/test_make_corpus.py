"""Corpora from word lists, knowledge bases and texts."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from mirror_rt.errors import ConfigError, InputError
from mirror_rt.training import make_corpus
from mirror_rt_cli.app import app
from tests.errors import about


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["corpus", *map(str, arguments)])


def test_words_are_the_most_frequent_of_the_language() -> None:
    pytest.importorskip("wordfreq")
    made = make_corpus.words("en", count=200)
    assert made.strings[:4] == ["the", "to", "and", "of"]
    assert len(set(made.strings)) == 200
    assert "的" in make_corpus.words("zh", count=10).strings


def test_a_language_without_a_list_is_refused_with_those_there_are() -> None:
    pytest.importorskip("wordfreq")
    with pytest.raises(ConfigError, check=about("lang", value="'xx'")):
        make_corpus.words("xx", count=10)


@pytest.mark.parametrize("language", ["gl", "af", "eu", "be", "cy", "no such: one", ""])
def test_a_language_does_not_get_the_words_of_its_neighbor(language: str) -> None:
    # The library's nearest match: Spanish for Galician and Basque, Dutch for Afrikaans.
    pytest.importorskip("wordfreq")
    with pytest.raises(ConfigError, check=about("lang")) as error:
        make_corpus.words(language, count=10)
    assert "\n" not in str(error.value)


def test_names_of_a_knowledge_base_come_once_each(tmp_path: Path) -> None:
    kb = tmp_path / "kb.tsv"
    kb.write_text("id\tname\nA\tfever\nB\tfever\nA\tpyrexia\n")
    result = run("names", kb)
    assert result.exit_code == 0
    assert result.stdout == "fever\npyrexia\n"
    assert result.stderr == "2 strings of 3 read; dropped: 1 repeated\n"


def test_a_sample_is_the_seeds_alone(tmp_path: Path) -> None:
    kb = tmp_path / "kb.tsv"
    kb.write_text("id\tname\n" + "".join(f"{i}\tname {i}\n" for i in range(100)))
    first, again, other = (make_corpus.names(kb, count=10, seed=seed).strings for seed in (1, 1, 2))
    assert first == again != other
    assert len(set(first)) == 10


def test_the_command_takes_language_number_and_seed(tmp_path: Path) -> None:
    kb = tmp_path / "kb.tsv"
    kb.write_text("id\tname\n" + "".join(f"{i}\tname {i}\n" for i in range(100)))
    sampled = run("names", kb, "--count", 10, "--seed", 7)
    assert sampled.stdout.splitlines() == make_corpus.names(kb, count=10, seed=7).strings
    pytest.importorskip("wordfreq")
    for language in ("en", "fr"):
        made = run("words", "--lang", language, "--count", 5)
        assert made.stdout.splitlines() == make_corpus.words(language, count=5).strings


def test_paragraphs_are_split_and_every_loss_is_counted(tmp_path: Path) -> None:
    text = tmp_path / "t.txt"
    text.write_text("One two. Three four! One two.\n\nOh. 日本です。病気です。\n" + "x" * 50)
    made = make_corpus.sentences(text, split=True, min_chars=4, max_chars=40)
    assert made.strings == ["One two.", "Three four!", "日本です。", "病気です。"]
    assert made.dropped | {"not sampled": 0} == {
        "blank": 2, "repeated": 1, "too short": 1, "too long": 1, "not sampled": 0
    }  # fmt: skip
    assert make_corpus.sentences(text).strings[0] == "One two. Three four! One two."


def test_a_text_with_nothing_to_keep_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("a\n\nb\n")
    with pytest.raises(InputError, check=about("t.txt")):
        make_corpus.sentences(tmp_path / "t.txt", min_chars=5)


def test_the_file_is_written_whole_and_not_over_another(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("b\na\nb\n")
    out = tmp_path / "corpus.txt"
    assert run("sentences", tmp_path / "t.txt", "--out", out).exit_code == 0
    assert out.read_text() == "b\na\n"
    refused = run("sentences", tmp_path / "t.txt", "--out", out)
    assert refused.exit_code == 1
    assert "exists already" in refused.stderr
    assert run("sentences", tmp_path / "t.txt", "--out", out, "--force").exit_code == 0
