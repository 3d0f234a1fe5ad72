from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror_rt.knowledge.retrieval.index_selection import EXACT_LIMIT, PQ_LIMIT, IndexChoice
from mirror_rt.types import IndexKind


@pytest.mark.parametrize(
    ("rows", "kind"),
    [
        (1, IndexKind.EXACT),
        (EXACT_LIMIT, IndexKind.EXACT),
        (EXACT_LIMIT + 1, IndexKind.PQ),
        (PQ_LIMIT, IndexKind.PQ),
        (PQ_LIMIT + 1, IndexKind.IVF_PQ),
        (10_000_000, IndexKind.IVF_PQ),
    ],
)
def test_the_size_chooses_the_kind(rows: int, kind: IndexKind) -> None:
    assert IndexChoice().resolve(rows) is kind


def test_the_limit_of_a_scan_is_the_one_given() -> None:
    assert IndexChoice(exact_limit=10).resolve(10) is IndexKind.EXACT
    assert IndexChoice(exact_limit=10).resolve(11) is IndexKind.PQ
    assert IndexChoice(exact_limit=0).resolve(1) is IndexKind.PQ


@pytest.mark.parametrize("kind", [kind for kind in IndexKind if kind is not IndexKind.AUTO])
def test_a_given_kind_of_index_is_used_for_any_size(kind: IndexKind) -> None:
    for rows in (1, EXACT_LIMIT + 1, PQ_LIMIT + 1):
        assert IndexChoice(kind=kind, exact_limit=10).resolve(rows) is kind


@given(st.sampled_from(IndexKind), st.integers(0, 1 << 40))
def test_an_update_asks_for_the_same(kind: IndexKind, limit: int) -> None:
    choice = IndexChoice(kind=kind, exact_limit=limit)
    assert IndexChoice.from_recipe(choice.to_recipe()) == choice
    assert IndexChoice.from_recipe({}) == IndexChoice()
