"""Suggestions while a user types: entities, types, properties."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response

from mirror_rt._count import counted
from mirror_rt.knowledge.text.normalize import normalize
from mirror_rt.serving.library import ServedKb
from mirror_rt.serving.reconciliation.extend import properties_of
from mirror_rt.serving.reconciliation.protocol import ANSWERS, Callback, call, respond, served_kb
from mirror_rt.serving.service import service_of

__all__ = ["router"]

router = APIRouter()

SUGGESTED, MOST_SUGGESTED = 10, 100
"""Suggestions on a page, and in total."""

_CUT = re.compile(r"\(?\s*all\s(.*)", re.DOTALL)
"""OpenRefine's search box turns a text with a colon into this: ``(all HP:0001250)``."""


@router.get("/suggest/{what}", responses=ANSWERS)
async def suggest(
    name: str,
    what: Literal["entity", "type", "property"],
    request: Request,
    prefix: Annotated[str, Query(description="What was typed.")] = "",
    filter: Annotated[str, Query(description="OpenRefine's form of a text with a colon.")] = "",
    cursor: Annotated[int, Query(ge=0, description="The number of suggestions to skip.")] = 0,
    callback: Callback = None,
) -> Response:
    """Suggest entities by id, by the start of a name, and by similar names.

    Types are sorted by frequency. Properties are the standard ones and the fields of this
    knowledge base.
    """
    served = served_kb(request, name)
    text = _typed(request, prefix, filter)
    end = cursor + SUGGESTED

    def page() -> dict[str, object]:
        found = _SUGGESTED[what](served, text, min(end + 1, MOST_SUGGESTED))
        result: dict[str, object] = {"result": found[cursor:end]}
        if len(found) > end and end < MOST_SUGGESTED:
            result["cursor"] = end  # there are more
        return result

    return respond(await call(request, page), callback)


def _typed(request: Request, prefix: str, cut: str) -> str:
    """Return the typed text, including the part that OpenRefine moves to another parameter.

    OpenRefine reads ``name:value`` as its own filter, so for ``HP:0001250`` the ``prefix`` is
    empty.
    """
    inside = _CUT.match(cut.strip())
    moved = inside[1].strip().removesuffix(")").strip() if inside else ""
    text = f"{prefix} {moved}".strip() if moved != prefix.strip() else prefix.strip()
    service_of(request).check([text], param="prefix")
    return text


def _entities(served: ServedKb, text: str, most: int) -> list[dict[str, Any]]:
    if not text:
        return []
    resources = served.kb.resources
    catalogue = resources.catalogue
    ids: dict[str, None] = {}
    numbers = catalogue.resolve(text)
    ids.update((id_, None) for id_, _ in catalogue.ids_and_names(numbers).values())
    ids.update(dict.fromkeys(catalogue.ids_beginning(text, most=most)))
    wanted = normalize(text)
    if wanted and len(ids) < most:
        rows = resources.names.rows_beginning(wanted, most=4 * most)
        _, entities, _ = resources.names.entities_of(rows)
        ordered = list(dict.fromkeys(entities.tolist()))[:most]
        headings = catalogue.ids_and_names(ordered)
        ids.update((headings[number][0], None) for number in ordered)
    if wanted and len(ids) < most:
        (result,) = served.kb.link([text], top=SUGGESTED)
        ids.update((candidate.entity_id, None) for candidate in result)
    about = catalogue.about(list(ids)[:most])
    found = []
    for id_ in list(ids)[:most]:
        name, types, description = about[id_]
        one: dict[str, Any] = {"id": id_, "name": name}
        if description:
            one["description"] = description
        if types:
            one["notable"] = [{"id": type_, "name": type_} for type_ in types]
        found.append(one)
    return found


def _types(served: ServedKb, text: str, most: int) -> list[dict[str, Any]]:
    types = [
        {"id": type_, "name": type_, "description": counted(count, "entity")}
        for type_, count in served.types
    ]
    return _matching(types, text)


def _properties(served: ServedKb, text: str, most: int) -> list[dict[str, Any]]:
    return _matching(properties_of(served), text)


_SUGGESTED: dict[str, Callable[[ServedKb, str, int], list[dict[str, Any]]]] = {
    "entity": _entities, "type": _types, "property": _properties,
}  # fmt: skip


def _matching(found: Sequence[dict[str, str]], text: str) -> list[dict[str, Any]]:
    """Return the values that start with a text, then those that contain it."""
    wanted = text.casefold()
    begins, holds = [], []
    for one in found:
        texts = (one["id"].casefold(), one["name"].casefold())
        if any(part.startswith(wanted) for part in texts):
            begins.append(one)
        elif any(wanted in part for part in texts):
            holds.append(one)
    return begins + holds


@router.get("/search", responses=ANSWERS)
async def search(name: str, request: Request, callback: Callback = None) -> Response:
    """Answer an old request of OpenRefine's search box with an empty result."""
    served_kb(request, name)
    return respond({"status": "200 OK", "result": []}, callback)
