"""Routes of text-embeddings-inference (TEI), for the first model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import orjson
from fastapi import APIRouter
from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import Response

from mirror_rt.serving.bodies import Body, Inputs, Texts
from mirror_rt.serving.errors import Refused, TeiError, responses_of
from mirror_rt.serving.library import Model
from mirror_rt.serving.openai_api import in_dimensions
from mirror_rt.serving.service import Call, Service, json_response, service_of
from mirror_rt.serving.work import FORMS, Embed, cost_of
from mirror_rt.version import VERSION

__all__ = ["ERRORS", "router"]

router = APIRouter(tags=["text-embeddings-inference"])

ERRORS = responses_of(TeiError)

Direction = Literal["Left", "Right", "left", "right"]


class Pair(Body):
    """A text, and the texts to compare it with."""

    source_sentence: str
    sentences: Texts


class _Options(Body):
    truncate: bool | None = Field(
        None, description="Whether to cut off texts that are too long (default), or refuse them."
    )
    truncation_direction: Direction | None = Field(None, description="Only Right.")
    prompt_name: str | None = Field(None, description="Not supported: the model has no prompts.")


class EmbedRequest(_Options):
    """Texts to embed."""

    inputs: Inputs
    normalize: bool | None = Field(None, description="Only true: vectors always have length 1.")
    dimensions: int | None = Field(None, ge=1)
    encoding_format: Literal["float", "base64"] | None = None


class RootRequest(EmbedRequest):
    """Texts to embed, or texts to compare, as ``InferenceClient`` posts them."""

    inputs: Inputs | Pair  # type: ignore[assignment]
    parameters: _Options | None = None


class SimilarityRequest(Body):
    """A pair to compare."""

    inputs: Pair
    parameters: _Options | None = None


class TokenizeRequest(Body):
    """Texts to tokenize."""

    inputs: str | Texts
    add_special_tokens: bool = True
    prompt_name: str | None = None


class TokenFields(BaseModel):
    """A token and the position of its characters."""

    id: int
    text: str
    special: bool
    start: int | None
    stop: int | None


def _refuse_options(options: _Options | TokenizeRequest | None) -> None:
    if options is None:
        return
    if options.prompt_name is not None:
        raise Refused(422, "prompt_name: the model has no prompts; leave it out")
    if isinstance(options, EmbedRequest) and options.normalize is False:
        raise Refused(422, "normalize: vectors always have length 1; leave it out")
    if isinstance(options, _Options) and (options.truncation_direction or "").lower() == "left":
        raise Refused(422, "truncation_direction: texts are cut off at their end; give Right")


def _texts(service: Service, inputs: Inputs) -> list[str]:
    texts = [inputs] if isinstance(inputs, str) else inputs
    if any(not isinstance(text, str) for text in texts):
        raise Refused(422, "inputs holds token ids, but each model has its own; give strings")
    service.check(texts, param="inputs")  # type: ignore[arg-type]
    return texts  # type: ignore[return-value]


async def _embed(
    service: Service,
    request: Request,
    model: Model,
    texts: list[str],
    form: Any,  # noqa: ANN401
    options: _Options | None,
) -> tuple[list[Any], dict[str, str]]:
    service.note(request, len(texts))
    most = model.encoder.bundle.manifest.max_length
    costs = [cost_of(text, most=most) for text in texts]
    if options is not None and options.truncate is False:
        counting = Call(lambda: model.encoder.count_truncated(texts))
        count = (await service.run(request, counting, [None], [sum(costs)])).results[0]
        if count:
            raise Refused(
                422,
                f"{count:,} of the texts: too long for the model; shorten them, or let it cut",
            )
    job = await service.run(request, Embed(model.encoder), [(text, form) for text in texts], costs)
    headers = {
        "x-compute-type": "cpu",
        "x-compute-characters": str(sum(map(len, texts))),
        "x-compute-tokens": str(sum(found.tokens for found in job.results)),
        "x-queue-time": str(round(1e3 * job.queue_seconds)),
        "x-inference-time": str(round(1e3 * job.run_seconds)),
    }
    return [found.vector for found in job.results], headers


async def _embed_response(body: EmbedRequest, request: Request) -> Response:
    service = service_of(request)
    _refuse_options(body)
    model = service.library.model(None)
    texts = _texts(service, body.inputs)
    form = in_dimensions(body.dimensions, model, FORMS[body.encoding_format or "float"])
    rows, headers = await _embed(service, request, model, texts, form, body)
    return json_response(b"[%b]" % b",".join(rows), headers=headers)


async def _similarity_response(pair: Pair, options: _Options | None, request: Request) -> Response:
    service = service_of(request)
    _refuse_options(options)
    service.check(pair.sentences, param="sentences")
    model = service.library.model(None)
    texts = [pair.source_sentence, *pair.sentences]
    service.check(texts[:1], param="source_sentence")
    rows, headers = await _embed(service, request, model, texts, _as_it_is, options)
    cosines = [round(float(rows[0] @ row), 7) for row in rows[1:]]
    return json_response(orjson.dumps(cosines), headers=headers)


def _as_it_is(vector: Any) -> Any:  # noqa: ANN401
    return vector


@router.post("/embed", responses={200: {"model": list[list[float]]}, **ERRORS})
async def embed(body: EmbedRequest, request: Request) -> Response:
    """Embed texts; return a list of vectors, even for a single text."""
    return await _embed_response(body, request)


@router.post("/similarity", responses={200: {"model": list[float]}, **ERRORS})
async def similarity(body: SimilarityRequest, request: Request) -> Response:
    """Return the cosine of a text with each of the others."""
    return await _similarity_response(body.inputs, body.parameters, request)


@router.post(
    "/", responses={200: {"model": list[list[float]] | list[float]}, **ERRORS}, tags=["Root"]
)
async def root(body: RootRequest, request: Request) -> Response:
    """Embed texts or compare texts, for ``huggingface_hub.InferenceClient``."""
    _refuse_options(body.parameters)
    if body.parameters is not None and body.parameters.truncate is False:
        body.truncate = False
    if isinstance(body.inputs, Pair):
        return await _similarity_response(body.inputs, body, request)
    return await _embed_response(body, request)


@router.post("/tokenize", responses={200: {"model": list[list[TokenFields]]}, **ERRORS})
async def tokenize(body: TokenizeRequest, request: Request) -> Response:
    """Return the tokens of texts, as the model sees them."""
    service = service_of(request)
    _refuse_options(body)
    model = service.library.model(None)
    texts = _texts(service, body.inputs)
    service.note(request, len(texts))
    job = await service.run(
        request, _Tokenize(model, body.add_special_tokens), texts, [len(t) // 16 for t in texts]
    )
    return json_response(b"[%b]" % b",".join(job.results))


class _Tokenize:
    def __init__(self, model: Model, special: bool) -> None:
        self._model, self._special = model, special
        self.key = ("tokenize", id(model.encoder), special)

    def run(self, items: Sequence[str]) -> list[bytes]:
        """Return the tokens of each text as JSON."""
        encoder = self._model.encoder
        return [
            orjson.dumps([_fields(*token) for token in tokens])
            for tokens in encoder.tokenize(list(items), special_tokens=self._special)
        ]


def _fields(id_: int, text: str, special: bool, start: int, stop: int) -> dict[str, object]:
    # A special token has no characters: null, as in TEI.
    begin, end = (None, None) if special else (start, stop)
    return {"id": id_, "text": text, "special": special, "start": begin, "stop": end}


@router.get("/info", responses={200: {"model": dict[str, Any]}, **ERRORS, 500: {"model": TeiError}})
async def info(request: Request) -> Response:
    """Describe the first model and the limits."""
    service = service_of(request)
    model, limits = service.library.model(None), service.config.limits
    bundle = model.encoder.bundle
    manifest = bundle.manifest
    return json_response(
        orjson.dumps(
            {
                "model_id": model.name,
                "model_sha": bundle.fingerprint,
                "model_dtype": manifest.precision.value,
                "served_model_name": model.name,
                "model_type": {"embedding": {"pooling": manifest.pooling.value}},
                "max_concurrent_requests": limits.connections,
                "max_input_length": manifest.max_length,
                "max_batch_tokens": limits.queued,
                "max_batch_requests": None,
                "max_client_batch_size": limits.inputs,
                "auto_truncate": True,
                "tokenization_workers": service.library.threads,
                "version": VERSION,
                "sha": None,
                "docker_label": None,
            }
        )
    )
