"""Web pages: link one mention, or many lines. They use no scripts and nothing from other sites."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import shlex
import time
from importlib.resources import files
from typing import Annotated, Any

from fastapi import APIRouter, Form, Query
from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import Response

from mirror_rt._count import counted
from mirror_rt.errors import MirrorError
from mirror_rt.serving.errors import Refused
from mirror_rt.serving.library import ServedKb
from mirror_rt.serving.service import Service, base_of, service_of
from mirror_rt.serving.tei_api import ERRORS
from mirror_rt.serving.work import Explain, Link, LinkItem, Search

__all__ = ["HEADERS", "PREVIEW_HEADERS", "render", "router"]

router = APIRouter(tags=["Pages"])

_POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
_PREVIEW_STYLE = (files(__package__) / "static" / "preview.css").read_text(encoding="utf-8")
_HASH = base64.b64encode(hashlib.sha256(_PREVIEW_STYLE.encode()).digest()).decode()
PREVIEW_HEADERS = HEADERS | {
    # OpenRefine shows this page in a frame, which may not load anything.
    "Content-Security-Policy": f"default-src 'none'; style-src 'sha256-{_HASH}'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors *",
}
_FAULTS: dict[int | str, dict[str, Any]] = {
    # A page shows the error itself; errors before that have the usual format.
    status: {**values_of, "content": {**values_of["content"], "text/html": {}}}
    for status, values_of in ERRORS.items()
}
_PAGES: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/html": {}}, "description": "A page."},
    **_FAULTS,
}
_TABLES: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/html": {}, "text/csv": {}}, "description": "A page, or a CSV file."},
    **_FAULTS,
}
_LEAST = 0.005
"""Features with a smaller contribution are not shown."""

_templates = Environment(
    loader=PackageLoader(__package__ or "", "templates"),
    autoescape=True,
    auto_reload=False,  # an update of the package must not change a running server
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_templates.globals["counted"] = counted

_NIL = {
    "empty": "There is nothing to link.",
    "punctuation": "The mention is punctuation only.",
    "below_threshold": "No candidate reaches the threshold.",
    "filtered_out": "The mention is a name, but the filter excludes its entities.",
    "decided": "A reviewer decided that no entity is right.",
}


def render(template: str, **values: Any) -> str:  # noqa: ANN401
    """Return a page; every value is escaped."""
    if template == "preview.html":
        values["style"] = _PREVIEW_STYLE
    return _templates.get_template(template).render(**values)


@router.get("/", responses=_PAGES)
async def page(
    request: Request,
    kb: Annotated[str, Query(description="The knowledge base.")] = "",
    mention: Annotated[str, Query(description="The mention.")] = "",
    context: Annotated[str, Query(description="The text around the mention.")] = "",
    filter: Annotated[str, Query(description="FIELD=VALUE[,VALUE]; separate several by ;")] = "",
    top: Annotated[int, Query(ge=1, le=20, description="Candidates.")] = 5,
) -> Response:
    """Show a form to link a mention; if one is given, show its links and their explanation."""
    service = service_of(request)
    shown: dict[str, Any] = {
        "kbs": list(service.library.kbs), "kb": kb or next(iter(service.library.kbs), ""),
        "linkable": [kb.name for kb in service.library.kbs.values() if not kb.holds_passages],
        "mention": mention, "context": context, "filter": filter, "top": top,
        "models": list(service.library.models), "base": base_of(request), "answer": None,
        "error": "", "nil": _NIL,
    }  # fmt: skip
    status = 200
    if mention and shown["kbs"]:
        try:
            shown["answer"] = await _answer(service, request, shown)
        except (Refused, MirrorError) as error:
            refused = error if isinstance(error, Refused) else service.refused(error)
            shown["error"], status = refused.message, refused.status
    return Response(
        render("page.html", **shown), status_code=status,
        media_type="text/html; charset=utf-8", headers=HEADERS,
    )  # fmt: skip


async def _answer(service: Service, request: Request, shown: dict[str, Any]) -> dict[str, Any]:
    served = service.library.kb(shown["kb"])
    service.check([shown["mention"], shown["context"], shown["filter"]], param="mention")
    filters = _filters(shown["filter"])
    body: dict[str, Any] = {"top": shown["top"]}
    if filters:
        body["filters"] = {field: list(values) for field, values in filters}
    work: Link
    options: tuple[tuple[str, Any], ...]
    if served.holds_passages:
        path, body = "search", {"queries": [shown["mention"]], **body}
        options = ("top", shown["top"]), ("hybrid", None), ("filters", filters)
        work = Search(served, options, form=_as_dict)
    else:
        path, body = "link", {"mentions": [shown["mention"]], **body}
        if shown["context"]:
            body["contexts"] = [shown["context"]]
        options = ("top", shown["top"]), ("filters", filters)
        work = Explain(served, options, form=_as_dict)
    if len(service.library.kbs) > 1:
        body["kb"] = served.name
    begin = time.perf_counter()
    (result,) = await service.link(request, work, [LinkItem(shown["mention"], shown["context"])])
    milliseconds = 1e3 * (time.perf_counter() - begin)
    kept = [c for c in result["candidates"] if c.get("returned", True)]
    return {
        "candidates": [_with_bars(candidate) for candidate in kept],
        "others": [c for c in result["candidates"] if not c.get("returned", True)],
        "nil_reason": result.get("nil_reason"),
        "passages": served.holds_passages,
        "milliseconds": milliseconds,
        "curl": _curl(shown["base"], path, body),
        "python": _python(shown["base"], path, body),
    }


def _as_dict(result: Any) -> dict[str, Any]:  # noqa: ANN401
    found: dict[str, Any] = result.to_dict()
    return found


def _filters(given: str) -> tuple[tuple[str, tuple[str, ...]], ...]:
    found = []
    for part in filter(None, (text.strip() for text in given.split(";"))):
        field, equals, values = part.partition("=")
        if not equals or not field.strip():
            raise Refused(400, f"filter {part[:60]!r}: give FIELD=VALUE, as in type=disease")
        found.append((field.strip(), tuple(value.strip() for value in values.split(","))))
    return tuple(found)


def _with_bars(candidate: dict[str, Any]) -> dict[str, Any]:
    """Add bars for a candidate's features, up to 100 wide; positive ones point to the right."""
    values_of = candidate.get("contributions", {})
    largest = max((abs(value) for value in values_of.values()), default=0.0) or 1.0
    bars = [
        {
            "name": name.replace("_", " "), "value": candidate["features"][name],
            "contribution": value, "width": round(100 * abs(value) / largest, 1),
        }
        for name, value in sorted(values_of.items(), key=lambda pair: -abs(pair[1]))
        if abs(value) >= _LEAST
    ]  # fmt: skip
    return {**candidate, "bars": bars}


