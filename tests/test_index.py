from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from mirror_rt.errors import KnowledgeBaseError
from mirror_rt.knowledge.index import Index, build_index, choose
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
    build_index(vectors, folder / "index.faiss", kind=kind)
    return Index.open(folder / "index.faiss", vectors)


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


@pytest.mark.parametrize("kind", [IndexKind.EXACT, IndexKind.HNSW])
def test_equal_rows_come_in_their_order_and_missing_ones_as_minus_one(
    tmp_path: Path, kind: IndexKind
) -> None:
    vectors = np.repeat(_unit_rows(1, seed=3), 4, axis=0).astype(np.float16)
    hits = _open(tmp_path, vectors, kind).search(_unit_rows(1, seed=4), top=6)
    assert hits.rows_QK.tolist() == [[0, 1, 2, 3, -1, -1]]
    assert np.isneginf(hits.scores_QK[0, 4:]).all()


def test_one_row_can_be_searched(tmp_path: Path) -> None:
    vectors = _unit_rows(1, seed=3).astype(np.float16)
    hits = _open(tmp_path, vectors, IndexKind.EXACT).search(vectors.astype(np.float32), top=1)
    assert hits.rows_QK.tolist() == [[0]]


def test_the_size_chooses_the_kind() -> None:
    assert choose(IndexKind.AUTO, 10, exact_limit=10) is IndexKind.EXACT
    assert choose(IndexKind.AUTO, 11, exact_limit=10) is IndexKind.HNSW
    assert choose(IndexKind.EXACT, 11, exact_limit=10) is IndexKind.EXACT


def test_an_index_of_other_vectors_or_no_index_is_refused(tmp_path: Path) -> None:
    vectors = _unit_rows(10, seed=1).astype(np.float16)
    build_index(vectors, tmp_path / "i", kind=IndexKind.EXACT)
    with pytest.raises(KnowledgeBaseError, match="10 rows of width 32, the vectors are 9"):
        Index.open(tmp_path / "i", vectors[:9])
    (tmp_path / "i").write_bytes(b"nonsense")
    with pytest.raises(KnowledgeBaseError, match="not an index"):
        Index.open(tmp_path / "i", vectors)
