"""The queue of past views: whose they are, who encoded them, and the same after a resume."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from mirror_rt.errors import ConfigError
from mirror_rt.training.batches import Batch, batches
from mirror_rt.training.config import TrainConfig
from mirror_rt.training.loop import Step, load_base, train
from mirror_rt.training.model import TextModel, tokenise
from mirror_rt.training.momentum import MomentumQueue
from mirror_rt.training.pairs import read_table
from mirror_rt.training.step import backward
from mirror_rt.types import Loss, Pairs, Pooling
from tests.tiny import NAMES

MakeConfig = Callable[..., TrainConfig]


@pytest.fixture
def make(tmp_path: Path, tiny_bert: Path) -> MakeConfig:
    rows = [f"X:{i // 2}\t{name}" for i, name in enumerate(NAMES)]
    (tmp_path / "kb.tsv").write_text("id\tname\n" + "\n".join(rows))

    def config(**options: object) -> TrainConfig:
        given: dict[str, object] = {
            "corpus": tmp_path / "kb.tsv", "base": tiny_bert, "out": tmp_path / "out",
            "pairs": {Pairs.MIRROR: 1.0, Pairs.SYNONYMS: 1.0}, "batch_size": 6, "queue": 16,
            "dropout": 0.1, "lr": 1e-3, "pooling": Pooling.MEAN, "threads": 1,
        }  # fmt: skip
        return TrainConfig(**(given | options))  # type: ignore[arg-type]

    return config


def setting(config: TrainConfig) -> tuple[TextModel, list[Batch]]:
    model, table = load_base(config), read_table(config)
    model.model.to(torch.float64).train()
    clean = tokenise(table.strings, model)
    return model, list(batches(table, clean, model, config, steps=4))


def encoded(weights: torch.nn.Module, model: TextModel, texts: list[str]) -> torch.Tensor:
    """Without dropout, one string at a time, mean over its tokens."""
    rows = []
    with torch.no_grad():
        for text in texts:
            ids = model.tokenizer(text, return_tensors="pt")["input_ids"]
            row = weights.eval()(input_ids=ids).last_hidden_state[0].mean(0)
            rows.append(row / row.norm())
    return torch.stack(rows)


def test_it_holds_the_newest_first_views_by_the_average_of_that_step(make: MakeConfig) -> None:
    config = make(span_length=0)
    model, drawn = setting(config)
    queue = MomentumQueue(model, size=config.queue)
    average = {name: value.clone() for name, value in model.model.named_parameters()}
    rows, keys = [], []
    generator = torch.Generator().manual_seed(2)
    for batch in drawn:
        with torch.no_grad():
            for name, value in model.model.named_parameters():
                value += torch.randn(value.shape, generator=generator, dtype=value.dtype)
                average[name] = 0.995 * average[name] + 0.005 * value
        state = torch.get_rng_state()
        queue.advance(batch)
        assert torch.equal(torch.get_rng_state(), state)
        assert model.model.training
        slow = copy.deepcopy(model.model)
        slow.load_state_dict(average, strict=False)
        rows.append(encoded(slow, model, batch.texts[:6]))
        keys += batch.keys[:6]
    assert len(drawn) == 4
    assert queue.keys == keys[-16:]
    assert torch.allclose(queue.vectors_QD.double(), torch.cat(rows)[-16:], atol=1e-5)
    assert not any(value.requires_grad for value in queue.slow.model.parameters())


def test_what_is_related_to_an_anchor_is_said(make: MakeConfig) -> None:
    model, drawn = setting(make())
    queue = MomentumQueue(model, size=100)
    assert queue.negatives(drawn[0].keys)[1].shape == (12, 0)
    for batch in drawn:
        queue.advance(batch)
    vectors, related = queue.negatives(drawn[0].keys)
    assert vectors.shape == (24, 32)
    expected = [[bool(set(a) & set(b)) for b in queue.keys] for a in drawn[0].keys]
    assert related.tolist() == expected
    assert any(map(any, expected))


@pytest.mark.parametrize("micro_batch", [None, 5])
def test_a_steps_loss_and_gradient_are_those_written_out(
    make: MakeConfig, micro_batch: int | None
) -> None:
    config = make(dropout=0.0, temperature=0.3, micro_batch=micro_batch)
    model, drawn = setting(config)
    queue = MomentumQueue(model, size=config.queue)
    for batch in drawn[:3]:
        queue.advance(batch)
    batch = drawn[3]
    told = backward(model, batch, config, queue)
    ours = {n: p.grad.clone() for n, p in model.model.named_parameters() if p.grad is not None}
    model.model.zero_grad()
    rows = []
    for ids in batch.tokens:
        states = model.model(input_ids=torch.from_numpy(ids)[None]).last_hidden_state[0]
        rows.append(states.mean(0) / states.mean(0).norm())
    terms = []
    for i, row in enumerate(rows):
        partner = (i + 6) % 12
        below = [
            torch.exp(row @ other / 0.3)
            for j, other in enumerate(rows)
            if j == partner or (j != i and not set(batch.keys[i]) & set(batch.keys[j]))
        ]
        below += [
            torch.exp(row @ other.double() / 0.3)
            for other, keys in zip(queue.vectors_QD, queue.keys, strict=True)
            if not set(batch.keys[i]) & set(keys)
        ]
        terms.append(-torch.log(torch.exp(row @ rows[partner] / 0.3) / sum(below)))
    loss = torch.stack(terms).mean()
    loss.backward()
    assert told == pytest.approx(loss.item(), abs=1e-9)
    scale = max(value.abs().max().item() for value in ours.values())
    for name, value in model.model.named_parameters():
        if value.grad is not None:
            assert (value.grad - ours[name]).abs().max().item() < 1e-9 * scale, name


@pytest.mark.parametrize("step", [3, 6])
def test_a_resumed_run_has_the_queue_it_had(make: MakeConfig, tmp_path: Path, step: int) -> None:
    options = {"checkpoint_every": 1, "epochs": 2, "max_steps": 8, "hard_negatives": 2}
    options |= {"repeat_rate": 0.3}

    def stop(now: Step) -> None:
        if now.step == step:
            raise KeyboardInterrupt

    whole = train(make(**options, out=tmp_path / "whole"))
    with pytest.raises(KeyboardInterrupt):
        train(make(**options), progress=stop)
    report = train(make(**options), resume=True)
    assert report.losses == whole.losses
    name = "model.safetensors"
    assert (report.out / name).read_bytes() == (whole.out / name).read_bytes()


def test_the_first_step_has_no_queue_and_later_ones_have(make: MakeConfig, tmp_path: Path) -> None:
    with_queue = train(make(max_steps=3)).losses
    without = train(make(max_steps=3, queue=0, out=tmp_path / "plain")).losses
    assert with_queue[0] == without[0]
    assert with_queue[1] > without[1]  # the same weights, and more below the line
    assert np.isfinite(with_queue).all()


def test_another_loss_is_refused(make: MakeConfig) -> None:
    with pytest.raises(ConfigError, match="queue: is for --loss info-nce"):
        make(loss=Loss.MULTI_SIMILARITY)
