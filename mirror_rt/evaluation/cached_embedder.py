"""Encode each text once per run: tasks share dictionaries and sentences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from mirror_rt.evaluation.baselines import CharNgrams
from mirror_rt.types import Embedder

if TYPE_CHECKING:
    from mirror_rt.types import Float32

__all__ = ["CachedEmbedder"]

_AT_ONCE = 2_048
"""Texts between two calls of ``progress``."""


class CachedEmbedder:
    """An embedder with a cache in memory: 4·D bytes per text.

    Args:
        embedder: The embedder.
        progress: Called with (encoded texts, requested texts).
    """

    def __init__(
        self, embedder: Embedder, *, progress: Callable[[int, int], None] | None = None
    ) -> None:
        self._embedder = embedder
        self._progress = progress
        self._rows: dict[str, int] = {}
        self._blocks: list[Float32] = []

    @classmethod
    def around(cls, embedder: Embedder) -> Embedder:
        """Wrap an embedder, except for a baseline that each task fits again."""
        return embedder if isinstance(embedder, (CharNgrams, cls)) else cls(embedder)

    @property
    def dim(self) -> int:
        """Width of a vector."""
        return self._embedder.dim

    def encode(self, texts: Sequence[str]) -> Float32:
        """Return (N, D) float32 unit rows, row i for texts[i]."""
        new = [text for text in dict.fromkeys(texts) if text not in self._rows]
        first, size = len(self._rows), len(new) if self._progress is None else _AT_ONCE
        for start in range(0, len(new), max(size, 1)):
            self._blocks.append(self._embedder.encode(new[start : start + size]))
            if self._progress is not None:
                self._progress(first + min(start + size, len(new)), first + len(new))
        self._rows.update((text, first + i) for i, text in enumerate(new))
        if len(self._blocks) > 1:
            self._blocks = [np.concatenate(self._blocks)]
        if not texts:
            return np.zeros((0, self.dim), np.float32)
        found: Float32 = self._blocks[0][[self._rows[text] for text in texts]]
        return found
