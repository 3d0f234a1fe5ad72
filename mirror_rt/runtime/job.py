"""A job over the rows of an input: killable at any moment, resumed to the same bytes.

Rows are cut into blocks, and each block becomes a shard in the ``JobFolder``, named by its
content. What is in a shard depends on its block, the settings and the last finished run alone:
not on which engine made it, in which order, or what was killed before.
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
"""A block ends where its rows are this long together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Consecutive rows.

    Attributes:
        number: Which block, from 0.
        columns: Strings by the name of their column, as many in each.
        content: Hex hash of the settings of the job and all strings, in order.
    """

    number: int
    columns: dict[str, list[str]]
    content: str

    @property
    def first(self) -> str:
        """The first string, to name the block by."""
        return next(iter(self.columns.values()))[0]

    @classmethod
    def of(cls, number: int, columns: dict[str, list[str]], settings: Mapping[str, Any]) -> Block:
        """Make the block of these rows.

        Raises:
            InputError: A string holds a lone surrogate.
        """
        total = hashlib.sha256(json.dumps(dict(settings), sort_keys=True).encode())
        for name, strings in columns.items():
            total.update(f"{name} {len(strings)}".encode())
            total.update(digests(strings))
        return cls(number=number, columns=columns, content=total.hexdigest())


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardTask:
    """A shard to be made.

    Attributes:
        name: The name of its file.
        block: The rows.
        again: Whether the last finished run has it, damaged: it is made as it was then, and
            takes nothing over from that run.
    """

    name: str
    block: Block
    again: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardResult:
    """A shard that was made.

    Attributes:
        shard: The record of it.
        counts: What this run did; not stored in the record.
    """

    shard: Shard
    counts: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class JobReport:
    """What a run did.

    Attributes:
        shards: All shards, in order.
        skipped: How many of them were there already.
        done: The counts of those made in this run.
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
    """What a job does with a block."""

    def prepare(self, job: JobFolder, earlier: Sequence[Shard]) -> None:
        """Get ready, before the first shard is made; ``earlier`` are the last finished run's."""

    def make(self, job: JobFolder, task: ShardTask, progress: Progress | None) -> ShardResult:
        """Write the shard of a task, whole, into the folder of the job."""

    def opener(self) -> Opener:
        """Return what opens the same work on another machine, once it is prepared."""


class Opener(Protocol):
    """Opens work in a process of its own; travels there, so it holds plain values alone."""

    def __call__(self, threads: int) -> Work:
        """Open the work, to use this many threads."""


class Engine(Protocol):
    """Who makes the shards."""

    def make(
        self, work: Work, job: JobFolder, tasks: Iterator[ShardTask], progress: Progress | None
    ) -> Generator[ShardResult]:
        """Make a shard in the folder of the job for each task, and yield it, in any order.

        Args:
            work: What to do.
            job: The folder, held by this process.
            tasks: Read as it goes; reading it is what reads the input.
            progress: Called as the work goes on.
        """


class LocalEngine:
    """This process, a block at a time."""

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
    """Cut rows into blocks; where they are cut depends on the rows alone.

    Args:
        rows: Strings, one for each column.
        columns: The names of the columns.
        settings: Those of the job, a part of the content's hash.
        most: Rows of a block; it has fewer where they are long.

    Raises:
        InputError: A row is not of strings, or holds a lone surrogate.
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
    """Return the 16-byte hashes of texts, end to end.

    Raises:
        InputError: A text holds a lone surrogate.
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
    """Make the shards that are not there yet, and log each.

    Args:
        work: What to do with a block.
        blocks: The input.
        job: The folder, held by this process.
        engine: Who makes the shards; by default this process.
        shown: What to call the input.
        progress: Called as the work goes on; with 0 tokens for what was there already.
        each: Called with every shard, and whether it was there already.

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

    tasks = _tasks(work, blocks, job, skip)
    with closing((engine or LocalEngine()).make(work, job, tasks, progress)) as all_made:
        for made in all_made:
            job.log(made.shard)
            done.update(made.counts)
            note(made.shard, skipped=False)
    if not shards:
        raise InputError(f"{shown}: is empty; give at least one string")
    return JobReport(
        shards=[shards[number] for number in sorted(shards)], skipped=skipped, done=done
    )


def _tasks(
    work: Work, blocks: Iterator[Block], job: JobFolder, skip: Callable[[Shard], None]
) -> Iterator[ShardTask]:
    """Yield the blocks whose shards are to be made; give the shards that are there to ``skip``."""
    first = next(blocks, None)
    if first is None:
        return
    job.begin()
    finished = {shard.name: shard for shard in job.finished()}
    there = {shard.name: shard for shard in job.logged()} | finished
    prepared = False
    for block in chain([first], blocks):
        name = job.name_of(block.number, block.content)
        shard = there.get(name)
        if shard is not None and shard.fault(job.path) is None:
            skip(shard)
            continue
        if not prepared:
            work.prepare(job, list(finished.values()))
            prepared = True
        yield ShardTask(name=name, block=block, again=name in finished)
