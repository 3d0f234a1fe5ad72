"""Hard negatives: really the nearest, never related, in one batch, and the same after a resume."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from mirror_rt.errors import ConfigError
from mirror_rt.training import mining, pairs
from mirror_rt.training.batches import Batch, batches, count_steps
from mirror_rt.training.config import TrainConfig
from mirror_rt.training.loop import StepMetrics, load_base, train
from mirror_rt.training.mining import HardNegativeSampler, group_hard_negatives, mine_hard_negatives
from mirror_rt.training.model import tokenize
from mirror_rt.training.pairs import draw_epoch, read_table
from mirror_rt.types import PairSource
from tests.errors import about
from tests.tiny import NAMES


@pytest.fixture
def make(tmp_path: Path, tiny_bert: Path) -> Callable[..., TrainConfig]:
    (tmp_path / "c.txt").write_text("\n".join(NAMES))

    def config(**options: object) -> TrainConfig:
        given: dict[str, object] = {
            "corpus": tmp_path / "c.txt", "base": tiny_bert, "out": tmp_path / "out",
            "batch_size": 8, "epochs": 3, "lr": 1e-3, "hard_negatives": 3, "threads": 1,
        }  # fmt: skip
        return TrainConfig(**(given | options))  # type: ignore[arg-type]

    return config


def unit(rng: np.random.Generator, rows: int, width: int) -> np.ndarray:
    vectors = rng.normal(size=(rows, width)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_the_hardest_are_those_of_a_search_written_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mining, "_BLOCK", 3 * 60)  # three anchors at once
    rng = np.random.default_rng(0)
    vectors = unit(rng, 60, 5)
    keys = [(row, *(-1 - m for m in rng.choice(25, size=2, replace=False))) for row in range(60)]
    anchors = rng.permutation(60)[:20]
    found = mine_hard_negatives(vectors, keys, anchors, most=4)
    for anchor, rows in zip(anchors.tolist(), found.tolist(), strict=True):
        others = [row for row in range(60) if not set(keys[row]) & set(keys[anchor])]
        nearest = sorted(others, key=lambda row: -float(vectors[row] @ vectors[anchor]))
        assert rows == nearest[:4]


def test_where_there_are_fewer_negatives_the_rest_is_none() -> None:
    vectors = unit(np.random.default_rng(0), 4, 3)
    keys = [(0, -1), (1, -1), (2, -1), (3,)]
    found = mine_hard_negatives(vectors, keys, np.asarray([0, 3]), most=6)
    assert found[0].tolist() == [3, -1, -1, -1, -1, -1]
    assert sorted(found[1].tolist()) == [-1, -1, -1, 0, 1, 2]


def test_pairs_are_put_beside_their_hard_negatives_each_once() -> None:
    pairs = np.asarray([[0, 0], [1, 2], [3, 3], [4, 5], [6, 6], [7, 7]])
    hard = np.asarray([[5, 7], [3, -1], [0, 0], [0, 0], [0, 0], [0, 0]])
    # 0 brings the entities of 5 and 7; that batch is full; 1 brings that of 3; then the rest.
    assert group_hard_negatives(pairs, hard, size=3).tolist() == [0, 3, 5, 1, 2, 4]
    assert group_hard_negatives(pairs, hard, size=2).tolist() == [
        0,
        3,
        1,
        2,
        4,
        5,
    ]  # 5 finds the batch full
    rng = np.random.default_rng(1)
    pairs = rng.integers(30, size=(100, 2))
    order = group_hard_negatives(pairs, rng.integers(-1, 30, size=(100, 4)), size=7)
    assert sorted(order.tolist()) == list(range(100))


def test_batches_hold_each_others_nearest_other_meanings(
    make: Callable[..., TrainConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = ["heart", "kidney", "liver"]  # of each four entities with two names
    rows = [
        f"{place} {letter}\t{place} {kind} {letter}"
        for place in places
        for letter in "abcd"
        for kind in ("chronic", "abnormal")
    ]
    (tmp_path / "kb.tsv").write_text("id\tname\n" + "\n".join(rows))
    monkeypatch.setattr(pairs, "is_held_out", lambda name: False)  # all names, for even counts
    config = make(corpus=tmp_path / "kb.tsv", pairs=PairSource.SYNONYMS, batch_size=4)
    model, table = load_base(config), read_table(config)

    def vectors_of(_: object, tokens: list[np.ndarray]) -> np.ndarray:
        """Near by position; the nearest of all is the other name of the same entity."""
        texts = [model.tokenizer.decode(ids, skip_special_tokens=True) for ids in tokens]
        raw = np.zeros((len(texts), 7), dtype=np.float32)
        for row, text in enumerate(texts):
            raw[row, places.index(text.split()[0])] = 3
            raw[row, 3 + "abcd".index(text.split()[-1])] = 1
        return raw / np.linalg.norm(raw, axis=1, keepdims=True)

    monkeypatch.setattr(mining, "encode_all", vectors_of)
    clean = tokenize(table.strings, model)
    hard = HardNegativeSampler(model, clean, most=6, size=4)  # the six strings of three entities
    steps = count_steps(table, config)
    drawn = list(batches(table, clean, model, config, steps=steps, hard=hard))
    assert len(drawn) == 9

    def places_of(batch: Batch) -> set[str]:
        return {text.split()[0] for text in batch.texts}

    assert any(len(places_of(batch)) > 1 for batch in drawn[:3])  # the first epoch
    for epoch in (drawn[3:6], drawn[6:]):
        # One position in each batch, for each of its four entities: the related name was not mined.
        assert sorted(places_of(batch).pop() for batch in epoch) == places
        for batch in epoch:
            assert len(places_of(batch)) == 1
            assert sorted(text[-1] for text in batch.texts[:4]) == list("abcd")


def test_an_epoch_has_the_pairs_that_it_has_without_mining(
    make: Callable[..., TrainConfig],
) -> None:
    config = make()
    model, table = load_base(config), read_table(config)
    clean = tokenize(table.strings, model)
    hard = HardNegativeSampler(model, clean, most=3, size=8)
    pairs = draw_epoch(table, config, rng=np.random.default_rng(5))
    ours = hard.begin(pairs, [(row,) for row in range(len(clean))])
    assert ours.tolist() != pairs[:24].tolist()
    assert sorted(map(tuple, ours.tolist())) == sorted(map(tuple, pairs[:24].tolist()))


def test_mining_draws_no_random_number_and_leaves_the_model_in_training(
    make: Callable[..., TrainConfig],
) -> None:
    config = make(dropout=0.3)
    model, table = load_base(config), read_table(config)
    model.model.train()
    clean = tokenize(table.strings, model)
    before = torch.get_rng_state()
    pairs = draw_epoch(table, config, rng=np.random.default_rng(5))
    keys = [(row,) for row in range(len(clean))]
    first = HardNegativeSampler(model, clean, most=3, size=8).begin(pairs, keys)
    assert torch.equal(torch.get_rng_state(), before)
    assert model.model.training
    assert (
        HardNegativeSampler(model, clean, most=3, size=8).begin(pairs, keys).tolist()
        == first.tolist()
    )


@pytest.mark.parametrize("step", [6, 7], ids=["end of the first epoch", "in the second"])
def test_a_resumed_run_has_the_order_it_had(
    make: Callable[..., TrainConfig], tmp_path: Path, step: int
) -> None:
    options = {"save_steps": 1, "dropout": 0.1, "batch_size": 4, "max_steps": 9}

    def stop(now: StepMetrics) -> None:
        if now.step == step:
            raise KeyboardInterrupt

    whole = train(make(**options, out=tmp_path / "whole"))
    with pytest.raises(KeyboardInterrupt):
        train(make(**options), progress=stop)
    report = train(make(**options), resume=True)
    assert report.losses == whole.losses
    name = "model.safetensors"
    assert (report.out / name).read_bytes() == (whole.out / name).read_bytes()


def test_a_run_that_ends_before_the_second_epoch_is_refused(
    make: Callable[..., TrainConfig],
) -> None:
    with pytest.raises(ConfigError, check=about("hard_negatives", hint="--epochs")):
        make(epochs=1)
    with pytest.raises(ConfigError, check=about("hard_negatives")):
        make(hard_negatives=8)
    with pytest.raises(ConfigError, check=about("hard_negatives", hint="--max-steps")):
        train(make(max_steps=3))
    assert len(train(make(max_steps=4)).losses) == 4
