from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from mirror_rt import KnowledgeBase
from mirror_rt.errors import ConfigError
from mirror_rt.knowledge.retrieval import autotune as tuning
from mirror_rt.knowledge.retrieval.autotune import autotune
from mirror_rt.knowledge.retrieval.vector_index import VectorIndex, build_index
from mirror_rt.types import IndexKind
from tests.errors import about
from tests.kb import HEARTS, LetterEncoder, fake_bundle

if TYPE_CHECKING:
    from mirror_rt.types import Float16, Float32


def _vectors(count: int, width: int = 24) -> Float16:
    rows = np.random.default_rng(1).standard_normal((count, width))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)


def _open(folder: Path, kind: IndexKind, vectors: Float16) -> VectorIndex:
    build_index(vectors, folder / kind.value, kind=kind)
    return VectorIndex.open(folder / kind.value, vectors)


def _recall(index: VectorIndex, *, seed: int) -> float:
    """Return the recall of the true ten nearest rows by brute force, for moved rows."""
    rows = index.vectors_ND.astype(np.float32)
    rng = np.random.default_rng(seed)
    queries = rows[:300] + 0.4 * rows[rng.permutation(len(rows))[:300]]
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    true = np.argsort(-(queries @ rows.T), axis=1)[:, :10]
    found = index.search(queries, top=32).rows_QK
    return float(np.mean([np.isin(t, f).mean() for t, f in zip(true, found, strict=True)]))


def test_a_scan_of_every_row_finds_them_all(tmp_path: Path) -> None:
    index = _open(tmp_path, IndexKind.EXACT, _vectors(500))
    assert set(autotune(index)) == {"recall_at_10", "search_ms_p50", "search_ms_p99"}
    assert autotune(index)["recall_at_10"] == 1.0
    assert autotune(_open(tmp_path, IndexKind.EXACT, _vectors(3)))["recall_at_10"] == 1.0


@pytest.mark.parametrize(
    ("kind", "parameter"), [(IndexKind.HNSW, "efSearch"), (IndexKind.IVF_PQ, "nprobe")]
)
def test_more_recall_asks_for_a_wider_search(
    tmp_path: Path, kind: IndexKind, parameter: str
) -> None:
    # So large that the rows that a search considers by default are too few.
    index = _open(tmp_path, kind, _vectors(4_000, 96))
    little, much = autotune(index, recall=0.3), autotune(index, recall=0.999)
    assert little[parameter] < much[parameter]
    # The stored recall is measured on other queries than those of the tuning.
    assert _recall(index.with_parameters(much), seed=5) > 0.97
    assert much["recall_at_10"] > 0.97
    assert little["recall_at_10"] < much["recall_at_10"]


@pytest.mark.parametrize("kind", [IndexKind.PQ, IndexKind.IVF_PQ])
def test_more_recall_asks_for_more_rows_to_be_scored(tmp_path: Path, kind: IndexKind) -> None:
    index = _open(tmp_path, kind, _vectors(4_000))
    little, much = autotune(index, recall=0.3), autotune(index, recall=0.999)
    assert little["k_factor"] < much["k_factor"]
    assert _recall(index.with_parameters(much), seed=5) > 0.97


def test_the_manifest_keeps_what_was_measured(tmp_path: Path) -> None:
    bundle = fake_bundle(tmp_path / "bundle")
    kb = KnowledgeBase.build(
        bundle, HEARTS, tmp_path / "kb", encoder=LetterEncoder(), index=IndexKind.HNSW
    )
    assert kb.manifest.index["recall_at_10"] == 1.0
    assert kb.manifest.index["bytes_per_name"] > 0
    assert {"efSearch", "search_ms_p50", "search_ms_p99"} <= set(kb.manifest.index)
    with pytest.raises(ConfigError, check=about("recall")):
        KnowledgeBase.build(bundle, HEARTS, tmp_path / "x", encoder=LetterEncoder(), recall=0.0)


def test_recall_is_measured_with_other_queries_than_those_tuned_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = _open(tmp_path, IndexKind.HNSW, _vectors(1_500))
    requested: list[set[bytes]] = []
    real = tuning._recall

    def recall(index: VectorIndex, queries_QD: Float32, tenth_Q: Float32) -> float:
        requested.append({query_D.tobytes() for query_D in queries_QD})
        return real(index, queries_QD, tenth_Q)

    monkeypatch.setattr(tuning, "_recall", recall)
    autotune(index, recall=0.9)
    *tuned, measured = requested
    assert len(tuned) >= 1
    assert len(measured) == 500
    assert not measured & set().union(*tuned)
