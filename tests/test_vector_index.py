from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mirror_rt.errors import KnowledgeBaseError
from mirror_rt.knowledge.retrieval import vector_index
from mirror_rt.knowledge.retrieval.vector_index import (
    VectorIndex,
    build_index,
    can_append,
    exact_scores,
    top_k,
)
from mirror_rt.types import IndexKind
from tests.errors import about

if TYPE_CHECKING:
    from mirror_rt.types import Float16, Float32


def _unit_rows(count: int, *, seed: int, width: int = 32) -> Float32:
    # Clusters, as names have them: uniform directions are the easy case for no index.
    rng = np.random.default_rng(seed)
    centers = rng.standard_normal((20, width))
    rows = centers[rng.integers(0, 20, count)] + 0.5 * rng.standard_normal((count, width))
    unit: Float32 = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return unit


def _open(folder: Path, vectors: Float16, kind: IndexKind) -> VectorIndex:
    recipe = build_index(vectors, folder / "index.faiss", kind=kind)
    return VectorIndex.open(folder / "index.faiss", vectors, recipe)


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


CODES = [IndexKind.PQ, IndexKind.IVF_PQ]
KINDS = [kind for kind in IndexKind if kind is not IndexKind.AUTO]
WIDE = {"nprobe": 1_000, "efSearch": 3_000}


@pytest.mark.parametrize("kind", CODES)
def test_codes_of_which_enough_are_scored_exactly_agree_with_brute_force(
    tmp_path: Path, kind: IndexKind
) -> None:
    vectors = _unit_rows(3_000, seed=1).astype(np.float16)
    queries = _unit_rows(50, seed=2)
    index = _open(tmp_path, vectors, kind)
    scores = queries @ vectors.astype(np.float32).T
    order = np.argsort(-scores, axis=1, kind="stable")[:, :10]
    whole = {"nprobe": index.nlist, "k_factor": 100}
    hits = index.with_parameters(whole).search(queries, top=10)
    np.testing.assert_array_equal(hits.rows_QK, order)
    some = index.with_parameters({"nprobe": index.nlist, "k_factor": 4}).search(queries, top=10)
    found = [len(set(a) & set(b)) / 10 for a, b in zip(some.rows_QK, order, strict=True)]
    assert 0.8 < np.mean(found)
    np.testing.assert_allclose(
        some.scores_QK, np.take_along_axis(scores, some.rows_QK, axis=1), atol=1e-6
    )


@pytest.mark.parametrize("kind", CODES)
def test_a_search_for_few_rows_finds_the_first_of_a_search_for_more(
    tmp_path: Path, kind: IndexKind
) -> None:
    vectors = _unit_rows(4_000, seed=1).astype(np.float16)
    index = _open(tmp_path, vectors, kind)
    queries = _unit_rows(60, seed=2)
    more = index.search(queries, top=32)
    for top in (1, 10):
        few = index.search(queries, top=top)
        np.testing.assert_array_equal(few.rows_QK, more.rows_QK[:, :top])


