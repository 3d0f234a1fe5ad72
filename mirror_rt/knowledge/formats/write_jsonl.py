"""Write entities as JSON lines, which ``tables.entity_from_json`` reads back."""

from __future__ import annotations

import json

from mirror_rt.types import Entity, Name

__all__ = ["json_line"]


def json_line(entity: Entity) -> str:
    """Return an entity as a line of JSON, without a line end; empty fields are left out."""
    first, *rest = entity.names
    fields: dict[str, list[str]] = {}
    for key, value in entity.fields:
        fields.setdefault(key, []).append(value)
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
        "parents": list(entity.parents),
        "description": entity.description,
        "fields": fields,
    }
    return json.dumps({key: value for key, value in row.items() if value}, ensure_ascii=False)


def _alias(name: Name, first: Name) -> dict[str, str]:
    """Return the object of an alias, without fields that are equal to those of the first name."""
    fields = {"name": name.text, "kind": name.kind.value}
    if name.language != first.language:
        fields["language"] = name.language
    if name.source != first.source:
        fields["source"] = name.source
    return fields
