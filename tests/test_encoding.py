"""Encoding without padding: shared rows and length groups give the vectors of one padded batch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from mirror_rt.training.checkpoint import TorchEncoder
from mirror_rt.training.dropout_attention import use_fast_dropout
from mirror_rt.training.encoding import (
    autocast,
    bucket_by_length,
    encode,
    pack_sequences,
    sort_by_length,
)
from mirror_rt.training.model import tokenize
from mirror_rt.types import Pooling
from tests.tiny import NAMES, tiny_checkpoint


def test_length_groups_hold_every_string_once_with_little_padding() -> None:
    lengths = np.random.default_rng(0).integers(3, 26, size=400).tolist()
    blocks = bucket_by_length(lengths)
    assert sorted(row[0] for block in blocks for row in block.rows) == list(range(400))
    assert all(block.width == max(lengths[row[0]] for row in block.rows) for block in blocks)
    assert sum(len(block.rows) * block.width for block in blocks) < 1.12 * sum(lengths)


@pytest.mark.parametrize("longest", [14, 60])
def test_shared_rows_hold_every_string_once_and_are_nearly_full(longest: int) -> None:
    lengths = np.random.default_rng(0).integers(3, longest, size=400).tolist()
    block = pack_sequences(lengths)
    assert sorted(string for row in block.rows for string in row) == list(range(400))
    assert block.width == max(32, *lengths)
    assert all(sum(lengths[s] for s in row) <= block.width for row in block.rows)
    assert len(block.rows) * block.width < 1.06 * sum(lengths)


@pytest.mark.parametrize("architecture", ["bert", "roberta", "electra"])
def test_shared_rows_are_no_wider_than_a_short_model_has_room_for(
    tmp_path: Path, architecture: str
) -> None:
    from transformers import AutoConfig, AutoModel

    folder = tiny_checkpoint(tmp_path / "base", architecture=architecture)
    config = AutoConfig.from_pretrained(folder)
    config.max_position_embeddings = 16
    AutoModel.from_config(config).save_pretrained(folder)
    model = TorchEncoder.open(folder).model
    tokens = tokenize(NAMES, model)
    with torch.no_grad():
        alone = torch.cat([encode(model, [ids]) for ids in tokens])
        assert torch.allclose(encode(model, tokens), alone, atol=1e-6)


def test_parts_by_length_hold_every_string_once() -> None:
    parts = sort_by_length([5, 3, 9, 4, 4], most=2)
    assert [part.tolist() for part in parts] == [[1, 3], [4, 0], [2]]
    assert [part.tolist() for part in sort_by_length([5, 3, 9], most=None)] == [[1, 0, 2]]


@pytest.mark.parametrize("apart", [False, True], ids=["rows shared", "length groups"])
@pytest.mark.parametrize("pooling", Pooling)
@pytest.mark.parametrize(
    "architecture", ["bert", "roberta", "xlm-roberta", "distilbert", "electra", "mpnet"]
)
def test_vectors_equal_those_of_one_padded_batch(
    tmp_path: Path, architecture: str, pooling: Pooling, apart: bool
) -> None:
    from transformers import AutoModel, AutoTokenizer

    folder = tiny_checkpoint(tmp_path / "base", architecture=architecture)
    model = replace(TorchEncoder.open(folder, pooling=pooling).model, apart=apart)
    with torch.no_grad():
        found = encode(model, tokenize(NAMES, model))
        batch = AutoTokenizer.from_pretrained(folder)(NAMES, padding=True, return_tensors="pt")
        states = AutoModel.from_pretrained(folder).eval()(**batch).last_hidden_state
    expected = {
        Pooling.CLS: states[:, 0],
        Pooling.MEAN: torch.stack(  # over real tokens, never over padding
            [
                row[mask.bool()].mean(0)
                for row, mask in zip(states, batch["attention_mask"], strict=True)
            ]
        ),
    }[pooling]
    assert torch.allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("apart", [False, True], ids=["rows shared", "length groups"])
@pytest.mark.parametrize("pooling", Pooling)
@pytest.mark.parametrize("architecture", ["bert", "roberta", "electra"])
def test_bfloat16_keeps_the_strings_of_a_row_apart(
    tmp_path: Path, architecture: str, pooling: Pooling, apart: bool
) -> None:
    folder = tiny_checkpoint(tmp_path / "base", architecture=architecture)
    model = replace(TorchEncoder.open(folder, pooling=pooling).model, apart=apart)
    tokens = tokenize(NAMES, model)
    with torch.no_grad():
        exact = encode(model, tokens)
        with autocast(model, bf16=True):
            found = encode(model, tokens)
            alone = torch.cat([encode(model, [ids]) for ids in tokens])
    assert not torch.equal(found.float(), exact)
    spread = exact.std(0).norm()  # the distances between the strings
    for rough in (found, alone):
        assert ((rough.float() - exact).norm(dim=1) < 0.05 * spread).all()


def test_fast_dropout_keeps_and_scales_as_the_plain_one_does() -> None:
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Dropout(0.3), nn.Linear(2, 2))
    use_fast_dropout(layers)
    drop = layers[0].train()
    assert isinstance(drop, nn.Dropout)
    ones = torch.ones(1001, 301, requires_grad=True)
    dropped = drop(ones)
    kept = dropped > 0
    assert torch.allclose(dropped[kept], torch.tensor(1 / 0.7))
    assert abs(kept.float().mean().item() - 0.7) < 4 * (0.3 * 0.7 / ones.numel()) ** 0.5
    for axis in (0, 1):  # no row or column is preferred, nor any of the four draws of a word
        spread = kept.float().mean(axis).std().item()
        assert abs(spread / (0.3 * 0.7 / kept.shape[axis]) ** 0.5 - 1) < 0.2
    for place in range(4):
        assert abs(kept.flatten()[place::4].float().mean().item() - 0.7) < 0.01
    (gradient,) = torch.autograd.grad(dropped.sum(), ones)
    assert torch.equal(gradient, dropped.detach())
    assert not torch.equal(drop(ones) > 0, kept)
    assert drop.eval()(ones) is ones
