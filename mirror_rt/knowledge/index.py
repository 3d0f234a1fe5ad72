"""The index: nearest rows of a matrix of unit vectors, by inner product, through FAISS.

Axes: Q queries, K hits, N rows, D width, A axes kept, S rows of a sample, W rows of which the
best K are kept.
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

from mirror_rt.errors import KnowledgeBaseError
from mirror_rt.types import Hits, IndexKind

if TYPE_CHECKING:
    from mirror_rt.types import Float16, Float32, Int64

__all__ = ["Index", "build_index", "exact_scores", "may_grow"]

_GROWTH = 2.0
"""Lists are learned anew when an index has grown to so many times the rows it learned from."""
_NEIGHBOURS = 32
_BREADTH_OF_BUILD = 200
_KEPT = 0.95
"""Of the variance of rows, what the axes of a graph keep: its codes only have to lead to the
nearest rows, which are scored exactly, and half the numbers are searched in half the time."""
_AXES = 16
"""Axes are counted in so many: what a processor multiplies at once."""
_SAMPLE_FOR_AXES = 32_768
_USUAL = 128
"""Breadth of a search that nobody tuned."""
_OVERFETCH = 8
"""The same of overfetch; a graph, whose codes are nearly exact, is given no other."""
_ROWS_READ = 4
_LISTS = 8_192
_SAMPLE_PER_LIST = 40
"""Rows that a list's centre is learned from; FAISS thinks 39 the least that will do."""
_CODEBOOK = 256
_SAMPLE_PER_CODE = 64
_ROUNDS = 10
_BLOCK = 16_384
_AHEAD = 1 << 21


def build_index(
    vectors_ND: Float16, path: Path, *, kind: IndexKind, grown_from: Path | None = None
) -> dict[str, Any]:
    """Index unit rows and write the index.

    A graph (HNSW: Malkov and Yashunin 2018) has the rows in 8 bits a number along their
    principal axes. Lists (IVF: Sivic and Zisserman 2003) gather rows around centres; a search
    reads those of the nearest centres. Their rows are kept in 8 bits a number (``IVF_SQ8``), as
    the nearest of 256 codewords for each 8 numbers (``IVF_PQ``; Jégou et al. 2011, section IV)
    or, rotated at random, in a sign and a bit a number (``RABITQ``; Gao et al. 2024). Everything
    is learned from a sample that depends on the number of rows alone.

    Args:
        vectors_ND: (N, D) float16 unit rows; may be memory-mapped, it is read in blocks.
        path: File to write.
        kind: Any but ``AUTO``.
        grown_from: An index of this kind over the first of these rows, to add the others to.

    Returns:
        The recipe: what was built and with which numbers.
    """
    if grown_from is not None:
        index = faiss.read_index(str(grown_from))
        recipe: dict[str, Any] = {}
    else:
        index, recipe = _learned(vectors_ND, kind)
    for start in range(index.ntotal, len(vectors_ND), _BLOCK):
        index.add(_float32(vectors_ND[start : start + _BLOCK]))
    faiss.write_index(index, str(path))
    return {"kind": kind.value, **recipe}


def may_grow(recipe: Mapping[str, Any], kind: IndexKind, *, rows: int) -> bool:
    """Tell whether rows can be added to an index, to make one of a kind with so many rows.

    A scan costs nothing to build. Graphs and lists do; they are learned anew when there are
    too many rows that they know nothing of.
    """
    if kind is IndexKind.EXACT or recipe.get("kind") != kind.value:
        return False
    return rows <= _GROWTH * float(recipe.get("learned_from_rows", math.inf))