def test_more_lists_are_read_if_nprobe_lists_have_too_few_rows(tmp_path: Path) -> None:
    vectors = _unit_rows(3_000, seed=1).astype(np.float16)
    index = _open(tmp_path, vectors, IndexKind.IVF_PQ)
    assert index.nlist == 11  # a list for 256 rows
    one = index.with_parameters({"nprobe": 1, "k_factor": 1})
    for top in (10, 500, 2_999):
        assert (one.search(_unit_rows(5, seed=2), top=top).rows_QK >= 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_an_index_is_the_same_bytes_each_time(tmp_path: Path, kind: IndexKind) -> None:
    vectors = _unit_rows(3_000, seed=1, width=64).astype(np.float16)
    recipes = [build_index(vectors, tmp_path / name, kind=kind) for name in "ab"]
    assert recipes[0] == recipes[1]
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_codes_take_half_a_byte_for_two_axes_and_for_each_of_many_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors = _unit_rows(3_000, seed=1, width=160).astype(np.float16)
    for most, bytes_a_row in ((3_000, 32), (2_999, 64)):
        monkeypatch.setattr(vector_index, "_COARSE_CODES", most)
        recipe = build_index(vectors, tmp_path / "pq", kind=IndexKind.PQ)
        assert recipe["pca_dim"] == 128
        # Codebooks of 16 centers, and the axes.
        learned = 16 * 128 * 4 + 129 * 160 * 4 + 4_096
        size = (tmp_path / "pq").stat().st_size
        assert 0 < size - 3_000 * bytes_a_row < 72 * bytes_a_row + learned


@pytest.mark.parametrize("kind", [IndexKind.HNSW, *CODES])
def test_rows_added_later_are_found(tmp_path: Path, kind: IndexKind) -> None:
    vectors = _unit_rows(3_000, seed=1).astype(np.float16)
    build_index(vectors[:2_000], tmp_path / "old", kind=kind)
    build_index(vectors, tmp_path / "new", kind=kind, append_to=tmp_path / "old")
    index = VectorIndex.open(tmp_path / "new", vectors)
    requested = [0, 1_999, 2_000, 2_999]
    hits = index.with_parameters(WIDE).search(vectors[requested].astype(np.float32), top=1)
    assert hits.rows_QK[:, 0].tolist() == requested


def test_an_index_is_added_to_until_it_knows_too_few_of_its_rows() -> None:
    for kind in (IndexKind.PQ, IndexKind.IVF_PQ, IndexKind.HNSW):
        recipe = {"kind": kind.value, "trained_on_rows": 100}
        assert can_append(recipe, kind, rows=200)
        assert not can_append(recipe, kind, rows=201)
        others = {*KINDS} - {kind}
        assert not any(can_append(recipe, other, rows=100) for other in others)
    assert not can_append({"kind": "exact"}, IndexKind.EXACT, rows=100)
    assert not can_append({}, IndexKind.PQ, rows=100)


@pytest.mark.parametrize("kind", KINDS)
def test_equal_rows_come_in_their_order_and_missing_ones_as_minus_one(
    tmp_path: Path, kind: IndexKind
) -> None:
    vectors = np.repeat(_unit_rows(1, seed=3), 4, axis=0).astype(np.float16)
    hits = _open(tmp_path, vectors, kind).search(_unit_rows(1, seed=4), top=6)
    assert hits.rows_QK.tolist() == [[0, 1, 2, 3, -1, -1]]
    assert np.isneginf(hits.scores_QK[0, 4:]).all()


@given(st.data())
@settings(max_examples=60)
def test_exact_scores_and_the_best_of_some_rows_are_those_of_loops(data: st.DataObject) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 1_000)))
    rows, queries, width = (data.draw(st.integers(1, high)) for high in (30, 20, 12))
    vectors_ND = _unit_rows(rows, seed=1, width=8).astype(np.float16)
    vectors_ND = vectors_ND[rng.integers(0, rows, rows)]  # some of them equal
    queries_QD = _unit_rows(queries, seed=2, width=8)
    rows_QW = np.full((queries, width), -1, dtype=np.int64)
    for i in range(queries):
        some = rng.permutation(rows)[: rng.integers(0, width + 1)]
        rows_QW[i, : len(some)] = some
    top = data.draw(st.integers(1, 15))
    hits = top_k(vectors_ND, queries_QD, rows_QW, top=top)
    assert hits.rows_QK.shape == hits.scores_QK.shape == (queries, top)
    assert (hits.scores_QK.dtype, hits.rows_QK.dtype) == (np.float32, np.int64)
    for i in range(queries):
        pairs = [(float(queries_QD[i] @ vectors_ND[r]), int(r)) for r in rows_QW[i] if r >= 0]
        # Equal vectors have the very same score; so do their sums here, rounded.
        pairs.sort(key=lambda pair: (-round(pair[0], 5), pair[1]))
        count = min(top, len(pairs))
        expected = [score for score, _ in pairs[:count]]
        assert hits.scores_QK[i, :count].tolist() == pytest.approx(expected, abs=2e-5)
        assert hits.rows_QK[i, count:].tolist() == [-1] * (top - count)
        assert np.isneginf(hits.scores_QK[i, count:]).all()
        found = hits.rows_QK[i, :count]
        own = exact_scores(vectors_ND, queries_QD, np.full(count, i), found)
        assert own.tolist() == pytest.approx(hits.scores_QK[i, :count].tolist(), abs=1e-6)
        same = [
            (a, b)
            for a, b in itertools.pairwise(found.tolist())
            if vectors_ND[a].tobytes() == vectors_ND[b].tobytes()
        ]
        assert all(a < b for a, b in same), "equal rows in their order"


