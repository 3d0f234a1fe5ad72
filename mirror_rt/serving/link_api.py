"""The routes for linking and search, with the options of ``mirror-rt link`` and ``search``."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from mirror_rt._count import counted
from mirror_rt.errors import InputError
from mirror_rt.serving.bodies import ExactBody, Filters, Texts
from mirror_rt.serving.errors import Refused
from mirror_rt.serving.library import ServedKb
from mirror_rt.serving.service import Service, json_response, service_of
from mirror_rt.serving.tei_api import ERRORS
from mirror_rt.serving.work import Explain, Link, LinkItem, Search
from mirror_rt.types import Entity

__all__ = ["entity_fields", "options_of", "router"]

router = APIRouter(tags=["Linking"])

MAX_EXPLAINED = 64
"""The maximum number of mentions to explain at once: each costs as much as several links."""


class LinkRequest(ExactBody):
    """Mentions to link, with the options of ``mirror-rt link``."""

    mentions: Texts = Field(description="Up to 2,048.", examples=[["kidney stones"]])
    kb: str | None = Field(None, description="The knowledge base, if there are several.")
    top: int = Field(5, ge=1, le=100, description="Candidates for each mention.")
    target_precision: float | None = Field(
        None, gt=0, le=1, description="Review mentions below the threshold of this precision."
    )
    wrong_at_most: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="Review mentions below the threshold that guarantees at most this share of "
        "wrong links; needs a calibration with mentions kept apart.",
    )
    review_below: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Review mentions below this probability, and ties; .5 if no other "
        "threshold is given.",
    )
    min_probability: float = Field(
        0.0, ge=0, le=1, description="Mentions below this probability are NIL."
    )
    filters: Filters = Field(default_factory=dict, description="The allowed values of each field.")
    contexts: Texts | None = Field(None, description="The text around each mention, or ''.")
    document: str | Texts | None = Field(
        None, description="The text of the mentions, or one for each, to expand abbreviations."
    )
    split_composites: bool = Field(False, description="Split 'breast and ovarian cancer'.")


class SearchRequest(ExactBody):
    """Queries to search for, with the options of ``mirror-rt search``."""

    queries: Texts = Field(description="Up to 2,048.", examples=[["bone pain"]])
    kb: str | None = Field(None, description="The knowledge base, if there are several.")
    top: int = Field(10, ge=1, le=100, description="Results for each query.")
    hybrid: bool | None = Field(
        None,
        description="Search by vectors and trigrams, or by vectors alone; the default is true "
        "for passages, false for names.",
    )
    filters: Filters = Field(default_factory=dict, description="The allowed values of each field.")


class CandidateFields(BaseModel):
    """A candidate entity; see ``mirror_rt.types.Candidate``."""

    model_config = ConfigDict(extra="allow")
    entity_id: str | None = None
    entity_name: str | None = None
    matched_name: str | None = None
    match_type: str
    score: float
    probability: float | None = None
    tied: bool | None = None


class LinkFields(BaseModel):
    """The result for a mention; a mention that links to nothing has a ``nil_reason``."""

    model_config = ConfigDict(extra="allow")
    status: str | None = Field(None, description="For mentions: linked, review or nil.")
    candidates: list[CandidateFields]
    nil_reason: str | None = None


class LinkResponse(BaseModel):
    """A result for each mention or query, in order."""

    kb: str
    results: list[LinkFields]


class NameFields(BaseModel):
    """A name of an entity."""

    text: str
    kind: str
    language: str
    source: str


class EntityFields(BaseModel):
    """An entity with all its fields."""

    id: str
    name: str
    names: list[NameFields]
    types: list[str]
    alternative_ids: list[str]
    cross_references: list[str]
    parents: list[str]
    description: str
    fields: list[list[str]]


def options_of(service: Service, body: LinkRequest) -> tuple[tuple[str, Any], ...]:
    """Return the options of a link as a hashable value, for sharing batches."""
    return (
        ("top", body.top),
        ("target_precision", body.target_precision),
        ("wrong_at_most", body.wrong_at_most),
        ("review_below", body.review_below),
        ("min_probability", body.min_probability),
        ("filters", hashable(service, body.filters)),
        ("split_composites", body.split_composites),
    )


def hashable(service: Service, filters: Filters) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Return filters as pairs of field and values (Refused if a value is not valid text)."""
    pairs = tuple(
        (field, (given,) if isinstance(given, str) else tuple(given))
        for field, given in filters.items()
    )
    if pairs:
        service.check([text for pair in pairs for text in (pair[0], *pair[1])], param="filters")
    return pairs


