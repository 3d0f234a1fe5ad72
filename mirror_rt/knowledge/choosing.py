"""Which kind of index a knowledge base gets, by its size and the memory there is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mirror_rt.runtime.cores import usable_memory
from mirror_rt.types import IndexKind

__all__ = ["EXACT_LIMIT", "HNSW_LIMIT", "Choice", "bytes_per_row"]

EXACT_LIMIT = 50_000
"""Up to so many rows a scan of all of them costs no more than encoding the query."""
HNSW_LIMIT = 2_000_000
"""Above it a graph takes too long to build; reckoned from 100,000 names, where embedding them
took longer."""
_SHARE = 0.5
"""Of the memory that is available, what an index may take: others want some as well."""


def bytes_per_row(kind: IndexKind, width: int) -> float:
    """Return what a row costs in an index file, a search of which touches any part of it."""
    match kind:
        case IndexKind.EXACT:
            return 2 * width
        case IndexKind.HNSW:
            return width + 280  # at most; 64 links of 4 bytes at the bottom, the levels above
        case IndexKind.IVF_SQ8:
            return width + 8
        case IndexKind.IVF_PQ:
            return width / 8 + 8
        case IndexKind.RABITQ:
            return width / 4 + 28  # a sign and a bit a number, and what corrects them
        case IndexKind.AUTO:
            raise ValueError("AUTO is not a kind of file; choose first")


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What was asked of an index; its recipe keeps it, so that a change asks the same again.

    Attributes:
        kind: The kind, or ``AUTO``.
        exact_limit: Up to so many rows, ``AUTO`` means ``EXACT``.
        memory: Bytes that an index chosen by ``AUTO`` may take; None for half of what is
            available.
    """

    kind: IndexKind = IndexKind.AUTO
    exact_limit: int = EXACT_LIMIT
    memory: int | None = None

    def settle(self, rows: int, width: int) -> tuple[IndexKind, dict[str, Any]]:
        """Choose for so many rows of a width.

        ``AUTO`` is the first that fits of ``EXACT`` (up to ``exact_limit`` rows), ``HNSW`` (up
        to ``HNSW_LIMIT`` rows), ``IVF_SQ8`` and ``RABITQ``.

        Returns:
            The kind, and what a recipe keeps of the choice.
        """
        asked: dict[str, Any] = {"asked": self.kind.value}
        if self.kind is not IndexKind.AUTO:
            return self.kind, asked
        asked["exact_limit"] = self.exact_limit
        if rows <= self.exact_limit:
            return IndexKind.EXACT, asked
        memory = int(_SHARE * usable_memory()) if self.memory is None else self.memory
        asked["memory"] = memory
        if rows <= HNSW_LIMIT and rows * bytes_per_row(IndexKind.HNSW, width) <= memory:
            return IndexKind.HNSW, asked
        if rows * bytes_per_row(IndexKind.IVF_SQ8, width) <= memory:
            return IndexKind.IVF_SQ8, asked
        return IndexKind.RABITQ, asked

    @classmethod
    def of(cls, recipe: Mapping[str, Any]) -> Choice:
        """Return the choice that a recipe keeps."""
        return cls(
            kind=IndexKind(recipe.get("asked", IndexKind.AUTO.value)),
            exact_limit=int(recipe.get("exact_limit", EXACT_LIMIT)),
            memory=recipe.get("memory"),
        )
