"""One reader of tables: whatever the layout, the same rows; nothing lost, nothing silent."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import os
import random
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xlsxwriter
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from mirror_rt.errors import ConfigError, InputError, MirrorError
from mirror_rt.evaluation.gold import read_gold
from mirror_rt.knowledge import KnowledgeBase
from mirror_rt.knowledge.formats import (
    Columns,
    KbFormat,
    NameFilter,
    SkippedRows,
    given_entities,
    read_entities,
    sniff,
)
from mirror_rt.knowledge.formats.passages import as_entities, read_passages
from mirror_rt.knowledge.formats.sssom import read_sssom
from mirror_rt.knowledge.linking.inputs import read_mentions
from mirror_rt.runtime.sources import Notes, read_columns, read_rows
from mirror_rt.tables import FileFormat, RowError, Table, TableOptions, is_blank
from mirror_rt.tables.excel import write_xlsx
from mirror_rt.textfiles import Source, numbered_lines
from mirror_rt.training.make_corpus import sentences
from mirror_rt.training.read_corpus import read_corpus, read_pairs
from mirror_rt.types import Entity, Name, NameKind
from tests.errors import about

Rows = Sequence[Sequence[str]]


def write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def delimited(rows: Rows, delimiter: str) -> str:
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter, lineterminator="\r\n").writerows(rows)
    return text.getvalue()


def records(rows: Rows) -> list[dict[str, str]]:
    return [dict(zip(rows[0], row, strict=True)) for row in rows[1:]]


def as_parquet(rows: Rows, path: Path) -> None:
    columns = {h: pa.array([row[h] for row in records(rows)], pa.string()) for h in rows[0]}
    pq.write_table(pa.table(columns), path)


def spark(rows: Rows, folder: Path) -> Path:
    """Write a folder as Spark does: parts, a sign of success, hidden sums."""
    folder.mkdir()
    middle = 1 + len(rows) // 2
    as_parquet(rows[:middle], folder / "part-00000-c000.snappy.parquet")
    as_parquet([rows[0], *rows[middle:]], folder / "part-00001-c000.snappy.parquet")
    (folder / "_SUCCESS").touch()
    (folder / ".part-00000-c000.snappy.parquet.crc").write_bytes(b"crc")
    return folder


def every_layout(rows: Rows, folder: Path) -> dict[str, Path]:
    """Write one table in every layout that is read."""
    paths = {
        "csv": write(folder, "a.csv", delimited(rows, ",")),
        "tsv": write(folder, "a.tsv", delimited(rows, "\t")),
        "semicolons": write(folder, "b.csv", delimited(rows, ";")),
        "bars": write(folder, "c.csv", delimited(rows, "|")),
        "sep=": write(folder, "d.csv", "sep=;\r\n" + delimited(rows, ";")),
        "sep=tab": write(folder, "k.csv", "sep=\t\r\n" + delimited(rows, "\t")),
        "bom": write(folder, "e.csv", b"\xef\xbb\xbf" + delimited(rows, ",").encode()),
        "bom sep=": write(folder, "l.csv", "\ufeffsep=;\r\n" + delimited(rows, ";")),
        "cr": write(folder, "m.csv", delimited(rows, ",").replace("\r\n", "\r")),
        "utf-16 cr": write(
            folder, "n.tsv", delimited(rows, "\t").replace("\n", "").encode("utf-16")
        ),
        "array": write(folder, "b.json", json.dumps(records(rows), indent=1)),
        "utf-16": write(folder, "f.csv", delimited(rows, "\t").encode("utf-16")),
        "jsonl": write(folder, "a.jsonl", "\n".join(map(json.dumps, records(rows)))),
        "gzip": write(folder, "g.csv", gzip.compress(delimited(rows, ",").encode())),
        "bzip2": write(folder, "h.csv.bz2", bz2.compress(delimited(rows, ",").encode())),
        "xz": write(folder, "i.tsv.xz", lzma.compress(delimited(rows, "\t").encode())),
        "spark": spark(rows, folder / "parts"),
        "parquet": folder / "a.parquet",
        "xlsx": folder / "a.xlsx",
        "zstd": folder / "j.csv.zst",
    }
    as_parquet(rows, paths["parquet"])
    write_xlsx(paths["xlsx"], rows[0], rows[1:])
    with pa.CompressedOutputStream(str(paths["zstd"]), "zstd") as stream:
        stream.write(delimited(rows, ",").encode())
    return paths


def piped(content: bytes, folder: Path) -> Path:
    """Return a named pipe that somebody writes to, once."""
    path = folder / f"pipe{len(list(folder.iterdir()))}"
    os.mkfifo(path)

    def feed() -> None:
        with open(path, "wb") as handle:
            for at in range(0, len(content), 1_000):  # in small pieces, as they come
                handle.write(content[at : at + 1_000])
                handle.flush()

    threading.Thread(target=feed, daemon=True).start()
    return path


cells = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Zl", "Zp"]), max_size=8
).map(str.strip)
full = cells.filter(lambda text: not is_blank(text))


@settings(max_examples=15, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(full, full, cells, cells), min_size=1, max_size=6))
def test_one_table_is_the_same_entities_in_every_layout(
    tmp_path_factory: pytest.TempPathFactory, given_rows: list[tuple[str, str, str, str]]
) -> None:
    folder = tmp_path_factory.mktemp("layouts")
    head = ("Concept ID", "prefLabel", "altLabels", "colour")
    rows = [head, *(row for row in given_rows if row != head)]
    found: dict[str, list[Entity]] = {}
    for name, path in every_layout(rows, folder).items():
        columns = Columns(fields=("Colour",))
        found[name] = list(read_entities(path, columns=columns))
    pipe = piped(delimited(rows, ",").encode(), folder)
    found["pipe"] = list(read_entities(pipe, columns=Columns(fields=("colour",))))
    assert len(found["csv"]) == len(rows) - 1
    assert [e.id for e in found["csv"]] == [row[0] for row in rows[1:]]
    for name, entities in found.items():
        assert entities == found["csv"], name


def test_one_table_gives_the_same_corpus_and_links_in_every_layout(
    tmp_path: Path, tiny_bundle: Path
) -> None:
    names = [
        ["A1", "heart, left", 'cor "x"|pump'],
        ["A2", "lung; right", ""],
        ["A3", "foot", "Fuß"],
    ]
    mentions = [["m1", "pump"], ["m2", "lung right"], ["m3", ""], ["m4", "fuß"], ["m5", "7,5"]]
    made = every_layout([["id", "name", "synonyms"], *names], tmp_path)
    (tmp_path / "m").mkdir()
    requested = every_layout([["No.", "mention"], *mentions], tmp_path / "m")
    expected = ("heart, left", 'cor "x"', "pump", "lung; right", "foot", "Fuß")
    links: list[list[dict[str, object]]] = []
    with KnowledgeBase.build(tiny_bundle, read_entities(made["csv"]), tmp_path / "kb") as kb:
        answers = [r.to_dict() for r in kb.link([text for _, text in mentions])]
        for layout, path in made.items():
            corpus = read_corpus(path)
            assert corpus.strings == expected, layout
            assert sorted(map(len, corpus.names_by_entity.values())) == [1, 2, 3], layout
            rows = read_mentions(requested[layout])
            links.append([r.to_dict() for r in kb.link([text for text, _, _ in rows])])
            assert links[-1] == answers, layout
    assert [answer["candidates"][0]["entity_id"] for answer in answers[:2]] == ["A1", "A2"]


@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(full, cells), min_size=1, max_size=6))
def test_one_table_is_the_same_texts_in_every_layout(
    tmp_path_factory: pytest.TempPathFactory, given_rows: list[tuple[str, str]]
) -> None:
    folder = tmp_path_factory.mktemp("layouts")
    rows = [("No.", "Mention"), *given_rows]
    expected = [(text, number) for number, text in given_rows]
    for name, path in every_layout(rows, folder).items():
        assert list(read_rows(path, id_column="no.")) == expected, name


# -- headings


@pytest.mark.parametrize(
    "row",
    [
        {"id": "A1", "name": "Heart", "alias": ["Cor"]},
        {"id": "A1", "name": "Heart", "synonyms": ["Cor"]},
        {"ID": "A1", "Name": "Heart", "Synonym": "Cor"},
        {"conceptUri": "A1", "prefLabel": "Heart", "altLabels": ["Cor"]},
        {"concept_id": "A1", "canonical_name": "Heart", "aliases": ["Cor"], "definition": "x"},
        {"code": "A1", "preferredLabel": "Heart", "alternative names": ["Cor"]},
        {"hgnc_id": "A1", "name": "Heart", "symbol": "Cor"},
        {"DiseaseID": "A1", "DiseaseName": "Heart", "Synonyms": "Cor"},
        {"item": "A1", "itemLabel": "Heart", "itemAltLabel": "Cor"},
    ],
)
def test_a_heading_is_known_in_every_layout(tmp_path: Path, row: dict[str, object]) -> None:
    flat = {key: "|".join(v) if isinstance(v, list) else str(v) for key, v in row.items()}
    table = [[*flat], [*flat.values()]]
    paths = [
        write(tmp_path, "a.jsonl", json.dumps(row)),
        write(tmp_path, "a.csv", delimited(table, ",")),
        write(tmp_path, "a.tsv", delimited(table, "\t")),
    ]
    as_parquet(table, tmp_path / "a.parquet")
    for path in (*paths, tmp_path / "a.parquet"):
        (entity,) = read_entities(path)
        assert (entity.id, entity.name, entity.aliases) == ("A1", "Heart", ("Cor",)), path


@pytest.mark.parametrize(
    "headings",
    ["id,colour", "name,parent_id", "label,type", "code,text", "concept_id,size", "a,preferred"],
)
def test_headings_of_which_one_is_known_are_never_an_entity(tmp_path: Path, headings: str) -> None:
    path = write(tmp_path, "kb.csv", f"{headings}\nheart,Heart\nlung,Lung\n")
    for skipped in (None, SkippedRows()):
        with pytest.raises(InputError, check=about("kb.csv")):
            list(read_entities(path, skip_bad=skipped))


@pytest.mark.parametrize("text", ["id\tname\nA\tone\n", '"id"\t"name"\n"A"\t"one"\n'])
def test_a_heading_that_comes_again_is_counted_not_read(tmp_path: Path, text: str) -> None:
    skipped = SkippedRows()
    found = list(read_entities(write(tmp_path, "kb.tsv", text * 3), skip_bad=skipped))
    assert [(e.id, e.name) for e in found] == [("A", "one")] * 3
    assert (skipped.bad, skipped.repeated_headings) == (0, 2)
    notes = Notes()
    path = write(tmp_path, "m.tsv", text.replace("name", "mention") * 3)
    assert [text for text, _ in read_rows(path, notes=notes)] == ["one"] * 3
    assert notes.repeated_headings == 2


def test_nothing_is_lost_or_taken_for_a_name_in_silence(tmp_path: Path) -> None:
    """Blank aliases of a list, headings below data, words that databases write for nothing."""
    given = '{"id": "A", "name": "one", "aliases": ["eins", null, "", " "]}\n'
    (found,) = read_entities(write(tmp_path, "kb.jsonl", given))
    assert [name.text for name in found.names] == ["one", "eins"]

    rows = "A,one\nB,two\nid,name\nC,three\n"
    skipped = SkippedRows()
    found_ids = [e.id for e in read_entities(write(tmp_path, "a.csv", rows), skip_bad=skipped)]
    assert (found_ids, skipped.bad) == (["A", "B", "C"], 1)
    assert "line 3" in skipped.messages[0]

    skipped = SkippedRows()
    rows = "id,name\n1,NULL\n2,NaN\n3,\\N\n4,nullify\n"
    assert len(list(read_entities(write(tmp_path, "n.csv", rows), skip_bad=skipped))) == 4
    assert skipped.null_words == 3
    assert len(skipped.understood()) == 1


def test_numbers_are_texts_in_every_layout(tmp_path: Path) -> None:
    write(tmp_path, "m.csv", "mention,n\n7,a\n1.5,b\n")
    write(tmp_path, "m.jsonl", '{"mention": 7, "n": "a"}\n{"mention": 1.5, "n": "b"}\n')
    pq.write_table(pa.table({"mention": [7.0, 1.5], "n": ["a", "b"]}), tmp_path / "m.parquet")
    write_xlsx(tmp_path / "m.xlsx", ["mention", "n"], [[7, "a"], [1.5, "b"]])
    for path in sorted(tmp_path.iterdir()):
        assert [text for text, _ in read_rows(path)] == ["7", "1.5"], path


def test_a_number_of_any_size_and_kind_is_an_id(tmp_path: Path) -> None:
    many = "9" * 400
    path = write(
        tmp_path, "a.jsonl", f'{{"id": {many}, "name": "a"}}\n{{"id": 7.0, "name": "b"}}\n'
    )
    assert [entity.id for entity in read_entities(path)] == [many, "7"]
    ids = [Decimal("12"), Decimal("1.5"), Decimal(10**20)]
    pq.write_table(pa.table({"id": ids, "name": ["a", "b", "c"]}), tmp_path / "a.parquet")
    found = [entity.id for entity in read_entities(tmp_path / "a.parquet")]
    assert found == ["12", "1.5", str(10**20)]


def test_the_error_for_text_named_like_a_sheet_says_that_it_is_text(tmp_path: Path) -> None:
    path = write(tmp_path, "m.xlsx", "mention\nheart\n")
    with pytest.raises(InputError, check=about("m.xlsx", hint="--input-format")):
        Table(path)
    assert Table(path, options=TableOptions(format=FileFormat.CSV)).first == ["mention"]


def test_ignored_columns_are_reported_and_can_be_kept(tmp_path: Path) -> None:
    rows = [["id", "name", "year", "colour"], ["A", "one", "2021", ""], ["B", "two", "", "red"]]
    for name, path in every_layout(rows, tmp_path).items():
        skipped = SkippedRows()
        list(read_entities(path, skip_bad=skipped))
        assert skipped.left_alone == ["year", "colour"], name
        skipped = SkippedRows()
        found = list(read_entities(path, skip_bad=skipped, columns=Columns(fields=("*",))))
        assert [e.fields for e in found] == [(("year", "2021"),), (("colour", "red"),)], name
        assert skipped.left_alone == []


def test_a_whole_float_is_found_without_its_point(tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": [1.0], "name": ["x"], "year": [2021.0]}), tmp_path / "a.parquet")
    (entity,) = read_entities(tmp_path / "a.parquet", columns=Columns(fields=("year",)))
    assert (entity.id, entity.fields) == ("1", (("year", "2021"),))


def test_columns_can_be_named_by_heading_or_number(tmp_path: Path) -> None:
    path = write(tmp_path, "kb.csv", "sku,product,brand\nP1,Drill,Acme\n")
    columns = Columns(id="SKU", name="product", aliases=("Brand",))
    (entity,) = read_entities(path, columns=columns)
    assert (entity.id, entity.name, entity.aliases) == ("P1", "Drill", ("Acme",))
    path = write(tmp_path, "bare.tsv", "x\tP1\tDrill\tAcme\nx\tP2\tAwl\t\n")
    found = list(read_entities(path, columns=Columns(id="2", name="3", aliases=("4",))))
    assert [(e.id, e.name, e.aliases) for e in found] == [
        ("P1", "Drill", ("Acme",)),
        ("P2", "Awl", ()),
    ]
    with pytest.raises(InputError, check=about("kb.csv", value="'size'")):
        list(read_entities(path.with_name("kb.csv"), columns=Columns(id="size")))
    with pytest.raises(ConfigError, check=about("d.txt", hint="--alias-column")):
        read_entities(write(tmp_path, "d.txt", "A||one\n"), columns=Columns(id="id"))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", "Diagnosis\nfever\ncough\n"),
        ("a.tsv", "Diagnosis\nfever\ncough\n"),
        ("a.csv", "Text\nfever\ncough\n"),
        ("a.csv", " NAME ,note\nfever,x\ncough,y\n"),
        ("a.csv", "id;name\r\n001;fever\r\n2;cough\r\n"),
        ("a.csv", "id\tname\n001\tfever\n2\tcough\n"),
        ("a.tsv", "id,name\n001,fever\n2,cough\n"),
        ("a.tsv", '"name"\t"note"\n"fever"\t"x"\n"cough"\t""\n'),
        ("a.csv", "mention|id\nfever|1\ncough|2\n"),
        ("a.txt", "fever\ncough\n"),
    ],
)
def test_the_head_of_a_table_of_mentions_is_read_rightly(
    tmp_path: Path, name: str, content: str
) -> None:
    notes = Notes()
    found = [text for text, _ in read_rows(write(tmp_path, name, content), notes=notes)]
    assert found == ["fever", "cough"]
    assert bool(notes.sentences()) == ("Diagnosis" in content), "an unknown heading is reported"


@pytest.mark.parametrize(
    ("name", "content", "sign"),
    [
        ("a.csv", "fever; high\ncough\nrash; red; itching\n", ";"),
        ("a.tsv", "fever, high\ncough\nrash, red, itching\n", ","),
        ("a.csv", "fever\thigh\ncough\n", "tab"),
    ],
)
def test_a_first_row_that_holds_another_delimiter_is_refused_by_its_name(
    tmp_path: Path, name: str, content: str, sign: str
) -> None:
    with pytest.raises(InputError, check=about(name, hint=f"--delimiter '{sign}'")):
        list(read_rows(write(tmp_path, name, content)))
    whole = TableOptions(delimiter="," if name.endswith("csv") else "tab")
    texts = [text for text, _ in read_rows(tmp_path / name, options=whole)]
    assert texts == content.splitlines()[1:]


@pytest.mark.parametrize("ending", ["csv", "tsv"])
def test_lines_that_are_quoted_as_a_whole_are_reported(tmp_path: Path, ending: str) -> None:
    sign = "," if ending == "csv" else "\t"
    path = write(tmp_path, f"a.{ending}", f'"id{sign}name"\n"1{sign}x"\n"2{sign}y"\n')
    for read in (read_entities, read_rows):
        with pytest.raises(InputError, check=about(hint="--delimiter")):
            list(read(path))


def test_an_empty_text_is_the_same_by_every_way_to_be_missing(tmp_path: Path) -> None:
    rows = [{"id": "1", "text": "x"}, {"id": "2", "text": None}, {"id": "3"}]
    paths = [
        write(tmp_path, "a.jsonl", "\n".join(map(json.dumps, rows))),
        write(tmp_path, "a.csv", "id,text\n1,x\n2,\n3\n"),
        write(tmp_path, "a.tsv", "id\ttext\n1\tx\n2\t\n3\n"),
    ]
    for path in paths:
        assert list(read_rows(path, id_column="id")) == [("x", "1"), ("", "2"), ("", "3")]
        skipped = SkippedRows()
        assert [p.id for p in read_passages(path, skip_bad=skipped)] == ["1"]
        assert skipped.bad == 2
    write(tmp_path, "first.jsonl", '{"id": "0"}\n{"id": "1", "text": "x"}\n')
    assert list(read_rows(tmp_path / "first.jsonl")) == [("", ""), ("x", "")]


def test_keys_of_json_that_differ_in_case_alone_are_one(tmp_path: Path) -> None:
    rows = [{"ID": "1", "Name": "x"}, {"id": "2", "name": "y"}, {"id": "3", "Id": 4, "name": "z"}]
    path = write(tmp_path, "a.jsonl", "\n".join(map(json.dumps, rows)))
    assert [(e.id, e.name) for e in read_entities(path)] == [("1", "x"), ("2", "y"), ("3", "z")]
    assert [text for text, _ in read_rows(path)] == ["x", "y", "z"]


def test_several_columns_come_from_one_reading_of_a_pipe(tmp_path: Path) -> None:
    text = "mention,context,document\n" + "".join(f"m{i},c{i},d{i}\n" for i in range(9_000))
    pipe = piped(text.encode(), tmp_path)
    options = TableOptions(format=FileFormat.CSV)
    found = list(read_columns(pipe, "mention", ["context", "document"], options=options))
    assert found == [[f"m{i}", f"c{i}", f"d{i}"] for i in range(9_000)]


# -- what a file is made of


def test_what_can_be_read_but_once_is_read_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = "".join(f"http://data.example.org/concept/{i:06d}\tterm {i}\n" for i in range(4_000))
    content = f"id\tname\n{rows}".encode()
    expected = [f"http://data.example.org/concept/{i:06d}" for i in range(4_000)]
    for packed in (content, gzip.compress(content)):
        assert [e.id for e in read_entities(piped(packed, tmp_path))] == expected
        stdin = io.TextIOWrapper(io.BytesIO(packed))
        monkeypatch.setattr(sys, "stdin", stdin)
        assert [e.id for e in read_entities("-")] == expected
        assert len(read_corpus(piped(packed, tmp_path)).strings) == 4_000
    twice = Source(piped(content, tmp_path))
    assert len(list(numbered_lines(twice))) == 4_001
    with pytest.raises(InputError, check=about("pipe4")):
        list(numbered_lines(twice))


@pytest.mark.parametrize("ending", ["parquet", "xlsx"])
def test_parquet_and_excel_come_through_a_pipe_too(tmp_path: Path, ending: str) -> None:
    path = every_layout([["id", "name"], ["A", "one"]], tmp_path)[ending]
    assert [(e.id, e.name) for e in read_entities(piped(path.read_bytes(), tmp_path))] == [
        ("A", "one")
    ]
    other = write(tmp_path, "other.csv", path.read_bytes())  # under another name
    assert [e.id for e in read_entities(other)] == ["A"]


@pytest.mark.parametrize(
    ("content", "encoding"),
    [
        ("id,name\r1,café\r2,lung\r".encode(), None),
        ("id,name\n1,café\n2,lung\n".encode("utf-16"), None),
        ("id,name\n1,café\n2,lung\n".encode("utf-16-le"), None),
        ("id,name\n1,café\n2,lung\n".encode("utf-8-sig"), None),
        ("id,name\n1,café\n2,lung\n".encode("windows-1252"), "windows-1252"),
        ("id,name\n1,café\n2,lung\n".encode("cp1252"), "latin-1"),
        ("id,name\r1,café\r2,lung\r".encode("mac-roman"), "mac-roman"),
    ],
)
def test_a_file_may_be_written_in_many_ways(
    tmp_path: Path, content: bytes, encoding: str | None
) -> None:
    path = write(tmp_path, "kb.csv", content)
    found = read_entities(path, options=TableOptions(encoding=encoding))
    assert [(e.id, e.name) for e in found] == [("1", "café"), ("2", "lung")]


def test_the_likely_encoding_is_named(tmp_path: Path) -> None:
    for name in ("kb.csv", "kb.tsv", "kb.jsonl"):
        text = '{"id": "1", "name": "café"}' if name == "kb.jsonl" else "id\tname\n1\tcafé"
        path = write(tmp_path, name, text.encode("windows-1252"))
        for read in (read_entities, read_rows):
            with pytest.raises(InputError, check=about(hint="--encoding")):
                list(read(path))
    with pytest.raises(InputError, check=about("a.txt", line=1, hint="--encoding")):
        list(read_rows(write(tmp_path, "a.txt", "café".encode("windows-1252"))))
    with pytest.raises(ConfigError, check=about("--encoding windows-9")):
        TableOptions(encoding="windows-9")
    with pytest.raises(ConfigError, check=about("--delimiter ::")):
        TableOptions(delimiter="::")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("kb.xlsx", b"no excel"),
        ("kb.csv", b"PK\x03\x04" + b"\0" * 60),
        ("kb.parquet", b"no parquet"),
        ("kb.csv.gz", gzip.compress(b"id,name\n" * 999, mtime=0)[:-9]),
        ("kb.csv.bz2", bz2.compress(b"id,name\n" * 999)[:-9]),
        ("kb.csv.xz", lzma.compress(b"id,name\n" * 999)[:-9]),
    ],
)
def test_a_file_that_is_not_what_it_should_be_is_reported(
    tmp_path: Path, name: str, content: bytes
) -> None:
    with pytest.raises(InputError, check=about(name)):
        list(read_entities(write(tmp_path, name, content)))


def test_a_sheet_has_the_words_that_a_spreadsheet_shows(tmp_path: Path) -> None:
    path = tmp_path / "a.xlsx"
    write_xlsx(path, ["id", "name", "ok"], [[7, "one", None], [8.5, "=1+1", ""], ["", None, ""]])
    table = Table(path)
    table.take_headings()
    assert list(table.rows()) == [(2, ["7", "one", None]), (3, ["8.5", "=1+1", None])]
    with pytest.raises(ConfigError, check=about("a.xlsx", line=1)):
        write_xlsx(path, ["id"], [["x" * 40_000]])


def test_a_merged_cell_is_read_in_all_its_rows(tmp_path: Path) -> None:
    path = tmp_path / "a.xlsx"
    with xlsxwriter.Workbook(str(path)) as book:
        sheet = book.add_worksheet()
        for i, row in enumerate(["nid", "-b1", "a-2", "d-3", "--4", "--5"], start=3):
            sheet.write_row(i, 2, [None if sign == "-" else sign for sign in row])
        sheet.merge_range(3, 2, 4, 2, "headings")  # below it a row of its own
        sheet.merge_range(5, 3, 6, 3, 7.5)
        sheet.merge_range(7, 2, 8, 3, "block")
    notes = Notes()
    table = Table(path, notes=notes)
    table.take_headings()
    cells = [row[2:] for _, row in table.rows() if isinstance(row, list)]
    assert cells == [
        ["", "b", "1"], ["a", "7.5", "2"], ["d", "7.5", "3"],
        ["block", "", "4"], ["block", "", "5"],
    ]  # fmt: skip
    assert "2 merged" in " ".join(notes.sentences())


def test_the_line_ends_in_a_quoted_cell_are_kept(tmp_path: Path) -> None:
    for row_end in ("\n", "\r\n", "\r"):
        for delimiter in (",", "\t"):
            rows = [["id", "name"], ["1", "a\r\nb"], ["2", 'c\nd "e"\r\n'], ["3", "\r\nf\rg"]]
            if row_end == "\r":  # where no other is in the file
                rows = [["id", "name"], ["1", "a\rb"], ["2", 'c\r\rd "e"\r'], ["3", "f"]]
            with open(tmp_path / "a.csv", "w", encoding="utf-8", newline="") as handle:
                csv.writer(handle, lineterminator=row_end, delimiter=delimiter).writerows(rows)
            table = Table(tmp_path / "a.csv")
            table.take_headings()
            assert [table.headings, *(cells for _, cells in table.rows())] == rows


def test_a_folder_that_holds_parquet_among_others_is_no_table(tmp_path: Path) -> None:
    """A home folder is not read for the sake of one file somewhere in it."""
    part = pa.table({"mention": ["heart"]})
    for name, texts in (("day=1/a.parquet", 1), (".hidden", 1), ("_SUCCESS", 1), ("notes.txt", 0)):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        pq.write_table(part, path) if path.suffix == ".parquet" else path.touch()
        if texts:
            assert [text for text, _ in read_rows(tmp_path, column="mention")] == ["heart"]
    for folder in (tmp_path, tmp_path.parent):
        with pytest.raises((InputError, ConfigError), check=about(folder.name)):
            list(read_rows(folder, column="mention"))


def test_parts_of_spark_have_their_partition_as_a_column(tmp_path: Path) -> None:
    for country in ("DE", "FR"):
        folder = tmp_path / "kb" / f"country={country}"
        folder.mkdir(parents=True)
        as_parquet([["id", "name"], [country, f"in {country}"]], folder / "part-0.parquet")
    found = list(read_entities(tmp_path / "kb", columns=Columns(fields=("country",))))
    assert [(e.id, e.fields) for e in found] == [
        ("DE", (("country", "DE"),)),
        ("FR", (("country", "FR"),)),
    ]
    assert [text for text, _ in read_rows(tmp_path / "kb")] == ["in DE", "in FR"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, check=about("empty")):
        list(read_rows(tmp_path / "empty"))


# -- quotes


@pytest.mark.parametrize(
    ("tail", "kept"),
    [
        ("", 499),
        ('A501,"x"\n', 500),
        ('A501,"x, y"\nA502,z\n', 501),
        ('A501,x"\nA502,z\n', 501),
        ('A501,""\n', 499),
    ],
)
def test_a_stray_quote_is_named_where_it_opens_and_costs_its_row(
    tmp_path: Path, tail: str, kept: int
) -> None:
    rows = "".join(f"A{i},item {i}\n" for i in range(3, 501))
    path = write(tmp_path, "q.csv", f'id,name\nA1,apple\nA2,"edoxaban\n{rows}{tail}')
    skipped = SkippedRows()
    found = list(read_entities(path, skip_bad=skipped))
    assert len(found) == kept
    assert skipped.messages[0].startswith(f"{path}: line 3: not CSV")
    assert len(found) + skipped.bad == 500 + tail.count("\n")
    with pytest.raises(InputError, check=about("q.csv", line=3)):
        list(read_entities(path))


def test_cells_over_lines_are_read_in_csv_and_in_tsv(tmp_path: Path) -> None:
    text = 'id{0}name{0}altLabels\nA{0}one{0}"uno\neins\nun"\nB{0}5" pipe{0}"say ""ah"""\n'
    for name, sign in (("a.csv", ","), ("a.tsv", "\t"), ("b.csv", ";")):
        first, second = read_entities(write(tmp_path, name, text.format(sign)))
        assert first.aliases == ("uno", "eins", "un")
        assert (second.name, second.aliases) == ('5" pipe', ('say "ah"',))


