"""Texts to vectors with a bundle: tokenise once, deduplicate, sort, pack, run, scatter.

N texts, U different texts, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mirror_rt.bundle import Bundle
from mirror_rt.errors import ConfigError, InputError
from mirror_rt.runtime.batching import Progress, in_threads, pack
from mirror_rt.runtime.cores import usable_cores
from mirror_rt.runtime.session import Session
from mirror_rt.runtime.tokenize import FastTokenizer, refuse_what_is_not_text

if TYPE_CHECKING:
    from mirror_rt.types import Float32, Int64

__all__ = ["Encoded", "Encoder", "Progress"]

TOKENS = 512
"""Tokens of a batch: enough for long inner loops, little enough to stay in a core's cache.

The same everywhere, so that the batches, and with them the last bits of an int8 vector, depend
on the texts alone.
"""

RECENT = 4096
"""Single strings whose vectors are kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """Vectors and counts.

    Attributes:
        vectors_ND: (N, D) float32 unit rows.
        different: Texts computed: each different one once.
        truncated: How many of these were longer than the bundle takes, and were cut off.
    """

    vectors_ND: Float32
    different: int
    truncated: int


class Encoder:
    """Embeds texts on the CPU. Safe to share between threads.

    Attributes:
        bundle: The opened bundle.
        threads: Batches that run at once.
    """

    def __init__(
        self, bundle: Bundle, tokenizer: FastTokenizer, session: Session, *, threads: int
    ) -> None:
        self.bundle = bundle
        self.threads = threads
        self._tokenizer = tokenizer
        self._session = session
        self._recent = _recent(tokenizer, session)

    @classmethod
    def open(
        cls, bundle: str | Path | Bundle, *, threads: int | None = None, verify: bool = True
    ) -> Encoder:
        """Open a bundle folder.

        Args:
            bundle: The folder, or a bundle already opened.
            threads: How many cores to use; by default all that this process may. Each runs
                its own batches.
            verify: Whether to compare every file with its sha256.

        Raises:
            BundleError: It is not a bundle, has been changed, or cannot be loaded.
            ConfigError: ``threads`` is less than 1.
        """
        if threads is not None and threads < 1:
            raise ConfigError(f"threads must be at least 1, got {threads}")
        if not isinstance(bundle, Bundle):
            bundle = Bundle.open(bundle, verify=verify)
        session = Session.open(bundle)
        return cls(bundle, FastTokenizer.open(bundle), session, threads=threads or usable_cores())

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
        try:
            tokens = self._tokenizer(different)
        except InputError:
            refuse_what_is_not_text(texts)  # gives the caller's own index
            raise
        repeats_U = np.bincount(inverse_N, minlength=len(different))
        vectors_UD = np.empty((len(different), self.dim), dtype=np.float32)

        def run(rows_B: Int64) -> tuple[int, int]:
            vectors_UD[rows_B] = self._session.run(tokens.batch(rows_B))
            return int(repeats_U[rows_B].sum()), int(tokens.lengths_N[rows_B].sum())

        batches = pack(tokens.lengths_N, tokens=TOKENS)
        for done in in_threads(run, batches, threads=self.threads):
            if progress is not None:
                progress(*done)
        return Encoded(
            vectors_ND=vectors_UD if len(different) == len(texts) else vectors_UD[inverse_N],
            different=len(different),
            truncated=tokens.truncated,
        )

    def count_truncated(self, texts: Sequence[str]) -> int:
        """Return how many different ones of ``texts`` ``encode`` would cut off, without embedding.

        Raises:
            InputError: One of them holds a lone surrogate.
        """
        return self._tokenizer.count_truncated(texts)


def _recent(tokenizer: FastTokenizer, session: Session) -> Callable[[str], Float32]:
    """Return what embeds one text, (D,) float32, without sorting or threads, and keeps recent ones.

    It holds the session but not the encoder: a cache of a bound method would be a cycle, and
    the memory of an encoder dropped would come back only when the garbage is collected.
    """

    @lru_cache(maxsize=RECENT)
    def one(text: str) -> Float32:
        vector_D: Float32 = session.run(tokenizer.one(text))[0]
        return vector_D

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
