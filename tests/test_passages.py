import csv
import gzip
import json
from datetime import date
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from mirror_rt.bundle import Bundle
from mirror_rt.errors import ConfigError, InputError, KnowledgeBaseError
from mirror_rt.knowledge import KnowledgeBase
from mirror_rt.knowledge.formats import SkippedRows
from mirror_rt.knowledge.formats.passages import read_passages
from mirror_rt.knowledge.linking import search
from mirror_rt.knowledge.text.normalize import normalize
from mirror_rt.types import MatchType, NilReason, Passage
from mirror_rt_cli.app import app
from tests.errors import about
from tests.kb import HEARTS, LetterEncoder, fake_bundle
from tests.tiny import NAMES, WORDS

TEXTS = [
    Passage(id="p1", text="The nurse\ncares for\tpeople with fever.", title="Nursing"),
    Passage(id="p2", text="A teacher is paid by a school.", metadata=(("year", "2020"),)),
    Passage(
        id="p3",
        text="Red rash and a cough.",
        metadata=(("year", "2021"), ("source", "who"), ("tag", "skin"), ("tag", "lung")),
    ),
    Passage(id="p4", text="A teacher is paid by a school."),
]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return fake_bundle(tmp_path_factory.mktemp("bundle") / "bundle")


@pytest.fixture(scope="module")
def store(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> KnowledgeBase:
    out = tmp_path_factory.mktemp("kb") / "texts"
    return KnowledgeBase.build(bundle, TEXTS, out, passages=True, encoder=LetterEncoder())


def test_a_hit_is_the_passage_as_it_was_given(store: KnowledgeBase) -> None:
    (found,) = store.search(["people with a fever"], top=1)
    assert found[0].passage == TEXTS[0]
    assert (found[0].entity_id, found[0].entity_name) == ("p1", "Nursing")
    assert found[0].matched_name == "The nurse cares for people with fever."
    by_title, by_tag = store.search(["nursing", "red rash"], top=1)
    assert (by_title[0].entity_id, by_title[0].matched_name) == ("p1", "Nursing")
    assert by_tag[0].passage is not None
    assert set(by_tag[0].passage.metadata) == set(TEXTS[2].metadata)
    (twins,) = store.search(["a teacher is paid"], top=2)
    assert {c.entity_id for c in twins} == {"p2", "p4"}
    assert all(c.tied for c in twins)


def test_filters_are_over_metadata(store: KnowledgeBase) -> None:
    for conditions, expected in (
        ({"year": "2021"}, {"p3"}),
        ({"year": ["2020", "2021"]}, {"p2", "p3"}),
        ({"tag": "lung", "source": "who"}, {"p3"}),
        ({"id": "p"}, {"p1", "p2", "p3", "p4"}),
    ):
        for both in (True, False):
            (found,) = store.search(["nurse"], hybrid=both, filters=conditions)  # type: ignore[arg-type]
            assert {c.entity_id for c in found} == expected
    with pytest.raises(ConfigError, check=about(value="'1999'")):
        store.search(["x"], filters={"year": "1999"})


def test_the_score_is_the_weighted_sum_of_both_cosines(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "_DEPTH", 8)
    rng = np.random.default_rng(5)
    texts = [" ".join(rng.choice(WORDS, 6)) for _ in range(60)]
    given = [Passage(id=str(i), text=text) for i, text in enumerate(texts)]
    kb = KnowledgeBase.build(bundle, given, tmp_path / "kb", passages=True, encoder=LetterEncoder())
    query = "chronic kidney cough of the liver"
    (found,) = kb.search([query], top=2)
    dense = (
        np.load(tmp_path / "kb/vectors.npy").astype(np.float32) @ LetterEncoder().encode([query])[0]
    )
    trigrams, rows = kb.resources.retrievers.trigrams, np.arange(len(texts))
    requested = trigrams.analyze([normalize(query)])
    lexical = trigrams.cosines(requested, np.zeros_like(rows), rows)
    nearest = {i for values in (dense, lexical) for i in np.argsort(-values)[:8].tolist()}
    expected = 0.8 * dense + 0.2 * lexical
    best = sorted(nearest, key=lambda i: -expected[i])[:2]
    assert [c.entity_id for c in found] == [str(i) for i in best]
    for hit, i in zip(found, best, strict=True):
        assert hit.score == pytest.approx(expected[i], abs=1e-5)
        assert hit.dense_score == pytest.approx(dense[i], abs=1e-5)
        assert hit.lexical_score == pytest.approx(lexical[i], abs=1e-5)


def test_without_trigrams_the_order_is_that_of_the_vectors(store: KnowledgeBase) -> None:
    (found,) = store.search(["fever"], hybrid=False)
    assert [c.score for c in found] == sorted((c.score for c in found), reverse=True)
    assert {c.dense_score for c in found} == {None}
    assert {c.match_type for c in found} == {MatchType.DENSE}
    assert found[0].passage is not None


def test_names_are_searched_by_vectors_and_trigrams_on_request(
    bundle: Bundle, tmp_path: Path
) -> None:
    kb = KnowledgeBase.build(bundle, HEARTS, tmp_path / "kb", encoder=LetterEncoder())
    (found,) = kb.search(["hepatic carcinomas"], hybrid=True, top=9)
    assert (found[0].entity_id, found[0].matched_name) == ("H:4", "hepatic carcinoma")
    assert found[0].score == pytest.approx(
        0.8 * found[0].dense_score + 0.2 * found[0].lexical_score
    )
    assert {c.entity_id for c in found} == {"H:1", "H:2", "H:3", "H:4", "H:5"}
    assert found[0].passage is None


def test_pieces_of_a_long_passage_lead_to_it_once(bundle: Bundle, tmp_path: Path) -> None:
    encoder = LetterEncoder()
    long = " ".join(NAMES)
    given = [Passage(id="long", text=long), *TEXTS[:2]]
    kb = KnowledgeBase.build(
        bundle, given, tmp_path / "kb", passages=True, split=7, encoder=encoder
    )
    pieces = [text for text in encoder.requested if text in long]
    assert " ".join(pieces) == long
    assert {len(piece.split()) for piece in pieces[:-1]} == {7}
    (found,) = kb.search([pieces[3]], top=3)
    assert [c.entity_id for c in found].count("long") == 1
    assert (found[0].entity_id, found[0].matched_name) == ("long", pieces[3])
    assert found[0].passage == given[0]
    for split in (0, -1):
        with pytest.raises(ConfigError, check=about("split")):
            KnowledgeBase.build(
                bundle, given, tmp_path / "x", passages=True, split=split, encoder=encoder
            )


def test_enough_passages_are_found_behind_one_of_many_pieces(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "_DEPTH", 4)
    given = [Passage(id="many", text="fever " * 400 + " ".join(f"fever{i}" for i in range(40)))]
    given += [Passage(id=f"other{i}", text=word) for i, word in enumerate(("nurse", "red", "ear"))]
    kb = KnowledgeBase.build(
        bundle, given, tmp_path / "kb", passages=True, split=1, encoder=LetterEncoder()
    )
    (found,) = kb.search(["fever"], top=4)
    assert {c.entity_id for c in found} == {"many", "other0", "other1", "other2"}


def test_nothing_is_found_for_nothing(store: KnowledgeBase) -> None:
    answers = store.search(["", "?"])
    assert [a.nil_reason for a in answers] == [NilReason.EMPTY, NilReason.PUNCTUATION]
    assert not any(answers)


def test_passages_are_searched_not_linked_or_changed(store: KnowledgeBase) -> None:
    with pytest.raises(KnowledgeBaseError, check=about("texts")):
        store.link(["nurse"])
    with pytest.raises(KnowledgeBaseError, check=about("texts", hint="mirror-rt index")):
        store.add(HEARTS)


def test_a_removal_leaves_a_store_of_passages(bundle: Bundle, tmp_path: Path) -> None:
    out = tmp_path / "kb"
    with KnowledgeBase.build(bundle, TEXTS, out, passages=True, encoder=LetterEncoder()) as kb:
        kb.remove(["p4"])
    with KnowledgeBase.open(out, encoder=LetterEncoder()) as kb:
        (found,) = kb.search(["a teacher is paid"])
    assert next(c.passage for c in found if c.passage) == TEXTS[1]
    assert {c.entity_id for c in found} == {"p1", "p2", "p3"}


ROWS = [
    {"id": "a", "text": 'Red, "small"\trash.', "title": "Rash", "year": 2020, "ok": True},
    {"id": 7, "text": "Fever\nand cough.", "title": None, "tags": ["x", "y"], "deep": {"z": 1}},
    {"id": "c", "text": "Pain.", "year": None, "abstract": "long " * 60},
]


def test_json_lines_keep_the_text_and_short_metadata(tmp_path: Path) -> None:
    lines = "\n\n".join(json.dumps(row) for row in ROWS)
    (tmp_path / "a.jsonl").write_text(lines)
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    skipped = SkippedRows(strict=True)
    found = list(read_passages(tmp_path / "a.jsonl", skip_bad=skipped))
    assert skipped == SkippedRows(strict=True, metadata=2), "an object and a long value"
    assert found == [
        Passage(
            id="a",
            text='Red, "small"\trash.',
            title="Rash",
            metadata=(("year", "2020"), ("ok", "true")),
        ),
        Passage(id="7", text="Fever\nand cough.", metadata=(("tags", "x"), ("tags", "y"))),
        Passage(id="c", text="Pain."),
    ]
    assert list(read_passages(tmp_path / "b.jsonl.gz")) == found
    pq.write_table(
        pa.Table.from_pylist([{**r, "id": str(r["id"])} for r in ROWS]), tmp_path / "p.parquet"
    )
    from_parquet = list(read_passages(tmp_path / "p.parquet"))
    assert [p.text for p in from_parquet] == [p.text for p in found]


def test_metadata_left_out_is_counted_value_by_value(tmp_path: Path) -> None:
    row = {"id": "a", "text": "x", "tags": [["y"], {"z": 1}, "k", None, "", "w" * 201, "w" * 200]}
    (tmp_path / "a.jsonl").write_text(json.dumps(row))
    skipped = SkippedRows()
    (passage,) = read_passages(tmp_path / "a.jsonl", skip_bad=skipped)
    assert passage.metadata == (("tags", "k"), ("tags", "w" * 200))
    assert skipped == SkippedRows(metadata=3)


def test_a_row_of_parquet_that_is_not_utf_8_is_counted_on_request(tmp_path: Path) -> None:
    texts = pa.array([b"one", b"\xff", b"three"], pa.binary()).view(pa.string())
    pq.write_table(pa.table({"id": ["a", "b", "c"], "text": texts}), tmp_path / "p.parquet")
    with pytest.raises(InputError, check=about("p.parquet", line=2)):
        list(read_passages(tmp_path / "p.parquet"))
    skipped = SkippedRows()
    found = read_passages(tmp_path / "p.parquet", skip_bad=skipped)
    assert [p.text for p in found] == ["one", "three"]
    assert skipped.bad == 1


def test_two_passages_with_one_id_are_refused(bundle: Bundle, tmp_path: Path) -> None:
    twice = [*TEXTS, Passage(id="p2", text="Another text.")]
    with pytest.raises(InputError, check=about(value="'p2'")):
        KnowledgeBase.build(bundle, twice, tmp_path / "kb", passages=True, encoder=LetterEncoder())
    assert not (tmp_path / "kb").exists()


def test_dates_and_decimals_of_parquet_are_metadata(tmp_path: Path) -> None:
    row = {"id": "1", "text": "x", "day": date(2020, 5, 1), "price": Decimal("2.50")}
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "p.parquet")
    (passage,) = read_passages(tmp_path / "p.parquet")
    assert passage.metadata == (("day", "2020-05-01"), ("price", "2.50"))