def test_a_lone_inch_sign_in_a_tsv_is_text(tmp_path: Path) -> None:
    rows = [["id", "name"], ["A", '"5 inches'], ["B", 'pipe 5"'], ["C", '"a" or "b"']]
    path = write(tmp_path, "a.tsv", "\n".join("\t".join(row) for row in rows))
    assert [[e.id, e.name] for e in read_entities(path)] == rows[1:]


def test_a_cell_of_a_tsv_that_only_seems_quoted_takes_no_line_with_it(tmp_path: Path) -> None:
    text = 'id\tname\tnote\nA\t"\na"\tx\t"y\nc"\tz\nB\ttwo\tx\n'
    rows = [row for row in Table(write(tmp_path, "a.tsv", text)).rows()]
    assert [number for number, _ in rows] == [1, 2, 3, 4, 5]


def test_a_line_end_at_the_edge_of_a_name_is_no_fault(tmp_path: Path) -> None:
    paths = [
        write(tmp_path, "a.jsonl", '{"id": "1", "name": "heart\\n"}'),
        write(tmp_path, "a.csv", 'id,name\n1,"heart\n"\n'),
        write(tmp_path, "b.csv", 'id,name\n1,"\r\n\theart "\n'),
    ]
    for path in paths:
        assert [e.name for e in read_entities(path)] == ["heart"]


