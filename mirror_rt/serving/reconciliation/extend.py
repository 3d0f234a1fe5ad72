"""Data extension: fetch properties of entities as columns."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response

from mirror_rt._count import counted
from mirror_rt.errors import InputError
from mirror_rt.serving.errors import Refused
from mirror_rt.serving.library import ServedKb
from mirror_rt.serving.reconciliation.protocol import (
    ANSWERS,
    MOST_PROPERTIES,
    Callback,
    call,
    object_in,
    respond,
    served_kb,
)
from mirror_rt.serving.service import service_of
from mirror_rt.types import Entity

__all__ = ["extended", "properties_of", "router", "values_of"]

router = APIRouter()

_WHOLE = re.compile(r"[0-9]{1,9}")

_PROPERTIES = {
    "name": ("Name", "The preferred name."),
    "alias": ("Alias", "Every other name."),
    "type": ("Type", "Types or classes."),
    "description": ("Description", "A definition in words."),
    "cross_reference": ("Cross-reference", "Ids of the same thing elsewhere."),
    "alternative_id": ("Alternative id", "Other ids of the same entity."),
    "parent": ("Parent", "The broader things that it is a kind of."),
}


def properties_of(served: ServedKb) -> list[dict[str, str]]:
    """Return the properties of entities: the standard ones and the fields."""
    own = [
        {"id": id_, "name": name, "description": description}
        for id_, (name, description) in _PROPERTIES.items()
    ]
    kept = [field for field in served.field_names if field not in _PROPERTIES]
    return own + [{"id": f, "name": f, "description": "A field."} for f in kept]


@router.get("/propose", responses=ANSWERS)
async def propose(
    name: str,
    request: Request,
    type: Annotated[str, Query(description="A type; all have the same properties.")] = "",
    limit: Annotated[int | None, Query(ge=1, le=10_000, description="The maximum number.")] = None,
    callback: Callback = None,
) -> Response:
    """Propose properties for a data extension."""
    served = served_kb(request, name)
    found: dict[str, Any] = {"properties": await call(request, lambda: properties_of(served))}
    if type:
        found["type"] = type
    if limit is not None:
        found["limit"] = limit
        found["properties"] = found["properties"][:limit]
    return respond(found, callback)


async def extended(request: Request, served: ServedKb, given: str) -> bytes:
    """Return properties of ids for a JSON request (Refused if it is not valid or too long)."""
    service = service_of(request)
    request_data = object_in(given, "extend")
    ids, properties = request_data.get("ids"), request_data.get("properties")
    if not isinstance(ids, list) or not all(isinstance(id_, str) for id_ in ids):
        raise Refused(400, "extend: give ids, a list of strings", param="ids")
    if not isinstance(properties, list) or not all(
        isinstance(item, dict) and isinstance(item.get("id"), str) for item in properties
    ):
        raise Refused(400, "extend: give properties, a list of objects with an id",
                      param="properties")  # fmt: skip
    if len(properties) > MOST_PROPERTIES or len(ids) > service.config.limits.inputs:
        raise Refused(
            413,
            f"extend: give at most {MOST_PROPERTIES} properties and "
            f"{counted(service.config.limits.inputs, 'id')}",
            param="extend",
        )
    service.note(request, len(ids))
    return orjson.dumps(await call(request, lambda: _rows(served, ids, properties), len(ids)))


def _rows(
    served: ServedKb, ids: Sequence[str], properties: Sequence[Mapping[str, Any]]
) -> dict[str, object]:
    names = {item["id"]: item["name"] for item in properties_of(served)}
    rows: dict[str, dict[str, list[dict[str, str]]]] = {}
    for id_ in ids:
        try:
            entity = served.kb.entity(id_)
        except InputError:
            entity = None
        # Return every property of every id: OpenRefine shifts the columns if one is missing.
        rows[id_] = {
            item["id"]: []
            if entity is None
            else _limited(values_of(served, entity, item["id"]), item)
            for item in properties
        }
    meta = [{"id": item["id"], "name": names.get(item["id"], item["id"])} for item in properties]
    return {"meta": meta, "rows": rows}


def _limited(values: list[dict[str, str]], item: Mapping[str, Any]) -> list[dict[str, str]]:
    settings = item.get("settings")
    limit = settings.get("limit") if isinstance(settings, dict) else None
    if isinstance(limit, str) and _WHOLE.fullmatch(limit):
        limit = int(limit)
    return values[: int(limit)] if isinstance(limit, (int, float)) and limit >= 1 else values


def values_of(served: ServedKb, entity: Entity, property_: str) -> list[dict[str, str]]:
    """Return the values of a property of an entity."""
    match property_:
        case "name":
            return [{"str": entity.name}]
        case "alias":
            return [{"str": alias} for alias in entity.aliases]
        case "type":
            return [{"id": type_, "name": type_} for type_ in entity.types]
        case "description":
            return [{"str": entity.description}] if entity.description else []
        case "cross_reference":
            return [{"str": id_} for id_ in entity.cross_references]
        case "alternative_id":
            return [{"str": id_} for id_ in entity.alternative_ids]
        case "parent":
            about = served.kb.resources.catalogue.about(entity.parents)
            return [
                {"id": id_, "name": about[id_][0] if id_ in about else id_}
                for id_ in entity.parents
            ]
        case _:
            return [{"str": value} for field, value in entity.fields if field == property_]
