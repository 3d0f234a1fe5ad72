"""A run that was killed ends in the same bytes as one that was not."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from mirror_rt.errors import ConfigError, TargetError, TrainingError
from mirror_rt.training import loop
from mirror_rt.training.config import TrainConfig
from mirror_rt.training.curves import EvalMonitor
from mirror_rt.training.loop import StepMetrics, train
from mirror_rt.training.mining import HardNegativeSampler
from mirror_rt.training.resume import folder_of
from mirror_rt.types import PairSource
from tests.errors import about
from tests.tiny import NAMES

KILLED_AT_STEP_8 = """
import os, signal, sys
from mirror_rt.training.config import TrainConfig
from mirror_rt.training.loop import train

corpus, base, out, drophead, mini_batch_size = sys.argv[1:]

def kill(step):
    if step.step == 8:
        os.kill(os.getpid(), signal.SIGKILL)

train(
    TrainConfig(
        corpus=corpus, base=base, out=out, batch_size=8, epochs=5, save_steps=3, lr=1e-3,
        drophead=float(drophead), mini_batch_size=int(mini_batch_size) or None, dropout=0.1,
    ),
    progress=kill,
)
"""


@pytest.fixture
def make(tmp_path: Path, tiny_bert: Path) -> Callable[..., TrainConfig]:
    (tmp_path / "c.txt").write_text("\n".join(NAMES))

    def config(**options: object) -> TrainConfig:
        given: dict[str, object] = {
            "corpus": tmp_path / "c.txt", "base": tiny_bert, "out": tmp_path / "out",
            "batch_size": 8, "epochs": 5, "save_steps": 3, "lr": 1e-3, "dropout": 0.1,
        }  # fmt: skip
        return TrainConfig(**(given | options))  # type: ignore[arg-type]

    return config


def stop_at(step: int) -> Callable[[StepMetrics], None]:
    def stop(now: StepMetrics) -> None:
        if now.step == step:
            raise KeyboardInterrupt

    return stop


def interrupt(config: TrainConfig, *, step: int) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(config, progress=stop_at(step))


@pytest.mark.parametrize(
    ("drophead", "mini_batch_size"),
    [pytest.param(0.0, 0, marks=pytest.mark.slow), (0.2, 5)],
)
def test_a_run_killed_and_resumed_has_the_weights_of_an_unbroken_one(
    make: Callable[..., TrainConfig], tmp_path: Path, drophead: float, mini_batch_size: int
) -> None:
    options = {"drophead": drophead, "mini_batch_size": mini_batch_size or None}
    config = make(**options)
    arguments = [config.corpus, config.base, config.out, drophead, mini_batch_size]
    killed = subprocess.run(
        [sys.executable, "-c", KILLED_AT_STEP_8, *map(str, arguments)],
        env=os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())},
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert not config.out.exists()
    steps: list[int] = []
    report = train(config, resume=True, progress=lambda step: steps.append(step.step))
    assert steps == list(range(7, 16))  # the last saved state was that of step 6
    whole = train(make(**options, out=tmp_path / "whole"))
    assert report.losses == whole.losses
    name = "model.safetensors"
    assert (config.out / name).read_bytes() == (whole.out / name).read_bytes()
    assert not folder_of(config.out).exists()


def test_a_run_taken_up_keeps_the_share_of_the_base_that_it_began_with(
    make: Callable[..., TrainConfig], tmp_path: Path, tiny_bert: Path
) -> None:
    name = "model.safetensors"
    base = shutil.copytree(tiny_bert, tmp_path / "base")
    config = make(base=base, base_share=0.25, hard_negatives=2)
    whole = train(replace(config, out=tmp_path / "whole"))
    interrupt(config, step=8)
    others = {key: 2 * weight for key, weight in load_file(base / name).items()}
    save_file(others, base / name, {"format": "pt"})
    train(config, resume=True)
    assert (config.out / name).read_bytes() == (whole.out / name).read_bytes()


def test_an_option_newer_than_a_run_has_its_default_there(
    make: Callable[..., TrainConfig],
) -> None:
    config = make()
    interrupt(config, step=4)
    account = folder_of(config.out) / "state.json"
    content = json.loads(account.read_text())
    del content["config"]["base_share"]
    account.write_text(json.dumps(content))
    with pytest.raises(ConfigError, check=about("out.unfinished", hint="--force")):
        train(replace(config, base_share=0.5), resume=True)
    assert len(train(config, resume=True).losses) == 15


def test_the_state_holds_no_pickle(make: Callable[..., TrainConfig]) -> None:
    config = make()
    interrupt(config, step=4)
    names = {path.name for path in folder_of(config.out).iterdir()}
    assert {Path(name).suffix for name in names} == {".safetensors", ".json"}


def test_an_unfinished_run_is_not_restarted_without_force(make: Callable[..., TrainConfig]) -> None:
    config = make()
    interrupt(config, step=4)
    with pytest.raises(TargetError, check=about("out.unfinished", hint="--resume")):
        train(config)
    steps: list[int] = []
    train(config, force=True, progress=lambda step: steps.append(step.step))
    assert steps == list(range(1, 16))


def test_a_half_written_state_of_a_killed_run_is_removed(make: Callable[..., TrainConfig]) -> None:
    config = make(save_steps=0)
    left = config.out.with_name(f".{folder_of(config.out).name}.12345678.partial")
    left.mkdir()
    train(config)
    assert not left.exists()


def test_force_does_not_remove_a_folder_that_is_no_unfinished_run(
    make: Callable[..., TrainConfig],
) -> None:
    theirs = folder_of(make().out) / "mine.txt"
    theirs.parent.mkdir()
    theirs.write_text("keep")
    with pytest.raises(TargetError, check=about("out.unfinished")):
        train(make(save_steps=0), force=True)
    assert theirs.read_text() == "keep"


@pytest.mark.parametrize(
    ("change", "value"),
    [({"lr": 5e-4}, "0.0005"), ({"seed": 1}, "seed=42")],
)
def test_a_run_is_not_taken_up_with_other_options(
    make: Callable[..., TrainConfig], change: dict[str, object], value: str
) -> None:
    interrupt(make(), step=4)
    with pytest.raises(ConfigError, check=about(value=value)):
        train(make(**change), resume=True)
    assert folder_of(make().out).exists()


def test_a_run_is_not_taken_up_on_other_strings(make: Callable[..., TrainConfig]) -> None:
    config = make()
    interrupt(config, step=4)
    Path(config.corpus).write_text("\n".join(NAMES[::-1]))
    with pytest.raises(ConfigError, check=about("out.unfinished", hint="--force")):
        train(config, resume=True)


def test_a_run_is_not_taken_up_on_the_same_names_of_other_entities(
    make: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    kb = tmp_path / "kb.tsv"
    rows = [f"{i // 2}\t{name}" for i, name in enumerate(NAMES)]
    kb.write_text("id\tname\n" + "\n".join(rows))
    config = make(corpus=kb, pairs=PairSource.SYNONYMS)
    interrupt(config, step=4)
    rows[0], rows[-1] = f"{len(NAMES)}\t{NAMES[0]}", f"0\t{NAMES[-1]}"
    kb.write_text("id\tname\n" + "\n".join(rows))
    with pytest.raises(ConfigError, check=about("out.unfinished", hint="--force")):
        train(config, resume=True)


def test_a_damaged_state_is_reported(make: Callable[..., TrainConfig]) -> None:
    config = make()
    interrupt(config, step=4)
    (folder_of(config.out) / "optimizer.safetensors").write_bytes(b"short")
    with pytest.raises(TrainingError, check=about("out.unfinished", hint="--force")):
        train(config, resume=True)


def test_resuming_before_the_first_state_starts_at_the_start(
    make: Callable[..., TrainConfig],
) -> None:
    report = train(make(), resume=True)
    assert len(report.losses) == 15
    account = json.loads((report.out / "training.json").read_text())
    assert account["losses"][-1] == pytest.approx(report.losses[-1], abs=1e-6)


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError(),
              RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried …"),
              RuntimeError("std::bad_alloc"), RuntimeError("CUBLAS_STATUS_ALLOC_FAILED when …")],
    ids=["gpu", "python", "cpu", "c++", "cublas"],
)  # fmt: skip
def test_running_out_of_memory_says_which_option_to_lower(
    make: Callable[..., TrainConfig], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: object) -> float:
        raise error

    monkeypatch.setattr(loop, "backward", fail)
    with pytest.raises(TrainingError, check=about("step 1", hint="--mini-batch-size")):
        train(make())
    with pytest.raises(TrainingError, check=about("step 1", hint="--mini-batch-size")):
        train(make(mini_batch_size=3))
    with pytest.raises(TrainingError, check=about("step 1", hint="--batch-size")) as e:
        train(make(mini_batch_size=1))
    assert "--mini-batch-size" not in str(e.value)


@pytest.mark.parametrize(
    ("place", "name"),
    [
        (torch.optim.AdamW, "step"),
        (EvalMonitor, "measure"),
        (HardNegativeSampler, "begin"),
    ],
)
def test_running_out_of_memory_anywhere_gives_an_error(
    make: Callable[..., TrainConfig], monkeypatch: pytest.MonkeyPatch, place: type, name: str
) -> None:
    def fail(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(place, name, fail)
    with pytest.raises(TrainingError, check=about(hint="--mini-batch-size")):
        train(make(hard_negatives=2, eval_pairs=2))


def test_the_micro_batch_may_be_lowered_on_the_way(make: Callable[..., TrainConfig]) -> None:
    # The error for running out of memory advises this.
    interrupt(make(dropout=0.0), step=4)
    report = train(make(dropout=0.0, mini_batch_size=4), resume=True)
    whole = train(make(dropout=0.0), force=True)
    assert report.losses == pytest.approx(whole.losses, rel=1e-3)


def test_another_runtime_error_is_not_taken_for_memory(
    make: Callable[..., TrainConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> float:
        raise RuntimeError("shapes differ")

    monkeypatch.setattr(loop, "backward", fail)
    with pytest.raises(RuntimeError, match="shapes differ"):
        train(make())
