"""Read the Wikidata JSON dump, one item per line: labels and aliases in all or some languages."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

from mirror_rt.knowledge.formats._filter import NameFilter, in_order
from mirror_rt.knowledge.formats._rows import (
    RowError,
    SkippedRows,
    checked,
    each,
    flat,
    shown,
    usable,
)
from mirror_rt.textfiles import StrPath, numbered_lines
from mirror_rt.types import Entity, Name, NameKind

__all__ = ["read_wikidata"]

_INSTANCE_OF = "P31"
_PARENTS = ("P279", "P171")  # subclass of, parent taxon


def read_wikidata(path: StrPath, skipped: SkippedRows, keep: NameFilter) -> Iterator[Entity]:
    """Read items: labels as preferred names, aliases, classes (P31), external ids, parents.

    Parents come from P279 and P171. An external id becomes the cross-reference
    ``property:value``. The description is the one in the most preferred language. Properties, and
    items without a label or alias, are counted as filtered.

    Raises:
        InputError: A line is not the JSON of an entity; the message names the line.
    """
    rows = (
        (number, (number, text.removesuffix(",")))
        for number, line in numbered_lines(path, strict=False)
        if (text := line.strip()) not in ("", "[", "]")
    )

    def parse(row: tuple[int, str]) -> Entity | None:
        number, line = row
        faults: list[RowError] = []
        entity = _entity(line, skipped, keep, faults)
        for fault in faults:
            skipped.refuse(f"{shown(path)}: line {number}: {fault}")
        return entity

    return each(path, rows, parse, skipped)


def _entity(
    line: str, skipped: SkippedRows, keep: NameFilter, faults: list[RowError]
) -> Entity | None:
    try:
        item = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise RowError(f"not JSON ({error})") from error
    if not isinstance(item, dict):
        raise RowError("not a JSON object")
    try:
        names = _names(item, keep, faults) if item.get("type", "item") == "item" else []
        if not names and faults:
            raise faults.pop()
        if not names:
            skipped.filtered += 1
            return None
        return Entity(
            id=checked(item["id"], "id"),
            names=in_order(names, keep),
            types=tuple(usable(_items(item, [_INSTANCE_OF], faults), "class", faults)),
            cross_references=tuple(usable(_external(item, faults), "external id", faults)),
            parents=tuple(usable(_items(item, _PARENTS, faults), "parent", faults)),
            description=_description(item, keep),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise RowError(f"not an entity of Wikidata ({type(error).__name__}: {error})") from error


def _names(item: dict[str, Any], keep: NameFilter, faults: list[RowError]) -> list[Name]:
    terms = [(term, NameKind.PREFERRED) for term in (item.get("labels") or {}).values()]
    for aliases in (item.get("aliases") or {}).values():
        terms += [(term, NameKind.EXACT) for term in aliases]
    names = [Name(text=t["value"], kind=kind, language=t["language"]) for t, kind in terms]
    # A name that is filtered out need not be valid.
    return [
        replace(name, text=text)
        for name in names
        for text in (usable([name.text], "name", faults) if keep.keeps(name) else [name.text])
    ]


def _description(item: dict[str, Any], keep: NameFilter) -> str:
    terms = [
        Name(text=term["value"], kind=NameKind.PREFERRED, language=term["language"])
        for term in (item.get("descriptions") or {}).values()
    ]
    first = next(filter(keep.keeps, in_order(terms, keep)), None)
    return flat(first.text) if first is not None else ""


def _values(
    item: dict[str, Any],
    properties: Iterable[str],
    faults: list[RowError],
    made: Callable[[dict[str, Any]], str | None],
) -> Iterator[str]:
    """Yield what is made of the claims that have a value; a bad claim costs itself alone."""
    claims = item.get("claims") or {}
    for name in properties:
        for claim in claims.get(name, ()):
            try:
                snak = claim["mainsnak"]
                value = made(snak) if snak["snaktype"] == "value" else None
            except (KeyError, TypeError, AttributeError, ValueError) as error:
                faults.append(RowError(f"a claim of {name} is malformed ({error!r})"))
                continue
            if value is not None:
                yield value


def _items(
    item: dict[str, Any], properties: Iterable[str], faults: list[RowError]
) -> Iterator[str]:
    def made(snak: dict[str, Any]) -> str:
        value = snak["datavalue"]["value"]
        return str(value["id"]) if "id" in value else f"Q{int(value['numeric-id'])}"

    return _values(item, properties, faults, made)


def _external(item: dict[str, Any], faults: list[RowError]) -> Iterator[str]:
    def made(snak: dict[str, Any]) -> str | None:
        if snak.get("datatype") != "external-id":
            return None
        return f"{snak['property']}:{snak['datavalue']['value']}"

    read = {_INSTANCE_OF, *_PARENTS}
    return _values(item, [p for p in item.get("claims") or {} if p not in read], faults, made)
