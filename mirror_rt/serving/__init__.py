"""HTTP: embeddings, linking and reconciliation, and a page to try them. Needs the extra [serve]."""

from __future__ import annotations

from mirror_rt._extras import require

require(
    "fastapi", "httptools", "jinja2", "multipart", "orjson", "prometheus_client", "uvicorn",
    extra="serve",
)  # fmt: skip

from mirror_rt.serving.app import create_app  # noqa: E402
from mirror_rt.serving.config import Limits, ServeConfig  # noqa: E402
from mirror_rt.serving.library import Library  # noqa: E402
from mirror_rt.serving.server import serve  # noqa: E402

__all__ = ["Library", "Limits", "ServeConfig", "create_app", "serve"]
