"""The numbers of the gate, compared with a computation by hand and by brute force."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror_rt.evaluation import ranking
from mirror_rt.evaluation.ranking import compare


def unit_rows(seed: int, count: int, *, noise: float = 0.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    rows_ND = rng.normal(size=(count, 8)).astype(np.float32)
    if noise:
        rows_ND = rows_ND + np.random.default_rng(seed + 1).normal(size=rows_ND.shape) * noise
    return (rows_ND / np.linalg.norm(rows_ND, axis=1, keepdims=True)).astype(np.float32)


def brute_force(before_ND: np.ndarray, after_ND: np.ndarray) -> tuple[float, float]:
    """Share of equal nearest and mean share of equal ten nearest, one name at a time.

    A neighbour that is as near as the one it replaces, by the original, is no change.
    """
    equal, overlap = [], []
    for i in range(len(before_ND)):
        others = [j for j in range(len(before_ND)) if j != i]
        old = sorted(others, key=lambda j: -float(before_ND[i] @ before_ND[j]))[:10]
        new = sorted(others, key=lambda j: -float(after_ND[i] @ after_ND[j]))[:10]
        near = [float(before_ND[i] @ before_ND[j]) for j in range(len(before_ND))]
        equal.append(near[new[0]] >= near[old[0]] - ranking.TIE)
        overlap.append(sum(near[j] >= near[old[-1]] - ranking.TIE for j in new) / len(old))
    return float(np.mean(equal)), float(np.mean(overlap))


@given(seed=st.integers(0, 10_000), count=st.integers(2, 40), noise=st.sampled_from([0, 0.1, 1.0]))
def test_it_agrees_with_brute_force(seed: int, count: int, noise: float) -> None:
    before_ND, after_ND = unit_rows(seed, count), unit_rows(seed, count, noise=noise)
    found = compare(before_ND, after_ND, [str(i) for i in range(count)])
    assert (found.top1_agreement, found.top10_overlap) == pytest.approx(
        brute_force(before_ND, after_ND)
    )
    cosines_N = (before_ND * after_ND).sum(axis=1)
    assert found.mean_cosine == pytest.approx(float(cosines_N.mean()), abs=1e-6)
    assert found.min_cosine == pytest.approx(float(cosines_N.min()), abs=1e-6)
    assert cosines_N[int(found.most_changed[0][0])] == pytest.approx(cosines_N.min(), abs=1e-6)


def test_blocks_of_queries_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    before_ND, after_ND = unit_rows(1, 50), unit_rows(1, 50, noise=0.3)
    names = [str(i) for i in range(50)]
    whole = compare(before_ND, after_ND, names)
    monkeypatch.setattr(ranking, "BLOCK", 7)
    assert compare(before_ND, after_ND, names).to_dict() == whole.to_dict()


def test_of_two_names_as_near_as_each_other_either_is_right() -> None:
    before_ND = np.eye(3, dtype=np.float32)[[0, 1, 1]]  # the last two are the same vector
    query_ND = np.array([[0.6, 0.8, 0], [0, 1, 0], [0, 1, 0]], dtype=np.float32)
    moved_ND = query_ND.copy()
    moved_ND[1] = [0.1, np.sqrt(0.99), 0]  # now nearer to the first than the third is
    assert compare(query_ND, moved_ND, list("abc")).top1_agreement == 1.0
    assert compare(before_ND, before_ND, list("abc")).top1_agreement == 1.0


def test_the_cosine_loss_is_that_of_the_new_neighbor_in_the_original() -> None:
    def at(*degrees: float) -> np.ndarray:
        angles = np.radians(degrees)
        return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)

    found = compare(at(0, 10, -20), at(0, 25, -20), ["query", "near", "far"])
    assert found.top1_agreement == pytest.approx(2 / 3)  # the query turned towards "far"
    wanted = (np.cos(np.radians(10)) - np.cos(np.radians(20))) / 3
    assert found.mean_cosine_loss == pytest.approx(wanted, abs=1e-6)


def test_the_error_for_a_very_long_name_shows_a_part_of_it() -> None:
    vectors_ND = unit_rows(1, 2)
    moved = compare(vectors_ND, vectors_ND, ["a" * 1_000_000, "fever"]).to_dict()["most_changed"]
    assert sorted(name for name, _ in moved) == ["a" * 80, "fever"]
