"""Texts to vectors with a bundle: deduplicate, compute in batches, scatter.

Axes: N texts, U distinct texts, B texts of a batch, D width.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from mirror_rt.bundle import STARTER, STARTER_NOTE, Bundle
from mirror_rt.encodings import check_texts
from mirror_rt.errors import ConfigError, InputError
from mirror_rt.runtime.batching import Prepared, Progress, Rows, thread_map
from mirror_rt.runtime.cores import available_cpus
from mirror_rt.types import BundleKind

if TYPE_CHECKING:
    from mirror_rt.runtime.tokenize import Token
    from mirror_rt.types import Float32, Int64

__all__ = ["Encoded", "Encoder", "Progress"]

RECENT = 4096
"""The size of the cache for single strings."""


class _Model(Protocol):
    """Computes the vectors of distinct texts."""

    def prepare(self, texts: Sequence[str]) -> Prepared:
        """Divide texts into batches."""

    def one(self, text: str) -> Float32:
        """Return the vector of one text."""

    def count_truncated(self, texts: Sequence[str]) -> int:
        """Return the number of distinct texts that are cut off."""

    def count_unfamiliar(self, texts: Sequence[str]) -> int:
        """Return the number of distinct texts with mostly unknown features."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """Vectors and counts.

    Attributes:
        vectors_ND: (N, D) float32 unit rows.
        lengths_N: (N,) int64, tokens of each text (characters for a static encoder), without the
            part that was cut off.
        different: The number of distinct texts.
        truncated: How many of these were too long, and were cut off.
        unfamiliar: How many of these have mostly unknown words and letters, for a static encoder;
            always 0 for a graph.
    """

    vectors_ND: Float32
    lengths_N: Int64
    different: int
    truncated: int
    unfamiliar: int = 0


class Encoder:
    """Embeds texts on the CPU. Safe to share between threads.

    Attributes:
        bundle: The opened bundle.
        threads: The number of batches that run at the same time.
    """

    def __init__(self, bundle: Bundle, model: _Model, *, threads: int) -> None:
        self.bundle = bundle
        self.threads = threads
        self._model = model
        self._recent = _recent(model)

    @classmethod
    def open(
        cls,
        bundle: str | Path | Bundle | None = None,
        *,
        threads: int | None = None,
        verify: bool = True,
    ) -> Encoder:
        """Open a bundle folder.

        Args:
            bundle: The folder, or an open bundle. None is the starter encoder in the package; the
                log says so.
            threads: The number of cores; by default all that this process may use. Each runs its
                own batches.
            verify: Whether to compare every file with its sha256.

        Raises:
            BundleError: It is not a bundle, has been changed, or cannot be loaded.
            ConfigError: ``threads`` is less than 1.
        """
        if threads is not None and threads < 1:
            raise ConfigError(f"threads: must be at least 1, got {threads}")
        if bundle is None:
            logging.getLogger("mirror_rt").warning(STARTER_NOTE)
            bundle = STARTER
        if not isinstance(bundle, Bundle):
            bundle = Bundle.open(bundle, verify=verify)
        return cls(bundle, _open_model(bundle), threads=threads or available_cpus())

    @property
    def dim(self) -> int:
        """Width D of a vector."""
        return self.bundle.manifest.dim

    def encode(self, texts: Sequence[str] | str, *, progress: Progress | None = None) -> Float32:
        """Embed texts; each distinct text is computed once.

        Empty strings and strings of spaces get the vector of an empty input.

        Args:
            texts: N strings, or a single one. A single string is computed without the overhead of
                batches, and recent results are cached.
            progress: Called with (texts, tokens) after each batch.

        Returns:
            (N, D) float32 unit rows, row i for ``texts[i]``; (D,) for a single string.

        Raises:
            InputError: An item is not a string, or contains a lone surrogate.
        """
        if isinstance(texts, str):
            vector_D: Float32 = self._recent(texts)
            return np.array(vector_D)
        return self.encode_counted(texts, progress=progress).vectors_ND

    def encode_counted(self, texts: Sequence[str], *, progress: Progress | None = None) -> Encoded:
        """Embed texts as ``encode`` does, and count those that were cut off.

        Raises:
            InputError: An item is not a string, or contains a lone surrogate.
        """
        different, inverse_N = _deduplicate(texts)
        repeats_U = np.bincount(inverse_N, minlength=len(different))
        vectors_UD = np.empty((len(different), self.dim), dtype=np.float32)

        def run(rows_B: Rows) -> tuple[int, int]:
            vectors_UD[rows_B] = prepared.run(rows_B)
            return int(repeats_U[rows_B].sum()), int(prepared.lengths_N[rows_B].sum())

        try:
            prepared = self._model.prepare(different)
            for done in thread_map(run, prepared.batches, threads=self.threads):
                if progress is not None:
                    progress(*done)
        except InputError:
            check_texts(texts)  # the error has the caller's index
            raise
        return Encoded(
            vectors_ND=vectors_UD if len(different) == len(texts) else vectors_UD[inverse_N],
            lengths_N=prepared.lengths_N[inverse_N],
            different=len(different),
            truncated=prepared.truncated,
            unfamiliar=prepared.unfamiliar,
        )

    def count_truncated(self, texts: Sequence[str]) -> int:
        """Return the number of distinct texts that ``encode`` would cut off, without embedding.

        Raises:
            InputError: A text contains a lone surrogate.
        """
        return self._model.count_truncated(texts)

    def count_unfamiliar(self, texts: Sequence[str]) -> int:
        """Return the number of distinct texts with mostly unknown features (static encoder).

        Raises:
            InputError: A text contains a lone surrogate.
        """
        return self._model.count_unfamiliar(texts)

    def tokenize(self, texts: Sequence[str], *, special_tokens: bool = True) -> list[list[Token]]:
        """Return the tokens of each text, up to the maximum length.

        Args:
            texts: The texts.
            special_tokens: Whether to include the special tokens.

        Raises:
            ConfigError: The encoder is static: it has no tokens.
            InputError: One of them is not a string, or holds a lone surrogate.
        """
        from mirror_rt.runtime.transformer import Transformer

        check_texts(texts)
        if not isinstance(self._model, Transformer):
            raise ConfigError(f"{self.bundle.path}: a static encoder has no tokens")
        return self._model.tokenize(texts, special_tokens=special_tokens)


def _open_model(bundle: Bundle) -> _Model:
    # Imported late: a static encoder needs neither onnxruntime nor tokenizers.
    if bundle.manifest.kind is BundleKind.STATIC:
        from mirror_rt.runtime.static import StaticModel

        return StaticModel.open(bundle)
    from mirror_rt.runtime.transformer import Transformer

    return Transformer.open(bundle)


def _recent(model: _Model) -> Callable[[str], Float32]:
    """Return a cached function that embeds one text, (D,) float32, without sorting or threads.

    It refers to the model, not to the encoder: a cache of a bound method would be a reference
    cycle, and the memory of a deleted encoder would be freed only by the garbage collector.
    """

    @lru_cache(maxsize=RECENT)
    def one(text: str) -> Float32:
        return model.one(text)

    return one


def _deduplicate(texts: Sequence[str]) -> tuple[list[str], Int64]:
    """Return the distinct texts in order of first occurrence, and the position of each text.

    >>> _deduplicate(["b", "a", "b"])
    (['b', 'a'], array([0, 1, 0]))
    """
    if not all(isinstance(text, str) for text in texts):
        check_texts(texts)
    places: dict[str, int] = {}
    inverse_N = np.fromiter(
        (places.setdefault(text, len(places)) for text in texts), dtype=np.int64, count=len(texts)
    )
    return list(places), inverse_N
