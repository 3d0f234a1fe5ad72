"""The names that training on synonyms leaves unseen, so that a knowledge base can learn from them.

A knowledge base learns how far to trust its encoder by linking its own names, held out one at a
time. An encoder tuned on those names knows them by heart, and would be trusted too much. So a
twentieth of all names, told by their letters alone, is never trained on as a synonym, whatever
the file, the seed or the machine; and these are the names that the weights are learned from.
"""

from __future__ import annotations

import hashlib

from mirror_rt.knowledge.normalise import normalise

__all__ = ["is_reserved"]

_ONE_IN = 20


def is_reserved(name: str) -> bool:
    """Tell whether a name is one of the twentieth; its case and punctuation do not matter."""
    digest = hashlib.blake2b(normalise(name).encode("utf-8", "surrogatepass"), digest_size=8)
    return int.from_bytes(digest.digest(), "big") % _ONE_IN == 0
