"""The main route of the protocol for each knowledge base: manifest, queries, data extension."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Query
from starlette.requests import Request
from starlette.responses import Response

from mirror_rt.serving.errors import Refused
from mirror_rt.serving.library import ServedKb
from mirror_rt.serving.reconciliation import extend as extension
from mirror_rt.serving.reconciliation import previews, suggest
from mirror_rt.serving.reconciliation.extend import extended
from mirror_rt.serving.reconciliation.protocol import ANSWERS, Callback, call, respond, served_kb
from mirror_rt.serving.reconciliation.queries import reconciled
from mirror_rt.serving.service import base_of, service_of
from mirror_rt.version import VERSION

__all__ = ["router"]

router = APIRouter(prefix="/reconcile/{name}", tags=["Reconciliation"])

PREVIEW = {"width": 430, "height": 320}

Queries = Annotated[str | None, Query(description="A batch of queries, a JSON object.")]
Extend = Annotated[str | None, Query(description="Ids and properties, a JSON object.")]


@router.get("", responses=ANSWERS)
@router.get("/", responses=ANSWERS, include_in_schema=False)
async def reconcile_get(
    name: str,
    request: Request,
    queries: Queries = None,
    extend: Extend = None,
    callback: Callback = None,
) -> Response:
    """Describe the service; or answer a batch of queries, or extend data."""
    served = served_kb(request, name)
    if queries is not None:
        found = await reconciled(request, served, queries)
    elif extend is not None:
        found = await extended(request, served, extend)
    else:
        found = await call(request, lambda: manifest(served, base_of(request), _limits(request)))
    return respond(found, callback)


@router.post("", responses=ANSWERS)
@router.post("/", responses=ANSWERS, include_in_schema=False)
async def reconcile_post(
    name: str,
    request: Request,
    queries: Annotated[str | None, Form(description="A batch, a JSON object.")] = None,
    extend: Annotated[str | None, Form(description="Ids and properties, JSON.")] = None,
    callback: Callback = None,
) -> Response:
    """Answer a batch of queries, or extend data."""
    served = served_kb(request, name)
    if queries is not None:
        return respond(await reconciled(request, served, queries), callback)
    if extend is not None:
        return respond(await extended(request, served, extend), callback)
    raise Refused(400, "give a form with queries, or with extend", param="queries")


def _limits(request: Request) -> int:
    return service_of(request).config.limits.batch


def manifest(served: ServedKb, base: str, batch: int) -> dict[str, object]:
    """Return the service manifest."""
    own = f"{base}/reconcile/{served.name}"

    def place(path: str, **more: str) -> dict[str, str]:
        return {"service_url": own, "service_path": path, **more}

    return {
        "versions": ["0.2"],
        "name": f"{served.name} (mirror-rt)",
        "identifierSpace": f"{own}/view?id=",
        "schemaSpace": f"{own}/type?id=",
        "serviceVersion": VERSION,
        "documentation": f"{base}/",
        "defaultTypes": [{"id": type_, "name": type_} for type_, _ in served.types[:10]],
        "view": {"url": f"{own}/view?id={{{{id}}}}"},
        "preview": {"url": f"{own}/preview?id={{{{id}}}}", **PREVIEW},
        "suggest": {
            "entity": place(
                "/suggest/entity",
                flyout_service_url=own,
                flyout_service_path="/flyout?id=${id}",
            ),
            "property": place("/suggest/property"),
            "type": place("/suggest/type"),
        },
        "extend": {
            "propose_properties": place("/propose"),
            "property_settings": [
                {
                    "name": "limit", "label": "Values", "type": "number", "default": 0,
                    "help_text": "The maximum number of values; 0 for all.",
                }
            ],
        },
        "batchSize": batch,
    }  # fmt: skip


for part in (suggest, extension, previews):
    router.include_router(part.router)
