"""The contrastive loss, compared with plain numpy."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mirror_rt.training.loss import info_nce, multi_similarity


def info_nce_by_hand(vectors: np.ndarray, related: np.ndarray, temperature: float) -> float:
    """Return the loss, computed view by view and term by term in double precision."""
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
    # If all vectors are equal, so are all shares: the loss is the log of the number of candidates.
    views = 2 * 6
    loss = info_nce(torch.ones(views, 4), torch.eye(views, dtype=torch.bool), temperature=0.05)
    assert loss.item() == pytest.approx(np.log(views - 1), rel=1e-6)


def test_a_related_view_gets_no_gradient_from_being_close() -> None:
    vectors = torch.randn(4, 8, generator=torch.Generator().manual_seed(0), requires_grad=True)
    related = torch.ones(4, 4, dtype=torch.bool)
    info_nce(vectors, related, temperature=0.1).backward()
    assert vectors.grad is not None
    assert torch.equal(vectors.grad, torch.zeros(4, 8))


def multi_similarity_by_hand(vectors: np.ndarray, related: np.ndarray) -> float:
    """Return the loss of the pairs in a triplet that counts, triplet by triplet."""
    views = len(vectors)
    rows = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    apart = np.linalg.norm(rows[:, None] - rows[None, :], axis=2)
    total = 0.0
    for a in range(views):
        partner = (a + views // 2) % views
        same = [i for i in range(views) if i != a and (related[a, i] or i == partner)]
        other = [i for i in range(views) if i != a and i not in same]
        mined = [(p, n) for p in same for n in other if apart[a, n] - apart[a, p] <= 0.2]
        pulls = sum(np.exp(-(rows[a] @ rows[p] - 0.5)) for p in {p for p, _ in mined})
        pushes = sum(np.exp(60 * (rows[a] @ rows[n] - 0.5)) for n in {n for _, n in mined})
        total += np.log1p(pulls) + np.log1p(pushes) / 60
    return total / views


@given(seed=st.integers(0, 2**32), pairs=st.integers(2, 9), groups=st.integers(1, 20))
def test_multi_similarity_equals_an_independent_computation(
    seed: int, pairs: int, groups: int
) -> None:
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(2 * pairs, 4))
    kinds = rng.integers(groups, size=2 * pairs)
    related = kinds[:, None] == kinds[None, :]
    ours = multi_similarity(torch.tensor(vectors), torch.tensor(related)).item()
    assert ours == pytest.approx(multi_similarity_by_hand(vectors, related), rel=1e-9, abs=1e-12)


def test_multi_similarity_has_a_finite_gradient_where_nothing_is_mined() -> None:
    vectors = torch.eye(4)[[0, 1, 0, 1]].clone().requires_grad_()
    related = torch.eye(2, dtype=torch.bool).repeat(2, 2)
    loss = multi_similarity(vectors, related)
    loss.backward()
    assert loss.item() == 0.0
    assert vectors.grad is not None
    assert torch.isfinite(vectors.grad).all()


@pytest.fixture(scope="module")
def metric_learning() -> ModuleType:
    """The library from which the authors of Mirror-BERT and SapBERT took their losses."""
    return pytest.importorskip("pytorch_metric_learning")


@pytest.mark.parametrize("temperature", [0.04, 0.2, 1.0])
def test_info_nce_is_the_ntxent_of_the_authors_library(
    metric_learning: ModuleType, temperature: float
) -> None:
    from pytorch_metric_learning.losses import NTXentLoss

    vectors = torch.randn(2 * 40, 16, generator=torch.Generator().manual_seed(1))
    theirs_VD, ours_VD = (vectors.double().requires_grad_() for _ in range(2))
    labels = torch.arange(40).repeat(2)
    theirs = NTXentLoss(temperature=temperature)(theirs_VD, labels)
    ours = info_nce(ours_VD, torch.eye(80, dtype=torch.bool), temperature=temperature)
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-6)
    torch.autograd.backward([theirs, ours])
    assert theirs_VD.grad is not None
    torch.testing.assert_close(ours_VD.grad, theirs_VD.grad, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("spread", [0.6, 1.0, 3.0], ids=["tight", "mixed", "loose"])
def test_multi_similarity_is_sapberts_loss_and_miner(
    metric_learning: ModuleType, spread: float
) -> None:
    from pytorch_metric_learning.losses import MultiSimilarityLoss
    from pytorch_metric_learning.miners import TripletMarginMiner

    random = torch.Generator().manual_seed(2)
    labels = torch.randint(12, (40,), generator=random).repeat(2)  # some entities in two pairs
    centers = torch.randn(12, 16, generator=random)[labels]
    vectors = centers + spread * torch.randn(80, 16, generator=random)
    theirs_VD, ours_VD = (vectors.double().requires_grad_() for _ in range(2))
    mined = TripletMarginMiner(margin=0.2, type_of_triplets="all")(theirs_VD, labels)
    assert len(mined[0]) > 10
    theirs = MultiSimilarityLoss(alpha=1, beta=60, base=0.5)(theirs_VD, labels, mined)
    ours = multi_similarity(ours_VD, labels[:, None] == labels[None, :])
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-6)
    torch.autograd.backward([theirs, ours])
    assert theirs_VD.grad is not None
    torch.testing.assert_close(ours_VD.grad, theirs_VD.grad, rtol=1e-5, atol=1e-8)
