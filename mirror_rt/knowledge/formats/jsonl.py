"""Read JSON lines: ``{"id": "…", "name": "…", "aliases": ["…"]}`` and what an entity may add."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from mirror_rt.knowledge.formats._rows import (
    RowError,
    SkippedRows,
    checked,
    each,
    flat,
    name_kind,
)
from mirror_rt.textfiles import numbered_lines
from mirror_rt.types import Entity, Name, NameKind

__all__ = ["entity_from_json", "entity_to_json", "read_jsonl"]


def read_jsonl(path: str | Path, skipped: SkippedRows) -> Iterator[Entity]:
    """Read one entity a line; blank lines are passed over."""
    lines = ((n, line) for n, line in numbered_lines(path, strict=False) if line.strip())
    return each(path, lines, _parse, skipped)


def _parse(line: str) -> Entity:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise RowError(f"not JSON ({error.msg} at character {error.pos + 1})") from error
    except ValueError as error:  # a number of more digits than Python reads
        raise RowError(f"not JSON that can be read ({error})") from error
    except RecursionError as error:
        raise RowError("not JSON that can be read (nested too deeply)") from error
    if not isinstance(row, dict):
        raise RowError('not a JSON object such as {"id": …, "name": …}')
    return entity_from_json(row)


def entity_from_json(row: dict[str, object]) -> Entity:
    """Make an entity of a JSON object.

    Keys: ``id`` (string or whole number) and ``name``; optional ``kind`` (of ``name``; preferred
    if left out), ``language`` and ``source`` (of all names), ``aliases`` (strings, or objects
    with ``name``, ``kind``, ``language``, ``source``), ``types``, ``alternative_ids``,
    ``cross_references``, ``description``. Other keys are left alone.

    Raises:
        RowError: A key is missing or of a wrong type.
    """
    identifier = row.get("id")
    if isinstance(identifier, int) and not isinstance(identifier, bool):
        identifier = str(identifier)
    language, source = (flat(_text(row, key), key) for key in ("language", "source"))
    first = _name({"kind": "preferred"} | row, language, source)
    aliases = row.get("aliases") or []
    if not isinstance(aliases, list):
        raise RowError("aliases is not a list")
    names = [first]
    for alias in aliases:
        item = {"name": alias} if isinstance(alias, str) else alias
        if not isinstance(item, dict):
            raise RowError("an alias is neither a string nor an object with a name")
        names.append(_name(item, language, source))
    return Entity(
        id=checked(_text({"id": identifier}, "id"), "id"),
        names=tuple(names),
        types=_texts(row, "types"),
        alternative_ids=_texts(row, "alternative_ids"),
        cross_references=_texts(row, "cross_references"),
        description=flat(_text(row, "description")),
    )


def entity_to_json(entity: Entity) -> dict[str, object]:
    """Make the JSON object that ``entity_from_json`` reads back; empty fields are left out."""
    first, *rest = entity.names
    row: dict[str, object] = {
        "id": entity.id,
        "name": first.text,
        "kind": first.kind.value,
        "language": first.language,
        "source": first.source,
        "aliases": [_alias(name, first) for name in rest],
        "types": list(entity.types),
        "alternative_ids": list(entity.alternative_ids),
        "cross_references": list(entity.cross_references),
        "description": entity.description,
    }
    return {key: value for key, value in row.items() if value}


def _alias(name: Name, first: Name) -> dict[str, str]:
    """Make the object of an alias; what it shares with the first name goes without saying."""
    fields = {"name": name.text, "kind": name.kind.value}
    if name.language != first.language:
        fields["language"] = name.language
    if name.source != first.source:
        fields["source"] = name.source
    return fields


def _name(item: dict[str, object], language: str, source: str) -> Name:
    kind = name_kind(_text(item, "kind")) if item.get("kind") else NameKind.EXACT
    return Name(
        text=checked(_text(item, "name"), "name"),
        kind=kind,
        language=flat(_text(item, "language"), "language") if "language" in item else language,
        source=flat(_text(item, "source"), "source") if "source" in item else source,
    )


def _text(row: dict[str, object], key: str) -> str:
    value = row.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise RowError(f"{key} is not a string")
    return value


def _texts(row: dict[str, object], key: str) -> tuple[str, ...]:
    values = row.get(key) or []
    if isinstance(values, str):
        values = [values]
    if not isinstance(values, list):
        raise RowError(f"{key} is not a list of strings")
    return tuple(checked(_text({key: value}, key), key) for value in values)
