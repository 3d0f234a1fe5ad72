"""Search by meaning and by letters at once: a weighted sum of two cosines.

Axes: Q queries, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from mirror_rt.knowledge import linker
from mirror_rt.knowledge.catalogue import Catalogue
from mirror_rt.knowledge.filters import Allowed, nearest
from mirror_rt.knowledge.index import Index, exact_scores
from mirror_rt.knowledge.lexical import NgramIndex
from mirror_rt.types import Candidate, How

if TYPE_CHECKING:
    from mirror_rt.types import Float32, Int64

__all__ = ["by_both"]

_DEPTH = 100
"""Rows that each door brings at least."""
_WEIGHT = 0.8
"""The share of the vectors in the score; measured in docs/experiments.md."""


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
    """Return the ``top`` entities of each query by 0.8 × dense + 0.2 × letters.

    Each door brings the names that are nearest by it, and all of them have both cosines; an
    entity counts by its best name.

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
            found = _judged(
                text, vectors_QD[i], near[near >= 0], alike, catalogue, index, ngrams, allowed
            )
            # An entity of many names may fill the lists alone: look further for others.
            if len(found) >= top or width >= most:
                break
            width = min(4 * width, most)
            near = nearest(index, vectors_QD[i : i + 1], top=width, allowed=allowed).rows_QK[0]
        results.append(found[:top])
    return results


def _judged(
    text: str,
    vector_D: Float32,
    near: Int64,
    alike: Int64,
    catalogue: Catalogue,
    index: Index,
    ngrams: NgramIndex,
    allowed: Allowed | None,
) -> list[Candidate]:
    rows_K = np.union1d(near, alike)
    texts = catalogue.text_rows(rows_K.tolist())
    mine = [texts[row] for row in rows_K.tolist()]
    dense_K = np.minimum(exact_scores(index.vectors_ND, vector_D, rows_K), 1.0)
    letters_K = ngrams.cosines(text, [t.normalised for t in mine])
    scores_K = _WEIGHT * dense_K + (1 - _WEIGHT) * letters_K
    from_vectors_K = np.isin(rows_K, near)
    best: dict[int, int] = {}
    for k in np.argsort(-scores_K, kind="stable").tolist():
        for entity in mine[k].holders:
            if allowed is None or entity in allowed:
                best.setdefault(entity, k)
    groups = linker.alike(
        [mine[k].normalised for k in best.values()], [float(scores_K[k]) for k in best.values()]
    )
    headings = catalogue.headings(list(best))
    return [
        Candidate(
            entity_id=headings[entity][0],
            name=headings[entity][1],
            matched=mine[k].text,
            score=float(scores_K[k]),
            how=How.DENSE if from_vectors_K[k] else How.LETTERS,
            tied=is_tied,
            dense=float(dense_K[k]),
            letters=float(letters_K[k]),
        )
        for (entity, k), is_tied in zip(best.items(), linker.tied(groups), strict=True)
    ]
