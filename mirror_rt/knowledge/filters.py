"""Restrict what may be proposed: which entities meet conditions, and which rows name them.

``Filters`` give for a field the values of which one is wanted, and every field must be met.
``type``, ``source`` and ``language`` (of any of an entity's names) are compared whole, ``id``
and ``xref`` (cross-references) by how they begin; ``description`` is ``yes`` or ``no``. Any other
field is metadata of a passage.

Axes: E entity numbers, N rows of the index, R allowed rows, Q queries, K hits, D width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mirror_rt.errors import ConfigError
from mirror_rt.knowledge.catalogue import Catalogue
from mirror_rt.knowledge.choosing import EXACT_LIMIT
from mirror_rt.knowledge.index import Index, exact_scores
from mirror_rt.types import Hits

if TYPE_CHECKING:
    from typing import TypeAlias

    import numpy.typing as npt

    from mirror_rt.types import Float32, Int64

    Filters: TypeAlias = Mapping[str, str | Sequence[str]] | Sequence[tuple[str, Sequence[str]]]
    Conditions: TypeAlias = tuple[tuple[str, tuple[str, ...]], ...]

__all__ = ["Allowed", "allow", "conditions", "nearest"]

_AT_ONCE = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowed:
    """The entities that may be proposed.

    Attributes:
        wanted: The conditions that they meet.
        entities_E: (E,) bool, by number; numbers beyond its end are not allowed.
        mask_N: (N,) bool, the rows of their names.
        rows_R: (R,) int64, the same rows, ascending.
    """

    wanted: Conditions
    entities_E: npt.NDArray[np.bool_]
    mask_N: npt.NDArray[np.bool_]
    rows_R: Int64

    def __contains__(self, entity: int) -> bool:
        return entity < len(self.entities_E) and bool(self.entities_E[entity])


def conditions(types: Sequence[str], filters: Filters | None) -> Conditions:
    """Put types and filters into one form; each pair of it must be met.

    Raises:
        ConfigError: A field has no value, or ``description`` is neither yes nor no.
    """
    pairs = list(filters.items() if isinstance(filters, Mapping) else filters or ())
    if types:
        pairs.append(("type", types))
    found = []
    for field, given in pairs:
        values = (given,) if isinstance(given, str) else tuple(given)
        if not values or not all(values):
            raise ConfigError(f"filter {field!r}: no value; give at least one, as in {field}=…")
        if field == "description" and not {*values} <= {"yes", "no"}:
            raise ConfigError(f"filter description is yes or no, got {', '.join(values)}")
        found.append((field, values))
    return tuple(found)


def allow(wanted: Conditions, catalogue: Catalogue, *, rows: int, path: Path) -> Allowed:
    """Look up who meets the conditions.

    Args:
        wanted: At least one condition.
        catalogue: Where entities are looked up.
        rows: N, how many rows the index has.
        path: The knowledge base, for messages.

    Raises:
        ConfigError: No entity meets them, or one has a value that no entity has.
    """
    left: Int64 | None = None
    for field, values in wanted:
        for value in values:
            if not catalogue.entities_with(field, [value], most=1):
                raise ConfigError(f"no entity of {path} has the {field} {value!r}")
        mine = np.array(catalogue.entities_with(field, values), dtype=np.int64)
        left = mine if left is None else np.intersect1d(left, mine)
    if left is None or not len(left):
        told = ", ".join(f"{field}={','.join(values)}" for field, values in wanted)
        raise ConfigError(f"no entity of {path} meets all of {told}; leave one out")
    entities_E = np.zeros(int(left.max()) + 1, dtype=bool)
    entities_E[left] = True
    mask_N = np.zeros(rows, dtype=bool)
    mask_N[np.array(catalogue.rows_of(left.tolist()), dtype=np.int64)] = True
    return Allowed(
        wanted=wanted, entities_E=entities_E, mask_N=mask_N, rows_R=np.flatnonzero(mask_N)
    )


def nearest(index: Index, queries_QD: Float32, *, top: int, allowed: Allowed | None = None) -> Hits:
    """Find the nearest allowed rows, with exact scores; equal scores in the order of rows.

    Few allowed rows are all compared, so that rare ones are found; among many, more and more
    of the nearest rows are taken until enough of them are allowed.

    Args:
        index: The index.
        queries_QD: (Q, D) float32 unit rows.
        top: K; fewer allowed rows than K leave -1 with score -inf.
        allowed: The rows to choose from; None for all.
    """
    if allowed is None:
        return index.search(queries_QD, top=top)
    scores_QK = np.full((len(queries_QD), top), -np.inf, dtype=np.float32)
    rows_QK = np.full((len(queries_QD), top), -1, dtype=np.int64)
    for start in range(0, len(queries_QD), _AT_ONCE):
        some_QD = queries_QD[start : start + _AT_ONCE]
        if len(allowed.rows_R) <= EXACT_LIMIT:
            near = _scanned(index, some_QD, top, allowed)
        else:
            near = [_widened(index, query_D[None], top, allowed) for query_D in some_QD]
        for i, rows_W in enumerate(near, start=start):
            scores_W = exact_scores(index.vectors_ND, queries_QD[i], rows_W)
            order = np.lexsort((rows_W, -scores_W))[:top]
            rows_QK[i, : len(order)] = rows_W[order]
            scores_QK[i, : len(order)] = scores_W[order]
    return Hits(scores_QK=scores_QK, rows_QK=rows_QK)


def _scanned(index: Index, queries_QD: Float32, top: int, allowed: Allowed) -> list[Int64]:
    wide = max(2 * top, top + 10)  # the sums below differ from the exact scores in the last bits
    if len(allowed.rows_R) <= wide:
        return [allowed.rows_R] * len(queries_QD)
    vectors_RD = np.asarray(index.vectors_ND[allowed.rows_R], dtype=np.float32)
    scores_QR = queries_QD @ vectors_RD.T
    kept_QW = np.argpartition(-scores_QR, wide - 1, axis=1)[:, :wide]
    return list(allowed.rows_R[kept_QW])


def _widened(index: Index, query_1D: Float32, top: int, allowed: Allowed) -> Int64:
    total = len(index.vectors_ND)
    width = min(2 * top * total // len(allowed.rows_R) + top, total)
    while True:
        rows_W: Int64 = index.search(query_1D, top=width).rows_QK[0]
        rows_W = rows_W[rows_W >= 0]
        rows_W = rows_W[allowed.mask_N[rows_W]]
        if len(rows_W) >= top or width == total:
            return rows_W
        width = min(4 * width, total)
