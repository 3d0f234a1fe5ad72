"""Attention and dropout in training on a CPU equal those of torch."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from mirror_rt.training import dropout_attention
from mirror_rt.training.dropout_attention import FastDropoutAttention, attend

SHAPE = (3, 2, 5, 4)


def inputs(dtype: torch.dtype) -> tuple[Tensor, ...]:
    made = torch.Generator().manual_seed(3)
    query, key, value = (
        torch.randn(SHAPE, dtype=dtype, generator=made).requires_grad_() for _ in range(3)
    )
    owner = torch.tensor([[0, 0, 1, 1, 1], [0, 1, 1, 2, 2], [0, 0, 0, 0, 0]])
    apart = owner[:, None, :, None] != owner[:, None, None, :]
    return query, key, value, apart.to(dtype) * torch.finfo(dtype).min


@pytest.mark.parametrize("scale", [None, 0.3])
@pytest.mark.parametrize("one_for_all", [False, True])
def test_without_dropout_it_is_attention_and_its_gradient(
    scale: float | None, one_for_all: bool
) -> None:
    query, key, value, mask = inputs(torch.float64)
    mask = mask[:, :, :1] * 0 if one_for_all else mask  # (R, 1, 1, T), as of a padding mask
    ours = attend(query, key, value, mask, rate=0.0, scale=scale)
    theirs = functional.scaled_dot_product_attention(query, key, value, mask, scale=scale)
    torch.testing.assert_close(ours, theirs)
    weights = torch.randn(SHAPE, dtype=torch.float64)
    for mine, other in zip(
        *(torch.autograd.grad((o * weights).sum(), (query, key, value)) for o in (ours, theirs)),
        strict=True,
    ):
        torch.testing.assert_close(mine, other)


@pytest.mark.parametrize("kernel", [True, False])
def test_with_dropout_its_gradient_is_that_of_what_was_kept(
    kernel: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not kernel:  # as in a torch version without this private function
        monkeypatch.delattr(torch, "_softmax_backward_data")
    query, key, value, mask = inputs(torch.float64)

    def once(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        torch.manual_seed(5)  # the same weights are dropped each time
        return attend(query, key, value, mask, rate=0.4)

    assert torch.autograd.gradcheck(once, (query, key, value))


def test_weights_are_dropped_at_the_given_rate_and_the_rest_scaled() -> None:
    torch.manual_seed(1)
    rate, tokens = 0.3, 32
    query, key = (torch.randn(64, 4, tokens, 8) for _ in range(2))
    mask, value = torch.zeros(64, 1, 1, tokens), torch.eye(tokens).expand(64, 4, -1, -1)
    dropped = attend(query, key, value, mask, rate=rate)  # the weights themselves
    whole = (query @ key.mT * 8**-0.5).softmax(-1)
    kept = dropped > 0
    torch.testing.assert_close(dropped[kept], whole[kept] / (1 - rate))
    error = abs(kept.double().mean().item() - (1 - rate))
    assert error < 4 * (rate * (1 - rate) / kept.numel()) ** 0.5
    again = attend(query, key, value, mask, rate=rate) > 0
    assert abs((again == kept).double().mean().item() - (rate**2 + (1 - rate) ** 2)) < 0.01


def test_in_bfloat16_it_is_near_and_its_gradients_have_the_types_of_their_inputs() -> None:
    query, key, value, mask = inputs(torch.float32)
    exact = attend(query, key, value, mask, rate=0.0)
    near = [each.detach().bfloat16().requires_grad_() for each in (query, key, value)]
    found = attend(*near, mask, rate=0.0)
    assert found.dtype is torch.bfloat16
    torch.testing.assert_close(found.float(), exact, atol=0.05, rtol=0.05)
    gradients = torch.autograd.grad(found.float().sum(), near)
    expected = torch.autograd.grad(exact.sum(), (query, key, value))
    for gradient, wanted in zip(gradients, expected, strict=True):
        assert gradient.dtype is torch.bfloat16
        torch.testing.assert_close(gradient.float(), wanted, atol=0.05, rtol=0.05)


def test_it_takes_the_place_of_torchs_where_there_is_a_mask_and_dropout_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    query, key, value, mask = inputs(torch.float32)
    requested: list[float] = []

    def attend(*given: Tensor, rate: float, scale: float | None) -> Tensor:
        requested.append(rate)
        return given[0]

    monkeypatch.setattr(dropout_attention, "attend", attend)
    attention = functional.scaled_dot_product_attention
    with FastDropoutAttention():
        assert attention(query, key, value, attn_mask=mask, dropout_p=0.2) is query
        attention(query, key, value, attn_mask=mask)
        attention(query, key, value, dropout_p=0.2)
        attention(query, key, value, attn_mask=mask == 0, dropout_p=0.2)
        attention(query, key, value, is_causal=True, dropout_p=0.2)
    attention(query, key, value, attn_mask=mask, dropout_p=0.2)
    assert requested == [0.2]
