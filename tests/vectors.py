"""Inputs of embedding jobs, and what they left."""

from __future__ import annotations

import random
from pathlib import Path

from tests.tiny import WORDS


def made_up(count: int, *, seed: int = 0) -> list[str]:
    """Return different names of one to five words."""
    rng = random.Random(seed)
    return [" ".join([*rng.choices(WORDS, k=rng.randint(1, 4)), str(i)]) for i in range(count)]


def written(path: Path, texts: list[str]) -> Path:
    path.write_text("".join(text + "\n" for text in texts))
    return path


def bytes_of(folder: Path) -> dict[str, bytes]:
    """Return every file of a finished folder but the lock, by name."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "lock"
    }