def test_a_name_that_is_left_out_cannot_be_bad(tmp_path: Path) -> None:
    pytest.importorskip("rdflib")
    skos = (
        "@prefix s: <http://www.w3.org/2004/02/skos/core#> .\n"
        '<http://e/1> a s:Concept ; s:prefLabel "heart\\r"@en , "Herz\\nOrgan"@de .\n'
    )
    row = {"id": "1", "name": "heart", "language": "en"}
    row |= {"aliases": [{"name": "Herz\nOrgan", "language": "de"}]}  # type: ignore[dict-item]
    paths = [write(tmp_path, "a.ttl", skos), write(tmp_path, "a.jsonl", json.dumps(row))]
    for path in paths:
        with pytest.raises(InputError, check=about(path.name, value="U+000A")):
            list(read_entities(path))
        skipped = SkippedRows(strict=True)
        keep = NameFilter(languages=("en",))
        (entity,) = read_entities(path, skip_bad=skipped, keep=keep)
        assert [n.text for n in entity.names] == ["heart"]
        assert skipped.filtered == 1


# -- files that people bring, made up in the layout of the real ones


def entities(path: Path) -> tuple[dict[str, tuple[str, ...]], SkippedRows]:
    skipped = SkippedRows()
    found: dict[str, tuple[str, ...]] = {}
    for e in read_entities(path, skip_bad=skipped):
        found[e.id] = (*found.get(e.id, ()), *(n.text for n in e.names))
    return found, skipped


