"""Edits between two texts, computed slowly."""

from __future__ import annotations


def edits(a: str, b: str) -> int:
    """Count letters replaced, deleted, inserted or swapped with the next (Damerau 1964)."""
    rows = [list(range(len(b) + 1))]
    for i, x in enumerate(a, start=1):
        rows.append([i])
        for j, y in enumerate(b, start=1):
            least = min(rows[i - 1][j] + 1, rows[i][j - 1] + 1, rows[i - 1][j - 1] + (x != y))
            if i > 1 and j > 1 and (x, a[i - 2]) == (b[j - 2], y):
                least = min(least, rows[i - 2][j - 2] + 1)
            rows[i].append(least)
    return rows[-1][-1]
