from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import faiss
import numpy as np
import pytest

from mirror_rt.errors import KnowledgeBaseError
from mirror_rt.knowledge.choosing import bytes_per_row
from mirror_rt.knowledge.index import Index, build_index, may_grow
from mirror_rt.types import IndexKind

if TYPE_CHECKING:
    from mirror_rt.types import Float16, Float32


def _unit_rows(count: int, *, seed: int, width: int = 32) -> Float32:
    # Clusters, as names have them: uniform directions are the easy case for no index.
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((20, width))
    rows = centres[rng.integers(0, 20, count)] + 0.5 * rng.standard_normal((count, width))
    unit: Float32 = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return unit


def _open(folder: Path, vectors: Float16, kind: IndexKind) -> Index:
    recipe = build_index(vectors, folder / "index.faiss", kind=kind)
    return Index.open(folder / "index.faiss", vectors, recipe)


def test_the_exact_index_agrees_with_brute_force(tmp_path: Path) -> None:
    vectors = _unit_rows(3_000, seed=1).astype(np.float16)
    queries = _unit_rows(40, seed=2)
    hits = _open(tmp_path, vectors, IndexKind.EXACT).search(queries, top=10)
    scores = queries @ vectors.astype(np.float32).T
    order = np.argsort(-scores, axis=1, kind="stable")[:, :10]
    np.testing.assert_array_equal(hits.rows_QK, order)
    np.testing.assert_allclose(hits.scores_QK, np.take_along_axis(scores, order, axis=1), atol=1e-6)


def test_hnsw_finds_nearly_all_of_the_nearest_and_scores_them_exactly(tmp_path: Path) -> None:
    vectors = _unit_rows(5_000, seed=1).astype(np.float16)
    queries = _unit_rows(50, seed=2)
    hits = _open(tmp_path, vectors, IndexKind.HNSW).search(queries, top=10)
    scores = queries @ vectors.astype(np.float32).T
    order = np.argsort(-scores, axis=1, kind="stable")[:, :10]
    found = [len(set(a) & set(b)) / 10 for a, b in zip(hits.rows_QK, order, strict=True)]
    assert np.mean(found) > 0.97
    np.testing.assert_allclose(
        hits.scores_QK, np.take_along_axis(scores, hits.rows_QK, axis=1), atol=1e-6
    )


LISTS = [IndexKind.IVF_SQ8, IndexKind.IVF_PQ, IndexKind.RABITQ]


@pytest.mark.parametrize("kind", LISTS)
def test_lists_read_whole_and_scored_anew_agree_with_brute_force(
    tmp_path: Path, kind: IndexKind
) -> None:
    vectors = _unit_rows(3_000, seed=1).astype(np.float16)
    queries = _unit_rows(50, seed=2)
    index = _open(tmp_path, vectors, kind)
    assert index.widest == 75  # a list for 40 rows
    hits = index.reaching({"breadth": 75, "overfetch": 100}).search(queries, top=10)
    scores = queries @ vectors.astype(np.float32).T
    order = np.argsort(-scores, axis=1, kind="stable")[:, :10]
    np.testing.assert_array_equal(hits.rows_QK, order)
    one = index.reaching({"breadth": 1, "overfetch": 2}).search(queries, top=10)
    assert (one.rows_QK >= 0).all(), "more lists are read when one has too few rows"
    found = [len(set(a) & set(b)) / 10 for a, b in zip(one.rows_QK, order, strict=True)]
    assert 0.2 < np.mean(found) < 0.95
    np.testing.assert_allclose(
        one.scores_QK, np.take_along_axis(scores, one.rows_QK, axis=1), atol=1e-6
    )


@pytest.mark.parametrize("kind", LISTS)
def test_lists_are_the_same_bytes_each_time_and_take_less_room(
    tmp_path: Path, kind: IndexKind
) -> None:
    vectors = _unit_rows(3_000, seed=1, width=128).astype(np.float16)
    build_index(vectors, tmp_path / "a", kind=kind)
    build_index(vectors, tmp_path / "b", kind=kind)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    learned = 75 * 128 * 4 + 256 * 128 * 4 + 128 * 128 * 4 + 4_096  # centres, codebook, rotation
    size = (tmp_path / "a").stat().st_size
    assert size < 3_000 * bytes_per_row(kind, 128) + learned


@pytest.mark.parametrize("kind", [IndexKind.HNSW, *LISTS])
def test_rows_added_later_are_found(tmp_path: Path, kind: IndexKind) -> None:
    vectors = _unit_rows(3_000, seed=1).astype(np.float16)
    build_index(vectors[:2_000], tmp_path / "old", kind=kind)
    build_index(vectors, tmp_path / "new", kind=kind, grown_from=tmp_path / "old")
    index = Index.open(tmp_path / "new", vectors)
    asked = [0, 1_999, 2_000, 2_999]
    hits = index.reaching({"breadth": 75}).search(vectors[asked].astype(np.float32), top=1)
    assert hits.rows_QK[:, 0].tolist() == asked


def test_lists_and_graphs_grow_until_they_know_too_little() -> None:
    recipe = {"kind": "ivf-sq8", "learned_from_rows": 100}
    assert may_grow(recipe, IndexKind.IVF_SQ8, rows=200)
    assert not may_grow(recipe, IndexKind.IVF_SQ8, rows=201)
    assert not may_grow(recipe, IndexKind.RABITQ, rows=100)
    assert may_grow(recipe | {"kind": "hnsw"}, IndexKind.HNSW, rows=200)
    assert not may_grow(recipe | {"kind": "hnsw"}, IndexKind.HNSW, rows=201)
    assert not may_grow({"kind": "exact"}, IndexKind.EXACT, rows=100)


