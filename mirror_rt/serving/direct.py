"""A fast path for routes with one JSON body, without FastAPI's overhead per request.

FastAPI documents these routes. It also answers requests whose body is not well-formed JSON, so
error messages are the same.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, get_type_hints

from fastapi import APIRouter, FastAPI
from fastapi.exceptions import RequestValidationError
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
    """Calls the routes that take a JSON body and the request; FastAPI handles all others.

    Args:
        api: The application with the routes.
        routers: The routers to search for these routes.
        handlers: The exception handlers of ``api``.
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
            except ValidationError as error:
                faults = error.errors(include_url=False)
                if faults[0]["type"] != "json_invalid":
                    raise RequestValidationError(
                        [{**fault, "loc": ("body", *fault["loc"])} for fault in faults]
                    ) from error
                await self._api(scope, _replay(content, receive), send)
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
            hints = get_type_hints(route.endpoint)
            hints.pop("return", None)
            kinds = [*hints.values()]
            if len(kinds) == 2 and kinds[1] is Request and _is_model(kinds[0]):
                yield _Route(route, kinds[0], route.endpoint)


def _is_model(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _is_json(scope: Scope) -> bool:
    for name, value in scope["headers"]:
        if name == b"content-type":
            kind: bytes = value
            return kind.partition(b";")[0].strip().lower() == b"application/json"
    return False


def _replay(content: bytes, receive: Receive) -> Receive:
    """Return a ``receive`` that returns the body that was read already, then later messages."""
    left: list[Message] = [{"type": "http.request", "body": content, "more_body": False}]

    async def receive_again() -> Message:
        return left.pop() if left else await receive()

    return receive_again
