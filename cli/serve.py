"""``mirror-rt serve``: embeddings, linking and reconciliation over HTTP, with a web page."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from enum import Enum
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from mirror_rt.errors import ConfigError


class LogLevel(Enum):
    """The level of the log."""

    INFO = "info"
    WARNING = "warning"


def serve(
    kb: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=DIR", help="A knowledge base and its name; repeatable."),
    ] = None,
    bundle: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=DIR", help="A bundle and its model's name; repeatable."),
    ] = None,
    host: Annotated[
        str, typer.Option(help="The address to listen at; 0.0.0.0 for every network.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="0 takes a free one.")] = 8080,
    threads: Annotated[
        int | None,
        typer.Option(min=1, help="Batches that run at the same time; by default one per core."),
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option(help="A file with the token that clients must send as Authorization: Bearer."),
    ] = None,
    public_url: Annotated[str, typer.Option(help="The public URL behind a proxy.")] = "",
    allow_host: Annotated[
        list[str] | None,
        typer.Option(help="A further name that clients may call it by; * for any; repeatable."),
    ] = None,
    cors: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ORIGIN",
            help="Pages that may read answers, * for any; by default OpenRefine's; repeatable.",
        ),
    ] = None,
    max_inputs: Annotated[
        int, typer.Option(min=1, help="Maximum texts, mentions or queries per request.")
    ] = 2_048,
    max_queue: Annotated[
        int, typer.Option(min=1, help="Tokens that may wait; requests beyond get 429.")
    ] = 262_144,
    log_level: Annotated[
        LogLevel, typer.Option(help="info logs each request, warning only problems.")
    ] = LogLevel.INFO,
) -> None:
    """Serve knowledge bases and bundles over HTTP.

    The routes of OpenAI and TEI, linking, and a web page.

    Reconciliation for OpenRefine is at /reconcile/NAME. All routes are in /openapi.json.
    """
    # Each batch uses one core, and one batch per core runs at the same time.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    from mirror_rt.serving.config import OPENREFINE, Limits, ServeConfig, read_token
    from mirror_rt.serving.library import Library

    config = ServeConfig(
        host=host,
        port=port,
        threads=threads,
        token="" if token_file is None else read_token(token_file),
        public_url=public_url.rstrip("/"),
        allowed_hosts=allow_host or (),
        cors_origins=cors or OPENREFINE,
        log_requests=log_level is LogLevel.INFO,
        limits=Limits(inputs=max_inputs, queued=max_queue),
    )
    kbs, bundles = _named("--kb", kb or ()), _named("--bundle", bundle or ())
    with ThreadPoolExecutor(1) as pool:
        # Importing FastAPI takes as long as opening a knowledge base, which is mostly reading.
        server = pool.submit(import_module, "mirror_rt.serving.server")
        library = Library(kbs, bundles, threads=threads)
    signal = server.result().serve(library, config, log_level=getattr(logging, log_level.name))
    if signal:
        raise typer.Exit(128 + signal)


def _named(option: str, given: Sequence[str]) -> dict[str, Path]:
    """Parse NAME=DIR; a folder alone is served under its own name."""
    found: dict[str, Path] = {}
    for text in given:
        name, equals, folder = text.partition("=")
        if not equals:
            name, folder = Path(text).resolve().name, text
        if not name or not folder:
            raise ConfigError(f"{option} {text}: give NAME=DIR, as in {option} places=my-kb")
        if name in found:
            raise ConfigError(f"{option} {name}: is given twice; give each another name")
        found[name] = Path(folder)
    return found