@pytest.mark.parametrize("kind", [k for k in IndexKind if k is not IndexKind.AUTO])
def test_equal_rows_come_in_their_order_and_missing_ones_as_minus_one(
    tmp_path: Path, kind: IndexKind
) -> None:
    vectors = np.repeat(_unit_rows(1, seed=3), 4, axis=0).astype(np.float16)
    hits = _open(tmp_path, vectors, kind).search(_unit_rows(1, seed=4), top=6)
    assert hits.rows_QK.tolist() == [[0, 1, 2, 3, -1, -1]]
    assert np.isneginf(hits.scores_QK[0, 4:]).all()


def test_one_query_takes_one_thread_and_several_take_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = _open(tmp_path, _unit_rows(500, seed=1).astype(np.float16), IndexKind.HNSW)
    queries, told, used = _unit_rows(2, seed=2), [4], []
    monkeypatch.setattr(faiss, "omp_get_max_threads", lambda: told[-1])
    monkeypatch.setattr(faiss, "omp_set_num_threads", told.append)
    real = faiss.IndexPreTransform.search

    def search(*args: Any, **more: Any) -> Any:  # noqa: ANN401
        used.append(told[-1])
        return real(*args, **more)

    monkeypatch.setattr(faiss.IndexPreTransform, "search", search)
    index.search(queries[:1], top=3)
    index.search(queries, top=3)
    assert (used, told[-1]) == ([1, 4], 4)


@pytest.mark.parametrize("kind", [k for k in IndexKind if k is not IndexKind.AUTO])
def test_one_row_can_be_searched(tmp_path: Path, kind: IndexKind) -> None:
    vectors = _unit_rows(1, seed=3).astype(np.float16)
    hits = _open(tmp_path, vectors, kind).search(vectors.astype(np.float32), top=1)
    assert hits.rows_QK.tolist() == [[0]]


@pytest.mark.parametrize(("width", "constant"), [(20, False), (20, True), (7, False), (1, True)])
def test_a_graph_of_any_width_and_of_equal_rows_is_searched_and_grows(
    tmp_path: Path, width: int, constant: bool
) -> None:
    rows = _unit_rows(1 if constant else 400, seed=6, width=width)
    vectors = np.repeat(rows, 400 // len(rows), axis=0).astype(np.float16)
    recipe = build_index(vectors[:300], tmp_path / "old", kind=IndexKind.HNSW)
    assert 1 <= recipe["axes"] <= width
    build_index(vectors, tmp_path / "new", kind=IndexKind.HNSW, grown_from=tmp_path / "old")
    index = Index.open(tmp_path / "new", vectors, recipe)
    hits = index.search(vectors[-3:].astype(np.float32), top=5)
    assert (hits.rows_QK >= 0).all()
    np.testing.assert_allclose(hits.scores_QK[:, 0], 1, atol=2e-3)


def test_an_index_of_other_vectors_or_no_index_is_refused(tmp_path: Path) -> None:
    vectors = _unit_rows(10, seed=1).astype(np.float16)
    build_index(vectors, tmp_path / "i", kind=IndexKind.EXACT)
    with pytest.raises(KnowledgeBaseError, match="10 rows of width 32, the vectors are 9"):
        Index.open(tmp_path / "i", vectors[:9])
    (tmp_path / "i").write_bytes(b"nonsense")
    with pytest.raises(KnowledgeBaseError, match="not an index"):
        Index.open(tmp_path / "i", vectors)


@pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="only where a system can be asked")
def test_only_the_links_of_a_graph_are_read_ahead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors = _unit_rows(10_000, seed=4).astype(np.float16)
    recipe = build_index(vectors, tmp_path / "index", kind=IndexKind.HNSW)
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(
        os, "posix_fadvise", lambda _, start, size, how: asked.append((start, size))
    )
    Index.open(tmp_path / "index", vectors, recipe)
    ends = [start + size for start, size in asked]
    assert [start for start, _ in asked] == [0, *ends[:-1]], "all of it, once"
    assert ends[-1] == (tmp_path / "index").stat().st_size - recipe["axes"] * len(vectors)
    assert max(size for _, size in asked) <= 1 << 21 < ends[-1]


def test_a_graph_keeps_the_axes_that_rows_differ_in(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    deep = rng.standard_normal((2_000, 20)) @ rng.standard_normal((20, 96))
    rows = deep + 1e-2 * rng.standard_normal((2_000, 96)) + 100  # and much in common
    vectors = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)
    recipe = build_index(vectors, tmp_path / "index", kind=IndexKind.HNSW)
    assert recipe["axes"] == 32  # the least multiple of 16 that holds 20, and no more
    index = Index.open(tmp_path / "index", vectors, recipe)
    queries = vectors[:50].astype(np.float32)
    scores = queries @ vectors.astype(np.float32).T
    order = np.argsort(-scores, axis=1, kind="stable")[:, :10]
    rows_found = index.search(queries, top=10).rows_QK
    assert np.mean([len({*a} & {*b}) for a, b in zip(rows_found, order, strict=True)]) > 9.8
    sizes = (tmp_path / "index").stat().st_size
    assert sizes < 2_000 * (32 + 280) + 96 * 32 * 4 + 8_192
