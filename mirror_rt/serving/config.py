"""The settings of a server: address, access and limits."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mirror_rt.errors import ConfigError, InputError

__all__ = ["OPENREFINE", "Limits", "ServeConfig", "host_name", "read_token"]

_HOST = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<name>[\w.-]+))(?::\d{1,5})?", re.ASCII)
_URL = re.compile(rf"https?://(?:{_HOST.pattern})(?P<path>(?:/[\w.~%-]+)*)", re.ASCII)

_MOST_THREADS = 1_024

OPENREFINE = ("http://127.0.0.1:3333", "http://localhost:3333")
"""The default origins of OpenRefine."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The limits for clients. A request over a limit is an error; nothing is cut off.

    Attributes:
        body_bytes: Bytes of the body of a request.
        held_bytes: Bytes of the bodies of all requests that are not answered yet.
        unread_bytes: Bytes of all answers that clients have not received yet.
        head_bytes: Bytes of its first line and headers.
        inputs: Texts, mentions, queries or ids of a request.
        characters: Characters of a text, mention, query or id.
        batch: Queries of a reconciliation batch.
        connections: Open connections.
        queued: Approximate number of waiting tokens. A mention counts ``LINK_TOKENS`` more.
        receive_seconds: Time for a request to arrive completely.
        answer_seconds: Time for the answer.
        stop_seconds: Time for running requests after the signal to stop.
    """

    body_bytes: int = 4 << 20
    held_bytes: int = 256 << 20
    unread_bytes: int = 512 << 20
    head_bytes: int = 64 << 10
    inputs: int = 2_048
    characters: int = 65_536
    batch: int = 100
    connections: int = 4_096
    queued: int = 262_144
    receive_seconds: float = 30.0
    answer_seconds: float = 60.0
    stop_seconds: int = 30


@dataclass(frozen=True, kw_only=True)
class ServeConfig:
    """The address of a server, and the access to it.

    Attributes:
        host: The address; only this machine can reach the default.
        port: The port; 0 takes a free one.
        threads: Batches that run at the same time, one core each; None for all cores.
        token: The token that clients must send as ``Authorization: Bearer``; empty for none.
        public_url: The public URL of the server behind a proxy; empty to use the ``Host`` of
            each request.
        allowed_hosts: Further names that requests may send as ``Host``; ``*`` for any.
        cors_origins: Origins of web pages that may read answers; ``*`` for any.
        log_requests: Whether to log a line for each request.
        limits: The limits for clients.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    threads: int | None = None
    token: str = ""
    public_url: str = ""
    allowed_hosts: Sequence[str] = ()
    cors_origins: Sequence[str] = OPENREFINE
    log_requests: bool = True
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        """Check the values (ConfigError)."""
        if self.threads is not None and not 1 <= self.threads <= _MOST_THREADS:
            raise ConfigError(f"threads: must be from 1 to {_MOST_THREADS:,}, got {self.threads:,}")
        if not 0 <= self.port <= 65_535:
            raise ConfigError(f"port: must be between 0 and 65535, got {self.port}")
        if self.public_url and not _URL.fullmatch(self.public_url):
            raise ConfigError(
                f"public URL {self.public_url!r}: give one such as https://example.org/names"
            )
        for origin in self.cors_origins:
            given = _URL.fullmatch(origin)
            if origin != "*" and (given is None or given["path"]):
                raise ConfigError(
                    f"CORS origin {origin!r}: give one such as https://example.org, or *"
                )

    def answers_to(self, host: str) -> bool:
        """Return whether a request may use this ``Host``.

        IP addresses, ``localhost`` and the allowed names are accepted. Any other name may be an
        attack by DNS rebinding: a foreign page whose name server points to this machine.
        """
        name = host_name(host)
        if name is None:
            return False
        known = {"localhost", self.host.lower(), *(given.lower() for given in self.allowed_hosts)}
        if self.public_url:
            known.add(_name(_URL.fullmatch(self.public_url)) or "")
        if name in known or "*" in known:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach it."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def host_name(host: str) -> str | None:
    """Return a ``Host`` header without its port, in lower case; None if it is not one.

    Answers contain the header, as the address of the server, so nothing else may be in it.

    >>> host_name("[::1]:8080"), host_name("Example.org:80"), host_name("a@b"), host_name("a:b")
    ('::1', 'example.org', None, None)
    """
    return _name(_HOST.fullmatch(host.strip()))


def _name(found: re.Match[str] | None) -> str | None:
    return None if found is None else (found["v6"] or found["name"]).lower()


def read_token(path: Path) -> str:
    """Read the token in a file: its only line, without the line end.

    Raises:
        InputError: The file cannot be read or is empty, or the token is not valid in a header.
    """
    try:
        token = path.read_text(encoding="utf-8-sig").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error}); give a file with one token") from error
    if not token:
        raise InputError(f"{path}: is empty; give a file with one token")
    if not all("!" <= sign <= "~" for sign in token):
        raise InputError(
            f"{path}: a token is one word of ASCII letters, digits and signs, without spaces"
        )
    return token
