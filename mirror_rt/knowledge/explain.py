"""Say why: the evidence behind each candidate of a mention, and its nearest rivals."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from mirror_rt.knowledge import answering, doors, linker
from mirror_rt.knowledge.combination import FEATURES
from mirror_rt.knowledge.context import CONSIDERED
from mirror_rt.knowledge.grades import is_loose
from mirror_rt.types import Candidate, Nil

if TYPE_CHECKING:
    from mirror_rt.knowledge.filters import Filters
    from mirror_rt.knowledge.knowledge_base import KnowledgeBase

__all__ = ["Explained", "Explanation", "explain"]

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
        weighed: Each number times its weight; their sum is the score that is compared, but of a
            match by name, which is not weighed.
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


class Explanation(list[Explained]):
    """What is said of one mention: its candidates, then the rivals.

    Attributes:
        reason: Why it links to nothing, as in ``Answer``; the rivals show what came nearest.
    """

    __slots__ = ("reason",)

    def __init__(self, explained: Iterable[Explained] = (), *, reason: Nil | None = None) -> None:
        super().__init__(explained)
        self.reason = reason


def explain(
    kb: KnowledgeBase,
    mentions: Sequence[str],
    *,
    top: int = 5,
    precision: float | None = None,
    min_probability: float = 0.0,
    types: Sequence[str] = (),
    filters: Filters | None = None,
    document: str | Sequence[str] | None = None,
    composites: bool = False,
    contexts: Sequence[str] | None = None,
) -> list[Explanation]:
    """Link mentions as ``KnowledgeBase.link`` does and say why.

    The model is asked for every mention, also for those that are names. The parts of a
    composite are explained one after another, each with ranks and rivals of its own, also those
    that link to nothing.

    Arguments and errors are those of ``KnowledgeBase.link``.
    """
    link = partial(
        kb.link,
        mentions,
        precision=precision,
        min_probability=min_probability,
        types=types,
        filters=filters,
        document=document,
        composites=composites,
    )
    linked = link(top=top, contexts=contexts)
    before = linked if contexts is None else link(top=max(top, CONSIDERED))
    allowed = kb.allowed(types=types, filters=filters)
    results = [Explanation(reason=found.reason) for found in linked]
    readings = answering.read_mentions(kb, mentions, document=document, composites=composites)
    asked: list[tuple[int, str, list[Candidate], list[Candidate]]] = []
    for i, (mention, parts) in enumerate(zip(mentions, readings, strict=True)):
        for text in parts:
            mine, plain = (
                [c for c in found[i] if (c.read_as or mention) == text]
                for found in (linked, before)
            )
            if mine or linker.has_content(text):
                asked.append((i, text, mine, plain))
    if not asked:
        return results
    texts = [text.strip() for _, text, _, _ in asked]
    gathered = answering.gathered(kb, texts, allowed=allowed)
    for (i, text, mine, plain), (_, vector_1D, pool) in zip(asked, gathered, strict=True):
        wanted = len(mine) + top + _RIVALS
        rivals = linker.judge(text, pool, kb.catalogue, kb.combination, top=wanted, allowed=allowed)
        # What link appended from a wider pool has its evidence there.
        for wide in answering.widening(kb, text, vector_1D, pool, allowed=allowed):
            pool = wide
            if {c.matched for c in mine} <= {row.text for row in pool.texts}:
                break
        shown = {c.entity_id for c in mine}
        read_as = "" if text == mentions[i] else text
        more = [replace(c, read_as=read_as) for c in rivals if c.entity_id not in shown][:_RIVALS]
        order = [*dict.fromkeys(c.entity_id for c in (*plain, *mine, *more))]
        results[i] += _reasons(kb, pool, [*mine, *more], order, own=len(mine))
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
    place_of = {text.text: k for k, text in enumerate(pool.texts)}
    found = []
    for rank, candidate in enumerate(candidates, start=1):
        place = place_of[candidate.matched]
        (number, *_) = kb.catalogue.resolve(candidate.entity_id)
        values = pool.features_KF[place].astype(float).tolist()
        values[-1] = float(is_loose(pool.texts[place].holders[number]))
        evidence = dict(zip(FEATURES, values, strict=True))
        found.append(
            Explained(
                candidate=candidate,
                rank=rank,
                rank_by_vectors=by_vectors[number],
                rank_by_letters=by_letters[number],
                rank_without_context=without_context.index(candidate.entity_id) + 1,
                evidence={n: round(v, 4) for n, v in evidence.items()},
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
