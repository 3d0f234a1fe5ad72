"""Drophead: drop whole attention heads, the second feature augmentation of the paper.

Source: Zhou et al. 2020, *Scheduled DropHead*; used without schedule in Liu et al. 2021,
section 5.1. Axes: B strings, T tokens, H heads, W width of a head.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from mirror_rt.errors import ModelError

__all__ = ["add_drophead", "drop_heads"]

_PROJECTIONS = ("attention.output.dense", "attention.out_lin", "attn.o")
"""The linear layer that joins the heads: BERT, RoBERTa and similar; DistilBERT; MPNet."""


def drop_heads(heads_BTD: Tensor, *, heads: int, rate: float) -> Tensor:
    """Zero each head of each string with probability ``rate``, and scale up the others.

    The scale of a string is heads / heads kept, which preserves the expected sum. A string
    that would lose all its heads keeps all.

    Args:
        heads_BTD: (B, T, H × W) floating, the heads' outputs side by side.
        heads: H.
        rate: Probability for a head to be dropped, in [0, 1).

    Returns:
        (B, T, H × W).
    """
    kept_BH = (torch.rand(len(heads_BTD), heads, device=heads_BTD.device) >= rate).float()
    kept_BH = torch.where(kept_BH.any(dim=1, keepdim=True), kept_BH, torch.ones_like(kept_BH))
    scale_BH = kept_BH * (heads / kept_BH.sum(dim=1, keepdim=True))
    width = heads_BTD.shape[-1] // heads
    scale_BD = scale_BH.to(heads_BTD.dtype).repeat_interleave(width, dim=1)
    return heads_BTD * scale_BD[:, None, :]


def add_drophead(model: nn.Module, *, rate: float) -> None:
    """Make a Hugging Face encoder drop heads while it is in training mode.

    It hooks the linear layer that joins the heads, so it works with any attention kernel.

    Raises:
        ModelError: The structure of the model's attention is not known.
    """
    config: Any = model.config
    heads = int(config.num_attention_heads)
    found = [m for name, m in model.named_modules() if name.endswith(_PROJECTIONS)]
    if len(found) != config.num_hidden_layers:
        raise ModelError(
            f"drophead: is not supported for {config.model_type}; leave --drophead out"
        )

    def hook(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        if not module.training:
            return None
        return (drop_heads(inputs[0], heads=heads, rate=rate), *inputs[1:])

    for projection in found:
        projection.register_forward_pre_hook(hook)
