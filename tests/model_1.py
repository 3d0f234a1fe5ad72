"""IBM Model 1 between aliases, written out with strings."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

Table = Mapping[tuple[str, str], float]


def model_1(aliases: Sequence[tuple[str, str]], rounds: int = 4) -> Table:
    """The textbook: t[given, told], without what is less likely than one in a thousand."""
    sentences = [(a.split(), b.split()) for x, y in aliases for a, b in ((x, y), (y, x))]
    t: dict[tuple[str, str], float] = defaultdict(lambda: 1.0)
    for _ in range(rounds):
        counts: dict[tuple[str, str], float] = defaultdict(float)
        for given, told in sentences:
            for word in told:
                total = sum(t[g, word] for g in given)
                for g in given:
                    counts[g, word] += t[g, word] / total
        totals: dict[str, float] = defaultdict(float)
        for (g, _), value in counts.items():
            totals[g] += value
        t = defaultdict(float, {(g, w): v / totals[g] for (g, w), v in counts.items()})
    return defaultdict(float, {pair: value for pair, value in t.items() if value > 1e-3})


def explained(told: str, given: str, t: Table, keys: Sequence[str]) -> float:
    """Return how well the words of one key explain those of another.

    Args:
        told: The key to explain.
        given: The key that explains it.
        t: The table.
        keys: The keys of all names, in which words are counted.
    """
    counts = Counter(word for key in keys for word in key.split())
    ratios = []
    for word in told.split():
        odds = [0.5 * (g == word) + 0.5 * t[g, word] for g in given.split()]
        rare = (counts[word] + 1) / (counts.total() + len(counts) + 1)
        ratios.append(math.log(0.1 + 0.9 * (sum(odds) / max(len(odds), 1)) / rare))
    return sum(ratios) / max(len(ratios), 1)
