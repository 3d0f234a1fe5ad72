"""The errors on gold mentions, one row each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mirror_rt.knowledge import KnowledgeBase

if TYPE_CHECKING:
    from mirror_rt.evaluation.baselines import Model
    from mirror_rt.evaluation.link_report import Outcome

__all__ = ["COLUMNS", "error_rows"]

COLUMNS = (
    "row", "mention", "gold_ids", "gold_names", "rank", "entity_id", "entity_name",
    "matched_name", "match_type", "score", "probability", "why",
)  # fmt: skip
"""The cells of a row: the number of the gold mention from 1, the right entity and its rank, the
best candidate as in ``link``, and the error."""


def error_rows(model: Model | KnowledgeBase, outcomes: Sequence[Outcome]) -> list[list[object]]:
    """Return a row of ``COLUMNS`` for each error, in order.

    An error is a mention with a wrong first candidate, one whose first candidate is right but not
    linked, or one that is linked although it is NIL.
    """
    return [_row(model, i, o) for i, o in enumerate(outcomes, start=1) if _is_wrong(o)]


def _is_wrong(outcome: Outcome) -> bool:
    if outcome.reachable:
        return outcome.rank != 1 or not outcome.linked
    return outcome.linked and outcome.best is not None


def _why(outcome: Outcome) -> str:
    if not outcome.reachable:
        return "no right id in the knowledge base" if outcome.query.ids else "NIL"
    if outcome.rank is None:
        return "not among the candidates"
    return "ranked below" if outcome.rank > 1 else "not linked"


def _row(model: Model | KnowledgeBase, number: int, outcome: Outcome) -> list[object]:
    names: list[str] = []
    if isinstance(model, KnowledgeBase):
        catalogue = model.resources.catalogue
        numbers = {n for id_ in outcome.query.ids for n in catalogue.resolve(id_)}
        names = sorted(name for _, name in catalogue.ids_and_names(numbers).values())
    found: tuple[object, ...] = (None,) * 6
    if (best := outcome.best) is not None:
        found = (
            best.entity_id, best.entity_name, best.matched_name, best.match_type, best.score,
            best.probability,
        )  # fmt: skip
    query = outcome.query
    return [
        number, "|".join(query.parts), "|".join(sorted(query.ids)), "|".join(names), outcome.rank,
        *(round(value, 4) if isinstance(value, float) else value for value in found),
        _why(outcome),
    ]  # fmt: skip
