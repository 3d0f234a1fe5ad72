"""A job over the rows of an input. It can be killed and continued, and gives the same bytes.

Rows are cut into blocks. Each block becomes a shard in the ``JobFolder``, named by its content. A
shard depends only on its block, the settings and the last finished run. It does not depend on the
engine, the order, or earlier kills.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Protocol

from mirror_rt.errors import InputError
from mirror_rt.runtime.batching import Progress
from mirror_rt.runtime.jobfolder import JobFolder, Shard

__all__ = [
    "Block",
    "Engine",
    "JobFolder",
    "JobReport",
    "LocalEngine",
    "Opener",
    "Progress",
    "Shard",
    "ShardResult",
    "ShardTask",
    "Work",
    "blocks_of",
    "digests",
    "run",
]

CHARACTERS = 8 * 1024 * 1024
"""The maximum number of characters in a block."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Consecutive rows.

    Attributes:
        number: The number of the block, from 0.
        columns: The strings of each column, by its name.
        content: Hex hash of the settings of the job and all strings, in order.
    """

    number: int
    columns: dict[str, list[str]]
    content: str

    @property
    def first(self) -> str:
        """The first string, for messages about the block."""
        return next(iter(self.columns.values()))[0]

    @classmethod
    def of(cls, number: int, columns: dict[str, list[str]], settings: Mapping[str, Any]) -> Block:
        """Create the block of these rows.

        Raises:
            InputError: A string contains a lone surrogate.
        """
        total = hashlib.sha256(json.dumps(dict(settings), sort_keys=True).encode())
        for name, strings in columns.items():
            total.update(f"{name} {len(strings)}".encode())
            total.update(digests(strings))
        return cls(number=number, columns=columns, content=total.hexdigest())


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardTask:
    """A shard to compute.

    Attributes:
        name: The name of its file.
        block: The rows.
        again: Whether it is damaged in the last finished run. It is then computed again without
            reusing anything from that run.
    """

    name: str
    block: Block
    again: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardResult:
    """A finished shard.

    Attributes:
        shard: The record of the shard.
        counts: The counts of this run, which are not in the record.
    """

    shard: Shard
    counts: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class JobReport:
    """The counts of a run.

    Attributes:
        shards: All shards, in order.
        skipped: How many of them existed already.
        done: The counts of the shards of this run.
    """

    shards: list[Shard]
    skipped: int
    done: Counter[str]

    @property
    def rows(self) -> int:
        """Rows of all shards."""
        return sum(shard.rows for shard in self.shards)

    def total(self, name: str) -> int:
        """Return a count over all shards."""
        return sum(shard.counts.get(name, 0) for shard in self.shards)


class Work(Protocol):
    """The work for a block."""

    def prepare(self, job: JobFolder, earlier: Sequence[Shard]) -> None:
        """Prepare for the first shard; ``earlier`` are the shards of the last finished run."""

    def make(self, job: JobFolder, task: ShardTask, progress: Progress | None) -> ShardResult:
        """Write the shard of a task into the folder of the job, atomically."""

    def opener(self) -> Opener:
        """Return a picklable function that opens the prepared work on another machine."""


class Opener(Protocol):
    """Opens work in another process. It is pickled, so it has plain values only."""

    def __call__(self, threads: int) -> Work:
        """Open the work with a number of threads."""


class Engine(Protocol):
    """Computes the shards."""

    def make(
        self, work: Work, job: JobFolder, tasks: Iterator[ShardTask], progress: Progress | None
    ) -> Generator[ShardResult]:
        """Compute the shard of each task, and yield the results in any order.

        Args:
            work: The work.
            job: The folder, locked by this process.
            tasks: The tasks; iterating over them reads the input.
            progress: Called with (texts, tokens).
        """


class LocalEngine:
    """Computes in this process, block by block."""

    def make(
        self, work: Work, job: JobFolder, tasks: Iterator[ShardTask], progress: Progress | None
    ) -> Generator[ShardResult]:
        """Make the shards in order."""
        for task in tasks:
            yield work.make(job, task, progress)


def blocks_of(
    rows: Iterable[Sequence[str]],
    columns: Sequence[str],
    settings: Mapping[str, Any],
    *,
    most: int,
) -> Iterator[Block]:
    """Cut rows into blocks. The cuts depend on the rows alone.

    Args:
        rows: Strings, one for each column.
        columns: The names of the columns.
        settings: The settings of the job, which are part of the content hash.
        most: The maximum number of rows in a block; long rows make smaller blocks.

    Raises:
        InputError: A row has a value that is not a string, or a lone surrogate.
    """
    number, characters = 0, 0
    strings: list[list[str]] = [[] for _ in columns]
    for place, row in enumerate(rows):
        for value, column in zip(row, strings, strict=True):
            if not isinstance(value, str):
                raise InputError(f"rows[{place}]: holds a {type(value).__name__}, not a string")
            column.append(value)
            characters += len(value)
        if len(strings[0]) >= most or characters >= CHARACTERS:
            yield Block.of(number, dict(zip(columns, strings, strict=True)), settings)
            number, characters, strings = number + 1, 0, [[] for _ in columns]
    if strings[0]:
        yield Block.of(number, dict(zip(columns, strings, strict=True)), settings)


def digests(texts: Sequence[str]) -> bytes:
    """Return the concatenated 16-byte hashes of texts.

    Raises:
        InputError: A text contains a lone surrogate.
    """
    try:
        return b"".join(hashlib.blake2b(text.encode(), digest_size=16).digest() for text in texts)
    except UnicodeEncodeError as error:
        raise InputError(
            f"a lone surrogate, which is not text, in {error.object[:40]!r}; remove or replace it"
        ) from error


def run(
    work: Work,
    blocks: Iterator[Block],
    job: JobFolder,
    *,
    engine: Engine | None,
    shown: str,
    progress: Progress | None = None,
    each: Callable[[Shard, bool], None] | None = None,
) -> JobReport:
    """Compute the missing shards, and log each.

    Args:
        work: The work for a block.
        blocks: The input.
        job: The folder, locked by this process.
        engine: The engine; by default this process.
        shown: The name of the input in messages.
        progress: Called with (texts, tokens); tokens are 0 for shards that existed already.
        each: Called with every shard, and whether it existed already.

    Raises:
        InputError: There is no block.
    """
    shards: dict[int, Shard] = {}
    done: Counter[str] = Counter()
    skipped = 0

    def skip(shard: Shard) -> None:
        nonlocal skipped
        skipped += 1
        note(shard, skipped=True)
        if progress is not None:
            progress(shard.rows, 0)

    def note(shard: Shard, *, skipped: bool) -> None:
        shards[shard.number] = shard
        if each is not None:
            each(shard, skipped)

    first = next(blocks, None)
    if first is None:
        raise InputError(f"{shown}: is empty; give at least one string")
    job.begin()
    tasks = _missing(work, chain([first], blocks), job, skip)
    with closing((engine or LocalEngine()).make(work, job, tasks, progress)) as all_made:
        for made in all_made:
            job.log(made.shard)
            done.update(made.counts)
            note(made.shard, skipped=False)
    return JobReport(
        shards=[shards[number] for number in sorted(shards)], skipped=skipped, done=done
    )


def _missing(
    work: Work, blocks: Iterable[Block], job: JobFolder, skip: Callable[[Shard], None]
) -> Iterator[ShardTask]:
    """Yield a task for each block without a shard; call ``skip`` with the existing shards."""
    finished = {shard.name: shard for shard in job.finished()}
    there = {shard.name: shard for shard in job.logged()} | finished
    prepared = False
    for block in blocks:
        name = job.name_of(block.number, block.content)
        shard = there.get(name)
        if shard is not None and shard.fault(job.path) is None:
            skip(shard)
            continue
        if not prepared:
            work.prepare(job, list(finished.values()))
            prepared = True
        yield ShardTask(name=name, block=block, again=name in finished)
