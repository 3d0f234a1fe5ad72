"""Score the answer for a mention against its right ids."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from mirror_rt.evaluation.linking import DEPTH, Best, Rank, composite_rank
from mirror_rt.types import Candidate, LinkResult

__all__ = ["ScoredAnswer", "score_answer"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredAnswer:
    """The score of an answer.

    Attributes:
        rank: The rank of the first right candidate; None if none is right.
        best: The first candidate.
        hit: Whether the most probable candidate, or one tied with it, is right.
        confidence: The probability of the most probable candidate and those tied with it.
        tied: Whether other candidates tie with it, and no context decides.
    """

    rank: Rank
    best: Best | None
    hit: bool
    confidence: float
    tied: bool


def score_answer(answer: LinkResult, right: frozenset[str]) -> ScoredAnswer:
    """Score one answer; if the mention was split, each part must be right."""
    groups: dict[str, list[Candidate]] = {}
    for candidate in answer:
        groups.setdefault(candidate.expanded_form, []).append(candidate)
    if not groups or (answer.nil_reason is not None and answer):
        # A part that links to nothing is wrong.
        best = _as_best(answer[0]) if answer else None
        return ScoredAnswer(rank=None, best=best, hit=False, confidence=0.0, tied=False)
    bests = [_best_of(group) for group in groups.values()]
    ties = [g[0].tied and g[0].context_score is None for g in groups.values()]
    return ScoredAnswer(
        rank=composite_rank([_place(group, right) for group in groups.values()]),
        best=_as_best(answer[0]),
        hit=all(
            any(c.entity_id in right for c in (best if tied else group[:1]))
            for group, best, tied in zip(groups.values(), bests, ties, strict=True)
        ),
        confidence=min(min(sum(c.probability or 0.0 for c in best), 1.0) for best in bests),
        tied=any(ties),
    )


def _best_of(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Return the most probable candidate and those tied with it, even after a reordering."""
    most = max(candidates, key=lambda c: c.probability or 0.0)
    if not most.tied:
        return [most]
    least = most.probability or 0.0
    return [
        c for c in candidates if c.tied and math.isclose(c.probability or 0.0, least, rel_tol=1e-6)
    ]


def _as_best(candidate: Candidate) -> Best:
    return Best(
        entity_id=candidate.entity_id,
        entity_name=candidate.entity_name,
        matched_name=candidate.matched_name,
        match_type=candidate.match_type.value,
        score=candidate.score,
        probability=candidate.probability,
    )


def _place(candidates: Sequence[Candidate], ids: frozenset[str]) -> Rank:
    places = (place for place, c in enumerate(candidates, start=1) if c.entity_id in ids)
    return next((place for place in places if place <= DEPTH), None)
