"""More negatives than a batch has: views of past steps, encoded by a slow copy of the encoder.

Axes: V views of a batch, B pairs, Q views of the queue, D width.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import normalize

from mirror_rt.training.batches import Batch
from mirror_rt.training.encoding import autocast, encode
from mirror_rt.training.model import TextModel
from mirror_rt.training.pairs import related

__all__ = ["MOMENTUM", "MomentumQueue"]

MOMENTUM = 0.995
"""The share of the slow copy's weights that stays in a step: that of ESimCSE."""

_SLOW = "slow."


class MomentumQueue:
    """The first views of past steps, the oldest first.

    Vectors of past steps came from other weights than those that train. So they are encoded by
    an exponential moving average of the weights, which changes little while they stand here,
    and without dropout. Sources: He et al. 2020, *Momentum Contrast*; Wu et al. 2022, *ESimCSE*,
    section 3.2.

    Attributes:
        vectors_QD: (Q, D) float32 unit rows.
        keys: Of each, as ``related`` wants them.
        slow: The encoder's average.
    """

    def __init__(self, model: TextModel, *, size: int, bf16: bool | None = None) -> None:
        """Start empty, with the weights that the model has.

        Args:
            model: The model in training.
            size: Q, the most that are kept.
            bf16: Whether to encode in bfloat16; None: as ``TrainConfig`` says.
        """
        self._model, self._size, self._bf16 = model, size, bf16
        slow = copy.deepcopy(model.model).eval().requires_grad_(False)
        self.slow = replace(model, model=slow)
        self.vectors_QD = torch.zeros(0, model.dim, device=model.model.device)
        self.keys: list[tuple[int, ...]] = []

    def negatives(self, keys: Sequence[tuple[int, ...]]) -> tuple[Tensor, Tensor]:
        """Return the queue for a batch: (Q, D) unit rows, and (V, Q) bool, true where related."""
        related_VQ = torch.from_numpy(related(keys, self.keys))
        return self.vectors_QD, related_VQ.to(self.vectors_QD.device)

    @torch.no_grad()
    def advance(self, batch: Batch) -> None:
        """After a step: move the slow weights, then take in the batch's first views."""
        pairs = zip(self.slow.model.parameters(), self._model.model.parameters(), strict=True)
        for slow, weight in pairs:
            slow.lerp_(weight, 1 - MOMENTUM)
        tokens = batch.tokens[: len(batch.tokens) // 2]
        with autocast(self.slow, bf16=self._bf16):
            vectors_BD = encode(self.slow, tokens)
        vectors_BD = normalize(vectors_BD.float(), dim=1)
        self.vectors_QD = torch.cat((self.vectors_QD, vectors_BD))[-self._size :]
        self.keys = [*self.keys, *batch.keys[: len(tokens)]][-self._size :]

    def state(self) -> dict[str, Tensor]:
        """Return what a run that is taken up needs back."""
        slow = {f"{_SLOW}{name}": value for name, value in self.slow.model.state_dict().items()}
        return {
            **slow,
            "queue.vectors": self.vectors_QD,
            "queue.keys": torch.tensor([key for keys in self.keys for key in keys]).long(),
            "queue.lengths": torch.tensor([len(keys) for keys in self.keys]).long(),
        }

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take back what ``state`` gave."""
        weights = {
            name.removeprefix(_SLOW): value
            for name, value in state.items()
            if name.startswith(_SLOW)
        }
        self.slow.model.load_state_dict(weights)
        self.vectors_QD = state["queue.vectors"].to(self.vectors_QD.device)
        parts = torch.split(state["queue.keys"], state["queue.lengths"].tolist())
        self.keys = [tuple(part.tolist()) for part in parts]
