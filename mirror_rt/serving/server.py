"""Run the server: one process, one event loop, shared models, limits on time and size."""

from __future__ import annotations

import asyncio
import errno
import logging
import signal
import socket
import sys
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any

import httptools
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from mirror_rt.errors import ConfigError
from mirror_rt.serving.app import App, create_app
from mirror_rt.serving.config import Limits, ServeConfig
from mirror_rt.serving.guard import log_to_stderr
from mirror_rt.serving.library import Library

__all__ = ["serve"]

_LOG = logging.getLogger(__name__)
_OTHER_FILES = 256
"""Open files beside connections, at most: knowledge bases, models, libraries."""
_MOST_PIPELINED = 32
"""Requests of one connection that wait while an earlier one is answered, at most."""
_SWITCH_SECONDS = 0.0005
"""Python's thread switch interval: short, so that the event loop can answer in between."""


def serve(library: Library, config: ServeConfig, *, log_level: int = logging.INFO) -> int:
    """Serve until a signal to stop; then finish the running requests.

    Args:
        library: The models and knowledge bases; closed at the end.
        config: The settings.
        log_level: The level of the log, JSON lines on standard error.

    Returns:
        The number of the signal.

    Raises:
        ConfigError: The server cannot listen at the address.
    """
    log_to_stderr(log_level)
    _allow_connections(config.limits.connections)
    try:
        listening = _listen(config)
        sys.setswitchinterval(_SWITCH_SECONDS)
        server = _Server(create_app(library, config), config)
        host, port = listening.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        _LOG.info("listening", extra={"address": f"http://{shown}:{port}"})
        if not config.is_local and not config.token:
            _LOG.warning(
                "anyone who reaches this address may ask; give --token-file, or listen at 127.0.0.1"
            )
        if getattr(signal, "SIGHUP", None) and signal.getsignal(signal.SIGHUP) == signal.SIG_DFL:
            signal.signal(signal.SIGHUP, server.handle_exit)
        with suppress(KeyboardInterrupt):  # uvicorn raises the signal again after it has stopped
            server.run(sockets=[listening])
    finally:
        library.close()
    return server.signal


