"""One step's loss and gradient: plainly, or with cached gradients in bounded memory.

Axes: V views of the batch, D width of a vector.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from mirror_rt.training.batches import Batch
from mirror_rt.training.config import TrainConfig
from mirror_rt.training.loss import contrastive
from mirror_rt.training.model import TextModel, autocast, encode_groups, length_groups
from mirror_rt.training.momentum import MomentumQueue
from mirror_rt.training.pairs import related

if TYPE_CHECKING:
    from mirror_rt.types import Int64

__all__ = ["backward", "cached_backward", "plain_backward"]


def backward(
    model: TextModel, batch: Batch, config: TrainConfig, queue: MomentumQueue | None = None
) -> float:
    """Compute the loss of a batch and add its gradient to the parameters; return the loss."""
    if config.micro_batch is None:
        return plain_backward(model, batch, config, queue)
    return cached_backward(model, batch, config, queue)


def plain_backward(
    model: TextModel, batch: Batch, config: TrainConfig, queue: MomentumQueue | None = None
) -> float:
    """Encode all views, keep what the gradient needs, and go back through it."""
    lengths = [len(ids) for ids in batch.tokens]
    if model.model.device.type == "cpu":
        groups = length_groups(lengths)
    else:  # starting its many small kernels costs a GPU more than the padding they spare
        groups = length_groups(lengths, padding=0.5)
    with autocast(model, bf16=config.bf16):
        vectors = encode_groups(model, batch.tokens, groups)
    loss = _loss(torch.cat(vectors), groups, batch, config, queue)
    torch.autograd.backward(loss)
    return loss.item()


def cached_backward(
    model: TextModel, batch: Batch, config: TrainConfig, queue: MomentumQueue | None = None
) -> float:
    """As ``plain_backward``, the same gradient, holding one micro-batch in memory at a time.

    The vectors are computed without a graph; the loss gives their gradient; then each
    micro-batch is encoded again, with the dropout it had, and that gradient goes through it.
    Source: Gao et al. 2021, *Scaling Deep Contrastive Learning Batch Size* (GradCache).
    """
    groups = length_groups([len(ids) for ids in batch.tokens], most=config.micro_batch)
    device = model.model.device
    dropouts, parts = [], []
    with torch.no_grad(), autocast(model, bf16=config.bf16):
        for group in groups:
            dropouts.append(_random_state(device))
            parts += encode_groups(model, batch.tokens, [group])
    vectors_VD = torch.cat(parts).requires_grad_()
    loss = _loss(vectors_VD, groups, batch, config, queue)
    (gradient_VD,) = torch.autograd.grad(loss, vectors_VD)
    for group, dropout, gradient in zip(
        groups, dropouts, torch.split(gradient_VD, [len(group) for group in groups]), strict=True
    ):
        _set_random_state(device, dropout)
        with autocast(model, bf16=config.bf16):
            (again_BD,) = encode_groups(model, batch.tokens, [group])
        torch.autograd.backward(again_BD, gradient)
    return loss.item()


def _loss(
    grouped_VD: Tensor,
    groups: Sequence[Int64],
    batch: Batch,
    config: TrainConfig,
    queue: MomentumQueue | None,
) -> Tensor:
    """The loss of vectors that stand in the order of their groups."""
    device = grouped_VD.device
    in_order = torch.from_numpy(np.argsort(np.concatenate(groups))).to(device)
    related_VV = torch.from_numpy(related(batch.keys)).to(device)
    return contrastive(
        grouped_VD[in_order],
        related_VV,
        loss=config.loss,
        temperature=config.temperature,
        queue=None if queue is None else queue.negatives(batch.keys),
    )


def _random_state(device: torch.device) -> Tensor:
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()


def _set_random_state(device: torch.device, state: Tensor) -> None:
    if device.type == "cuda":
        torch.cuda.set_rng_state(state, device)
    else:
        torch.set_rng_state(state)
