"""The dense retriever: the nearest unit vectors by inner product, through FAISS.

Axes: Q queries, K hits, N rows, D width, A principal axes, S rows of a sample, W rows that are
scored exactly; the best K of these are returned.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import faiss
import numpy as np

from mirror_rt._count import counted
from mirror_rt.errors import KnowledgeBaseError
from mirror_rt.knowledge.arrays import ScaledRows, to_float32
from mirror_rt.types import Hits, IndexKind

if TYPE_CHECKING:
    import numpy.typing as npt

    from mirror_rt.types import Float16, Float32, Int64

__all__ = ["LEAST_SEARCHED", "VectorIndex", "build_index", "can_append", "exact_scores", "top_k"]

_GROWTH = 2.0
"""An index is trained again when it has grown by this factor since its training."""
_PCA_DIM = 128
"""Principal axes behind the codes. Rows found by codes are scored exactly afterwards, so fewer axes
with a larger ``k_factor`` reach the same recall in less time."""
_COARSE_CODES = 2_000_000
"""Up to this many rows, a code of 4 bits stands for two axes; above, for one. Among ten million
rows, codes of two axes reach a recall of .93 with all lists, codes of one axis .98."""
_CENTROIDS = 16
"""Centroids of a 4-bit product quantizer; FAISS cannot train one with fewer rows."""
_GRAPH_VARIANCE = 0.95
"""Share of the variance that the principal axes of a graph keep."""
_GRAPH_AXES = 16
"""The number of axes of a graph is a multiple of this, the width of a SIMD register."""
_SAMPLE = 65_536
_M = 32
_EF_CONSTRUCTION = 200
_DEFAULT_EF_SEARCH = 128
_DEFAULT_K_FACTOR = 4
LEAST_SEARCHED = 32
"""A search for fewer rows scores as many rows exactly as a search for this many. ``k_factor`` was
tuned with this number; with fewer, the recall would be lower."""
_ROWS_PER_LIST = 256
_SAMPLE_PER_LIST = 64
_ITERATIONS = 10
_BLOCK = 65_536
_AT_ONCE = 256
"""Rows that are scored exactly together: they fit the cache of a core."""
_AHEAD = 1 << 21


def build_index(
    vectors_ND: Float16, path: Path, *, kind: IndexKind, append_to: Path | None = None
) -> dict[str, Any]:
    """Index unit rows and write the index.

    ``EXACT`` scans all rows in float16. ``PQ`` scans 4-bit product-quantizer codes of all rows
    (Jégou et al. 2011; fast scan, André et al. 2015). ``IVF_PQ`` keeps these codes in lists around
    centroids (Sivic and Zisserman 2003), and scans the lists nearest to a query. ``HNSW`` is a
    graph (Malkov and Yashunin 2018) of rows with 8 bits per number. Codes and graph use the
    principal axes of the rows. The training sample depends on the number of rows alone.

    Args:
        vectors_ND: (N, D) float16 unit rows; may be memory-mapped, it is read in blocks.
        path: File to write.
        kind: Any but ``AUTO``.
        append_to: An index of this kind over the first of these rows; the others are added.

    Returns:
        The recipe: the kind of index and its parameters.
    """
    if append_to is not None:
        index = faiss.read_index(str(append_to))
        recipe: dict[str, Any] = {}
    else:
        index, recipe = _trained(vectors_ND, kind)
    for start in range(index.ntotal, len(vectors_ND), _BLOCK):
        index.add(_float32(vectors_ND[start : start + _BLOCK]))
    faiss.write_index(index, str(path))
    return {"kind": kind.value, **recipe}


def can_append(recipe: Mapping[str, Any], kind: IndexKind, *, rows: int) -> bool:
    """Return whether rows can be added to an index, up to this number of rows.

    An exact index needs no training. The other kinds are trained again when most of the rows are
    newer than their training.
    """
    if kind is IndexKind.EXACT or recipe.get("kind") != kind.value:
        return False
    return rows <= _GROWTH * float(recipe.get("trained_on_rows", math.inf))


def _trained(vectors_ND: Float16, kind: IndexKind) -> tuple[faiss.Index, dict[str, Any]]:
    """Return a trained index without rows, and its parameters."""
    rows, width = vectors_ND.shape
    index: Any  # the type stubs lack the attributes of the kinds of index
    if kind is IndexKind.EXACT:
        index = faiss.index_factory(width, "SQfp16", faiss.METRIC_INNER_PRODUCT)
        index.train(np.zeros((1, width), np.float32))  # learns nothing, but the call is required
        return index, {"storage": "fp16"}
    nlist = max(1, min(rows // _ROWS_PER_LIST, int(2 * math.sqrt(rows))))
    wanted = max(_SAMPLE, nlist * _SAMPLE_PER_LIST) if kind is IndexKind.IVF_PQ else _SAMPLE
    sample_SD = _sample(vectors_ND, wanted)
    # For unit rows, the smallest distance is the highest product. After axes are dropped, the
    # distance is better: unlike a product, it ignores the mean of the rows.
    if kind is IndexKind.HNSW:
        axes = _principal_axes(sample_SD, None)
        index = faiss.index_factory(axes.d_out, f"HNSW{_M}_SQ8", faiss.METRIC_L2)
        index.hnsw.efConstruction = _EF_CONSTRUCTION
        recipe = {"M": _M, "efConstruction": _EF_CONSTRUCTION, "storage": "sq8"}
    else:
        axes = _principal_axes(sample_SD, _PCA_DIM)
        code = f"PQ{max(axes.d_out // (2 if rows <= _COARSE_CODES else 1), 1)}x4fs"
        recipe = {"storage": code}
        if kind is IndexKind.IVF_PQ:
            code = f"IVF{nlist},{code}"
            recipe["nlist"] = nlist
        index = faiss.index_factory(axes.d_out, code, faiss.METRIC_L2)
        index.pq.cp.min_points_per_centroid = 1  # otherwise FAISS warns on stderr
        if kind is IndexKind.IVF_PQ:
            index.cp.niter = _ITERATIONS
            index.cp.min_points_per_centroid = 1
            index.cp.max_points_per_centroid = _SAMPLE_PER_LIST
    whole = faiss.IndexPreTransform(axes, index)
    # The training steps of a product quantizer are so small that threads only slow it down.
    with _threads(1 if kind is IndexKind.PQ else faiss.omp_get_max_threads()):
        whole.train(sample_SD)
    return whole, recipe | {"pca_dim": axes.d_out, "trained_on_rows": rows}


def _sample(vectors_ND: Float16, count: int) -> Float32:
    """Return a sample of up to ``count`` rows, in order; it depends on the number of rows alone."""
    rows = np.sort(np.random.default_rng(0).permutation(len(vectors_ND))[:count])
    # A product quantizer needs 16 rows; repeated ones will do.
    return _float32(vectors_ND[np.resize(rows, max(len(rows), _CENTROIDS))])


def _principal_axes(sample_SD: Float32, count: int | None) -> faiss.LinearTransform:
    """Return the transform to the principal axes.

    Args:
        sample_SD: (S, D) float32 rows.
        count: The number of axes, rounded down to an even number; None for as many as keep
            ``_GRAPH_VARIANCE`` of the variance.
    """
    mean_D = sample_SD.mean(axis=0)
    centered_SD = sample_SD - mean_D
    variances_D, axes_DD = np.linalg.eigh(centered_SD.T @ centered_SD)  # ascending
    width = len(mean_D)
    if count is None:
        kept_D = np.cumsum(variances_D[::-1]) / max(variances_D.sum(), 1e-9)
        wanted = int(np.searchsorted(kept_D, _GRAPH_VARIANCE)) + 1
        count = _GRAPH_AXES * math.ceil(wanted / _GRAPH_AXES)
    else:
        count = max(min(count, width) // 2 * 2, 1)
    count = min(count, width)
    axes_AD = np.ascontiguousarray(axes_DD.T[::-1][:count], dtype=np.float32)
    axes = faiss.LinearTransform(width, count, True)
    faiss.copy_array_to_vector(axes_AD.ravel(), axes.A)
    faiss.copy_array_to_vector(-axes_AD @ mean_D, axes.b)
    axes.is_trained = True
    return axes


def _float32(rows_ND: Float16) -> Float32:
    return to_float32(np.ascontiguousarray(rows_ND))


def exact_scores(
    vectors_ND: Float16, queries_QD: Float32, query_K: Int64, rows_K: Int64
) -> Float32:
    """Return the cosines of pairs of query and row.

    Args:
        vectors_ND: (N, D) float16 unit rows.
        queries_QD: (Q, D) float32 unit rows.
        query_K: (K,) int64 the query of each pair.
        rows_K: (K,) int64 the row of each pair.

    Returns:
        (K,) float32.
    """
    scores_K = np.empty(len(rows_K), dtype=np.float32)
    scaled = ScaledRows(vectors_ND, most=min(_AT_ONCE, len(rows_K)))
    queries_QD = scaled.to_queries(queries_QD)
    for start in range(0, len(rows_K), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        rows_KD = scaled.take(rows_K[part])
        np.einsum("kd,kd->k", rows_KD, queries_QD[query_K[part]], out=scores_K[part])
    return scores_K


def top_k(vectors_ND: Float16, queries_QD: Float32, rows_QW: Int64, *, top: int) -> Hits:
    """Score rows of each query exactly and keep the best; equal scores in the order of rows.

    Args:
        vectors_ND: (N, D) float16 unit rows.
        queries_QD: (Q, D) float32 unit rows.
        rows_QW: (Q, W) int64 rows of each query, -1 after the last one.
        top: K; missing rows are -1 with score -inf.
    """
    queries, width = len(queries_QD), min(top, rows_QW.shape[1])
    scores_QK = np.full((queries, top), -np.inf, dtype=np.float32)
    rows_QK = np.full((queries, top), -1, dtype=np.int64)
    rows_QW = np.sort(rows_QW, axis=1)
    scores_QW = np.empty(rows_QW.shape, dtype=np.float32)
    scaled = ScaledRows(vectors_ND, most=rows_QW.shape[1])
    for rows_W, query_D, scores_W in zip(
        rows_QW, scaled.to_queries(queries_QD), scores_QW, strict=True
    ):
        np.einsum("wd,d->w", scaled.take(rows_W), query_D, out=scores_W)
    scores_QW[rows_QW < 0] = -np.inf
    order = np.argsort(-scores_QW, axis=1, kind="stable")[:, :width]
    rows_QK[:, :width] = np.take_along_axis(rows_QW, order, axis=1)
    scores_QK[:, :width] = np.take_along_axis(scores_QW, order, axis=1)
    return Hits(scores_QK=scores_QK, rows_QK=rows_QK)


@dataclass(frozen=True, slots=True)
class VectorIndex:
    """A memory-mapped index, with the exact vectors of its rows. Safe to share between threads.

    Attributes:
        vectors_ND: (N, D) float16 unit rows, memory-mapped.
        is_exhaustive: Whether a search compares every row, in float16.
        is_graph: Whether the index is a graph.
        nlist: The number of lists; 0 for kinds without lists.
        efSearch: The candidate list size of a graph search; 0 for other kinds.
        nprobe: Lists that a search reads; 0 for kinds without lists.
        k_factor: A search for K rows scores ``k_factor`` × K rows exactly (FAISS
            ``IndexRefine``).
    """

    vectors_ND: Float16
    _faiss: faiss.Index
    is_exhaustive: bool
    is_graph: bool
    nlist: int
    efSearch: int = 0
    nprobe: int = 0
    k_factor: int = 1

    @classmethod
    def open(
        cls, path: Path, vectors_ND: Float16, recipe: Mapping[str, Any] | None = None
    ) -> VectorIndex:
        """Open an index file.

        Args:
            path: The file.
            vectors_ND: (N, D) float16, the rows it was built from.
            recipe: Its recipe, with the tuned ``efSearch``, ``nprobe`` and ``k_factor``.

        Raises:
            KnowledgeBaseError: It is missing, damaged, or made from other vectors.
        """
        try:
            recipe = dict(recipe or {})
            if recipe.get("kind") == IndexKind.HNSW.value:
                _read_ahead(path, besides=recipe["pca_dim"] * len(vectors_ND))
            index = faiss.read_index(os.fspath(path), faiss.IO_FLAG_MMAP_IFC)
        except (OSError, RuntimeError) as error:
            raise KnowledgeBaseError(
                f"{path}: not an index FAISS can read; build the knowledge base again"
            ) from error
        if (index.ntotal, index.d) != vectors_ND.shape:
            raise KnowledgeBaseError(
                f"{path}: {counted(index.ntotal, 'row')} of width {index.d}, the vectors are "
                f"{vectors_ND.shape[0]} of {vectors_ND.shape[1]}; build the knowledge base again"
            )
        exhaustive = not isinstance(index, faiss.IndexPreTransform)
        inner = index if exhaustive else faiss.downcast_index(index.index)  # type: ignore[attr-defined]
        opened = cls(
            vectors_ND,
            index,
            is_exhaustive=exhaustive,
            is_graph=isinstance(inner, faiss.IndexHNSW),
            nlist=int(getattr(inner, "nlist", 0)),
        )
        defaults: dict[str, int] = {"k_factor": 1 if opened.is_exhaustive else _DEFAULT_K_FACTOR}
        if opened.is_graph:
            defaults["efSearch"] = min(_DEFAULT_EF_SEARCH, len(vectors_ND))
        elif opened.nlist:
            defaults["nprobe"] = max(1, opened.nlist // 16)
        return opened.with_parameters(defaults | recipe)

    def with_parameters(self, recipe: Mapping[str, Any]) -> VectorIndex:
        """Return the same index with the search parameters of a recipe."""
        return replace(
            self,
            efSearch=int(recipe.get("efSearch", self.efSearch)),
            nprobe=int(recipe.get("nprobe", self.nprobe)),
            k_factor=int(recipe.get("k_factor", self.k_factor)),
        )

    def search(self, queries_QD: Float32, *, top: int) -> Hits:
        """Find the nearest rows, with exact scores; equal scores in the order of rows.

        Args:
            queries_QD: (Q, D) float32 unit rows.
            top: K; missing rows are -1 with score -inf.
        """
        queries_QD = np.ascontiguousarray(queries_QD, dtype=np.float32)
        rows = len(self.vectors_ND)
        wide = self.k_factor * max(top, LEAST_SEARCHED)
        if self.is_graph:
            wide = min(wide, self.efSearch)  # the size of its candidate list
        wide = min(max(wide, top + 10), rows)
        found_QW: npt.NDArray[np.int64]
        if wide == rows:  # scan all: a graph may not reach every row
            found_QW = np.broadcast_to(np.arange(rows), (len(queries_QD), rows))
        else:
            with _threads(1 if len(queries_QD) == 1 else faiss.omp_get_max_threads()):
                _, found_QW = self._faiss.search(queries_QD, wide, params=self._parameters(wide))
        return top_k(self.vectors_ND, queries_QD, found_QW, top=top)

    def _parameters(self, wide: int) -> Any:  # noqa: ANN401  (the stubs know no constructor)
        """Return FAISS's parameters for a search for this many rows."""
        library: Any = faiss
        if self.is_graph:
            parameters = library.SearchParametersHNSW(efSearch=max(self.efSearch, wide))
        elif self.nlist:
            # Read enough lists to hold a few times the requested rows.
            enough = math.ceil(4 * wide * self.nlist / len(self.vectors_ND))
            probes = min(max(self.nprobe, enough), self.nlist)
            parameters = library.SearchParametersIVF(nprobe=probes)
        else:
            return None
        return library.SearchParametersPreTransform(index_params=parameters)


def _read_ahead(path: Path, *, besides: int) -> None:
    """Ask the system to read a file ahead, except the last ``besides`` bytes: the stored rows.

    FAISS reads the links of a graph when it opens one. From a disk, page by page, that takes ten
    times as long as reading ahead.
    """
    if hasattr(os, "posix_fadvise"):
        with open(path, "rb") as handle:
            stop = os.fstat(handle.fileno()).st_size - besides
            for start in range(0, stop, _AHEAD):  # the system's limit for one call
                length = min(_AHEAD, stop - start)
                os.posix_fadvise(handle.fileno(), start, length, os.POSIX_FADV_WILLNEED)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Set the number of FAISS's threads for a block: waking a pool costs more than one query."""
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(count)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)
