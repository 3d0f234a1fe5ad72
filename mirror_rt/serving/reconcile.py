"""Entity Reconciliation API 0.2, as OpenRefine asks it, for each knowledge base.

https://www.w3.org/community/reports/reconciliation/CG-FINAL-specs-0.2-20230410/
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple
from urllib.parse import unquote, unquote_plus

import orjson
from fastapi import APIRouter, Form, Query
from starlette.requests import Request
from starlette.responses import Response

from mirror_rt.errors import ConfigError, InputError
from mirror_rt.knowledge.text.normalize import normalize
from mirror_rt.serving.errors import Refused
from mirror_rt.serving.library import ServedKb
from mirror_rt.serving.pages import PREVIEW_HEADERS, render
from mirror_rt.serving.service import Call, Service, base_of, json_response, service_of
from mirror_rt.serving.tei_api import ERRORS
from mirror_rt.serving.work import LINK_TOKENS, cost_of
from mirror_rt.textfiles import lone_surrogate
from mirror_rt.types import Candidate, Entity
from mirror_rt.version import VERSION

__all__ = ["router"]

router = APIRouter(prefix="/reconcile/{name}", tags=["Reconciliation"])

CANDIDATES, MOST_CANDIDATES = 5, 50
"""Candidates of a query that names no limit, and at most."""
SUGGESTED, MOST_SUGGESTED = 10, 100
"""Suggestions at once, and in all."""
MATCH_PRECISION = 0.95
"""A candidate is a match where links as probable as it were right this often."""
MATCH_PROBABILITY = 0.9
"""The same where the knowledge base knows of no such probability."""
MOST_PROPERTIES = 20
PREVIEW = {"width": 430, "height": 320}

_CALLBACK = re.compile(r"[A-Za-z_$][\w$]*(\.[A-Za-z_$][\w$]*)*", re.ASCII)
_CUT = re.compile(r"^\s*\(?\s*all\s+(.*?)\s*\)?\s*$", re.DOTALL)
"""What OpenRefine's box makes of a text that holds a colon: ``(all HP:0001250)``."""

_PROPERTIES = {
    "name": ("Name", "The preferred name."),
    "alias": ("Alias", "Every other name."),
    "type": ("Type", "Types or classes."),
    "description": ("Description", "A definition in words."),
    "cross_reference": ("Cross-reference", "Ids of the same thing elsewhere."),
    "alternative_id": ("Alternative id", "Other ids of the same entity."),
    "parent": ("Parent", "The broader things that it is a kind of."),
}
_FILTERED = {
    "type": "type", "cross_reference": "xref", "parent": "under", "id": "id", "xref": "xref",
    "under": "under", "source": "source", "language": "language",
}  # fmt: skip
"""Properties that restrict a query, with the field of the filter; kept fields do as well."""


_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {
        "model": dict[str, Any],
        "content": {"application/javascript": {}},
        "description": "JSON, or JavaScript where a callback is named.",
    },
    **ERRORS,
}
_PAGES: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/html": {}}, "description": "A page."},
    **ERRORS,
}

Callback = Annotated[str | None, Query(description="JSONP: the function to call.")]
Queries = Annotated[str | None, Query(description="A batch of queries, a JSON object.")]
Extend = Annotated[str | None, Query(description="Ids and properties, a JSON object.")]
Prefix = Annotated[str, Query(description="What was typed.")]
Filter = Annotated[str, Query(description="What OpenRefine makes of a text with a colon.")]
Cursor = Annotated[int, Query(ge=0, description="How many to skip.")]
Limit = Annotated[int | None, Query(ge=1, description="How many at most.")]


# The protocol's one address


@router.get("", responses=_ANSWERS)
@router.get("/", responses=_ANSWERS, include_in_schema=False)
async def asked_by_get(
    name: str,
    request: Request,
    queries: Queries = None,
    extend: Extend = None,
    callback: Callback = None,
) -> Response:
    """Describe the service; or answer a batch of queries, or extend data."""
    served = _served(request, name)
    if queries is not None:
        found = await _reconciled(request, served, queries)
    elif extend is not None:
        found = await _extended(request, served, extend)
    else:
        found = await _call(request, lambda: manifest(served, base_of(request), _limits(request)))
    return _told(found, callback)


