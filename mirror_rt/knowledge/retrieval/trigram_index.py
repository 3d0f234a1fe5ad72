"""The lexical retrievers: TF-IDF of character trigrams, and edit distance.

Each letter of a normalized name gives the trigram around it, with a space at the ends of words.
A trigram counts once per name (binary TF), and names are ranked by TF-IDF cosine. The postings of
a hashed trigram are a sorted list of rows. A search has three steps: it reads the lists of the
rarest trigrams; it ranks these names by the rare trigrams alone (a product of two sparse matrices);
and it computes the full cosines of the best, as the trigrams of each name are stored too. The
search by edit distance then compares the letters of the names from the second step: a typo in a
short name changes most of its trigrams.

Axes: G trigrams, K pairs of text and name, N rows, P postings, Q texts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rapidfuzz import process
from rapidfuzz.distance import OSA

from mirror_rt.errors import KnowledgeBaseError
from mirror_rt.knowledge.arrays import (
    Scratch,
    array_file,
    offsets_of,
    open_arrays,
    ragged_indices,
    write_arrays,
)
from mirror_rt.knowledge.entities.names import NameArrays

if TYPE_CHECKING:
    import numpy.typing as npt

    from mirror_rt.types import Float32, Int32, Int64

    Bools = npt.NDArray[np.bool_]
    Float64 = npt.NDArray[np.float64]

__all__ = ["TRIGRAM_FILES", "QueryTrigrams", "TrigramIndex", "write_trigrams"]

_GROUP = "trigram"
_ARRAYS: dict[str, type] = {
    "offsets": np.int64, "rows": np.int32, "norms": np.float32,
    "name_offsets": np.int64, "name_trigrams": np.int32,
}  # fmt: skip
TRIGRAM_FILES = tuple(array_file(_GROUP, name) for name in _ARRAYS)
_BITS = 20
"""Trigrams are hashed to 2^20 numbers; fewer if there are few names."""
_POOL = 4_096
"""Postings to read, the rarest trigrams first: a good match shares a rare trigram."""
_WHOLE = 256
"""Names to compute the full cosine for: the best by the rarest trigrams."""
_MOST_EDITED = 1_024
_EDITED_CHARACTERS = 8_192
"""For a text of L characters, the edit distance to 8,192 / L names is computed: the best by the
rarest trigrams. A short name needs more, as a typo changes most of its trigrams."""
_BROADER_FROM = 250_000
_BROADEST = 4.0
"""Above 250,000 names the lists of trigrams are longer. More of them is read and compared, in
proportion to the names, up to four times as much."""
_AT_ONCE = 32
"""Texts that are scored together: their data fits the cache of a core."""


def _trigrams(normalized: Sequence[str], bits: int) -> tuple[Int64, Int64]:
    """Return (owner_G, trigram_G): distinct pairs of text and hashed trigram, sorted."""
    joined = "".join(f" {text} " for text in normalized)
    signs = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    lengths = np.fromiter((len(t) + 2 for t in normalized), np.int64, count=len(normalized))
    owners = np.repeat(np.arange(len(normalized)), lengths)
    centers = np.flatnonzero(signs != 32)
    wide = signs.astype(np.uint64)
    mixed = (wide[centers - 1] * np.uint64(0x9E3779B1)) ^ (
        wide[centers] * np.uint64(0x85EBCA77C2B2AE63)
    )
    mixed = (mixed ^ (wide[centers + 1] * np.uint64(0xC2B2AE3D27D4EB4F))) * np.uint64(
        0x9FB21C651E98DF25
    )
    hashed = (mixed >> np.uint64(64 - bits)).astype(np.int64)
    pairs = np.unique((owners[centers] << bits) | hashed)
    return pairs >> bits, pairs & ((1 << bits) - 1)


def write_trigrams(blocks: Iterable[Sequence[str]], folder: Path, *, rows: int) -> None:
    """Write the postings of normalized texts, and the trigrams of each.

    Args:
        blocks: Normalized texts in the order of rows, in pieces.
        folder: The folder for the files of ``TRIGRAM_FILES``.
        rows: The number of texts.
    """
    bits = min(_BITS, max(18, (8 * rows).bit_length()))
    owners_P, trigrams_P = [], []
    start = 0
    for texts in blocks:
        owners, trigrams = _trigrams(texts, bits)
        owners_P.append((owners + start).astype(np.int32))
        trigrams_P.append(trigrams.astype(np.int32))
        start += len(texts)
    owner_P, trigram_P = np.concatenate(owners_P), np.concatenate(trigrams_P)
    counts_G = np.bincount(trigram_P, minlength=1 << bits)
    pairs = (trigram_P.astype(np.int64) << 32) | owner_P
    pairs.sort()
    norms_N = np.sqrt(np.bincount(owner_P, _idf(counts_G, rows)[trigram_P] ** 2, minlength=rows))
    write_arrays(
        folder,
        _GROUP,
        {
            "offsets": offsets_of(counts_G),
            "rows": pairs.astype(np.int32),  # the lower half of each number
            "norms": np.maximum(norms_N, 1e-9).astype(np.float32),
            "name_offsets": _counted(owner_P, rows),
            "name_trigrams": trigram_P,
        },
    )


def _counted(owners: npt.NDArray[Any], count: int) -> Int64:
    return offsets_of(np.bincount(owners, minlength=count))


def _idf(counts_G: Int64, rows: int) -> Float64:
    idf_G: Float64 = np.log((1 + rows) / (1 + counts_G)) + 1
    return idf_G


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryTrigrams:
    """The trigrams of texts.

    Attributes:
        texts: Q normalized texts.
        owners_G: (G,) int64 the text of each trigram, ascending.
        trigrams_G: (G,) int64 the trigram.
        counts_G: (G,) int64 the number of names with the trigram.
        squares_G: (G,) float64 squared inverse document frequency.
        norms_Q: (Q,) float64 lengths of the texts' TF-IDF vectors.
        distinct_T: (T,) int64 the distinct trigrams of all texts, ascending.
        place_G: (G,) int64 the position of each trigram in ``distinct_T``.
    """

    texts: Sequence[str]
    owners_G: Int64
    trigrams_G: Int64
    counts_G: Int64
    squares_G: Float64
    norms_Q: Float64
    distinct_T: Int64
    place_G: Int64

    def part(self, start: int, stop: int) -> QueryTrigrams:
        """Return the trigrams of the texts from ``start`` to ``stop`` (exclusive)."""
        if start == 0 and stop >= len(self.texts):
            return self
        first, last = self.owners_G.searchsorted([start, stop])
        return replace(
            self,
            texts=self.texts[start:stop],
            owners_G=self.owners_G[first:last] - start,
            trigrams_G=self.trigrams_G[first:last],
            counts_G=self.counts_G[first:last],
            squares_G=self.squares_G[first:last],
            norms_Q=self.norms_Q[start:stop],
            place_G=self.place_G[first:last],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TrigramIndex:
    """The postings, mapped into memory. Safe to share between threads.

    Attributes:
        offsets: (G + 1,) int64 offsets of ``rows``.
        rows: (P,) int32 rows of the names that have each trigram, ascending.
        norms: (N,) float32 lengths of the names' TF-IDF vectors.
        name_offsets: (N + 1,) int64 offsets of ``name_trigrams``.
        name_trigrams: (P,) int32 trigrams of each name, ascending.
        scratch: Reused memory of each thread.
    """

    offsets: Int64
    rows: Int32
    norms: Float32
    name_offsets: Int64
    name_trigrams: Int32
    scratch: Scratch = field(default_factory=Scratch)

    @classmethod
    def open(cls, folder: Path) -> TrigramIndex:
        """Map the files of a knowledge base.

        Raises:
            KnowledgeBaseError: One is missing, cannot be read or does not fit the others.
        """
        arrays: dict[str, Any] = open_arrays(folder, _GROUP, _ARRAYS)
        found = cls(**arrays)
        fits = (
            len(found.offsets) > 1
            and (len(found.offsets) - 1).bit_count() == 1
            and int(found.offsets[-1]) == len(found.rows) == len(found.name_trigrams)
            and len(found.name_offsets) == len(found.norms) + 1
            and int(found.name_offsets[-1]) == len(found.name_trigrams)
        )
        if not fits:
            raise KnowledgeBaseError(
                f"{folder}: the trigram index does not fit; build the knowledge base again"
            )
        return found

    def analyze(self, normalized: Sequence[str]) -> QueryTrigrams:
        """Return the trigrams of normalized texts."""
        owners_G, trigrams_G = _trigrams(normalized, (len(self.offsets) - 1).bit_length() - 1)
        counts_G = self.offsets[trigrams_G + 1] - self.offsets[trigrams_G]
        squares_G = _idf(counts_G, len(self.norms)) ** 2
        distinct_T, place_G = np.unique(trigrams_G, return_inverse=True)
        return QueryTrigrams(
            texts=normalized,
            owners_G=owners_G,
            trigrams_G=trigrams_G,
            counts_G=counts_G,
            squares_G=squares_G,
            norms_Q=np.sqrt(np.bincount(owners_G, squares_G, minlength=len(normalized))),
            distinct_T=distinct_T,
            place_G=place_G,
        )

    def search(
        self,
        queries: QueryTrigrams,
        *,
        top: int,
        names: NameArrays | None = None,
        mask_N: Bools | None = None,
    ) -> list[tuple[Int64, Int64]]:
        """Find the names with the highest trigram cosine, and those with the fewest edits.

        Args:
            queries: Q texts.
            top: The maximum number of rows of each kind.
            names: The letters of the names; None to skip the search by edit distance.
            mask_N: (N,) bool allowed rows; None for all.

        Returns:
            For each text the rows with the highest TF-IDF cosines, best first; and the rows with
            the highest normalized OSA similarity (optimal string alignment), best first.
        """
        found: list[tuple[Int64, Int64]] = []
        for start in range(0, len(queries.texts), _AT_ONCE):
            part = queries.part(start, start + _AT_ONCE)
            pool = self._pool(part, mask_N)
            near = self._nearest(part, pool, top)
            edited = [np.zeros(0, dtype=np.int64)] * len(near)
            if names is not None:
                edited = _fewest_edits(part, pool, names, top, self._breadth)
            found += zip(near, edited, strict=True)
        return found

    @property
    def _breadth(self) -> float:
        return min(max(len(self.norms) / _BROADER_FROM, 1.0), _BROADEST)

    def _pool(self, queries: QueryTrigrams, mask_N: Bools | None) -> _Pool:
        """Score the names that share rare trigrams with each text, by these trigrams alone."""
        lists_G, counts_G = self._lists(queries, mask_N)
        order_G = np.lexsort((counts_G, queries.owners_G))
        counts_G = counts_G[order_G]
        before_G = counts_G.cumsum() - counts_G
        first_G = queries.owners_G.searchsorted(queries.owners_G)
        # Read a list if the lists before it have too few postings together.
        read_L = order_G[(before_G - before_G[first_G] < _POOL * self._breadth) & (counts_G > 0)]
        postings = [self._postings(trigram, mask_N) for trigram in lists_G[read_L].tolist()]
        lists_Q = queries.owners_G[read_L].searchsorted(np.arange(len(queries.texts) + 1))
        ends_Q = offsets_of([len(rows) for rows in postings])[lists_Q]
        rows_P = np.concatenate([np.zeros(0, dtype=np.int32), *postings])
        squares_P = queries.squares_G[read_L].repeat([len(rows) for rows in postings])
        place_of, places = (
            self.scratch.zeros("place_of", len(self.norms), np.int32),
            np.arange(len(rows_P)),
        )
        rows, sums = [rows_P[:0]], [squares_P[:0]]
        for first, last in pairwise(ends_Q.tolist()):
            # A row counts at its last position. Only positions written just now are read.
            own_rows, here = rows_P[first:last], places[: last - first]
            place_of[own_rows] = here
            place_P = place_of[own_rows]
            sums_P = np.bincount(place_P, squares_P[first:last])
            kept = (place_P == here).nonzero()[0]
            rows.append(own_rows[kept])
            sums.append(sums_P[kept])
        rows_P = np.concatenate(rows)
        return _Pool(
            offsets=offsets_of([len(own_rows) for own_rows in rows[1:]]),
            rows_P=rows_P,
            scores_P=(np.concatenate(sums) / self.norms[rows_P]).astype(np.float32),
        )

    def _nearest(self, queries: QueryTrigrams, pool: _Pool, top: int) -> list[Int64]:
        """Return the rows with the highest full cosines, among the first rows of the pool."""
        places = [
            first + _largest(pool.scores_P[first:last], max(_WHOLE, 4 * top))
            for first, last in pairwise(pool.offsets.tolist())
        ]
        sizes = [len(some) for some in places]
        rows_K = pool.rows_P[np.concatenate(places)]
        cosines_K = self.cosines(queries, np.arange(len(sizes)).repeat(sizes), rows_K)
        return [
            _best(top, rows_K[first:last], cosines_K[first:last])
            for first, last in pairwise(offsets_of(sizes).tolist())
        ]

    def _lists(self, queries: QueryTrigrams, mask_N: Bools | None) -> tuple[Int64, Int64]:
        """Return (G,) trigrams and the number of allowed rows in the list of each."""
        if mask_N is None:
            return queries.trigrams_G, queries.counts_G
        distinct, inverse_G = np.unique(queries.trigrams_G, return_inverse=True)
        counts = [len(self._postings(trigram, mask_N)) for trigram in distinct.tolist()]
        return queries.trigrams_G, np.array(counts, dtype=np.int64)[inverse_G]

    def _postings(self, trigram: int, mask_N: Bools | None) -> Int32:
        rows = self.rows[self.offsets[trigram] : self.offsets[trigram + 1]]
        return rows if mask_N is None else rows[mask_N[rows]]

    def cosines(self, queries: QueryTrigrams, query_K: Int64, rows_K: Int64) -> Float32:
        """Return the TF-IDF cosines of pairs of text and name.

        Args:
            queries: Q texts.
            query_K: (K,) int64 the text of each pair.
            rows_K: (K,) int64 the row of the name.

        Returns:
            (K,) float32 in [0, 1].
        """
        if not len(rows_K):
            return np.zeros(0, dtype=np.float32)
        # Weights of the texts' trigrams in a small table; all other trigrams are column 0.
        column_of = self.scratch.zeros("column_of", len(self.offsets) - 1, np.int32)
        width = len(queries.distinct_T) + 1
        table = np.zeros((len(queries.texts), width), dtype=np.float32)
        table[queries.owners_G, queries.place_G + 1] = queries.squares_G
        starts_K = self.name_offsets[rows_K]
        sizes_K = self.name_offsets[rows_K + 1] - starts_K
        trigrams = self.name_trigrams[ragged_indices(starts_K, sizes_K)]
        try:
            column_of[queries.distinct_T] = np.arange(1, width, dtype=np.int32)
            columns = column_of[trigrams]
        finally:
            column_of[queries.distinct_T] = 0
        columns += (query_K * width).astype(np.int32).repeat(sizes_K)
        sums_K = _sums(table.ravel()[columns], sizes_K)
        norms_K = self.norms[rows_K] * queries.norms_Q[query_K]
        cosines_K: Float32 = (sums_K / np.maximum(norms_K, 1e-9)).astype(np.float32)
        return cosines_K


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pool:
    """The names that share rare trigrams with texts.

    Attributes:
        offsets: (Q + 1,) int64 offsets of the texts' names.
        rows_P: (P,) int32 their rows, distinct for each text.
        scores_P: (P,) float32 cosines by these trigrams, without division by the text's norm.
    """

    offsets: Int64
    rows_P: Int32
    scores_P: Float32


def _sums(values: Float32, sizes_K: Int64) -> Float32:
    """Return the sum of each row of a ragged array; 0 for an empty row."""
    sums_K = np.zeros(len(sizes_K), dtype=np.float32)
    filled = sizes_K.nonzero()[0]
    if len(filled):
        starts = (sizes_K.cumsum() - sizes_K)[filled]
        sums_K[filled] = np.add.reduceat(values, starts)
    return sums_K


def _largest(scores_K: Float32, count: int) -> Int64:
    """Return the positions of the highest scores; ties at the end are cut arbitrarily."""
    size = len(scores_K)
    if size <= count:
        return np.arange(size)
    places: Int64 = scores_K.argpartition(size - count)[-count:]
    return places


def _best(top: int, rows_K: Int32, scores_K: Float32, *others_K: Float32) -> Int64:
    """Return the rows of the highest scores, best first; ties by other scores, then by row."""
    size = len(rows_K)
    if size > 4 * top:  # a partition before the sort is faster than a sort of all
        last = np.partition(scores_K, size - top)[size - top]
        kept = (scores_K >= last).nonzero()[0]
        rows_K, scores_K = rows_K[kept], scores_K[kept]
        others_K = tuple(other[kept] for other in others_K)
    order = np.lexsort((rows_K, *(-other for other in reversed(others_K)), -scores_K))
    return rows_K[order[:top]].astype(np.int64)


def _fewest_edits(
    queries: QueryTrigrams, pool: _Pool, names: NameArrays, top: int, breadth: float
) -> list[Int64]:
    """Return the rows of the names most similar in letters; ties by trigram score."""
    lengths = np.array([len(text) for text in queries.texts], dtype=np.int32)
    lengths_P = names.lengths[pool.rows_P]
    wanted_P = lengths.repeat(np.diff(pool.offsets))
    near_P = ((2 * lengths_P >= wanted_P) & (lengths_P <= 2 * wanted_P)).nonzero()[0]
    scores_P = pool.scores_P[near_P]
    places = []
    for length, (first, last) in zip(
        lengths.tolist(), pairwise(near_P.searchsorted(pool.offsets).tolist()), strict=True
    ):
        count = max(int(breadth * min(_EDITED_CHARACTERS / max(length, 1), _MOST_EDITED)), 2 * top)
        places.append(first + _largest(scores_P[first:last], count))
    place_K = np.concatenate(places)
    rows_K, scores_K = pool.rows_P[near_P[place_K]], scores_P[place_K]
    found = []
    for text, (first, last) in zip(
        queries.texts, pairwise(offsets_of([len(some) for some in places]).tolist()), strict=True
    ):
        some = slice(first, last)
        # One text at a time: its data fits the cache of a core.
        strings = names.texts(rows_K[some])
        similar = process.cdist([text], strings, scorer=OSA.normalized_similarity)[0]
        found.append(_best(top, rows_K[some], similar, scores_K[some]))
    return found
