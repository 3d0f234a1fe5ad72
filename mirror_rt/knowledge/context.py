"""Let the words around a mention decide between candidates that its name leaves close.

Axes: P profiles, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from mirror_rt.knowledge.linker import best
from mirror_rt.types import Candidate

if TYPE_CHECKING:
    from mirror_rt.knowledge.knowledge_base import KnowledgeBase
    from mirror_rt.types import Entity, Float32

__all__ = ["CONSIDERED", "by_context", "profile"]

CONSIDERED = 5
"""Candidates that a context chooses among at least, however few are asked for."""
_CLOSE = 0.3
"""Candidates are close that have at least this share of the best one's probability."""
_KEPT = 16_384
"""Vectors of profiles kept in memory."""


def profile(entity: Entity) -> str:
    """Return what is compared with a context: the description, else all that is known.

    >>> from mirror_rt.types import Entity, Name
    >>> profile(Entity(id="1", names=(Name(text="cold"),), types=("disease",)))
    'disease; cold'
    """
    if entity.description:
        return entity.description
    names = dict.fromkeys(name.text for name in entity.names)
    return "; ".join([*entity.types, *names, *entity.cross_references])


def by_context(
    kb: KnowledgeBase, found: Sequence[Sequence[Candidate]], contexts: Sequence[str]
) -> list[list[Candidate]]:
    """Put close candidates in the order of how well they fit the context of their mention.

    Those with at least 0.3 of the best one's probability, and those tied with it, are reordered
    by the cosine of the context with their profiles, both embedded by the knowledge base's own
    encoder; the others stay.

    Args:
        kb: The knowledge base.
        found: The candidates of each mention, best first.
        contexts: The context of each mention; a blank one decides nothing.
    """
    close = [
        _close(mine) if context.strip() else 0
        for mine, context in zip(found, contexts, strict=True)
    ]
    asked = [i for i, count in enumerate(close) if count > 1]
    results = [list(mine) for mine in found]
    if not asked:
        return results
    profiles = _profiles(kb, {c.entity_id for i in asked for c in found[i][: close[i]]})
    texts = list(dict.fromkeys(contexts[i].strip() for i in asked))
    vectors = dict(zip(texts, kb.encoder.encode(texts), strict=True))
    for i in asked:
        vector_D = vectors[contexts[i].strip()]
        fitting = [
            replace(c, context=float(profiles[c.entity_id] @ vector_D))
            for c in found[i][: close[i]]
        ]
        fitting.sort(key=lambda c: -(c.context or 0.0))
        results[i][: close[i]] = fitting
    return results


def _close(found: Sequence[Candidate]) -> int:
    """Return how many candidates at the head are close to the first."""
    least = _CLOSE * (found[0].probability or 0.0) if found else 0.0
    count = len(best(found)) if found else 0  # those tied with it stand beside it
    while count < len(found) and (found[count].probability or 0.0) >= least:
        count += 1
    return count


def _profiles(kb: KnowledgeBase, ids: set[str]) -> dict[str, Float32]:
    # What is kept may be cleared by another thread meanwhile: nothing is read from it twice.
    found = {id_: kept for id_ in ids if (kept := kb.profiles.get(id_)) is not None}
    new = sorted(ids - found.keys())
    if new:
        numbers = [kb.catalogue.resolve(id_)[0] for id_ in new]
        vectors_PD = kb.encoder.encode([profile(kb.catalogue.entity(n)) for n in numbers])
        made = dict(zip(new, vectors_PD, strict=True))
        if len(kb.profiles) + len(made) > _KEPT:
            kb.profiles.clear()
        kb.profiles.update(made)
        found |= made
    return found
