"""Which names training on synonyms leaves out, so that a knowledge base can learn from them.

A knowledge base learns how far to trust its encoder by linking its own names, each held out in
turn. An encoder that was trained on these names knows them by heart, and would be trusted too
much. So one name in twenty, chosen by its letters alone, is never trained on as a synonym,
whatever the file, the seed or the machine. The reranker learns from these names.
"""

from __future__ import annotations

import hashlib

from mirror_rt.knowledge.text.normalize import normalize

__all__ = ["is_held_out"]

_ONE_IN = 20


def is_held_out(name: str) -> bool:
    """Return whether a name is held out; its case and punctuation do not matter."""
    digest = hashlib.blake2b(normalize(name).encode("utf-8", "surrogatepass"), digest_size=8)
    return int.from_bytes(digest.digest(), "big") % _ONE_IN == 0
