"""Say why: the evidence behind each candidate of a mention, and its nearest rivals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mirror_rt.knowledge import doors, linker
from mirror_rt.knowledge.combination import FEATURES
from mirror_rt.knowledge.context import CONSIDERED
from mirror_rt.knowledge.grades import is_loose
from mirror_rt.types import Candidate

if TYPE_CHECKING:
    from mirror_rt.knowledge.filters import Filters
    from mirror_rt.knowledge.knowledge_base import KnowledgeBase

__all__ = ["Explained", "explain"]

_RIVALS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """A candidate and the reasons for its place.

    Attributes:
        candidate: The candidate.
        rank: Its place in the answer, from 1; rivals that did not make it come after.
        rank_by_vectors: Its entity's place by the dense door alone, from 1.
        rank_by_letters: Its entity's place by the door of letters alone, from 1.
        rank_without_context: Its place had there been no context.
        evidence: The numbers of ``combination.FEATURES`` for the matched name.
        weighed: Each number times its weight; their sum is the score that is compared.
        rival: Whether it is only shown for comparison.
    """

    candidate: Candidate
    rank: int
    rank_by_vectors: int
    rank_by_letters: int
    rank_without_context: int
    evidence: Mapping[str, float]
    weighed: Mapping[str, float]
    rival: bool = False


def explain(
    kb: KnowledgeBase,
    mentions: Sequence[str],
    *,
    top: int = 5,
    filters: Filters | None = None,
    contexts: Sequence[str] | None = None,
) -> list[list[Explained]]:
    """Link mentions as ``KnowledgeBase.link`` does and say why.

    The model is asked for every mention, also for those that are names.

    Args:
        kb: The knowledge base.
        mentions: The strings.
        top: How many entities at most for a mention that is not a name.
        filters: As in ``KnowledgeBase.link``.
        contexts: As in ``KnowledgeBase.link``.

    Raises:
        ConfigError: As ``KnowledgeBase.link``.
        InputError: A mention or context holds a lone surrogate.
    """
    linked = kb.link(mentions, top=top, filters=filters, contexts=contexts)
    before = linked
    if contexts is not None:
        before = kb.link(mentions, top=max(top, CONSIDERED), filters=filters)
    allowed = kb.allowed(filters=filters)
    asked = [i for i, found in enumerate(linked) if found]
    texts = [mentions[i].strip() for i in asked]
    results: list[list[Explained]] = [[] for _ in mentions]
    if not texts:
        return results
    width = max(doors.WIDTH, 2 * top)
    pools = kb.gather(texts, kb.encoder.encode(texts), width=width, allowed=allowed)
    for i, text, pool in zip(asked, texts, pools, strict=True):
        rivals = linker.judge(
            text,
            pool,
            kb.catalogue,
            kb.combination,
            top=len(linked[i]) + top + _RIVALS,
            allowed=allowed,
        )
        shown = {c.entity_id for c in linked[i]}
        more = [c for c in rivals if c.entity_id not in shown][:_RIVALS]
        plain = [*dict.fromkeys(c.entity_id for c in (*before[i], *more))]
        results[i] = _reasons(kb, pool, [*linked[i], *more], plain, own=len(linked[i]))
    return results


def _reasons(
    kb: KnowledgeBase,
    pool: doors.Pool,
    candidates: Sequence[Candidate],
    without_context: Sequence[str],
    *,
    own: int,
) -> list[Explained]:
    by_vectors, by_letters = (_entity_ranks(pool, column) for column in (0, 1))
    weights = kb.combination.weights
    found = []
    for rank, candidate in enumerate(candidates, start=1):
        place = next((k for k, t in enumerate(pool.texts) if t.text == candidate.matched), None)
        (number, *_) = kb.catalogue.resolve(candidate.entity_id)
        evidence: dict[str, float] = {}
        if place is not None:
            values = pool.features_KF[place].astype(float).tolist()
            values[-1] = float(is_loose(pool.texts[place].holders[number]))
            evidence = {n: round(v, 4) for n, v in zip(FEATURES, values, strict=True)}
        found.append(
            Explained(
                candidate=candidate,
                rank=rank,
                rank_by_vectors=by_vectors.get(number, 0),
                rank_by_letters=by_letters.get(number, 0),
                rank_without_context=without_context.index(candidate.entity_id) + 1,
                evidence=evidence,
                weighed={n: round(v * weights[n], 4) for n, v in evidence.items()},
                rival=rank > own,
            )
        )
    return found


def _entity_ranks(pool: doors.Pool, column: int) -> dict[int, int]:
    """Return entity number → place by one number alone; equal names share a place."""
    places: dict[int, int] = {}
    for k in np.argsort(-pool.features_KF[:, column], kind="stable").tolist():
        place = len(places) + 1
        for entity in pool.texts[k].holders:
            places.setdefault(entity, place)
    return places
