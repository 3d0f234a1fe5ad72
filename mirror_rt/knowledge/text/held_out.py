"""Names that training on synonyms leaves out, for the reranker to learn from.

A knowledge base learns the weights of its reranker by linking its own names, each held out in
turn. An encoder that was trained on these names has memorized them, and would get too much
weight. So one name in twenty is never trained on as a synonym. The choice depends on the letters
of the name alone, not on the file, the seed or the machine.
"""

from __future__ import annotations

import hashlib

from mirror_rt.knowledge.text.normalize import normalize

__all__ = ["is_held_out"]

_ONE_IN = 20


def is_held_out(name: str) -> bool:
    """Return whether a name is held out. Case and punctuation do not matter."""
    digest = hashlib.blake2b(normalize(name).encode("utf-8", "surrogatepass"), digest_size=8)
    return int.from_bytes(digest.digest(), "big") % _ONE_IN == 0