def test_hgnc(tmp_path: Path) -> None:
    head = "hgnc_id\tsymbol\tname\tlocus_group\talias_symbol\talias_name\tprev_symbol\tentrez_id\n"
    row = 'HGNC:1\tABC1\tabc gene 1\tprotein-coding gene\t"FW7|S86"\t\tOLD1\t673\n'
    found, skipped = entities(write(tmp_path, "hgnc.txt", head + row))
    assert found == {"HGNC:1": ("abc gene 1", "ABC1", "FW7", "S86", "OLD1")}
    assert skipped.left_alone == ["locus_group", "entrez_id"]


RF2_HEAD = (
    "id\teffectiveTime\tactive\tmoduleId\tconceptId\tlanguageCode\ttypeId\tterm\t"
    "caseSignificanceId\r\n"
)


def test_snomed_descriptions(tmp_path: Path) -> None:
    rows = [
        ("101", "1", "22", "900000000000003001", "Heart attack (disorder)"),
        ("102", "1", "22", "900000000000013009", 'The "big" one'),
        ("103", "0", "22", "900000000000013009", "Old name"),
        ("104", "1", "33", "900000000000013009", "Cough"),
    ]
    text = RF2_HEAD + "".join(
        f"{i}\t20240101\t{active}\t9\t{concept}\ten\t{kind}\t{term}\t9\r\n"
        for i, active, concept, kind, term in rows
    )
    path = write(tmp_path, "sct2_Description_Snapshot-en_INT_20240101.txt", text)
    found, skipped = entities(path)
    assert found == {"22": ("Heart attack (disorder)", 'The "big" one'), "33": ("Cough",)}
    assert (skipped.obsolete, skipped.bad) == (1, 0)
    first = next(read_entities(path))
    assert (first.types, first.names[0].kind) == (("disorder",), NameKind.PREFERRED)
    other = "id\teffectiveTime\tactive\tmoduleId\tdefinitionStatusId\r\n1\t2\t1\t3\t4\r\n"
    with pytest.raises(InputError, check=about("sct2_Concept_Snapshot_INT_20240101.txt")):
        entities(write(tmp_path, "sct2_Concept_Snapshot_INT_20240101.txt", other))
    full_release = write(tmp_path, "sct2_Description_Full-en_INT_20240101.txt", text)
    with pytest.raises(InputError, check=about("sct2_Description_Full-en_INT_20240101.txt")):
        entities(full_release)


