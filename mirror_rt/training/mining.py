"""Order an epoch's pairs: strings that the model confuses come into the same batch.

Axes: N strings, P pairs, A anchors, K hardest negatives, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from mirror_rt.training.encoding import encode_all
from mirror_rt.training.model import TextModel

if TYPE_CHECKING:
    from mirror_rt.types import Float32, Int64

__all__ = ["HardNegativeSampler", "group_hard_negatives", "mine_hard_negatives"]

_BLOCK = 2**26
"""Cosines held at once: 256 MB."""


class HardNegativeSampler:
    """The order of an epoch's pairs, by the strings that the model confuses at its start.

    Attributes:
        pairs_P2: The order of the current epoch; None in the first. It depends on earlier
            weights, so it must be saved for a run that is resumed.
    """

    def __init__(self, model: TextModel, clean: Sequence[Int64], *, most: int, size: int) -> None:
        """Keep the model; its weights at the start of each epoch count.

        Args:
            model: The model in training.
            clean: Token ids of all strings, unmasked.
            most: K, the number of hardest negatives per anchor.
            size: Pairs of a batch.
        """
        self._model, self._clean, self._most, self._size = model, clean, most, size
        self.pairs_P2: Int64 | None = None

    def begin(self, pairs_P2: Int64, keys: Sequence[tuple[int, ...]]) -> Int64:
        """Return the pairs of a new epoch in training order.

        Args:
            pairs_P2: (P, 2) int64 rows of strings, as drawn.
            keys: The keys of every string, as for ``same_meaning_mask``.

        Returns:
            (P', 2) int64, the pairs that fill whole batches, ordered so that each batch contains
            hard negatives of its own; P' is P rounded down to whole batches.
        """
        # The pairs that fill no batch are the same as without mining: the last drawn.
        pairs_P2 = pairs_P2[: len(pairs_P2) // self._size * self._size]
        rows_N = np.unique(pairs_P2)
        vectors_ND = encode_all(self._model, [self._clean[row] for row in rows_N])
        anchors_P = np.searchsorted(rows_N, pairs_P2[:, 0])
        found_PK = mine_hard_negatives(
            vectors_ND,
            [keys[row] for row in rows_N],
            anchors_P,
            most=self._most,
            device=self._model.model.device,
        )
        hard_PK = np.where(found_PK < 0, -1, rows_N[found_PK])
        self.pairs_P2 = pairs_P2[group_hard_negatives(pairs_P2, hard_PK, size=self._size)]
        return self.pairs_P2


def mine_hard_negatives(
    vectors_ND: Float32,
    keys: Sequence[tuple[int, ...]],
    anchors_A: Int64,
    *,
    most: int,
    device: torch.device | None = None,
) -> Int64:
    """Find the nearest possible negatives of each anchor, by exact search.

    Args:
        vectors_ND: (N, D) float32 unit rows.
        keys: The keys of each of N strings; strings that share a key are not negatives.
        anchors_A: (A,) int64 rows of the anchors.
        most: K.
        device: The device of the products; by default the CPU.

    Returns:
        (A, K) int64 rows, the nearest first; −1 if there are fewer.
    """
    rows_of: dict[int, list[int]] = {}
    for row, found in enumerate(keys):
        for key in found:
            rows_of.setdefault(key, []).append(row)
    all_ND = torch.from_numpy(vectors_ND).to(device)
    hard_AK = np.full((len(anchors_A), most), -1, dtype=np.int64)
    block = max(1, _BLOCK // len(vectors_ND))
    for start in range(0, len(anchors_A), block):
        anchors = anchors_A[start : start + block].tolist()
        cosines_BN = all_ND[anchors] @ all_ND.T
        for at, anchor in enumerate(anchors):
            cosines_BN[at, [row for key in keys[anchor] for row in rows_of[key]]] = -torch.inf
        best_BK, rows_BK = cosines_BN.topk(min(most, len(vectors_ND)), dim=1)
        rows_BK[best_BK.isneginf()] = -1
        hard_AK[start : start + block, : rows_BK.shape[1]] = rows_BK.cpu().numpy()
    return hard_AK


def group_hard_negatives(pairs_P2: Int64, hard_PK: Int64, *, size: int) -> Int64:
    """Order pairs so that hard negatives of a pair are in its batch where possible.

    A pair is placed, then for each of its hardest strings a pair with that string; then the
    next pair not yet placed, and so on. Every pair is placed once. A batch consists of such
    groups; the last one is cut where the batch is full.

    Args:
        pairs_P2: (P, 2) int64 rows of strings.
        hard_PK: (P, K) int64 rows of each pair's hardest strings, −1 for none.
        size: Pairs of a batch.

    Returns:
        (P,) int64, a permutation.
    """
    holding: dict[int, list[int]] = {}
    for pair in range(len(pairs_P2) - 1, -1, -1):  # so that the first drawn is popped first
        for row in set(pairs_P2[pair].tolist()):
            holding.setdefault(row, []).append(pair)
    order: list[int] = []
    placed = [False] * len(pairs_P2)
    for seed in range(len(pairs_P2)):
        if placed[seed]:
            continue
        placed[seed] = True
        order.append(seed)
        for row in hard_PK[seed].tolist():
            if len(order) % size == 0:
                break
            waiting = holding.get(row, [])
            while waiting and placed[waiting[-1]]:
                waiting.pop()
            if waiting:
                placed[waiting[-1]] = True
                order.append(waiting.pop())
    return np.asarray(order, dtype=np.int64)