def test_tables_are_read_by_their_first_line(tmp_path: Path) -> None:
    with (tmp_path / "a.csv").open("w", newline="") as handle:
        csv.writer(handle).writerows(
            [["year", "id", "text"], ["2020", "a", "two\nlines"], [], ["", "b", 'a "word"']]
        )
    (tmp_path / "a.tsv").write_text('id\ttext\ttitle\na\ta "word"\tT\n')
    assert list(read_passages(tmp_path / "a.csv")) == [
        Passage(id="a", text="two\nlines", metadata=(("year", "2020"),)),
        Passage(id="b", text='a "word"'),
    ]
    assert list(read_passages(tmp_path / "a.tsv")) == [Passage(id="a", text='a "word"', title="T")]


@pytest.mark.parametrize(
    ("name", "content", "line", "value"),
    [
        ("a.jsonl", '{"id": "a", "text": "x"}\n{"id": "a", "text": "y"}', 2, "'a'"),
        ("a.jsonl", '{"id": "a", "text": " "}', 1, "text"),
        ("a.jsonl", '{"text": "x"}', 1, "id"),
        ("a.jsonl", '{"id": "a", "text": 1.5}', 1, "text"),
        ("a.jsonl", "[1]", 1, ""),
        ("a.jsonl", "{", 1, ""),
        ("a.jsonl", '{"id": "a", "text": "\\ud800"}', 1, "text"),
        ("a.jsonl", "", None, ""),
        ("a.csv", "id,txt\na,b\n", None, "text"),
        ("a.csv", "id,text\na\n", 2, "text"),
        ("a.tsv", "id\ttext\na\tb\tc\n", 2, "3"),
        ("a.parquet", "nonsense", None, ""),
    ],
)
def test_bad_passages_are_reported_with_their_line(
    tmp_path: Path, name: str, content: str, line: int | None, value: str
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, check=about(str(tmp_path / name), line=line, value=value)):
        list(read_passages(tmp_path / name))


