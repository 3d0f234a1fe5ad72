"""Search by meaning and by letters at once: two rankings joined by reciprocal rank fusion.

Axes: Q queries, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from mirror_rt.knowledge.catalogue import Catalogue
from mirror_rt.knowledge.filters import Allowed, nearest
from mirror_rt.knowledge.index import Index, exact_scores
from mirror_rt.knowledge.lexical import NgramIndex
from mirror_rt.types import Candidate, How

if TYPE_CHECKING:
    from mirror_rt.types import Float32, Int64

__all__ = ["by_both"]

_DEPTH = 100
"""Rows that each door ranks at least."""
_K = 60
"""The constant of the paper: how little the first places stand out."""


def by_both(
    normalised: Sequence[str],
    vectors_QD: Float32,
    catalogue: Catalogue,
    index: Index,
    ngrams: NgramIndex,
    *,
    top: int,
    allowed: Allowed | None = None,
) -> list[list[Candidate]]:
    """Return the ``top`` entities of each query by the sum of 1 / (60 + rank) over both doors.

    Reciprocal rank fusion: Cormack, Clarke and Büttcher (2009). An entity has in each door the
    rank of its best name; in a door that does not list it, it gets nothing.

    Args:
        normalised: Q queries, normalised.
        vectors_QD: (Q, D) float32 unit rows, their vectors.
        catalogue: Where the rows have their strings and entities.
        index: The dense door.
        ngrams: The door of letters.
        top: How many entities at most.
        allowed: The entities to choose from; None for all.
    """
    most = len(index.vectors_ND) if allowed is None else len(allowed.rows_R)
    depth = max(_DEPTH, 4 * top)
    hits = nearest(index, vectors_QD, top=depth, allowed=allowed)
    results = []
    for i, text in enumerate(normalised):
        near, width = hits.rows_QK[i], depth
        while True:
            alike = ngrams.nearest(
                text, top=width, allowed_N=None if allowed is None else allowed.mask_N
            )
            found = _fused(
                text, vectors_QD[i], near[near >= 0], alike, catalogue, index, ngrams, allowed
            )
            # An entity of many names may fill the lists alone: look further for others.
            if len(found) >= top or width >= most:
                break
            width = min(4 * width, most)
            near = nearest(index, vectors_QD[i : i + 1], top=width, allowed=allowed).rows_QK[0]
        results.append(found[:top])
    return results


def _fused(
    text: str,
    vector_D: Float32,
    near: Int64,
    alike: Int64,
    catalogue: Catalogue,
    index: Index,
    ngrams: NgramIndex,
    allowed: Allowed | None,
) -> list[Candidate]:
    rows = np.union1d(near, alike)
    texts = catalogue.text_rows(rows.tolist())
    dense_K = exact_scores(index.vectors_ND, vector_D, rows)
    letters_K = ngrams.cosines(text, [texts[row].normalised for row in rows.tolist()])
    scores: dict[int, float] = {}
    best: dict[int, dict[str, tuple[float, int]]] = {}
    for door, values_K, listed in (("dense", dense_K, near), ("letters", letters_K, alike)):
        ranked: dict[int, int] = {}
        inside = np.isin(rows, listed)
        for k in np.lexsort((rows, -values_K)).tolist():
            row = int(rows[k])
            for entity in texts[row].holders:
                if allowed is not None and entity not in allowed:
                    continue
                best.setdefault(entity, {}).setdefault(door, (float(values_K[k]), row))
                if inside[k]:
                    ranked.setdefault(entity, len(ranked) + 1)
        for entity, rank in ranked.items():
            scores[entity] = scores.get(entity, 0.0) + 1.0 / (_K + rank)
    order = sorted(scores, key=lambda entity: (-scores[entity], -best[entity]["dense"][0], entity))
    headings = catalogue.headings(order)
    found = []
    for entity in order:
        (dense, by_vector), (letters, by_letters) = best[entity]["dense"], best[entity]["letters"]
        from_vectors = by_vector in near
        row = by_vector if from_vectors else by_letters
        found.append(
            Candidate(
                entity_id=headings[entity][0],
                name=headings[entity][1],
                matched=texts[row].text,
                score=scores[entity],
                how=How.DENSE if from_vectors else How.LETTERS,
                tied=sum(allowed is None or e in allowed for e in texts[row].holders) > 1,
                dense=min(dense, 1.0),
                letters=min(letters, 1.0),
            )
        )
    return found
