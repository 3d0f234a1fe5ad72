"""The door of letters: names that share rare character trigrams, by TF-IDF cosine.

Each letter of a normalised name gives the trigram around it, with a space at the ends of
words; a trigram counts once a name (binary TF). Postings are one sorted list of rows for
each hashed trigram, in plain arrays opened by memory map.

Axes: G trigrams, K hits, N rows, P postings.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mirror_rt.errors import KnowledgeBaseError

if TYPE_CHECKING:
    import numpy.typing as npt

    from mirror_rt.types import Float32, Int64

__all__ = ["NGRAM_FILES", "NgramIndex", "write_ngrams"]

NGRAM_FILES = ("ngram_starts.npy", "ngram_rows.npy", "ngram_norms.npy")
_BITS = 20
"""Trigrams are hashed to 2^20 numbers, fewer for few names."""
_POOL = 4_096
"""Names taken from the rarest trigrams' lists, to be scored: a good match shares one of them."""
_BUDGET = 400_000
"""Postings read for a query; the commonest trigrams, which weigh least, are left to the score."""


def _grams(normalised: Sequence[str], bits: int) -> tuple[Int64, Int64]:
    """Return (owner_G, gram_G): which text, and which hashed trigram; each pair once, sorted."""
    joined = "".join(f" {text} " for text in normalised)
    signs = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    lengths = np.fromiter((len(t) + 2 for t in normalised), np.int64, count=len(normalised))
    owners = np.repeat(np.arange(len(normalised)), lengths)
    centres = np.flatnonzero(signs != 32)
    wide = signs.astype(np.uint64)
    mixed = (wide[centres - 1] * np.uint64(0x9E3779B1)) ^ (
        wide[centres] * np.uint64(0x85EBCA77C2B2AE63)
    )
    mixed = (mixed ^ (wide[centres + 1] * np.uint64(0xC2B2AE3D27D4EB4F))) * np.uint64(
        0x9FB21C651E98DF25
    )
    grams = (mixed >> np.uint64(64 - bits)).astype(np.int64)
    pairs = np.unique((owners[centres] << bits) | grams)
    return pairs >> bits, pairs & ((1 << bits) - 1)


def write_ngrams(blocks: Iterator[Sequence[str]], folder: Path, *, rows: int) -> None:
    """Write the postings of a knowledge base's names.

    Args:
        blocks: Normalised texts in the order of rows, in pieces.
        folder: Where the files of ``NGRAM_FILES`` go.
        rows: How many texts there are.
    """
    bits = min(_BITS, max(18, (8 * rows).bit_length()))
    counts_G = np.zeros(1 << bits, dtype=np.int64)
    pieces: list[npt.NDArray[np.int64]] = []
    start = 0
    for texts in blocks:
        owners, grams = _grams(texts, bits)
        counts_G += np.bincount(grams, minlength=1 << bits)
        pieces.append((grams << 40) | (owners + start))
        start += len(texts)
    postings_P = np.concatenate(pieces) if pieces else np.zeros(0, dtype=np.int64)
    pieces.clear()
    postings_P.sort()
    starts_G = np.concatenate([[0], np.cumsum(counts_G)])
    rows_P = (postings_P & ((1 << 40) - 1)).astype(np.int32)
    squares_G = _idf(counts_G, rows) ** 2
    norms_N = np.sqrt(np.bincount(rows_P, np.repeat(squares_G, counts_G), minlength=rows))
    arrays = (starts_G, rows_P, np.maximum(norms_N, 1e-9).astype(np.float32))
    for name, array in zip(NGRAM_FILES, arrays, strict=True):
        np.save(folder / name, array, allow_pickle=False)


def _idf(counts_G: Int64, rows: int) -> npt.NDArray[np.float64]:
    idf_G: npt.NDArray[np.float64] = np.log((1 + rows) / (1 + counts_G)) + 1
    return idf_G


