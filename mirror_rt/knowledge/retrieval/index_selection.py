"""Which kind of index a knowledge base gets, by its number of rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mirror_rt.types import IndexKind

__all__ = ["EXACT_LIMIT", "PQ_LIMIT", "IndexChoice"]

EXACT_LIMIT = 4_096
"""Up to this many rows all of them are compared as they are: it takes no longer than codes."""
PQ_LIMIT = 200_000
"""Above this many rows, lists of codes are searched faster than all codes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexChoice:
    """The index that was asked for; a recipe keeps it, so that an update asks for the same.

    Attributes:
        kind: The kind, or ``AUTO``.
        exact_limit: Up to this many rows, ``AUTO`` means ``EXACT``.
    """

    kind: IndexKind = IndexKind.AUTO
    exact_limit: int = EXACT_LIMIT

    def resolve(self, rows: int) -> IndexKind:
        """Return the kind for this many rows.

        ``AUTO`` is ``EXACT`` up to ``exact_limit`` rows, ``PQ`` up to ``PQ_LIMIT``, then
        ``IVF_PQ``: the fastest search that finds nearly all, measured in docs/experiments.md.
        """
        if self.kind is not IndexKind.AUTO:
            return self.kind
        if rows <= self.exact_limit:
            return IndexKind.EXACT
        return IndexKind.PQ if rows <= PQ_LIMIT else IndexKind.IVF_PQ

    def to_recipe(self) -> dict[str, Any]:
        """Return what a recipe keeps of the choice."""
        return {"requested": self.kind.value, "exact_limit": self.exact_limit}

    @classmethod
    def from_recipe(cls, recipe: Mapping[str, Any]) -> IndexChoice:
        """Return the choice that a recipe keeps."""
        return cls(
            kind=IndexKind(recipe.get("requested", IndexKind.AUTO.value)),
            exact_limit=int(recipe.get("exact_limit", EXACT_LIMIT)),
        )
