"""Filters: restrict linking and search to the entities that meet conditions.

``Filters`` map a field to its allowed values. An entity must have one of the values of each field.
``type``, ``source`` and ``language`` (of any of the names) must be equal to the value. ``id`` and
``xref`` (cross-references) must start with it. ``description`` is ``yes`` or ``no``. ``under``
selects the entity with an id and all its descendants. Any other field is one of
``Entity.fields``, or metadata of a passage.

Axes: E entity numbers, N rows of the index, R allowed rows, Q queries, K hits, D width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mirror_rt.errors import ConfigError
from mirror_rt.knowledge.arrays import to_float32
from mirror_rt.knowledge.entities.reader import STANDARD_FIELDS, Catalogue
from mirror_rt.knowledge.retrieval.vector_index import VectorIndex, top_k
from mirror_rt.types import Hits

if TYPE_CHECKING:
    from typing import TypeAlias

    import numpy.typing as npt

    from mirror_rt.types import Float32, Int64

    Filters: TypeAlias = Mapping[str, str | Sequence[str]] | Sequence[tuple[str, Sequence[str]]]
    Conditions: TypeAlias = tuple[tuple[str, tuple[str, ...]], ...]

__all__ = [
    "Conditions",
    "FilterMask",
    "Filters",
    "compile_filter",
    "filtered_search",
    "parse_filters",
]

_AT_ONCE = 128
_SCANNED = 50_000
"""If at most this many rows are allowed, all of them are compared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FilterMask:
    """The entities that may be proposed.

    Attributes:
        conditions: The conditions that they meet.
        entities_E: (E,) bool, by number; numbers beyond its end are not allowed.
        mask_N: (N,) bool, whether a row is a name of an allowed entity.
        rows_R: (R,) int64, the same rows, ascending.
    """

    conditions: Conditions
    entities_E: npt.NDArray[np.bool_]
    mask_N: npt.NDArray[np.bool_]
    rows_R: Int64

    def allows(self, entities: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.bool_]:
        """Return for each entity number whether it may be proposed."""
        inside = entities < len(self.entities_E)
        allowed: npt.NDArray[np.bool_] = inside & self.entities_E[np.where(inside, entities, 0)]
        return allowed


def parse_filters(filters: Filters | None) -> Conditions:
    """Return filters as pairs of field and values; each pair must be met.

    Raises:
        ConfigError: A field has no value, or ``description`` is neither yes nor no.
    """
    pairs = list(filters.items() if isinstance(filters, Mapping) else filters or ())
    found = []
    for field, given in pairs:
        values = (given,) if isinstance(given, str) else tuple(given)
        if not values or not all(values):
            raise ConfigError(f"filter {field!r}: no value; give at least one, as in {field}=…")
        if field == "description" and not {*values} <= {"yes", "no"}:
            raise ConfigError(f"filter description: give yes or no, got {', '.join(values)}")
        found.append((field, values))
    return tuple(found)


def compile_filter(
    conditions: Conditions, catalogue: Catalogue, *, rows: int, path: Path
) -> FilterMask:
    """Find the entities that meet the conditions.

    Args:
        conditions: At least one.
        catalogue: The catalogue of entities.
        rows: N, the number of rows of the index.
        path: The knowledge base, for messages.

    Raises:
        ConfigError: No entity meets them, or a field or value does not occur.
    """
    left: Int64 | None = None
    for field, values in conditions:
        for value in values:
            if not catalogue.entities_with(field, [value], most=1):
                raise ConfigError(_unknown(field, value, catalogue, path))
        found = np.array(catalogue.entities_with(field, values), dtype=np.int64)
        left = found if left is None else np.intersect1d(left, found)
    if left is None or not len(left):
        shown = ", ".join(f"{field}={','.join(values)}" for field, values in conditions)
        raise ConfigError(f"{path}: no entity meets all of {shown}; leave one out")
    entities_E = np.zeros(int(left.max()) + 1, dtype=bool)
    entities_E[left] = True
    mask_N = np.zeros(rows, dtype=bool)
    mask_N[np.array(catalogue.rows_of(left.tolist()), dtype=np.int64)] = True
    return FilterMask(
        conditions=conditions, entities_E=entities_E, mask_N=mask_N, rows_R=np.flatnonzero(mask_N)
    )


def _unknown(field: str, value: str, catalogue: Catalogue, path: Path) -> str:
    known = [*STANDARD_FIELDS, *catalogue.field_names()]
    if field == "under":
        return f"{path}: has no entity {value!r}, nor one below it; look its id up with link"
    if field in known:
        return f"{path}: no entity has the {field} {value!r}"
    return f"{path}: no entity has a field {field!r}; filter by one of {', '.join(known[:20])}"


def filtered_search(
    index: VectorIndex, queries_QD: Float32, *, top: int, mask: FilterMask | None = None
) -> Hits:
    """Find the nearest allowed rows, with exact scores; equal scores in the order of rows.

    If few rows are allowed, all of them are compared. Otherwise the search is widened until
    enough of the nearest rows are allowed.

    Args:
        index: The index.
        queries_QD: (Q, D) float32 unit rows.
        top: K; missing rows are -1 with score -inf.
        mask: The rows to choose from; None for all.
    """
    if mask is None:
        return index.search(queries_QD, top=top)
    scores_QK = np.full((len(queries_QD), top), -np.inf, dtype=np.float32)
    rows_QK = np.full((len(queries_QD), top), -1, dtype=np.int64)
    for start in range(0, len(queries_QD), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        if len(mask.rows_R) <= _SCANNED:
            rows_QW = _scanned(index, queries_QD[part], top, mask)
        else:
            rows_QW = _widened(index, queries_QD[part], top, mask)
        hits = top_k(index.vectors_ND, queries_QD[part], rows_QW, top=top)
        scores_QK[part], rows_QK[part] = hits.scores_QK, hits.rows_QK
    return Hits(scores_QK=scores_QK, rows_QK=rows_QK)


def _scanned(index: VectorIndex, queries_QD: Float32, top: int, mask: FilterMask) -> Int64:
    wide = max(2 * top, top + 10)  # a margin: the products below are rounded differently
    if len(mask.rows_R) <= wide:
        return np.broadcast_to(mask.rows_R, (len(queries_QD), len(mask.rows_R)))
    scores_QR = queries_QD @ to_float32(index.vectors_ND[mask.rows_R]).T
    return mask.rows_R[np.argpartition(-scores_QR, wide - 1, axis=1)[:, :wide]]


def _widened(index: VectorIndex, queries_QD: Float32, top: int, mask: FilterMask) -> Int64:
    total = len(index.vectors_ND)
    width = min(2 * top * total // len(mask.rows_R) + top, total)
    while True:
        rows_QW = index.search(queries_QD, top=width).rows_QK
        rows_QW[~((rows_QW >= 0) & mask.mask_N[rows_QW])] = -1
        if width == total or ((rows_QW >= 0).sum(axis=1) >= top).all():
            return rows_QW
        width = min(4 * width, total)