def test_esco(tmp_path: Path) -> None:
    text = (
        "conceptType,conceptUri,iscoGroup,preferredLabel,altLabels,hiddenLabels,status,code\n"
        'Occupation,http://e/1,2166,animator,"drawer of films\nmaker, of cartoons"'
        ",,released,2166.1\n"
        "Occupation,http://e/2,2167,nurse,,,released,2167.1\n"
    )
    found, skipped = entities(write(tmp_path, "occupations_en.csv", text))
    assert found == {
        "http://e/1": ("animator", "drawer of films", "maker, of cartoons"),
        "http://e/2": ("nurse",),
    }
    assert skipped.left_alone == ["conceptType", "iscoGroup", "status", "code"]


def test_geonames(tmp_path: Path) -> None:
    row = (
        "2950159\tBerlin\tBerlin\tBerlino,Berlín,ベルリン\t52.52\t13.41\tP\tPPLC\tDE\t\t16\t00\t"
        "11000\t11000000\t3426354\t74\t43\tEurope/Berlin\t2024-01-01\n"
    )
    found, skipped = entities(write(tmp_path, "cities15000.txt", row * 2))
    assert found == {"2950159": ("Berlin", "Berlino", "Berlín", "ベルリン") * 2}
    assert "latitude" in skipped.left_alone
    (remark,) = skipped.remarks
    assert "GeoNames" in remark


