"""What a server is told: where it listens, who may ask, and how much."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from mirror_rt.errors import ConfigError, InputError

__all__ = ["OPENREFINE", "Limits", "ServeConfig", "host_name", "read_token"]

OPENREFINE = ("http://127.0.0.1:3333", "http://localhost:3333")
"""The origins of OpenRefine, as it starts."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How much a client may ask for; what is over a limit is refused, never cut off.

    Attributes:
        body_bytes: Bytes of a request's body.
        head_bytes: Bytes of its first line and headers.
        inputs: Texts, mentions, queries or ids of a request.
        characters: Characters of one of them; longer names are no names.
        top: Candidates of a mention.
        batch: Queries of a reconciliation batch.
        connections: Connections open at once.
        queued: Tokens that may wait, about; a mention to be linked counts as ``LINK_TOKENS`` more.
        receive_seconds: Within these a request must have arrived whole.
        answer_seconds: Within these it is answered, or refused.
        stop_seconds: So long requests may go on once the server is told to stop.
    """

    body_bytes: int = 4 << 20
    head_bytes: int = 64 << 10
    inputs: int = 2_048
    characters: int = 65_536
    top: int = 100
    batch: int = 100
    connections: int = 4_096
    queued: int = 262_144
    receive_seconds: float = 30.0
    answer_seconds: float = 60.0
    stop_seconds: int = 30


@dataclass(frozen=True, kw_only=True)
class ServeConfig:
    """Where a server listens and who may ask.

    Attributes:
        host: The address; only this machine can reach the default.
        port: The port; 0 takes a free one.
        threads: Batches that run at once, a core each; None for all cores.
        token: What clients must send as ``Authorization: Bearer``; empty for none.
        public_url: The address that clients know the server by, behind a proxy; empty for the
            one that each request names.
        allowed_hosts: Further names that requests may give as ``Host``; ``*`` for any.
        cors_origins: Origins of pages that may read answers; ``*`` for any.
        log_requests: Whether to log a line for each request.
        limits: How much a client may ask for.
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
        """Refuse what cannot be used (ConfigError)."""
        if self.threads is not None and self.threads < 1:
            raise ConfigError(f"threads must be at least 1, got {self.threads}")
        if not 0 <= self.port <= 65_535:
            raise ConfigError(f"port must be between 0 and 65535, got {self.port}")
        if self.public_url:
            split = urlsplit(self.public_url)
            if split.scheme not in {"http", "https"} or not split.hostname or split.query:
                raise ConfigError(
                    f"public URL {self.public_url!r}: give one such as https://example.org/names"
                )
        for origin in self.cors_origins:
            split = urlsplit(origin)
            if origin != "*" and (split.scheme not in {"http", "https"} or split.path):
                raise ConfigError(
                    f"CORS origin {origin!r}: give one such as https://example.org, or *"
                )

    def answers_to(self, host: str) -> bool:
        """Tell whether a request may name the server like that.

        An address in numbers, ``localhost`` and names that were given may. Any other name may
        be a page of a stranger, led to this machine by its own name server (DNS rebinding).
        """
        name = host_name(host)
        known = {"localhost", self.host.lower(), *(given.lower() for given in self.allowed_hosts)}
        if self.public_url:
            known.add((urlsplit(self.public_url).hostname or "").lower())
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


def host_name(host: str) -> str:
    """Return a ``Host`` header without its port, in lower case.

    >>> host_name("[::1]:8080"), host_name("Example.org:80"), host_name("127.0.0.1")
    ('::1', 'example.org', '127.0.0.1')
    """
    host = host.strip().lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def read_token(path: Path) -> str:
    """Read the token of a file: its one line, without the line's end.

    Raises:
        InputError: The file cannot be read or is empty, or the token cannot stand in a header.
    """
    try:
        token = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error}); give a file with one token") from error
    if not token:
        raise InputError(f"{path}: is empty; give a file with one token")
    if not all("!" <= sign <= "~" for sign in token):
        raise InputError(
            f"{path}: a token is one word of ASCII letters, digits and signs, without spaces"
        )
    return token
