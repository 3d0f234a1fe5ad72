"""``mirror-rt export`` from the command line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from mirror_rt.bundle import Bundle
from mirror_rt_cli.app import app
from mirror_rt_cli.export import Cpu
from mirror_rt_cli.file_options import FileOptions
from mirror_rt_cli.kb_source import strings
from tests.embed_jobs import bytes_of, written
from tests.schemas import check
from tests.tiny import NAMES, scaled, tiny_checkpoint


def export(*arguments: str | Path, stdin: str | None = None) -> Result:
    return CliRunner().invoke(app, ["export", *map(str, arguments)], input=stdin)


def test_a_bundle_is_written_and_reported(tiny_bert: Path, tmp_path: Path) -> None:
    names = tmp_path / "names.txt"
    names.write_text("\n".join(NAMES))
    out = tmp_path / "bundle"
    done = export(tiny_bert, "--out", out, "--pooling", "mean", "--sample", names)
    assert done.exit_code == 0, done.stderr
    output = json.loads(done.stdout)
    check("export", [output])
    assert (output["dim"], output["pooling"], output["precision"]) == (32, "mean", "int8")
    assert output["gate"]["names"] == len(NAMES)
    assert Bundle.open(out).manifest.accuracy_gate["sample"] == "user"


def test_the_sample_may_be_a_knowledge_base_or_standard_input(
    tiny_bert: Path, tmp_path: Path
) -> None:
    table = tmp_path / "kb.tsv"
    table.write_text("id\tname\n" + "".join(f"X:{i}\t{name}\n" for i, name in enumerate(NAMES)))
    done = export(tiny_bert, "--out", tmp_path / "one", "--sample", table)
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["gate"]["names"] == len(NAMES)
    done = export(tiny_bert, "--out", tmp_path / "two", "--sample", "-", stdin="fever\ncough\n")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["gate"]["names"] == 2


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", "name\nfever\ncough\n"),
        ("a.tsv", "text\tlabel\nfever\tx\ncough\ty\n"),
        ("a.tsv", "id\tname\talias\n1\tfever\tcough\n"),
        ("a.tsv", "1\tfever\n2\tcough\n"),
        ("a.jsonl", '{"id": 1, "text": "fever"}\n{"id": 2, "text": "cough"}\n'),
        ("a.txt", "fever\ncough\n"),
        ("a.txt", "1||fever\n2||cough\n"),
    ],
)
def test_the_strings_of_a_sample_are_those_of_every_layout(
    tmp_path: Path, name: str, content: str
) -> None:
    (tmp_path / name).write_text(content)
    assert strings(str(tmp_path / name), FileOptions()) == ["fever", "cough"]


def test_without_a_sample_it_says_what_it_measured_with(tiny_bert: Path, tmp_path: Path) -> None:
    done = export(tiny_bert, "--out", tmp_path / "bundle")
    assert done.exit_code == 0, done.stderr
    assert "synthetic strings" in done.stderr
    assert json.loads(done.stdout)["gate"]["sample"] == "synthetic"


@pytest.mark.parametrize(
    ("requested", "methods"),
    [("fp32", {"none"}), ("fp16-weights", {"half"}), ("auto", {"none", "static", "weight-only"})],
)
def test_the_given_precision_is_exported(
    tiny_bert: Path, tmp_path: Path, requested: str, methods: set[str]
) -> None:
    names = written(tmp_path / "names.txt", NAMES)
    done = export(
        tiny_bert, "--out", tmp_path / "b", "--sample", names, "--precision", requested,
        "--min-top1", "0",
    )  # fmt: skip
    assert done.exit_code == 0, done.stderr
    output = json.loads(done.stdout)
    assert output["quantization"]["method"] in methods
    if requested == "auto":
        assert output["gate"]["strings_per_second"].keys() == methods
    else:
        assert output["precision"] == requested


def test_the_given_target_and_gate_are_used(tiny_bert: Path, tmp_path: Path) -> None:
    names = written(tmp_path / "names.txt", NAMES)
    done = export(
        tiny_bert, "--out", tmp_path / "b", "--sample", names, "--target", "avx2",
        "--min-top1", "0.25",
    )  # fmt: skip
    assert done.exit_code == 0, done.stderr
    manifest = Bundle.open(tmp_path / "b").manifest
    assert (manifest.accuracy_gate["target"], manifest.accuracy_gate["min_top1"]) == ("avx2", 0.25)
    assert manifest.quantization["reduce_range"] is True


def test_a_gate_that_nothing_passes_is_an_error_on_one_line(tmp_path: Path) -> None:
    names = written(tmp_path / "names.txt", NAMES)
    model = scaled(tiny_checkpoint(tmp_path / "model"), 1e-7, part="_embeddings")
    done = export(
        model, "--out", tmp_path / "b", "--sample", names, "--precision", "fp16-weights",
        "--min-top1", "1",
    )  # fmt: skip
    assert done.exit_code == 1
    assert "--min-top1 requires 100.0%" in done.stderr
    assert done.stderr.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == [model, names]


def test_a_taken_folder_is_an_error_on_one_line(tiny_bert: Path, tmp_path: Path) -> None:
    done = export(tiny_bert, "--out", tmp_path)
    assert done.exit_code == 1
    assert "exists already" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("length", [0, 2])
def test_a_length_without_room_for_text_is_an_error_on_one_line(
    tiny_bert: Path, tmp_path: Path, length: int
) -> None:
    done = export(tiny_bert, "--out", tmp_path / "b", "--max-length", str(length))
    assert done.exit_code == 1
    assert "give at least 3" in done.stderr
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_is_never_replaced_by_its_own_bundle(tiny_bert: Path, tmp_path: Path) -> None:
    model = tmp_path / "run/model"
    shutil.copytree(tiny_bert, model)
    (tmp_path / "run/training.json").write_text('{"losses": []}')  # a folder that --force replaces
    before = bytes_of(tmp_path)
    for out in (model, tmp_path / "run"):
        done = export(model, "--out", out, "--force")
        assert done.exit_code == 1
        assert done.stderr.startswith(f"mirror-rt: {out}: ")
        assert bytes_of(tmp_path) == before


def test_the_cpus_offered_are_those_that_export_knows() -> None:
    from mirror_rt.runtime.cpu import Target

    assert {cpu.value for cpu in Cpu} == {target.value for target in Target}
