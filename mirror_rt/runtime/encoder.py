"""Texts to vectors with a bundle: deduplicate, compute in batches, scatter.

N texts, U different texts, D width.
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
from mirror_rt.errors import ConfigError, InputError
from mirror_rt.runtime.batching import Prepared, Progress, Rows, thread_map
from mirror_rt.runtime.cores import available_cpus
from mirror_rt.textfiles import refuse_what_is_not_text
from mirror_rt.types import BundleKind

if TYPE_CHECKING:
    from mirror_rt.runtime.tokenize import Token
    from mirror_rt.types import Float32, Int64

__all__ = ["Encoded", "Encoder", "Progress"]

RECENT = 4096
"""Single strings whose vectors are kept."""


class _Model(Protocol):
    """What computes the vectors of different texts."""

    def prepare(self, texts: Sequence[str]) -> Prepared:
        """Part texts into batches."""

    def one(self, text: str) -> Float32:
        """Return the vector of one text."""

    def count_truncated(self, texts: Sequence[str]) -> int:
        """Return how many different texts are cut off."""

    def count_unfamiliar(self, texts: Sequence[str]) -> int:
        """Return of how many different texts most is unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """Vectors and counts.

    Attributes:
        vectors_ND: (N, D) float32 unit rows.
        lengths_N: (N,) int64, tokens of each text, or characters for a static encoder, as far as
            it was not cut off.
        different: Texts computed: each different one once.
        truncated: How many of these were longer than the bundle takes, and were cut off.
        unfamiliar: Of how many of these a static encoder does not know most words and letters;
            always 0 with a graph.
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
        threads: Batches that run at once.
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
            bundle: The folder, or a bundle already opened. None is the starter that comes with
                the package, which the log then says.
            threads: How many cores to use; by default all that this process may. Each runs
                its own batches.
            verify: Whether to compare every file with its sha256.

        Raises:
            BundleError: It is not a bundle, has been changed, or cannot be loaded.
            ConfigError: ``threads`` is less than 1.
        """
        if threads is not None and threads < 1:
            raise ConfigError(f"threads must be at least 1, got {threads}")
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
        """Embed texts; each different one is computed once.

        Empty strings and strings of spaces are texts like any other: they get the vector of
        no tokens, in their own row.

        Args:
            texts: N strings, or a single one. A single one has a path of its own, without
                the overhead of batches, and the vectors of recent ones are kept.
            progress: Called as the work goes on.

        Returns:
            (N, D) float32 unit rows, row i for ``texts[i]``; (D,) for a single string.

        Raises:
            InputError: An item is not a string, or holds a lone surrogate.
        """
        if isinstance(texts, str):
            vector_D: Float32 = self._recent(texts)
            return np.array(vector_D)
        return self.encode_counted(texts, progress=progress).vectors_ND

    def encode_counted(self, texts: Sequence[str], *, progress: Progress | None = None) -> Encoded:
        """Embed texts as ``encode`` does, and tell what was cut off.

        Raises:
            InputError: An item is not a string, or holds a lone surrogate.
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
            refuse_what_is_not_text(texts)  # gives the caller's own index
            raise
        return Encoded(
            vectors_ND=vectors_UD if len(different) == len(texts) else vectors_UD[inverse_N],
            lengths_N=prepared.lengths_N[inverse_N],
            different=len(different),
            truncated=prepared.truncated,
            unfamiliar=prepared.unfamiliar,
        )

    def count_truncated(self, texts: Sequence[str]) -> int:
        """Return how many different ones of ``texts`` ``encode`` would cut off, without embedding.

        Raises:
            InputError: One of them holds a lone surrogate.
        """
        return self._model.count_truncated(texts)

    def count_unfamiliar(self, texts: Sequence[str]) -> int:
        """Return of how many different ones of ``texts`` a static encoder does not know the most.

        Raises:
            InputError: One of them holds a lone surrogate.
        """
        return self._model.count_unfamiliar(texts)

    def tokenize(self, texts: Sequence[str], *, special_tokens: bool = True) -> list[list[Token]]:
        """Return the tokens of each text, as far as the model sees them.

        Args:
            texts: The texts.
            special_tokens: Whether those that are put around a text are among them.

        Raises:
            ConfigError: The encoder is static: it has no tokens.
            InputError: One of them is not a string, or holds a lone surrogate.
        """
        from mirror_rt.runtime.transformer import Transformer

        refuse_what_is_not_text(texts)
        if not isinstance(self._model, Transformer):
            raise ConfigError(f"{self.bundle.path}: a static encoder has no tokens")
        return self._model.tokenize(texts, special_tokens=special_tokens)


def _open_model(bundle: Bundle) -> _Model:
    # Late: a static encoder needs neither onnxruntime nor tokenizers.
    if bundle.manifest.kind is BundleKind.STATIC:
        from mirror_rt.runtime.static import StaticModel

        return StaticModel.open(bundle)
    from mirror_rt.runtime.transformer import Transformer

    return Transformer.open(bundle)


def _recent(model: _Model) -> Callable[[str], Float32]:
    """Return what embeds one text, (D,) float32, without sorting or threads, and keeps recent ones.

    It holds the model but not the encoder: a cache of a bound method would be a cycle, and
    the memory of an encoder dropped would come back only when the garbage is collected.
    """

    @lru_cache(maxsize=RECENT)
    def one(text: str) -> Float32:
        return model.one(text)

    return one


def _deduplicate(texts: Sequence[str]) -> tuple[list[str], Int64]:
    """Return the different texts in the order of their first place, and each text's place there.

    >>> _deduplicate(["b", "a", "b"])
    (['b', 'a'], array([0, 1, 0]))
    """
    if not all(isinstance(text, str) for text in texts):
        refuse_what_is_not_text(texts)
    places: dict[str, int] = {}
    inverse_N = np.fromiter(
        (places.setdefault(text, len(places)) for text in texts), dtype=np.int64, count=len(texts)
    )
    return list(places), inverse_N
