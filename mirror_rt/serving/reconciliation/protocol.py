"""Shared by all parts of the protocol: the knowledge base, the thread, and the response."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any

import orjson
from fastapi import Query
from starlette.requests import Request
from starlette.responses import Response

from mirror_rt.serving.errors import Refused
from mirror_rt.serving.library import ServedKb
from mirror_rt.serving.service import Call, Service, json_response, service_of
from mirror_rt.serving.tei_api import ERRORS
from mirror_rt.serving.work import LINK_TOKENS

__all__ = ["ANSWERS", "MOST_PROPERTIES", "Callback", "call", "object_in", "respond", "served_kb"]

MOST_PROPERTIES = 20
"""The maximum number of properties in a query or a data extension."""

_CALLBACK = re.compile(r"[A-Za-z_$][\w$]*(\.[A-Za-z_$][\w$]*)*", re.ASCII)

ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {
        "model": dict[str, Any],
        "content": {"application/javascript": {}},
        "description": "JSON, or JavaScript if a callback is given.",
    },
    **ERRORS,
}

Callback = Annotated[str | None, Query(description="JSONP: the function to call.")]


def served_kb(request: Request, name: str) -> ServedKb:
    """Return the knowledge base with the name in the URL (Refused if it holds passages)."""
    served = service_of(request).library.kb(name)
    if served.holds_passages:
        raise Refused(400, f"{served.name} holds passages, which cannot be reconciled")
    return served


async def call(request: Request, function: Callable[[], Any], cost: int = 1) -> Any:  # noqa: ANN401
    """Call a function on a thread of the queue, as it reads the catalogue or uses the model."""
    service: Service = service_of(request)
    job = await service.run(request, Call(function), [None], [LINK_TOKENS * cost])
    return job.results[0]


def respond(found: object, callback: str | None) -> Response:
    """Return an answer as JSON or JSONP (Refused, 400, if the callback is not a name)."""
    body = found if isinstance(found, bytes) else orjson.dumps(found)
    if callback is None:
        return json_response(body)
    if len(callback) > 128 or not _CALLBACK.fullmatch(callback):
        raise Refused(
            400, f"callback {callback[:40]!r} is not the name of a function", param="callback"
        )
    # Escape two line separators that JSON allows in strings, but old JavaScript does not.
    safe = body.replace("\u2028".encode(), b"\\u2028").replace("\u2029".encode(), b"\\u2029")
    return Response(
        b"/**/%b(%b);" % (callback.encode(), safe),
        media_type="application/javascript; charset=utf-8",
        headers={"X-Content-Type-Options": "nosniff"},
    )


def object_in(given: str, name: str) -> dict[str, Any]:
    """Return the JSON object in a field of a form or a URL (Refused, 400)."""
    try:
        found = orjson.loads(given)
    except ValueError as error:  # also if nested too deeply, or with a lone surrogate
        raise Refused(400, f"{name} is not JSON: {error}", param=name) from error
    if not isinstance(found, dict):
        raise Refused(400, f"{name} is not a JSON object", param=name)
    return found
