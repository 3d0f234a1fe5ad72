from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from mirror_rt.knowledge import KnowledgeBase, changes
from mirror_rt_cli import asked
from mirror_rt_cli.app import app
from mirror_rt_cli.linkjob import settings_of
from tests.conftest import REPOSITORY
from tests.kb import HEARTS, LetterEncoder, hearts_in

if TYPE_CHECKING:
    from mirror_rt.types import Float32

NAMES = [
    "ASD", "liver tumour", "", "hart defect", "VSD", "liver tumour", "?", "short\u2028body",
    "septal defects", "hart defect", "stature",
]  # fmt: skip


class Counting(LetterEncoder):
    """In place of the encoder of a bundle: notes what is asked, and can die."""

    calls: ClassVar[list[list[str]]] = []
    dies_at: int | None = None

    def __init__(self, bundle: Path) -> None:
        super().__init__()
        self.cut: set[str] = set()

    def encode(self, texts: Sequence[str]) -> Float32:
        """Return (N, D) float32 unit rows, or die."""
        if len(self.calls) == self.dies_at:
            raise KeyboardInterrupt
        self.calls.append(list(texts))
        return super().encode(texts)


@pytest.fixture(autouse=True)
def in_small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asked, "BLOCK", 2)
    monkeypatch.setattr(asked, "CountingEncoder", Counting)
    monkeypatch.setattr(Counting, "calls", [])
    monkeypatch.setattr(Counting, "dies_at", None)


@pytest.fixture
def hearts(tmp_path: Path) -> Path:
    return hearts_in(tmp_path)


@pytest.fixture
def mentions(tmp_path: Path) -> Path:
    return _write(tmp_path / "mentions.tsv", NAMES)


def _write(path: Path, names: list[str]) -> Path:
    path.write_text("mention\tn\n" + "".join(f"{name}\t1\n" for name in names), encoding="utf-8")
    return path


def _link(kb: Path, mentions: Path, *more: str | Path) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["link", str(kb), str(mentions), *map(str, more)])
    return result.exit_code, result.stdout, result.stderr


def test_a_file_has_the_rows_of_standard_output(
    hearts: Path, mentions: Path, tmp_path: Path
) -> None:
    for form in ("jsonl", "tsv"):
        code, printed, _ = _link(hearts, mentions, "--format", form)
        assert code == 0
        code, out, err = _link(hearts, mentions, "--out", tmp_path / f"a.{form}")
        assert (code, out) == (0, "")
        assert "11 mentions" in err
        assert (tmp_path / f"a.{form}").read_bytes() == printed.encode()
    records = [json.loads(line) for line in (tmp_path / "a.jsonl").read_bytes().splitlines()]
    assert [record["mention"] for record in records] == NAMES
    assert not list(tmp_path.glob(".a.*"))


def test_parquet_has_a_row_a_mention(hearts: Path, mentions: Path, tmp_path: Path) -> None:
    _link(hearts, mentions, "--out", tmp_path / "a.jsonl")
    _link(hearts, mentions, "--out", tmp_path / "a.parquet")
    file = pq.ParquetFile(tmp_path / "a.parquet")
    assert file.num_row_groups == 6
    rows = file.read().to_pylist()
    records = [json.loads(line) for line in (tmp_path / "a.jsonl").read_bytes().splitlines()]
    for row, record in zip(rows, records, strict=True):
        assert row["mention"] == record["mention"]
        assert row["reason"] == record.get("reason")
        assert [c | {"context": None} for c in record["candidates"]] == row["candidates"]
        best = (record["candidates"] or [{}])[0]
        for name in ("id", "name", "matched", "score", "probability", "how", "tied"):
            assert row[name] == best.get(name)
    assert [row["reason"] for row in rows if row["id"] is None] == ["empty", "only punctuation"]


