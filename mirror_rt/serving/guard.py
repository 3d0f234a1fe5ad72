"""Middleware for every route: access, size and time limits, log and metrics.

It is plain ASGI, as Starlette's base class for middleware hides the disconnection of a client.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import os
import re
import sys
import time
import traceback
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import quote

from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware

from mirror_rt.errors import one_line
from mirror_rt.serving.config import ServeConfig
from mirror_rt.serving.errors import Refused, refusal
from mirror_rt.serving.metrics import Metrics

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["INTERNAL", "Cors", "Guard", "JsonFormatter", "log_to_stderr"]

_LOG = logging.getLogger(__name__)
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
INTERNAL = Refused(500, "internal error; the server's log says where")
_STOPPING = Refused(503, "the server is stopping; ask again", retry_after=1)
_OPEN = frozenset({"/health", "/ready"})
"""Paths for load balancers, which have no token."""
_BY_PATH = "/token/"
"""OpenRefine and browsers send no header, so the path may start with this and the token."""


class Cors(CORSMiddleware):
    """Adds CORS headers for allowed origins; POST requests without an Origin skip it."""

    def __init__(self, app: ASGIApp, origins: Sequence[str]) -> None:
        super().__init__(
            app,
            allow_origins=list(origins),
            allow_methods=["GET", "POST"],
            allow_headers=["*"],
            expose_headers=["Retry-After", "X-Request-ID"],
            max_age=600,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        # Requests without an Origin do not come from a page. Answers to POST are not cached, so
        # they need no Vary header.
        if scope["type"] == "http" and scope["method"] == "POST":
            if not any(name == b"origin" for name, _ in scope["headers"]):
                await self.app(scope, receive, send)
                return
        await super().__call__(scope, receive, send)


class Guard:
    """Checks requests, and logs and counts them."""

    def __init__(self, app: ASGIApp, config: ServeConfig, metrics: Metrics) -> None:
        self._app = app
        self._config = config
        self._metrics = metrics
        self._token = config.token.encode()
        self._held = 0  # bytes of the bodies of all requests that are not answered yet
        self._answers_to = lru_cache(maxsize=256)(config.answers_to)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begin = time.perf_counter()
        headers: dict[bytes, bytes] = {}
        for name, value in scope["headers"]:
            headers.setdefault(name, value)
        given = headers.get(b"x-request-id", b"")
        request_id = given if _REQUEST_ID.fullmatch(given) else os.urandom(16).hex().encode()
        state = scope.setdefault("state", {})
        state["request_id"] = request_id.decode()
        status = received = 0

        async def send_noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", request_id)]
            await send(message)

        async def receive_counted() -> Message:
            nonlocal received
            message = await receive()
            if message["type"] == "http.request":
                size = len(message.get("body", b""))
                received += size
                self._held += size
                if received > self._config.limits.body_bytes:
                    raise HTTPException(413, self._too_long())
                if self._held > max(self._config.limits.held_bytes, received):
                    raise HTTPException(
                        429, "too many large requests at once; ask again later",
                        headers={"Retry-After": "1"},
                    )  # fmt: skip
            return message

        try:
            refused = self._refused(scope, headers)
            if refused is None:
                await self._app(scope, receive_counted, send_noted)
            else:
                # Read and drop the rest of the body: closing now could lose the answer.
                await refusal(refused, scope["path"])(scope, receive, send_noted)
        except asyncio.CancelledError:  # the time for running requests is up
            if not status:
                await refusal(_STOPPING, scope["path"])(scope, receive, send_noted)
        except Exception as error:
            status = await self._failed(error, scope, receive, send_noted, started=bool(status))
        finally:
            self._held -= received
            self._note(scope, status, time.perf_counter() - begin)

    def _refused(self, scope: Scope, headers: dict[bytes, bytes]) -> Refused | None:
        limits = self._config.limits
        host = headers.get(b"host", b"").decode("latin-1")
        if not self._answers_to(host):
            return Refused(
                421, f"this server is not known as {host[:100]!r}; start it with --allow-host"
            )
        if headers.get(b"content-encoding", b"identity").lower() != b"identity":
            return Refused(415, "send the body without compression, without Content-Encoding")
        length = headers.get(b"content-length", b"0")
        if length.isdigit() and int(length) > limits.body_bytes:
            return Refused(413, self._too_long())
        if self._token and not self._is_open(scope) and not self._knows_token(scope, headers):
            return Refused(401, "give the token: Authorization: Bearer TOKEN")
        return None

    @staticmethod
    def _is_open(scope: Scope) -> bool:
        return scope["path"] in _OPEN or scope["path"].startswith("/static/")

    def _too_long(self) -> str:
        return (
            f"the body is over {self._config.limits.body_bytes:,} bytes; send it in smaller parts"
        )

    def _knows_token(self, scope: Scope, headers: dict[bytes, bytes]) -> bool:
        scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
        if scheme.lower() == b"bearer" and hmac.compare_digest(given.strip(), self._token):
            return True
        path = scope["path"].encode()
        start, end = len(_BY_PATH), len(_BY_PATH) + len(self._token)
        if not (scope["path"].startswith(_BY_PATH) and path[end : end + 1] == b"/"):
            return False
        if not hmac.compare_digest(path[start:end], self._token):
            return False
        scope["state"]["prefix"] = _BY_PATH + quote(self._token, safe="")
        scope["path"] = path[end:].decode()
        return True

    async def _failed(
        self, error: Exception, scope: Scope, receive: Receive, send: Send, *, started: bool
    ) -> int:
        """Answer 500; log the place of the error, but nothing that the client sent."""
        frames = traceback.extract_tb(error.__traceback__)
        where = " < ".join(f"{f.filename.rpartition('/')[2]}:{f.lineno}" for f in frames[-4:][::-1])
        _LOG.error(
            "internal error",
            extra={
                "error": type(error).__name__, "where": where,
                "request_id": scope["state"]["request_id"],
            },
        )  # fmt: skip
        if not started:
            await refusal(INTERNAL, scope["path"])(scope, receive, send)
        return 500

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        route = scope.get("route")
        path = getattr(route, "path", "none")
        noted = scope["state"].get("noted", {})
        # 499, as in nginx: the client left before the answer.
        self._metrics.request(path, scope["method"], status or 499, seconds)
        if self._config.log_requests:
            _LOG.info(
                "request",
                extra={
                    "method": scope["method"], "route": path, "status": status or 499,
                    "ms": round(1e3 * seconds, 2), "request_id": scope["state"]["request_id"],
                    **noted,
                },
            )  # fmt: skip


class JsonFormatter(logging.Formatter):
    """Formats a log record as a line of JSON: the message and its fields."""

    _OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message"}

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        fields: dict[str, object] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
            + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "message": one_line(record.getMessage()),
        }
        for name, value in vars(record).items():
            if name not in self._OWN:
                fields[name] = value if isinstance(value, (int, float)) else one_line(str(value))
        if record.exc_info and record.exc_info[0] is not None:
            fields["error"] = record.exc_info[0].__name__
        return json.dumps(fields)


def log_to_stderr(level: int) -> None:
    """Log JSON lines to standard error; only warnings and errors from uvicorn.

    Only errors of the other libraries: the warnings of the parser of forms quote the body.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    for name, least in (
        ("mirror_rt.serving", level), ("uvicorn", logging.WARNING),
        ("asyncio", logging.ERROR), ("python_multipart", logging.ERROR),
    ):  # fmt: skip
        logger = logging.getLogger(name)
        logger.handlers[:] = [handler]
        logger.setLevel(least)
        logger.propagate = False
