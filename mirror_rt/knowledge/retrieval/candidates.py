"""Generate the candidate names of mentions: the results of all retrievers, in flat arrays.

To add a retriever, add its pairs of mention and row to those of ``lexical_matches``. If it
has files, add a field to ``Retrievers``.

Axes: Q mentions, K candidate names (of all mentions, one mention after another), P pairs of a
candidate name and an entity with that name, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mirror_rt.knowledge.entities.names import AnalyzedTexts, NameArrays
from mirror_rt.knowledge.retrieval.filters import FilterMask, filtered_search
from mirror_rt.knowledge.retrieval.trigram_index import QueryTrigrams, TrigramIndex
from mirror_rt.knowledge.retrieval.vector_index import VectorIndex

if TYPE_CHECKING:
    import numpy.typing as npt

    from mirror_rt.types import Float32, Int64

    Bools = npt.NDArray[np.bool_]
    UInt8 = npt.NDArray[np.uint8]

__all__ = [
    "PER_RETRIEVER",
    "CandidateBatch",
    "LexicalMatches",
    "Retrievers",
    "generate_candidates",
    "lexical_matches",
]

PER_RETRIEVER = 32
"""Names taken from each retriever: vectors, trigrams, edit distance, and equal word sets."""


_ROW_BITS = 32
_ROW_MASK = (1 << _ROW_BITS) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Retrievers:
    """The retrievers: the dense index, the trigrams, and the arrays of the names."""

    vectors: VectorIndex
    trigrams: TrigramIndex
    names: NameArrays


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateBatch:
    """The candidate names of mentions, and the entities with these names.

    Attributes:
        mentions: Q mentions, analyzed.
        trigrams: The trigrams of the mentions.
        vectors_QD: (Q, D) float32 unit rows, the vectors of the mentions.
        mention_K: (K,) int64 the mention of each candidate name, ascending.
        row_K: (K,) int64 the row of the name, ascending within a mention.
        from_dense_K: (K,) bool, whether the dense retriever found it.
        name_P: (P,) int64 the candidate name (a position in K), ascending.
        entity_P: (P,) int64 number of the entity, ascending within a name.
        kind_P: (P,) uint8 the kind of the name for the entity: a position in ``names.KINDS``.
        held_out: Whether the mentions are names of the knowledge base whose own rows are
            excluded.
    """

    mentions: AnalyzedTexts
    trigrams: QueryTrigrams
    vectors_QD: Float32
    mention_K: Int64
    row_K: Int64
    from_dense_K: Bools
    name_P: Int64
    entity_P: Int64
    kind_P: UInt8
    held_out: bool = False

    def __len__(self) -> int:
        return len(self.mentions)


@dataclass(frozen=True, slots=True, kw_only=True)
class LexicalMatches:
    """The results of the retrievers that need no vectors.

    Attributes:
        mentions: Q mentions, analyzed.
        trigrams: Their trigrams.
        pairs: Pairs of mention and row, each as one number: by trigrams, by edit distance, and
            by equal words.
    """

    mentions: AnalyzedTexts
    trigrams: QueryTrigrams
    pairs: Sequence[Int64]


def lexical_matches(
    texts: Sequence[str],
    retrievers: Retrievers,
    *,
    width: int = PER_RETRIEVER,
    held_out: bool = False,
    mask: FilterMask | None = None,
) -> LexicalMatches:
    """Find names by letters and words.

    Args:
        texts: The mentions.
        retrievers: The retrievers.
        width: How many names to take from each retriever.
        held_out: Whether one more is taken, as the mentions are names and find themselves.
        mask: The rows and entities to choose from; None for all.
    """
    names = retrievers.names
    mentions = names.analyze(texts)
    trigrams = retrievers.trigrams.analyze(mentions.normalized)
    mask_N = None if mask is None else mask.mask_N
    found = retrievers.trigrams.search(trigrams, top=width + held_out, names=names, mask_N=mask_N)
    return LexicalMatches(
        mentions=mentions,
        trigrams=trigrams,
        pairs=[
            *(_pairs([rows[i] for rows in found]) for i in (0, 1)),
            _with_same_key(mentions, names, top=width, mask_N=mask_N),
        ],
    )


def generate_candidates(
    texts: Sequence[str],
    vectors_QD: Float32,
    retrievers: Retrievers,
    *,
    width: int = PER_RETRIEVER,
    dense_QK: Int64 | None = None,
    lexical: LexicalMatches | None = None,
    without: Sequence[int] | None = None,
    mask: FilterMask | None = None,
) -> CandidateBatch:
    """Generate candidate names for mentions.

    Args:
        texts: The mentions.
        vectors_QD: (Q, D) float32 unit rows, the mentions' vectors.
        retrievers: The retrievers.
        width: How many names to take from each retriever.
        dense_QK: (Q, K) int64 rows from the dense retriever, if it was called already; -1 after
            the last one.
        lexical: The results of the other retrievers, likewise.
        without: A row to exclude for each mention (its own name, if the names are held out).
        mask: The rows and entities to choose from; None for all.
    """
    held_out = without is not None
    wide = width + held_out
    if dense_QK is None:
        dense_QK = filtered_search(retrievers.vectors, vectors_QD, top=wide, mask=mask).rows_QK
    dense_QK = _skip_unused(dense_QK, vectors_QD, retrievers, top=wide)
    if lexical is None:
        lexical = lexical_matches(texts, retrievers, width=width, held_out=held_out, mask=mask)
    # The lowest bit says which retriever found a pair: after sorting, the dense one comes first.
    keys = np.concatenate([_pairs(dense_QK) << 1, *(pairs << 1 | 1 for pairs in lexical.pairs)])
    if without is not None:
        keys = keys[~np.isin(keys >> 1, _pairs([[row] for row in without]))]
    keys.sort()
    pairs = keys >> 1
    first = np.ones(len(pairs), dtype=bool)
    first[1:] = pairs[1:] != pairs[:-1]
    pairs, from_dense_K = pairs[first], keys[first] & 1 == 0
    mention_K, row_K = pairs >> _ROW_BITS, pairs & _ROW_MASK
    sizes_K, entity_P, kind_P = retrievers.names.entities_of(row_K)
    name_P = np.arange(len(row_K)).repeat(sizes_K)
    if mask is not None:
        allowed_P = mask.allows(entity_P)
        name_P, entity_P, kind_P = name_P[allowed_P], entity_P[allowed_P], kind_P[allowed_P]
    return CandidateBatch(
        mentions=lexical.mentions,
        trigrams=lexical.trigrams,
        vectors_QD=vectors_QD,
        mention_K=mention_K,
        row_K=row_K,
        from_dense_K=from_dense_K,
        name_P=name_P,
        entity_P=entity_P.astype(np.int64),
        kind_P=kind_P,
        held_out=held_out,
    )


def _pairs(rows: Sequence[Sequence[int]] | Sequence[Int64] | Int64) -> Int64:
    """Return pairs of mention and row, each as one number; rows of -1 are left out."""
    sizes = [len(query_rows) for query_rows in rows]
    flat = np.concatenate(
        [np.asarray(query_rows, dtype=np.int64) for query_rows in rows] or [np.zeros(0, int)]
    )
    mentions = np.arange(len(sizes)).repeat(sizes)
    pairs: Int64 = (mentions << _ROW_BITS | flat)[flat >= 0]
    return pairs


def _with_same_key(
    mentions: AnalyzedTexts, names: NameArrays, *, top: int, mask_N: Bools | None
) -> Int64:
    """Return the pairs of mention and name with the same words."""
    offsets, rows = names.rows_with_key(mentions.key_hashes_Q)
    if not len(rows):
        return rows
    mention_R = np.arange(len(mentions)).repeat(np.diff(offsets))
    kept = np.array([bool(key) for key in mentions.keys], dtype=bool)[mention_R]
    if mask_N is not None:
        kept &= mask_N[rows]
    mention_R, rows = mention_R[kept], rows[kept]
    first = mention_R.searchsorted(mention_R)
    kept = np.arange(len(rows)) - first < top
    pairs: Int64 = mention_R[kept] << _ROW_BITS | rows[kept]
    return pairs


def _skip_unused(
    dense_QK: Int64, vectors_QD: Float32, retrievers: Retrievers, *, top: int
) -> Int64:
    """Replace rows that no longer name an entity by the next nearest ones.

    An update that appends to an index leaves the rows of removed names in it.
    """
    offsets, rows = retrievers.names.entity_offsets, len(retrievers.names)
    unused = (dense_QK >= 0) & (offsets[dense_QK + 1] == offsets[dense_QK])
    if not unused.any():
        return dense_QK
    found = np.where(unused, -1, dense_QK)
    for i in np.flatnonzero(unused.any(axis=1)).tolist():
        wanted, width = min(top, int((dense_QK[i] >= 0).sum())), top
        used = found[i][found[i] >= 0]
        while len(used) < wanted and width < rows:
            width = min(4 * width, rows)
            near = retrievers.vectors.search(vectors_QD[i : i + 1], top=width).rows_QK[0]
            near = near[near >= 0]
            used = near[offsets[near + 1] > offsets[near]][:top]
        found[i] = -1
        found[i, : len(used)] = used[: found.shape[1]]
    return found
