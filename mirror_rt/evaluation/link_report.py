"""Evaluate one model, or one knowledge base, on gold mentions.

Axes: Q mentions, M metrics.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mirror_rt._count import counted
from mirror_rt.errors import ConfigError, InputError, KnowledgeBaseError
from mirror_rt.evaluation.answer_scores import score_answer
from mirror_rt.evaluation.baselines import CharNgrams, ExactMatch, Model
from mirror_rt.evaluation.gold import Convention, Gold, Query
from mirror_rt.evaluation.intervals import bootstrap_intervals
from mirror_rt.evaluation.linking import (
    DEPTH,
    Best,
    NameTable,
    Rank,
    composite_rank,
    exact_answers,
    linking_score,
    metrics_of,
    query_answers,
    unseen,
)
from mirror_rt.evaluation.result import Report, Result
from mirror_rt.knowledge import KnowledgeBase
from mirror_rt.knowledge.entities.hierarchy import Kinship, kinship
from mirror_rt.knowledge.formats import read_entities
from mirror_rt.knowledge.linking.exact import is_name
from mirror_rt.knowledge.linking.linker import link
from mirror_rt.knowledge.linking.resources import LinkOptions, LinkResources
from mirror_rt.knowledge.ranking.operating_points import (
    OperatingPoint,
    operating_points,
    share_interval,
)
from mirror_rt.knowledge.storage.manifest import PASSAGES
from mirror_rt.types import Entity, LinkResult

if TYPE_CHECKING:
    from mirror_rt.knowledge.ranking.reranker import Reranker
    from mirror_rt.knowledge.retrieval.filters import Filters
    from mirror_rt.types import Float32, Int64

__all__ = [
    "LinkSettings",
    "LinkingEvaluation",
    "Outcome",
    "base_outcomes",
    "evaluate_linking",
    "link_results",
    "table_answers",
]

Progress = Callable[[int, int], None]
_BLOCK = 1_024
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkSettings:
    """The options of ``KnowledgeBase.link`` in an evaluation.

    Attributes:
        target_precision: Mentions are linked from the threshold of this precision on.
        min_probability: Mentions are linked from this probability on.
        review_below: Mentions are linked from this probability on, exact matches too; None for
            .5 if no other threshold is given.
        filters: The allowed entities.
        split_composites: Whether to split mentions at "and", "or" and commas.
    """

    target_precision: float | None = None
    min_probability: float = 0.0
    review_below: float | None = None
    filters: Filters | None = None
    split_composites: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The outcome of a gold mention.

    Attributes:
        query: The mention and its right ids.
        rank: The rank of the right entity; None if it is not among the first ``DEPTH``.
        best: The best candidate; None if there is none.
        hit: Whether the best candidate, or one tied with it, is right.
        known: Whether the mention equals a name after normalization.
        reachable: Whether a right id is in the knowledge base; otherwise the mention is NIL.
        confidence: The probability that the best candidate, or one tied with it, is right; for a
            composite, that of its least certain part. None if it is not computed.
        tied: Whether several entities are tied for the best.
        linked: Whether the mention is linked with these settings.
        kin: The relation of a wrong first candidate to a right entity; None if not close kin.
    """

    query: Query
    rank: Rank
    best: Best | None
    hit: bool
    known: bool
    reachable: bool
    confidence: float | None = None
    tied: bool = False
    linked: bool = True
    kin: Kinship | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkingEvaluation:
    """The result of an evaluation of linking.

    Attributes:
        report: The scores.
        outcomes: The outcome of each gold mention, in order.
        operating_points: The operating points of target precisions on these mentions, with the
            thresholds of the knowledge base; empty for a model without probabilities.
    """

    report: Report
    outcomes: tuple[Outcome, ...]
    operating_points: tuple[OperatingPoint, ...] = field(default=())


