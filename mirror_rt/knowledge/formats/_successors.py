"""Give the ids of merged and obsolete entities to those that took their place."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping

__all__ = ["merge", "successors"]


def merge(
    replaced_by: dict[str, tuple[str, ...]],
    alternative: Mapping[str, Iterable[str]],
    *,
    live: Container[str],
) -> None:
    """Note which ids entities, obsolete themselves or not, have taken over.

    Args:
        replaced_by: The next ids of every obsolete entity, none if it names none; added to.
            What one names itself goes before the word of another obsolete one.
        alternative: The alternative ids of each entity; those that are an entity's own mean
            that entity.
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