def test_the_columns_of_parquet_have_every_part_of_a_composite(
    hearts: Path, tmp_path: Path
) -> None:
    names = ["atrial septal defect and short stature", "short stature and ?", "ASD"]
    mentions = _write(tmp_path / "m.tsv", names)
    _link(hearts, mentions, "--composites", "--out", tmp_path / "a.parquet")
    both, one, tied = pq.read_table(tmp_path / "a.parquet").to_pylist()
    first: dict[str, dict[str, object]] = {}
    for candidate in both["candidates"]:
        first.setdefault(candidate["read_as"], candidate)
    assert list(first) == ["atrial septal defect", "short stature"]
    for name in ("id", "name", "matched", "how"):
        assert both[name] == "|".join(str(c[name]) for c in first.values())
    for name in ("score", "probability"):
        assert both[name] == min(c[name] for c in first.values())  # type: ignore[type-var]
    assert "|" not in one["id"]
    assert (tied["id"], tied["tied"]) == (tied["candidates"][0]["id"], True)


def test_a_taken_name_another_ending_and_explain_are_refused(
    hearts: Path, mentions: Path, tmp_path: Path
) -> None:
    taken = tmp_path / "a.jsonl"
    taken.write_text("mine")
    for more, fault in (
        (["--out", taken], "exists already"),
        (["--out", tmp_path / "a.csv"], "name a file in .jsonl, .tsv"),
        (["--out", tmp_path / "b.jsonl", "--explain"], "--explain"),
    ):
        code, out, err = _link(hearts, mentions, *more)
        assert (code, out, err.count("\n")) == (1, "", 1)
        assert fault in err
    assert taken.read_text() == "mine"
    assert _link(hearts, mentions, "--out", taken, "--force")[0] == 0
    assert len(taken.read_bytes().splitlines()) == len(NAMES)
    assert not list(tmp_path.glob(".*.job"))


def test_a_mention_is_asked_once_however_often_it_comes(hearts: Path, mentions: Path) -> None:
    code, out, _ = _link(hearts, mentions)
    flat = [text for call in Counting.calls for text in call]
    assert code == 0
    assert sorted(flat) == sorted(set(NAMES) - {"ASD", "VSD", "", "?"})
    lines = out.rstrip("\n").split("\n")
    assert lines[1] == lines[5]
    assert lines[3] == lines[9]


