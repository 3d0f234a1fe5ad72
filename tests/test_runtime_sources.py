"""Reading the strings to embed from every layout."""

from __future__ import annotations

import csv
import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mirror_rt.errors import ConfigError, InputError
from mirror_rt.runtime import sources
from mirror_rt.runtime.sources import FileFormat, count_rows, format_of, read_rows
from tests.embed_jobs import in_layout
from tests.errors import about

TEXTS = ["fever", "", "fever", 'a "quoted" one, with a comma', "two\nlines", "naïve  é"]
ONE_LINE = [text for text in TEXTS if "\n" not in text]


def written(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_a_line_of_plain_text_is_a_row(tmp_path: Path) -> None:
    path = written(tmp_path / "a.txt", "\n".join(ONE_LINE) + "\n")
    assert [text for text, _ in read_rows(path)] == ONE_LINE
    assert count_rows(path) == len(ONE_LINE)
    for name in ("a.txt.gz", "a.txt.GZ"):
        packed = written(tmp_path / name, gzip.compress(path.read_bytes()))
        assert [text for text, _ in read_rows(packed)] == ONE_LINE
        assert count_rows(packed) == len(ONE_LINE)


@pytest.mark.parametrize("packing", ["gz", "zst"])
@pytest.mark.parametrize("layout", ["txt", "csv", "tsv", "jsonl"])
def test_every_layout_is_read_where_it_is_packed(tmp_path: Path, layout: str, packing: str) -> None:
    path = in_layout(tmp_path / f"a.{layout}.{packing}", ONE_LINE)
    assert [text for text, _ in read_rows(path)] == ONE_LINE
    assert count_rows(path) == len(ONE_LINE) + (layout in {"csv", "tsv"})


def test_csv_cells_may_be_quoted_and_go_over_lines(tmp_path: Path) -> None:
    quoted = ['"' + text.replace('"', '""') + '"' for text in TEXTS]
    rows = [f"{i},{cell},x" for i, cell in enumerate(quoted)]
    path = written(tmp_path / "a.csv", "id,text,other\n" + "\n".join(rows) + "\n")
    assert list(read_rows(path, id_column="id")) == [(t, str(i)) for i, t in enumerate(TEXTS)]


def test_tsv_has_no_quotes(tmp_path: Path) -> None:
    rows = [f"{i}\t{text}" for i, text in enumerate(ONE_LINE)]
    path = written(tmp_path / "a.tsv", "id\tname\n" + "\r\n".join(rows) + "\n")
    assert list(read_rows(path, id_column="id")) == [(t, str(i)) for i, t in enumerate(ONE_LINE)]


def test_json_lines_and_parquet_give_a_field(tmp_path: Path) -> None:
    records = [{"key": i, "title": text, "n": 1.5} for i, text in enumerate(TEXTS)]
    lines = written(tmp_path / "a.jsonl", "".join(json.dumps(r) + "\n" for r in records) + "\n")
    pq.write_table(pa.Table.from_pylist(records), tmp_path / "a.parquet")
    expected = [(text, str(i)) for i, text in enumerate(TEXTS)]
    for path in (lines, tmp_path / "a.parquet"):
        assert list(read_rows(path, column="title", id_column="key")) == expected
    assert count_rows(tmp_path / "a.parquet") == len(TEXTS)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a", FileFormat.TEXT),
        ("-", FileFormat.TEXT),
        ("a.list", FileFormat.TEXT),
        ("a.gz", FileFormat.TEXT),
        ("a.CSV", FileFormat.CSV),
        ("a.tsv.zst", FileFormat.TSV),
        ("a.b.ndjson.gz", FileFormat.JSONL),
    ],
)
def test_the_name_tells_the_format(name: str, kind: FileFormat) -> None:
    assert format_of(name) is kind


