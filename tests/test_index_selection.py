from __future__ import annotations

import pytest

from mirror_rt.knowledge import choosing
from mirror_rt.knowledge.choosing import HNSW_LIMIT, Choice, bytes_per_row
from mirror_rt.types import IndexKind


def _kind(rows: int, **choice: int) -> IndexKind:
    return Choice(**choice).settle(rows, 384)[0]  # type: ignore[arg-type]


def test_the_size_chooses_the_kind() -> None:
    plenty = 1 << 50
    assert _kind(10, exact_limit=10, memory=plenty) is IndexKind.EXACT
    assert _kind(11, exact_limit=10, memory=plenty) is IndexKind.HNSW
    assert _kind(HNSW_LIMIT + 1, memory=plenty) is IndexKind.IVF_SQ8
    assert Choice(kind=IndexKind.EXACT, exact_limit=10).settle(11, 384)[0] is IndexKind.EXACT


@pytest.mark.parametrize("rows", [60_000, 1_000_000])
def test_the_memory_chooses_among_the_larger_ones(rows: int) -> None:
    least = int(rows * bytes_per_row(IndexKind.IVF_SQ8, 384))
    assert _kind(rows, memory=least + 1) is IndexKind.IVF_SQ8
    assert _kind(rows, memory=least - 1) is IndexKind.RABITQ
    assert _kind(50_000, memory=0) is IndexKind.EXACT, "a scan of so few is no question of memory"


def test_half_of_what_is_available_is_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choosing, "usable_memory", lambda: 1 << 30)
    kind, asked = Choice().settle(1_000_000, 384)
    assert (kind, asked["memory"]) == (IndexKind.IVF_SQ8, 1 << 29)
    monkeypatch.setattr(choosing, "usable_memory", lambda: 0)
    assert Choice.of(asked).settle(1_000_000, 384) == (kind, asked), "a change asks the same"
