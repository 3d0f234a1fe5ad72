"""What is refused, and how it is told: in OpenAI's shape under ``/v1``, in TEI's elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from pydantic import BaseModel
from starlette.responses import Response

from mirror_rt.errors import one_line

__all__ = ["OpenAIError", "Refused", "Responses", "TeiError", "refusal", "responses_of"]

Responses = dict[int | str, dict[str, Any]]
"""What a route may answer, by status, as OpenAPI describes it."""

_TEI = {
    400: "Validation", 404: "Validation", 413: "Validation", 422: "Validation",
    429: "Overloaded", 503: "Unhealthy",
}  # fmt: skip
_OPENAI = {
    401: "invalid_request_error", 429: "rate_limit_error", 500: "server_error",
    503: "server_error",
}  # fmt: skip


class OpenAIErrorBody(BaseModel):
    """What is wrong."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class OpenAIError(BaseModel):
    """An error, as OpenAI tells it."""

    error: OpenAIErrorBody


class TeiError(BaseModel):
    """An error, as text-embeddings-inference tells it."""

    error: str
    error_type: str


def responses_of(model: type[BaseModel]) -> Responses:
    """Return what any route may answer instead of what was asked for, in the shape of a model.

    The model is named, not given: FastAPI would build what checks it for each route and status,
    which takes a tenth of a second at every start. One route has to give it.
    """
    content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{model.__name__}"}}}
    return {
        status: {"description": text, "content": content}
        for status, text in {
            400: "The request makes no sense.", 401: "The token is missing or wrong.",
            404: "There is no such thing.", 413: "Too much at once.", 421: "An unknown Host.",
            422: "The request is not as described.", 429: "Too much waits already.",
            500: "An internal error.", 503: "Not ready, or stopping.",
        }.items()
    }  # fmt: skip


class Refused(Exception):
    """A request that is not answered, with the status that says so.

    Attributes:
        status: The HTTP status.
        message: What is wrong and what to do, for the one who asked; shows no path.
        param: The field at fault.
        code: The fault in one word, as OpenAI names it.
        retry_after: In how many seconds to ask again.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = one_line(message)
        self.param = None if param is None else one_line(param)
        self.code = code
        self.retry_after = retry_after


def refusal(refused: Refused, path: str, *, headers: Mapping[str, str] | None = None) -> Response:
    """Return the response to a request that is refused, in the shape of its path."""
    told = dict(headers or {})
    if refused.retry_after is not None:
        told["Retry-After"] = str(refused.retry_after)
    if refused.status == 401:
        told["WWW-Authenticate"] = "Bearer"
    body: dict[str, object]
    if path.startswith("/v1/"):
        code = refused.code or {401: "invalid_api_key", 429: "rate_limit_exceeded"}.get(
            refused.status
        )
        kind = _OPENAI.get(refused.status, "invalid_request_error")
        body = {
            "error": {
                "message": refused.message, "type": kind, "param": refused.param, "code": code,
            }
        }  # fmt: skip
    else:
        kind = "Empty" if refused.code == "empty" else _TEI.get(refused.status, "Backend")
        body = {"error": refused.message, "error_type": kind}
    return Response(
        orjson.dumps(body),
        status_code=refused.status,
        headers=told,
        media_type="application/json",
    )
