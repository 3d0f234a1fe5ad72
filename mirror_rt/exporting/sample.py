"""Choose the strings to measure an export with."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from mirror_rt.errors import ConfigError

__all__ = ["synthetic_names", "take"]

LIMIT = 2000
"""Maximum strings to measure with: 1 % of them is 20 names, and they take some seconds."""


def take(texts: Sequence[str], *, seed: int = 0) -> list[str]:
    """Return up to ``LIMIT`` distinct, non-blank strings of ``texts``, drawn uniformly.

    Raises:
        ConfigError: There are fewer than two distinct strings.
    """
    different = list(dict.fromkeys(text for text in texts if text.strip()))
    if len(different) < 2:
        raise ConfigError("sample: needs at least two different strings to rank")
    if len(different) <= LIMIT:
        return different
    return random.Random(seed).sample(different, LIMIT)


def synthetic_names(tokenizer: Any, *, count: int = 256, seed: int = 0) -> list[str]:  # noqa: ANN401
    """Return strings of one to five words of a tokenizer's vocabulary, if the user gave none.

    They show whether a graph computes correctly, but not how it ranks the user's own names.
    """
    words = sorted(
        text
        for index in range(len(tokenizer))
        if len(text := tokenizer.decode([index], skip_special_tokens=True).strip()) > 2
        and text.isalpha()
    ) or ["name"]
    rng = random.Random(seed)
    return [" ".join(rng.choices(words, k=rng.randint(1, 5))) for _ in range(count)]
