"""Dropout and drophead work at the given rate, checked by statistics.

Weights are set so that attention is uniform and every value is 1. So the output of a head is the
number of the T attention weights that were kept.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mirror_rt.errors import ModelError
from mirror_rt.training.config import TrainConfig
from mirror_rt.training.drophead import add_drophead, drop_heads
from mirror_rt.training.encoding import encode
from mirror_rt.training.loop import load_base
from mirror_rt.training.model import load_model, tokenize
from mirror_rt.types import Pooling
from tests.errors import about
from tests.tiny import NAMES, tiny_checkpoint

ARCHITECTURES = ["bert", "roberta", "xlm-roberta", "distilbert", "electra", "mpnet"]
SDPA_IN_EVERY_RELEASE = {"bert", "roberta", "xlm-roberta", "distilbert"}
"""Of the releases allowed; the default of the others is what their users get."""
QUERIES = ("query", "q_lin", "attn.q")
VALUES = ("value", "v_lin", "attn.v")
JOINS = ("attention.output.dense", "attention.out_lin", "attn.o")
BIASES = ("relative_attention_bias",)


def heads_out(model: nn.Module, *, tokens: int, strings: int) -> list[Tensor]:
    """Run a model with uniform attention over ones; return the input of each output projection."""
    seen: list[Tensor] = []
    for name, module in model.named_modules():
        if name.endswith((*QUERIES, *VALUES)):
            nn.init.zeros_(module.weight)
            nn.init.constant_(module.bias, float(name.endswith(VALUES)))
        if name.endswith(BIASES):  # MPNet's, on relative positions
            nn.init.zeros_(module.weight)
        if name.endswith(JOINS):
            module.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    model.train()
    with torch.no_grad():
        model(
            input_ids=torch.full((strings, tokens), 9), attention_mask=torch.ones(strings, tokens)
        )
    return seen


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("rate", [0.0, 0.3])
def test_attention_weights_are_dropped_at_the_given_rate(
    tmp_path: Path, architecture: str, attention: str, rate: float
) -> None:
    folder = tiny_checkpoint(tmp_path / "base", architecture=architecture)
    requested = "eager" if attention == "eager" else None
    model = load_model(
        folder, pooling=Pooling.CLS, max_length=None, dropout=rate, attention=requested
    ).model
    if attention == "eager" or architecture in SDPA_IN_EVERY_RELEASE:
        assert model.config._attn_implementation == attention
    torch.manual_seed(0)
    tokens, strings = 20, 64
    for joined in heads_out(model, tokens=tokens, strings=strings):
        kept = (joined[:, :, ::8] * tokens * (1 - rate)).double()  # width of a head is 8
        assert torch.allclose(kept, kept.round(), atol=1e-3)
        weights = kept.numel() * tokens
        error = abs(kept.sum().item() / weights - (1 - rate))
        assert error <= 1e-6 + 4 * np.sqrt(rate * (1 - rate) / weights)


def test_hidden_states_are_dropped_at_the_given_rate(tmp_path: Path) -> None:
    model = load_model(
        tiny_checkpoint(tmp_path / "b"), pooling=Pooling.CLS, max_length=None, dropout=0.3
    ).model
    assert {m.p for m in model.modules() if isinstance(m, nn.Dropout)} == {0.3}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_dropout_layer_of_a_base_really_drops_at_the_given_rate(
    tmp_path: Path, architecture: str
) -> None:
    base = tiny_checkpoint(tmp_path / "b", architecture=architecture)
    config = TrainConfig(corpus="c", base=base, out=tmp_path / "o", dropout=0.3)
    model = load_base(config)
    kept: dict[str, list[Tensor]] = {}

    def watch(name: str) -> Callable[..., None]:
        def look(_: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
            there = inputs[0] != 0
            scaled = output[there & (output != 0)] * 0.7
            assert torch.allclose(scaled, inputs[0][there & (output != 0)], atol=1e-6)
            kept.setdefault(name, []).append((output != 0)[there])

        return look

    layers = {name: m for name, m in model.model.named_modules() if isinstance(m, nn.Dropout)}
    for name, layer in layers.items():
        layer.register_forward_hook(watch(name))
    model.model.train()
    torch.manual_seed(0)
    with torch.no_grad():
        encode(model, tokenize(NAMES * 8, model))
    assert len(kept) >= 3  # one of the embeddings, and one or two in each layer
    for name, found in kept.items():
        flat = torch.cat(found).double()
        error = abs(flat.mean().item() - 0.7)
        assert error < 4 * np.sqrt(0.3 * 0.7 / len(flat)), name


def test_the_checkpoints_config_keeps_the_bases_own_rate(tmp_path: Path) -> None:
    folder = tiny_checkpoint(tmp_path / "b")
    model = load_model(folder, pooling=Pooling.CLS, max_length=None, dropout=0.0).model
    assert model.config.attention_probs_dropout_prob == 0.1
    assert model.config.hidden_dropout_prob == 0.1


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_drophead_drops_whole_heads_per_string_and_rescales_the_rest(
    tmp_path: Path, architecture: str
) -> None:
    folder = tiny_checkpoint(tmp_path / "base", architecture=architecture)
    model = load_model(folder, pooling=Pooling.CLS, max_length=None, dropout=0.0).model
    add_drophead(model, rate=0.2)
    torch.manual_seed(0)
    strings, heads = 3000, 4
    layers = heads_out(model, tokens=4, strings=strings)
    assert len(layers) == 2
    for joined in layers:
        by_head = joined.unflatten(-1, (heads, 8))
        first = by_head[:, 0, :, 0]
        assert torch.equal(by_head, first[:, None, :, None].expand_as(by_head))
        active = (first > 0).sum(1, keepdim=True)
        assert torch.allclose(first, (first > 0) * heads / active, atol=1e-5)
        expected = 0.8 + 0.2**heads  # a string that would lose all heads keeps all
        error = abs((first > 0).float().mean().item() - expected)
        assert error < 4 * np.sqrt(0.2 * 0.8 / (strings * heads))
    assert not torch.equal(layers[0] > 0, layers[1] > 0)


def test_drophead_is_off_in_evaluation(tmp_path: Path) -> None:
    folder = tiny_checkpoint(tmp_path / "base")
    plain, hooked = (
        load_model(folder, pooling=Pooling.CLS, max_length=None).model for _ in range(2)
    )
    add_drophead(hooked, rate=0.5)
    ids = torch.arange(12).view(2, 6)
    with torch.no_grad():
        assert torch.equal(
            plain.eval()(ids).last_hidden_state, hooked.eval()(ids).last_hidden_state
        )


def test_a_string_never_loses_all_its_heads() -> None:
    torch.manual_seed(0)
    dropped = drop_heads(torch.ones(500, 1, 8), heads=4, rate=0.95)
    assert torch.isfinite(dropped).all()
    assert (dropped.abs().sum((1, 2)) > 0).all()


def test_drophead_in_an_unknown_layout_is_refused(tmp_path: Path) -> None:
    model = load_model(tiny_checkpoint(tmp_path / "b"), pooling=Pooling.CLS, max_length=None).model
    model.config.num_hidden_layers = 3
    with pytest.raises(ModelError, check=about("drophead", hint="--drophead")):
        add_drophead(model, rate=0.2)


def test_drophead_replaces_dropout_unless_both_are_given(tmp_path: Path, tiny_bert: Path) -> None:
    make: Callable[..., TrainConfig] = lambda **options: TrainConfig(  # noqa: E731
        corpus="c", base=tiny_bert, out=tmp_path / "o", **options
    )
    for config, rate in (
        (make(drophead=0.2), 0.0),
        (make(drophead=0.2, dropout=0.1), 0.1),
        (make(), 0.1),
    ):
        model = load_base(config).model
        assert {m.p for m in model.modules() if isinstance(m, nn.Dropout)} == {rate}