def evaluate_linking(
    name: str,
    model: Model | KnowledgeBase,
    gold: Gold,
    *,
    task: str = "linking",
    kb: str | Path | Sequence[Entity] | None = None,
    convention: Convention = Convention.ENTITY,
    settings: LinkSettings | None = None,
    progress: Progress | None = None,
) -> LinkingEvaluation:
    """Evaluate linking, over all mentions and over those that equal no name of the KB.

    Args:
        name: The name of the model in the report.
        model: A knowledge base uses its own linker and needs no ``kb``; any other model searches
            the names of ``kb`` exactly.
        gold: The mentions and their right ids. Mentions without ids are for a knowledge base:
            they count for NIL and for the share that is linked, not for accuracy.
        task: The name of the gold data in the report.
        kb: A file of names, or entities.
        convention: How a ranking is scored.
        settings: How a knowledge base links.
        progress: Called with (mentions done, mentions); only for a knowledge base.

    Raises:
        ConfigError: The model needs names and ``kb`` is not given, or a knowledge base is to
            be scored by names; or as ``KnowledgeBase.link``.
        InputError: ``kb`` cannot be read, or no mention has an id and there is no knowledge base.
        KnowledgeBaseError: The knowledge base holds passages, or is closed.
    """
    if isinstance(model, KnowledgeBase):
        if convention is Convention.BIOSYN:
            raise ConfigError(
                f"{name}: a knowledge base ranks entities, not names; for the BioSyn convention "
                "give a bundle or checkpoint and --kb FILE"
            )
        return _evaluate_base(name, model, gold, task, settings or LinkSettings(), progress)
    if kb is None:
        raise ConfigError(f"{name}: not a knowledge base; give the names to link to with --kb FILE")
    if settings is not None and settings != LinkSettings():
        raise ConfigError(f"{name}: only a knowledge base takes thresholds, filters and composites")
    table = NameTable.of(read_entities(kb) if isinstance(kb, str | Path) else kb, convention)
    queries = [query for query in gold.queries if query.ids]
    if not queries:
        raise InputError(
            f"{task}: no mention has an id; only a knowledge base can be scored on mentions "
            "without one (NIL)"
        )
    outcomes = _table_outcomes(queries, table, table_answers(model, table, queries))
    return LinkingEvaluation(
        report=Report(model=name, results=tuple(_results(task, outcomes))), outcomes=outcomes
    )


def table_answers(
    model: Model, table: NameTable, queries: Sequence[Query], *, names_UD: Float32 | None = None
) -> Sequence[tuple[Rank, Best | None]]:
    """Rank with an embedder or a baseline; ``names_UD`` are the names' vectors, if known."""
    if isinstance(model, ExactMatch):
        return exact_answers(table, queries)
    if isinstance(model, CharNgrams):
        model = model.fitted(table.texts)
    return query_answers(model, table, queries, names_UD=names_UD)


def link_results(
    task: str,
    answers: Sequence[tuple[Rank, Best | None]],
    queries: Sequence[Query],
    table: NameTable,
) -> list[Result]:
    """Return the result over all mentions, and over those that equal no name."""
    return _results(task, _table_outcomes(queries, table, answers))


def _table_outcomes(
    queries: Sequence[Query], table: NameTable, answers: Sequence[tuple[Rank, Best | None]]
) -> tuple[Outcome, ...]:
    new = set(unseen(table, queries))
    return tuple(
        Outcome(
            query=query,
            rank=rank,
            best=best,
            hit=rank == 1,
            known=i not in new,
            reachable=bool(right.size),
        )
        for i, (query, (rank, best), right) in enumerate(
            zip(queries, answers, table.right_groups(queries), strict=True)
        )
    )


def _evaluate_base(
    name: str,
    base: KnowledgeBase,
    gold: Gold,
    task: str,
    settings: LinkSettings,
    progress: Progress | None,
) -> LinkingEvaluation:
    """Evaluate a knowledge base with its own linker, including exact matches."""
    outcomes = tuple(base_outcomes(base, gold.queries, settings, progress=progress))
    kin = base.resources.catalogue.has_hierarchy()
    results = _results(task, [outcome for outcome in outcomes if outcome.query.ids], kin=kin)
    if not all(o.query.ids and o.linked for o in outcomes):
        results.append(_nil_result(f"{task}, with NIL", outcomes))
    # A mention without candidate is never linked; one with tied entities never for a precision.
    single = [o for o in outcomes if o.best is not None and not o.tied]
    points = operating_points(
        np.array([o.confidence for o in single], dtype=np.float64),
        np.array([o.hit for o in single], dtype=bool),
        _mention_numbers(single),
        threshold=base.resources.reranker.threshold,
        mentions=len(outcomes),
    )
    return LinkingEvaluation(
        report=Report(model=name, results=tuple(results)),
        outcomes=outcomes,
        operating_points=points,
    )


