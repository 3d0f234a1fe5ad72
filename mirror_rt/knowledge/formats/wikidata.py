"""Read the Wikidata JSON dump, one item per line: labels and aliases in all or some languages."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from mirror_rt.knowledge.formats._filter import NameFilter, in_order
from mirror_rt.knowledge.formats._rows import RowError, SkippedRows, checked, each, flat
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
        (number, text.removesuffix(","))
        for number, line in numbered_lines(path, strict=False)
        if (text := line.strip()) not in ("", "[", "]")
    )
    return each(path, rows, _parser(skipped, keep), skipped)


def _parser(skipped: SkippedRows, keep: NameFilter) -> Callable[[str], Entity | None]:
    def parse(line: str) -> Entity | None:
        try:
            item = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise RowError(f"not JSON ({error})") from error
        if not isinstance(item, dict):
            raise RowError("not a JSON object")
        try:
            names = _names(item)
            if item.get("type", "item") != "item" or not names:
                skipped.filtered += max(len(names), 1)
                return None
            return Entity(
                id=checked(item["id"], "id"),
                names=in_order(names, keep),
                types=tuple(dict.fromkeys(_items(item, [_INSTANCE_OF], "class"))),
                cross_references=tuple(dict.fromkeys(_external(item))),
                parents=tuple(dict.fromkeys(_items(item, _PARENTS, "parent"))),
                description=_description(item, keep),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise RowError(
                f"not an entity of Wikidata ({type(error).__name__}: {error})"
            ) from error

    return parse


def _names(item: dict[str, Any]) -> list[Name]:
    terms = [(term, NameKind.PREFERRED) for term in (item.get("labels") or {}).values()]
    for aliases in (item.get("aliases") or {}).values():
        terms += [(term, NameKind.EXACT) for term in aliases]
    return [
        Name(text=checked(term["value"], "name"), kind=kind, language=term["language"])
        for term, kind in terms
    ]


def _description(item: dict[str, Any], keep: NameFilter) -> str:
    terms = [
        Name(text=term["value"], kind=NameKind.PREFERRED, language=term["language"])
        for term in (item.get("descriptions") or {}).values()
    ]
    first = next(filter(keep.keeps, in_order(terms, keep)), None)
    return flat(first.text) if first is not None else ""


def _snaks(item: dict[str, Any], properties: Iterable[str]) -> Iterator[dict[str, Any]]:
    claims = item.get("claims") or {}
    for name in properties:
        for claim in claims.get(name, ()):
            if claim["mainsnak"]["snaktype"] == "value":
                yield claim["mainsnak"]


def _items(item: dict[str, Any], properties: Iterable[str], what: str) -> Iterator[str]:
    for snak in _snaks(item, properties):
        yield checked(snak["datavalue"]["value"]["id"], what)


def _external(item: dict[str, Any]) -> Iterator[str]:
    for snak in _snaks(item, item.get("claims") or {}):
        if snak.get("datatype") == "external-id":
            yield checked(f"{snak['property']}:{snak['datavalue']['value']}", "external id")
