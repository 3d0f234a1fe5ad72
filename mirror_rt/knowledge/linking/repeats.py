"""Repeated mentions: which rows are linked, and which answer belongs to each row."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from mirror_rt.knowledge.linking.inputs import Row
from mirror_rt.runtime.job import Block

__all__ = ["LONGEST", "MEMORY", "Answers", "Order", "Repeats", "in_order"]

MEMORY = 1 << 17
"""Answers to keep for repeated mentions, about a kilobyte each."""
LONGEST = 1_000
"""Mentions with more characters are not remembered."""
_AT_ONCE = 1_024


class Repeats:
    """Separates new mentions from repeated ones.

    Args:
        note: Called for each row with the place of its answer: the number of the linked mention,
            or ``~number`` if no other row can have the same answer.
    """

    def __init__(self, note: Callable[[int], None]) -> None:
        self._note = note
        self._known: dict[str, int] = {}
        self._asked = 0

    def fresh(self, rows: Iterable[Row]) -> Iterator[Row]:
        """Yield the rows to link."""
        for mention, context, document in rows:
            alone = isinstance(mention, str) and not (context or document)
            shared = alone and len(mention) <= LONGEST
            number = self._known.get(mention) if shared else None
            if number is not None and self._asked - number <= MEMORY:
                self._note(number)
                continue
            if shared:
                self._known.pop(mention, None)  # move it to the end: the oldest are first
                self._known[mention] = self._asked
                if len(self._known) > MEMORY:
                    del self._known[next(iter(self._known))]
            self._note(self._asked if shared else ~self._asked)
            self._asked += 1
            yield mention, context, document


class Answers:
    """The answers that later places of ``Repeats`` may refer to."""

    def __init__(self) -> None:
        self.count = 0
        self._lines: dict[int, str] = {}
        self._oldest = 0

    def at(self, place: int) -> str:
        """Return the answer at a place; an answer at a negative place is forgotten."""
        return self._lines.pop(~place) if place < 0 else self._lines[place]

    def add(self, lines: Iterable[str]) -> None:
        """Add and number answers; forget those that are too far back."""
        while self._oldest < self.count - MEMORY:
            self._lines.pop(self._oldest, None)
            self._oldest += 1
        for line in lines:
            self._lines[self.count] = line
            self.count += 1


@dataclass(slots=True)
class Order:
    """Stores on disk which answer each row has, 8 bytes per row.

    Attributes:
        handle: The file.
        total: Rows so far.
        rest: Rows since the last block.
        by_block: The number of rows that were read for each unfinished block.
    """

    handle: IO[bytes]
    total: int = 0
    rest: int = 0
    by_block: dict[int, int] = field(default_factory=dict)
    _some: array[int] = field(default_factory=lambda: array("q"))

    def append(self, place: int) -> None:
        """Store the place of the next row's answer."""
        self.total += 1
        self.rest += 1
        self._some.append(place)
        if len(self._some) >= MEMORY:
            self.flush()

    def flush(self) -> None:
        """Write buffered places to the file."""
        self._some.tofile(self.handle)
        self.handle.flush()
        del self._some[:]

    def of_blocks(self, blocks: Iterator[Block]) -> Iterator[Block]:
        """Yield the blocks, and count the rows that were read for each."""
        for block in blocks:
            self.by_block[block.number], self.rest = self.rest, 0
            yield block


def in_order(order: Path, shards: Iterator[Path]) -> Iterator[str]:
    """Yield the line of each row. In memory are one shard, and the answers that may be repeated."""
    answers = Answers()
    with open(order, "rb") as handle:
        while some := array("q", handle.read(8 * _AT_ONCE)):
            for place in some:
                while max(place, ~place) >= answers.count:
                    # Not splitlines: a mention may contain other line separators of Unicode.
                    answers.add(next(shards).read_bytes().decode("utf-8").split("\n")[:-1])
                yield answers.at(place)