@router.post("", responses=_ANSWERS)
@router.post("/", responses=_ANSWERS, include_in_schema=False)
async def asked_by_post(
    name: str,
    request: Request,
    queries: Annotated[str | None, Form(description="A batch, a JSON object.")] = None,
    extend: Annotated[str | None, Form(description="Ids and properties, JSON.")] = None,
    callback: Callback = None,
) -> Response:
    """Answer a batch of queries, or extend data."""
    served = _served(request, name)
    if queries is not None:
        return _told(await _reconciled(request, served, queries), callback)
    if extend is not None:
        return _told(await _extended(request, served, extend), callback)
    raise Refused(400, "give a form with queries, or with extend", param="queries")


def _limits(request: Request) -> int:
    return service_of(request).config.limits.batch


def manifest(served: ServedKb, base: str, batch: int) -> dict[str, object]:
    """Return what the service says of itself."""
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
                    "help_text": "How many values at most; 0 for all.",
                }
            ],
        },
        "batchSize": batch,
    }  # fmt: skip


# Queries


class Asked(NamedTuple):
    """A query, read: hashable, so that equal ones are answered once."""

    text: str
    limit: int
    types: tuple[tuple[str, ...], ...]
    properties: tuple[tuple[str, tuple[str, ...]], ...]


@dataclass(frozen=True, eq=False)
class Reconcile:
    """Finds candidates for queries, those with the same conditions together."""

    served: ServedKb

    @property
    def key(self) -> Hashable:
        """Queries of one knowledge base are run together, whoever asks."""
        return ("reconcile", id(self.served))

    def run(self, items: Sequence[Asked | None]) -> list[bytes]:
        """Return the result of each query as JSON; none for one that is not understood."""
        distinct = [query for query in dict.fromkeys(items) if query is not None]
        found: dict[Asked | None, bytes] = {None: b'{"result":[]}'}
        rest = []
        for query in distinct:
            by_id = self._by_id(query.text)
            if by_id is not None:
                found[query] = _result([by_id])
            elif not query.text:
                found[query] = _result(self._by_properties(query))
            else:
                rest.append(query)
        for query, candidates in self._linked(rest):
            found[query] = _result(candidates)
        return [found[query] for query in items]

    def _by_id(self, text: str) -> dict[str, object] | None:
        """Return the entity that a query names by its id, its own or an alternative one."""
        if not text:
            return None
        try:
            entity = self.served.kb.entity(text.strip())
        except InputError:
            return None
        features = {"by_id": True}
        return _candidate(entity.id, entity.name, entity.types, entity.description, 100.0, True,
                          features)  # fmt: skip

    def _by_properties(self, query: Asked) -> list[dict[str, object]]:
        """Return entities that meet the properties of a query without a name, in no order."""
        catalogue = self.served.kb.resources.catalogue
        conditions = self._conditions(query)
        if not any(conditions):
            return []
        found: list[set[int]] = [
            set(catalogue.entities_with(field, values)) for field, values in conditions
        ]
        numbers = sorted(set.intersection(*found))[: query.limit]
        ids = [id_ for id_, _ in catalogue.ids_and_names(numbers).values()]
        about = catalogue.about(ids)
        return [_candidate(id_, *about[id_], 50.0, False, {}) for id_ in ids]

    def _conditions(self, query: Asked) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """Return the filters of a query that some entity can meet."""
        catalogue = self.served.kb.resources.catalogue
        found = []
        for field, values in (*(("type", types) for types in query.types), *query.properties):
            known = tuple(v for v in values if v and catalogue.entities_with(field, [v], most=1))
            if known:
                found.append((field, known))
        return tuple(found)

    def _linked(self, queries: Sequence[Asked]) -> Iterator[tuple[Asked, list[dict[str, object]]]]:
        wanted = []
        for query in queries:
            if normalize(query.text):
                wanted.append(query)
            else:
                yield query, []
        # Types and properties are filters first. Where nothing meets them, the properties are
        # left out, then the types: they were a hint, and nothing is called a match.
        left = [(query, self._conditions(query), True) for query in wanted]
        while left:
            groups: dict[tuple[Any, ...], list[tuple[Asked, bool]]] = {}
            for query, conditions, whole in left:
                complete = whole and len(conditions) == len(query.types) + len(query.properties)
                groups.setdefault(conditions, []).append((query, complete))
            left = []
            for conditions, members in groups.items():
                texts = [query.text for query, _ in members]
                top = max(query.limit for query, _ in members)
                try:
                    results = self.served.kb.link(texts, top=top, filters=conditions)
                except ConfigError:
                    types = tuple(pair for pair in conditions if pair[0] == "type")
                    looser = () if types == conditions else types
                    left += [(query, looser, False) for query, _ in members]
                    continue
                about = self._about([c for r in results for c in r])
                for (query, complete), result in zip(members, results, strict=True):
                    yield query, self._candidates(result[: query.limit], query, about, complete)

    def _about(self, candidates: Sequence[Candidate]) -> dict[str, tuple[str, Any, str]]:
        return self.served.kb.resources.catalogue.about([c.entity_id for c in candidates])

    def _candidates(
        self,
        candidates: Sequence[Candidate],
        query: Asked,
        about: Mapping[str, tuple[str, Any, str]],
        complete: bool,
    ) -> list[dict[str, object]]:
        found: list[dict[str, Any]] = []
        wanted = {type_ for types in query.types for type_ in types}
        for rank, candidate in enumerate(candidates):
            probability = candidate.probability or 0.0
            name, types, description = about[candidate.entity_id]
            features = {
                "exact": candidate.match_type.is_exact,
                "cosine": round(candidate.score, 4),
                "probability": round(probability, 4),
                "tied": candidate.tied,
            }
            if wanted:
                features["type_match"] = not wanted.isdisjoint(types)
            if query.properties:
                features["properties_match"] = complete
            match = not rank and complete and not candidate.tied and self._is_match(candidate)
            score = round(100 * probability, 2)
            if found:  # equal ones keep their order, and none is above what is more probable
                score = min(score, found[-1]["score"])
            found.append(
                _candidate(candidate.entity_id, name, types, description, score, match, features)
            )
        return found

    def _is_match(self, candidate: Candidate) -> bool:
        reranker = self.served.kb.resources.reranker
        if candidate.match_type.is_exact and not reranker.scores_exact_matches:
            return True  # the threshold was learned on others
        try:
            least = reranker.threshold(MATCH_PRECISION)
        except ConfigError:
            least = MATCH_PROBABILITY
        return (candidate.probability or 0.0) >= least