@pytest.mark.parametrize(
    ("name", "content", "column", "line", "value"),
    [
        ("a.csv", "id,colour\n1,x\n", None, None, "id, colour"),
        ("a.csv", "id,label\n1,x\n", "text", None, "id, label"),
        ("a.csv", 'id,text\n1,"x\n', None, 2, ""),
        ("a.tsv", "id\ttext\n1\tx\ty\n", None, 2, "3"),
        ("a.jsonl", '{"text": "a"}\n{"text": [3]}\n', None, 2, "text"),
        ("a.jsonl", '{"text": "a"}\n{"txt": "b"}\n', "body", None, "'body'"),
        ("a.jsonl", '{"text": "a"}\nnonsense\n', None, 2, ""),
        ("a.jsonl", '"a"\n', None, 1, ""),
        ("a.jsonl", '{"text": "\\ud800"}\n', None, 1, "text"),
        pytest.param("a.jsonl", "[" * 100_000, None, 1, "", id="deep"),
        ("a.csv", "text,text\na,b\n", None, None, "'text'"),
        ("a.parquet", "no parquet", None, None, ""),
        ("none.parquet", None, None, None, ""),
        ("none.txt", None, None, None, ""),
        ("a.txt", b"ok\n\xff\n", None, 2, ""),
    ],
)
def test_a_broken_row_is_named(
    tmp_path: Path,
    name: str,
    content: str | bytes | None,
    column: str | None,
    line: int | None,
    value: str,
) -> None:
    path = tmp_path / name
    if content is not None:
        written(path, content)
    with pytest.raises(InputError, check=about(name, line=line, value=value)):
        list(read_rows(path, column=column))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", "id,text\n1,x\n2\n3,y\n"),
        ("a.tsv", "id\ttext\n1\tx\n2\t\n3\ty\n"),
        ("a.jsonl", '{"text": "x"}\n{"id": 2, "text": null}\n{"text": "y"}\n'),
        ("a.jsonl", '{"id": 1, "text": "x"}\n{"id": 2}\n{"id": 3, "text": "y"}\n'),
        ("a.jsonl", '{"id": 1}\n{"id": 2, "text": "y"}\n'),
        ("a.parquet", None),
    ],
)
def test_a_null_a_missing_key_and_a_short_row_are_empty_texts(
    tmp_path: Path, name: str, content: str | None
) -> None:
    path = tmp_path / name
    if content is None:
        pq.write_table(pa.table({"text": ["x", None, "y"]}), path)
    else:
        written(path, content)
    texts = [text for text, _ in read_rows(path)]
    assert texts in (["x", "", "y"], ["", "y"])


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_row_group_of_parquet_is_not_read_whole(tmp_path: Path) -> None:
    texts = [f"{i * 2654435761 % 2**32:08x} {'name of a place ' * 50}" for i in range(100_000)]
    pq.write_table(
        pa.table({"text": texts}), tmp_path / "a.parquet",
        row_group_size=len(texts), use_dictionary=False, compression="none",
    )  # fmt: skip
    code = (
        "import re, sys\n"
        "import pyarrow.parquet\n"
        "from mirror_rt.runtime import sources\n"
        "peak = lambda: int(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1])\n"
        "before = peak()\n"
        "rows = sum(1 for _ in sources.read_rows(sys.argv[1]))\n"
        "print(rows, (peak() - before) // 1024)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "a.parquet")],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    rows, mib = map(int, done.stdout.split())
    assert rows == len(texts)
    assert mib < 60


def test_two_columns_of_one_name_in_parquet_are_refused(tmp_path: Path) -> None:
    columns = [pa.array(["a"]), pa.array(["b"])]
    pq.write_table(pa.Table.from_arrays(columns, names=["text"] * 2), tmp_path / "a.parquet")
    with pytest.raises(InputError, check=about("a.parquet", value="'text'")):
        list(read_rows(tmp_path / "a.parquet"))


def test_plain_text_has_no_columns(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, check=about("a.txt", hint="--input-format")):
        list(read_rows(written(tmp_path / "a.txt", "x\n"), column="text"))


def test_a_csv_cell_may_be_longer_than_the_csv_module_allows(tmp_path: Path) -> None:
    before = csv.field_size_limit()
    long = "x" * (before + 10)
    path = written(tmp_path / "a.csv", f'id,text\n1,{long}\n2,"{long}, {long}"\n')
    assert [text for text, _ in read_rows(path)] == [long, f"{long}, {long}"]
    assert csv.field_size_limit() == before


@pytest.mark.parametrize("name", ["a.csv", "a.tsv"])
def test_an_empty_line_of_a_single_column_is_an_empty_text(tmp_path: Path, name: str) -> None:
    path = written(tmp_path / name, "text\na\n\nb\n")
    assert [text for text, _ in read_rows(path)] == ["a", "", "b"]


def test_mention_is_among_the_usual_columns(tmp_path: Path) -> None:
    path = written(tmp_path / "held-out.tsv", "mention\tid\nfever\tH:1\n")
    assert [text for text, _ in read_rows(path)] == ["fever"]


def test_the_usual_columns_are_found_without_being_named(tmp_path: Path) -> None:
    path = written(tmp_path / "gold.tsv", "mention\tid\nbone pain\tHP:0002653\n")
    assert list(read_rows(path)) == [("bone pain", "")]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="has no named pipes")
def test_rows_are_not_counted_in_what_can_be_read_but_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.txt").write_text("fever\ncough\n")
    assert count_rows(tmp_path / "a.txt") == 2
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.setattr(sources, "open_binary", lambda source: pytest.fail("opened"))
    for source in (tmp_path / "pipe", tmp_path / "gone", "-"):
        assert count_rows(source) is None
