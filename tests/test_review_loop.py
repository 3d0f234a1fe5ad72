"""The review loop on real files: job titles are linked, reviewed, and linked again."""

from __future__ import annotations

import csv
import random
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import openpyxl
import pytest
from typer.testing import CliRunner

from mirror_rt.bundle import STARTER
from mirror_rt.knowledge import KnowledgeBase
from mirror_rt.knowledge.formats.read import read_entities
from mirror_rt_cli.app import app

DECIDED, ASKED = 120, 200


@pytest.fixture(scope="module")
def titles(shared_data: Callable[[str], Path]) -> list[tuple[str, str]]:
    """Return distinct job titles with the right occupation, in a seeded order."""
    with open(shared_data("el_esco/jobbert_dev.tsv"), encoding="utf-8") as file:
        rows = [*csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)][1:]
    often = {id_ for id_, _ in Counter(id_ for _, id_ in rows).most_common(60)}
    right = {title: id_ for title, id_ in rows if id_ in often}
    drawn = random.Random(1).sample(sorted(right), DECIDED + ASKED)
    return [(title, right[title]) for title in drawn]


@pytest.fixture(scope="module")
def built(
    tmp_path_factory: pytest.TempPathFactory,
    shared_data: Callable[[str], Path],
    titles: Sequence[tuple[str, str]],
) -> Path:
    folder = tmp_path_factory.mktemp("built") / "kb"
    ids = {id_ for _, id_ in titles}
    names = read_entities(shared_data("el_esco/esco_occupation_names.tsv"))
    KnowledgeBase.build(STARTER, [e for e in names if e.id in ids], folder).close()
    return folder


@pytest.fixture
def kb(built: Path, tmp_path: Path) -> str:
    return str(shutil.copytree(built, tmp_path / "kb"))


def _run(*arguments: object) -> str:
    done = CliRunner().invoke(app, [*map(str, arguments)])
    assert done.exit_code == 0, done.output
    return done.stderr


def _reviewed_in_a_spreadsheet(path: Path, right: dict[str, str]) -> None:
    """Fill in a sheet as a person would, who sorts it, makes notes, and leaves some rows."""
    book = openpyxl.load_workbook(path)
    sheet = book.active
    assert sheet is not None
    column = {str(cell.value): cell.column for cell in sheet[1]}
    rows = [[cell.value for cell in row] for row in sheet.iter_rows(min_row=2)]
    assert [row[column["link_probability"] - 1] for row in rows] == sorted(
        row[column["link_probability"] - 1] for row in rows
    ), "the least certain first"
    rows.sort(key=lambda row: row[column["mention"] - 1])
    for number, row in enumerate(rows):
        wanted = right[row[column["mention"] - 1]]
        if row[column["entity_id"] - 1] == wanted:
            row[column["decision"] - 1] = ("Accept", True, "x")[number % 3]
        elif number % 10:
            row[column["correct_id"] - 1] = wanted
    for number, row in enumerate(rows, start=2):
        for place, value in enumerate(row, start=1):
            sheet.cell(number, place).value = value
    sheet.cell(1, len(column) + 1).value = "who"
    book.create_sheet("notes")["A1"] = "done"
    book.save(path)


def test_decisions_on_titles_teach_others_and_are_taken_back(
    kb: str, tmp_path: Path, titles: Sequence[tuple[str, str]]
) -> None:
    decided, requested = dict(titles[:DECIDED]), titles[DECIDED:]
    with open(tmp_path / "jobs.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["nr", "title", "probability"])
        writer.writerows([i, title, "high"] for i, title in enumerate(decided))
    with open(tmp_path / "gold.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([("mention", "id"), *requested])
    link = ["link", kb, tmp_path / "jobs.csv", "--column", "title", "--out"]
    _run(*link, tmp_path / "first.csv")
    _run(*link, tmp_path / "a.csv", "--review", tmp_path / "review.xlsx", "--review-below", 1)

    def right() -> int:
        with KnowledgeBase.open(kb) as opened:
            found = opened.link([title for title, _ in requested], top=1)
        return sum(
            bool(one.candidates) and one[0].entity_id == id_
            for one, (_, id_) in zip(found, requested, strict=True)
        )

    before = right()
    _reviewed_in_a_spreadsheet(tmp_path / "review.xlsx", decided)
    _run("feedback", kb, tmp_path / "review.xlsx")
    assert right() > before, "of titles that nobody decided"
    _run(*link, tmp_path / "second.csv")
    with open(tmp_path / "second.csv", encoding="utf-8", newline="") as file:
        rows = [*csv.DictReader(file)]
    assert [row["title"] for row in rows] == [*decided]
    wrong = [row for row in rows if row["entity_id"] != decided[row["title"]]]
    assert len(wrong) <= 0.1 * DECIDED, "but for the rows that were left"
    result = _run("evaluate", kb, "--gold", tmp_path / "gold.csv", "--out", tmp_path / "e.json")
    assert "by feedback" not in result, "other titles"
    _run("feedback", kb, "--undo")
    _run(*link, tmp_path / "third.csv")
    assert (tmp_path / "third.csv").read_bytes() == (tmp_path / "first.csv").read_bytes()
    assert right() == before