def _candidate(
    id_: str,
    name: str,
    types: Sequence[str],
    description: str,
    score: float,
    match: bool,
    features: Mapping[str, object],
) -> dict[str, Any]:
    found: dict[str, Any] = {
        "id": id_,
        "name": name,
        "score": score,
        "match": match,
        "type": [{"id": type_, "name": type_} for type_ in types],
        "features": [{"id": feature, "value": value} for feature, value in features.items()],
    }
    if description:
        found["description"] = description
    return found


def _result(candidates: Sequence[Mapping[str, object]]) -> bytes:
    return orjson.dumps({"result": candidates})


async def _reconciled(request: Request, served: ServedKb, given: str) -> bytes:
    service = service_of(request)
    batch = _object(given, "queries")
    limits = service.config.limits
    if len(batch) > limits.batch:
        raise Refused(
            413, f"{len(batch):,} queries; give at most {limits.batch} at once", param="queries"
        )
    service.note(request, len(batch))
    fields = served.field_names
    queries = [_asked(query, fields, limits.characters) for query in batch.values()]
    if not queries:
        return b"{}"
    most = served.encoder.bundle.manifest.max_length
    costs = [LINK_TOKENS + cost_of(query.text if query else "", most=most) for query in queries]
    job = await service.run(request, Reconcile(served), queries, costs)
    keys = (orjson.dumps(key) for key in batch)
    pairs = (b"%b:%b" % pair for pair in zip(keys, job.results, strict=True))
    return b"{%b}" % b",".join(pairs)


def _object(given: str, name: str) -> dict[str, Any]:
    try:
        found = orjson.loads(given)
    except ValueError as error:  # also of what is nested too deep, or holds a lone surrogate
        raise Refused(400, f"{name} is not JSON: {error}", param=name) from error
    if not isinstance(found, dict):
        raise Refused(400, f"{name} is not a JSON object", param=name)
    return found


