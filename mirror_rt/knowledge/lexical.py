"""The door of letters: names that share rare character trigrams, and names spelt alike.

Each letter of a normalised name gives the trigram around it, with a space at the ends of
words; a trigram counts once a name (binary TF), and names are ranked by TF-IDF cosine. Postings
are one sorted list of rows for each hashed trigram, in plain arrays opened by memory map, as
are the names themselves: of those with a trigram in common, the ones that it takes the fewest
edits to are found too, as a slip in a short name spoils most of its trigrams.

Axes: G trigrams, K hits, N rows, P postings, B bytes.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rapidfuzz import process
from rapidfuzz.distance import OSA

from mirror_rt.errors import KnowledgeBaseError

if TYPE_CHECKING:
    import numpy.typing as npt

    from mirror_rt.types import Float32, Int64

__all__ = ["NGRAM_FILES", "NgramIndex", "write_ngrams"]

NGRAM_FILES = (
    "ngram_starts.npy", "ngram_rows.npy", "ngram_norms.npy", "name_starts.npy", "name_bytes.npy"
)  # fmt: skip
_BITS = 20
"""Trigrams are hashed to 2^20 numbers, fewer for few names."""
_POOL = 4_096
"""Names taken from the rarest trigrams' lists, to be scored: a good match shares one of them."""
_BUDGET = 400_000
"""Postings read for a query; the commonest trigrams, which weigh least, are left to the score."""
_SPELT = 2_048
"""Names of the pool whose edits are counted, the best by trigrams."""
_END = "\n"
_AS_LONG = 0.5
"""A name of less than this share of the other's length is not spelt alike."""


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


def write_ngrams(
    blocks: Iterator[Sequence[str]], folder: Path, *, rows: int, names: bool = True
) -> None:
    """Write the postings of a knowledge base's names, and the names.

    Args:
        blocks: Normalised texts in the order of rows, in pieces.
        folder: Where the files of ``NGRAM_FILES`` go.
        rows: How many texts there are.
        names: Whether they are names, to be found by spelling too; of passages none is kept.
    """
    bits = min(_BITS, max(18, (8 * rows).bit_length()))
    counts_G = np.zeros(1 << bits, dtype=np.int64)
    pieces: list[npt.NDArray[np.int64]] = []
    letters = bytearray()
    sizes_N = np.zeros(rows, dtype=np.int64)
    start = 0
    for texts in blocks:
        owners, grams = _grams(texts, bits)
        counts_G += np.bincount(grams, minlength=1 << bits)
        pieces.append((grams << 40) | (owners + start))
        if names:
            encoded = [f"{text}{_END}".encode() for text in texts]
            sizes_N[start : start + len(texts)] = [len(one) for one in encoded]
            letters += b"".join(encoded)
        start += len(texts)
    postings_P = np.concatenate(pieces) if pieces else np.zeros(0, dtype=np.int64)
    pieces.clear()
    postings_P.sort()
    starts_G = np.concatenate([[0], np.cumsum(counts_G)])
    rows_P = (postings_P & ((1 << 40) - 1)).astype(np.int32)
    squares_G = _idf(counts_G, rows) ** 2
    norms_N = np.sqrt(np.bincount(rows_P, np.repeat(squares_G, counts_G), minlength=rows))
    name_starts = np.concatenate([[0], np.cumsum(sizes_N)])
    name_bytes_B = np.frombuffer(letters, dtype=np.uint8)
    norms_N = np.maximum(norms_N, 1e-9).astype(np.float32)
    arrays = (starts_G, rows_P, norms_N, name_starts, name_bytes_B)
    for name, array in zip(NGRAM_FILES, arrays, strict=True):
        np.save(folder / name, np.asarray(array), allow_pickle=False)


def _idf(counts_G: Int64, rows: int) -> npt.NDArray[np.float64]:
    idf_G: npt.NDArray[np.float64] = np.log((1 + rows) / (1 + counts_G)) + 1
    return idf_G