@pytest.mark.parametrize("sign", [",", "\t"])
def test_ctd(tmp_path: Path, sign: str) -> None:
    head = ["DiseaseName", "DiseaseID", "AltDiseaseIDs", "Definition", "ParentIDs", "Synonyms"]
    row = ["Gout", "MESH:D006073", "OMIM:1|OMIM:2", "It hurts.", "MESH:D001", "Podagra|Gouts"]
    lines = ["# MEDIC, made up", "# Fields:", f"# {sign.join(head)}", "#", sign.join(row)]
    path = write(tmp_path, "CTD_diseases.csv", "\n".join(lines))
    (entity,) = read_entities(path)
    assert [*read_entities(piped(path.read_bytes(), tmp_path))] == [entity]
    assert (entity.id, entity.name, entity.aliases) == (
        "MESH:D006073",
        "Gout",
        ("Podagra", "Gouts"),
    )
    assert entity.alternative_ids == ("OMIM:1", "OMIM:2")
    assert entity.description == "It hurts."


@pytest.mark.parametrize("variable", ["item", "disease"])
def test_results_of_a_wikidata_query(tmp_path: Path, variable: str) -> None:
    text = f"{variable},{variable}Label,{variable}Description\nhttp://w/Q1,gout,a disease\n"
    (entity,) = read_entities(write(tmp_path, "query.csv", text))
    assert (entity.id, entity.name) == ("http://w/Q1", "gout")


def test_results_of_a_wikidata_query_in_its_tsv(tmp_path: Path) -> None:
    text = '?item\t?itemLabel\n<http://w/Q1>\t"gout"@en\n<http://w/Q2>\t"a \\\\"b\\\\""@en\n'
    found, skipped = entities(write(tmp_path, "query.tsv", text.replace("\\\\", "\\")))
    assert found == {"http://w/Q1": ("gout",), "http://w/Q2": ('a "b"',)}
    assert skipped.bad == 0


def test_unknown_headings_above_ids_without_digits_are_reported(tmp_path: Path) -> None:
    skipped = SkippedRows()
    path = write(tmp_path, "kb.csv", "Kürzel;Bezeichnung\nheart;Herz\nlung;Lunge\n")
    assert len(list(read_entities(path, skip_bad=skipped))) == 3
    (remark,) = skipped.remarks
    assert "Kürzel, Bezeichnung" in remark


def test_a_dump_of_wikidata_may_be_packed_and_called_ndjson(tmp_path: Path) -> None:
    item = {"type": "item", "id": "Q1", "labels": {"en": {"language": "en", "value": "gout"}}}
    item |= {"claims": {}}
    raw = f"[\n{json.dumps(item)},\n]\n".encode()
    for name, content in (("w.ndjson", raw[2:-2]), ("latest-all.json.bz2", bz2.compress(raw))):
        path = write(tmp_path, name, content.strip().removesuffix(b"," if name[0] == "w" else b""))
        assert sniff(path) is KbFormat.WIKIDATA
        assert [e.id for e in read_entities(path)] == ["Q1"]


# -- gold, pairs, corpora


def test_gold_and_pairs_of_every_layout(tmp_path: Path) -> None:
    gold = [["Mention", "Concept ID"], ["flu", "D1|D2"], ["a; b, c", "D3"]]
    pairs = [["sentence1", "sentence2"], ["a", "b"], ["c, d", "e; f"]]
    (tmp_path / "gold").mkdir()
    (tmp_path / "pairs").mkdir()
    for name, path in every_layout(gold, tmp_path / "gold").items():
        first, second = read_gold(path).queries
        assert {"D1", "D2"} <= first.ids, name
        assert second.parts == ("a; b, c",), name
    for name, path in every_layout(pairs, tmp_path / "pairs").items():
        assert read_pairs(path) == ([("a", "b"), ("c, d", "e; f")], 0), name


# -- commands


def run(*arguments: object, stdin: bytes | None = None) -> Result:
    from mirror_rt_cli.app import app

    return CliRunner().invoke(app, [str(a) for a in arguments], input=stdin)


def test_kb_stats_fails_where_it_does_not_understand_the_headings(tmp_path: Path) -> None:
    for content in ("foo,bar\nX:1,fever\nX:2,cough\n", "id,colour\nX:1,red\n"):
        path = write(tmp_path, "kb.csv", content)
        failed = run("kb", "stats", path)
        assert failed.exit_code == 1
        assert "--" in failed.stderr.splitlines()[-1]
    output = run("kb", "stats", path, "--name-column", "colour", "-f", "jsonl")
    assert json.loads(output.stdout)["entities"] == 1


def test_columns_left_alone_are_reported_once(tmp_path: Path) -> None:
    path = write(tmp_path, "kb.csv", "id,name,size,colour\nA,one,1,red\nB,two,2,blue\n")
    output = run("kb", "stats", path)
    assert output.stderr.splitlines() == ["columns left alone: size, colour"]
    assert run("kb", "stats", path, "--field", "*").stderr == ""


