"""Change a string so that it still means the same."""

from __future__ import annotations

import numpy as np

__all__ = ["mask_span"]


def mask_span(
    text: str, *, length: int, mask_token: str, rng: np.random.Generator, min_length: int = 0
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
        min_length: Strings with fewer characters than this stay as they are.

    >>> import numpy as np
    >>> mask_span("kidney", length=5, mask_token="[MASK]", rng=np.random.default_rng(0))
    'k [MASK]'
    """
    if length == 0 or len(text) <= length or len(text) < min_length:
        return text
    start = int(rng.integers(len(text) - length + 1))
    # Spaces around the token, as the authors have it: the halves of a split word stand alone.
    return " ".join(filter(None, (text[:start], mask_token, text[start + length :])))