@dataclass(frozen=True, slots=True)
class NgramIndex:
    """The postings and names, opened by memory map. Safe to share between threads."""

    _starts_G: Int64
    _rows_P: npt.NDArray[np.int32]
    _norms_N: Float32
    _name_starts: Int64
    _name_bytes_B: npt.NDArray[np.uint8]
    _local: threading.local = field(default_factory=threading.local)

    @classmethod
    def open(cls, folder: Path) -> NgramIndex:
        """Map the files of a knowledge base.

        Raises:
            KnowledgeBaseError: One is missing or not what it should be.
        """
        try:
            # np.asarray: a plain view of the map, without memmap's cost at every slice.
            starts, rows, norms, name_starts, name_bytes = (
                np.asarray(np.load(folder / name, mmap_mode="r", allow_pickle=False))
                for name in NGRAM_FILES
            )
        except (OSError, ValueError) as error:
            raise KnowledgeBaseError(
                f"{folder}: the n-gram index cannot be read ({error}); "
                "build the knowledge base again"
            ) from error
        whole = int(starts[-1]) == len(rows) and int(name_starts[-1]) == len(name_bytes)
        if (len(starts) - 1).bit_count() != 1 or len(name_starts) != len(norms) + 1 or not whole:
            raise KnowledgeBaseError(
                f"{folder}: the n-gram index does not fit; build the knowledge base again"
            )
        return cls(starts, rows, norms, name_starts, name_bytes)

    def nearest(
        self, normalised: str, *, top: int, allowed_N: npt.NDArray[np.bool_] | None = None
    ) -> Int64:
        """Return the (K ≤ top) rows of names that share most with a normalised text.

        The ranking leaves out the commonest trigrams where lists are long; ``cosines`` gives
        the true scores. With ``allowed_N``, (N,) bool, other rows are passed over.
        """
        return _first(*self._pool(normalised, allowed_N), top)

    def alike(
        self, normalised: str, *, top: int, allowed_N: npt.NDArray[np.bool_] | None = None
    ) -> Int64:
        """Return the ``nearest`` rows and, in no order, ``top`` of those spelt most alike.

        Fewest edits to the letters count (optimal string alignment, as a share of the longer).
        """
        rows_P, scores_P = self._pool(normalised, allowed_N)
        size = len(f"{normalised}{_END}".encode())
        sizes_P = self._name_starts[rows_P + 1] - self._name_starts[rows_P]
        long_P = np.minimum(sizes_P, size) >= _AS_LONG * np.maximum(sizes_P, size)
        rows_K = _first(rows_P[long_P], scores_P[long_P], _SPELT)
        texts = self._names(rows_K)
        spelt_K = process.cdist([normalised], texts, scorer=OSA.normalized_similarity)[0]
        # Many names take equally many edits: of these, those that share more trigrams.
        spelt = rows_K[np.argsort(-spelt_K, kind="stable")[:top]]
        return np.union1d(_first(rows_P, scores_P, top), spelt)

    def _names(self, rows_K: Int64) -> list[str]:
        starts_K = self._name_starts[rows_K]
        sizes_K = self._name_starts[rows_K + 1] - starts_K
        # All at once, as a slice and a string for each would take longer than to compare them.
        skipped_K = starts_K - (np.cumsum(sizes_K) - sizes_K)
        places_B = np.arange(sizes_K.sum()) + np.repeat(skipped_K, sizes_K)
        letters = self._name_bytes_B[places_B].tobytes().decode()
        names: list[str] = letters.split(_END)[:-1]
        return names

    def _pool(
        self, normalised: str, allowed_N: npt.NDArray[np.bool_] | None
    ) -> tuple[Int64, Float32]:
        """Return (rows_P, scores_P) of the names that share the rarest trigrams with a text."""
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
            return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.float32)
        rows_P = np.concatenate(pool).astype(np.int64)
        scores_P: Float32 = sums_N[rows_P] / self._norms_N[rows_P]
        sums_N[rows_P] = 0.0
        return rows_P, scores_P

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


def _first(rows_P: Int64, scores_P: Float32, top: int) -> Int64:
    """Return the rows of the ``top`` highest scores, best first, then by row.

    Of scores that are equal where the list ends, any may stay.
    """
    if len(rows_P) > top:
        kept = np.argpartition(-scores_P, top - 1)[:top]
        rows_P, scores_P = rows_P[kept], scores_P[kept]
    return rows_P[np.lexsort((rows_P, -scores_P))]
