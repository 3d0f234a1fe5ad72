"""Learn from accepted links: entities that were accepted before are more likely again.

A few entities have most of the links (commonness, Milne and Witten 2008). The weight of this
feature is fitted to the decisions themselves: for each one, the counts are taken without it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from mirror_rt.knowledge.entities.names import KINDS
from mirror_rt.knowledge.linking.exact import exact_matches
from mirror_rt.knowledge.linking.linker import batches_ahead
from mirror_rt.knowledge.linking.proposals import scored_pools
from mirror_rt.knowledge.ranking.features import ACCEPTED_MENTIONS, FEATURES
from mirror_rt.knowledge.ranking.samples import Samples, samples_of
from mirror_rt.knowledge.ranking.weights import fit_weight
from mirror_rt.knowledge.retrieval.filters import FilterMask
from mirror_rt.knowledge.text.normalize import normalize
from mirror_rt.types import NameKind

if TYPE_CHECKING:
    from mirror_rt.knowledge.linking.resources import Encode, LinkResources

__all__ = ["accepted_weight", "all_but_accepted"]

_MOST = 2_000
_L2 = 10.0
"""Strength of the prior, in mentions: with few decisions, the weight stays near zero."""
_SEED = 0


def accepted_weight(
    resources: LinkResources, gold: Sequence[tuple[str, frozenset[str]]], encode: Encode
) -> float:
    """Fit the weight of the feature ``accepted_mentions`` to the decisions.

    Args:
        resources: The opened knowledge base.
        gold: Mentions with their right ids.
        encode: Embeds texts.
    """
    names, mask = resources.names, all_but_accepted(resources)
    if mask is None:
        return 0.0
    right: dict[str, set[int]] = {}
    for mention, ids in gold:
        numbers = {number for id_ in ids for number in resources.catalogue.resolve(id_)}
        right.setdefault(mention.strip(), set()).update(numbers)
    texts = [text for text, numbers in right.items() if numbers and normalize(text)]
    exact = exact_matches(resources, texts, mask=mask)
    texts = [text for text, match in zip(texts, exact, strict=True) if not len(match)]
    if len(texts) > _MOST:
        rng = np.random.default_rng(_SEED)
        texts = [texts[i] for i in rng.choice(len(texts), _MOST, replace=False).tolist()]
    parts = []
    for _, some, vectors_QD in batches_ahead(texts, encode):
        for places, pool in scored_pools(resources, some, vectors_QD, mask=mask):
            answers = [right[some[i]] if i >= 0 else set[int]() for i in places]
            parts.append(samples_of(pool.batch, pool.features_PF, names, answers))
    if not parts:
        return 0.0
    samples = Samples.joined(parts).without_own()
    feature = FEATURES[ACCEPTED_MENTIONS]
    return fit_weight(samples, resources.reranker.weights, feature, l2=_L2)


def all_but_accepted(resources: LinkResources) -> FilterMask | None:
    """Return a mask of all names except accepted mentions; None if there are none."""
    names = resources.names
    accepted = names.kinds == KINDS.index(NameKind.ACCEPTED)
    if not accepted.any():
        return None
    row_P = np.repeat(np.arange(len(names)), np.diff(names.entity_offsets))
    mask_N = np.ones(len(names), dtype=bool)
    mask_N[row_P[accepted]] = False
    mask_N[row_P[~accepted]] = True
    return FilterMask(
        conditions=(),
        entities_E=np.ones(resources.entities, dtype=bool),
        mask_N=mask_N,
        rows_R=np.flatnonzero(mask_N),
    )
