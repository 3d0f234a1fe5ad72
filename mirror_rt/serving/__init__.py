"""HTTP server: embeddings, linking, reconciliation and a web page. Needs the extra [serve]."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from mirror_rt._extras import require

if TYPE_CHECKING:
    from mirror_rt.serving.app import create_app
    from mirror_rt.serving.config import Limits, ServeConfig
    from mirror_rt.serving.library import Library
    from mirror_rt.serving.server import serve

require(
    "fastapi", "httptools", "jinja2", "multipart", "orjson", "prometheus_client", "uvicorn",
    extra="serve",
)  # fmt: skip

_WHERE = {
    "Library": "library",
    "Limits": "config",
    "ServeConfig": "config",
    "create_app": "app",
    "serve": "server",
}

__all__ = ["Library", "Limits", "ServeConfig", "create_app", "serve"]


def __getattr__(name: str) -> object:
    # Imported late: a thread can open the library while FastAPI is imported.
    if name in _WHERE:
        return getattr(import_module(f"mirror_rt.serving.{_WHERE[name]}"), name)
    raise AttributeError(f"module 'mirror_rt.serving' has no attribute {name!r}")
