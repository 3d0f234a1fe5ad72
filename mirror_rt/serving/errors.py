"""Error responses: in OpenAI's format under ``/v1``, in TEI's format elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from pydantic import BaseModel
from starlette.responses import Response

from mirror_rt.errors import one_line

__all__ = ["OpenAIError", "Refused", "Responses", "TeiError", "refusal", "responses_of", "shorten"]

Responses = dict[int | str, dict[str, Any]]
"""The responses of a route, by status, as in OpenAPI."""

_TEI = {
    400: "Validation", 404: "Validation", 405: "Validation", 413: "Validation",
    415: "Validation", 421: "Validation", 422: "Validation",
    429: "Overloaded", 503: "Unhealthy",
}  # fmt: skip
_OPENAI = {
    401: "invalid_request_error", 429: "rate_limit_error", 500: "server_error",
    503: "server_error",
}  # fmt: skip


class OpenAIErrorBody(BaseModel):
    """The error."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class OpenAIError(BaseModel):
    """An error in OpenAI's format."""

    error: OpenAIErrorBody


class TeiError(BaseModel):
    """An error in the format of text-embeddings-inference."""

    error: str
    error_type: str


def responses_of(model: type[BaseModel]) -> Responses:
    """Return the error responses of any route, in the format of a model.

    The model is given by name. With the class, FastAPI would build a validator for each route and
    status, which takes a tenth of a second at every start. One route must give the class.
    """
    content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{model.__name__}"}}}
    return {
        status: {"description": text, "content": content}
        for status, text in {
            400: "The request is not valid.", 401: "The token is missing or wrong.",
            404: "Not found.", 413: "The request is too large.", 415: "The body is compressed.",
            421: "The Host is not allowed.",
            422: "The request does not match the schema.", 429: "The queue is full.",
            500: "An internal error.", 503: "Not ready, or stopping.",
        }.items()
    }  # fmt: skip


class Refused(Exception):
    """A request that is answered with an error.

    Attributes:
        status: The HTTP status.
        message: The fault and the way out, for the client; contains no path of a file.
        param: The field with the fault.
        code: OpenAI's code of the error.
        retry_after: Seconds until the client should try again.
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
        self.message = one_line(shorten(message))
        self.param = None if param is None else one_line(shorten(param))
        self.code = code
        self.retry_after = retry_after


def shorten(text: str, *, most: int = 500) -> str:
    """Cut a text that may contain something long from a request."""
    return text if len(text) <= most else f"{text[:most]}…"


def refusal(refused: Refused, path: str, *, headers: Mapping[str, str] | None = None) -> Response:
    """Return the error response, in the format that belongs to the path."""
    sent = dict(headers or {})
    if refused.retry_after is not None:
        sent["Retry-After"] = str(refused.retry_after)
    if refused.status == 401:
        sent["WWW-Authenticate"] = "Bearer"
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
        headers=sent,
        media_type="application/json",
    )
