"""Search entities or passages, by vectors alone or by vectors and trigrams together.

Axes: Q queries, K names of all queries, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from mirror_rt.errors import ConfigError
from mirror_rt.knowledge.formats.passages import passage_of
from mirror_rt.knowledge.linking.linker import batches_ahead, check_strings
from mirror_rt.knowledge.linking.resources import LinkResources
from mirror_rt.knowledge.ranking.rank import best_names
from mirror_rt.knowledge.ranking.ties import find_ties
from mirror_rt.knowledge.retrieval.filters import FilterMask, filtered_search
from mirror_rt.knowledge.retrieval.vector_index import exact_scores
from mirror_rt.knowledge.text.normalize import normalize
from mirror_rt.types import Candidate, MatchType, NilReason, SearchResult

if TYPE_CHECKING:
    from mirror_rt.knowledge.linking.resources import Encode
    from mirror_rt.knowledge.retrieval.filters import Filters
    from mirror_rt.types import Float32

__all__ = ["search"]

_DEPTH = 100
"""The minimum number of rows from each retriever in a hybrid search."""
_ALPHA = 0.8
"""The weight of the vectors in the score of a hybrid search; see docs/experiments.md."""


def search(
    resources: LinkResources,
    queries: Sequence[str],
    encode: Encode,
    *,
    top: int,
    hybrid: bool,
    passages: bool,
    filters: Filters | None,
) -> list[SearchResult]:
    """Find entities or passages; see ``KnowledgeBase.search``.

    A hybrid search ranks by ``0.8 × dense + 0.2 × lexical``. Each retriever finds its nearest
    names, and both cosines are computed for all of them. An entity has the score of its best name.

    Raises:
        ConfigError: ``top`` is not positive, or no entity meets the filters.
        InputError: A query is not valid text.
    """
    if top < 1:
        raise ConfigError(f"top: must be at least 1, got {top}")
    check_strings(queries)
    mask = resources.masks.get(filters)
    found: dict[str, tuple[Candidate, ...]] = {}
    distinct = [text for text in dict.fromkeys(queries) if normalize(text)]
    stripped = [text.strip() for text in distinct]
    for start, texts, vectors_QD in batches_ahead(stripped, encode):
        some = distinct[start : start + len(texts)]
        hits = _search_batch(resources, texts, vectors_QD, top=top, hybrid=hybrid, mask=mask)
        found.update(zip(some, hits, strict=True))
    if passages:
        found = {t: tuple(_with_passage(resources, c) for c in cs) for t, cs in found.items()}
    return [
        SearchResult(query=text, candidates=found.get(text, ()), nil_reason=_nil_reason(text))
        for text in queries
    ]


def _nil_reason(text: str) -> NilReason | None:
    if normalize(text):
        return None
    return NilReason.PUNCTUATION if text.strip() else NilReason.EMPTY


def _with_passage(resources: LinkResources, candidate: Candidate) -> Candidate:
    catalogue = resources.catalogue
    passage = passage_of(catalogue.entity(catalogue.resolve(candidate.entity_id)[0]))
    return replace(candidate, passage=passage, entity_name=passage.title)


def _search_batch(
    resources: LinkResources,
    texts: Sequence[str],
    vectors_QD: Float32,
    *,
    top: int,
    hybrid: bool,
    mask: FilterMask | None,
) -> list[tuple[Candidate, ...]]:
    most = len(resources.names) if mask is None else len(mask.rows_R)
    width = max(_DEPTH, 4 * top) if hybrid else 4 * top + 16
    found: list[tuple[Candidate, ...]] = [()] * len(texts)
    short = list(range(len(texts)))
    while short:
        some = [texts[i] for i in short]
        hits = _hits(
            resources, some, vectors_QD[short], width=width, hybrid=hybrid, mask=mask, top=top
        )
        for i, candidates in zip(short, hits, strict=True):
            found[i] = candidates
        # An entity with many names may fill the list alone; then search for more names.
        short = [i for i in short if len(found[i]) < top] if width < most else []
        width = min(4 * width, most)
    return found


def _hits(
    resources: LinkResources,
    texts: Sequence[str],
    vectors_QD: Float32,
    *,
    width: int,
    hybrid: bool,
    mask: FilterMask | None,
    top: int,
) -> list[tuple[Candidate, ...]]:
    """Return the best ``top`` entities among the ``width`` nearest names of each query."""
    names, retrievers = resources.names, resources.retrievers
    dense = filtered_search(retrievers.vectors, vectors_QD, top=width, mask=mask)
    if hybrid:
        trigrams = retrievers.trigrams.analyze([normalize(text) for text in texts])
        lexical = retrievers.trigrams.search(
            trigrams, top=width, mask_N=None if mask is None else mask.mask_N
        )
        rows = [
            np.union1d(near[near >= 0], similar)
            for near, (similar, _) in zip(dense.rows_QK, lexical, strict=True)
        ]
        from_dense_K = np.concatenate(
            [
                np.isin(query_rows, near)
                for query_rows, near in zip(rows, dense.rows_QK, strict=True)
            ]
        )
    else:
        rows = [near[near >= 0] for near in dense.rows_QK]
        from_dense_K = np.ones(sum(map(len, rows)), dtype=bool)
    row_K = np.concatenate(rows)
    query_K = np.repeat(np.arange(len(rows)), [len(query_rows) for query_rows in rows])
    dense_K = np.minimum(
        exact_scores(retrievers.vectors.vectors_ND, vectors_QD, query_K, row_K), np.float32(1.0)
    )
    lexical_K = retrievers.trigrams.cosines(trigrams, query_K, row_K) if hybrid else None
    score_K = dense_K if lexical_K is None else _ALPHA * dense_K + (1 - _ALPHA) * lexical_K
    sizes_K, entity_P, _ = names.entities_of(row_K)
    name_P = np.repeat(np.arange(len(row_K)), sizes_K)
    if mask is not None:
        allowed = mask.allows(entity_P)
        name_P, entity_P = name_P[allowed], entity_P[allowed]
    offsets, pair_E = best_names(query_K[name_P], entity_P, score_K[name_P], mentions=len(rows))
    place_E, entity_E = name_P[pair_E], entity_P[pair_E].tolist()
    _, tied_E = find_ties(offsets, names.hashes[row_K[place_E]], score_K[place_E])
    kept = [range(offsets[i], min(offsets[i] + top, offsets[i + 1])) for i in range(len(rows))]
    strings = resources.catalogue.texts_of(int(row_K[place_E[e]]) for r in kept for e in r)
    headings = resources.catalogue.ids_and_names(entity_E[e] for r in kept for e in r)

    def candidate(e: int) -> Candidate:
        k, (id_, name) = place_E[e], headings[entity_E[e]]
        return Candidate(
            entity_id=id_,
            entity_name=name,
            matched_name=strings[int(row_K[k])],
            match_type=MatchType.DENSE if from_dense_K[k] else MatchType.LEXICAL,
            score=float(score_K[k]),
            tied=bool(tied_E[e]),
            dense_score=None if lexical_K is None else float(dense_K[k]),
            lexical_score=None if lexical_K is None else float(lexical_K[k]),
        )

    return [tuple(map(candidate, entities)) for entities in kept]
