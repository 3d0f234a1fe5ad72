"""Read entities or passages from a file, a table in memory, or Python objects."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypeAlias, cast

from mirror_rt.tables import ArrowTable, is_arrow
from mirror_rt.types import Entity, Passage

__all__ = ["Entities", "entities_of", "passages_of"]

Entities: TypeAlias = "Iterable[Entity] | Iterable[Mapping[str, object]]"
"""Entities, or dicts with the keys of JSON lines."""


def entities_of(
    entities: str | Path | ArrowTable | Entities | Iterable[Passage],
) -> Iterable[Entity]:
    """Read entities.

    Args:
        entities: A file, a table in memory, or ``Entity`` objects or dicts.

    Raises:
        ConfigError: It is none of these.
        InputError: The file or table cannot be read, or an element cannot be used; the message
            names it. Elements are read one by one, so it is raised while they are.
    """
    from mirror_rt.knowledge.formats import given_entities, read_entities

    if isinstance(entities, (str, Path)) or is_arrow(entities):
        return read_entities(entities)
    return given_entities(entities)


def passages_of(
    given: str | Path | ArrowTable | Entities | Iterable[Passage], split: int | None
) -> Iterable[Entity]:
    """Read passages, as entities; see ``passages.as_entities``.

    Args:
        given: A file, a table in memory, or ``Passage`` objects.
        split: Words of a piece that a longer text is split into; None to split nothing.

    Raises:
        ConfigError: ``split`` is not positive.
        InputError: The file or table cannot be read, or a passage has no text, a repeated id or
            a lone surrogate; the message names it.
    """
    from mirror_rt.knowledge.formats.passages import as_entities, read_passages

    is_table = isinstance(given, (str, Path)) or is_arrow(given)
    found = read_passages(given) if is_table else given  # type: ignore[arg-type]
    return as_entities(cast("Iterable[Passage]", found), split=split)
