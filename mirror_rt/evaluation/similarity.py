"""Similarity of pairs: cosine against scores of people (STS, word pairs, QNLI)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from mirror_rt._count import counted
from mirror_rt.errors import InputError
from mirror_rt.evaluation.baselines import CharNgrams, ExactMatch, Model
from mirror_rt.evaluation.metrics import area_under_curve, spearman
from mirror_rt.evaluation.tables import Pair

if TYPE_CHECKING:
    from mirror_rt.types import Float32

__all__ = ["cross_pairs", "pair_auc", "pair_similarities", "pair_spearman"]


def pair_similarities(model: Model, pairs: Sequence[Pair]) -> Float32:
    """Return (N,) float32, the cosine of each pair; every distinct text is encoded once."""
    if isinstance(model, ExactMatch):
        return model.similarities([p.left for p in pairs], [p.right for p in pairs])
    texts = list(dict.fromkeys(text for pair in pairs for text in (pair.left, pair.right)))
    if isinstance(model, CharNgrams):
        model = model.fitted(texts)
    vectors_ND = model.encode(texts)
    row = {text: i for i, text in enumerate(texts)}
    left_ND = vectors_ND[[row[pair.left] for pair in pairs]]
    right_ND = vectors_ND[[row[pair.right] for pair in pairs]]
    cosines: Float32 = np.einsum("nd,nd->n", left_ND, right_ND)
    return cosines


def pair_spearman(pairs: Sequence[Pair], cosines: Float32) -> Mapping[str, float | None]:
    """Return Spearman's ρ by both conventions of the field.

    ``all``: one ρ over every pair (Mirror-BERT, SimCSE's "all"). ``mean``: the mean of the ρ
    of each subset (SentEval's older default); left out where there are no subsets. A subset
    without a ρ leaves the mean undefined.
    """
    scores: dict[str, float | None] = {"all": spearman([p.score for p in pairs], cosines)}
    groups: dict[str, list[int]] = {}
    for i, pair in enumerate(pairs):
        groups.setdefault(pair.group, []).append(i)
    if len(groups) > 1:
        each = [spearman([pairs[i].score for i in rows], cosines[rows]) for rows in groups.values()]
        known = [score for score in each if score is not None]
        scores["mean"] = sum(known) / len(known) if len(known) == len(each) else None
    return scores


def pair_auc(pairs: Sequence[Pair], cosines: Float32, *, positive: str) -> float | None:
    """Return the area under the ROC curve of the cosine as a detector of ``positive``."""
    return area_under_curve([pair.label == positive for pair in pairs], cosines)


def cross_pairs(left: Sequence[Pair], right: Sequence[Pair], *, scale: float) -> list[Pair]:
    """Join two languages' files of the same word pairs into cross-lingual pairs.

    Row by row, the first word of each side goes with the second word of the other, scored by
    the mean; rows whose two scores differ by more than a fifth of the scale are left out.
    Source: Vulić et al. 2020 (Multi-SimLex), after Camacho-Collados et al. 2015.

    Args:
        left: One language's pairs.
        right: The other's, row for row the same pairs.
        scale: From the lowest to the highest score.

    Raises:
        InputError: The files have different numbers of rows, or the same words.
    """
    if len(left) != len(right):
        raise InputError(
            f"word pairs of two languages: {len(left):,} and {counted(len(right), 'row')}; "
            "both files need the same rows"
        )
    if all((a.left, a.right) == (b.left, b.right) for a, b in zip(left, right, strict=True)):
        raise InputError(
            "word pairs of two languages: both files have the same words; "
            "get each language's own file"
        )
    pairs = []
    for a, b in zip(left, right, strict=True):
        if abs(a.score - b.score) <= scale / 5.0 + 1e-9:  # 4.4 - 3.2 is a little over 1.2
            mean = (a.score + b.score) / 2.0
            pairs.append(Pair(left=a.left, right=b.right, score=mean))
            pairs.append(Pair(left=b.left, right=a.right, score=mean))
    return pairs
