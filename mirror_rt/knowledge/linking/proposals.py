"""Proposals: the entities for each text of a batch, best first.

Axes: Q texts, K rows that the dense retriever finds, P pairs of candidate name and entity, E
entities of all texts, one text after another, F features, R allowed rows, D width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from mirror_rt.knowledge.linking.resources import LinkResources
from mirror_rt.knowledge.ranking.features import FeatureInputs, compute_features
from mirror_rt.knowledge.ranking.rank import RankedBatch, rank_entities
from mirror_rt.knowledge.retrieval.candidates import (
    PER_RETRIEVER,
    CandidateBatch,
    LexicalMatches,
    generate_candidates,
)
from mirror_rt.knowledge.retrieval.filters import FilterMask, filtered_search
from mirror_rt.types import MatchType

if TYPE_CHECKING:
    from mirror_rt.types import Float32, Int64

__all__ = [
    "AT_ONCE",
    "CONSIDERED",
    "Proposal",
    "ScoredPool",
    "dense_rows",
    "propose",
    "scored_pools",
]

CONSIDERED = 5
"""The minimum number of entities in a pool, for a context to choose from. The confidence in the
best entity depends on the others, so the pool is the same for every ``top``."""
AT_ONCE = 128
"""Texts whose candidates are scored together: their arrays fit the cache of a core."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """Entities proposed for one text, best first.

    Attributes:
        entities: The entity numbers.
        rows: The row of the matched name of each entity.
        kinds: The kind of that name for the entity: a position in ``names.KINDS``.
        matched_names: The matched name, if it was looked up already.
        scores: Cosine of the text and the matched name; 1.0 for exact matches.
        probabilities: The probability of each entity.
        match_types: How the name matches. Before the look-up of names, it is ``DENSE`` or
            ``LEXICAL``, by the retriever.
        best: Whether each entity is the first or tied with it.
        tied: Whether another entity matches equally well.
        context_scores: Cosine of the context and each entity; None if it was not compared.
        exact: Whether the text is an exact match of these entities.
    """

    entities: Sequence[int] = ()
    rows: Sequence[int] = ()
    kinds: Sequence[int] = ()
    matched_names: Sequence[str] = ()
    scores: Sequence[float] = ()
    probabilities: Sequence[float] = ()
    match_types: Sequence[MatchType] = ()
    best: Sequence[bool] = ()
    tied: Sequence[bool] = ()
    context_scores: Sequence[float | None] = field(default=())
    exact: bool = False

    def __len__(self) -> int:
        return len(self.entities)

    @property
    def confidence(self) -> float:
        """The probability that the best entity, or one tied with it, is right."""
        return min(
            sum(p for p, best in zip(self.probabilities, self.best, strict=True) if best), 1.0
        )

    def chosen(self, places: Sequence[int]) -> Proposal:
        """Return the entities at some positions, in this order."""

        def at(values: Sequence[object]) -> list[object]:
            return [values[i] for i in places]

        scores = self.context_scores or [None] * len(self.entities)
        return Proposal(
            entities=at(self.entities),  # type: ignore[arg-type]
            rows=at(self.rows),  # type: ignore[arg-type]
            kinds=at(self.kinds) if self.kinds else (),  # type: ignore[arg-type]
            matched_names=at(self.matched_names) if self.matched_names else (),  # type: ignore[arg-type]
            scores=at(self.scores),  # type: ignore[arg-type]
            probabilities=at(self.probabilities),  # type: ignore[arg-type]
            match_types=at(self.match_types),  # type: ignore[arg-type]
            best=at(self.best),  # type: ignore[arg-type]
            tied=at(self.tied),  # type: ignore[arg-type]
            context_scores=at(scores),  # type: ignore[arg-type]
            exact=self.exact,
        )

    def top(self, count: int) -> Proposal:
        """Return the first ``count`` entities, and all others that are tied with the best."""
        places = [i for i in range(len(self)) if i < count or self.best[i]]
        return self if len(places) == len(self) else self.chosen(places)


def dense_rows(resources: LinkResources, vectors_QD: Float32, *, mask: FilterMask | None) -> Int64:
    """Return the (Q, K) int64 rows that the dense retriever finds for a batch."""
    vectors = resources.retrievers.vectors
    return filtered_search(vectors, vectors_QD, top=PER_RETRIEVER, mask=mask).rows_QK


def propose(
    resources: LinkResources,
    texts: Sequence[str],
    vectors_QD: Float32,
    dense_QK: Int64,
    *,
    top: int,
    mask: FilterMask | None,
    lexical: LexicalMatches | None = None,
) -> list[Proposal]:
    """Propose entities for texts without exact match.

    Args:
        resources: The knowledge base.
        texts: Q texts.
        vectors_QD: (Q, D) float32 unit rows, the vectors of the texts.
        dense_QK: (Q, K) int64 nearest rows, from ``dense_rows``.
        top: The maximum number of entities for each text; those tied with the best are added.
        mask: The allowed entities; None for all.
        lexical: The results of the other retrievers, if they were called already; for at most
            ``AT_ONCE`` texts.
    """
    found = [Proposal()] * len(texts)
    for start in range(0, len(texts), AT_ONCE):
        part = slice(start, start + AT_ONCE)
        for places, pool in scored_pools(
            resources,
            texts[part],
            vectors_QD[part],
            dense_QK=dense_QK[part],
            lexical=lexical,
            mask=mask,
        ):
            for i, proposal in zip(places, pool.proposals(top), strict=True):
                if i >= 0:
                    found[start + i] = proposal
    short = [i for i, proposal in enumerate(found) if len(proposal) < top]
    if short:
        _extend(resources, texts, vectors_QD, found, short, top=top, mask=mask)
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredPool:
    """Candidates of some texts, their features, and the ranked entities."""

    batch: CandidateBatch
    features_PF: Float32
    ranked: RankedBatch

    @classmethod
    def of(
        cls,
        resources: LinkResources,
        texts: Sequence[str],
        vectors_QD: Float32,
        *,
        width: int,
        dense_QK: Int64 | None = None,
        lexical: LexicalMatches | None = None,
        mask: FilterMask | None,
    ) -> ScoredPool:
        """Generate ``width`` candidates per retriever, and rank their entities."""
        batch = generate_candidates(
            texts,
            vectors_QD,
            resources.retrievers,
            width=width,
            dense_QK=dense_QK,
            lexical=lexical,
            mask=mask,
        )
        inputs = FeatureInputs(batch, resources.retrievers, resources.translation)
        features_PF = compute_features(inputs)
        ranked = rank_entities(batch, features_PF, resources.reranker, resources.names)
        return cls(batch=batch, features_PF=features_PF, ranked=ranked)

    def proposals(self, top: int) -> list[Proposal]:
        """Return the best ``top`` entities of each text, and all others tied with the best."""
        ranked = self.ranked
        sizes = ranked.offsets[1:] - ranked.offsets[:-1]
        place_E = np.arange(len(ranked.entity_E)) - ranked.offsets[:-1].repeat(sizes)
        kept = ((place_E < top) | ranked.best_E).nonzero()[0]
        bounds = kept.searchsorted(ranked.offsets).tolist()
        columns = [
            values[kept].tolist()
            for values in (
                ranked.entity_E, ranked.row_E, self.batch.kind_P[ranked.pair_E], ranked.cosine_E,
                ranked.probability_E, ranked.best_E, ranked.tied_E,
            )
        ]  # fmt: skip
        types = [
            MatchType.DENSE if dense else MatchType.LEXICAL
            for dense in ranked.from_dense_E[kept].tolist()
        ]
        found = []
        for first, last in pairwise(bounds):
            entities, rows, kinds, scores, probabilities, best, tied = (
                column[first:last] for column in columns
            )
            found.append(
                Proposal(
                    entities=entities,
                    rows=rows,
                    kinds=kinds,
                    scores=scores,
                    probabilities=probabilities,
                    match_types=types[first:last],
                    best=best,
                    tied=tied,
                )
            )
        return found


def scored_pools(
    resources: LinkResources,
    texts: Sequence[str],
    vectors_QD: Float32,
    *,
    dense_QK: Int64 | None = None,
    lexical: LexicalMatches | None = None,
    mask: FilterMask | None,
) -> Iterator[tuple[Sequence[int], ScoredPool]]:
    """Yield pools with at least ``CONSIDERED`` entities per text, if there are so many.

    An entity with many names may fill a pool alone. Then more names are taken for this text.

    Yields:
        The position of each text of a pool, or -1 if a wider pool for it follows; and the pool.
    """
    available, most = _available(resources, mask)
    width, places = PER_RETRIEVER, np.arange(len(texts))
    while len(places):
        pool = ScoredPool.of(
            resources,
            [texts[i] for i in places.tolist()],
            vectors_QD[places],
            width=width,
            dense_QK=dense_QK if width == PER_RETRIEVER else None,
            lexical=lexical if width == PER_RETRIEVER else None,
            mask=mask,
        )
        enough = np.diff(pool.ranked.offsets) >= min(CONSIDERED, available)
        if enough.all() or width >= most:
            yield places.tolist(), pool
            return
        yield (
            [i if ok else -1 for i, ok in zip(places.tolist(), enough.tolist(), strict=True)],
            pool,
        )
        places, width = places[~enough], min(4 * width, most)


def _available(resources: LinkResources, mask: FilterMask | None) -> tuple[int, int]:
    """Return the numbers of allowed entities and of allowed rows."""
    if mask is None:
        return resources.entities, len(resources.names)
    return int(mask.entities_E.sum()), len(mask.rows_R)


def _extend(
    resources: LinkResources,
    texts: Sequence[str],
    vectors_QD: Float32,
    found: list[Proposal],
    short: list[int],
    *,
    top: int,
    mask: FilterMask | None,
) -> None:
    """Append entities from wider pools until there are ``top``; those found already stay."""
    _, most = _available(resources, mask)
    width = max(PER_RETRIEVER, 2 * top)
    while short:
        pool = ScoredPool.of(
            resources, [texts[i] for i in short], vectors_QD[short], width=width, mask=mask
        )
        still_short = []
        for i, wide in zip(short, pool.proposals(top), strict=True):
            known = set(found[i].entities)
            more = wide.chosen([k for k, e in enumerate(wide.entities) if e not in known])
            if len(found[i]) + len(more) < top and width < most:
                still_short.append(i)
            else:
                found[i] = _appended(found[i], more)
        short, width = still_short, min(4 * width, most)


def _appended(found: Proposal, more: Proposal) -> Proposal:
    # Cap each probability at the lowest so far; together they may not exceed the remaining mass.
    left = max(1.0 - sum(found.probabilities), 0.0) / max(len(more), 1)
    most = min([*found.probabilities, left])
    return Proposal(
        entities=[*found.entities, *more.entities],
        rows=[*found.rows, *more.rows],
        kinds=[*found.kinds, *more.kinds],
        scores=[*found.scores, *more.scores],
        probabilities=[*found.probabilities, *(min(p, most) for p in more.probabilities)],
        match_types=[*found.match_types, *more.match_types],
        best=[*found.best, *([False] * len(more))],
        tied=[*found.tied, *more.tied],
    )
