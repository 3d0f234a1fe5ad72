"""A table comes back: all its columns, in every format, with what was found and a review list."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from datetime import date, datetime, time
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from python_calamine import CalamineWorkbook

from mirror_rt.errors import ConfigError, InputError
from mirror_rt.knowledge import KnowledgeBase
from mirror_rt.knowledge.linking import job, result_files, results
from mirror_rt.knowledge.linking.results import fingerprint
from mirror_rt.tables import FileFormat, Table, TableOptions, excel, free_names, kept, kept_name
from mirror_rt.types import Entity
from tests.errors import about
from tests.kb import HEARTS, LetterEncoder, fake_bundle

OURS = ["entity_id", "entity_name", "matched_name", "match_type", "relation", "score",
        "probability", "tied", "status", "nil_reason", "candidates"]  # fmt: skip
REVIEW = ["row", "mention", *OURS, "check", "decision", "correct_id"]
MENTIONS = ["ASD", "liver tumour", "", "hart defect", "VSD", "?", "hole in the hart", "stature"]
ENDINGS = ("csv", "tsv", "xlsx", "jsonl", "parquet")


@pytest.fixture(scope="module")
def kb(built_hearts: Path) -> Iterator[KnowledgeBase]:
    with KnowledgeBase.open(built_hearts / "hearts", encoder=LetterEncoder()) as opened:
        yield opened


@pytest.fixture(autouse=True)
def in_small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job, "BLOCK", 3)
    monkeypatch.setattr(kept, "_ROWS", 3)
    for module in (results, result_files):
        monkeypatch.setattr(module, "ROW_GROUP", 4)


def _write_csv(path: Path, rows: Sequence[Sequence[str]]) -> Path:
    with open(path, "w", encoding="utf-8", newline="") as handle:
        csv.writer(handle).writerows(rows)
    return path


def _read(path: Path) -> tuple[list[str], list[list[str]]]:
    """Read a file as the library of its format does, all cells as text; lists as they are."""
    match path.suffix:
        case ".csv" | ".tsv":
            with open(path, encoding="utf-8-sig", newline="") as handle:
                head, *rows = csv.reader(handle, delimiter="\t" if path.suffix == ".tsv" else ",")
        case ".jsonl":
            found = [json.loads(line) for line in path.read_bytes().splitlines()]
            head, rows = [*found[0]], [[*one.values()] for one in found]
        case ".parquet":
            table = pq.read_table(path)
            head, rows = table.column_names, [[*one.values()] for one in table.to_pylist()]
        case _:
            from python_calamine import CalamineWorkbook

            sheet = CalamineWorkbook.from_path(str(path)).get_sheet_by_index(0)
            head, *rows = sheet.to_python(skip_empty_area=False)
    return list(map(str, head)), [[_plain(cell) for cell in row] for row in rows]


def _plain(cell: object) -> str:
    match cell:
        case None:
            return ""
        case bool():
            return str(cell).lower()
        case int() | float():
            return f"{float(cell):.6g}"
        case list():
            return " | ".join(
                f"{c['entity_id']} {c['entity_name']} ({c['probability']:.2f})"
                if isinstance(c, dict)
                else str(c)
                for c in cell
            )
        case str():
            try:
                return f"{float(cell):.6g}" if cell.strip() == cell else cell
            except ValueError:
                return cell
        case _:
            return str(cell)


_SIGNS = st.characters(codec="utf-8", exclude_categories=("Cc",), exclude_characters="\ufffe\uffff")
_CELLS = st.text(_SIGNS | st.sampled_from("\t\n\r"), max_size=6).filter(lambda t: t == t.strip())


@settings(
    max_examples=25,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    rows=st.lists(st.tuples(st.sampled_from(MENTIONS), _CELLS, _CELLS), min_size=1, max_size=9),
    long=st.booleans(),
    heading=st.sampled_from(["note", "probability", "x,y", 'a "b"', "Status", ""]),
)
def test_every_format_has_the_same_rows(
    kb: KnowledgeBase,
    tmp_path: Path,
    rows: list[tuple[str, str, str]],
    long: bool,
    heading: str,
) -> None:
    source = _write_csv(tmp_path / "in.csv", [("id", "mention", heading), *map(_in_order, rows)])
    found = {}
    for ending in ENDINGS:
        out = tmp_path / f"out.{ending}"
        kb.link_file(source, out, long=long, review_below=0.5, force=True)
        found[ending] = _read(out)
    head, cells = found["csv"]
    assert head[:3] == ["id", "mention", heading]
    for ending in ENDINGS:
        assert found[ending] == (head, cells), ending
    if not long:
        assert [row[:3] for row in cells] == [[*map(_plain, _in_order(row))] for row in rows]
        return
    numbers = [int(float(row[3])) for row in cells]
    assert sorted(set(numbers)) == [*range(1, len(rows) + 1)]
    for row in cells:
        assert row[:3] == [*map(_plain, _in_order(rows[int(float(row[3])) - 1]))]


def _in_order(row: tuple[str, str, str]) -> tuple[str, str, str]:
    return (row[1], row[0], row[2])


def test_the_best_candidate_stands_in_the_row(kb: KnowledgeBase, tmp_path: Path) -> None:
    rows = [[str(i), mention, "x"] for i, mention in enumerate(MENTIONS)]
    source = _write_csv(tmp_path / "in.csv", [["n", "mention", "n"], *rows])
    report = kb.link_file(source, tmp_path / "out.csv", top=1, review_below=0.6)
    head, cells = _read(tmp_path / "out.csv")
    assert head == ["n", "mention", "n", *OURS]
    assert len(cells) == len(MENTIONS), "two entities are tied, and make one row"
    for row, answer in zip(cells, kb.link(MENTIONS, top=1, review_below=0.6), strict=True):
        best = dict(zip(head[3:], row[3:], strict=True))
        assert best["status"] == answer.status.value
        assert best["entity_id"] == (answer[0].entity_id if answer else "")
        assert best["nil_reason"] == (answer.nil_reason or "")
        for candidate in answer:
            assert f"{candidate.entity_id} {candidate.entity_name}" in best["candidates"]
    counts = [sum(row[-3] == status for row in cells) for status in ("linked", "review", "nil")]
    assert [report.linked, report.review, report.nil] == counts
    assert min(counts) > 0
    assert _read(tmp_path / "out.csv")[1][0][head.index("tied")] == "true"


def test_names_that_clash_have_a_prefix_and_are_found_again() -> None:
    headings = ["Score", "link_score", "link_link_tied", "status "]
    names = ["score", "tied", "status", "row"]
    assert free_names(names, headings) == [
        "link_link_score", "link_link_link_tied", "link_status", "row",
    ]  # fmt: skip
    written = [*headings, *free_names(names, headings)]
    assert [kept_name(name, written) for name in names] == free_names(names, headings)
    assert [kept_name(name, ["id"]) for name in names] == names


def test_rows_for_review_come_alone_and_the_least_certain_first(
    kb: KnowledgeBase, tmp_path: Path
) -> None:
    rows = [[str(i), mention, "x"] for i, mention in enumerate(MENTIONS * 3)]
    source = _write_csv(tmp_path / "in.csv", [["id", "mention", "status"], *rows])
    found = {}
    for ending in ENDINGS:
        review = tmp_path / f"review.{ending}"
        kb.link_file(source, tmp_path / f"out.{ending}", review_below=0.9, review=review)
        found[ending] = _read(review)
    head, cells = found["csv"]
    assert head == ["id", "mention", "status", *free_names(REVIEW, ["id", "mention", "status"])]
    for ending in ENDINGS:
        assert found[ending] == (head, cells), ending
    statuses = [result.status.value for result in kb.link(MENTIONS * 3, review_below=0.9)]
    mine = {name: head.index(kept_name(name, head)) for name in REVIEW}
    numbers = [int(row[mine["row"]]) for row in cells]
    assert sorted(numbers) == [i + 1 for i, status in enumerate(statuses) if status == "review"]
    certain = [float(row[mine["probability"]]) for row in cells]
    assert certain == sorted(certain)
    for row, number in zip(cells, numbers, strict=True):
        assert row[:3] == rows[number - 1]
        assert row[mine["mention"]] == rows[number - 1][1]
        assert row[mine["check"]] == fingerprint(row[1], row[mine["entity_id"]])
        assert row[mine["decision"]] == row[mine["correct_id"]] == ""


def test_types_come_back_in_parquet_and_json(kb: KnowledgeBase, tmp_path: Path) -> None:
    table = pa.table(
        {
            "mention": ["ASD", "VSD", None, "stature"],
            "n": pa.array([1, None, 1 << 60, 4], pa.int64()),
            "day": [date(2020, 1, 2), None, None, date(1999, 12, 31)],
            "at": pa.array([datetime(2020, 1, 2, 3, 4, 5, 678)] * 4, pa.timestamp("ns")),
            "tags": [["a", "b"], [], None, ["c"]],
            "who": pa.array(["x", "y", "x", None]).dictionary_encode(),
            "raw": pa.array([b"\xff", b"a", None, b""]),
        }
    )
    pq.write_table(table, tmp_path / "in.parquet")
    kb.link_file(tmp_path / "in.parquet", tmp_path / "out.parquet")
    back = pq.read_table(tmp_path / "out.parquet")
    assert back.select(table.column_names).to_pylist() == table.to_pylist()
    assert back.schema.types[:4] == table.schema.types[:4]
    assert pa.types.is_list(back.schema.field("tags").type)
    for ending in ("csv", "tsv", "xlsx", "jsonl"):
        review = tmp_path / f"review.{ending}"
        kb.link_file(
            tmp_path / "in.parquet", tmp_path / f"out.{ending}", review=review, review_below=1.0
        )
        assert len(_read(tmp_path / f"out.{ending}")[1]) == 4
        heads, cells = _read(review)
        (row,) = (row for row in cells if row[0] == "VSD")
        assert heads[: len(table.column_names)] == table.column_names
        assert (row[2], row[6]) == ("", "a")
    with open(tmp_path / "out.csv", encoding="utf-8", newline="") as handle:
        assert [row[1] for row in csv.reader(handle)] == ["n", "1", "", str(1 << 60), "4"]
    assert Table(tmp_path / "out.xlsx").head[3][1][1] == str(1 << 60), "a number of few digits"


def test_json_keeps_its_values(kb: KnowledgeBase, tmp_path: Path) -> None:
    given_rows = [
        {"mention": "ASD", "n": 1, "deep": {"a": [1, None]}, "mixed": "7", "big": 1},
        {"mention": "VSD", "mixed": 7, "big": 1 << 60, "f": 0.5},
        {"late": True, "mention": "stature", "n": -2, "mixed": [1], "f": 2, "big": 0.5},
        {"mention": "liver", "late": None},
        {"mention": "liver", "deep": {"a": [0.5, None]}},
    ]
    source = tmp_path / "in.jsonl"
    text = "".join(json.dumps(row) + "\n" for row in given_rows)
    source.write_text(text.replace("[0.5, null]", "[0.5, NaN]"))  # is written as a null
    kb.link_file(source, tmp_path / "out.jsonl")
    for row, line in zip(
        given_rows, (tmp_path / "out.jsonl").read_bytes().splitlines(), strict=True
    ):
        found = json.loads(line)
        assert {name: found[name] for name in row} == row
        there = {name for name, value in row.items() if value is not None}
        for name in {"n", "deep", "mixed", "big", "f", "late"} - there:
            assert found[name] is None
    kb.link_file(source, tmp_path / "out.parquet")
    rows = pq.read_table(tmp_path / "out.parquet").to_pylist()
    assert [row["n"] for row in rows] == [1, None, -2, None, None]
    assert [row["late"] for row in rows] == [None, None, True, None, None]
    assert [row["f"] for row in rows] == [None, 0.5, 2.0, None, None]
    assert [row["mixed"] for row in rows] == ["7", "7", "[1]", None, None]
    assert [row["big"] for row in rows] == ["1", str(1 << 60), "0.5", None, None]
    assert json.loads(rows[0]["deep"]) == {"a": [1, None]}


def test_plain_text_and_words_have_one_column(kb: KnowledgeBase, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("ASD\n\nVSD\n")
    kb.link_file(tmp_path / "in.txt", tmp_path / "a.csv", bom=True)
    kb.link_file(["ASD", "", "VSD"], tmp_path / "b.csv")
    raw = (tmp_path / "a.csv").read_bytes()
    assert raw == b"\xef\xbb\xbf" + (tmp_path / "b.csv").read_bytes()
    assert _read(tmp_path / "a.csv")[0] == ["mention", *OURS]


def test_what_a_sheet_holds_comes_back_as_what_it_is(kb: KnowledgeBase, tmp_path: Path) -> None:
    """Numbers, dates, times and truth values; text that looks like one stays text."""
    day, moment = date(2024, 1, 5), datetime(2024, 1, 5, 10, 30)
    rows = [
        ["mention", "price", "pieces", "day", "moment", "hour", "true", "code", "mixed"],
        ["heart attack", 12.5, 3, day, moment, time(9, 15), True, "007", 1.5],
        ["acute heart", 7, 4, day, moment, time(9, 15), False, "1e5", "n/a"],
        ["nothing", None, None, None, None, None, None, None, day],
    ]
    excel.write_xlsx(tmp_path / "in.xlsx", rows[0], rows[1:])
    for ending in ("xlsx", "parquet", "csv", "jsonl"):
        kb.link_file(tmp_path / "in.xlsx", tmp_path / f"out.{ending}")
    with open(tmp_path / "out.xlsx", "rb") as file:
        book = CalamineWorkbook.from_filelike(file)
        cells = book.get_sheet_by_index(0).to_python()
    found = [[None if cell == "" else cell for cell in row[:9]] for row in cells]
    mixed = [row.pop() for row in found[1:]]
    assert found[1:] == [row[:8] for row in rows[1:]]
    assert mixed == ["1.5", "n/a", "2024-01-05"], "a column of several kinds is text"
    table = pq.read_table(tmp_path / "out.parquet")
    assert [str(table[name].type) for name in rows[0][1:]] == [
        "double", "int64", "date32[day]", "timestamp[us]", "time64[us]", "bool", "string", "string",
    ]  # fmt: skip
    assert table.slice(0, 1).to_pylist()[0]["moment"] == moment
    with open(tmp_path / "out.csv", encoding="utf-8", newline="") as file:
        text = [*csv.reader(file)][2][1:8]
    assert text == ["7", "4", "2024-01-05", "2024-01-05 10:30:00", "09:15:00", "false", "1e5"]
    line = json.loads((tmp_path / "out.jsonl").read_text().splitlines()[0])
    assert (line["price"], line["pieces"], line["day"]) == (12.5, 3, "2024-01-05")


@pytest.mark.parametrize("ending", ["csv", "tsv", "parquet", "xlsx", "jsonl"])
def test_a_result_is_read_again_by_pandas_and_by_us(
    kb: KnowledgeBase, tmp_path: Path, ending: str
) -> None:
    rows = [[mention, 'a "b", c\td\ne', '"open'] for mention in MENTIONS]
    source = _write_csv(tmp_path / "in.csv", [["mention", "note", "quote"], *rows])
    out = tmp_path / f"out.{ending}"
    kb.link_file(source, out)
    reader = {
        "csv": pd.read_csv, "tsv": pd.read_table, "parquet": pd.read_parquet,
        "jsonl": lambda path: pd.read_json(path, lines=True),
        "xlsx": lambda path: pd.read_excel(path, engine="openpyxl"),
    }[ending]  # fmt: skip
    frame = reader(out)
    assert [*frame.columns] == ["mention", "note", "quote", *OURS]
    assert [*frame["mention"].fillna("")] == MENTIONS
    assert [*frame["note"]] == [row[1] for row in rows]
    table = Table(out)
    table.take_headings()
    mine = [cells for _, cells in table.rows() if isinstance(cells, list)]
    assert [row[0] or "" for row in mine] == MENTIONS
    assert [row[1:3] for row in mine] == [row[1:] for row in rows]


def test_a_sheet_that_would_be_too_long_is_refused_before_any_work(
    kb: KnowledgeBase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(excel, "MOST_ROWS", 9)
    encoder = LetterEncoder()
    with KnowledgeBase.open(kb.path, encoder=encoder) as counting:
        for rows, fits in ((8, True), (9, False)):
            source = tmp_path / f"{rows}.txt"
            source.write_text("some mention\n" * rows)
            for given_rows in (source, ["some mention"] * rows):
                encoder.requested.clear()
                if fits:
                    counting.link_file(given_rows, tmp_path / "a.xlsx", force=True)
                    continue
                with pytest.raises(ConfigError):
                    counting.link_file(given_rows, tmp_path / "b.xlsx")
                assert not encoder.requested
                assert not [*tmp_path.glob("*b.xlsx*")]
        with pytest.raises(ConfigError):
            counting.link_file(tmp_path / "8.txt", tmp_path / "b.xlsx", long=True)
        assert not (tmp_path / "b.xlsx").exists()


def test_columns_that_a_sheet_has_no_room_for_are_refused(
    kb: KnowledgeBase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = _write_csv(tmp_path / "in.csv", [["mention", "note"], ["ASD", "x"]])
    monkeypatch.setattr(excel, "MOST_COLUMNS", len(OURS) + 2)
    kb.link_file(source, tmp_path / "fits.xlsx")
    monkeypatch.setattr(excel, "MOST_COLUMNS", len(OURS) + 1)
    with pytest.raises(ConfigError):
        kb.link_file(source, tmp_path / "a.xlsx")
    monkeypatch.setattr(excel, "MOST_COLUMNS", len(REVIEW) + 1)
    with pytest.raises(ConfigError, check=about("r.xlsx")):
        kb.link_file(source, tmp_path / "a.xlsx", review_below=1.0, review=tmp_path / "r.xlsx")
    long = _write_csv(tmp_path / "long.csv", [["mention", "n" * 40_000], ["ASD", "x"]])
    with pytest.raises(ConfigError):
        kb.link_file(long, tmp_path / "a.xlsx")
    assert not [*tmp_path.glob("*a.xlsx*")], "this is checked before any work"


_LISTS = [["x" * 32_763], ["x" * 32_764]]  # with brackets and quotes


@pytest.mark.parametrize(
    ("ending", "notes"),
    [
        ("csv", ["x" * 32_767, "x" * 32_768]),
        ("jsonl", ["x" * 32_767, "x" * 32_768]),
        ("jsonl", _LISTS),
        ("jsonl", [1, {"a": "x" * 40_000}]),
        ("parquet", ["x" * 32_767, "x" * 32_768]),
        ("parquet", _LISTS),
        ("parquet", [b"x" * 32_767, b"x" * 32_768]),
        ("parquet", pa.array(["x", "x" * 32_768]).dictionary_encode()),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_cell_that_a_sheet_has_no_room_for_is_refused_before_any_work(
    kb: KnowledgeBase, tmp_path: Path, ending: str, notes: list[object] | pa.Array
) -> None:
    if ending == "jsonl":
        lines = zip(["ASD", "VSD"], notes, strict=True)
        rows = [{"mention": mention, "note": note} for mention, note in lines]
    else:
        table = pa.table({"mention": ["ASD", "VSD"], "note": notes})
    source = tmp_path / f"in.{ending}"
    if ending == "parquet":
        pq.write_table(table, source)
    elif ending == "csv":
        _write_csv(source, [table.column_names, *zip(*table.to_pydict().values(), strict=True)])
    else:
        source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    encoder = LetterEncoder()
    with KnowledgeBase.open(kb.path, encoder=encoder) as counting:
        with pytest.raises(ConfigError, check=about("a.xlsx", line=2)):
            counting.link_file(source, tmp_path / "a.xlsx")
        with pytest.raises(ConfigError, check=about("r.xlsx", line=2)):
            counting.link_file(
                source, tmp_path / "b.csv", review_below=1.0, review=tmp_path / "r.xlsx"
            )
        assert not encoder.requested
    assert [*tmp_path.iterdir()] == [source]


def test_links_are_kept_if_a_sheet_turns_out_too_small_only_after_linking(
    kb: KnowledgeBase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same command would fail again, and no note says otherwise; another one continues."""
    encoder = LetterEncoder()
    review = {"review_below": 1.0, "review": tmp_path / "r.xlsx"}
    monkeypatch.setattr(excel, "MOST_ROWS", 4)  # three below the headings
    monkeypatch.setattr(job, "BLOCK", 2)
    with KnowledgeBase.open(kb.path, encoder=encoder) as counting:

        def link(mentions: Iterator[str] | list[str], out: str, **options: object) -> None:
            counting.link_file(mentions, tmp_path / out, **options)  # type: ignore[arg-type]

        mentions = ["hart defect", "hole in the hart", "short bodyy", "liver tumors"]
        for out, given_rows, failing, fitting in (
            ("a.csv", mentions, review, review | {"review": tmp_path / "r.csv"}),
            ("b.xlsx", iter([*mentions[:2], "x" * 40_000]), {}, {}),
            ("c.xlsx", mentions[:2], {"long": True}, {}),
        ):
            with pytest.raises(ConfigError) as error:
                link(given_rows, out, **failing)
            (note,) = error.value.__notes__
            assert str(tmp_path / f".{out}.job") in note
            assert "same command" not in note
            assert encoder.requested
            encoder.requested.clear()
            link(mentions if out == "a.csv" else mentions[:2], out, **fitting)
            assert not encoder.requested, "its blocks are used again"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.csv", "b.xlsx", "c.xlsx", "r.csv"]


