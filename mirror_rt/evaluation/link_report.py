"""Judge one model, or one knowledge base, on gold mentions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mirror_rt.errors import ConfigError
from mirror_rt.evaluation.baselines import CharNgrams, ExactMatch, Model
from mirror_rt.evaluation.gold import Convention, Gold, Query
from mirror_rt.evaluation.linking import (
    DEPTH,
    NameTable,
    Rank,
    exact_ranks,
    linking_score,
    rank_queries,
    unseen,
    worst,
)
from mirror_rt.evaluation.result import Report, Result
from mirror_rt.knowledge import KnowledgeBase
from mirror_rt.knowledge.entities.hierarchy import Kinship, kinship
from mirror_rt.knowledge.formats import read_entities
from mirror_rt.knowledge.linking.exact import is_name
from mirror_rt.types import Candidate, Entity

if TYPE_CHECKING:
    from mirror_rt.types import Float32

__all__ = ["judge_linking", "link_results", "table_ranks"]


def judge_linking(
    name: str,
    model: Model | KnowledgeBase,
    gold: Gold,
    *,
    task: str = "linking",
    kb: str | Path | Sequence[Entity] | None = None,
    convention: Convention = Convention.ENTITY,
) -> Report:
    """Score linking, over all mentions and over those that no name of the KB spells out.

    Args:
        name: What to call the model in the report.
        model: A knowledge base answers through its own linker and needs no ``kb``; anything
            else by exact search over the names of ``kb``.
        gold: The mentions and their right ids.
        task: What to call the gold data in the report.
        kb: A file of names, or entities.
        convention: How a ranking is judged.

    Raises:
        ConfigError: The model needs names and ``kb`` is not given, or a knowledge base is to
            be judged by names.
        InputError: ``kb`` cannot be read.
    """
    if isinstance(model, KnowledgeBase):
        if convention is Convention.BIOSYN:
            raise ConfigError(
                f"{name}: a knowledge base ranks entities, not names; for the BioSyn convention "
                "give a bundle or checkpoint and --kb FILE"
            )
        return Report(model=name, results=tuple(_base_results(task, model, gold.queries)))
    if kb is None:
        raise ConfigError(f"{name}: not a knowledge base; give the names to link to with --kb FILE")
    table = NameTable.of(read_entities(kb) if isinstance(kb, str | Path) else kb, convention)
    ranks = table_ranks(model, table, gold.queries)
    return Report(model=name, results=tuple(link_results(task, ranks, gold.queries, table)))


def _base_results(task: str, base: KnowledgeBase, queries: Sequence[Query]) -> list[Result]:
    """Judge a knowledge base's own linker, look-up by name and all."""
    parts = list(dict.fromkeys(part for query in queries for part in query.parts))
    answers = dict(zip(parts, base.link(parts, top=DEPTH), strict=True))
    right = [_own_ids(base, query.ids) for query in queries]
    ranks = [
        worst([_place(answers[part], ids) for part in query.parts])
        for query, ids in zip(queries, right, strict=True)
    ]
    named = is_name(base.resources, parts)
    new = {part for part, known in zip(parts, named, strict=True) if not known}
    rows = [i for i, query in enumerate(queries) if new.intersection(query.parts)]
    results = _both(task, ranks, reachable=[bool(ids) for ids in right], new=rows)
    if not base.resources.catalogue.has_hierarchy():
        return results
    first = [
        [answers[part][0].entity_id for part in query.parts if answers[part]] for query in queries
    ]
    kin = [
        None if rank == 1 else _kin(base, ids, mine)
        for rank, ids, mine in zip(ranks, right, first, strict=True)
    ]
    return [
        replace(result, scores={**result.scores, **_kin_shares([kin[row] for row in places])})
        for result, places in zip(results, (range(len(queries)), rows), strict=False)
    ]


def _kin(base: KnowledgeBase, ids: frozenset[str], answers: Sequence[str]) -> Kinship | None:
    """Return what the first wrong answer is to a right one."""
    catalogue = base.resources.catalogue
    right = [number for id_ in sorted(ids) for number in catalogue.resolve(id_)]
    for answer in answers:
        if answer not in ids:
            (number,) = catalogue.resolve(answer)
            found = (kinship(catalogue, number, one) for one in right)
            return next(filter(None, found), None)
    return None


def _kin_shares(kin: Sequence[Kinship | None]) -> dict[str, float]:
    """Return the share of mentions whose first answer is wrong, but close kin of the right one."""
    return {f"{one}@1": kin.count(one) / len(kin) for one in Kinship}


def _own_ids(base: KnowledgeBase, ids: frozenset[str]) -> frozenset[str]:
    """Return the ids under which the knowledge base holds what ``ids`` mean."""
    catalogue = base.resources.catalogue
    numbers = {number for id_ in ids for number in catalogue.resolve(id_)}
    return frozenset(id_ for id_, _ in catalogue.ids_and_names(numbers).values())


def _place(candidates: Sequence[Candidate], ids: frozenset[str]) -> Rank:
    places = (place for place, c in enumerate(candidates, start=1) if c.entity_id in ids)
    return next((place for place in places if place <= DEPTH), None)


def table_ranks(
    model: Model, table: NameTable, queries: Sequence[Query], *, names_UD: Float32 | None = None
) -> list[Rank]:
    """Rank with an embedder or a baseline; ``names_UD`` may give the names' vectors."""
    if isinstance(model, ExactMatch):
        return exact_ranks(table, queries)
    if isinstance(model, CharNgrams):
        model = model.fitted(table.texts)
    return rank_queries(model, table, queries, names_UD=names_UD)


def link_results(
    task: str, ranks: Sequence[Rank], queries: Sequence[Query], table: NameTable
) -> list[Result]:
    """Return the result over all mentions, and over those that no name spells out."""
    reachable = [bool(right.size) for right in table.right_groups(queries)]
    return _both(task, ranks, reachable=reachable, new=unseen(table, queries))


def _both(
    task: str, ranks: Sequence[Rank], *, reachable: Sequence[bool], new: Sequence[int]
) -> list[Result]:
    results = [_result(task, ranks, unreachable=reachable.count(False))]
    if new:
        lost = [reachable[row] for row in new].count(False)
        results.append(_result(f"{task}, unseen", [ranks[r] for r in new], unreachable=lost))
    return results


def _result(task: str, ranks: Sequence[Rank], *, unreachable: int) -> Result:
    score = linking_score(ranks, unreachable=unreachable)
    note = (
        f"{unreachable} of {len(ranks)} mentions have no right id among the names; they are misses"
    )
    return Result(
        task=task,
        metric="acc@1",
        scores=score.as_dict(),
        items=score.queries,
        note=note if unreachable else "",
    )
