"""A small sketch of a set of texts, to estimate later how many other texts were in the set.

The k smallest hashes of a set are a random sample of it (bottom-k sketch; Cohen and Kaplan 2007).
A text whose hash is not above the largest of these was in the set exactly if its hash is in the
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
    """Return the sketch of normalized texts: at most ``SIZE`` hashes in base64."""
    kept = set[int]()
    greatest_first: list[int] = []  # the kept hashes, negated: a heap has its smallest number first
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
    """Return the share of the distinct texts that are in a sketch; 0.0 for no texts.

    It is exact if the sketch holds fewer than ``SIZE`` texts; otherwise it is an estimate.

    >>> share_among(["Cold", "fever", "cough"], sketch(["cold", "FEVER"]))
    0.6666666666666666
    """
    known = np.frombuffer(base64.b64decode(record), dtype=_TYPE).tolist()
    hashes = {hash_text(normalize(text)) for text in texts}
    if len(known) == SIZE:
        hashes = {number for number in hashes if number <= known[-1]}
    return len(hashes.intersection(known)) / max(len(hashes), 1)
