"""IBM Model 1 between aliases, computed with strings."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

Table = Mapping[tuple[str, str], float]


def model_1(aliases: Sequence[tuple[str, str]], rounds: int = 4) -> Table:
    """The textbook algorithm: t[given, target], without values below one in a thousand."""
    sentences = [(a.split(), b.split()) for x, y in aliases for a, b in ((x, y), (y, x))]
    t: dict[tuple[str, str], float] = defaultdict(lambda: 1.0)
    for _ in range(rounds):
        counts: dict[tuple[str, str], float] = defaultdict(float)
        for given, target in sentences:
            for word in target:
                total = sum(t[g, word] for g in given)
                for g in given:
                    counts[g, word] += t[g, word] / total
        totals: dict[str, float] = defaultdict(float)
        for (g, _), value in counts.items():
            totals[g] += value
        t = defaultdict(float, {(g, w): v / totals[g] for (g, w), v in counts.items()})
    return defaultdict(float, {pair: value for pair, value in t.items() if value > 1e-3})


def likeness(one: str, other: str) -> float:
    """Return 1 for equal words; for forms of one word, the shared part of the longer one."""
    if one == other:
        return 1.0
    if any(sign.isdigit() for sign in one + other):
        return 0.0
    shared = next(
        (i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b),
        min(len(one), len(other)),
    )
    share = shared / max(len(one), len(other))
    return share if shared >= 4 and share >= 0.5 else 0.0


def explained(target: str, given: str, t: Table, keys: Sequence[str]) -> tuple[float, float]:
    """Return the share of one key that the words of another explain, and the largest gap of a word.

    Args:
        target: The key to explain.
        given: The key that explains it.
        t: The table.
        keys: The keys of all names, in which words are counted.
    """
    counts = Counter(word for key in keys for word in key.split())
    said = whole = gap = 0.0
    others = given.split()
    for word in target.split():
        odds = [0.5 * likeness(g, word) + 0.5 * t[g, word] for g in others]
        rare = (counts[word] + 1) / (counts.total() + len(counts) + 1)
        most = math.log(1 + 9 * 0.5 / max(len(others), 1) / rare)
        mine = min(math.log(1 + 9 * sum(odds) / max(len(odds), 1) / rare), most)
        said, whole, gap = said + mine, whole + most, max(gap, most - mine)
    return (said / whole if whole else 0.0), gap
