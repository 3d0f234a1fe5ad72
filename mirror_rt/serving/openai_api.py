"""OpenAI's embeddings: ``POST /v1/embeddings``, ``GET /v1/models``."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import orjson
from fastapi import APIRouter
from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import Response

from mirror_rt.serving.bodies import Body, Inputs
from mirror_rt.serving.errors import OpenAIError, Refused, responses_of
from mirror_rt.serving.library import Model
from mirror_rt.serving.service import json_response, service_of
from mirror_rt.serving.work import FORMS, Embed, cost_of, shortened

if TYPE_CHECKING:
    from mirror_rt.types import Float32

__all__ = ["in_dimensions", "router"]

router = APIRouter(prefix="/v1", tags=["OpenAI"])

_ERRORS = responses_of(OpenAIError)


class EmbeddingsRequest(Body):
    """The request of OpenAI's clients."""

    input: Inputs = Field(
        description="A text, or up to 2,048 texts. Token ids are an error: each model has its own."
    )
    model: str | None = Field(None, description="The name of the model; by default the first one.")
    encoding_format: Literal["float", "base64"] | None = Field(
        None, description="float (default) or base64 of little-endian float32."
    )
    dimensions: int | None = Field(
        None, ge=1, description="Keep this many numbers of each vector, scaled to length 1."
    )
    user: str | None = Field(None, description="Ignored.")


class Embedding(BaseModel):
    """A vector."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class Usage(BaseModel):
    """The number of tokens."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingsResponse(BaseModel):
    """A vector for each text, in order."""

    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: Usage


class ModelCard(BaseModel):
    """A model of the server."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class ModelList(BaseModel):
    """The models of the server."""

    object: Literal["list"]
    data: list[ModelCard]


@router.post("/embeddings", responses={200: {"model": EmbeddingsResponse}, **_ERRORS})
async def embeddings(body: EmbeddingsRequest, request: Request) -> Response:
    """Embed texts. An empty text gets the vector of an empty input."""
    service = service_of(request)
    model = service.library.model(body.model)
    given = body.input
    texts = [given] if isinstance(given, str) else given
    if texts and not isinstance(texts[0], str):
        raise Refused(
            400,
            "input holds token ids, but each model has its own; give strings "
            "(in LangChain: check_embedding_ctx_length=False)",
            param="input",
        )
    service.check(texts, param="input")  # type: ignore[arg-type]
    service.note(request, len(texts))
    form = in_dimensions(body.dimensions, model, FORMS[body.encoding_format or "float"])
    most = model.encoder.bundle.manifest.max_length
    job = await service.run(
        request,
        Embed(model.encoder),
        [(text, form) for text in texts],
        [cost_of(text, most=most) for text in texts],  # type: ignore[arg-type]
    )
    tokens = sum(found.tokens for found in job.results)
    rows = b",".join(
        b'{"object":"embedding","index":%d,"embedding":%b}' % (i, found.vector)
        for i, found in enumerate(job.results)
    )
    end = {"model": model.name, "usage": {"prompt_tokens": tokens, "total_tokens": tokens}}
    return json_response(b'{"object":"list","data":[%b],%b' % (rows, orjson.dumps(end)[1:]))


def in_dimensions(
    dimensions: int | None, model: Model, form: Callable[[Float32], Any]
) -> Callable[[Float32], Any]:
    """Return a function that formats vectors cut to some dimensions (Refused if too many)."""
    if dimensions is None or dimensions == model.encoder.dim:
        return form
    if dimensions > model.encoder.dim:
        raise Refused(
            400,
            f"dimensions {dimensions:,}: vectors of {model.name} have {model.encoder.dim}; "
            "give at most that",
            param="dimensions",
        )
    return shortened(dimensions, form)


def _card(model: Model) -> dict[str, object]:
    return {
        "id": model.name, "object": "model", "created": model.opened, "owned_by": "mirror-rt",
    }  # fmt: skip


@router.get(
    "/models", responses={200: {"model": ModelList}, **_ERRORS, 500: {"model": OpenAIError}}
)
async def models(request: Request) -> Response:
    """List the models: those of bundles, and those of knowledge bases under their names."""
    found = [_card(model) for model in service_of(request).library.models.values()]
    return json_response(orjson.dumps({"object": "list", "data": found}))


@router.get("/models/{model:path}", responses={200: {"model": ModelCard}, **_ERRORS})
async def model(model: str, request: Request) -> Response:
    """Describe a model."""
    return json_response(orjson.dumps(_card(service_of(request).library.model(model))))
