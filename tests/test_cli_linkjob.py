"""``mirror-rt link --out``, as a user types it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mirror_rt.knowledge.linking import job
from mirror_rt_cli.app import app
from tests.kb import LetterEncoder, hearts_in

NAMES = ["ASD", "liver tumour", "", "hart defect", "liver tumour", "?", "short\u2028body"]


@pytest.fixture(autouse=True)
def in_small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answer two mentions at a time, without a model."""
    monkeypatch.setattr(job, "BLOCK", 2)
    monkeypatch.setattr(
        "mirror_rt.knowledge.knowledge_base._open_encoder", lambda bundle: LetterEncoder()
    )


@pytest.fixture
def hearts(tmp_path: Path) -> Path:
    return hearts_in(tmp_path)


@pytest.fixture
def mentions(tmp_path: Path) -> Path:
    path = tmp_path / "mentions.tsv"
    path.write_text("mention\tn\n" + "".join(f"{n}\t1\n" for n in NAMES), encoding="utf-8")
    return path


def _link(kb: Path, mentions: Path, *more: str | Path) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["link", str(kb), str(mentions), *map(str, more)])
    return result.exit_code, result.stdout, result.stderr


@pytest.mark.parametrize("form", ["jsonl", "tsv"])
def test_a_file_has_the_rows_of_standard_output(
    hearts: Path, mentions: Path, tmp_path: Path, form: str
) -> None:
    code, printed, _ = _link(hearts, mentions, "--format", form)
    assert code == 0
    out = tmp_path / f"a.{form}"
    assert _link(hearts, mentions, "--out", out) == (0, "", f"{out}: 7 mentions\n")
    assert out.read_bytes() == printed.encode()
    assert not list(tmp_path.glob(".a.*"))


def test_what_is_refused_is_told_in_a_line_and_nothing_is_written(
    hearts: Path, mentions: Path, tmp_path: Path
) -> None:
    taken = tmp_path / "a.jsonl"
    taken.write_text("mine")
    for more, fault in (
        (["--out", taken], "exists already"),
        (["--out", tmp_path / "a.csv"], "name a file in .jsonl, .tsv"),
        (["--out", tmp_path / "b.jsonl", "--explain"], "--explain"),
        (["--engine", "ray"], "--out"),
        (["--out", tmp_path / "b.jsonl", "--address", "auto"], "--address"),
        (["--out", tmp_path / "b.jsonl", "--threads", "1"], "--threads"),
        (["--out", tmp_path / "b.jsonl", "--column", "x"], "no column 'x'"),
    ):
        code, out, err = _link(hearts, mentions, *more)
        assert (code, out, err.count("\n")) == (1, "", 1)
        assert fault in err
    assert taken.read_text() == "mine"
    assert not list(tmp_path.glob("*b.jsonl*"))
    assert _link(hearts, mentions, "--out", taken, "--force")[0] == 0
    assert [json.loads(line)["mention"] for line in taken.read_bytes().splitlines()] == NAMES


def test_what_an_earlier_run_left_is_told(hearts: Path, mentions: Path, tmp_path: Path) -> None:
    whole = mentions.read_text(encoding="utf-8")
    mentions.write_text(whole.replace("body\t1", "body"), encoding="utf-8")
    out = tmp_path / "a.tsv"
    code, _, err = _link(hearts, mentions, "--out", out)
    assert (code, err.count("\n"), out.exists()) == (1, 1, False)
    mentions.write_text(whole, encoding="utf-8")
    code, _, err = _link(hearts, mentions, "--out", out)
    assert (code, err) == (0, f"{out}: 7 mentions, 2 blocks of an earlier run kept\n")
