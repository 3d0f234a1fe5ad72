"""Students with fewer layers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from mirror_rt import TorchEncoder
from mirror_rt.distillation.layers import LayerConfig, _batches, _loss, distil_layers, keep_layers
from mirror_rt.errors import ConfigError, InputError, ModelError
from mirror_rt_cli.app import app
from tests.embed_jobs import written
from tests.schemas import check
from tests.test_static import NAMES
from tests.tiny import tiny_checkpoint

CONFIG = LayerConfig(layers=1, batch_size=16, max_steps=25, lr=2e-3)


@pytest.fixture(scope="module")
def teacher_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model whose layers change their input; randomly initialized layers hardly do."""
    from transformers import AutoModel

    folder = tiny_checkpoint(tmp_path_factory.mktemp("models") / "teacher")
    model = AutoModel.from_pretrained(folder)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter *= 8
    model.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("architecture", ["bert", "distilbert"])
def test_the_first_layers_are_the_teachers_own(architecture: str, tmp_path: Path) -> None:
    teacher = TorchEncoder.open(tiny_checkpoint(tmp_path, architecture=architecture)).model
    student = keep_layers(teacher, 1)
    ids = torch.tensor([[2, 9, 10, 3]])
    states = teacher.model(ids, output_hidden_states=True).hidden_states
    found = student.model(ids).last_hidden_state
    torch.testing.assert_close(found, states[1])
    assert len(teacher.model(ids, output_hidden_states=True).hidden_states) == 3


def test_layers_that_are_shared_are_refused(tmp_path: Path) -> None:
    teacher = TorchEncoder.open(tiny_checkpoint(tmp_path, architecture="albert")).model
    with pytest.raises(ModelError):
        keep_layers(teacher, 1)


def test_a_student_comes_nearer_to_its_teacher_and_is_written_whole(
    teacher_folder: Path, tmp_path: Path
) -> None:
    losses = distil_layers(teacher_folder, NAMES[:600], tmp_path / "student", CONFIG)
    teacher = TorchEncoder.open(teacher_folder)
    before = TorchEncoder(keep_layers(teacher.model, 1))
    after = TorchEncoder.open(tmp_path / "student")
    unseen = NAMES[600:700]
    with torch.no_grad():
        at_first, at_last = (
            _loss(teacher.model, model.model, unseen, CONFIG).item() for model in (before, after)
        )
    assert at_last < 0.9 * at_first
    assert np.mean(losses[-5:]) < np.mean(losses[:5])
    account = json.loads((tmp_path / "student" / "training.json").read_text())
    assert account["losses"] == losses
    few = replace(CONFIG, max_steps=2)
    runs = [distil_layers(teacher_folder, NAMES, tmp_path / name, few) for name in "ab"]
    assert runs[0] == runs[1]
    output = CliRunner().invoke(app, ["info", str(tmp_path / "student")])
    assert output.exit_code == 0, output.stderr
    assert "1 layer," in output.stdout


def test_a_batch_has_names_misspelled_and_recombined_ones() -> None:
    batch = next(_batches(NAMES, LayerConfig(layers=1, batch_size=64)))
    known = set(NAMES)
    assert len(set(batch)) == len(batch) <= 64
    assert sum(text in known for text in batch) >= 32
    assert sum(text not in known for text in batch) >= 16


@pytest.mark.parametrize(
    ("config", "names", "error"),
    [
        (LayerConfig(layers=2, batch_size=8), NAMES, ConfigError),
        (LayerConfig(layers=0, batch_size=8), NAMES, ConfigError),
        (LayerConfig(layers=1, batch_size=4), NAMES, ConfigError),
        (LayerConfig(layers=1, lr=float("nan")), NAMES, ConfigError),
        (LayerConfig(layers=1), NAMES[:50], InputError),
    ],
)
def test_what_cannot_be_trained_is_refused_and_leaves_nothing(
    tiny_bert: Path, tmp_path: Path, config: LayerConfig, names: list[str], error: type
) -> None:
    with pytest.raises(error):
        distil_layers(tiny_bert, names, tmp_path / "out", config)
    assert list(tmp_path.iterdir()) == []


def test_the_command_trains_if_layers_are_given(tiny_bert: Path, tmp_path: Path) -> None:
    names = written(tmp_path / "names.txt", NAMES[:200])
    command = ["distil", str(tiny_bert), str(names), "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, [*command, "--layers", "1", "--max-steps", "2"])
    assert done.exit_code == 0, done.stderr
    output = json.loads(done.stdout)
    check("distil", [output])
    assert (output["layers"], output["steps"]) == (1, 2)
    done = CliRunner().invoke(app, [*command, "--layers", "1", "--dims", "8", "--force"])
    assert done.exit_code == 1