def test_a_cell_that_is_no_text_is_reported_with_its_line(
    kb: KnowledgeBase, tmp_path: Path
) -> None:
    source = tmp_path / "in.csv"
    source.write_bytes(b"mention,note\n" + b"ASD,x\n" * 4 + b"VSD,caf\xe9\nASD,x\n")
    with pytest.raises(InputError, check=about("in.csv", line=6, hint="--encoding")):
        kb.link_file(source, tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()
    options = TableOptions(encoding="windows-1252")
    kb.link_file(source, tmp_path / "out.csv", table=options)
    assert _read(tmp_path / "out.csv")[1][4][1] == "café"


def test_optional_columns_appear_only_with_their_option(kb: KnowledgeBase, tmp_path: Path) -> None:
    document = "An atrial septal defect (ASD) was seen."
    source = _write_csv(tmp_path / "in.csv", [["mention", "doc"], ["ASD", document], ["VSD", "x"]])
    kb.link_file(
        source, tmp_path / "out.csv", column="mention", document_column="doc",
        context_column="doc", review_below=0.99, review=tmp_path / "review.csv",
    )  # fmt: skip
    head, cells = _read(tmp_path / "out.csv")
    assert [name for name in head if name in {"expanded_form", "context_score"}] == [
        "expanded_form",
        "context_score",
    ]
    assert [row[head.index("expanded_form")] for row in cells] == ["atrial septal defect", ""]
    table = pa.table({"mention": ["ASD", "VSD"]})
    same = kb.link_table(table, document=document, context=document)
    assert same["expanded_form"].to_pylist() == ["atrial septal defect", ""]
    assert "context_score" in same.column_names
    head, cells = _read(tmp_path / "review.csv")
    place = head.index("link_mention")
    assert sorted(row[place] for row in cells) == ["VSD", "atrial septal defect"]


def _frames() -> list[object]:
    columns = {"title": MENTIONS, "probability": [*range(len(MENTIONS))]}
    frame = pd.DataFrame(columns, index=[f"row {i}" for i in range(len(MENTIONS))])
    return [frame, pl.DataFrame(columns), pa.table(columns)]


@pytest.mark.parametrize("number", range(3))
def test_a_table_in_memory_comes_back_with_its_columns(kb: KnowledgeBase, number: int) -> None:
    frame = _frames()[number]
    found = kb.link_table(frame, column="title", review_below=0.9)
    ours = ["link_probability" if name == "probability" else name for name in OURS]
    names = [name for name in found.column_names if not name.startswith("__index")]
    assert names == ["title", "probability", *ours]
    rows = found.to_pylist()
    for row, answer in zip(rows, kb.link(MENTIONS, review_below=0.9), strict=True):
        assert row["status"] == answer.status.value
        assert row["candidates"] == [
            {**c.to_dict(), "context_score": c.context_score} for c in answer
        ]
        assert row["entity_id"] == (answer[0].entity_id if answer else None)
    assert [row["title"] for row in rows] == MENTIONS
    assert found.schema.field("probability").type == pa.int64()
    if isinstance(frame, pd.DataFrame):
        back = found.to_pandas()
        pd.testing.assert_frame_equal(back[["title", "probability"]], frame)
    elif isinstance(frame, pl.DataFrame):
        assert pl.from_arrow(found)[["title", "probability"]].equals(frame)
    long = kb.link_table(frame, column="title", long=True)
    assert long["row"].to_pylist() == [
        i for i, answer in enumerate(kb.link(MENTIONS), start=1) for _ in (answer or [0])
    ]


def test_a_table_in_memory_that_does_not_fit_is_refused(kb: KnowledgeBase) -> None:
    with pytest.raises(InputError):
        kb.link_table(pa.table({"a": ["x"], "b": ["y"]}))
    with pytest.raises(InputError):
        kb.link_table(pa.table({"mention": [[1], [2]]}))
    twice = pd.DataFrame([["x", "y"]], columns=["mention", "mention"])
    with pytest.raises(InputError):
        kb.link_table(twice)
    for other in (pl.LazyFrame({"mention": ["x"]}), [{"mention": "x"}], "table.csv"):
        with pytest.raises(ConfigError):
            kb.link_table(other)  # type: ignore[arg-type]
    with pytest.raises(InputError):
        kb.link_table(pd.DataFrame({"mention": ["ASD", "VSD"], "mixed": [1, "a"]}))
    assert kb.link_table(pa.table({"mention": pa.array([], pa.string())})).num_rows == 0


def test_what_is_neither_a_file_nor_mentions_is_refused(kb: KnowledgeBase, tmp_path: Path) -> None:
    columns = {"mention": ["ASD"]}
    tables = [columns, pd.DataFrame(columns), pl.DataFrame(columns), pa.table(columns), 7, None]
    for given_table in [*tables, pl.LazyFrame(columns)]:
        with pytest.raises(ConfigError):
            kb.link_file(given_table, tmp_path / "a.csv")  # type: ignore[arg-type]
    for no_table in (columns, 7, None, pl.LazyFrame(columns), ["ASD"]):
        with pytest.raises(ConfigError):
            kb.feedback(no_table)  # type: ignore[arg-type]
    for gold in ([("ASD", "H:1")], [("ASD",)], ["ASD"], [7]):
        with pytest.raises(InputError):
            kb.calibrate(gold * 30)  # type: ignore[arg-type]
    assert not [*tmp_path.iterdir()]
    assert kb.link_file(pd.Series(["ASD"]), tmp_path / "a.csv").rows == 1


@pytest.mark.parametrize("library", [pd.DataFrame, pl.DataFrame, pa.table])
def test_a_knowledge_base_is_built_of_a_table_in_memory(tmp_path: Path, library: object) -> None:
    columns = {
        "id": [entity.id for entity in HEARTS],
        "name": [entity.name for entity in HEARTS],
        "aliases": ["|".join(entity.aliases) for entity in HEARTS],
    }
    bundle = fake_bundle(tmp_path / "bundle")
    made = library(columns)  # type: ignore[operator]
    with KnowledgeBase.build(bundle, made, tmp_path / "kb", encoder=LetterEncoder()) as built:
        found: list[Entity] = [built.entity(entity.id) for entity in HEARTS]
    assert [(e.name, e.aliases) for e in found] == [(e.name, e.aliases) for e in HEARTS]


def test_polars_views_and_large_strings_are_read_in_many_pieces(kb: KnowledgeBase) -> None:
    rng = np.random.default_rng(0)
    mentions = [MENTIONS[i] for i in rng.integers(0, len(MENTIONS), 3000).tolist()]
    table = pa.table({"mention": pa.array(mentions, pa.large_string())})
    found = kb.link_table(table)
    assert found["mention"].to_pylist() == mentions
    answers = zip(MENTIONS, kb.link(MENTIONS), strict=True)
    by_mention = {mention: found[0].entity_id if found else None for mention, found in answers}
    assert found["entity_id"].to_pylist() == [by_mention[mention] for mention in mentions]


def test_a_reader_of_kinds_is_not_confused_by_a_table_in_memory() -> None:
    table = Table(pl.DataFrame({"a": ["x", None]}))
    assert (table.kind, table.headings) == (FileFormat.PARQUET, ["a"])
    assert [cells for _, cells in table.rows()] == [["x"], [None]]
