"""Explain links: the features of each candidate of a mention, and of the nearest others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from mirror_rt.knowledge.linking.expansion import expand_mentions
from mirror_rt.knowledge.linking.linker import (
    batches_ahead,
    candidates_of,
    link,
)
from mirror_rt.knowledge.linking.proposals import CONSIDERED, ScoredPool, scored_pools
from mirror_rt.knowledge.linking.resources import LinkOptions, LinkResources
from mirror_rt.knowledge.ranking.features import FEATURES
from mirror_rt.knowledge.retrieval.candidates import PER_RETRIEVER
from mirror_rt.knowledge.text.normalize import normalize
from mirror_rt.types import Candidate, LinkStatus, NilReason

if TYPE_CHECKING:
    from mirror_rt.knowledge.linking.resources import Encode
    from mirror_rt.knowledge.retrieval.filters import FilterMask
    from mirror_rt.types import Float32

__all__ = ["CandidateExplanation", "Explanation", "explain"]

_OTHERS = 3
"""The number of further candidates to show."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateExplanation:
    """A candidate and the reasons for its rank.

    Attributes:
        candidate: The candidate.
        rank: The rank, from 1; candidates that were not returned come last.
        returned: Whether ``link`` returns it; others are shown for comparison.
        dense_rank: The entity's rank by the vectors alone, from 1.
        lexical_rank: The entity's rank by the trigrams alone, from 1.
        rank_without_context: The rank without the context.
        features: The features of the matched name; see ``ranking.features``.
        contributions: Each feature times its weight. Their sum is the ranking score. (An exact
            match is not scored.)
    """

    candidate: Candidate
    rank: int
    returned: bool
    dense_rank: int
    lexical_rank: int
    rank_without_context: int
    features: Mapping[str, float]
    contributions: Mapping[str, float]

    def to_dict(self) -> dict[str, object]:
        """Return the fields as ``mirror-rt link --explain`` prints them."""
        reasons = asdict(self)
        del reasons["candidate"]
        return {**self.candidate.to_dict(), **reasons}


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """The candidates of one mention with the reasons for their ranks, and further candidates.

    Attributes:
        mention: The mention as it was given.
        candidates: The candidates.
        nil_reason: Why it links to nothing, as in ``LinkResult``. The further candidates show
            what came nearest.
        status: Whether the mention is linked, for review, or NIL.
    """

    mention: str
    candidates: tuple[CandidateExplanation, ...]
    nil_reason: NilReason | None = None
    status: LinkStatus = LinkStatus.LINKED

    def to_dict(self) -> dict[str, object]:
        """Return the explanation as ``mirror-rt link --explain`` prints it in JSON."""
        record: dict[str, object] = {
            "mention": self.mention,
            "status": self.status.value,
            "candidates": [candidate.to_dict() for candidate in self.candidates],
        }
        if self.nil_reason is not None:
            record["nil_reason"] = self.nil_reason.value
        return record


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """A part of a mention to explain: its candidates with and without a context."""

    mention: int
    text: str
    returned: Sequence[Candidate]
    without_context: Sequence[Candidate]


def explain(
    resources: LinkResources,
    mentions: Sequence[str],
    encode: Encode,
    options: LinkOptions,
    *,
    document: str | Sequence[str] | None = None,
    contexts: Sequence[str] | None = None,
) -> list[Explanation]:
    """Link mentions and explain the results; see ``KnowledgeBase.explain``."""
    linked = link(resources, mentions, encode, options, document=document, contexts=contexts)
    before = linked
    if contexts is not None:
        wider = replace(options, top=max(options.top, CONSIDERED))
        before = link(resources, mentions, encode, wider, document=document)
    expanded = expand_mentions(
        resources,
        mentions,
        document=document,
        split_composites=options.split_composites,
        mask=resources.masks.get(options.filters),
    )
    parts: list[_Part] = []
    for i, (mention, texts) in enumerate(zip(mentions, expanded, strict=True)):
        for text in texts:
            returned, plain = (
                [c for c in found[i] if (c.expanded_form or mention) == text]
                if len(texts) > 1
                else list(found[i])
                for found in (linked, before)
            )
            if returned or normalize(text):
                parts.append(_Part(mention=i, text=text, returned=returned, without_context=plain))
    explained: list[list[CandidateExplanation]] = [[] for _ in mentions]
    mask = resources.masks.get(options.filters)
    batches = batches_ahead([part.text.strip() for part in parts], encode)
    for start, stripped, vectors_QD in batches:
        some = parts[start : start + len(stripped)]
        for places, pool in scored_pools(resources, stripped, vectors_QD, mask=mask):
            for place, i in enumerate(places):
                if i >= 0:
                    vector_1D = vectors_QD[i : i + 1]
                    explained[some[i].mention] += _explain_part(
                        resources, some[i], mentions[some[i].mention], pool, place, vector_1D,
                        top=options.top, mask=mask,
                    )  # fmt: skip
    return [
        Explanation(
            mention=mention,
            candidates=tuple(found),
            nil_reason=result.nil_reason,
            status=result.status,
        )
        for mention, found, result in zip(mentions, explained, linked, strict=True)
    ]


