"""What is plainly a table or JSON is no plain text; what can be read only once is read once."""

from __future__ import annotations

import io
import json
import os
import sys
import tarfile
import threading
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mirror_rt.errors import ConfigError, InputError
from mirror_rt.evaluation.gold import read_gold
from mirror_rt.knowledge.formats import Columns, SkippedRows, read_entities, read_ids
from mirror_rt.knowledge.formats.pubtator import check_kept, with_ids
from mirror_rt.knowledge.linking.inputs import MentionNotes, read_mentions
from mirror_rt.runtime.sources import Notes, read_rows
from mirror_rt.tables import FileFormat, TableOptions
from mirror_rt.textfiles import Source, read_lines
from mirror_rt.training import make_corpus
from mirror_rt.training.read_corpus import read_corpus, read_pairs
from tests.errors import about

PUBTATOR = (
    "7|t|Fever and gout.\n7|a|More.\n7\t0\t5\tFever\tDisease\tD1\n7\t10\t14\tgout\tDisease\tD2\n\n"
)

TABLES = [
    "id\tname\n1\tfever\n",
    "id,name\n1,fever\n2,a, b\n",
    "no;Mention\n1;fever\n2;cough\n",
    "text|x\nfever|1\n",
    '"id"\t"title"\n"1"\t"fever"\n',
    '{"text": "fever"}\n{"text": "cough"}\n',
    '[{"text": "fever"},\n{"text": "cough"}]\n',
    '[\n{"text": "fever"}\n]\n',
]


@pytest.mark.parametrize("text", TABLES)
@pytest.mark.parametrize("name", ["a.txt", "a"])
def test_a_table_without_a_telling_name_is_no_plain_text(
    tmp_path: Path, text: str, name: str
) -> None:
    path = tmp_path / name
    path.write_text(text)
    for read in (read_rows, read_mentions):
        with pytest.raises(InputError, check=about(value="--input-format")):
            list(read(path))
    plain = TableOptions(format=FileFormat.TEXT)
    assert [row for row, _ in read_rows(path, options=plain)] == text.splitlines()


