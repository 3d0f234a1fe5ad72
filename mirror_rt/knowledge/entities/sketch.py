"""A small record of many texts that tells later how many of others were among them.

The k least hashes of a set are a random sample of it (bottom-k sketch; Cohen and Kaplan 2007):
of other texts those with hashes no greater were in the set if, and only if, they are in the
sample.
"""

from __future__ import annotations

import base64
import heapq
from collections.abc import Iterable

import numpy as np

from mirror_rt.knowledge.arrays import hash_text
from mirror_rt.knowledge.text.normalize import normalize

__all__ = ["SIZE", "share_among", "sketch"]

SIZE = 512
_TYPE = np.dtype("<i8")


def sketch(texts: Iterable[str]) -> str:
    """Return the record of texts, once they are normalized: base64 of at most ``SIZE`` hashes."""
    kept = set[int]()
    greatest_first: list[int] = []  # of those kept, negative: the heap has the least in front
    for text in texts:
        number = hash_text(normalize(text))
        if number in kept:
            continue
        if len(kept) < SIZE:
            heapq.heappush(greatest_first, -number)
        elif number < -greatest_first[0]:
            kept.remove(-heapq.heapreplace(greatest_first, -number))
        else:
            continue
        kept.add(number)
    return base64.b64encode(np.array(sorted(kept), dtype=_TYPE).tobytes()).decode()


def share_among(texts: Iterable[str], record: str) -> float:
    """Return the share of different texts that are among those of a record; 0.0 for no texts.

    Exact where the record is of fewer than ``SIZE`` texts, else of a sample.

    >>> share_among(["Cold", "fever", "cough"], sketch(["cold", "FEVER"]))
    0.6666666666666666
    """
    known = np.frombuffer(base64.b64decode(record), dtype=_TYPE).tolist()
    hashes = {hash_text(normalize(text)) for text in texts}
    if len(known) == SIZE:
        hashes = {number for number in hashes if number <= known[-1]}
    return len(hashes.intersection(known)) / max(len(hashes), 1)