def _explain_part(
    resources: LinkResources,
    part: _Part,
    mention: str,
    pool: ScoredPool,
    place: int,
    vector_1D: Float32,
    *,
    top: int,
    mask: FilterMask | None,
) -> list[CandidateExplanation]:
    ids = {candidate.entity_id for candidate in part.returned}
    proposal = pool.proposals(len(part.returned) + top + _OTHERS)[place]
    (nearest,) = candidates_of(resources, [part.text], [proposal])
    form = "" if part.text == mention else part.text
    others = [replace(c, expanded_form=form) for c in nearest if c.entity_id not in ids][:_OTHERS]
    number_of = {
        c.entity_id: resources.catalogue.resolve(c.entity_id)[0] for c in (*part.returned, *others)
    }
    # Candidates from a wider pool have their features in that pool.
    width = PER_RETRIEVER
    while not number_of.keys() <= _known(pool, place, number_of) and width < len(resources.names):
        width = min(4 * width, len(resources.names))
        pool = ScoredPool.of(resources, [part.text.strip()], vector_1D, width=width, mask=mask)
        place = 0
    order = list(
        dict.fromkeys(c.entity_id for c in (*part.without_context, *part.returned, *others))
    )
    return _reasons(resources, pool, place, [*part.returned, *others], number_of, order,
                    returned=len(part.returned))  # fmt: skip


def _known(pool: ScoredPool, place: int, number_of: Mapping[str, int]) -> set[str]:
    ranked = pool.ranked
    inside = set(ranked.entity_E[ranked.offsets[place] : ranked.offsets[place + 1]].tolist())
    return {id_ for id_, number in number_of.items() if number in inside}


def _reasons(
    resources: LinkResources,
    pool: ScoredPool,
    place: int,
    candidates: Sequence[Candidate],
    number_of: Mapping[str, int],
    without_context: Sequence[str],
    *,
    returned: int,
) -> list[CandidateExplanation]:
    batch = pool.batch
    pairs = np.flatnonzero(batch.mention_K[batch.name_P] == place)
    entities, features = batch.entity_P[pairs].tolist(), pool.features_PF[pairs]
    rows = batch.row_K[batch.name_P[pairs]].tolist()
    dense, lexical = (
        _entity_ranks(entities, rows, features[:, FEATURES.index(name)])
        for name in ("dense_cosine", "trigram_cosine")
    )
    strings = resources.catalogue.texts_of(rows)
    place_of = {
        (entity, strings[row]): i
        for i, (entity, row) in reversed(list(enumerate(zip(entities, rows, strict=True))))
    }
    weights = resources.reranker.weights
    found = []
    for rank, candidate in enumerate(candidates, start=1):
        number = number_of[candidate.entity_id]
        i = place_of[number, candidate.matched_name]
        values = dict(zip(FEATURES, features[i].astype(float).tolist(), strict=True))
        found.append(
            CandidateExplanation(
                candidate=candidate,
                rank=rank,
                returned=rank <= returned,
                dense_rank=dense[number],
                lexical_rank=lexical[number],
                rank_without_context=without_context.index(candidate.entity_id) + 1,
                features={n: round(v, 4) for n, v in values.items()},
                contributions={n: round(v * weights[n], 4) for n, v in values.items()},
            )
        )
    return found


def _entity_ranks(entities: Sequence[int], rows: Sequence[int], values: Float32) -> dict[int, int]:
    """Return entity number → rank by one feature; entities with the same name share a rank."""
    ranks: dict[int, int] = {}
    rank, last = 0, -1
    for i in np.argsort(-values, kind="stable").tolist():
        if rows[i] != last:
            rank, last = len(ranks) + 1, rows[i]
        ranks.setdefault(entities[i], rank)
    return ranks
