"""The strings of a corpus, and the pairs that are drawn from it."""

from __future__ import annotations

import gzip
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror_rt.errors import ConfigError, InputError
from mirror_rt.knowledge.text.held_out import is_held_out
from mirror_rt.training.config import TrainConfig
from mirror_rt.training.pairs import draw_epoch, read_table, same_meaning_mask, synonym_pairs
from mirror_rt.training.read_corpus import read_corpus, read_pairs
from mirror_rt.types import PairSource
from tests.errors import about

KB = (
    "id\tname\nH:1\tfever\nH:1\tpyrexia\nH:1\thigh temperature\n"
    "H:2\tcough\nH:3\tASD\nH:4\tASD\nH:4\tautism\n"
)


def written(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def config_of(corpus: Path, **options: object) -> TrainConfig:
    return TrainConfig(corpus=corpus, base="none", out=corpus.parent / "out", **options)  # type: ignore[arg-type]


def test_repeats_and_blank_lines_are_dropped_and_counted(tmp_path: Path) -> None:
    corpus = read_corpus(written(tmp_path, "c.txt", "fever\n\n cough \nfever\n  \ncough\nrash"))
    assert corpus.strings == ("fever", "cough", "rash")
    assert (corpus.lines, corpus.blank, corpus.duplicates) == (7, 2, 2)


def test_repeats_in_the_papers_own_sentences_are_found(shared_data: Callable[[str], Path]) -> None:
    # They were false negatives of each other in the released run; the paper says there are none.
    path = shared_data("mirror_corpus/stsbenchmark_train_10k_sents_random_sampled.txt")
    corpus = read_corpus(path)
    lines = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    assert len(lines) - len(set(lines)) == 719
    assert corpus.duplicates == 745  # 26 more differ only by spaces around them
    assert len(corpus.strings) == 9_255


def test_a_compressed_corpus_reads_the_same(tmp_path: Path) -> None:
    plain = written(tmp_path, "c.txt", "fever\ncough\n")
    packed = tmp_path / "c.txt.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert read_corpus(packed) == read_corpus(plain)


def test_a_knowledge_base_gives_each_name_once_with_all_its_entities(tmp_path: Path) -> None:
    corpus = read_corpus(written(tmp_path, "kb.tsv", KB))
    assert corpus.strings == ("fever", "pyrexia", "high temperature", "cough", "ASD", "autism")
    assert corpus.entities == ((0,), (0,), (0,), (1,), (2, 3), (3,))
    assert corpus.duplicates == 1


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.csv", 'name\nfever\n"cough, dry"\n'),
        ("t.csv", 'label,text\n1,fever\n2,"cough, dry"\n'),
        ("t.tsv", "mention\tid\nfever\tH:1\ncough, dry\tH:2\n"),
        ("t.jsonl", '{"id": "1", "text": "fever"}\n{"id": "2", "text": "cough, dry"}\n'),
    ],
)
def test_a_table_of_texts_gives_its_texts_alone(tmp_path: Path, name: str, content: str) -> None:
    corpus = read_corpus(written(tmp_path, name, content))
    assert corpus.strings == ("fever", "cough, dry")
    assert corpus.entities == ((), ())
    with pytest.raises(InputError, check=about(name, value="200,000")):
        read_corpus(written(tmp_path, name, content.replace("fever", "fever " * 33_333 + "fe")))


def test_a_table_of_entities_is_none_of_texts_whatever_else_it_has(tmp_path: Path) -> None:
    corpus = read_corpus(written(tmp_path, "kb.csv", "id,name,text\nH:1,fever,hot\nH:1,heat,hot\n"))
    assert corpus.entities == ((0,), (0,))


@pytest.mark.parametrize("text", ["", "\n \n\t\n"])
def test_a_corpus_without_strings_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(InputError, check=about("c.txt")):
        read_corpus(written(tmp_path, "c.txt", text))


def test_a_string_as_long_as_a_file_is_refused_by_line(tmp_path: Path) -> None:
    path = written(tmp_path, "c.txt", "fever\n" + "x" * 1_000_000 + "\n")
    with pytest.raises(InputError, check=about("c.txt", line=2)):
        read_corpus(path)


def test_a_line_that_is_no_pair_is_refused_by_line(tmp_path: Path) -> None:
    path = written(tmp_path, "p.tsv", "a\tb\n\nb\ta\nc\tc\nonly one\n")
    with pytest.raises(InputError, check=about("p.tsv", line=5)):
        read_pairs(path)
    pairs, dropped = read_pairs(written(tmp_path, "q.tsv", "a\tb\n\nb\ta\nc\tc\n"))
    assert pairs == [("a", "b")]
    assert dropped == 3