@pytest.mark.parametrize("text", ["x,Text\n1,fever\n2,cough\n", TABLES[5], TABLES[7]])
def test_a_corpus_that_is_a_table_is_no_plain_text(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.txt").write_text(text)
    with pytest.raises(InputError, check=about(value="--input-format")):
        read_corpus(tmp_path / "a.txt")


@pytest.mark.parametrize(
    "text",
    [
        "fever, high\ncough\n",
        "heart attack; old\nlung; left\n",
        "{curly}\n[square]\n",
        "id\n",
        "the name, and more\nof it, all\n",
        "a|b\nc|d\n",
        "name and title\nx\n",
    ],
)
def test_texts_with_signs_of_tables_are_plain_text(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.txt").write_text(text)
    assert [row for row, _ in read_rows(tmp_path / "a.txt")] == text.splitlines()


def test_a_single_heading_of_plain_text_is_reported(tmp_path: Path) -> None:
    notes = Notes()
    (tmp_path / "a.txt").write_text("Mention\nfever\n")
    assert len(list(read_rows(tmp_path / "a.txt", notes=notes))) == 2
    assert "'Mention'" in notes.sentences()[0]


def test_a_heading_in_a_table_of_one_column_is_a_row_and_reported(tmp_path: Path) -> None:
    notes = Notes()
    (tmp_path / "a.csv").write_text("name\nfever\nName\ncough\n")
    assert [t for t, _ in read_rows(tmp_path / "a.csv", notes=notes)] == ["fever", "Name", "cough"]
    assert notes.lone_headings == 1
    assert len(notes.sentences()) == 1


@pytest.mark.parametrize("content", ["fever\n", "a,text\n", "\n\nname\n\n" * 0 + "name\n"])
def test_a_table_with_headings_alone_says_which(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.csv").write_text(content)
    with pytest.raises(InputError, check=about("a.csv", value=content.strip().replace(",", ", "))):
        list(read_rows(tmp_path / "a.csv"))


def test_pairs_below_known_headings_are_not_begun_with_them(tmp_path: Path) -> None:
    for heading in ("name\tsynonym", "Term\tAlias", "text\tlabel"):
        (tmp_path / "p.tsv").write_text(f"{heading}\nheart\tcor\n")
        with pytest.raises(InputError, check=about("p.tsv")):
            read_pairs(tmp_path / "p.tsv")
    (tmp_path / "p.tsv").write_text("heart\tname\n")
    assert read_pairs(tmp_path / "p.tsv")[0] == [("heart", "name")]


# -- once


def standing_in(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))


def test_standard_input_is_read_by_one_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    standing_in(monkeypatch, b"id\tname\n1\tfever\n")
    source = Source("-")
    assert source.head().startswith(b"id")
    assert len(list(read_entities(source))) == 1
    for again in (source, "-", Source("-")):
        with pytest.raises(InputError, check=about("standard input")):
            list(read_entities(again))
    standing_in(monkeypatch, b"fever\n")
    assert read_lines("-") == ["fever"]


@pytest.mark.parametrize(
    "line", ["kb diff - -", "map - - --out m.sssom.tsv", "kb enrich - --from - --out o.jsonl"]
)
def test_a_command_that_reads_standard_input_twice_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    from mirror_rt_cli.app import app

    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, line.split(), input=b"id\tname\n1\tfever\n2\tcough\n")
    assert done.exit_code == 1
    assert len(done.stderr.splitlines()) == 1
    assert "internal" not in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with a name")
@pytest.mark.parametrize("text", [PUBTATOR, "\ufeff\n" + PUBTATOR.replace("\n", "\r\n")])
def test_pubtator_comes_through_a_pipe(tmp_path: Path, text: str) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)

    def through() -> Path:
        threading.Thread(target=pipe.write_bytes, args=(text.encode(),), daemon=True).start()
        return pipe

    notes = MentionNotes()
    assert [mention for mention, *_ in read_mentions(through(), notes=notes)] == ["Fever", "gout"]
    assert notes.misplaced == 0
    assert [q.parts for q in read_gold(through()).queries] == [("Fever",), ("gout",)]
    with pytest.raises(InputError, check=about("pipe", hint="--input-format")):
        text = json.dumps({"mention": "fever"}) + "\n"
        list(read_mentions(through()))


# -- corpora of tables; what a null is


@pytest.mark.parametrize(
    ("name", "content", "output"),
    [
        ("a.csv", "id;text\n1;one\n2;two, too\n3;\n", "1 row without text"),
        (
            "a.tsv",
            "Sentence\tlabel\none\t1\ntwo, too\t0\nsentence\tlabel\n",
            "with the headings again",
        ),
        ("a.jsonl", '{"text": "one"}\n{"text": "two, too"}\n{"text": NaN}\n', "without text"),
        ("a.txt", "one\ntwo, too\n", ""),
    ],
)
def test_a_corpus_of_sentences_is_read_of_tables_too(
    tmp_path: Path, name: str, content: str, output: str
) -> None:
    from mirror_rt.training.make_corpus import sentences

    (tmp_path / name).write_text(content)
    notes = Notes()
    assert sentences(tmp_path / name, notes=notes).strings == ["one", "two, too"]
    assert output in "; ".join(notes.sentences())


@pytest.mark.parametrize("null", ["null", "NaN"])
def test_nan_is_a_null_in_every_reader(tmp_path: Path, null: str) -> None:
    path = tmp_path / "a.jsonl"
    lines = [
        '{"id": "1", "name": "fever", "aliases": %s, "size": %s, "text": "hot"}',
        '{"id": "2", "name": "cough", "aliases": ["tussis", %s], "text": "%s"}',
    ]
    path.write_text("\n".join(lines).replace('"%s"', "%s").replace("%s", null))
    assert [text for text, _ in read_rows(path)] == ["hot", ""]
    assert [text for text, *_ in read_mentions(path)] == ["hot", ""]
    path.write_text(path.read_text().replace('"text"', '"note"'))
    assert [(e.id, e.aliases) for e in read_entities(path)] == [("1", ()), ("2", ("tussis",))]
    path.write_text(f'{{"mention": "fever", "id": {null}}}\n{{"mention": "x", "id": "7"}}\n')
    assert read_gold(path).without_id == 1