def test_standard_input_has_a_format(tiny_bundle: Path, tmp_path: Path) -> None:
    kb = write(tmp_path, "kb.tsv", "id\tname\nA\tfever\nB\tcough\n")
    assert run("index", tiny_bundle, kb, "--out", tmp_path / "kb").exit_code == 0
    text = b"no;Name\n1;fever\n2;cough\n"
    linked = run("link", tmp_path / "kb", "-", "--input-format", "csv", stdin=text)
    assert [json.loads(line)["mention"] for line in linked.stdout.splitlines()] == [
        "fever",
        "cough",
    ]
    raw = b"caf\xe9|x\n"
    options = ("--input-format", "csv", "--delimiter", "|", "--encoding", "latin-1")
    out = tmp_path / "v.parquet"
    done = run("embed", tiny_bundle, "-", "--out", out, *options, stdin=b"text|no\n" + raw)
    assert done.exit_code == 0, done.stderr
    assert pq.read_table(out).column("text").to_pylist() == ["café"]


def test_a_word_that_is_a_file_too_is_reported(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kb = write(tmp_path, "kb.tsv", "id\tname\nA\tfever\nB\tcough\n")
    assert run("index", tiny_bundle, kb, "--out", tmp_path / "kb").exit_code == 0
    monkeypatch.chdir(tmp_path)
    write(tmp_path, "fever", "cough\n")
    linked = run("link", "kb", "fever")
    assert [json.loads(line)["mention"] for line in linked.stdout.splitlines()] == ["cough"]
    assert linked.stderr.startswith("fever: is read as the file of that name")


# -- broken on purpose


def _mutated(content: bytes, rng: random.Random) -> bytes:
    signs = [b'"', b",", b"\t", b";", b"\n", b"\r", b"\0", b"\xff", b"|", b"{", b"[", b"#", b""]
    some = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(some) + 1)
        match rng.randrange(4):
            case 0:
                some[at:at] = rng.choice(signs)
            case 1:
                del some[at : at + rng.randint(1, 9)]
            case 2:
                some[at : at + 1] = rng.choice(signs)
            case _:
                some[at:at] = some[max(0, at - rng.randint(1, 40)) : at]
    return bytes(some)


def _check(path: Path) -> None:
    """Read a broken file in every way there is: one line of fault, or every row accounted for."""
    readers: list[Callable[[], object]] = [
        lambda: list(read_entities(path, skip_bad=SkippedRows())),
        lambda: list(read_rows(path)),
        lambda: list(read_passages(path, skip_bad=SkippedRows())),
        lambda: read_gold(path),
        lambda: read_pairs(path),
        lambda: read_corpus(path),
        lambda: list(read_mentions(path)),
        lambda: sentences(path, split=True),
        lambda: list(read_sssom(path)),
        lambda: list(read_rows(path, options=TableOptions(delimiter=";"))),
        lambda: list(read_entities(path, options=TableOptions(encoding="utf-16"))),
    ]
    for read in readers:
        with suppress(MirrorError):  # its text is one line by its class
            read()
    _check_rows(path)


def _check_rows(path: Path) -> None:
    try:
        table = Table(path, default=FileFormat.TSV)
        table.take_headings()
        rows = list(table.rows())
    except MirrorError:
        return
    numbers = [number for number, _ in rows]
    assert numbers == sorted(set(numbers)), "a row is numbered by its own line"
    if table.kind not in (FileFormat.CSV, FileFormat.TSV):
        return
    lines = dict(numbered_lines(path, strict=False))
    taken = set(numbers)
    for number, row in rows:  # the lines inside cells belong to their row
        if not isinstance(row, RowError):
            taken.update(range(number, number + 1 + sum(str(c).count("\n") for c in row if c)))
    lost = [line for number, line in lines.items() if number not in taken and line.strip()]
    passed = table.notes.repeated_headings + table.notes.comments + table.notes.blank_rows
    heading = 1 + sum(h.count("\n") for h in table.first or [])
    assert len(lost) <= passed + heading + 1 + 40 * any(isinstance(r, RowError) for _, r in rows)


def _originals(folder: Path) -> list[Path]:
    rows = [["id", "name", "aliases", "text"]]
    rows += [[f"A{i}", f'name "{i}"', "x|y", f"a, b; {i}\nc"] for i in range(6)]
    paths = every_layout(rows, folder)
    del paths["spark"]
    simple = [["id", "name"], *([f"A{i}", f"name {i}"] for i in range(30))]
    write(folder, "simple.csv", delimited(simple, ","))
    write(folder, "simple.tsv", delimited(simple, "\t"))
    write(folder, "utf16.tsv", delimited(simple, "\t").encode("utf-16"))
    write(folder, "cr.csv", delimited(simple, ";").replace("\r\n", "\n").replace("\n", "\r"))
    write(folder, "dictionary.txt", "".join(f"A{i}||name {i}\n" for i in range(9)))
    for name, text in OTHER_FORMATS.items():
        write(folder, name, text)
    extra = ["simple.csv", "simple.tsv", "utf16.tsv", "cr.csv", "dictionary.txt", *OTHER_FORMATS]
    return [*paths.values(), *(folder / name for name in extra)]


_RRF = "C1|ENG|P|L1|PF|S1|Y|A1||||MSH|MH|D1|fever|0|N|256|\n"
_ICD = "00001 A00     0 {0:60} {0}\n00002 A000    1 {1:60} {1}\n"
_WIKIDATA = {"type": "item", "id": "Q1", "labels": {"en": {"language": "en", "value": "gout"}}}
OTHER_FORMATS = {
    "kb.obo": "format-version: 1.2\n\n[Term]\nid: T:1\nname: heart\nalt_id: T:9\n"
    'def: "Pumps." [X:1]\nsynonym: "cor" EXACT []\n\n[Term]\nid: T:2\nname: lung\n',
    "kb.ttl": "@prefix s: <http://www.w3.org/2004/02/skos/core#> .\n"
    '<http://e/1> a s:Concept ; s:prefLabel "heart"@en ; s:altLabel "cor", "pump" .\n',
    "kb.nt": "<http://e/1> <http://www.w3.org/1999/02/22-rdf-syntax-ns#type> "
    "<http://www.w3.org/2004/02/skos/core#Concept> .\n"
    '<http://e/1> <http://www.w3.org/2004/02/skos/core#prefLabel> "heart"@en .\n',
    "kb.owl": '<?xml version="1.0"?>\n<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"'
    ' xmlns:rdfs="http://www.w3.org/2000/01/rdf-schema#" xmlns:owl="http://www.w3.org/2002/07/owl#">'
    '\n<owl:Class rdf:about="http://e/1"><rdfs:label xml:lang="en">heart</rdfs:label></owl:Class>\n'
    "</rdf:RDF>\n",
    "kb.rrf": _RRF + _RRF.replace("C1", "C2").replace("fever", "cough"),
    "codes.txt": _ICD.format("Cholera", "Cholera of one kind"),
    "wikidata.json": f"[\n{json.dumps(_WIKIDATA | {'claims': {}})},\n]\n",
    "a.pubtator": "7|t|Fever and gout.\n7|a|More.\n7\t0\t5\tFever\tD\tX1\n\n8|t|x\n8\t0\t1\tx\tD\n",
    "a.concept": "1||0|5||d||fever||P4\n1||6|9||d||gout||P1|P2\n",
    "a.sssom.tsv": "#license: x\nsubject_id\tsubject_label\tpredicate_id\tobject_id\tobject_label\t"
    "mapping_justification\tconfidence\n"
    "A:1\tx\tskos:exactMatch\tB:1\ty\tsemapv:LexicalMatching\t.9\n",
    "words.txt": "fever\ncough, x\nname\n",
}