def test_one_query_takes_one_thread_and_several_take_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = _open(tmp_path, _unit_rows(500, seed=1).astype(np.float16), IndexKind.HNSW)
    queries, output, used = _unit_rows(2, seed=2), [4], []
    monkeypatch.setattr(faiss, "omp_get_max_threads", lambda: output[-1])
    monkeypatch.setattr(faiss, "omp_set_num_threads", output.append)
    real = faiss.IndexPreTransform.search

    def search(*args: Any, **more: Any) -> Any:  # noqa: ANN401
        used.append(output[-1])
        return real(*args, **more)

    monkeypatch.setattr(faiss.IndexPreTransform, "search", search)
    index.search(queries[:1], top=3)
    index.search(queries, top=3)
    assert (used, output[-1]) == ([1, 4], 4)


@pytest.mark.parametrize("kind", KINDS)
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
    assert 1 <= recipe["pca_dim"] <= width
    build_index(vectors, tmp_path / "new", kind=IndexKind.HNSW, append_to=tmp_path / "old")
    index = VectorIndex.open(tmp_path / "new", vectors, recipe)
    hits = index.search(vectors[-3:].astype(np.float32), top=5)
    assert (hits.rows_QK >= 0).all()
    np.testing.assert_allclose(hits.scores_QK[:, 0], 1, atol=2e-3)


def test_an_index_of_other_vectors_or_no_index_is_refused(tmp_path: Path) -> None:
    vectors = _unit_rows(10, seed=1).astype(np.float16)
    build_index(vectors, tmp_path / "i", kind=IndexKind.EXACT)
    with pytest.raises(KnowledgeBaseError, check=about("i")):
        VectorIndex.open(tmp_path / "i", vectors[:9])
    (tmp_path / "i").write_bytes(b"nonsense")
    with pytest.raises(KnowledgeBaseError, check=about("i")):
        VectorIndex.open(tmp_path / "i", vectors)


@pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="only where a system can be asked")
def test_only_the_links_of_a_graph_are_read_ahead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors = _unit_rows(10_000, seed=4).astype(np.float16)
    recipe = build_index(vectors, tmp_path / "index", kind=IndexKind.HNSW)
    requested: list[tuple[int, int]] = []
    monkeypatch.setattr(
        os, "posix_fadvise", lambda _, start, size, how: requested.append((start, size))
    )
    VectorIndex.open(tmp_path / "index", vectors, recipe)
    ends = [start + size for start, size in requested]
    assert [start for start, _ in requested] == [0, *ends[:-1]], "all of it, once"
    assert ends[-1] == (tmp_path / "index").stat().st_size - recipe["pca_dim"] * len(vectors)
    assert max(size for _, size in requested) <= 1 << 21 < ends[-1]


def test_a_graph_keeps_the_axes_that_rows_differ_in(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    deep = rng.standard_normal((2_000, 20)) @ rng.standard_normal((20, 96))
    rows = deep + 1e-2 * rng.standard_normal((2_000, 96)) + 100  # and much in common
    vectors = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)
    recipe = build_index(vectors, tmp_path / "index", kind=IndexKind.HNSW)
    assert recipe["pca_dim"] == 32  # the least multiple of 16 that holds 20, and no more
    index = VectorIndex.open(tmp_path / "index", vectors, recipe)
    queries = vectors[:50].astype(np.float32)
    scores = queries @ vectors.astype(np.float32).T
    order = np.argsort(-scores, axis=1, kind="stable")[:, :10]
    rows_found = index.search(queries, top=10).rows_QK
    assert np.mean([len({*a} & {*b}) for a, b in zip(rows_found, order, strict=True)]) > 9.8
    sizes = (tmp_path / "index").stat().st_size
    assert sizes < 2_000 * (32 + 280) + 96 * 32 * 4 + 8_192
