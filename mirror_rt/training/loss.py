"""The contrastive loss over a batch. Axes: B pairs, V = 2B views, D width."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from mirror_rt.types import Loss

__all__ = ["contrastive", "info_nce", "multi_similarity"]


def contrastive(
    vectors_VD: Tensor, same_meaning_VV: Tensor, *, loss: Loss, temperature: float
) -> Tensor:
    """Compute the configured loss; arguments as below."""
    match loss:
        case Loss.INFO_NCE:
            return info_nce(vectors_VD, same_meaning_VV, temperature=temperature)
        case Loss.MULTI_SIMILARITY:
            return multi_similarity(vectors_VD, same_meaning_VV)


def info_nce(vectors_VD: Tensor, same_meaning_VV: Tensor, *, temperature: float) -> Tensor:
    """Symmetric InfoNCE (NT-Xent) with cosines: the mean over all 2B views.

    View i and view i + B are a positive pair; every other view is a negative of both, unless
    it may have the same meaning. The paper's code and this one differ from its equation 1: the
    positive is in the denominator too, and views are averaged, not summed.

    Args:
        vectors_VD: (2B, D) floating, first views then second views, of any length.
        same_meaning_VV: (2B, 2B) bool, true where two views may mean the same.
        temperature: τ, the divisor of the cosines.

    Returns:
        A scalar, float32 unless the vectors are float64.
    """
    rows_VD = _unit(vectors_VD)
    views = len(rows_VD)
    partner_V = torch.arange(views, device=rows_VD.device).roll(views // 2)
    ignored_VV = same_meaning_VV.clone().fill_diagonal_(True)
    ignored_VV[torch.arange(views, device=rows_VD.device), partner_V] = False
    logits_VV = (rows_VD @ rows_VD.T / temperature).masked_fill(ignored_VV, -torch.inf)
    return cross_entropy(logits_VV, partner_V)


def multi_similarity(
    vectors_VD: Tensor,
    same_meaning_VV: Tensor,
    *,
    alpha: float = 1.0,
    beta: float = 60.0,
    base: float = 0.5,
    margin: float = 0.2,
) -> Tensor:
    """Multi-similarity loss over mined triplets: the mean over all 2B views.

    Views of the same meaning are positives, all others negatives. A triplet counts unless its
    negative is farther than its positive by ``margin``, as distances of unit vectors; a pair
    counts if it is in such a triplet. Sources: Wang et al. 2019, *Multi-Similarity Loss*; the
    settings and the miner are those of SapBERT (Liu et al. 2021).

    Args:
        vectors_VD: (2B, D) floating, first views then second views, of any length.
        same_meaning_VV: (2B, 2B) bool, true where two views mean the same.
        alpha: The weight of the farthest positives; higher is sharper.
        beta: The weight of the nearest negatives; higher is sharper.
        base: The cosine between the two.
        margin: A triplet whose negative is farther by more than this does not count.

    Returns:
        A scalar, float32 unless the vectors are float64.
    """
    rows_VD = _unit(vectors_VD)
    views = len(rows_VD)
    cosines_VV = rows_VD @ rows_VD.T
    itself_VV = torch.eye(views, dtype=torch.bool, device=rows_VD.device)
    partners_VV = itself_VV.roll(views // 2, dims=1)
    positive_VV = (same_meaning_VV | partners_VV) & ~itself_VV
    negative_VV = ~(positive_VV | itself_VV)
    with torch.no_grad():  # the choice of triplets has no gradient
        apart_VV = (2 - 2 * cosines_VV).clamp(min=0).sqrt()
        farthest_V = apart_VV.masked_fill(~positive_VV, -torch.inf).amax(1, keepdim=True)
        nearest_V = apart_VV.masked_fill(~negative_VV, torch.inf).amin(1, keepdim=True)
        # Keep a positive only if its triplet with the nearest negative counts, and a negative only
        # if its triplet with the farthest positive does: that triplet is the hardest one.
        positive_VV &= nearest_V - apart_VV <= margin
        negative_VV &= apart_VV - farthest_V <= margin
    pull_VV = (-alpha * (cosines_VV - base)).masked_fill(~positive_VV, -torch.inf)
    push_VV = (beta * (cosines_VV - base)).masked_fill(~negative_VV, -torch.inf)
    pulled_V = _log_one_plus_sum(pull_VV) / alpha
    pushed_V = _log_one_plus_sum(push_VV) / beta
    return (pulled_V + pushed_V).mean()


def _log_one_plus_sum(exponents_VV: Tensor) -> Tensor:
    """Log of 1 + Σ exp, row by row; an exponent of −∞ leaves the term out."""
    one_V1 = exponents_VV.new_zeros(len(exponents_VV), 1)
    return torch.cat((one_V1, exponents_VV), dim=1).logsumexp(1)


def _unit(vectors_VD: Tensor) -> Tensor:
    # Half precision is too coarse for cosines divided by a small temperature.
    wide = torch.promote_types(vectors_VD.dtype, torch.float32)
    return normalize(vectors_VD.to(wide), dim=1)