def test_bad_rows_can_be_counted_and_other_layouts_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"id": "a", "text": "x"}\n{}\n{"id": "a", "text": "y"}\n')
    skipped = SkippedRows()
    assert [p.id for p in read_passages(tmp_path / "a.jsonl", skip_bad=skipped)] == ["a"]
    assert skipped.bad == 2
    (tmp_path / "a.txt").write_text("x\n")
    with pytest.raises(InputError, check=about("a.txt", hint="--id-column")):
        list(read_passages(tmp_path / "a.txt"))
    for text in ("id,text\na,x y\n", "id\ttext\na\tx y\n", '{"id": "a", "text": "x y"}\n'):
        (tmp_path / "a").write_text(text)  # what gives passages is a table, under any name
        assert [(p.id, p.text) for p in read_passages(tmp_path / "a")] == [("a", "x y")]


def test_from_a_file_to_answers_on_the_command_line(tiny_bundle: Path, tmp_path: Path) -> None:
    def run(*arguments: str) -> tuple[int, str, str]:
        result = CliRunner().invoke(app, list(arguments))
        return result.exit_code, result.stdout, result.stderr

    rows = [
        {"id": "1", "text": "red rash", "year": 2020},
        {"id": "2", "text": "chronic cough " * 60, "title": "Cough", "year": 2021},
        {"id": "3", "text": "short stature", "year": 2021, "notes": {"by": "x"}},
    ]
    (tmp_path / "p.jsonl").write_text("\n".join(map(json.dumps, rows)))
    file, out = str(tmp_path / "p.jsonl"), str(tmp_path / "kb")
    code, _, err = run("index", str(tiny_bundle), file, "--passages", "--out", out)
    assert code == 0
    assert err.splitlines() == [
        "left out: 1 metadata value",
        "cut off at 64 tokens: 1 of 4 strings; --split embeds all of them",
        f"{out}: 3 passages",
    ]
    code, answer, err = run("search", out, "a red rash", "", "--top", "2")
    assert (code, err) == (0, "")
    first, empty = map(json.loads, answer.splitlines())
    assert empty == {"query": "", "candidates": [], "nil_reason": "empty"}
    assert len(first["candidates"]) == 2
    hit = first["candidates"][0]
    assert (hit["id"], hit["title"], hit["text"]) == ("1", "", "red rash")
    assert hit["score"] == pytest.approx(
        0.8 * hit["dense_score"] + 0.2 * hit["lexical_score"], abs=2e-4
    )
    assert -1 <= hit["dense_score"] <= 1 and 0 < hit["lexical_score"] <= 1  # noqa: PT018
    _, answer, _ = run("search", out, "a red rash", "--no-hybrid", "--filter", "year=2021")
    hits = json.loads(answer)["candidates"]
    assert {h["id"] for h in hits} == {"2", "3"}
    assert not any("dense_score" in h for h in hits)
    _, answer, _ = run("search", out, "cough", "?", "-f", "tsv", "--top", "1")
    header, row, none = (line.split("\t") for line in answer.splitlines())
    assert header[:5] == ["query", "rank", "id", "title", "text"]
    assert row[:4] == ["cough", "1", "2", "Cough"]
    assert (len(none), none[-1]) == (len(header), "punctuation")
    code, answer, _ = run("search", out, "cough", "-f", "table", "--top", "1")
    assert code == 0
    assert [line.split()[:2] for line in answer.splitlines()] == [["query", "rank"], ["cough", "1"]]
    code, answer, err = run("link", out, "x")
    assert (code, answer) == (1, "")
    assert "holds passages" in err
    code, _, err = run(
        "index", str(tiny_bundle), file, "--passages", "--split", "20", "--force", "--out", out
    )
    assert (code, err) == (0, f"left out: 1 metadata value\n{out}: 3 passages\n")
    for extra, fault in (
        (["--split", "3"], "add --passages"),
        (["--passages", "--source", "x"], "no options"),
    ):
        code, _, err = run("index", str(tiny_bundle), file, "--out", str(tmp_path / "no"), *extra)
        assert code == 1
        assert fault in err