@dataclass(frozen=True, slots=True)
class NgramIndex:
    """The postings, opened by memory map. Safe to share between threads."""

    _starts_G: Int64
    _rows_P: npt.NDArray[np.int32]
    _norms_N: Float32
    _local: threading.local = field(default_factory=threading.local)

    @classmethod
    def open(cls, folder: Path) -> NgramIndex:
        """Map the files of a knowledge base.

        Raises:
            KnowledgeBaseError: One is missing or not what it should be.
        """
        try:
            starts, rows, norms = (
                np.load(folder / name, mmap_mode="r", allow_pickle=False) for name in NGRAM_FILES
            )
        except (OSError, ValueError) as error:
            raise KnowledgeBaseError(
                f"{folder}: the n-gram index cannot be read ({error}); "
                "build the knowledge base again"
            ) from error
        if (len(starts) - 1).bit_count() != 1 or int(starts[-1]) != len(rows):
            raise KnowledgeBaseError(
                f"{folder}: the n-gram index does not fit; build the knowledge base again"
            )
        # np.asarray: a plain view of the map, without memmap's cost at every slice.
        return cls(np.asarray(starts), np.asarray(rows), np.asarray(norms))

    def nearest(
        self, normalised: str, *, top: int, allowed_N: npt.NDArray[np.bool_] | None = None
    ) -> Int64:
        """Return the (K ≤ top) rows of names that share most with a normalised text.

        The ranking leaves out the commonest trigrams where lists are long; ``cosines`` gives
        the true scores. With ``allowed_N``, (N,) bool, other rows are passed over.
        """
        _, grams_G = _grams([normalised], self._bits)
        starts_G, stops_G = self._starts_G[grams_G], self._starts_G[grams_G + 1]
        order = np.argsort(stops_G - starts_G, kind="stable")
        squares_G = _idf(stops_G - starts_G, len(self._norms_N)) ** 2
        sums_N = self._accumulator()
        pool: list[npt.NDArray[np.int32]] = []
        pooled = used = 0
        for g in order.tolist():
            rows = self._rows_P[starts_G[g] : stops_G[g]]
            if allowed_N is not None:
                rows = rows[allowed_N[rows]]
            if used and used + len(rows) > _BUDGET:
                break
            used += len(rows)
            if pooled < _POOL:
                pool.append(rows[sums_N[rows] == 0.0])  # met for the first time: each row once
                pooled += len(pool[-1])
            else:
                rows = rows[sums_N[rows] > 0.0]  # of long lists, what is in the pool already
            sums_N[rows] += squares_G[g]
        if not used:
            return np.zeros(0, dtype=np.int64)
        rows_P = np.concatenate(pool)
        scores_P = sums_N[rows_P] / self._norms_N[rows_P]
        sums_N[rows_P] = 0.0
        if len(rows_P) > top:
            kept = np.argpartition(-scores_P, top - 1)[:top]
            rows_P, scores_P = rows_P[kept], scores_P[kept]
        return rows_P[np.lexsort((rows_P, -scores_P))].astype(np.int64)

    def cosines(self, normalised: str, others: Sequence[str]) -> Float32:
        """Return the (K,) float32 TF-IDF cosines of a normalised text with others, in [0, 1]."""
        owners, grams = _grams([normalised, *others], self._bits)
        counts = self._starts_G[grams + 1] - self._starts_G[grams]
        squares = _idf(counts, len(self._norms_N)) ** 2
        mine = grams[owners == 0]
        # Sorted by owner, then by trigram: the text's own come first.
        place = np.minimum(np.searchsorted(mine, grams), max(len(mine) - 1, 0))
        shared = (mine[place] == grams) if len(mine) else np.zeros(len(grams), dtype=bool)
        count = len(others) + 1
        norms_K = np.sqrt(np.bincount(owners, squares, minlength=count))
        dots_K = np.bincount(owners, np.where(shared, squares, 0.0), minlength=count)
        cosines_K: Float32 = (dots_K[1:] / np.maximum(norms_K[1:] * norms_K[0], 1e-9)).astype(
            np.float32
        )
        return cosines_K

    @property
    def _bits(self) -> int:
        return (len(self._starts_G) - 1).bit_length() - 1

    def _accumulator(self) -> Float32:
        if not hasattr(self._local, "sums_N"):
            self._local.sums_N = np.zeros(len(self._norms_N), dtype=np.float32)
        sums_N: Float32 = self._local.sums_N
        return sums_N