def _asked(given: object, fields: Sequence[str], most: int) -> Asked | None:
    """Read a query; None where it cannot be one: others of its batch are answered all the same."""
    if not isinstance(given, dict):
        return None
    text = given.get("query", "")
    if not isinstance(text, str) or len(text) > most:
        return None
    limit = given.get("limit")
    if isinstance(limit, bool) or not isinstance(limit, (int, float)) or limit < 1:
        limit = CANDIDATES
    types = given.get("type") or []
    types = [types] if isinstance(types, str) else types
    if not isinstance(types, list) or not all(isinstance(type_, str) for type_ in types):
        types = []
    properties = given.get("properties") or []
    if not isinstance(properties, list):
        properties = []
    conditions = []
    for told in properties[:MOST_PROPERTIES]:
        pid = told.get("pid") if isinstance(told, dict) else None
        if not isinstance(pid, str):
            continue
        field = _FILTERED.get(pid) or (pid if pid in fields else None)
        values = tuple(_values(told.get("v")))
        if field and values:
            conditions.append((field, values))
    each = [(type_,) for type_ in types]
    any_of = [tuple(types)] if types else []
    return Asked(
        text=text,
        limit=int(min(limit, MOST_CANDIDATES)),
        types=tuple(each if given.get("type_strict") == "all" else any_of),
        properties=tuple(conditions),
    )


def _values(given: object) -> Iterator[str]:
    """Yield the values of a property as text: a whole number also without its decimals."""
    for value in given[:MOST_PROPERTIES] if isinstance(given, list) else [given]:
        match value:
            case str():
                yield value.strip()
            case bool():
                yield "true" if value else "false"
            case float() if value.is_integer():
                yield str(int(value))
                yield str(value)
            case int() | float():
                yield str(value)
            case {"id": str(id_)}:
                yield id_
            case _:
                pass


# Suggestions


@router.get("/suggest/entity", responses=_ANSWERS)
async def suggest_entity(
    name: str,
    request: Request,
    prefix: Prefix = "",
    filter: Filter = "",
    cursor: Cursor = 0,
    callback: Callback = None,
) -> Response:
    """Suggest entities: by id, by how a name begins, and by names that are like it."""
    served = _served(request, name)
    text = _typed(request, prefix, filter)
    found = await _call(request, lambda: _suggested(served, text, cursor))
    return _told(found, callback)


@router.get("/suggest/type", responses=_ANSWERS)
async def suggest_type(
    name: str,
    request: Request,
    prefix: Prefix = "",
    filter: Filter = "",
    cursor: Cursor = 0,
    callback: Callback = None,
) -> Response:
    """Suggest types, the most frequent first."""
    served = _served(request, name)
    text = _typed(request, prefix, filter)

    def found() -> dict[str, object]:
        types = [
            {"id": type_, "name": type_, "description": f"{count:,} entities"}
            for type_, count in served.types
        ]
        return _page_of(_matching(types, text), cursor)

    return _told(await _call(request, found), callback)


@router.get("/suggest/property", responses=_ANSWERS)
async def suggest_property(
    name: str,
    request: Request,
    prefix: Prefix = "",
    filter: Filter = "",
    cursor: Cursor = 0,
    callback: Callback = None,
) -> Response:
    """Suggest properties: those of any entity, and the fields that this one keeps."""
    served = _served(request, name)
    text = _typed(request, prefix, filter)

    def found() -> dict[str, object]:
        return _page_of(_matching(_properties(served), text), cursor)

    return _told(await _call(request, found), callback)


def _typed(request: Request, prefix: str, cut: str) -> str:
    """Return what was typed: also what the box of OpenRefine cut out of it.

    It takes ``name:value`` for a filter of its own: of ``HP:0001250`` nothing is left in
    ``prefix``.
    """
    inside = _CUT.match(cut)
    moved = inside[1] if inside else ""
    text = f"{prefix} {moved}".strip() if moved != prefix.strip() else prefix.strip()
    service_of(request).check([text], param="prefix")
    return text


