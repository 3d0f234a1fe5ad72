"""Choose the kind of index by the number of rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mirror_rt.types import IndexKind

__all__ = ["EXACT_LIMIT", "PQ_LIMIT", "IndexChoice"]

EXACT_LIMIT = 4_096
"""Up to this many rows, an exact scan is as fast as a scan of codes."""
PQ_LIMIT = 200_000
"""Above this many rows, codes in lists are faster than a scan of all codes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexChoice:
    """The requested kind of index. The recipe stores it, so an update requests the same.

    Attributes:
        kind: The kind, or ``AUTO``.
        exact_limit: Up to this many rows, ``AUTO`` means ``EXACT``.
    """

    kind: IndexKind = IndexKind.AUTO
    exact_limit: int = EXACT_LIMIT

    def resolve(self, rows: int) -> IndexKind:
        """Return the kind for this many rows.

        ``AUTO`` is ``EXACT`` up to ``exact_limit`` rows, ``PQ`` up to ``PQ_LIMIT``, then
        ``IVF_PQ``. Each is the fastest that finds nearly all; see docs/experiments.md.
        """
        if self.kind is not IndexKind.AUTO:
            return self.kind
        if rows <= self.exact_limit:
            return IndexKind.EXACT
        return IndexKind.PQ if rows <= PQ_LIMIT else IndexKind.IVF_PQ

    def to_recipe(self) -> dict[str, Any]:
        """Return the choice as the recipe stores it."""
        return {"requested": self.kind.value, "exact_limit": self.exact_limit}

    @classmethod
    def from_recipe(cls, recipe: Mapping[str, Any]) -> IndexChoice:
        """Return the choice that a recipe stores."""
        return cls(
            kind=IndexKind(recipe.get("requested", IndexKind.AUTO.value)),
            exact_limit=int(recipe.get("exact_limit", EXACT_LIMIT)),
        )