def base_outcomes(
    base: KnowledgeBase,
    queries: Sequence[Query],
    settings: LinkSettings,
    *,
    reranker: Reranker | None = None,
    progress: Progress | None = None,
) -> Iterator[Outcome]:
    """Link gold mentions with a knowledge base, and yield the outcome of each.

    Args:
        base: The knowledge base.
        queries: The mentions.
        settings: The settings of linking.
        reranker: A reranker to use instead of the knowledge base's own.
        progress: Called with (mentions done, mentions).
    """
    if base.manifest.content_type == PASSAGES:
        raise KnowledgeBaseError(f"{base.path}: holds passages, not names; use search")
    reranker = reranker or base.resources.reranker
    mentions = _MentionLinker(base, replace(base.resources, reranker=reranker), settings)
    limits = LinkOptions(
        target_precision=settings.target_precision,
        min_probability=settings.min_probability,
        review_below=settings.review_below,
    )
    needed, needed_if_exact = (
        max(pair)
        for pair in zip(
            limits.nil_thresholds(reranker), limits.review_thresholds(reranker), strict=True
        )
    )
    hierarchy = base.resources.catalogue.has_hierarchy()
    for start in range(0, len(queries), _BLOCK):
        block = queries[start : start + _BLOCK]
        for query, answers, known in mentions.answers(block):
            right = _own_ids(base, query.ids)
            parts = [score_answer(answer, right) for answer in answers]
            confidence = min(part.confidence for part in parts)
            tied = any(part.tied for part in parts)
            rank = composite_rank([part.rank for part in parts])
            first = [part.best.entity_id for part in parts if part.best is not None]
            yield Outcome(
                query=query,
                rank=rank,
                best=parts[0].best,
                hit=all(part.hit for part in parts),
                known=known,
                reachable=bool(right),
                confidence=confidence,
                tied=tied,
                kin=_kin(base, right, first) if hierarchy and rank != 1 else None,
                linked=all(part.best is not None for part in parts)
                and confidence >= (needed_if_exact if known else needed) - _ROUNDING
                and not (tied and limits.has_review_threshold),
            )
        if progress is not None:
            progress(min(start + _BLOCK, len(queries)), len(queries))


class _MentionLinker:
    """Links the parts of gold mentions; equal parts with equal context and document once."""

    def __init__(
        self, base: KnowledgeBase, resources: LinkResources, settings: LinkSettings
    ) -> None:
        self._base = base
        self._resources = resources
        self._options = LinkOptions(
            top=DEPTH, filters=settings.filters, split_composites=settings.split_composites
        )

    def _encode(self, texts: Sequence[str]) -> Float32:
        return self._base.encoder.encode(texts)

    def answers(self, queries: Sequence[Query]) -> Iterator[tuple[Query, list[LinkResult], bool]]:
        """Yield each query, the answers for its parts, and whether all parts are names."""
        mentions = list(
            dict.fromkeys((part, q.context, q.document) for q in queries for part in q.parts)
        )
        contexts = [context for _, context, _ in mentions]
        documents = [document for _, _, document in mentions]
        texts = [part for part, _, _ in mentions]
        found = link(
            self._resources,
            texts,
            self._encode,
            self._options,
            contexts=contexts if any(contexts) else None,
            document=documents if any(documents) else None,
        )
        named = is_name(self._resources, texts)
        answer_of = dict(zip(mentions, zip(found, named, strict=True), strict=True))
        for query in queries:
            answers = [answer_of[part, query.context, query.document] for part in query.parts]
            yield query, [answer for answer, _ in answers], all(known for _, known in answers)


