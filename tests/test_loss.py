"""The contrastive loss against plain numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mirror_rt.training.loss import info_nce


def info_nce_by_hand(vectors: np.ndarray, related: np.ndarray, temperature: float) -> float:
    """One view after the other, one term after the other, in double precision."""
    views = len(vectors)
    rows = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    total = 0.0
    for i in range(views):
        partner = (i + views // 2) % views
        terms = [
            np.exp(rows[i] @ rows[j] / temperature)
            for j in range(views)
            if j == partner or (j != i and not related[i, j])
        ]
        total -= np.log(np.exp(rows[i] @ rows[partner] / temperature) / sum(terms))
    return total / views


@pytest.mark.parametrize("temperature", [0.04, 0.2, 1.0])
@given(seed=st.integers(0, 2**32), pairs=st.integers(2, 9), groups=st.integers(1, 20))
def test_info_nce_equals_an_independent_computation(
    temperature: float, seed: int, pairs: int, groups: int
) -> None:
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(2 * pairs, 5))
    kinds = rng.integers(groups, size=2 * pairs)
    related = kinds[:, None] == kinds[None, :]
    ours = info_nce(torch.tensor(vectors), torch.tensor(related), temperature=temperature).item()
    assert ours == pytest.approx(
        info_nce_by_hand(vectors, related, temperature), rel=1e-4, abs=1e-5
    )


def test_each_view_has_all_but_itself_and_its_partner_as_negatives() -> None:
    # With all vectors equal every candidate is as likely: the loss is the log of their number.
    views = 2 * 6
    loss = info_nce(torch.ones(views, 4), torch.eye(views, dtype=torch.bool), temperature=0.05)
    assert loss.item() == pytest.approx(np.log(views - 1), rel=1e-6)


def test_a_related_view_gets_no_gradient_from_being_close() -> None:
    vectors = torch.randn(4, 8, generator=torch.Generator().manual_seed(0), requires_grad=True)
    related = torch.ones(4, 4, dtype=torch.bool)
    info_nce(vectors, related, temperature=0.1).backward()
    assert vectors.grad is not None
    assert torch.equal(vectors.grad, torch.zeros(4, 8))
