"""Give the ids of merged and obsolete entities to those that took their place."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping

__all__ = ["merge", "successors"]


def merge(
    replaced_by: dict[str, tuple[str, ...]],
    olds: Iterable[str],
    new: str,
    *,
    live: Container[str],
) -> None:
    """Note that an entity, obsolete itself or not, has taken over ids.

    Args:
        replaced_by: The next ids of each old one; added to.
        olds: Its alternative ids; those that are an entity's own mean that entity.
        new: Its own id.
        live: Ids of entities that are not obsolete.
    """
    for old in olds:
        if old != new and old not in live:
            replaced_by[old] = (*replaced_by.get(old, ()), new)


def successors(
    replaced_by: Mapping[str, tuple[str, ...]], live: Container[str]
) -> tuple[dict[str, tuple[str, ...]], int]:
    """Turn "old id → next ids" into "live id → every old id that leads to it".

    Args:
        replaced_by: The next ids of each obsolete one; they may be obsolete themselves,
            unknown, or lead back in a circle.
        live: Ids of terms that are not obsolete.

    Returns:
        Old ids of each live id, and the number of obsolete ids that lead nowhere.

    >>> successors({"old": ("older",), "older": ("new",), "a": ("b",), "b": ("a",)}, {"new"})
    ({'new': ('old', 'older')}, 2)
    """
    found: dict[str, list[str]] = {}
    unresolved = 0
    for old in replaced_by:
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
