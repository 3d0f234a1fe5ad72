"""``mirror-rt kb split``: held-out names become gold, and are removed from the names."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from mirror_rt.evaluation.gold import read_gold
from mirror_rt.evaluation.holdout import standard_split
from mirror_rt.knowledge.formats import read_entities
from mirror_rt.knowledge.text.normalize import normalize
from mirror_rt_cli.app import app

ODD = ['say "ah"', '"quoted"', "a, b; c", "CD4+ T|B", "näme", "  padded  ", "it's"]


@pytest.fixture
def names(tmp_path: Path) -> Path:
    rows = ["id,name,kind"]
    for i in range(60):
        rows += [f"A:{i},entity {i},label", f"A:{i},synonym {i} of it,exact"]
        rows.append(f"A:{i},shared name,exact")
    for i, name in enumerate(ODD):
        quoted = name.replace('"', '""')
        rows += [f"B|{i},thing {i},label", f'B|{i},"{quoted}",exact']
    (tmp_path / "names.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return tmp_path / "names.csv"


def split(names: Path, *more: object, gold: str = "gold.tsv") -> Result:
    here = names.parent
    words = ["kb", "split", names, "--out", here / "train.jsonl", "--gold", here / gold, *more]
    return CliRunner().invoke(app, [str(word) for word in words])


def test_the_two_files_are_those_of_the_library(names: Path) -> None:
    done = split(names)
    assert done.exit_code == 0, done.output
    assert "67 entities" in done.stderr
    kept, questions = standard_split(read_entities(names))
    assert list(read_entities(names.parent / "train.jsonl")) == kept
    requested = read_gold(names.parent / "gold.tsv").queries
    assert [
        (q.parts[0], bool(ids & q.ids)) for q, (_, ids) in zip(requested, questions, strict=True)
    ] == [(mention.strip(), True) for mention, _ in questions]


@pytest.mark.parametrize("ending", ["tsv", "csv", "jsonl"])
def test_odd_names_come_back_from_every_format(names: Path, ending: str) -> None:
    done = split(names, "--share", 1, gold=f"gold.{ending}")
    assert done.exit_code == 0, done.output
    requested = {q.parts[0]: q.ids for q in read_gold(names.parent / f"gold.{ending}").queries}
    for i, name in enumerate(ODD):
        assert f"B|{i}" in requested[name.strip()]
    held = {normalize(mention) for mention in requested}
    left = read_entities(names.parent / "train.jsonl")
    assert not held & {normalize(n.text) for e in left for n in e.names}
    assert normalize("shared name") not in held, "what several entities bear decides nothing"


def test_a_seed_draws_the_same_again_and_nothing_is_overwritten(names: Path) -> None:
    gold = names.parent / "gold.tsv"
    assert split(names, "--seed", 7).exit_code == 0
    first = gold.read_bytes()
    again = split(names, "--seed", 8)
    assert (again.exit_code, again.stderr.count("\n")) == (1, 1)
    assert gold.read_bytes() == first
    assert split(names, "--seed", 8, "--force").exit_code == 0
    assert gold.read_bytes() != first
    assert split(names, "--seed", 7, "--force").exit_code == 0
    assert gold.read_bytes() == first


def test_what_cannot_be_split_is_one_line_and_leaves_no_file(names: Path) -> None:
    plain = names.parent / "plain.tsv"
    plain.write_text("id\tname\nA\tone\nB\ttwo\n")
    for done in (
        split(plain),
        split(names, "--share", 0),
        split(names, gold="gold.xyz"),
        split(names, gold="train.jsonl"),
        split(names, "--out", names.parent / "train.tsv"),
        split(names, "--force", gold="names.csv"),
    ):
        assert (done.exit_code, done.stderr.count("\n")) == (1, 1), done.stderr
    assert sorted(p.name for p in names.parent.iterdir()) == ["names.csv", "plain.tsv"]


@pytest.mark.parametrize(
    ("out", "gold"),
    [("x.tsv", "gold.tsv"), ("x.jsonl", "x.jsonl"), ("x.jsonl", "y/../x.jsonl"), ("x", "gold.tsv")],
)
def test_two_outputs_are_two_files_and_named_for_what_they_hold(
    names: Path, out: str, gold: str
) -> None:
    here = names.parent
    before = sorted(here.iterdir())
    words = ["kb", "split", names, "--out", here / out, "--gold", here / gold]
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == 1
    assert len(done.stderr.splitlines()) == 1
    assert sorted(here.iterdir()) == before


def test_diff_reports_what_it_leaves_out(names: Path) -> None:
    (names.parent / "new.csv").write_text("id,name,colour\nA:1,one,red\n,nameless,\n")
    words = ["kb", "diff", names, names.parent / "new.csv", "--skip-bad"]
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == 0
    assert "1 bad row" in done.stderr
    assert "colour" in done.stderr
