"""Find ties: entities with equal best names or equal scores.

Axes: E entities of all mentions, one mention after another, best first.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from mirror_rt.types import Float32, Int64

    Bools = npt.NDArray[np.bool_]

__all__ = ["find_ties", "tie_groups"]

_SCORE_TOLERANCE = 1e-5
"""Scores that differ by less than this are equal, except for rounding."""


def tie_groups(names: Sequence[Hashable], scores: Sequence[float]) -> list[int]:
    """Group entities with equal names or equal scores.

    Args:
        names: The normalized best name of each entity.
        scores: The score of each entity, best first.

    Returns:
        The group number of each entity.

    >>> tie_groups(["cold", "flu", "cold", "chill"], [3.0, 2.0, 1.0, 1.0])
    [0, 1, 0, 0]
    >>> tie_groups(["cold", "flu", "cold"], [3.0, 2.0, 2.0])
    [0, 0, 0]
    """
    groups: list[int] = []
    group_of: dict[Hashable, int] = {}
    for i, name in enumerate(names):
        equal = i > 0 and scores[i - 1] - scores[i] <= _SCORE_TOLERANCE
        before = groups[-1] if equal else i
        groups.append(group_of.setdefault(name, before))
        if equal and groups[-1] != before:  # in different groups by name and by score: join them
            low, high = sorted((groups[-1], before))
            groups = [low if group == high else group for group in groups]
            group_of = {n: low if group == high else group for n, group in group_of.items()}
    return groups


def find_ties(offsets: Int64, names_E: Int64, scores_E: Float32) -> tuple[Bools, Bools]:
    """Find the ties among the entities of each mention.

    Args:
        offsets: (Q + 1,) int64 offsets of the mentions' entities.
        names_E: (E,) int64, equal for equal normalized best names.
        scores_E: (E,) float32, best first within a mention.

    Returns:
        (E,) bool, in the group of the mention's first entity; (E,) bool, in a group with another
        entity.
    """
    sizes_Q = offsets[1:] - offsets[:-1]
    mention_E = np.arange(len(sizes_Q)).repeat(sizes_Q)
    label_E = np.arange(len(names_E))
    by_name = np.lexsort((names_E, mention_E))
    together = mention_E[1:] == mention_E[:-1]  # mentions are ascending in this order too
    sorted_E = names_E[by_name]
    one_name = together & (sorted_E[1:] == sorted_E[:-1])
    one_score = together & (scores_E[:-1] - scores_E[1:] <= _SCORE_TOLERANCE)
    first_E = offsets[:-1].repeat(sizes_Q)
    if not one_name.any() and not one_score.any():
        return label_E == first_E, np.zeros(len(label_E), dtype=bool)
    # Entities with equal names, and neighbors with equal scores, take the lowest label among them.
    # This is repeated until nothing changes.
    name_starts, name_sizes = _runs(one_name)
    score_starts, score_sizes = _runs(one_score)
    while True:
        before_E = label_E.copy()
        lowest = np.minimum.reduceat(label_E[by_name], name_starts)
        label_E[by_name] = lowest.repeat(name_sizes)
        label_E = np.minimum.reduceat(label_E, score_starts).repeat(score_sizes)
        if (label_E == before_E).all():
            break
    return label_E == label_E[first_E], np.bincount(label_E)[label_E] > 1


def _runs(joined: Bools) -> tuple[Int64, Int64]:
    """Return the starts and sizes of runs; ``joined`` is (E - 1,) bool for neighbors."""
    starts = np.concatenate([[0], (~joined).nonzero()[0] + 1])
    return starts, np.diff(starts, append=len(joined) + 1)
