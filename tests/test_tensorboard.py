"""The values that TensorBoard reads back from a run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from mirror_rt.errors import MissingExtraError, TargetError
from mirror_rt.training.config import TrainConfig
from mirror_rt.training.loop import StepMetrics, train
from tests.errors import about
from tests.tiny import NAMES


@pytest.fixture
def make(tmp_path: Path, tiny_bert: Path) -> Callable[..., TrainConfig]:
    (tmp_path / "c.txt").write_text("\n".join(NAMES))

    def config(**options: object) -> TrainConfig:
        given: dict[str, object] = {
            "corpus": tmp_path / "c.txt", "base": tiny_bert, "out": tmp_path / "out",
            "batch_size": 8, "max_steps": 5, "eval_pairs": 2,
        }  # fmt: skip
        return TrainConfig(**(given | options))  # type: ignore[arg-type]

    return config


def read(folder: Path) -> dict[str, list[tuple[int, float]]]:
    module = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator",
        reason="tensorboard is not installed: pip install 'mirror-rt[tensorboard]'",
    )
    events = module.EventAccumulator(str(folder))
    events.Reload()
    tags = events.Tags()["scalars"]
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in tags}


def told_of(losses: Sequence[float]) -> list[tuple[int, object]]:
    return [(step, pytest.approx(loss)) for step, loss in enumerate(losses, 1)]


def test_it_has_the_losses_the_speed_and_the_held_out_pairs(
    make: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    output: list[StepMetrics] = []
    report = train(make(), tensorboard=tmp_path / "a/board", progress=output.append)
    found = read(tmp_path / "a/board")
    assert found.pop("train/loss") == told_of(report.losses)
    speeds = [(step.step, pytest.approx(step.strings_per_second)) for step in output]
    assert found.pop("train/strings_per_second") == speeds
    assert report.eval_history[0]["step"] == 0
    for name in ("loss", "alignment", "uniformity"):
        looks = [(look["step"], pytest.approx(look[name])) for look in report.eval_history]
        assert found.pop(f"eval/{name}") == looks
    assert found == {}


def test_a_resumed_run_tells_each_step_once(
    make: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    config = make(save_steps=3)

    def stop(now: StepMetrics) -> None:
        if now.step == 4:  # logged, and lost: the saved state is that of step 3
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(config, progress=stop, tensorboard=tmp_path / "board")
    assert [step for step, _ in read(tmp_path / "board")["train/loss"]] == [1, 2, 3, 4]
    report = train(config, resume=True, tensorboard=tmp_path / "board")
    found = read(tmp_path / "board")
    assert found["train/loss"] == told_of(report.losses)
    assert [step for step, _ in found["eval/loss"]] == [0, 1, 2, 3, 4, 5]


def test_a_folder_that_cannot_be_written_is_an_error_before_training(
    make: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file/board"):
        with pytest.raises(TargetError, check=about(str(folder))):
            train(make(), tensorboard=folder)
    assert not make().out.exists()


def test_without_tensorboard_the_error_has_the_install_command(
    make: Callable[..., TrainConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mirror_rt import _extras

    monkeypatch.setattr(_extras, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, check=about("tensorboard", hint="pip install")):
        train(make(), tensorboard=tmp_path / "board")
    assert not (tmp_path / "board").exists()
