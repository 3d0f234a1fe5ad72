"""The contrastive loss over a batch. Axes: B pairs, V = 2B views, D width."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

__all__ = ["info_nce"]


def info_nce(vectors_VD: Tensor, related_VV: Tensor, *, temperature: float) -> Tensor:
    """Symmetric InfoNCE (NT-Xent) with cosines: the mean over all 2B views.

    View i and view i + B are a positive pair; every other view is a negative of both, unless
    it is related to them. Unlike equation 1 of the paper, and like its code, the positive
    stands in the denominator and views are averaged rather than summed.

    Args:
        vectors_VD: (2B, D) floating, first views then second views; need not be unit rows.
        related_VV: (2B, 2B) bool, true where two views may mean the same.
        temperature: τ, which divides the cosines.

    Returns:
        A scalar, float32 unless the vectors are float64.
    """
    # Half precision is too coarse for cosines divided by a small temperature.
    vectors_VD = vectors_VD.to(torch.promote_types(vectors_VD.dtype, torch.float32))
    rows_VD = normalize(vectors_VD, dim=1)
    views = len(rows_VD)
    partner_V = torch.arange(views, device=rows_VD.device).roll(views // 2)
    ignored_VV = related_VV.clone().fill_diagonal_(True)
    ignored_VV[torch.arange(views, device=rows_VD.device), partner_V] = False
    logits_VV = (rows_VD @ rows_VD.T / temperature).masked_fill(ignored_VV, -torch.inf)
    return cross_entropy(logits_VV, partner_V)
