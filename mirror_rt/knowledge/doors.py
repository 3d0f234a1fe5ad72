"""Gather the names that might be meant, from every door, with the evidence for each.

Axes: Q mentions, K candidate names, F features, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
from rapidfuzz import process
from rapidfuzz.distance import OSA

from mirror_rt.knowledge.catalogue import Catalogue, TextRow
from mirror_rt.knowledge.combination import FEATURES
from mirror_rt.knowledge.filters import Allowed, nearest
from mirror_rt.knowledge.grades import loose_key, number_tokens
from mirror_rt.knowledge.index import Index, exact_scores
from mirror_rt.knowledge.lexical import NgramIndex
from mirror_rt.knowledge.wording import Wording

if TYPE_CHECKING:
    from mirror_rt.types import Float32, Int64

__all__ = ["WIDTH", "Pool", "gather"]

WIDTH = 32
"""Names taken from each: the nearest vectors, trigrams, spelling, and those of the same words."""
_MISSPELT = 0.75
"""Texts less alike in spelling are not one misspelt: an edit in four letters, two in eight."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """The candidate names of one mention.

    Attributes:
        rows_K: (K,) int64 rows of the names.
        features_KF: (K, F) float32, columns as in ``combination.FEATURES``; all but the last,
            which depends on the entity.
        from_vectors_K: (K,) bool, whether the dense door brought the name.
        texts: The catalogue's rows of the names.
    """

    rows_K: Int64
    features_KF: Float32
    from_vectors_K: np.ndarray[tuple[int], np.dtype[np.bool_]]
    texts: Sequence[TextRow]


def gather(
    normalised: Sequence[str],
    vectors_QD: Float32,
    catalogue: Catalogue,
    index: Index,
    ngrams: NgramIndex,
    wording: Wording,
    *,
    width: int = WIDTH,
    near_QK: Int64 | None = None,
    without: Sequence[int] | None = None,
    allowed: Allowed | None = None,
) -> list[Pool]:
    """Gather candidate names for mentions.

    Args:
        normalised: The mentions, normalised.
        vectors_QD: (Q, D) float32 unit rows, the mentions' vectors.
        catalogue: Where the rows have their strings.
        index: The dense door.
        ngrams: The door of letters.
        wording: Which words stand for each other.
        width: How many names to take from each door; letters give as many again by spelling.
        near_QK: (Q, K) int64 rows of the dense door, -1 where there are no more, if it was
            asked already.
        without: A row to leave out for each mention (its own name, when one is held out).
        allowed: The rows to gather from; None for all.
    """
    wide = width + (without is not None)
    if near_QK is None:
        near_QK = nearest(index, vectors_QD, top=wide, allowed=allowed).rows_QK
    mask_N = None if allowed is None else allowed.mask_N
    found: list[tuple[Int64, Int64]] = []
    for i, text in enumerate(normalised):
        near = near_QK[i][near_QK[i] >= 0]
        alike = ngrams.alike(text, top=wide, allowed_N=mask_N)
        same = np.array(catalogue.by_loose(loose_key(text)), dtype=np.int64)
        same = (same if mask_N is None else same[mask_N[same]])[:width]
        found.append((near, np.concatenate([alike, same])))
    wanted = np.unique(np.concatenate([*chain(*found)])).tolist() if found else []
    texts = catalogue.text_rows(wanted)
    pools = []
    for i, (nearest_K, others) in enumerate(found):
        near = _named(nearest_K, vectors_QD[i], catalogue, index, texts, top=wide)
        rows = np.unique(np.concatenate([near, others]))
        if without is not None:
            rows = rows[rows != without[i]]
        mine = [texts[row] for row in rows.tolist()]
        dense_K = exact_scores(index.vectors_ND, vectors_QD[i], rows)
        letters_K = ngrams.cosines(normalised[i], [t.normalised for t in mine])
        pools.append(
            Pool(
                rows_K=rows,
                features_KF=_features(
                    normalised[i], mine, wording, dense_K, letters_K, held_out=without is not None
                ),
                from_vectors_K=np.isin(rows, near),
                texts=mine,
            )
        )
    return pools


def _named(
    near_K: Int64,
    query_D: Float32,
    catalogue: Catalogue,
    index: Index,
    texts: dict[int, TextRow],
    *,
    top: int,
) -> Int64:
    """Return the nearest rows that name something.

    Rows whose names were removed stay in an index that is added to. Where such are among the
    nearest, the next ones take their places; ``texts`` gets theirs.
    """
    width, rows = top, len(index.vectors_ND)
    while True:
        named = [row for row in near_K.tolist() if texts[row].holders]
        if len(named) >= min(top, len(near_K)) or width >= rows:
            return np.array(named[:top], dtype=np.int64)
        width = min(4 * width, rows)
        near_K = index.search(query_D[None], top=width).rows_QK[0]
        near_K = near_K[near_K >= 0]
        texts |= catalogue.text_rows(near_K.tolist())


def _features(
    normalised: str,
    texts: Sequence[TextRow],
    wording: Wording,
    dense_K: Float32,
    letters_K: Float32,
    *,
    held_out: bool,
) -> Float32:
    key, numbers = loose_key(normalised), number_tokens(normalised)
    words, loose_words = frozenset(normalised.split()), frozenset(key.split())
    names = [text.normalised for text in texts]
    lengths_K = np.fromiter(map(len, names), np.float64, count=len(names))
    edits_K = process.cdist([normalised], names, scorer=OSA.distance)[0]
    explains_K, explained_K = wording.alike(key, [text.loose for text in texts])
    features_KF = np.zeros((len(texts), len(FEATURES)), dtype=np.float32)
    features_KF[:, 0] = dense_K
    features_KF[:, 1] = letters_K
    features_KF[:, 2] = [text.loose == key for text in texts]
    features_KF[:, 3] = [number_tokens(name) != numbers for name in names]
    features_KF[:, 4] = np.abs(np.log((lengths_K + 1) / (len(normalised) + 1)))
    features_KF[:, 5] = [_overlap(words, name) for name in names]
    features_KF[:, 6] = explains_K
    features_KF[:, 7] = explained_K
    features_KF[:, 8] = 1 - edits_K / np.maximum(lengths_K, max(len(normalised), 1))
    strange = wording.strange(key.split(), own=held_out)
    if strange:
        digits = _digits(normalised)
        for k in np.flatnonzero(features_KF[:, 8] >= _MISSPELT).tolist():
            spoilt = loose_words.difference(texts[k].loose.split())
            if spoilt and spoilt <= strange and _digits(names[k]) == digits:
                features_KF[k, 9] = 1 / max(edits_K[k], 1)
    return features_KF


def _digits(text: str) -> list[str]:
    """Return the digits of a text: another number is another thing, not a slip."""
    return [sign for sign in text if sign.isdigit()]


def _overlap(words: frozenset[str], name: str) -> float:
    """Return the Jaccard overlap of words with those of a name."""
    others = name.split()
    both = len(words.intersection(others))
    return both / max(len(words) + len(set(others)) - both, 1)
