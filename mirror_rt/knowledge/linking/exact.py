"""Exact match: mentions that equal a name after normalization of case and punctuation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from mirror_rt.knowledge.arrays import hash_text
from mirror_rt.knowledge.entities.names import KINDS
from mirror_rt.knowledge.linking.proposals import Proposal
from mirror_rt.knowledge.linking.resources import LinkResources
from mirror_rt.knowledge.ranking.name_probability import exact_match_features
from mirror_rt.knowledge.retrieval.filters import FilterMask
from mirror_rt.knowledge.text.match_levels import match_level
from mirror_rt.knowledge.text.normalize import normalize
from mirror_rt.types import MatchType, NameKind

if TYPE_CHECKING:
    from mirror_rt.types import Int64

__all__ = ["exact_matches", "is_name"]

_LEVELS = (MatchType.EXACT, MatchType.CASE, MatchType.PUNCTUATION)
"""The levels of an exact match, the strictest first."""
_PREFERRED = KINDS.index(NameKind.PREFERRED)
_ACCEPTED = KINDS.index(NameKind.ACCEPTED)
_PROBABILITY_OF_ACCEPTED = 0.99
"""Probability of an exact match with an accepted mention that names no other entity."""


def exact_matches(
    resources: LinkResources, texts: Sequence[str], *, mask: FilterMask | None = None
) -> list[Proposal]:
    """Return all entities that have each text as a name, the strictest match level first.

    If several entities match at the same level, the name is ambiguous. All of them are returned
    and flagged as tied; entities with this preferred name come first.

    Args:
        resources: The knowledge base.
        texts: The texts; spaces around them do not count.
        mask: The allowed names and entities; None for all.

    Returns:
        A proposal for each text; an empty one for a text that is not a name.
    """
    names = resources.names
    wanted = [text.strip() for text in texts]
    offsets, rows = names.rows_named(_hashes(wanted))
    if not len(rows):
        return [Proposal()] * len(texts)
    strings = resources.catalogue.texts_of(rows.tolist())
    spans = names.entity_offsets
    probabilities = resources.reranker.name_probability(exact_match_features(names, rows))
    probability_of = dict(zip(rows.tolist(), probabilities.tolist(), strict=True))
    found = []
    for text, (start, stop) in zip(wanted, pairwise(offsets.tolist()), strict=True):
        matches: list[tuple[int, bool, int, int, int]] = []
        for row in rows[start:stop].tolist():
            if mask is not None and not mask.mask_N[row]:
                continue
            # All names of punctuation only are equal after normalization, but match at no level.
            level = match_level(text, strings[row])
            if level in _LEVELS:
                rank, span = _LEVELS.index(level), slice(spans[row], spans[row + 1])
                entities, kinds = names.entities[span], names.kinds[span]
                if mask is not None:
                    allowed = mask.allows(entities)
                    entities, kinds = entities[allowed], kinds[allowed]
                matches += [
                    (rank, kind != _PREFERRED, entity, row, kind)
                    for entity, kind in zip(entities.tolist(), kinds.tolist(), strict=True)
                ]
        found.append(_proposal(sorted(matches), strings, probability_of))
    return found


def _proposal(
    matches: Sequence[tuple[int, bool, int, int, int]],
    strings: Mapping[int, str],
    probability_of: Mapping[int, float],
) -> Proposal:
    best: dict[int, tuple[int, int, int]] = {}
    for level, _, entity, row, kind in matches:
        best.setdefault(entity, (level, row, kind))
    if not best:
        return Proposal()
    levels = [level for level, _, _ in best.values()]
    entities_at = [levels.count(level) for level in range(len(_LEVELS))]
    strictest, prior = levels[0], probability_of[matches[0][3]]
    accepted = any(kind == _ACCEPTED for level, _, _, _, kind in matches if level == strictest)
    if accepted and entities_at[strictest] == 1:
        prior = max(prior, _PROBABILITY_OF_ACCEPTED)
    probability = prior / entities_at[strictest]
    return Proposal(
        entities=[*best],
        rows=[row for _, row, _ in best.values()],
        kinds=[kind for _, _, kind in best.values()],
        matched_names=[strings[row] for _, row, _ in best.values()],
        scores=[1.0] * len(best),
        probabilities=[
            probability if level == strictest else min((1 - prior) / len(best), probability)
            for level in levels
        ],
        match_types=[_LEVELS[level] for level in levels],
        best=[level == strictest for level in levels],
        tied=[entities_at[level] > 1 for level in levels],
        exact=True,
    )


def _hashes(texts: Sequence[str]) -> Int64:
    return np.array([hash_text(normalize(text)) for text in texts], dtype=np.int64)


def is_name(resources: LinkResources, texts: Sequence[str]) -> list[bool]:
    """Return for each text whether it is a name after normalization."""
    names = resources.names
    offsets, _ = names.rows_named(_hashes(texts))
    named: list[bool] = (np.diff(offsets) > 0).tolist()
    return named
