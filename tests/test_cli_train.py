"""``mirror-rt train`` from the outside."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from mirror_rt_cli.app import app
from tests.tiny import NAMES


def run(*arguments: object, text: str | None = None) -> Result:
    return CliRunner().invoke(app, ["train", *map(str, arguments)], input=text)


def test_a_corpus_from_standard_input_becomes_a_checkpoint(tmp_path: Path, tiny_bert: Path) -> None:
    out = tmp_path / "encoder"
    result = run(
        "-", "--base", tiny_bert, "--out", out, "--preset", "word", "--batch-size", 8,
        "--temperature", 0.1, "--epochs", 1, "--pooling", "mean", "--seed", 3,
        "--span-rate", 0.5, "--drophead", 0.1,
        text="\n".join([*NAMES, *NAMES]),
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    summary = json.loads(result.stdout)
    assert summary["checkpoint"] == str(out)
    assert summary["steps"] == 3
    account = json.loads((out / "training.json").read_text())
    assert account["counts"]["duplicates"] == 26
    asked = {"preset": "word", "temperature": 0.1, "epochs": 1, "pooling": "mean", "seed": 3}
    asked |= {"span_rate": 0.5, "drophead": 0.1, "hard_negatives": 0}
    assert asked.items() <= account["config"].items()
    assert "26 repeated" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (["--pairs", "nonsense"], "pairs: 'nonsense' is not a source"),
        (["--pairs", "mirror=x"], "pairs: 'mirror=x' is not a source"),
        (["--pairs", "synonyms"], "no entity with two names"),
        (["--temperature", "0"], "temperature: must be above 0"),
        (["--base", "no/where"], "no/where: no such folder"),
        ([], "26 different pairs do not fill a batch of 200"),
    ],
)
def test_a_fault_is_told_on_one_line(
    tmp_path: Path, tiny_bert: Path, arguments: list[str], fault: str
) -> None:
    (tmp_path / "c.txt").write_text("\n".join(NAMES))
    given = ["--base", tiny_bert, "--out", tmp_path / "out", *arguments]
    result = run(tmp_path / "c.txt", *given)
    assert result.exit_code == 1
    assert fault in result.stderr
    assert result.stderr.count("\n") == 1
    assert result.stdout == ""
    assert sorted(p.name for p in tmp_path.iterdir()) == ["c.txt"]


def test_a_bundle_given_as_the_base_is_told(tmp_path: Path, tiny_bundle: Path) -> None:
    (tmp_path / "c.txt").write_text("\n".join(NAMES))
    result = run(tmp_path / "c.txt", "--base", tiny_bundle, "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert f"{tiny_bundle}: is a bundle" in result.stderr
    assert "give the checkpoint or base model" in result.stderr
    assert result.stderr.count("\n") == 1


def test_bytes_that_are_no_text_are_refused_by_line(tmp_path: Path, tiny_bert: Path) -> None:
    (tmp_path / "c.txt").write_bytes(b"fever\n\xff\xfe\n")
    result = run(tmp_path / "c.txt", "--base", tiny_bert, "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert "line 2 is not UTF-8" in result.stderr
