"""A small BERT for masked language modeling: its recipe, first weights, loss and optimizers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from mlm_data import UNPREDICTED, svd_embeddings
from numpy.typing import NDArray
from torch import Tensor

from mirror_rt.errors import ConfigError

FIRST_VECTORS = ("svd", "random")
"""Token vectors at the start: from co-occurrences, or BERT's own random ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """The settings that decide the weights, besides the corpus and the number of steps."""

    vocabulary: int = 16_000
    layers: int = 4
    width: int = 256
    length: int = 64
    rows: int = 64
    muon_lr: float = 0.02
    lr: float = 1e-3
    warm_up: int = 100
    decay: float = 0.2
    weight_decay: float = 0.01
    embeddings: str = "svd"
    seed: int = 42

    def check(self) -> None:
        """Check each value.

        Raises:
            ConfigError: A value cannot be used; the message names its option.
        """
        for right, option, value, allowed in (
            (100 <= self.vocabulary <= 65_536, "vocabulary", self.vocabulary, "100 to 65,536"),
            (self.layers >= 1, "layers", self.layers, "1 or more"),
            (self.width >= 1 and self.width % self.heads == 0, "width", self.width,
             "a multiple of 64, or less than 128"),
            (self.length >= 16, "length", self.length, "16 or more"),
            (self.rows >= 1, "rows", self.rows, "1 or more"),
            (0 < self.muon_lr < math.inf, "muon-lr", self.muon_lr, "a number above 0"),
            (0 < self.lr < math.inf, "lr", self.lr, "a number above 0"),
            (self.warm_up >= 1, "warm-up", self.warm_up, "1 step or more"),
            (0 <= self.decay <= 1, "decay", self.decay, "a share from 0 to 1"),
            (0 <= self.weight_decay < math.inf, "weight-decay", self.weight_decay, "0 or more"),
            (self.embeddings in FIRST_VECTORS, "embeddings", self.embeddings,
             " or ".join(FIRST_VECTORS)),
            (0 <= self.seed < 2**32, "seed", self.seed, "0 to 4,294,967,295"),
        ):  # fmt: skip
            if not right:
                raise ConfigError(f"--{option} {value}: is not possible; give {allowed}")

    @property
    def heads(self) -> int:
        """Attention heads, of 64 dimensions or more."""
        return max(1, self.width // 64)


def make_model(recipe: Recipe, tokens: NDArray[np.uint16]) -> Any:  # noqa: ANN401
    """Return a ``BertForMaskedLM`` with initial weights.

    It has no dropout, because each text is seen only a few times.
    """
    from transformers import BertConfig, BertForMaskedLM

    torch.manual_seed(recipe.seed)
    config = BertConfig(
        vocab_size=recipe.vocabulary,
        hidden_size=recipe.width,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        intermediate_size=4 * recipe.width,
        max_position_embeddings=recipe.length,  # no other positions are trained
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    model = BertForMaskedLM(config)
    if recipe.embeddings == "svd":
        vectors = svd_embeddings(tokens, recipe.vocabulary, recipe.width)
        with torch.no_grad():
            table = model.bert.embeddings.word_embeddings.weight
            unseen = torch.from_numpy(np.abs(vectors).sum(1) == 0)
            table.copy_(torch.where(unseen[:, None], table, torch.from_numpy(vectors)))
    with torch.no_grad():  # the shares of the tokens: the prediction of a model without context
        shares = np.bincount(tokens, minlength=recipe.vocabulary) + 1.0
        model.cls.predictions.bias.copy_(torch.from_numpy(np.log(shares / shares.sum())))
    return model


def loss_of(model: Any, seen: Tensor, labels: Tensor, pieces: Tensor) -> tuple[Tensor, Tensor]:  # noqa: ANN401
    """Return the mean cross-entropy of the chosen tokens, and how many were predicted right.

    Args:
        model: A ``BertForMaskedLM``.
        seen: (R, L) int64.
        labels: (R, L) int64.
        pieces: (R, L) int32; a token attends only to its own piece, and positions are counted
            from the start of the piece.
    """
    same = pieces[:, :, None] == pieces[:, None, :]
    first = torch.ones_like(pieces, dtype=torch.bool)
    first[:, 1:] = pieces[:, 1:] != pieces[:, :-1]
    place = torch.arange(pieces.shape[1], device=pieces.device).expand_as(pieces)
    begins = torch.where(first, place, torch.zeros_like(place)).cummax(1).values
    states = model.bert(
        input_ids=seen, attention_mask=same.to(torch.int64), position_ids=place - begins
    ).last_hidden_state
    chosen = labels != UNPREDICTED
    logits = model.cls(states[chosen]).float()
    target = labels[chosen]
    if not len(target):  # a few short rows may have no chosen token
        return logits.sum(), torch.zeros((), dtype=torch.int64)
    loss = torch.nn.functional.cross_entropy(logits, target)
    return loss, (logits.argmax(-1) == target).sum()


def make_optimizers(model: Any, recipe: Recipe) -> list[torch.optim.Optimizer]:  # noqa: ANN401
    """Return Muon for the matrices of the layers, and AdamW for embeddings and vectors.

    Raises:
        ConfigError: This torch has no Muon (it came with 2.9).
    """
    if not hasattr(torch.optim, "Muon"):
        raise ConfigError(f"torch {torch.__version__} has no Muon; install torch 2.9 or later")
    matrices: list[Tensor] = []
    others: list[Tensor] = []
    for name, parameter in model.named_parameters():
        inner = parameter.dim() == 2 and name.startswith("bert.encoder.")
        (matrices if inner else others).append(parameter)
    decay = recipe.weight_decay
    return [
        torch.optim.Muon(matrices, lr=recipe.muon_lr, weight_decay=decay),
        torch.optim.AdamW(others, lr=recipe.lr, betas=(0.9, 0.98), weight_decay=0.0, fused=True),
    ]


def rate_at(step: int, steps: int, recipe: Recipe) -> float:
    """Return the share of the learning rates at a step: rising, constant, falling at the end."""
    falling = max(1, round(steps * recipe.decay))
    return min(1.0, (step + 1) / recipe.warm_up, (steps - step) / falling)