def test_mirror_pairs_are_every_string_once(tmp_path: Path) -> None:
    config = config_of(written(tmp_path, "kb.tsv", KB))
    table = read_table(config)
    pairs = draw_epoch(table, config, rng=np.random.default_rng(1))
    assert sorted(pairs.tolist()) == [[i, i] for i in range(6)]


def test_synonym_pairs_join_names_of_one_entity_only(tmp_path: Path) -> None:
    config = config_of(written(tmp_path, "kb.tsv", KB), pairs=PairSource.SYNONYMS)
    table = read_table(config)
    pairs = draw_epoch(table, config, rng=np.random.default_rng(1))
    named = {frozenset(table.strings[row] for row in pair) for pair in pairs.tolist()}
    assert named == {
        frozenset(pair)
        for pair in [
            ("fever", "pyrexia"), ("fever", "high temperature"), ("pyrexia", "high temperature"),
            ("ASD", "autism"),
        ]
    }  # fmt: skip


@given(
    sizes=st.lists(st.integers(0, 40), max_size=6), most=st.integers(1, 30), seed=st.integers(0, 99)
)
def test_no_entity_gives_more_pairs_than_its_cap_and_no_pair_comes_twice(
    sizes: list[int], most: int, seed: int
) -> None:
    starts = np.cumsum([0, *sizes])
    entities = [range(a, b) for a, b in pairwise(starts)]
    pairs = synonym_pairs(entities, most=most, rng=np.random.default_rng(seed)).tolist()
    assert len({frozenset(pair) for pair in pairs}) == len(pairs)
    assert all(a != b for a, b in pairs)
    owner = {row: number for number, rows in enumerate(entities) for row in rows}
    counts = Counter(owner[a] for a, b in pairs if owner[a] == owner[b])
    expected = {i: min(most, n * (n - 1) // 2) for i, n in enumerate(sizes) if n > 1}
    assert counts == expected


def test_sources_are_mixed_by_their_shares_without_repeats(tmp_path: Path) -> None:
    names = [(f"name {i} a", f"name {i} b") for i in range(200)]
    seen = [pair for pair in names if not any(map(is_held_out, pair))][:100]
    rows = [f"H:{i}\t{name}" for i, pair in enumerate(seen) for name in pair]
    corpus = written(tmp_path, "kb.tsv", "id\tname\n" + "\n".join(rows))
    shares = {PairSource.MIRROR: 1.0, PairSource.SYNONYMS: 2.0}
    config = config_of(corpus, pairs=shares)
    pairs = draw_epoch(read_table(config), config, rng=np.random.default_rng(3)).tolist()
    mirrored = sum(a == b for a, b in pairs)
    assert (mirrored, len(pairs)) == (50, 150)  # all 100 synonym pairs, and half as many others
    assert len({tuple(sorted(pair)) for pair in pairs}) == 150


def test_reserved_names_are_no_synonyms_but_stand_for_themselves(tmp_path: Path) -> None:
    names = [f"name {i}" for i in range(600)]
    rows = [f"H:{i // 3}\t{name}" for i, name in enumerate(names)]
    corpus = written(tmp_path, "kb.tsv", "id\tname\n" + "\n".join(rows))
    table = read_table(config_of(corpus, pairs=PairSource.SYNONYMS))
    used = {table.strings[row] for rows in table.entities for row in rows}
    reserved = set(filter(is_held_out, names))
    assert 15 < len(reserved) < 50
    alone = {n for i, n in enumerate(names) if set(names[i // 3 * 3 :][:3]) - {n} <= reserved}
    assert used == set(names) - reserved - alone
    assert {table.strings[row] for row in table.mirrored} == set(names)


def test_two_epochs_differ_and_one_seed_repeats_itself(tmp_path: Path) -> None:
    config = config_of(written(tmp_path, "c.txt", "\n".join(map(str, range(100)))), max_pairs=50)
    table = read_table(config)
    first, again, second = (
        draw_epoch(table, config, rng=np.random.default_rng([1, epoch])).tolist()
        for epoch in (0, 0, 1)
    )
    assert first == again != second
    assert len(first) == 50


def test_names_that_share_an_entity_are_related_and_others_are_not(tmp_path: Path) -> None:
    table = read_table(config_of(written(tmp_path, "kb.tsv", KB)))
    found = same_meaning_mask(table.groups)
    expected = [
        [bool({*a} & {*b}) for b in table.groups] for a in table.groups
    ]  # the definition, pair by pair
    assert found.tolist() == expected
    fever, pyrexia, _, cough, asd, autism = range(6)
    assert found[fever, pyrexia]
    assert found[asd, autism]
    assert not found[fever, cough]


def test_lines_of_a_pairs_file_stand_beside_a_corpus(tmp_path: Path) -> None:
    corpus = written(tmp_path, "c.txt", "a\nb\n")
    filed = written(tmp_path, "p.tsv", "a\tx\na\ty\n")
    shares = {PairSource.MIRROR: 1.0, PairSource.FILE: 1.0}
    table = read_table(config_of(corpus, pairs=shares, pairs_file=filed))
    assert table.strings == ("a", "b", "x", "y")
    assert table.filed_P2.tolist() == [[0, 2], [0, 3]]
    assert same_meaning_mask(table.groups).tolist() == [
        [True, False, True, True],
        [False, False, False, False],
        [True, False, True, False],
        [True, False, False, True],
    ]


def test_pairs_that_the_files_cannot_give_are_refused(tmp_path: Path) -> None:
    corpus = written(tmp_path, "c.txt", "a\nb\n")
    with pytest.raises(InputError, check=about("c.txt", hint="--pairs")):
        read_table(config_of(corpus, pairs=PairSource.SYNONYMS))
    with pytest.raises(ConfigError, check=about(hint="--pairs-file")):
        read_table(config_of(corpus, pairs={PairSource.MIRROR: 1.0, PairSource.FILE: 1.0}))


def test_held_out_names_are_reported_if_no_pair_is_left_without_them(tmp_path: Path) -> None:
    unseen = next(name for name in map("name {}".format, range(1_000)) if is_held_out(name))
    corpus = written(tmp_path, "kb.tsv", f"id\tname\nH:1\tfever\nH:1\t{unseen}\nH:2\tcough\n")
    with pytest.raises(InputError, check=about("kb.tsv", hint="--pairs")) as error:
        read_table(config_of(corpus, pairs=PairSource.SYNONYMS))
    assert "\n" not in str(error.value)


def test_several_files_give_their_pairs_and_share_the_meaning_of_a_common_name(
    tmp_path: Path,
) -> None:
    one = written(tmp_path, "one.tsv", KB)
    two = written(
        tmp_path, "two.tsv", "id\tname\nH:1\tcar\nH:1\tmotor car\nM:2\tfever\nM:2\tfebrile state\n"
    )
    config = TrainConfig(
        corpus=(one, two), base="none", out=tmp_path / "out", pairs=PairSource.SYNONYMS
    )
    table = read_table(config)
    rows = {string: row for row, string in enumerate(table.strings)}
    assert len(rows) == len({"fever", "pyrexia", "high temperature", "cough", "ASD", "autism",
                             "car", "motor car", "febrile state"})  # fmt: skip

    def meet(a: str, b: str) -> bool:
        return bool(set(table.groups[rows[a]]) & set(table.groups[rows[b]]))

    assert meet("fever", "pyrexia")
    assert meet("fever", "febrile state")  # a name in both files has both meanings
    assert not meet("car", "fever")  # H:1 of one file is not H:1 of the other
    drawn = draw_epoch(table, config, rng=np.random.default_rng(0))
    held = {row for row, string in enumerate(table.strings) if is_held_out(string)}
    expected = Counter()
    for file, groups in (
        (one, [("fever", "pyrexia", "high temperature"), ("ASD", "autism")]),
        (two, [("car", "motor car"), ("fever", "febrile state")]),
    ):
        for names in groups:
            left = [name for name in names if rows[name] not in held]
            expected[str(file)] += len(left) * (len(left) - 1) // 2
    assert {s["file"]: s["synonym_pairs"] for s in table.sources} == expected
    assert len(drawn) == sum(expected.values())
    assert [s["entities"] for s in table.sources] == [4, 2]


def test_a_file_that_gives_no_synonyms_is_named(tmp_path: Path) -> None:
    kb, text = written(tmp_path, "kb.tsv", KB), written(tmp_path, "plain.txt", "fever\ncough\n")
    files = (kb, text)
    with pytest.raises(InputError, check=about("plain.txt", hint="--pairs")):
        read_table(
            TrainConfig(corpus=files, base="n", out=tmp_path / "o", pairs=PairSource.SYNONYMS)
        )
    both = {PairSource.SYNONYMS: 1.0, PairSource.MIRROR: 1.0}
    table = read_table(TrainConfig(corpus=files, base="n", out=tmp_path / "o", pairs=both))
    assert table.strings[:2] == ("fever", "pyrexia")
    with pytest.raises(ConfigError):
        read_table(TrainConfig(corpus=files, base="n", out=tmp_path / "o", pairs=PairSource.FILE))