def _answer(served: ServedKb, rows: list[bytes]) -> Response:
    name = orjson.dumps(served.name)
    return json_response(b'{"kb":%b,"results":[%b]}' % (name, b",".join(rows)))


def _named(service: Service, name: str | None) -> ServedKb:
    served = service.library.kb(name)
    if served.holds_passages:
        raise Refused(400, f"{served.name} holds passages, not names; ask /search", param="kb")
    return served


def _items(service: Service, body: LinkRequest) -> list[LinkItem]:
    service.check(body.mentions, param="mentions")
    count = len(body.mentions)
    contexts = _beside(service, body.contexts, count, param="contexts")
    documents = _beside(service, body.document, count, param="document")
    return [LinkItem(*row) for row in zip(body.mentions, contexts, documents, strict=True)]


def _beside(
    service: Service, given: str | list[str] | None, count: int, *, param: str
) -> list[str]:
    if isinstance(given, list):
        if len(given) != count:
            raise Refused(
                400,
                f"{param}: give one for each of {counted(count, 'mention')}, "
                "empty where there is none",
                param=param,
            )
        service.check(given, param=param)
        return given
    service.check([given or ""], param=param)  # once, as it may be long
    return [given or ""] * count


@router.post("/link", responses={200: {"model": LinkResponse}, **ERRORS})
async def link(body: LinkRequest, request: Request) -> Response:
    """Link mentions to entities: candidates, best first, or the reason why there is none."""
    service = service_of(request)
    served = _named(service, body.kb)
    items = _items(service, body)
    service.note(request, len(items))
    return _answer(
        served, await service.link(request, Link(served, options_of(service, body)), items)
    )


@router.post("/explain", responses={200: {"model": LinkResponse}, **ERRORS})
async def explain(body: LinkRequest, request: Request) -> Response:
    """Link up to 64 mentions; return the features of each candidate and of the nearest others."""
    service = service_of(request)
    served = _named(service, body.kb)
    if len(body.mentions) > MAX_EXPLAINED:
        raise Refused(413, f"give at most {MAX_EXPLAINED} mentions to explain", param="mentions")
    items = _items(service, body)
    service.note(request, len(items))
    return _answer(
        served, await service.link(request, Explain(served, options_of(service, body)), items)
    )


@router.post("/search", responses={200: {"model": LinkResponse}, **ERRORS})
async def search(body: SearchRequest, request: Request) -> Response:
    """Find the entities with the nearest names, or the nearest passages."""
    service = service_of(request)
    served = service.library.kb(body.kb)
    service.check(body.queries, param="queries")
    service.note(request, len(body.queries))
    options = (
        ("top", body.top),
        ("hybrid", body.hybrid),
        ("filters", hashable(service, body.filters)),
    )
    items = [LinkItem(query) for query in body.queries]
    return _answer(served, await service.link(request, Search(served, options), items))


@router.get("/entity", responses={200: {"model": EntityFields}, **ERRORS})
async def entity(
    request: Request,
    id_: Annotated[str, Query(alias="id", description="The id, or an alternative id.")],
    kb: Annotated[
        str | None, Query(description="The knowledge base, if there are several.")
    ] = None,
) -> Response:
    """Look up an entity by id."""
    served = _named(service_of(request), kb)
    return json_response(orjson.dumps(entity_fields(find_entity(served, id_))))


def find_entity(served: ServedKb, id_: str) -> Entity:
    """Return an entity by id (Refused, 404, if there is none)."""
    try:
        return served.kb.entity(id_)
    except InputError as error:
        # The library's message contains the folder, which clients must not see.
        if served.kb.resources.catalogue.resolve(id_):
            message = f"{id_[:100]!r} is an alternative id of several entities; give the id of one"
            raise Refused(400, message, param="id") from error
        message = f"no entity of {served.name} has the id {id_[:100]!r}; look it up by name"
        raise Refused(404, message, param="id") from error


def entity_fields(entity: Entity) -> dict[str, object]:
    """Return an entity as a dict for JSON."""
    fields = asdict(entity)
    for name in fields["names"]:
        name["kind"] = name["kind"].value
    return {"id": entity.id, "name": entity.name, **fields}
