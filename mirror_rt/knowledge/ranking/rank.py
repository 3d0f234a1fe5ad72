"""Rank entities: score their names, keep the best name of each, find ties, sort.

Axes: Q mentions, P pairs of candidate name and entity, E entities of all mentions, one mention
after another, best first, F features.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mirror_rt.knowledge.arrays import offsets_of
from mirror_rt.knowledge.entities.names import NameArrays
from mirror_rt.knowledge.ranking.features import FEATURES
from mirror_rt.knowledge.ranking.name_probability import exact_match_features
from mirror_rt.knowledge.ranking.reranker import Reranker, name_similarity
from mirror_rt.knowledge.ranking.ties import find_ties
from mirror_rt.knowledge.retrieval.candidates import CandidateBatch

if TYPE_CHECKING:
    import numpy.typing as npt

    from mirror_rt.types import Float32, Int64

    Float64 = npt.NDArray[np.float64]
    Bools = npt.NDArray[np.bool_]

__all__ = ["RankedBatch", "best_names", "rank_entities"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RankedBatch:
    """The entities of each mention, best first; those tied with the best come next to it.

    Attributes:
        offsets: (Q + 1,) int64 offsets of the mentions' entities.
        entity_E: (E,) int64 numbers of the entities.
        pair_E: (E,) int64 position in P of the entity's best name.
        row_E: (E,) int64 row of that name.
        cosine_E: (E,) float32 cosine of the mention's and the name's vectors.
        from_dense_E: (E,) bool, whether the dense retriever found the name.
        probability_E: (E,) float64 probability.
        best_E: (E,) bool, the first entity of its mention or tied with it.
        tied_E: (E,) bool, whether another entity matches equally well.
    """

    offsets: Int64
    entity_E: Int64
    pair_E: Int64
    row_E: Int64
    cosine_E: Float32
    from_dense_E: Bools
    probability_E: Float64
    best_E: Bools
    tied_E: Bools


def best_names(
    mention_P: Int64, entity_P: npt.NDArray[Any], scores_P: npt.NDArray[Any], *, mentions: int
) -> tuple[Int64, Int64]:
    """Keep the pair with the best name of each entity.

    Args:
        mention_P: (P,) int64 number of the mention, ascending.
        entity_P: (P,) int64 number of the entity.
        scores_P: (P,) floats.
        mentions: Q.

    Returns:
        (Q + 1,) int64 offsets and (E,) int64 positions in P, best first within a mention; of
        equal scores, the first.
    """
    # A stable sort: the first pair of an entity in this order is its best name.
    order = np.lexsort((-scores_P, entity_P, mention_P))
    mention, entity = mention_P[order], entity_P[order]
    first = np.ones(len(order), dtype=bool)
    first[1:] = (mention[1:] != mention[:-1]) | (entity[1:] != entity[:-1])
    places = order[first]
    places = places[np.lexsort((places, -scores_P[places], mention[first]))]
    return offsets_of(np.bincount(mention_P[places], minlength=mentions)), places


def rank_entities(
    batch: CandidateBatch, features_PF: Float32, reranker: Reranker, names: NameArrays
) -> RankedBatch:
    """Rank the entities of each mention by their best names.

    Args:
        batch: The candidates.
        features_PF: (P, F) float32 features of the candidates.
        reranker: The reranker.
        names: The arrays of names.
    """
    mention_P = batch.mention_K[batch.name_P]
    scores_P = reranker.scores(features_PF)
    offsets, pair_E = best_names(mention_P, batch.entity_P, scores_P, mentions=len(batch))
    row_E = batch.row_K[batch.name_P[pair_E]]
    scores_E = scores_P[pair_E]
    best_E, tied_E = find_ties(offsets, names.hashes[row_E], scores_E)
    cap_E = reranker.probability_cap(
        exact_match_features(names, row_E), name_similarity(features_PF[pair_E])
    )
    probability_E = reranker.probabilities(offsets, scores_E, best_E, cap_E)
    mention_E = np.arange(len(batch)).repeat(offsets[1:] - offsets[:-1])
    order = np.lexsort((~best_E, mention_E))  # entities tied with the best come next to it
    pair_E, row_E = pair_E[order], row_E[order]
    dense = FEATURES.index("dense_cosine")
    return RankedBatch(
        offsets=offsets,
        entity_E=batch.entity_P[pair_E],
        pair_E=pair_E,
        row_E=row_E,
        cosine_E=np.minimum(features_PF[pair_E, dense], np.float32(1.0)),
        from_dense_E=batch.from_dense_K[batch.name_P[pair_E]],
        probability_E=probability_E[order],
        best_E=best_E[order],
        tied_E=tied_E[order],
    )