def _fuzz(folder: Path, count: int, seed: int) -> None:
    rng = random.Random(seed)
    originals = [(path.name, path.read_bytes()) for path in _originals(folder)]
    for i in range(count):
        name, content = originals[i % len(originals)]
        path = write(folder, f"broken-{name}", _mutated(content, rng))
        _check(path)


def test_a_broken_table_is_one_line_of_fault_or_loses_no_row(tmp_path: Path) -> None:
    _fuzz(tmp_path, 170, seed=1)


@pytest.mark.slow
def test_ten_thousand_broken_tables(tmp_path: Path) -> None:
    _fuzz(tmp_path, 10_000, seed=2)


@pytest.mark.slow
def test_of_ten_thousand_broken_lines_each_is_read_or_counted(tmp_path: Path) -> None:
    rng = random.Random(3)
    for i in range(3_000):
        rows = [[f"A{j}", f"name {j}"] for j in range(12)]
        broken = rng.randrange(12)
        sign = rng.choice(['"', '""', '"x', '" ', 'x"', '"a"b'])
        rows[broken][1] = sign + rows[broken][1]
        name, delimiter = [("a.csv", ","), ("a.tsv", "\t"), ("b.csv", ";")][i % 3]
        lines = [delimiter.join(row) for row in [["id", "name"], *rows]]
        skipped = SkippedRows()
        path = write(tmp_path, name, "\n".join(lines))
        found = list(read_entities(path, skip_bad=skipped))
        assert len(found) + skipped.bad == 12
        assert {f"A{j}" for j in range(12) if j != broken} <= {e.id for e in found}


# -- arrays of JSON


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a", "a.json.gz"])
def test_an_array_of_objects_is_read_however_it_is_broken_into_lines(
    tmp_path: Path, name: str, indent: int | None
) -> None:
    rows = [{"id": str(i), "name": f'a "b" [{i}]', "aliases": ["x, {y", "]"]} for i in range(2_500)]
    content = json.dumps(rows, indent=indent).encode()
    path = write(tmp_path, name, gzip.compress(content) if name.endswith("gz") else content)
    found = list(read_entities(path))
    assert [(e.id, e.name, *e.aliases) for e in found] == [
        (str(i), f'a "b" [{i}]', "x, {y", "]") for i in range(2_500)
    ]
    options = TableOptions(format=FileFormat.JSONL)
    texts = [text for text, _ in read_rows(path, column="name", options=options)]
    assert texts == [row["name"] for row in rows]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('[{"id": "1", "name": "x"}\n{"id": "2", "name": "y"}]', 2),
        ('[{"id": "1", "name": "x"},\n{"id": "2", "name": "y"', 2),
        ('[{"id": "1", "name": "x"},\n\n{"id": oops}]', 3),
        ('[{"id": "1", "name": "x"},\n]', 2),
        ('[{"id": "1", "name": "x"}]\n[]', 1),
        ('\n[', 2),
        ('[\n{\n"id": "1",\n"x": [\n{\n"id": "2",\n"name": "in"\n}\n] "name"\n}\n]', 9),
        ('[{"id": "1", "name": "x\n"}]', 1),
    ],
)  # fmt: skip
def test_a_broken_array_is_reported_with_its_line_and_never_half_read(
    tmp_path: Path, text: str, line: int
) -> None:
    for skipped in (None, SkippedRows()):
        with pytest.raises(InputError, check=about("a.json", line=line)):
            list(read_entities(write(tmp_path, "a.json", text), skip_bad=skipped))


@pytest.mark.parametrize(
    "broken", ['{"id": "E2", "name": }', '{"id" "E2"}', '{"id": "E2", "name": "a', '{"x": [1, 2}']
)
@pytest.mark.parametrize("indentation", ["", "  "])
def test_reading_goes_on_after_a_broken_object_of_an_array(
    tmp_path: Path, broken: str, indentation: str
) -> None:
    first, last = (
        f'{{"id": "E{i}", "name": "n{i}",\n{indentation}  "aliases": [\n{indentation}   '
        f'{{"name": "a{i}"}}]}}'
        for i in (1, 3)
    )
    path = tmp_path / "a.json"
    for rows in ([first, broken, last], [broken, first, last], [first, last, broken]):
        text = ",\n".join(indentation + row for row in rows)
        path.write_text(f"[\n{text}\n]\n")
        skipped = SkippedRows()
        found = list(read_entities(path, skip_bad=skipped))
        assert [(e.id, e.aliases) for e in found] == [("E1", ("a1",)), ("E3", ("a3",))]
        assert skipped.bad == 1
        with pytest.raises(InputError, check=about("a.json")):
            list(read_entities(path))


def test_what_is_no_object_in_an_array_is_counted_by_its_place(tmp_path: Path) -> None:
    path = write(tmp_path, "a.json", '[{"id": "1", "name": "x"}, 7, ["y"], {"id": "4"}]')
    skipped = SkippedRows()
    assert [e.id for e in read_entities(path, skip_bad=skipped)] == ["1"]
    assert [message.split(": ")[1] for message in skipped.messages] == ["row 2", "row 3", "row 4"]


# -- from Python


def test_dicts_are_entities_as_json_lines_are() -> None:
    rows = [
        {"id": 7.0, "name": "heart", "synonyms": ["cor"], "description": float("nan")},
        {"ID": "8", "label": "lung", "parents": None},
        Entity(id="9", names=(Name(text="liver"),)),
    ]
    found = list(given_entities(rows))
    assert [(e.id, e.name, e.aliases, e.description) for e in found] == [
        ("7", "heart", ("cor",), ""), ("8", "lung", (), ""), ("9", "liver", (), ""),
    ]  # fmt: skip
    frame = pytest.importorskip("pandas").DataFrame(
        {"id": ["1", "2"], "name": ["a", "b"], "alias": ["c", None]}
    )
    records = list(given_entities(frame.to_dict("records")))
    assert [(e.id, e.aliases) for e in records] == [("1", ("c",)), ("2", ())]
    for bad in (frame, ["heart"], [{"id": "1"}], [{"name": "x"}], [None]):
        with pytest.raises(InputError, check=about("entity 1")):
            list(given_entities(bad))
    for bad in ({"id": "1", "name": "x"}, 7, rows[2]):
        with pytest.raises(ConfigError):
            list(given_entities(bad))  # type: ignore[arg-type]
    with pytest.raises(InputError):
        list(as_entities([{"id": "1", "text": "x"}]))  # type: ignore[list-item]