def _allow_connections(count: int) -> None:
    """Raise the soft limit of open files, often 1,024, as far as the hard one allows."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = (
        count + _OTHER_FILES if hard == resource.RLIM_INFINITY else min(count + _OTHER_FILES, hard)
    )
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _listen(config: ServeConfig) -> socket.socket:
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    found = socket.socket(family)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind((config.host, config.port))
        found.listen(2_048)
    except (OSError, OverflowError, ValueError, TypeError) as error:
        # ValueError, TypeError: the text cannot be the name of a host.
        found.close()
        taken = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
        fault = "is in use" if taken else f"cannot be listened at ({error})"
        raise ConfigError(
            f"{config.host}:{config.port}: {fault}; give another --port or --host"
        ) from error
    return found


class _Server(uvicorn.Server):
    """A uvicorn server that is no longer ready after a signal."""

    def __init__(self, app: App, config: ServeConfig) -> None:
        self.signal = 0
        self._service = app.service
        limits = config.limits

        def protocol(*arguments: Any, **named: Any) -> _BoundedProtocol:  # noqa: ANN401
            return _BoundedProtocol(*arguments, limits=limits, **named)

        super().__init__(
            uvicorn.Config(
                app,
                interface="asgi3",
                http=protocol,  # type: ignore[arg-type]
                ws="none",
                access_log=False,
                log_config=None,
                server_header=False,
                timeout_keep_alive=30,
                timeout_graceful_shutdown=limits.stop_seconds,
            )
        )

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop accepting requests.

        Nothing is logged here. The signal may interrupt the writing of a log line; logging is not
        reentrant, and the error would be raised in the interrupted code.
        """
        self.signal = self.signal or sig
        self._service.ready = False
        super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Finish the running requests."""
        _LOG.info("stopping", extra={"signal": self.signal})
        await super().shutdown(sockets)
        if self.force_exit:  # after a second SIGINT uvicorn leaves this out
            await self.lifespan.shutdown()


class _JoinedWrites:
    """Sends the head of a response together with the next data, in one system call.

    With two calls, the first one would wake up the client too early.
    """

    __slots__ = ("_cycle", "_head", "_transport", "close_soon", "is_closing")

    def __init__(self, cycle: RequestResponseCycle, close_soon: Callable[[], None]) -> None:
        self._cycle, self._transport = cycle, cycle.transport
        self._head: bytes | None = None
        self.is_closing = cycle.transport.is_closing
        self.close_soon = close_soon

    def write(self, data: bytes) -> None:
        """Buffer the head, or send the buffer and the data."""
        if self._head is None and self._cycle.response_started:
            self._head = data
        elif self._head:
            head, self._head = self._head, b""
            self._transport.writelines((head, data))
        else:
            self._transport.write(data)

    def close(self) -> None:
        """Send the buffer, and close."""
        if self._head:
            self.write(b"")
        self.close_soon()


class _BoundedProtocol(HttpToolsProtocol):
    """Ends connections that send or receive too slowly, or that send an endless head.

    uvicorn has no limits for these.
    """

    def __init__(self, *arguments: Any, limits: Limits, **named: Any) -> None:  # noqa: ANN401
        super().__init__(*arguments, **named)
        self._limits = limits
        self._receiving: asyncio.TimerHandle | None = None
        self._sending: asyncio.TimerHandle | None = None
        self._head = 0
        self._in_head = True
        self._unanswered: deque[RequestResponseCycle] = deque()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Accept the connection, unless there are too many."""
        super().connection_made(transport)
        if len(self.connections) > self._limits.connections:
            self._end(b"503 Service Unavailable", b"too many connections; ask again later")
            return
        self._start_receiving()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection, and cancel its requests; uvicorn cancels only the last one."""
        self._stop_receiving()
        self._stop_sending()
        for cycle in self._unanswered:
            cycle.disconnected = True
            cycle.message_event.set()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Receive bytes of a request."""
        if self.transport.is_closing():
            return
        self._unset_keepalive_if_required()
        while data and not self.transport.is_closing():
            if self._in_head:
                self._head += len(data)
            try:
                self.parser.feed_data(data)
                data = b""
            except httptools.HttpParserUpgrade as upgrade:
                data = self._without_upgrade(data[upgrade.args[0] :])
            except httptools.HttpParserError:
                self._end(b"400 Bad Request", b"the request is not valid HTTP", kind=b"Validation")
        if self.transport.is_closing() or not self._in_head:
            return
        if self._head > self._limits.head_bytes:
            self._end(
                b"431 Request Header Fields Too Large", b"the headers are too long",
                kind=b"Validation",
            )  # fmt: skip
        elif self._receiving is None and not self._is_answering:
            # Empty lines stop uvicorn's timer for the next request, but do not begin a request.
            self._start_receiving()

    def on_message_begin(self) -> None:
        """Start the byte count and the timer."""
        super().on_message_begin()
        self._in_head = True
        self._start_receiving()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header; trailers after a body are dropped."""
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head is complete."""
        if self._wants_upgrade or self.transport.is_closing():
            return
        self._in_head, self._head = False, 0
        super().on_headers_complete()
        self._unanswered.append(self.cycle)
        if len(self.pipeline) > _MOST_PIPELINED:
            self._close()  # an error response would be taken for the answer to an earlier request
            return
        if self.scope["method"] != "HEAD":
            joined = _JoinedWrites(self.cycle, self._close)
            self.cycle.transport = joined  # type: ignore[assignment]

    def on_response_complete(self) -> None:
        """The first unanswered request is answered."""
        self._unanswered.popleft()
        super().on_response_complete()

    def on_message_complete(self) -> None:
        """The request is complete."""
        if self._wants_upgrade:
            return
        self._stop_receiving()
        self._in_head, self._head = True, 0
        super().on_message_complete()

    @property
    def _wants_upgrade(self) -> bool:
        return self.parser.should_upgrade() and self.parser.get_method() != b"CONNECT"

    def _without_upgrade(self, rest: bytes) -> bytes:
        """Return the head without ``Upgrade``, and the rest, for a new parser.

        Java's client asks for HTTP/2 with every request, and curl may do so. The parser takes the
        body of such a request for data of the other protocol.
        """
        method = self.parser.get_method()
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does
        if method == b"CONNECT":
            return b""
        head = [b"%b: %b\r\n" % pair for pair in self.headers if pair[0] != b"upgrade"]
        self._head = 0
        return b"%b %b HTTP/1.1\r\n%b\r\n%b" % (method, self.url, b"".join(head), rest)

    def timeout_keep_alive_handler(self) -> None:
        """No further request came."""
        self._close()

    def pause_writing(self) -> None:
        """The client receives too slowly."""
        super().pause_writing()
        self._start_sending()
        unread = sum(other.transport.get_write_buffer_size() for other in self.connections)
        if unread > self._limits.unread_bytes:
            self.loop.call_soon(self.transport.abort)

    def resume_writing(self) -> None:
        """The client receives again."""
        if not self.transport.is_closing():
            self._stop_sending()
        super().resume_writing()

    @property
    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _start_receiving(self) -> None:
        self._stop_receiving()
        self._receiving = self.loop.call_later(self._limits.receive_seconds, self._too_slow)

    def _stop_receiving(self) -> None:
        if self._receiving is not None:
            self._receiving.cancel()
            self._receiving = None

    def _start_sending(self) -> None:
        if self._sending is None:
            seconds = self._limits.receive_seconds
            self._sending = self.loop.call_later(seconds, self.transport.abort)

    def _stop_sending(self) -> None:
        if self._sending is not None:
            self._sending.cancel()
            self._sending = None

    def _too_slow(self) -> None:
        if self.pipeline or (self._in_head and self._is_answering):
            self._start_receiving()  # an earlier request is answered first
        elif self._head if self._in_head else self._is_answering:
            self._end(b"408 Request Timeout", b"the request did not arrive in time")
        else:
            self._close()  # no request was started, or it was refused before its body arrived

    def _close(self) -> None:
        """Close when the client has received everything, or its time is up."""
        self.transport.close()
        self._start_sending()

    def _end(self, status: bytes, message: bytes, *, kind: bytes = b"Overloaded") -> None:
        """Answer and close; if an answer has started already, only close."""
        cycle = self.cycle
        if cycle is None or cycle.response_complete or not cycle.response_started:
            body = b'{"error":"%b","error_type":"%b"}' % (message, kind)
            again = b"retry-after: 1\r\n" if kind == b"Overloaded" else b""
            self.transport.write(
                b"HTTP/1.1 %b\r\ncontent-type: application/json\r\n%bcontent-length: %d\r\n"
                b"connection: close\r\n\r\n%b" % (status, again, len(body), body)
            )
        self._close()