@pytest.mark.parametrize(
    "line", ['{"text": "a", "text": "b"}', '{"text": "a", "more": {"x": 1, "y": 2, "x": 3}}']
)
@pytest.mark.parametrize("whole", ["%s\n", "[%s]"])
def test_a_key_that_stands_twice_in_json_is_reported(tmp_path: Path, line: str, whole: str) -> None:
    (tmp_path / "a.jsonl").write_text(whole % line)
    with pytest.raises(InputError, check=about("a.jsonl", line=1)):
        list(read_rows(tmp_path / "a.jsonl"))


@pytest.mark.parametrize("name", ["a.txt", "a"])
def test_what_has_a_delimiter_is_a_table(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("no~Mention\n1~fever, high\n2~cough\n")
    options = TableOptions(delimiter="~")
    assert [t for t, _ in read_rows(tmp_path / name, options=options)] == ["fever, high", "cough"]


def test_gold_tells_what_it_passed_over_and_takes_no_heading_twice(tmp_path: Path) -> None:
    path = tmp_path / "gold.tsv"
    path.write_text("mention\tid\nfever\t1\nMention\tID\n\ncough\t2\n")
    gold = read_gold(path)
    assert len(gold.queries) == 2
    assert len(gold.remarks) == 2
    path.write_text("mention\tid\tid\nfever\t1\t2\n")
    with pytest.raises(InputError, check=about("gold.tsv", value="'id'")):
        read_gold(path)


# -- PubTator that cannot be written again


@pytest.mark.parametrize(
    "content", [PUBTATOR.encode("utf-16"), PUBTATOR.replace("\n", "\r").encode()]
)
def test_pubtator_that_is_recoded_to_be_read_is_not_written(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.pubtator"
    path.write_bytes(content)
    assert [mention for mention, *_ in read_mentions(path)] == ["Fever", "gout"]
    with pytest.raises(InputError, check=about("a.pubtator", value="UTF-16")):
        check_kept(path)


def test_pubtator_of_another_encoding_keeps_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a.pubtator"
    path.write_bytes("7|t|Fi\xe8vre.\n7\t0\t6\tFi\xe8vre\tD\n".encode("latin-1"))
    kept = b"".join(with_ids(path, ["D1"]))
    assert kept == path.read_bytes()[:-1] + b"\tD1\n"


@pytest.mark.parametrize("text", ["7|t|Fever.\n7|a|More.\n", "\n\n", "7|t|x\n7\tCID\tD1\tD2\n"])
def test_pubtator_without_mentions_says_so(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.pubtator").write_text(text)
    with pytest.raises(InputError, check=about("a.pubtator")):
        list(read_mentions(tmp_path / "a.pubtator"))


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "idna", "punycode"])
def test_text_that_is_not_in_the_encoding_named_is_reported(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "a.tsv").write_bytes(b"id\tname\n1\tcaf\xe9\n")
    options = TableOptions(encoding=encoding)
    for read in (
        lambda: read_entities(tmp_path / "a.tsv", options=options),
        lambda: read_rows(tmp_path / "a.tsv", options=options),
    ):
        with pytest.raises(InputError, check=about("a.tsv", value=encoding)):
            list(read())


@pytest.mark.parametrize(
    ("text", "found", "output"),
    [
        ("id;name\nA;x\n", [("A", "x")], False),
        ("sku;title;synonyms\nA;x;y\n", [("A", "x")], False),
        ("sku;ware\nA;x\n", [("sku", "ware"), ("A", "x")], True),
        ("L1;word\nL2;x\n", [("L1", "word"), ("L2", "x")], False),
        ("L1;language;langue\nL2;word;mot\n", [("L1", "language"), ("L2", "word")], True),
    ],
)
def test_columns_by_number_are_found_with_headings_and_without(
    tmp_path: Path, text: str, found: list[tuple[str, str]], output: bool
) -> None:
    (tmp_path / "a.csv").write_text(text)
    skipped = SkippedRows()
    given = Columns(id="1", name="2", aliases=("3",) if text.count(";") > 3 else ())
    read = list(read_entities(tmp_path / "a.csv", columns=given, skip_bad=skipped))
    assert [(e.id, e.name) for e in read] == found
    assert output == any("read as data" in sentence for sentence in skipped.understood())
    with pytest.raises(InputError):
        list(read_entities(tmp_path / "a.csv", columns=Columns(id="9", name="2")))


@pytest.mark.parametrize("first", ["name\tNombre", "sentence1\tsentence_b", "Alias\tAndere"])
def test_a_first_pair_that_may_be_headings_is_reported(tmp_path: Path, first: str) -> None:
    (tmp_path / "p.tsv").write_text(f"{first}\nheart\tcor\n")
    notes = Notes()
    pairs, _ = read_pairs(tmp_path / "p.tsv", notes=notes)
    assert pairs == [tuple(first.split("\t")), ("heart", "cor")]
    (remark,) = notes.sentences()
    assert first.replace("\t", ", ") in remark


# -- lists of ids


@pytest.mark.parametrize(
    ("name", "text", "remarks"),
    [
        ("ids.txt", "id\nA:1\n\n A:2 \n", 1),
        ("ids.txt", "Concept ID\r\nA:1\r\nA:2", 1),
        ("ids.txt", "A:1\nA:2\n", 0),
        ("ids.csv", "ID\nA:1\nA:2\n", 0),
        ("ids.csv", "A:1\nA:2\n", 0),
        ("ids.csv", "name;concept_id\nheart;A:1\nlung;A:2\n;\n", 0),
        ("ids.tsv", '"disease_id"\t"note"\n"A:1"\t"x"\n"A:2"\t""\n', 0),
        ("ids.jsonl", '{"id":"A:1"}\n{"note":"x","ID":"A:2"}\n', 0),
    ],
)
def test_a_list_of_ids_is_read_below_its_heading(
    tmp_path: Path, name: str, text: str, remarks: int
) -> None:
    notes = Notes()
    (tmp_path / name).write_text(text)
    assert read_ids(tmp_path / name, notes=notes) == ["A:1", "A:2"]
    assert len(notes.sentences()) == remarks


def test_a_list_of_ids_that_is_not_understood_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ids.csv"
    path.write_text("sku,brand\nA:1,x\nA:2,y\n")
    with pytest.raises(InputError, check=about("ids.csv")):
        read_ids(path)
    assert read_ids(path, column="SKU") == ["A:1", "A:2"]
    path.write_text("id,brand\nA:1,x\n,y\n")
    with pytest.raises(InputError, check=about("ids.csv", line=3)):
        read_ids(path)


# -- what is no text


@pytest.mark.parametrize(
    "text",
    [
        PUBTATOR,
        "format-version: 1.2\n\n[Term]\nid: A:1\n",
        "[Term]\nid: A:1\n",
        "<?xml version='1.0'?>\n<rdf:RDF/>\n",
        "@prefix s: <http://e/> .\n",
        "<!DOCTYPE html>\n<title>404</title>\n",
        "<html><body>not found</body></html>\n",
        "%PDF-1.4\n%\xe2\xe3\n",
        "names.txt\0\0\0\n0000644\0\0000000000\nheart\nlung\n",  # as the head of a tar archive
    ],
)
def test_what_is_clearly_no_text_is_not_read_by_lines(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.txt"
    path.write_text(text)
    with pytest.raises(InputError, check=about("a.txt")):
        list(read_rows(path))
    rows = list(read_rows(path, options=TableOptions(format=FileFormat.TEXT)))
    assert [row for row, _ in rows] == text.split("\n")[:-1]


def test_json_under_another_name_is_not_cut_at_its_commas(tmp_path: Path) -> None:
    rows = [("heart", "cor"), ("lung, left", "pulmo")]
    path = tmp_path / "pairs.txt"
    path.write_text("".join(json.dumps({"sentence1": a, "sentence2": b}) + "\n" for a, b in rows))
    assert read_pairs(path)[0] == rows
    gold = tmp_path / "gold"
    gold.write_text(json.dumps([{"mention": "a, b", "id": "D1"}], indent=1))
    (query,) = read_gold(gold).queries
    assert (query.parts, query.ids) == (("a, b",), {"D1"})


def test_headings_and_bytes_that_are_no_text_are_reported(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes("Id;Kürzel;Name\n1;x;y\n".encode("latin-1"))
    for read in (read_entities, read_rows, lambda p: read_gold(p).queries):
        with pytest.raises(InputError, check=about("a.csv", line=1)) as result:
            list(read(path))  # type: ignore[operator]
        assert "--encoding windows-1252" in str(result.value)
    (tmp_path / "a.txt").write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR")
    with pytest.raises(InputError, check=about("a.txt")):
        list(read_rows(tmp_path / "a.txt"))
    with pytest.raises(InputError) as result:
        list(read_rows(tmp_path / "a.txt", options=TableOptions(format=FileFormat.TEXT)))
    assert "windows-1252" not in str(result.value)


def test_bad_json_lines_of_gold_are_reported_as_such(tmp_path: Path) -> None:
    path = tmp_path / "gold.jsonl"
    for text in ('"heart"\n', '{"id": 1, "id": 2}\n', "[1]\n"):
        path.write_text(text)
        with pytest.raises(InputError, check=about("gold.jsonl", line=1)):
            read_gold(path)


def test_strings_that_cannot_be_seen_are_blank_in_a_corpus(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("heart\n\u200b\n\ufeff \n\u00ad\nlung\n")
    corpus = read_corpus(path)
    assert (corpus.strings, corpus.blank) == (("heart", "lung"), 3)
    path.write_text("\u200b\n")
    with pytest.raises(InputError, check=about("a.txt")):
        read_corpus(path)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.txt", "heart\nlu\0ng\nliver\n"),
        ("a.txt", "heart\n" * 20_000 + "\0\0\n"),  # behind the head of the file
        ("a.csv", "name\nheart\nlu\0ng\n"),
        ("a.csv", "id,name\n1,heart\n2,lu\0ng\n"),
        ("a.jsonl", '{"text": "heart"}\n{"text": "lu\\u0000ng"}\n'),
    ],
)
def test_nul_is_never_trained_on(tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    for read in (read_corpus, make_corpus.sentences):
        with pytest.raises(InputError, check=about(name)):
            read(path)  # type: ignore[operator]
    path.write_text(text.replace("\0", "").replace("\\u0000", ""))
    assert "lung" in read_corpus(path).strings or len(read_corpus(path).strings) == 1


def test_archives_and_pairs_with_nul_are_refused(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("heart\nlung\n")
    for packing in ("", "gz", "xz"):
        path = tmp_path / f"a{packing}"
        with tarfile.open(path, f"w:{packing}") as archive:
            archive.add(tmp_path / "names.txt", "names.txt")
        for read in (read_corpus, make_corpus.sentences, read_pairs, lambda p: [*read_rows(p)]):
            with pytest.raises(InputError, check=about(path.name)):
                read(path)  # type: ignore[operator]
    (tmp_path / "pairs.txt").write_text("heart\tco\0r\n")
    with pytest.raises(InputError, check=about("pairs.txt", line=1)):
        read_pairs(tmp_path / "pairs.txt")


def test_what_has_columns_is_a_table(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("sku;titel\n1;fever\n2;rash\n")
    with pytest.raises(ConfigError, check=about("a", hint="--kb-format")):
        list(read_entities(path))
    found = list(read_entities(path, columns=Columns(id="sku", name="titel")))
    assert [(e.id, e.name) for e in found] == [("1", "fever"), ("2", "rash")]
    with pytest.raises(InputError, check=about("a")):
        list(read_entities(path, columns=Columns(id="sku", name="title")))


def test_columns_of_plain_text_are_refused_in_a_corpus_too(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("heart\nlung\n")
    for columns in (Columns(name="x"), Columns(id="1"), Columns(fields=("y",))):
        with pytest.raises(ConfigError, check=about("a.txt")):
            read_corpus(path, columns=columns)
