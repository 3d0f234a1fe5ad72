"""Score entity linking by exact search over every name.

Axes: Q queries (of a block), U distinct texts, R name rows, G groups (entities or names), D width.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from mirror_rt.errors import InputError
from mirror_rt.evaluation.gold import Convention, Query
from mirror_rt.evaluation.metrics import finite
from mirror_rt.knowledge.text.normalize import normalize
from mirror_rt.types import Embedder, Entity

if TYPE_CHECKING:
    from mirror_rt.types import Float32, Int64

__all__ = [
    "DEPTH",
    "Best",
    "LinkingScore",
    "NameTable",
    "Rank",
    "composite_rank",
    "exact_answers",
    "linking_score",
    "metrics_of",
    "query_answers",
    "unseen",
]

DEPTH = 64
"""The number of candidates that count. A right one below that is a miss in every metric."""

Rank: TypeAlias = int | None
"""Rank of the first right candidate, from 1; None if there is none among the first DEPTH."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Best:
    """The best candidate for a mention.

    Attributes:
        entity_id: The id.
        entity_name: The preferred name, or the first one.
        matched_name: The name that matched.
        match_type: How it matched; empty if unknown.
        score: Cosine of the mention and this name; None without vectors.
        probability: The probability that it is right; None if it is not computed.
    """

    entity_id: str
    entity_name: str
    matched_name: str
    match_type: str = ""
    score: float | None = None
    probability: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkingScore:
    """The scores of a linker over all queries, each in [0, 1].

    Attributes:
        queries: The number of mentions.
        unreachable: How many of them have no right id in the knowledge base; they count as wrong.
        accuracy_1: Share with a right candidate at rank 1.
        accuracy_5: Share with a right candidate among the first five.
        recall_20: Share with a right candidate among the first twenty.
        recall_64: Share with a right candidate among the first 64.
        mrr: Mean reciprocal rank; a right candidate below the 64th gives 0.
    """

    queries: int
    unreachable: int
    accuracy_1: float
    accuracy_5: float
    recall_20: float
    recall_64: float
    mrr: float

    def to_dict(self) -> dict[str, float]:
        """Return the scores under their usual names."""
        return {
            "acc@1": self.accuracy_1,
            "acc@5": self.accuracy_5,
            "recall@20": self.recall_20,
            "recall@64": self.recall_64,
            "mrr": self.mrr,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class NameTable:
    """The names of a knowledge base, arranged for ranking.

    Attributes:
        texts: The U distinct texts.
        text_R: (R,) int64, the text of each row.
        starts_G: (G,) int64, the first row of each group; the rows of a group are consecutive.
        ids_G: The ids of each group.
    """

    texts: tuple[str, ...]
    text_R: Int64
    starts_G: Int64
    ids_G: tuple[frozenset[str], ...]

    @classmethod
    def of(cls, entities: Iterable[Entity], convention: Convention) -> NameTable:
        """Group names by entity (``ENTITY``) or leave each name its own group (``BIOSYN``).

        Pieces with equal id and equal alternative ids are one entity. A dictionary writes a
        homonym as ``A|B||name``: such a row is right for A and for B, yet it does not make
        every name of A right for B.

        Raises:
            InputError: There are no entities.
        """
        groups: dict[object, list[str]] = {}
        ids: list[frozenset[str]] = []
        for entity in entities:
            own = frozenset({entity.id, *entity.alternative_ids})
            for name in entity.names:
                match convention:
                    case Convention.ENTITY:
                        key: object = (entity.id, own)
                    case Convention.BIOSYN:
                        key = len(groups)
                if key not in groups:
                    groups[key] = []
                    ids.append(own)
                groups[key].append(name.text)
        if not groups:
            raise InputError("knowledge base: no names to link to")
        place = {t: i for i, t in enumerate(dict.fromkeys(t for g in groups.values() for t in g))}
        sizes = [len(group) for group in groups.values()]
        return cls(
            texts=tuple(place),
            text_R=np.array([place[t] for group in groups.values() for t in group], np.int64),
            starts_G=np.cumsum([0, *sizes[:-1]], dtype=np.int64),
            ids_G=tuple(ids),
        )

    def best(self, scores_U: Float32, group: int) -> Best:
        """Return a group as a candidate, with its best text."""
        texts = self._texts_of(group)
        text = int(texts[np.argmax(scores_U[texts])])
        return self.candidate(group, text, score=float(scores_U[text]))

    def candidate(self, group: int, text: int, *, score: float | None = None) -> Best:
        """Return a group as a candidate, with a given text as the match."""
        return Best(
            entity_id="|".join(sorted(self.ids_G[group])),
            entity_name=self.texts[int(self._texts_of(group)[0])],
            matched_name=self.texts[text],
            score=score,
        )

    def _texts_of(self, group: int) -> Int64:
        end = self.starts_G[group + 1] if group + 1 < len(self.starts_G) else len(self.text_R)
        return self.text_R[self.starts_G[group] : end]

    def right_groups(self, queries: Sequence[Query]) -> list[Int64]:
        """Return the ascending numbers of the groups that are right for each query."""
        where: dict[str, list[int]] = {}
        for group, ids in enumerate(self.ids_G):
            for entity_id in ids:
                where.setdefault(entity_id, []).append(group)
        return [
            np.array(sorted({g for i in query.ids for g in where.get(i, ())}), np.int64)
            for query in queries
        ]


def query_answers(
    embedder: Embedder,
    table: NameTable,
    queries: Sequence[Query],
    *,
    names_UD: Float32 | None = None,
    block: int = 64,
) -> list[tuple[Rank, Best]]:
    """Rank every group for every query by its best name's cosine; exact, in blocks of queries.

    Equal scores keep the order of the knowledge base. A composite query has the rank of its
    worst part, and the best candidate of the first.

    Args:
        embedder: Gives unit rows.
        table: The names.
        queries: The mentions.
        names_UD: (U, D) float32, the vectors of ``table.texts``, if they are known.
        block: How many mentions to score together; memory grows with block × names.

    Raises:
        ModelError: A vector is not finite.
    """
    names_UD = finite(embedder.encode(table.texts) if names_UD is None else names_UD)
    parts = list(dict.fromkeys(part for query in queries for part in query.parts))
    parts_QD = finite(embedder.encode(parts))
    row_of = {part: row for row, part in enumerate(parts)}
    ranked: dict[tuple[int, frozenset[str]], tuple[Rank, Best]] = {}
    right = dict(zip((q.ids for q in queries), table.right_groups(queries), strict=True))
    wanted = sorted(
        {(row_of[part], query.ids) for query in queries for part in query.parts},
        key=lambda pair: pair[0],
    )
    for start in range(0, len(wanted), block):
        pairs = wanted[start : start + block]
        scores_QU = parts_QD[[row for row, _ in pairs]] @ names_UD.T
        scores_QG = np.maximum.reduceat(scores_QU[:, table.text_R], table.starts_G, axis=1)
        for scores_U, scores_G, pair in zip(scores_QU, scores_QG, pairs, strict=True):
            best = table.best(scores_U, int(np.argmax(scores_G)))
            ranked[pair] = _rank(scores_G, right[pair[1]]), best
    answers = [[ranked[row_of[p], query.ids] for p in query.parts] for query in queries]
    return [(composite_rank([rank for rank, _ in found]), found[0][1]) for found in answers]


def _rank(scores_G: Float32, right: Int64) -> Rank:
    if not right.size:
        return None
    first = right[np.argmax(scores_G[right])]
    best = scores_G[first]
    rank = 1 + int((scores_G > best).sum()) + int((scores_G[:first] == best).sum())
    return rank if rank <= DEPTH else None


def composite_rank(ranks: Sequence[Rank]) -> Rank:
    """Return the rank of a composite mention: its worst part's, or None if a part has none."""
    known = [rank for rank in ranks if rank is not None]
    return max(known) if len(known) == len(ranks) else None


def exact_answers(table: NameTable, queries: Sequence[Query]) -> list[tuple[Rank, Best | None]]:
    """Rank by equality of normalized names alone (``baseline:exact``)."""
    sizes = np.diff([*table.starts_G.tolist(), len(table.text_R)])
    groups: dict[str, dict[int, int]] = {}
    for text, group in zip(table.text_R, np.repeat(np.arange(len(sizes)), sizes), strict=True):
        groups.setdefault(normalize(table.texts[text]), {}).setdefault(int(group), int(text))

    def place(part: str, ids: frozenset[str]) -> Rank:
        found = enumerate(groups.get(normalize(part), ()), start=1)
        return next((i for i, group in found if table.ids_G[group] & ids), None)

    def best(part: str) -> Best | None:
        first = next(iter(groups.get(normalize(part), {}).items()), None)
        return None if first is None else table.candidate(*first)

    return [
        (composite_rank([place(part, query.ids) for part in query.parts]), best(query.parts[0]))
        for query in queries
    ]


def unseen(table: NameTable, queries: Sequence[Query]) -> list[int]:
    """Return the numbers of the queries with a part that is not a name.

    This is the refined subset: an exact match cannot solve it.
    """
    known = {normalize(text) for text in table.texts}
    return [
        i
        for i, query in enumerate(queries)
        if any(normalize(part) not in known for part in query.parts)
    ]


def metrics_of(rank: Rank) -> dict[str, float]:
    """Return the value of one mention in each metric of ``LinkingScore.to_dict``."""
    place = DEPTH + 1 if rank is None else rank
    within = {"acc@1": 1, "acc@5": 5, "recall@20": 20, f"recall@{DEPTH}": DEPTH}
    shares = {name: float(place <= top) for name, top in within.items()}
    return {**shares, "mrr": 0.0 if rank is None else 1.0 / rank}


def linking_score(ranks: Sequence[Rank], *, unreachable: int = 0) -> LinkingScore:
    """Turn ranks into scores.

    Raises:
        InputError: There are no ranks.
    """
    if not ranks:
        raise InputError("linking: no queries to score")

    def share(top: int) -> float:
        return sum(rank is not None and rank <= top for rank in ranks) / len(ranks)

    return LinkingScore(
        queries=len(ranks),
        unreachable=unreachable,
        accuracy_1=share(1),
        accuracy_5=share(5),
        recall_20=share(20),
        recall_64=share(DEPTH),
        mrr=sum(1.0 / rank for rank in ranks if rank is not None) / len(ranks),
    )
