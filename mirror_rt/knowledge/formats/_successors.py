"""Assign the ids of merged and obsolete entities to their successors."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping

__all__ = ["merge", "successors"]


def merge(
    replaced_by: dict[str, tuple[str, ...]],
    alternative: Mapping[str, Iterable[str]],
    *,
    live: Container[str],
) -> None:
    """Add the alternative ids of entities, obsolete or not, to the successors.

    Args:
        replaced_by: The next ids of every obsolete entity, empty if it names none. This dict is
            extended. A successor that an entity names itself takes precedence.
        alternative: The alternative ids of each entity. An id that is the own id of an entity
            means that entity.
        live: Ids of entities that are not obsolete.
    """
    named = {old for old, following in replaced_by.items() if following}
    for new, olds in alternative.items():
        for old in olds:
            if old != new and old not in live and (new in live or old not in named):
                replaced_by[old] = (*replaced_by.get(old, ()), new)


def successors(
    replaced_by: Mapping[str, tuple[str, ...]], live: Container[str]
) -> tuple[dict[str, tuple[str, ...]], int]:
    """Turn "old id → next ids" into "live id → every old id that leads to it".

    Args:
        replaced_by: The next ids of each obsolete id. They may be obsolete themselves, unknown,
            or form a circle.
        live: Ids of terms that are not obsolete.

    Returns:
        The old ids of each live id, and the number of obsolete ids without a live successor.

    >>> successors({"old": ("older",), "older": ("new",), "a": ("b",), "b": ("a",)}, {"new"})
    ({'new': ('old', 'older')}, 2)
    """
    found: dict[str, list[str]] = {}
    unresolved = 0
    for old in sorted(replaced_by):
        seen, todo = {old}, [old]
        ends: list[str] = []
        while todo:
            for following in replaced_by.get(todo.pop(), ()):
                if following in seen:
                    continue
                seen.add(following)
                (ends if following in live else todo).append(following)
        for end in ends:
            found.setdefault(end, []).append(old)
        unresolved += not ends
    return {new: tuple(olds) for new, olds in found.items()}, unresolved