def _learned(vectors_ND: Float16, kind: IndexKind) -> tuple[faiss.Index, dict[str, Any]]:
    """Return an index without rows that has learned what it must, and its numbers."""
    rows, width = vectors_ND.shape
    inner = faiss.METRIC_INNER_PRODUCT
    index: Any  # the stubs know the attributes of no kind of index
    lists = max(1, min(_LISTS, int(4 * math.sqrt(rows)), rows // _SAMPLE_PER_LIST))
    recipe: dict[str, Any] = {"lists": lists, "learned_from_rows": rows}
    match kind:
        case IndexKind.EXACT:
            index = faiss.index_factory(width, "SQfp16", inner)
            index.train(np.zeros((1, width), np.float32))  # learns nothing, but asks for it
            return index, {"storage": "fp16"}
        case IndexKind.HNSW:
            sample_SD = _drawn(vectors_ND, _SAMPLE_FOR_AXES)
            axes = _axes(sample_SD)
            # Of unit rows the nearest are those of the highest product; once axes are left out,
            # a distance does not depend on what all rows have in common, as a product does.
            graph: Any = faiss.index_factory(axes.d_out, f"HNSW{_NEIGHBOURS}_SQ8", faiss.METRIC_L2)
            graph.hnsw.efConstruction = _BREADTH_OF_BUILD
            index = faiss.IndexPreTransform(axes, graph)
            index.train(sample_SD)
            return index, {
                "m": _NEIGHBOURS, "efConstruction": _BREADTH_OF_BUILD, "storage": "sq8",
                "axes": axes.d_out, "learned_from_rows": rows,
            }  # fmt: skip
        case IndexKind.IVF_SQ8:
            index = faiss.index_factory(width, f"IVF{lists},SQ8", inner)
            recipe["storage"] = "sq8"
        case IndexKind.IVF_PQ:
            pieces = next(m for m in range(max(width // 8, 1), 0, -1) if width % m == 0)
            index = faiss.index_factory(width, f"IVF{lists},PQ{pieces}", inner)
            index.do_polysemous_training = False  # of use to binary search alone, and slow
            index.pq.cp.niter = _ROUNDS
            index.pq.cp.max_points_per_centroid = _SAMPLE_PER_CODE
            index.pq.cp.min_points_per_centroid = 1  # else it warns on stderr
            recipe["storage"] = f"pq{pieces}"
        case IndexKind.RABITQ:
            index = faiss.index_factory(width, f"RR{width},IVF{lists},RaBitQ2", inner)
            recipe["storage"] = "rabitq2"
        case IndexKind.AUTO:
            raise ValueError("AUTO is not a recipe; choose first")
    clustering = faiss.extract_index_ivf(index).cp
    clustering.niter = _ROUNDS
    clustering.min_points_per_centroid = 1
    wanted = max(lists * _SAMPLE_PER_LIST, _CODEBOOK * _SAMPLE_PER_CODE)
    index.train(_drawn(vectors_ND, wanted))
    return index, recipe


def _drawn(vectors_ND: Float16, count: int) -> Float32:
    """Return up to ``count`` rows, drawn by the number of rows alone, in their order."""
    rows = np.sort(np.random.default_rng(0).permutation(len(vectors_ND))[:count])
    # A codebook wants 256 rows, be they the same ones again and again.
    return _float32(vectors_ND[np.resize(rows, max(len(rows), _CODEBOOK))])


def _axes(sample_SD: Float32) -> faiss.LinearTransform:
    """Return the transform to the principal axes that keep enough of the rows' variance."""
    mean_D = sample_SD.mean(axis=0)
    centred_SD = sample_SD - mean_D
    variances_D, axes_DD = np.linalg.eigh(centred_SD.T @ centred_SD)  # ascending
    kept_D = np.cumsum(variances_D[::-1]) / max(variances_D.sum(), 1e-9)
    wanted = int(np.searchsorted(kept_D, _KEPT)) + 1
    count = min(_AXES * math.ceil(wanted / _AXES), len(mean_D))
    axes_AD = np.ascontiguousarray(axes_DD.T[::-1][:count], dtype=np.float32)
    axes = faiss.LinearTransform(len(mean_D), count, True)
    faiss.copy_array_to_vector(axes_AD.ravel(), axes.A)
    faiss.copy_array_to_vector(-axes_AD @ mean_D, axes.b)
    axes.is_trained = True
    return axes


def _float32(rows_ND: Float16) -> Float32:
    return np.ascontiguousarray(rows_ND, dtype=np.float32)


def exact_scores(vectors_ND: Float16, query_D: Float32, rows_K: Int64) -> Float32:
    """Return the (K,) float32 cosines of one unit query with some rows."""
    scores_K: Float32 = vectors_ND[rows_K].astype(np.float32) @ query_D
    return scores_K


@dataclass(frozen=True, slots=True)
class Index:
    """An index opened by memory map, with the exact vectors behind it. Safe between threads.

    Attributes:
        vectors_ND: (N, D) float16 unit rows, memory-mapped.
        breadth: How far a search looks: how many rows a graph keeps in sight, or how many lists
            are read. More find more, and take longer.
        overfetch: How many times the rows asked for are scored exactly; the best are kept.
    """

    vectors_ND: Float16
    _faiss: faiss.Index
    breadth: int = 0
    overfetch: int = 1

    @classmethod
    def open(
        cls, path: Path, vectors_ND: Float16, recipe: Mapping[str, Any] | None = None
    ) -> Index:
        """Open an index file without reading it.

        Args:
            path: The file.
            vectors_ND: (N, D) float16, the rows it was built from.
            recipe: Its recipe, with ``breadth`` and ``overfetch`` as they were tuned.

        Raises:
            KnowledgeBaseError: It is missing, damaged, or not of these vectors.
        """
        try:
            recipe = dict(recipe or {})
            if "axes" in recipe:
                _read_ahead(path, besides=recipe["axes"] * len(vectors_ND))
            index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
        except (OSError, RuntimeError) as error:
            raise KnowledgeBaseError(
                f"{path}: not an index FAISS can read; build the knowledge base again"
            ) from error
        if (index.ntotal, index.d) != vectors_ND.shape:
            raise KnowledgeBaseError(
                f"{path}: {index.ntotal} rows of width {index.d}, the vectors are "
                f"{vectors_ND.shape[0]} of {vectors_ND.shape[1]}; build the knowledge base again"
            )
        opened = cls(vectors_ND, index)
        overfetch = 1 if opened.widest is None else _OVERFETCH
        usual = {"breadth": min(_USUAL, opened.widest or 0), "overfetch": overfetch}
        return opened.reaching(usual | recipe)

    @property
    def widest(self) -> int | None:
        """The largest breadth that makes a difference; None where every row is scanned."""
        if self.is_graph:
            return len(self.vectors_ND)
        lists = faiss.try_extract_index_ivf(self._faiss)
        return None if lists is None else int(lists.nlist)

    @property
    def is_graph(self) -> bool:
        """Whether rows are found by going from one to the next."""
        inner = self._faiss
        if isinstance(inner, faiss.IndexPreTransform):
            inner = faiss.downcast_index(inner.index)
        return isinstance(inner, faiss.IndexHNSW)

    def reaching(self, recipe: Mapping[str, Any]) -> Index:
        """Return the same index, searched with the ``breadth`` and ``overfetch`` of a recipe."""
        return replace(
            self,
            breadth=int(recipe.get("breadth", self.breadth)),
            overfetch=int(recipe.get("overfetch", self.overfetch)),
        )

    def search(self, queries_QD: Float32, *, top: int) -> Hits:
        """Find the nearest rows, with exact scores; equal scores in the order of rows.

        Args:
            queries_QD: (Q, D) float32 unit rows.
            top: K, how many to return; fewer rows than K leave -1 with score -inf.
        """
        queries_QD = np.ascontiguousarray(queries_QD, dtype=np.float32)
        wide = self.overfetch * top
        if self.is_graph:
            wide = min(wide, self.breadth)  # what it keeps in sight
        wide = min(max(wide, top + 10), len(self.vectors_ND))
        found_QW: Int64
        if wide == len(self.vectors_ND):  # all of them: a graph may not lead to every row
            found_QW = np.broadcast_to(np.arange(wide), (len(queries_QD), wide))
        else:
            with _threads(1 if len(queries_QD) == 1 else faiss.omp_get_max_threads()):
                _, found_QW = self._faiss.search(queries_QD, wide, params=self._parameters(wide))
        scores_QK = np.full((len(queries_QD), top), -np.inf, dtype=np.float32)
        rows_QK = np.full((len(queries_QD), top), -1, dtype=np.int64)
        for i, found_W in enumerate(found_QW):
            rows_W = found_W[found_W >= 0]
            scores_W = exact_scores(self.vectors_ND, queries_QD[i], rows_W)
            order = np.lexsort((rows_W, -scores_W))[:top]
            rows_QK[i, : len(order)] = rows_W[order]
            scores_QK[i, : len(order)] = scores_W[order]
        return Hits(scores_QK=scores_QK, rows_QK=rows_QK)

    def _parameters(self, wide: int) -> Any:  # noqa: ANN401  (the stubs know no constructor)
        """Return FAISS's parameters of a search for so many rows."""
        library: Any = faiss
        lists = faiss.try_extract_index_ivf(self._faiss)
        if self.is_graph:
            parameters = library.SearchParametersHNSW(efSearch=max(self.breadth, wide))
        elif lists is None:
            return None
        else:
            # So many lists that they hold a few times the rows wanted.
            enough = math.ceil(_ROWS_READ * wide * lists.nlist / len(self.vectors_ND))
            probes = min(max(self.breadth, enough), lists.nlist)
            parameters = library.SearchParametersIVF(nprobe=probes)
        if isinstance(self._faiss, faiss.IndexPreTransform):
            return library.SearchParametersPreTransform(index_params=parameters)
        return parameters


def _read_ahead(path: Path, *, besides: int) -> None:
    """Ask the system for the start of a file, all ``besides`` the stored rows at its end.

    FAISS looks through the links of a graph as it opens one; page by page from a disk, that
    takes ten times as long as reading ahead.
    """
    if hasattr(os, "posix_fadvise"):
        with open(path, "rb") as handle:
            stop = os.fstat(handle.fileno()).st_size - besides
            for start in range(0, stop, _AHEAD):  # the system takes no more at once
                length = min(_AHEAD, stop - start)
                os.posix_fadvise(handle.fileno(), start, length, os.POSIX_FADV_WILLNEED)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Set FAISS's threads for a block: waking a pool costs more than one query does."""
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(count)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)