def _curl(base: str, path: str, body: dict[str, Any]) -> str:
    data = shlex.quote(json.dumps(body, ensure_ascii=False))
    return f"curl {base}/{path} -H 'Content-Type: application/json' \\\n  -d {data}"


def _python(base: str, path: str, body: dict[str, Any]) -> str:
    text = json.dumps(body, ensure_ascii=False)
    return (
        "import json, urllib.request\n\n"
        f"body = json.loads({text!r})\n"
        f'request = urllib.request.Request("{base}/{path}", json.dumps(body).encode(),\n'
        '                                 {"Content-Type": "application/json"})\n'
        "print(json.load(urllib.request.urlopen(request)))"
    )


@router.post("/table", responses=_TABLES)
async def table(
    request: Request,
    lines: Annotated[str, Form(description="Mentions, one per line.")] = "",
    kb: Annotated[str, Form(description="The knowledge base.")] = "",
    as_: Annotated[str, Form(alias="as", description="csv to download a file.")] = "",
) -> Response:
    """Link many lines; return a table or a CSV file."""
    service = service_of(request)
    mentions = [line.strip() for line in lines.splitlines() if line.strip()]
    served, rows, error, status = None, [], "", 200
    try:
        served = service.library.kb(kb)
        if served.holds_passages:
            raise Refused(400, f"{served.name} holds passages, which mentions cannot link to")
        service.check(mentions, param="lines")
        rows = await _linked(service, request, served, mentions)
    except (Refused, MirrorError) as fault:
        refused = fault if isinstance(fault, Refused) else service.refused(fault)
        error, status = refused.message, refused.status
    if as_ == "csv" and not error:
        return Response(
            _csv(rows), media_type="text/csv; charset=utf-8",
            headers={**HEADERS, "Content-Disposition": 'attachment; filename="links.csv"'},
        )  # fmt: skip
    shown = render(
        "table.html", rows=rows, error=error, lines=lines, kb=kb, columns=_COLUMNS,
        kbs=list(service.library.kbs),
    )  # fmt: skip
    return Response(
        shown, status_code=status, media_type="text/html; charset=utf-8", headers=HEADERS
    )


_COLUMNS = ("mention", "entity_id", "entity_name", "matched_name", "match_type", "probability",
            "tied", "nil_reason")  # fmt: skip


async def _linked(
    service: Service, request: Request, served: ServedKb, mentions: list[str]
) -> list[dict[str, Any]]:
    work = Link(served, (("top", 1),), form=_as_dict)
    results = await service.link(request, work, [LinkItem(mention) for mention in mentions])
    rows = []
    for result in results:
        best = result["candidates"][0] if result["candidates"] else {}
        values_of = {**best, "mention": result["mention"], "nil_reason": result.get("nil_reason")}
        rows.append({name: _cell(values_of.get(name)) for name in _COLUMNS})
    return rows


def _cell(value: object) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case _:
            return str(value)


def _csv(rows: list[dict[str, Any]]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, _COLUMNS, lineterminator="\r\n")
    writer.writeheader()
    for row in rows:
        # A spreadsheet would execute cells that start like a formula.
        writer.writerow({k: f"'{v}" if v[:1] in "=+-@\t\r" and v else v for k, v in row.items()})
    return "\ufeff" + out.getvalue()