def _kin(base: KnowledgeBase, ids: frozenset[str], answers: Sequence[str]) -> Kinship | None:
    """Return the relation of the first wrong answer to a right one."""
    catalogue = base.resources.catalogue
    right = [number for id_ in sorted(ids) for number in catalogue.resolve(id_)]
    for answer in answers:
        if answer not in ids:
            (number,) = catalogue.resolve(answer)
            found = (kinship(catalogue, number, one) for one in right)
            return next(filter(None, found), None)
    return None


def _own_ids(base: KnowledgeBase, ids: frozenset[str]) -> frozenset[str]:
    """Return the knowledge base's own ids of the entities that ``ids`` mean."""
    catalogue = base.resources.catalogue
    numbers = {number for id_ in ids for number in catalogue.resolve(id_)}
    return frozenset(id_ for id_, _ in catalogue.ids_and_names(numbers).values())


def _results(task: str, outcomes: Sequence[Outcome], *, kin: bool = False) -> list[Result]:
    if not outcomes:
        return []
    results = [_result(task, outcomes, kin=kin)]
    if new := [outcome for outcome in outcomes if not outcome.known]:
        results.append(_result(f"{task}, unseen", new, kin=kin))
    return results


def _result(task: str, outcomes: Sequence[Outcome], *, kin: bool) -> Result:
    """Return the scores; with ``kin`` also the shares of wrong answers that are close kin.

    Shares have Wilson's intervals; a bootstrap of few mentions, all right, would have no width.
    """
    lost = sum(not outcome.reachable for outcome in outcomes)
    score = linking_score([outcome.rank for outcome in outcomes], unreachable=lost)
    each = [
        metrics_of(o.rank) | {f"{one}@1": float(o.kin is one) for one in Kinship if kin}
        for o in outcomes
    ]
    columns = {name: np.array([values[name] for values in each]) for name in each[0]}
    mention_Q = _mention_numbers(outcomes)
    intervals: dict[str, Sequence[float]] = {
        name: [end for end in share_interval(values_Q == 1.0, mention_Q) if end is not None]
        for name, values_Q in columns.items()
        if name != "mrr"
    }
    ends_2M = bootstrap_intervals(columns["mrr"][:, None], mention_Q.tolist())
    intervals["mrr"] = ends_2M[:, 0].tolist()
    shares = {name: float(values_Q.mean()) for name, values_Q in columns.items()}
    note = (
        f"{lost} of {counted(len(outcomes), 'mention')} without a right id among the names: misses"
    )
    return Result(
        task=task,
        metric="acc@1",
        scores=shares | score.to_dict(),
        intervals={name: intervals[name] for name in columns},
        items=score.queries,
        note=note if lost else "",
    )


def _mention_numbers(outcomes: Sequence[Outcome]) -> Int64:
    """Return (Q,) int64, equal for equal mentions."""
    places: dict[object, int] = {}
    return np.array([places.setdefault(o.query.parts, len(places)) for o in outcomes], np.int64)


def _nil_result(task: str, outcomes: Sequence[Outcome]) -> Result:
    """Return the scores of the thresholds over all mentions, including NIL."""
    mention_Q = _mention_numbers(outcomes)
    linked_Q = np.array([o.linked for o in outcomes])
    right_Q = np.array([o.linked and o.rank == 1 for o in outcomes])
    nil_Q = np.array([not o.reachable for o in outcomes])
    shares = {
        "coverage": (linked_Q, np.ones_like(linked_Q)),
        "precision": (right_Q, linked_Q),
        "nil precision": (nil_Q, ~linked_Q),
        "nil recall": (~linked_Q, nil_Q),
    }
    scores: dict[str, float | None] = {}
    intervals: dict[str, tuple[float, float]] = {}
    for name, (hit_Q, among_Q) in shares.items():
        scores[name] = float(hit_Q[among_Q].mean()) if among_Q.any() else None
        low, high = share_interval(hit_Q[among_Q], mention_Q[among_Q])
        if low is not None and high is not None:
            intervals[name] = low, high
    return Result(
        task=task,
        metric="precision",
        scores=scores,
        intervals=intervals,
        items=len(outcomes),
        note=f"nothing is right for {nil_Q.sum()} of {counted(len(outcomes), 'mention')} (NIL); "
        f"{(~linked_Q).sum()} not linked",
    )
