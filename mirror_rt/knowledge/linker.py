"""From a mention to entities: by name first, then by the nearest vectors.

Axes: Q queries, K hits, D width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mirror_rt.knowledge.catalogue import Catalogue
from mirror_rt.knowledge.index import Index
from mirror_rt.knowledge.normalise import normalise
from mirror_rt.types import Candidate, Hits, How

if TYPE_CHECKING:
    from mirror_rt.types import Float32

__all__ = ["by_name", "by_vectors", "has_content"]


def by_name(mention: str, catalogue: Catalogue) -> list[Candidate]:
    """Return every entity that bears the mention as a name; the same letters go first.

    More than one entity of the best kind of match means the name is ambiguous: all of them
    are returned and flagged as tied, those first whose preferred name it is.
    """
    wanted = mention.strip()
    key = normalise(wanted)
    matches = catalogue.by_name(key)
    exact = {m.entity: m for m in reversed(matches) if m.text == wanted}
    # Names of punctuation only all normalise to nothing; they match by their letters alone.
    rest = {m.entity: m for m in reversed(matches) if m.entity not in exact} if key else {}
    headings = catalogue.headings([*exact, *rest])
    found = []
    for how, group in ((How.EXACT, exact), (How.NORMALISED, rest)):
        for match in (m for m in matches if group.get(m.entity) is m):
            id_, name = headings[match.entity]
            found.append(
                Candidate(
                    entity_id=id_,
                    name=name,
                    matched=match.text,
                    score=1.0,
                    how=how,
                    tied=len(group) > 1,
                )
            )
    return found


def by_vectors(
    vectors_QD: Float32, catalogue: Catalogue, index: Index, *, top: int
) -> list[list[Candidate]]:
    """Return the ``top`` entities nearest to each vector, each once with its nearest name.

    Args:
        vectors_QD: (Q, D) float32 unit rows.
        catalogue: Where the rows of the index have their strings and entities.
        index: The index of those rows.
        top: How many entities at most.
    """
    results: list[list[Candidate]] = []
    hits = index.search(vectors_QD, top=_names_for(top))
    holders = catalogue.holders(np.unique(hits.rows_QK[hits.rows_QK >= 0]).tolist())
    for i in range(len(vectors_QD)):
        row_hits = Hits(scores_QK=hits.scores_QK[i : i + 1], rows_QK=hits.rows_QK[i : i + 1])
        mine, wide = holders, row_hits.rows_QK.shape[1]
        # An entity of many names may fill the list alone: look further until there are enough.
        while len(_entities(row_hits, mine)) < top and wide < len(index.vectors_ND):
            wide *= 4
            row_hits = index.search(vectors_QD[i : i + 1], top=wide)
            mine = catalogue.holders(row_hits.rows_QK[row_hits.rows_QK >= 0].tolist())
        results.append(_candidates(row_hits, mine, catalogue, top=top))
    return results


def _names_for(top: int) -> int:
    return 4 * top + 16


def _entities(hits: Hits, holders: dict[int, list[int]]) -> dict[int, tuple[int, float]]:
    """Return entity number → (row, score) of its best name, best first; Q is 1."""
    found: dict[int, tuple[int, float]] = {}
    for row, score in zip(hits.rows_QK[0].tolist(), hits.scores_QK[0].tolist(), strict=True):
        if row < 0:
            break
        for entity in holders[row]:
            found.setdefault(entity, (row, score))
    return found


def _candidates(
    hits: Hits, holders: dict[int, list[int]], catalogue: Catalogue, *, top: int
) -> list[Candidate]:
    found = dict(list(_entities(hits, holders).items())[:top])
    headings = catalogue.headings(list(found))
    strings = catalogue.strings([row for row, _ in found.values()])
    return [
        Candidate(
            entity_id=headings[entity][0],
            name=headings[entity][1],
            matched=strings[row],
            score=min(score, 1.0),  # rows of float16 are a shade longer or shorter than 1
            how=How.DENSE,
            tied=len(holders[row]) > 1,
        )
        for entity, (row, score) in found.items()
    ]


def has_content(text: str) -> bool:
    """Tell whether a text has anything but spaces and punctuation."""
    return bool(normalise(text))