def _suggested(served: ServedKb, text: str, cursor: int) -> dict[str, object]:
    most = min(cursor + SUGGESTED + 1, MOST_SUGGESTED)
    if not text:
        return {"result": []}
    resources = served.kb.resources
    catalogue = resources.catalogue
    ids: dict[str, None] = {}
    numbers = catalogue.resolve(text)
    ids.update((id_, None) for id_, _ in catalogue.ids_and_names(numbers).values())
    ids.update(dict.fromkeys(catalogue.ids_beginning(text, most=most)))
    wanted = normalize(text)
    if wanted and len(ids) < most:
        rows = resources.names.rows_beginning(wanted, most=4 * most)
        _, entities, _ = resources.names.entities_of(rows)
        ordered = list(dict.fromkeys(entities.tolist()))[:most]
        headings = catalogue.ids_and_names(ordered)
        ids.update((headings[number][0], None) for number in ordered)
    if wanted and len(ids) < most:
        (result,) = served.kb.link([text], top=SUGGESTED)
        ids.update((candidate.entity_id, None) for candidate in result)
    about = catalogue.about(list(ids)[:most])
    found = []
    for id_, (name, types, description) in ((id_, about[id_]) for id_ in list(ids)[:most]):
        one: dict[str, object] = {"id": id_, "name": name}
        if description:
            one["description"] = description
        if types:
            one["notable"] = [{"id": type_, "name": type_} for type_ in types]
        found.append(one)
    return _page_of(found, cursor)


def _matching(found: Sequence[dict[str, str]], text: str) -> list[dict[str, str]]:
    """Return what begins with a text, then what holds it."""
    wanted = text.casefold()
    begins, holds = [], []
    for one in found:
        told = (one["id"].casefold(), one["name"].casefold())
        if any(part.startswith(wanted) for part in told):
            begins.append(one)
        elif any(wanted in part for part in told):
            holds.append(one)
    return begins + holds


def _page_of(found: Sequence[Mapping[str, object]], cursor: int) -> dict[str, object]:
    """Return some suggestions; ``cursor`` says that there are more."""
    end = cursor + SUGGESTED
    page: dict[str, object] = {"result": list(found[cursor:end])}
    if len(found) > end and end < MOST_SUGGESTED:
        page["cursor"] = end
    return page


def _properties(served: ServedKb) -> list[dict[str, str]]:
    own = [
        {"id": id_, "name": name, "description": description}
        for id_, (name, description) in _PROPERTIES.items()
    ]
    kept = [field for field in served.field_names if field not in _PROPERTIES]
    return own + [{"id": f, "name": f, "description": "A kept field."} for f in kept]


@router.get("/search", responses=_ANSWERS)
async def search(name: str, request: Request, callback: Callback = None) -> Response:
    """Answer what OpenRefine's box asks of old: there is nothing behind it."""
    _served(request, name)
    return _told({"status": "200 OK", "result": []}, callback)


# Data extension


@router.get("/propose", responses=_ANSWERS)
async def propose(
    name: str,
    request: Request,
    type: Annotated[str, Query(description="A type; all have the same properties.")] = "",
    limit: Limit = None,
    callback: Callback = None,
) -> Response:
    """Propose properties to fetch."""
    served = _served(request, name)
    found: dict[str, Any] = {"properties": await _call(request, lambda: _properties(served))}
    if type:
        found["type"] = type
    if limit is not None:
        found["limit"] = limit
        found["properties"] = found["properties"][:limit]
    return _told(found, callback)


async def _extended(request: Request, served: ServedKb, given: str) -> bytes:
    service = service_of(request)
    asked = _object(given, "extend")
    ids, properties = asked.get("ids"), asked.get("properties")
    if not isinstance(ids, list) or not all(isinstance(id_, str) for id_ in ids):
        raise Refused(400, "extend: give ids, a list of strings", param="ids")
    if not isinstance(properties, list) or not all(
        isinstance(told, dict) and isinstance(told.get("id"), str) for told in properties
    ):
        raise Refused(400, "extend: give properties, a list of objects with an id",
                      param="properties")  # fmt: skip
    if len(properties) > MOST_PROPERTIES or len(ids) > service.config.limits.inputs:
        raise Refused(
            413,
            f"extend: give at most {MOST_PROPERTIES} properties and "
            f"{service.config.limits.inputs:,} ids",
            param="extend",
        )
    service.note(request, len(ids))
    return orjson.dumps(await _call(request, lambda: _rows(served, ids, properties), len(ids)))


