"""Held-out pairs: never trained on, measured without changing the run, and drawn."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from mirror_rt.errors import ConfigError, TrainingError
from mirror_rt.training.config import TrainConfig
from mirror_rt.training.curves import alignment, plot_curves, uniformity
from mirror_rt.training.loop import train
from mirror_rt.training.pairs import draw_epoch, hold_out, read_table
from mirror_rt.types import PairSource
from tests.errors import about
from tests.tiny import NAMES


@pytest.fixture
def make(tmp_path: Path, tiny_bert: Path) -> Callable[..., TrainConfig]:
    rows = [f"X:{i}\t{name} {kind}" for i, name in enumerate(NAMES) for kind in "abc"]
    (tmp_path / "kb.tsv").write_text("id\tname\n" + "\n".join(rows))

    def config(**options: object) -> TrainConfig:
        given: dict[str, object] = {
            "corpus": tmp_path / "kb.tsv", "base": tiny_bert, "out": tmp_path / "out",
            "batch_size": 8, "epochs": 3, "lr": 1e-3,
        }  # fmt: skip
        return TrainConfig(**(given | options))  # type: ignore[arg-type]

    return config


def test_the_last_look_is_at_what_is_written(make: Callable[..., TrainConfig]) -> None:
    first, *_, trained, written = train(make(eval_pairs=10, base_share=0.999)).eval_history
    assert written["step"] == trained["step"]
    for name in ("loss", "alignment", "uniformity"):
        moved = abs(trained[name] - first[name])
        assert abs(written[name] - first[name]) < 0.05 * moved


def test_nothing_held_out_is_drawn_for_training(make: Callable[..., TrainConfig]) -> None:
    both = {PairSource.MIRROR: 1.0, PairSource.SYNONYMS: 1.0}
    config = make(pairs=both, eval_pairs=10)
    table = read_table(config)
    rest, held = hold_out(table, config, rng=np.random.default_rng(0))
    assert len(held) == 10
    assert sum(a == b for a, b in held.tolist()) == 5
    whole_entities = {
        entity for a, b in held.tolist() if a != b for entity in table.groups[a] + table.groups[b]
    }
    held_rows = set(held.reshape(-1).tolist())
    for seed in range(5):
        drawn = draw_epoch(rest, config, rng=np.random.default_rng(seed)).reshape(-1).tolist()
        assert not held_rows & set(drawn)
        assert not whole_entities & {group for row in drawn for group in table.groups[row]}


@pytest.mark.parametrize("held_out", [4, 6, 20])
def test_no_string_that_is_held_out_is_in_a_pair_of_any_source(
    make: Callable[..., TrainConfig], tmp_path: Path, held_out: int
) -> None:
    (tmp_path / "c.txt").write_text("\n".join(NAMES))
    lines = [f"{a}\t{b}" for a, b in pairwise(NAMES)]
    (tmp_path / "p.tsv").write_text("\n".join(lines))
    config = make(
        corpus=tmp_path / "c.txt", pairs={PairSource.MIRROR: 1.0, PairSource.FILE: 1.0},
        pairs_file=tmp_path / "p.tsv", eval_pairs=held_out,
    )  # fmt: skip
    table = read_table(config)
    rest, held = hold_out(table, config, rng=np.random.default_rng(0))
    assert len(held) == held_out
    held_rows = set(held.reshape(-1).tolist())
    assert not held_rows & set(rest.filed_P2.reshape(-1).tolist())
    assert not held_rows & set(rest.mirrored)
    assert len(rest.mirrored) == len(NAMES) - len(held_rows)


def test_one_pair_held_out_is_refused_for_nothing_can_be_measured_on_it(
    make: Callable[..., TrainConfig],
) -> None:
    with pytest.raises(ConfigError, check=about("eval_pairs", hint="--eval-pairs")):
        train(make(eval_pairs=1))
    both = {PairSource.MIRROR: 1.0, PairSource.SYNONYMS: 1.0}
    with pytest.raises(TrainingError, check=about("kb.tsv", hint="--eval-pairs")):
        train(make(eval_pairs=100, pairs=both))
    with pytest.raises(TrainingError, check=about("kb.tsv", hint="--eval-pairs")):
        train(make(eval_pairs=25, pairs=PairSource.SYNONYMS))


def test_watching_changes_no_weight_and_tells_about_ten_times(
    make: Callable[..., TrainConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make(eval_pairs=6)
    report = train(config)
    steps = [look["step"] for look in report.eval_history]
    assert steps[0] == 0
    assert steps[-1] == len(report.losses)
    assert len(steps) <= 12
    assert report.eval_history[-1]["alignment"] < report.eval_history[0]["alignment"]
    account = json.loads((config.out / "training.json").read_text())
    assert account["eval_history"] == list(report.eval_history)
    assert (config.out / "training.png").read_bytes()[1:4] == b"PNG"
    from mirror_rt.training.curves import EvalMonitor

    monkeypatch.setattr(EvalMonitor, "measure", lambda *_: None)
    blind = train(config, force=True)
    assert blind.losses == report.losses


def test_the_curves_are_those_of_the_run_with_their_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from matplotlib.figure import Figure

    drawn: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda self, *_, **__: drawn.append(self))
    seen = [
        {"step": step, "loss": 2.0 - step, "alignment": 0.5 + step, "uniformity": -1.0 - step}
        for step in (0, 3)
    ]
    plot_curves([3.0, 2.5, 2.25], seen, tmp_path / "a.png")
    plot_curves([3.0, 2.5, 2.25], [], tmp_path / "b.png")
    shown = [
        {
            line.get_label(): np.stack(line.get_data(), axis=1).tolist()
            for axes in figure.axes
            for line in axes.lines
        }
        for figure in drawn
    ]
    batches = {"training batch": [[1, 3.0], [2, 2.5], [3, 2.25]]}
    assert shown[0] == batches | {
        "held out": [[0, 2.0], [3, -1.0]],
        "alignment": [[0, 0.5], [3, 3.5]],
        "uniformity": [[0, -1.0], [3, -4.0]],
    }
    assert shown[1] == batches
    losses, others = drawn[0].axes
    assert (losses.get_xlabel(), losses.get_ylabel(), others.get_xlabel()) == (
        "step", "loss", "step"
    )  # fmt: skip
    named = [[text.get_text() for text in axes.get_legend().texts] for axes in drawn[0].axes]
    assert named == [["training batch", "held out"], ["alignment", "uniformity"]]


def test_alignment_and_uniformity_equal_their_definitions() -> None:
    vectors = torch.randn(10, 4, generator=torch.Generator().manual_seed(1))
    rows = (vectors / vectors.norm(dim=1, keepdim=True)).numpy().astype(float)
    first, second = rows[:5], rows[5:]
    apart = [((a - b) ** 2).sum() for a, b in zip(first, second, strict=True)]
    potentials = [
        np.exp(-2 * ((first[i] - first[j]) ** 2).sum()) for i in range(5) for j in range(i)
    ]
    assert alignment(vectors) == pytest.approx(np.mean(apart), rel=1e-5)
    assert uniformity(vectors) == pytest.approx(np.log(np.mean(potentials)), rel=1e-5)