def test_only_so_many_mentions_are_remembered(
    hearts: Path, mentions: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = _link(hearts, mentions)
    once = len(Counting.calls)
    monkeypatch.setattr(asked.Remembered, "room", 1)
    assert _link(hearts, mentions) == whole
    assert len(Counting.calls) > 2 * once


def test_a_context_keeps_mentions_apart(hearts: Path, tmp_path: Path) -> None:
    around = ["hole in the heart", "autism spectrum disorder", "", "autism spectrum disorder", ""]
    (tmp_path / "a.tsv").write_text("mention\ttext\n" + "".join(f"ASD\t{t}\n" for t in around))
    options = ["--column", "mention", "--context-column", "text"]
    code, out, _ = _link(hearts, tmp_path / "a.tsv", *options)
    assert code == 0
    found = [json.loads(line)["candidates"][0] for line in out.splitlines()]
    assert ["context" in best for best in found] == [True, True, False, True, False]
    assert found[1]["id"] == found[3]["id"] == "H:5"


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_a_killed_job_goes_on_to_the_same_bytes(
    hearts: Path, mentions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    assert _link(hearts, mentions, "--out", tmp_path / f"whole.{ending}")[0] == 0
    unbroken = list(Counting.calls)
    Counting.calls.clear()
    out = tmp_path / f"a.{ending}"
    monkeypatch.setattr(Counting, "dies_at", 3)
    assert _link(hearts, mentions, "--out", out)[0] != 0
    assert not out.exists()
    blocks = sorted((tmp_path / f".a.{ending}.job").glob("*.jsonl"))
    assert 2 <= len(blocks) <= 4
    # A block that lost its end is answered again.
    blocks[-1].write_bytes(blocks[-1].read_bytes()[:5])
    monkeypatch.setattr(Counting, "dies_at", None)
    code, _, err = _link(hearts, mentions, "--out", out)
    assert code == 0
    assert f"{len(blocks) - 1} blocks of an earlier run kept" in err
    assert out.read_bytes() == (tmp_path / f"whole.{ending}").read_bytes()
    # What was asked together then is asked together now: the last block twice, no other.
    assert [call for call in Counting.calls if call not in unbroken] == []
    assert len(Counting.calls) <= len(unbroken) + 1
    assert not list(tmp_path.glob(".a.*"))


def _break_off(
    kb: Path, mentions: Path, out: Path, monkeypatch: pytest.MonkeyPatch, *more: str
) -> None:
    monkeypatch.setattr(Counting, "dies_at", 4)
    Counting.calls.clear()
    assert _link(kb, mentions, "--out", out, *more)[0] != 0
    Counting.calls.clear()
    monkeypatch.setattr(Counting, "dies_at", None)


def test_a_changed_input_answers_the_changed_blocks_alone(
    hearts: Path, mentions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "a.jsonl"
    _break_off(hearts, mentions, out, monkeypatch)
    kept = len(list((tmp_path / ".a.jsonl.job").glob("*.jsonl")))
    changed = _write(tmp_path / "mentions.tsv", [*NAMES[:3], "hart defects", *NAMES[4:]])
    code, _, err = _link(hearts, changed, "--out", out)
    assert code == 0
    assert f"{kept - 1} blocks of" in err
    assert Counting.calls[0] == ["hart defects"]
    assert "liver tumour" not in [text for call in Counting.calls for text in call]
    assert _link(hearts, changed, "--out", tmp_path / "b.jsonl")[0] == 0
    assert out.read_bytes() == (tmp_path / "b.jsonl").read_bytes()


def test_other_options_or_another_knowledge_base_begin_anew(
    hearts: Path, mentions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "a.jsonl"
    _break_off(hearts, mentions, out, monkeypatch)
    code, _, err = _link(hearts, mentions, "--out", out, "--top", "1")
    assert code == 0
    assert "kept" not in err
    assert Counting.calls[0] == ["liver tumour"]
    out.unlink()
    _break_off(hearts, mentions, out, monkeypatch)
    KnowledgeBase.build(
        tmp_path / "bundle", HEARTS[:4], hearts, encoder=LetterEncoder(), force=True
    ).close()
    code, _, err = _link(hearts, mentions, "--out", out)
    assert code == 0
    assert "kept" not in err
    assert "H:5" not in out.read_text(encoding="utf-8")


def test_a_broken_row_costs_no_block_before_it(
    hearts: Path, mentions: Path, tmp_path: Path
) -> None:
    broken = mentions.read_text(encoding="utf-8").replace("stature\t1", "stature\t1\tx")
    mentions.write_text(broken, encoding="utf-8")
    code, _, err = _link(hearts, mentions, "--out", tmp_path / "a.tsv")
    assert code == 1
    assert "line 12: has 3 columns" in err
    assert not (tmp_path / "a.tsv").exists()
    _, _, err = _link(hearts, _write(mentions, NAMES), "--out", tmp_path / "a.tsv")
    assert "5 blocks of an earlier run kept" in err


def test_sigkill_leaves_the_finished_blocks(hearts: Path, mentions: Path, tmp_path: Path) -> None:
    script = """
import os, signal, sys
from mirror_rt_cli import asked
from mirror_rt_cli.app import app
from mirror_rt_cli.linkjob import settings_of
from tests.test_cli_linkjob import Counting

class Dying(Counting):
    def encode(self, texts):
        if len(self.calls) == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().encode(texts)

asked.BLOCK, asked.CountingEncoder = 2, Dying
app(sys.argv[1:])
"""
    out = tmp_path / "a.jsonl"
    arguments = ["link", str(hearts), str(mentions), "--out", str(out)]
    killed = subprocess.run(
        [sys.executable, "-c", script, *arguments], cwd=REPOSITORY, check=False, timeout=300
    )
    assert killed.returncode == -9
    assert not out.exists()
    code, _, err = _link(hearts, mentions, "--out", out)
    assert code == 0
    assert "blocks of an earlier run kept" in err
    _link(hearts, mentions, "--out", tmp_path / "b.jsonl")
    assert out.read_bytes() == (tmp_path / "b.jsonl").read_bytes()


def test_a_job_is_of_the_knowledge_base_that_was_opened(hearts: Path, tmp_path: Path) -> None:
    with KnowledgeBase.open(hearts) as kb:
        before = settings_of(kb, top=5)
        changes.remove(hearts, ["H:1"])
        assert settings_of(kb, top=5) == before
    with KnowledgeBase.open(hearts) as kb:
        assert settings_of(kb, top=5) != before
