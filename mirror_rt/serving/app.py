"""The ASGI application: routes, middleware and error handlers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.responses import PlainTextResponse
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Mount
from starlette.staticfiles import StaticFiles

from mirror_rt.errors import MirrorError
from mirror_rt.serving import link_api, openai_api, pages, tei_api
from mirror_rt.serving.config import ServeConfig
from mirror_rt.serving.direct import Direct
from mirror_rt.serving.errors import Refused, refusal, shorten
from mirror_rt.serving.guard import INTERNAL, Cors, Guard
from mirror_rt.serving.library import Library
from mirror_rt.serving.reconciliation import routes
from mirror_rt.serving.service import Service, json_response, service_of
from mirror_rt.version import VERSION

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ["App", "create_app"]

_LOOK_EVERY = 1.0
"""Seconds between checks whether a knowledge base has changed on disk."""


@dataclass(frozen=True, eq=False)
class App:
    """An ASGI application.

    Attributes:
        service: The parts of the server.
        outermost: The outermost middleware.
    """

    service: Service
    outermost: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request, or the start and the end of the server."""
        if scope["type"] == "http" and scope["method"] == "HEAD":
            scope = {**scope, "method": "GET"}  # uvicorn leaves out the body
        await self.outermost(scope, receive, send)


def create_app(library: Library, config: ServeConfig | None = None) -> App:
    """Return an ASGI application that serves a library. The caller must close the library.

    Args:
        library: The models and knowledge bases.
        config: The settings.
    """
    config = config or ServeConfig()
    service = Service(config=config, library=library)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await asyncio.to_thread(library.warm_up)
        keep = config.limits.answer_seconds + 10
        watching = asyncio.create_task(library.watch(seconds=_LOOK_EVERY, keep_seconds=keep))
        service.ready = True
        yield
        service.ready = False
        watching.cancel()
        service.scheduler.stop()

    api = FastAPI(
        title="mirror-rt",
        version=VERSION,
        description="Embeddings, entity linking and reconciliation on a plain CPU.",
        lifespan=lifespan,
        docs_url=None,  # these pages load scripts from other sites
        redoc_url=None,
        redirect_slashes=False,
    )
    api.state.service = service
    # Routes are tried in this order, so the most used come first.
    routers = [module.router for module in (link_api, openai_api, tei_api, routes, pages)]
    for router in routers:
        api.include_router(router)
    _add_operation(api)
    api.mount("/static", StaticFiles(packages=[("mirror_rt.serving", "static")]), name="static")
    for kind, handler in _HANDLERS.items():
        api.add_exception_handler(kind, handler)
    api.add_exception_handler(Exception, _failed)
    guard = Guard(Direct(api, routers, _HANDLERS), config=config, metrics=service.metrics)
    # Outermost, so that a page can read error responses too.
    return App(service, Cors(guard, config.cors_origins))


def _add_operation(app: FastAPI) -> None:
    errors: dict[int | str, dict[str, Any]] = {
        status: tei_api.ERRORS[status] for status in (401, 421, 500, 503)
    }

    @app.get("/health", tags=["Operation"], responses=errors)
    async def health() -> Response:
        """Return ok while the process is alive."""
        return json_response(b'{"status":"ok"}')

    @app.get("/ready", tags=["Operation"], responses=errors)
    async def ready(request: Request) -> Response:
        """Return whether requests are accepted: after the warm-up, and before a stop."""
        service = service_of(request)
        if not service.ready:
            raise Refused(503, "not ready, or stopping", retry_after=1)
        if service.scheduler.waiting >= service.config.limits.queued:
            raise Refused(503, "the queue is full", retry_after=service.scheduler.retry_after())
        kbs = {
            name: {"entities": kb.kb.manifest.counts["entities"], "opened": kb.opened}
            for name, kb in service.library.kbs.items()
        }
        content = {"status": "ready", "models": list(service.library.models), "kbs": kbs}
        return json_response(orjson.dumps(content))

    @app.get("/metrics", tags=["Operation"], responses=errors, response_class=PlainTextResponse)
    async def metrics(request: Request) -> Response:
        """Return the metrics for Prometheus."""
        return Response(
            service_of(request).metrics.text(),
            media_type="text/plain; version=0.0.4; charset=utf-8",
        )


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    return refusal(error, request.url.path)


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    detail = str(error.detail)
    if error.status_code == 400 and isinstance(error.__cause__, (ValueError, RecursionError)):
        detail = "the body cannot be read: nested too deeply, a number too long, or not valid text"
    if error.status_code == 400 and "maximum" in detail.lower():  # Starlette's limits for forms
        return refusal(Refused(413, f"the form is too large: {detail}"), request.url.path)
    content = {
        404: "there is no such path; GET /openapi.json lists all paths",
        405: "this path does not allow the method; GET /openapi.json lists the methods",
    }.get(error.status_code, detail)
    headers = error.headers
    if error.status_code == 405:
        headers = {**(headers or {}), "Allow": ", ".join(_methods(request))}
    return refusal(Refused(error.status_code, content), request.url.path, headers=headers)


def _methods(request: Request) -> list[str]:
    """Return the methods of a path; Starlette names only those of the first route with it."""
    found = [
        method
        for method in ("GET", "POST")
        if any(
            route.matches({**request.scope, "method": method})[0] is Match.FULL
            for route in request.app.routes
            if not isinstance(route, Mount)
        )
    ]
    return ["GET", "HEAD", *found[1:]] if found[:1] != ["POST"] else found


async def _invalid(request: Request, error: Exception) -> Response:
    """Report the first fault of a body or query, with its position."""
    assert isinstance(error, RequestValidationError)
    # Of the kinds that a field may have, report the one that fits best.
    first = max(error.errors(), key=lambda fault: len(fault["loc"]))
    malformed = first["type"] == "json_invalid"
    where = [str(part) for part in first["loc"] if part not in {"body", "path", "query"}]
    if malformed:
        message = f"the body is not JSON: {first['ctx']['error']} at character {first['loc'][-1]}"
        refused = Refused(400, message)
    else:
        place = ".".join(shorten(part, most=100) for part in where[:3]) or "the body"
        message = f"{place}: {first['msg'][:1].lower()}{first['msg'][1:]}"
        if first["loc"] == ("body",) and first["type"] != "extra_forbidden":
            message += "; send JSON, with Content-Type: application/json"
        status = 400 if request.url.path.startswith("/v1/") else 422
        refused = Refused(status, message, param=where[0] if where else None)
    return refusal(refused, request.url.path)


async def _mirror(request: Request, error: Exception) -> Response:
    """Report an error of the library that the request caused."""
    assert isinstance(error, MirrorError)
    return refusal(service_of(request).refused(error), request.url.path)


async def _failed(request: Request, error: Exception) -> Response:
    """Report an internal error; the guard logs the details."""
    return refusal(INTERNAL, request.url.path)


_HANDLERS = {
    Refused: _refused, RequestValidationError: _invalid, HTTPException: _http,
    MirrorError: _mirror,
}  # fmt: skip
