"""Baselines without weights: hashed character n-grams, and equality of names."""

from __future__ import annotations

import math
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from mirror_rt.errors import ConfigError
from mirror_rt.knowledge.text.normalize import normalize
from mirror_rt.types import Embedder

if TYPE_CHECKING:
    from mirror_rt.types import Float32

__all__ = ["BASELINES", "CharNgrams", "ExactMatch", "Model", "open_baseline"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExactMatch:
    """Equality of normalized strings. Not an embedder: some tasks do not apply to it."""

    def similarities(self, left: Sequence[str], right: Sequence[str]) -> Float32:
        """Return (N,) float32, 1 where the normalized strings are equal, else 0."""
        equal = [normalize(a) == normalize(b) for a, b in zip(left, right, strict=True)]
        return np.array(equal, np.float32)


@dataclass(frozen=True, slots=True, kw_only=True)
class CharNgrams:
    """TF-IDF over hashed character n-grams of normalized text, with words padded.

    Attributes:
        width: D, the number of hash buckets.
        sizes: The lengths n of the n-grams.
        weights_D: (D,) float32 inverse document frequencies, or None: all 1.
    """

    width: int = 2048
    sizes: tuple[int, ...] = (2, 3, 4)
    weights_D: Float32 | None = None

    @property
    def dim(self) -> int:
        """Width of a vector."""
        return self.width

    def fitted(self, texts: Sequence[str]) -> CharNgrams:
        """Return the baseline with inverse document frequencies counted over ``texts``."""
        documents_D = np.zeros(self.width, np.int64)
        for text in texts:
            documents_D[list({bucket for bucket, _, _ in self._buckets(text)})] += 1
        weights_D = np.log((1.0 + len(texts)) / (1.0 + documents_D)) + 1.0
        return replace(self, weights_D=weights_D.astype(np.float32))

    def encode(self, texts: Sequence[str]) -> Float32:
        """Return (N, D) float32 unit rows, row i for texts[i]."""
        vectors_ND = np.zeros((len(texts), self.width), np.float32)
        for row_D, text in zip(vectors_ND, texts, strict=True):
            for bucket, sign, count in self._buckets(text):
                row_D[bucket] += sign * (1.0 + math.log(count))
            if not row_D.any():  # an empty text, or all n-grams cancel
                row_D[0] = 1.0
        if self.weights_D is not None:
            vectors_ND *= self.weights_D
        vectors_ND /= np.linalg.norm(vectors_ND, axis=1, keepdims=True)
        return vectors_ND

    def _buckets(self, text: str) -> Iterator[tuple[int, float, int]]:
        padded = f" {normalize(text)} "
        grams = Counter(padded[i : i + n] for n in self.sizes for i in range(len(padded) - n + 1))
        for gram, count in grams.items():
            code = zlib.crc32(gram.encode("utf-8", "surrogatepass"))
            # With random signs, n-grams in the same bucket cancel on average.
            yield (code >> 1) % self.width, 1.0 if code & 1 else -1.0, count


Model: TypeAlias = Embedder | ExactMatch
"""The models that tasks accept."""

BASELINES = ("baseline:char-ngram", "baseline:exact")


def open_baseline(name: str) -> CharNgrams | ExactMatch:
    """Return the baseline with a name.

    Raises:
        ConfigError: There is no such baseline.
    """
    if name == "baseline:char-ngram":
        return CharNgrams()
    if name == "baseline:exact":
        return ExactMatch()
    raise ConfigError(f"{name}: no such baseline; there are: {', '.join(BASELINES)}")
