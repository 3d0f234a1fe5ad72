"""Compute vectors with the graph of a bundle: tokenize once, sort, pack, run.

Axes: N texts, B texts of a batch, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from mirror_rt.bundle import Bundle
from mirror_rt.runtime.batching import Prepared, Rows, pack
from mirror_rt.runtime.session import Session
from mirror_rt.runtime.tokenize import FastTokenizer, Token

if TYPE_CHECKING:
    from mirror_rt.types import Float32, Int64

__all__ = ["Transformer"]

TOKENS = 512
"""Tokens of a batch: enough for long inner loops, few enough to stay in a core's cache.

It is the same on every machine: the batches, and with them the last bits of an int8 vector,
depend only on the texts.
"""


class Transformer:
    """A tokenizer and the session of its graph."""

    def __init__(self, tokenizer: FastTokenizer, session: Session) -> None:
        self.session = session
        self._tokenizer = tokenizer

    @classmethod
    def open(cls, bundle: Bundle) -> Transformer:
        """Load the graph and the tokenizer of a checked folder.

        Raises:
            BundleError: The graph or the tokenizer cannot be loaded.
        """
        session = Session.open(bundle)
        return cls(FastTokenizer.open(bundle), session)

    def prepare(self, texts: Sequence[str]) -> Prepared:
        """Tokenize texts and pack them into batches.

        Raises:
            InputError: A text contains a lone surrogate.
        """
        tokens = self._tokenizer(texts)

        def run(rows_B: Rows) -> Float32:
            return self.session.run(tokens.batch(cast("Int64", rows_B)))

        return Prepared(
            batches=pack(tokens.lengths_N, tokens=TOKENS),
            lengths_N=tokens.lengths_N,
            truncated=tokens.truncated,
            run=run,
        )

    def one(self, text: str) -> Float32:
        """Return the vector of one text, (D,) float32.

        Raises:
            InputError: It contains a lone surrogate.
        """
        vector_D: Float32 = self.session.run(self._tokenizer.one(text))[0]
        return vector_D

    def tokenize(self, texts: Sequence[str], *, special_tokens: bool) -> list[list[Token]]:
        """Return the tokens of each text, up to the maximum length."""
        return self._tokenizer.pieces(texts, special_tokens=special_tokens)

    def count_truncated(self, texts: Sequence[str]) -> int:
        """Return how many distinct ``texts`` are longer than the maximum length.

        Raises:
            InputError: A text contains a lone surrogate.
        """
        return self._tokenizer.count_truncated(texts)

    def count_unfamiliar(self, texts: Sequence[str]) -> int:
        """Return 0: the graph knows every token."""
        return 0
