"""Change a string so that it still means the same: mask a span, or say tokens twice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from mirror_rt.types import Int64

__all__ = ["mask_span", "repeat_tokens"]


def mask_span(
    text: str, *, length: int, mask_token: str, rng: np.random.Generator, guard: int = 0
) -> str:
    """Replace ``length`` neighbouring characters, at a random place, by the mask token.

    Source: Liu et al. 2021, *Fast, Effective, and Self-Supervised*, section 3.2.

    Every place is equally likely, the first and the last included. A string that has no more
    than ``length`` characters would lose all of itself, so it stays as it is.

    Args:
        text: The string.
        length: Characters to replace; 0 changes nothing.
        mask_token: The tokenizer's own, ``[MASK]`` or ``<mask>``.
        rng: The source of the place.
        guard: Strings with fewer characters than this stay as they are.

    >>> import numpy as np
    >>> mask_span("kidney", length=5, mask_token="[MASK]", rng=np.random.default_rng(0))
    'k [MASK]'
    """
    if length == 0 or len(text) <= length or len(text) < guard:
        return text
    start = int(rng.integers(len(text) - length + 1))
    # Spaces around the token, as the authors have it: the halves of a split word stand alone.
    return " ".join(filter(None, (text[:start], mask_token, text[start + length :])))


def repeat_tokens(
    ids_T: Int64,
    *,
    rate: float,
    special: Sequence[int],
    max_length: int,
    rng: np.random.Generator,
) -> Int64:
    """Say some tokens twice, each copy beside its original.

    Of N tokens that are not special, a number drawn evenly from 0 to max(2, ⌊rate × N⌋) is
    said twice; never more than N, nor than there is room for. Which ones, is drawn evenly.
    Source: Wu et al. 2022, *ESimCSE*, section 3.1.

    Args:
        ids_T: (T,) int64 token ids, special ones included.
        rate: The paper's dup_rate; 0 changes nothing.
        special: Ids that are never said twice.
        max_length: The longest result, in tokens.
        rng: The source of number and places.

    Returns:
        (T + repeated,) int64.
    """
    places = np.flatnonzero(~np.isin(ids_T, special))
    most = min(max(2, int(rate * len(places))), len(places), max_length - len(ids_T))
    if rate == 0 or most <= 0:
        return ids_T
    times_T = np.ones(len(ids_T), dtype=np.int64)
    times_T[rng.choice(places, size=rng.integers(most + 1), replace=False)] = 2
    return np.repeat(ids_T, times_T)
