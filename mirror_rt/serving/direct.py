"""Routes that take one JSON body, answered without what FastAPI does about every request.

FastAPI describes these routes, and still answers whatever is not well-formed, so that a fault is
told the same way whoever finds it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, get_type_hints

from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

if TYPE_CHECKING:
    from starlette.types import Message, Receive, Scope, Send

__all__ = ["Direct"]

Handlers = Mapping[type[Exception], Callable[[Request, Exception], Awaitable[Response]]]


class _Route(NamedTuple):
    route: APIRoute
    body: type[BaseModel]
    endpoint: Callable[[Any, Request], Awaitable[Response]]


class Direct:
    """Calls a route of one JSON body by its whole path; leaves all others to FastAPI.

    Args:
        api: The application that has the routes.
        routers: Where to look for such routes.
        handlers: What turns an exception of a route into a response, as ``api`` has them.
    """

    def __init__(self, api: FastAPI, routers: Iterable[APIRouter], handlers: Handlers) -> None:
        self._api = api
        self._handlers = handlers
        self._routes = {
            found.route.path: found for router in routers for found in _routes_of(router)
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        found = (
            self._routes.get(scope["path"])
            if scope["type"] == "http" and scope["method"] == "POST" and _is_json(scope)
            else None
        )
        if found is None:
            await self._api(scope, receive, send)
            return
        scope["app"], scope["route"] = self._api, found.route
        request = Request(scope, receive)
        try:
            content = await request.body()
            try:
                body = found.body.model_validate_json(content)
            except ValidationError:
                await self._api(scope, _again(content, receive), send)
                return
            response = await found.endpoint(body, request)
        except ClientDisconnect:
            return
        except Exception as error:
            response = await self._handled(request, error)
        await response(scope, receive, send)

    async def _handled(self, request: Request, error: Exception) -> Response:
        for kind in type(error).__mro__:
            handler = self._handlers.get(kind)
            if handler is not None:
                return await handler(request, error)
        raise error


def _routes_of(router: APIRouter) -> Iterable[_Route]:
    for route in router.routes:
        if isinstance(route, APIRoute) and route.methods == {"POST"}:
            takes = get_type_hints(route.endpoint)
            body = takes.get("body")
            if set(takes) == {"body", "request", "return"} and isinstance(body, type):
                yield _Route(route, body, route.endpoint)


def _is_json(scope: Scope) -> bool:
    for name, value in scope["headers"]:
        if name == b"content-type":
            kind: bytes = value
            return kind.partition(b";")[0].strip().lower() == b"application/json"
    return False


def _again(content: bytes, receive: Receive) -> Receive:
    """Return what gives a body that was read already, then whatever comes after it."""
    left: list[Message] = [{"type": "http.request", "body": content, "more_body": False}]

    async def again() -> Message:
        return left.pop() if left else await receive()

    return again
