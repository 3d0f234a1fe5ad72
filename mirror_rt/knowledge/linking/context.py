"""Rerank candidates with close probabilities by the context of the mention.

Axes: E entities, D width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from mirror_rt.knowledge.linking.proposals import Proposal
from mirror_rt.knowledge.linking.resources import LinkResources
from mirror_rt.knowledge.ranking.ties import tie_groups

if TYPE_CHECKING:
    from mirror_rt.knowledge.linking.resources import Encode
    from mirror_rt.types import Entity, Float32

__all__ = ["entity_text", "rerank_by_context"]

_CLOSE = 0.3
"""Candidates with at least this share of the best one's probability are close."""
_KEPT = 16_384
"""The maximum number of entity vectors in the cache."""


def entity_text(entity: Entity) -> str:
    """Return the text to compare with a context: the description, or else types, names and ids.

    >>> from mirror_rt.types import Entity, Name
    >>> entity_text(Entity(id="1", names=(Name(text="cold"),), types=("disease",)))
    'disease; cold'
    """
    if entity.description:
        return entity.description
    names = dict.fromkeys(name.text for name in entity.names)
    return "; ".join([*entity.types, *names, *entity.cross_references])


def rerank_by_context(
    resources: LinkResources,
    proposals: Sequence[Proposal],
    contexts: Sequence[str],
    encode: Encode,
) -> list[Proposal]:
    """Order close candidates by their similarity to the context of the mention.

    Candidates with at least 0.3 of the best one's probability, and those tied with it, are
    ordered by the cosine of the context and their descriptions. Both are embedded by the encoder
    of the knowledge base. The other candidates stay where they are.

    Args:
        resources: The knowledge base.
        proposals: The candidates of each mention, best first.
        contexts: The context of each mention; an empty one changes nothing.
        encode: Embeds texts.
    """
    close = [
        _close(proposal) if context.strip() else 0
        for proposal, context in zip(proposals, contexts, strict=True)
    ]
    decided = [i for i, count in enumerate(close) if count > 1]
    results = list(proposals)
    if not decided:
        return results
    vectors = _entity_vectors(
        resources, {e for i in decided for e in proposals[i].entities[: close[i]]}, encode
    )
    texts = list(dict.fromkeys(contexts[i].strip() for i in decided))
    of_context = dict(zip(texts, encode(texts), strict=True))
    for i in decided:
        vector_D = of_context[contexts[i].strip()]
        entities = proposals[i].entities
        fit = [float(vectors[entity] @ vector_D) for entity in entities[: close[i]]]
        scores = [*fit, *([None] * (len(entities) - close[i]))]
        order = sorted(range(close[i]), key=lambda k: -fit[k])
        places = [*order, *range(close[i], len(entities))]
        ordered = replace(proposals[i], context_scores=scores).chosen(places)
        results[i] = replace(ordered, best=_tied_with_first(resources, ordered))
    return results


def _tied_with_first(resources: LinkResources, proposal: Proposal) -> Sequence[bool]:
    """Return which candidates are tied with the first, even after a context reordered them."""
    if proposal.best[0] or proposal.exact:
        return proposal.best
    order = sorted(range(len(proposal)), key=lambda k: -proposal.probabilities[k])
    names = [int(resources.names.hashes[proposal.rows[k]]) for k in order]
    # Probabilities are exponentials of scores: differences of their logarithms are differences
    # of scores.
    scores = [math.log(max(proposal.probabilities[k], 1e-300)) for k in order]
    group_of = dict(zip(order, tie_groups(names, scores), strict=True))
    return [group_of[k] == group_of[0] for k in range(len(proposal))]


def _close(proposal: Proposal) -> int:
    """Return how many candidates at the start are close to the first."""
    if not len(proposal):
        return 0
    least = _CLOSE * proposal.probabilities[0]
    count = sum(proposal.best)  # tied candidates are next to it
    while count < len(proposal) and proposal.probabilities[count] >= least:
        count += 1
    return count


def _entity_vectors(
    resources: LinkResources, entities: set[int], encode: Encode
) -> dict[int, Float32]:
    # Another thread may clear the cache, so nothing is read from it twice.
    kept = resources.entity_vectors
    found = {entity: vector for entity in entities if (vector := kept.get(entity)) is not None}
    new = sorted(entities - found.keys())
    if new:
        vectors_ED = encode([entity_text(resources.catalogue.entity(n)) for n in new])
        computed = dict(zip(new, vectors_ED, strict=True))
        if len(kept) + len(computed) > _KEPT:
            kept.clear()
        kept.update(computed)
        found |= computed
    return found
