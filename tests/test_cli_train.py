"""``mirror-rt train`` from the command line."""

from __future__ import annotations

import json
from dataclasses import fields
from itertools import pairwise
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import yaml
from typer.testing import CliRunner, Result

from mirror_rt.training import loop
from mirror_rt.training.config import TrainConfig
from mirror_rt.types import Pooling
from mirror_rt_cli.app import app
from tests.schemas import check
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
    check("train", [summary])
    assert summary["checkpoint"] == str(out)
    assert summary["steps"] == 3
    account = json.loads((out / "training.json").read_text())
    assert account["counts"]["duplicates"] == 26
    requested = {"preset": "word", "temperature": 0.1, "epochs": 1, "pooling": "mean", "seed": 3}
    requested |= {"span_rate": 0.5, "drophead": 0.1, "hard_negatives": 0}
    assert requested.items() <= account["config"].items()
    assert "26 repeated" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (["--pairs", "nonsense"], "pairs: 'nonsense' is not a source"),
        (["--pairs", "mirror=x"], "pairs: 'mirror=x' is not a source"),
        (["--pairs", "synonyms"], "no entity with two names"),
        (["--pairs", "file"], "c.txt: line 1 is not two strings with a tab between"),
        (["--pairs", "file", "--pairs-file", "p.tsv"], "file alone, give that file as the corpus"),
        (["--pairs", "mirror=1,file=1"], "file is combined with others; give --pairs-file"),
        (["--temperature", "0"], "temperature: must be above 0"),
        (["--base", "no/where"], "no/where: no such folder"),
        ([], "26 different pairs, too few for a batch of 200"),
    ],
)
def test_an_error_is_printed_on_one_line(
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


OPTIONS: dict[str, object] = {
    "preset": "sentence", "pairs": "mirror=1,file=3", "pairs_file": "p.tsv",
    "id_column": "no", "name_column": "word", "delimiter": ";", "encoding": "latin-1",
    "pooling": "mean", "loss": "multi-similarity", "temperature": 0.3, "span_length": 4,
    "span_rate": 0.5,
    "span_min_length": 6, "dropout": 0.2, "drophead": 0.15, "epochs": 3, "max_length": 17,
    "lr": 3e-4, "weight_decay": 0.02, "base_share": 0.25, "batch_size": 11, "mini_batch_size": 5,
    "pairs_per_entity": 7, "max_pairs": 90, "max_steps": 8, "hard_negatives": 2, "eval_pairs": 12,
    "save_steps": 9, "seed": 13, "device": "cpu", "threads": 1, "bf16": False,
}  # fmt: skip


def test_every_option_reaches_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    requested: list[tuple[TrainConfig, dict[str, Any]]] = []

    def train(config: TrainConfig, **options: Any) -> loop.TrainReport:  # noqa: ANN401
        requested.append((config, options))
        counts = dict.fromkeys(("lines", "blank", "duplicates", "pairs_dropped", "strings"), 0)
        return loop.TrainReport(
            out=config.out, losses=(1.0,), eval_history=(), counts=counts, pooling=Pooling.CLS,
            seconds=1.0, strings_per_second=1.0,
        )  # fmt: skip

    monkeypatch.setattr(loop, "train", train)
    common = ["c.txt", "--base", "b", "--out", tmp_path]
    words = [f"--{name.replace('_', '-')}={value}" for name, value in OPTIONS.items()]
    words[-1] = "--no-bf16"
    words += [
        "--alias-column",
        "a",
        "--alias-column",
        "b",
        "--field",
        "f",
        "--resume",
        "--force",
        "--tensorboard",
        tmp_path / "board",
    ]
    for arguments in ([], words):
        result = run(*common, *arguments)
        assert result.exit_code == 0, result.output
    (plain, as_it_is), (answer, other) = requested
    assert plain.to_dict() == TrainConfig(corpus="c.txt", base="b", out=tmp_path).to_dict()
    assert answer.to_dict() == plain.to_dict() | OPTIONS | {
        "pairs": {"mirror": 0.25, "file": 0.75}, "alias_columns": ["a", "b"],
        "field_columns": ["f"],
    }  # fmt: skip
    assert {*OPTIONS, "alias_columns", "field_columns", "corpus", "base", "out"} == {
        field.name for field in fields(TrainConfig)
    }
    assert all(plain.to_dict()[name] != value for name, value in answer.to_dict().items()
               if name in OPTIONS)  # fmt: skip
    for options, board, flag in ((as_it_is, None, False), (other, tmp_path / "board", True)):
        del options["progress"], options["tell"]
        assert options == {"force": flag, "resume": flag, "tensorboard": board}


def test_pairs_of_a_file_train_alone(tmp_path: Path, tiny_bert: Path) -> None:
    lines = [f"{a}\t{b}" for a, b in pairwise(NAMES)]
    (tmp_path / "p.tsv").write_text("\n".join([*lines, f"{NAMES[1]}\t{NAMES[0]}"]))
    out = tmp_path / "out"
    result = run(tmp_path / "p.tsv", "--pairs", "file", "--base", tiny_bert, "--out", out,
                 "--batch-size", 8)  # fmt: skip
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["steps"] == 2 * (25 // 8)
    account = json.loads((out / "training.json").read_text())
    assert account["config"]["pairs"] == {"file": 1.0}
    assert account["counts"].items() >= {"lines": 26, "pairs_dropped": 1, "strings": 26}.items()


@pytest.mark.parametrize(
    ("pairs", "shares", "steps"),
    [
        # All 25 pairs of the file, and half as many others; there are enough of those.
        ("mirror=1,file=2", {"mirror": 1 / 3, "file": 2 / 3}, 2 * ((25 + 12) // 8)),
        # All 26 Mirror pairs of the corpus; the file has more pairs than its share needs.
        ("mirror=2,file", {"mirror": 2 / 3, "file": 1 / 3}, 2 * ((26 + 13) // 8)),
    ],
)
def test_pairs_of_a_file_stand_beside_a_corpus_by_their_shares(
    tmp_path: Path, tiny_bert: Path, pairs: str, shares: dict[str, float], steps: int
) -> None:
    (tmp_path / "c.txt").write_text("\n".join(NAMES))
    (tmp_path / "p.tsv").write_text("\n".join(f"{a}\t{b}" for a, b in pairwise(NAMES)))
    out = tmp_path / "out"
    result = run(tmp_path / "c.txt", "--pairs", pairs, "--pairs-file", tmp_path / "p.tsv",
                 "--base", tiny_bert, "--out", out, "--batch-size", 8)  # fmt: skip
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["steps"] == steps
    config = json.loads((out / "training.json").read_text())["config"]
    assert config["pairs"] == pytest.approx(shares)
    assert config["pairs_file"] == str(tmp_path / "p.tsv")


def test_synonyms_and_names_are_mixed_by_their_shares(tmp_path: Path, tiny_bert: Path) -> None:
    rows = [f"X:{i}\t{name} {kind}" for i, name in enumerate(NAMES) for kind in ("pain", "rash")]
    (tmp_path / "kb.tsv").write_text("id\tname\n" + "\n".join(rows))
    out = tmp_path / "out"
    result = run(tmp_path / "kb.tsv", "--pairs", "mirror=1,synonyms=3", "--base", tiny_bert,
                 "--out", out, "--batch-size", 8, "--max-steps", 1)  # fmt: skip
    assert result.exit_code == 0, result.output
    account = json.loads((out / "training.json").read_text())
    assert account["config"]["pairs"] == {"mirror": 0.25, "synonyms": 0.75}
    assert "| positive pairs | mirror (25%) and synonyms (75%) |" in (out / "README.md").read_text()


def test_an_interrupted_run_is_taken_up_by_the_same_command_and_resume(
    tmp_path: Path, tiny_bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "c.txt").write_text("\n".join(NAMES))
    command = [tmp_path / "c.txt", "--base", tiny_bert, "--batch-size", 8, "--save-steps", 2]
    plain, done = loop.backward, []

    def interrupted(*given: Any) -> float:  # noqa: ANN401
        done.append(given)
        if len(done) == 4:
            raise KeyboardInterrupt
        return plain(*given)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "backward", interrupted)
        result = run(*command, "--out", tmp_path / "out")
    assert (result.exit_code, result.stdout) == (130, "")
    again = run(*command, "--out", tmp_path / "out")
    assert (again.exit_code, len(again.stderr.splitlines())) == (1, 1)
    assert "give --resume to continue it" in again.stderr
    taken_up = run(*command, "--out", tmp_path / "out", "--resume")
    whole = run(*command, "--out", tmp_path / "whole")
    assert taken_up.exit_code == whole.exit_code == 0
    first, second = (json.loads(r.stdout) for r in (taken_up, whole))
    assert first["steps"] == second["steps"] == 6
    assert first["last_loss"] == second["last_loss"]
    name = "model.safetensors"
    assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_base_of_the_hub_is_fetched_by_its_name_without_pickles(
    tmp_path: Path, tiny_bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched: list[tuple[str, list[str]]] = []

    def snapshot_download(name: str, *, ignore_patterns: list[str]) -> str:
        fetched.append((name, ignore_patterns))
        return str(tiny_bert)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    (tmp_path / "c.txt").write_text("\n".join(NAMES))
    out = tmp_path / "out"
    result = run(tmp_path / "c.txt", "--base", "someone/tiny", "--out", out, "--batch-size", 8,
                 "--max-steps", 1)  # fmt: skip
    assert result.exit_code == 0, result.output
    ((name, ignored),) = fetched
    assert name == "someone/tiny"
    assert "*.bin" in ignored
    account = json.loads((out / "training.json").read_text())
    assert (account["config"]["base"], account["base_is_local"]) == ("someone/tiny", False)
    _, header, body = (out / "README.md").read_text().split("---\n", 2)
    assert yaml.safe_load(header)["base_model"] == "someone/tiny"
    assert "# someone/tiny, trained by mirror-rt" in body


def test_a_bundle_given_as_the_base_is_reported(tmp_path: Path, tiny_bundle: Path) -> None:
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