def _rows(
    served: ServedKb, ids: Sequence[str], properties: Sequence[Mapping[str, Any]]
) -> dict[str, object]:
    names = {told["id"]: told["name"] for told in _properties(served)}
    rows: dict[str, dict[str, list[dict[str, str]]]] = {}
    for id_ in ids:
        try:
            entity = served.kb.entity(id_)
        except InputError:
            entity = None
        # Every property of every id: OpenRefine moves the columns of a row that lacks one.
        rows[id_] = {
            told["id"]: [] if entity is None else _limited(_value(served, entity, told["id"]), told)
            for told in properties
        }
    meta = [{"id": told["id"], "name": names.get(told["id"], told["id"])} for told in properties]
    return {"meta": meta, "rows": rows}


def _limited(values: list[dict[str, str]], told: Mapping[str, Any]) -> list[dict[str, str]]:
    settings = told.get("settings")
    limit = settings.get("limit") if isinstance(settings, dict) else None
    if isinstance(limit, str) and limit.isdigit():
        limit = int(limit)
    return values[: int(limit)] if isinstance(limit, (int, float)) and limit >= 1 else values


def _value(served: ServedKb, entity: Entity, property_: str) -> list[dict[str, str]]:
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


# Pages


@router.get("/preview", responses=_PAGES)
async def preview(name: str, request: Request) -> Response:
    """Show an entity in a small frame."""
    return await _entity_page(name, request, "preview.html")


@router.get("/view", responses=_PAGES)
async def view(name: str, request: Request) -> Response:
    """Show an entity."""
    return await _entity_page(name, request, "entity.html")


@router.get("/flyout", responses=_ANSWERS)
async def flyout(name: str, request: Request, callback: Callback = None) -> Response:
    """Show an entity beside a suggestion."""
    served = _served(request, name)
    entity = await _call(request, lambda: _found(served, request))
    html = render("flyout.html", entity=entity)
    return _told({"id": entity.id, "html": html}, callback)


async def _entity_page(name: str, request: Request, template: str) -> Response:
    served = _served(request, name)
    entity, parents = await _call(
        request,
        lambda: (entity := _found(served, request), _value(served, entity, "parent")),
    )
    page = render(template, entity=entity, parents=parents, kb=served.name, base=base_of(request))
    headers = PREVIEW_HEADERS if template == "preview.html" else None
    return Response(page, media_type="text/html; charset=utf-8", headers=headers)


def _found(served: ServedKb, request: Request) -> Entity:
    """Return the entity whose id stands in the address.

    OpenRefine leaves ``/``, ``?``, ``&``, ``=`` and ``+`` in it as they are, others escape them.
    """
    query = request.scope["query_string"].decode("latin-1")
    given = query.removeprefix("id=") if query.startswith("id=") else ""
    named = request.query_params.get("id", "")
    for id_ in dict.fromkeys((unquote(given), unquote_plus(given), named)):
        if id_ and lone_surrogate(id_) is None:
            try:
                return served.kb.entity(id_)
            except InputError:
                continue
    raise Refused(404, f"no entity of {served.name} has the id {named[:100]!r}", param="id")


# All of them


def _served(request: Request, name: str) -> ServedKb:
    served = service_of(request).library.kb(name)
    if served.holds_passages:
        raise Refused(400, f"{served.name} holds passages, which cannot be reconciled")
    return served


async def _call(request: Request, function: Callable[[], Any], cost: int = 1) -> Any:  # noqa: ANN401
    """Call a function on a thread of the queue: it reads the catalogue, or asks the model."""
    service: Service = service_of(request)
    job = await service.run(request, Call(function), [None], [LINK_TOKENS * cost])
    return job.results[0]


def _told(found: object, callback: str | None) -> Response:
    body = found if isinstance(found, bytes) else orjson.dumps(found)
    if callback is None:
        return json_response(body)
    if len(callback) > 128 or not _CALLBACK.fullmatch(callback):
        raise Refused(400, f"callback {callback[:40]!r} is no name of a function", param="callback")
    # JSON but for two line ends, which JavaScript once did not allow in a string.
    safe = body.replace("\u2028".encode(), b"\\u2028").replace("\u2029".encode(), b"\\u2029")
    return Response(
        b"/**/%b(%b);" % (callback.encode(), safe),
        media_type="application/javascript; charset=utf-8",
        headers={"X-Content-Type-Options": "nosniff"},
    )
