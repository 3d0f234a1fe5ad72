"""The index: nearest rows of a matrix of unit vectors, by inner product, through FAISS.

Axes: Q queries, K hits, N rows, D width.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import faiss
import numpy as np

from mirror_rt.errors import KnowledgeBaseError
from mirror_rt.types import Hits, IndexKind

if TYPE_CHECKING:
    from mirror_rt.types import Float16, Float32, Int64

__all__ = ["EXACT_LIMIT", "Index", "build_index", "choose", "exact_scores"]

EXACT_LIMIT = 50_000
"""Up to so many rows a scan of all of them costs no more than encoding the query."""
_NEIGHBOURS = 32
_BREADTH_OF_BUILD = 200
_BREADTH_OF_SEARCH = 128
_BLOCK = 16_384


def choose(kind: IndexKind, rows: int, *, exact_limit: int = EXACT_LIMIT) -> IndexKind:
    """Return the kind of index that ``AUTO`` means for so many rows, or ``kind`` itself."""
    if kind is not IndexKind.AUTO:
        return kind
    return IndexKind.EXACT if rows <= exact_limit else IndexKind.HNSW


def build_index(
    vectors_ND: Float16, path: Path, *, kind: IndexKind, grown_from: Path | None = None
) -> dict[str, str | int | float]:
    """Index unit rows and write the index.

    Args:
        vectors_ND: (N, D) float16 unit rows; may be memory-mapped, it is read in blocks.
        path: File to write.
        kind: ``EXACT`` or ``HNSW``.
        grown_from: An index of this kind over the first of these rows, to add the others to.

    Returns:
        The recipe: what was built and with which numbers.
    """
    width = vectors_ND.shape[1]
    inner = faiss.METRIC_INNER_PRODUCT
    recipe: dict[str, str | int | float] = {"kind": kind.value, "storage": "fp16"}
    match kind:
        case IndexKind.EXACT:
            index = faiss.index_factory(width, "SQfp16", inner)
        case IndexKind.HNSW:
            index = faiss.index_factory(width, f"HNSW{_NEIGHBOURS}_SQfp16", inner)
            breadths = {"efConstruction": _BREADTH_OF_BUILD, "efSearch": _BREADTH_OF_SEARCH}
            for name, value in breadths.items():
                faiss.ParameterSpace().set_index_parameter(index, name, value)
            recipe |= {"m": _NEIGHBOURS, **breadths}
        case IndexKind.AUTO:
            raise ValueError("AUTO is not a recipe; call choose() first")
    index.train(np.zeros((1, width), dtype=np.float32))  # fp16 learns nothing, but asks for it
    if grown_from is not None:
        index = faiss.read_index(str(grown_from))
    for start in range(index.ntotal, len(vectors_ND), _BLOCK):
        index.add(np.ascontiguousarray(vectors_ND[start : start + _BLOCK], dtype=np.float32))
    faiss.write_index(index, str(path))
    return recipe


def exact_scores(vectors_ND: Float16, query_D: Float32, rows_K: Int64) -> Float32:
    """Return the (K,) float32 cosines of one unit query with some rows."""
    scores_K: Float32 = vectors_ND[rows_K].astype(np.float32) @ query_D
    return scores_K


@dataclass(frozen=True, slots=True)
class Index:
    """An index opened by memory map, with the exact vectors behind it.

    Attributes:
        vectors_ND: (N, D) float16 unit rows, memory-mapped.
    """

    vectors_ND: Float16
    _faiss: faiss.Index

    @classmethod
    def open(cls, path: Path, vectors_ND: Float16) -> Index:
        """Open an index file without reading it.

        Raises:
            KnowledgeBaseError: It is missing, damaged, or not of these vectors.
        """
        try:
            index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
        except RuntimeError as error:
            raise KnowledgeBaseError(
                f"{path}: not an index FAISS can read; build the knowledge base again"
            ) from error
        if (index.ntotal, index.d) != vectors_ND.shape:
            raise KnowledgeBaseError(
                f"{path}: {index.ntotal} rows of width {index.d}, the vectors are "
                f"{vectors_ND.shape[0]} of {vectors_ND.shape[1]}; build the knowledge base again"
            )
        return cls(vectors_ND, index)

    def set_breadth(self, breadth: int) -> None:
        """Set how many rows an HNSW search keeps in sight: more find more, and take longer."""
        faiss.ParameterSpace().set_index_parameter(self._faiss, "efSearch", breadth)

    def search(self, queries_QD: Float32, *, top: int) -> Hits:
        """Find the nearest rows, with exact scores; equal scores in the order of rows.

        Args:
            queries_QD: (Q, D) float32 unit rows.
            top: K, how many to return; fewer rows than K leave -1 with score -inf.
        """
        queries_QD = np.ascontiguousarray(queries_QD, dtype=np.float32)
        wide = min(max(2 * top, top + 10), len(self.vectors_ND))
        found_QW: Int64
        if wide == len(self.vectors_ND):  # all of them: a graph may not lead to every row
            found_QW = np.broadcast_to(np.arange(wide), (len(queries_QD), wide))
        else:
            with _threads(1 if len(queries_QD) == 1 else faiss.omp_get_max_threads()):
                _, found_QW = self._faiss.search(queries_QD, wide)
        scores_QK = np.full((len(queries_QD), top), -np.inf, dtype=np.float32)
        rows_QK = np.full((len(queries_QD), top), -1, dtype=np.int64)
        for i, found_W in enumerate(found_QW):
            rows_W = found_W[found_W >= 0]
            scores_W = exact_scores(self.vectors_ND, queries_QD[i], rows_W)
            order = np.lexsort((rows_W, -scores_W))[:top]
            rows_QK[i, : len(order)] = rows_W[order]
            scores_QK[i, : len(order)] = scores_W[order]
        return Hits(scores_QK=scores_QK, rows_QK=rows_QK)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Set FAISS's threads for a block: waking a pool costs more than one query does."""
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(count)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)
