"""Change a string without changing its meaning."""

from __future__ import annotations

import numpy as np

__all__ = ["mask_span"]


def mask_span(
    text: str, *, length: int, mask_token: str, rng: np.random.Generator, min_length: int = 0
) -> str:
    """Replace ``length`` adjacent characters, at a random place, by the mask token.

    Source: Liu et al. 2021, *Fast, Effective, and Self-Supervised*, section 3.2.

    Every place is equally likely, the first and the last included. A string of at most
    ``length`` characters is not changed.

    Args:
        text: The string.
        length: Characters to replace; 0 changes nothing.
        mask_token: The mask token of the tokenizer, ``[MASK]`` or ``<mask>``.
        rng: The generator for the place.
        min_length: Strings with fewer characters are not changed.

    >>> import numpy as np
    >>> mask_span("kidney", length=5, mask_token="[MASK]", rng=np.random.default_rng(0))
    'k [MASK]'
    """
    if length == 0 or len(text) <= length or len(text) < min_length:
        return text
    start = int(rng.integers(len(text) - length + 1))
    # Spaces around the token, as in the authors' code: they separate the halves of a word.
    return " ".join(filter(None, (text[:start], mask_token, text[start + length :])))
