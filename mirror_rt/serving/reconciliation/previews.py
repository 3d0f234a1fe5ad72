"""Pages for an entity: a full page, a preview in a small frame, a flyout for a suggestion."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote, unquote_plus

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from mirror_rt.encodings import lone_surrogate
from mirror_rt.errors import InputError
from mirror_rt.serving.errors import Refused
from mirror_rt.serving.library import ServedKb
from mirror_rt.serving.pages import HEADERS, PREVIEW_HEADERS, render
from mirror_rt.serving.reconciliation.extend import values_of
from mirror_rt.serving.reconciliation.protocol import ANSWERS, Callback, call, respond, served_kb
from mirror_rt.serving.service import base_of
from mirror_rt.serving.tei_api import ERRORS
from mirror_rt.types import Entity

__all__ = ["router"]

router = APIRouter()

_PAGES: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/html": {}}, "description": "A page."},
    **ERRORS,
}


@router.get("/preview", responses=_PAGES)
async def preview(name: str, request: Request) -> Response:
    """Show an entity in a small frame."""
    return await _entity_page(name, request, "preview.html")


@router.get("/view", responses=_PAGES)
async def view(name: str, request: Request) -> Response:
    """Show an entity."""
    return await _entity_page(name, request, "entity.html")


@router.get("/flyout", responses=ANSWERS)
async def flyout(name: str, request: Request, callback: Callback = None) -> Response:
    """Show an entity as a flyout for a suggestion."""
    served = served_kb(request, name)
    entity = await call(request, lambda: _found(served, request))
    html = render("flyout.html", entity=entity)
    return respond({"id": entity.id, "html": html}, callback)


async def _entity_page(name: str, request: Request, template: str) -> Response:
    served = served_kb(request, name)
    entity, parents = await call(
        request,
        lambda: (entity := _found(served, request), values_of(served, entity, "parent")),
    )
    page = render(template, entity=entity, parents=parents, kb=served.name, base=base_of(request))
    headers = PREVIEW_HEADERS if template == "preview.html" else HEADERS
    return Response(page, media_type="text/html; charset=utf-8", headers=headers)


def _found(served: ServedKb, request: Request) -> Entity:
    """Return the entity with the id in the URL.

    OpenRefine does not escape ``/``, ``?``, ``&``, ``=`` and ``+`` in it; other clients do.
    """
    query = request.scope["query_string"].decode("latin-1")
    given = query.removeprefix("id=") if query.startswith("id=") else ""
    named = request.query_params.get("id", "")
    for id_ in dict.fromkeys((unquote(given), unquote_plus(given), named)):
        if id_ and lone_surrogate(id_) is None:
            try:
                return served.kb.entity(id_)
            except InputError:
                continue
    raise Refused(404, f"no entity of {served.name} has the id {named[:100]!r}", param="id")
