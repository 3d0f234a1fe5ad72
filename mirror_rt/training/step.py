"""The loss and gradient of a step: directly, or with cached gradients in bounded memory.

Axes: V views of the batch, D width of a vector.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from mirror_rt.training.batches import Batch
from mirror_rt.training.config import TrainConfig
from mirror_rt.training.encoding import autocast, encode, sort_by_length
from mirror_rt.training.loss import contrastive
from mirror_rt.training.model import TextModel
from mirror_rt.training.pairs import same_meaning_mask

__all__ = ["backward", "cached_backward", "plain_backward"]


def backward(model: TextModel, batch: Batch, config: TrainConfig) -> float:
    """Compute the loss of a batch and add its gradient to the parameters; return the loss."""
    if config.mini_batch_size is None:
        return plain_backward(model, batch, config)
    return cached_backward(model, batch, config)


def plain_backward(model: TextModel, batch: Batch, config: TrainConfig) -> float:
    """Encode all views with their graph, and compute the gradient."""
    with autocast(model, bf16=config.bf16):
        vectors_VD = encode(model, batch.tokens)
    loss = _loss(vectors_VD, batch, config)
    torch.autograd.backward(loss)
    return loss.item()


def cached_backward(model: TextModel, batch: Batch, config: TrainConfig) -> float:
    """Compute the gradient of ``plain_backward`` with one micro-batch in memory at a time.

    The vectors are computed without a graph, and the loss gives their gradient. Then each
    micro-batch is encoded again, with the same dropout, to propagate that gradient.
    Source: Gao et al. 2021, *Scaling Deep Contrastive Learning Batch Size* (GradCache).
    """
    parts = sort_by_length([len(ids) for ids in batch.tokens], most=config.mini_batch_size)
    in_order = torch.from_numpy(np.argsort(np.concatenate(parts))).to(model.model.device)
    dropouts, found = [], []
    with torch.no_grad(), autocast(model, bf16=config.bf16):
        for part in parts:
            dropouts.append(_random_state(model.model.device))
            found.append(encode(model, [batch.tokens[view] for view in part]))
    vectors_VD = torch.cat(found).requires_grad_()
    loss = _loss(vectors_VD[in_order], batch, config)
    (gradient_VD,) = torch.autograd.grad(loss, vectors_VD)
    gradients = torch.split(gradient_VD, [len(part) for part in parts])
    for part, dropout, gradient_BD in zip(parts, dropouts, gradients, strict=True):
        _set_random_state(model.model.device, dropout)
        with autocast(model, bf16=config.bf16):
            again_BD = encode(model, [batch.tokens[view] for view in part])
        torch.autograd.backward(again_BD, gradient_BD)
    return loss.item()


def _loss(vectors_VD: Tensor, batch: Batch, config: TrainConfig) -> Tensor:
    same_meaning_VV = torch.from_numpy(same_meaning_mask(batch.keys)).to(vectors_VD.device)
    return contrastive(
        vectors_VD, same_meaning_VV, loss=config.loss, temperature=config.temperature
    )


def _random_state(device: torch.device) -> Tensor:
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()


def _set_random_state(device: torch.device, state: Tensor) -> None:
    if device.type == "cuda":
        torch.cuda.set_rng_state(state, device)
    else:
        torch.set_rng_state(state)
