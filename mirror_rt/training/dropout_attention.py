"""Faster dropout, and faster attention with dropout, for training on a CPU.

Axes: R rows, H heads, T tokens of a row, W width of a head.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from torch.overrides import TorchFunctionMode

__all__ = ["FastDropoutAttention", "attend", "use_fast_dropout"]


def _draw(like: Tensor, rate: float) -> Tensor:
    """Return the factors of a dropout: 0 with probability ``rate``, else 1 / (1 − rate).

    Each draw has 16 bits, so the rate is rounded to a multiple of 2^-16. On a CPU this takes a
    seventh of the time of ``bernoulli_``.
    """
    words = torch.empty(-(-like.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
    draws = words.view(torch.int16)[: like.numel()].view(like.shape)
    kept = draws >= round(rate * 2**16) - 2**15
    return kept.to(like.dtype).mul_(1 / (1 - rate))


def _softmax_backward(gradient: Tensor, weights: Tensor) -> Tensor:
    """Return the gradient of a softmax: weights · (gradient − its mean by the weights).

    Torch has a kernel for it, but not a public one. Without that kernel it takes three passes.
    """
    kernel = getattr(torch, "_softmax_backward_data", None)
    if kernel is None:
        mean = (gradient * weights).sum(-1, keepdim=True)
        return (gradient - mean).mul_(weights)
    found: Tensor = kernel(gradient, weights, -1, weights.dtype)
    return found


class _Dropout(nn.Dropout):
    """Dropout with faster draws."""

    def forward(self, input: Tensor) -> Tensor:
        """Return the input with dropout while in training, like ``nn.Dropout``."""
        if not self.training or not self.p or input.device.type != "cpu":
            return super().forward(input)
        return input * _draw(input, self.p)


def use_fast_dropout(model: nn.Module) -> None:
    """Replace the dropout layers of a model by faster ones with the same rates."""
    for module in list(model.modules()):
        for name, child in module.named_children():
            if type(child) is nn.Dropout:
                setattr(module, name, _Dropout(child.p))


class FastDropoutAttention(TorchFunctionMode):
    """In this context, ``attend`` computes attention with a mask and dropout on a CPU.

    Torch has no kernel for that: it scales queries and keys, looks for rows without a token,
    and draws with ``bernoulli_``, each in a separate pass over all weights.
    """

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Any,  # noqa: ANN401
        args: Any = (),  # noqa: ANN401
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401
        """Call a function of torch, or ``attend`` instead."""
        given = kwargs or {}
        if function is scaled_dot_product_attention and len(args) == 3:
            query, key, value = args
            mask, rate = given.get("attn_mask"), given.get("dropout_p", 0.0)
            usual = not (given.get("is_causal") or given.get("enable_gqa"))
            on_cpu = query.device.type == "cpu" and query.dim() == 4
            if rate and usual and on_cpu and mask is not None and mask.is_floating_point():
                return attend(query, key, value, mask, rate=rate, scale=given.get("scale"))
        return function(*args, **given)


def attend(
    query_RHTW: Tensor,
    key_RHTW: Tensor,
    value_RHTW: Tensor,
    mask: Tensor,
    *,
    rate: float,
    scale: float | None = None,
) -> Tensor:
    """Return softmax(query · key · scale + mask), with dropout, · value: (R, H, T, W) floating.

    Args:
        query_RHTW: (R, H, T, W) floating.
        key_RHTW: (R, H, T, W) floating.
        value_RHTW: (R, H, T, W) floating; its type is the type of the products.
        mask: Floating, is added; its shape can be broadcast to (R, H, T, T).
        rate: The dropout rate.
        scale: By default 1 / √W.
    """
    scale = query_RHTW.shape[-1] ** -0.5 if scale is None else scale
    found: Tensor = _Attention.apply(query_RHTW, key_RHTW, value_RHTW, mask, rate, scale)  # type: ignore[no-untyped-call]
    return found


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Tensor,
        rate: float,
        scale: float,
    ) -> Tensor:
        rows, heads, tokens, _ = query.shape
        kind = value.dtype
        query, key, value = (each.to(kind).flatten(0, 1) for each in (query, key, value))
        scores = torch.bmm(query, key.mT).view(rows, heads, tokens, tokens)
        wide = torch.promote_types(kind, torch.float32)
        weights = torch.add(mask.to(wide), scores, alpha=scale).softmax(-1).flatten(0, 1)
        drawn = _draw(weights, rate)
        ctx.save_for_backward(query, key, value, weights, drawn)
        ctx.scale = scale
        found = torch.bmm((weights * drawn).to(kind), value)
        return found.view(rows, heads, tokens, -1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        query, key, value, weights, drawn = ctx.saved_tensors
        shape, kind = gradient.shape, value.dtype
        gradient = gradient.to(kind).flatten(0, 1)
        for_value = torch.bmm((weights * drawn).to(kind).mT, gradient)
        for_weights = torch.bmm(gradient, value.mT).to(weights.dtype).mul_(drawn)
        for_scores = _softmax_backward(for_weights, weights)
        for_scores = for_scores.mul_(ctx.scale).to(kind)
        for_query, for_key = torch.bmm(for_scores, key), torch.bmm(for_scores.mT, query)
        found = (each.view(shape) for each in (for_query, for_key, for_value))
        return (*found, None, None, None)
