"""A job over the rows of an input: killable at any moment, resumed to the same bytes.

OUT/part-00000-<content>.parquet …   shards, each whole
OUT/manifest.json                    written last: which shards, in which order
OUT/.job/settings.json               what the shards of the run begun last depend on
OUT/.job/log.jsonl                   a line for each shard of an unfinished run
OUT/.job/blocks/<shard>              rows that wait for a worker on another machine

A job that ends in one file has such a folder beside it, ``.NAME.job``, until the file is there.

Rows are cut into blocks, and each block becomes a shard, named by its content. What is in a
shard depends on its block, the settings and the last finished run alone: not on which engine
made it, in which order, or what was killed before. A job with other settings is refused, or, if
it may replace the finished one, writes its shards beside those of the manifest, which stay until
the new manifest is written.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

from mirror_rt.bundle import sha256_file
from mirror_rt.errors import InputError, TargetError
from mirror_rt.runtime.batching import Progress
from mirror_rt.staging import check_target, locked, write_json

__all__ = [
    "Block",
    "Engine",
    "JobFolder",
    "Local",
    "Made",
    "Opener",
    "Progress",
    "Report",
    "Shard",
    "Task",
    "Work",
    "blocks_of",
    "digests",
    "file_faults",
    "read_manifest",
    "run",
]

FORMAT_VERSION = 2
CHARACTERS = 8 * 1024 * 1024
"""A block ends where its rows are this long together."""
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What only a write can fail with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """The record of a finished shard.

    Attributes:
        name: Its file name.
        rows: How many rows it has.
        sha256: Of the file.
        counts: What was counted while it was made.
    """

    name: str
    rows: int
    sha256: str
    counts: dict[str, int] = field(default_factory=dict)

    @property
    def number(self) -> int:
        """Which of the folder's shards, from 0."""
        return int(self.name.split("-")[1])

    def fault(self, folder: Path) -> str | None:
        """Tell what is wrong with the file, if anything."""
        path = folder / self.name
        if not path.is_file():
            return f"{path}: is missing"
        if sha256_file(path) != self.sha256:
            return f"{path}: changed since it was written (sha256 differs)"
        return None


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
class Task:
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
class Made:
    """A shard that was made.

    Attributes:
        shard: The record of it.
        counts: What was done in this run, which is no part of the record.
    """

    shard: Shard
    counts: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class Report:
    """What a run did.

    Attributes:
        shards: All shards, in order.
        kept: How many of them were there already.
        done: The counts of those made in this run.
    """

    shards: list[Shard]
    kept: int
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

    def make(self, job: JobFolder, task: Task, progress: Progress | None) -> Made:
        """Write the shard of a task, whole, into the folder of the job."""

    def opener(self) -> Opener:
        """Return what opens the same work on another machine, once it is prepared."""


class Opener(Protocol):
    """Opens work in a process of its own; travels there, so it holds plain values alone."""

    def __call__(self, threads: int) -> Work:
        """Open the work, to use so many threads."""


class Engine(Protocol):
    """Who makes the shards."""

    def make(
        self, work: Work, job: JobFolder, tasks: Iterator[Task], progress: Progress | None
    ) -> Generator[Made]:
        """Make a shard in the folder of the job for each task, and yield it, in any order.

        Args:
            work: What to do.
            job: The folder, held by this process.
            tasks: Read as it goes; reading it is what reads the input.
            progress: Called as the work goes on.
        """


class Local:
    """This process, a block at a time."""

    def make(
        self, work: Work, job: JobFolder, tasks: Iterator[Task], progress: Progress | None
    ) -> Generator[Made]:
        """Make the shards in order."""
        for task in tasks:
            yield work.make(job, task, progress)


class JobFolder:
    """A folder of shards.

    Args:
        path: The folder.
        kind: What it holds, in a word such as ``vectors``.
        settings: All that the bytes of the shards depend on, beside the rows; of JSON.
        ending: Of the name of a shard.
    """

    def __init__(self, path: Path, kind: str, settings: Mapping[str, Any], ending: str) -> None:
        self.path = path
        self.kind = kind
        self.settings = {"format_version": FORMAT_VERSION, **settings}
        self.work = path / ".job"
        self.staged = self.work / "blocks"
        self._ending = ending

    @contextmanager
    def hold(self, *, force: bool) -> Iterator[JobFolder]:
        """Hold the folder for a job that ``run`` runs; if no shard comes of it, leave no trace.

        Args:
            force: Whether the job may replace one with other settings.

        Raises:
            TargetError: The folder is of another job, not of a job at all, in use, or cannot be
                made.
            OSError: There is no room for it.
        """
        path = self.path
        if not path.exists():
            check_target(path)
        left = [found for found in (self._of_manifest(), self._begun()) if found is not None]
        if not left and path.exists() and not _is_bare(path):
            raise TargetError(f"{path}: exists and holds no {self.kind}; choose another name")
        if left and not force and not any(self._fits(found) for found in left):
            raise TargetError(
                f"{path}: was made with other settings ({self._difference(left[0])}); choose "
                "another name, or replace it with --force"
            )
        ours = not path.exists() or self.work.exists()  # an empty folder of the user's stays
        self.work.mkdir(parents=True, exist_ok=True)
        with locked(self.work / "lock", create=True) as alone:
            if not alone:
                raise TargetError(f"{path}: another process is writing it; wait for it")
            try:
                yield self
            except BaseException as error:
                if not any(path.glob("part-*")):
                    shutil.rmtree(self.work, ignore_errors=True)
                    if ours:
                        with suppress(OSError):
                            path.rmdir()
                if isinstance(error, OSError) and error.errno in _NO_ROOM and not error.filename:
                    # A write that fails names no file, nor does Arrow.
                    raise OSError(error.errno, os.strerror(error.errno), str(path)) from error
                raise

    @classmethod
    @contextmanager
    def hold_beside(
        cls, out: Path, kind: str, settings: Mapping[str, Any], ending: str, *, force: bool
    ) -> Iterator[JobFolder]:
        """Hold the folder of a job that ends in one file; it is removed if the block ends well.

        Args:
            out: The file.
            kind: What it holds, in a word.
            settings: Those of the job.
            ending: Of the name of a shard.
            force: Whether the file may be replaced.

        Raises:
            TargetError: The file exists and ``force`` is not set, is a folder, or another process
                is writing it.
            OSError: There is no room for it.
        """
        check_target(out, force=force)
        if out.is_dir():
            raise TargetError(f"{out}: is a folder; name a file")
        job = cls(out.with_name(f".{out.name}.job"), kind, settings, ending)
        with job.hold(force=True):
            yield job
            shutil.rmtree(job.path, ignore_errors=True)

    def at(self, path: Path) -> JobFolder:
        """Return the same folder under another path."""
        return JobFolder(path, self.kind, self.settings, self._ending)

    def name_of(self, block: Block) -> str:
        """Return the file name of a block's shard: the place, and the content."""
        return f"part-{block.number:05d}-{block.content[:16]}{self._ending}"

    def begin(self) -> None:
        """Begin the job, or go on with it; an unfinished one with other settings is removed."""
        if not self._fits(self._begun()):
            self._log.unlink(missing_ok=True)
            self._sweep(_shards_in(self._of_manifest()))
            write_json(self.work / "settings.json", self.settings)

    def finished(self) -> list[Shard]:
        """Return the shards of the last run that came to its end, if it had these settings."""
        content = self._of_manifest()
        return _shards_in(content) if self._fits(content) else []

    def logged(self) -> list[Shard]:
        """Return the shards of a run that did not come to its end, as far as it came."""
        try:
            lines = self._log.read_text(encoding="utf-8").splitlines()
        except OSError:
            return []
        shards = []
        for line in lines:
            # A kill may have come in the middle of one.
            with suppress(ValueError, TypeError):
                shards.append(Shard(**json.loads(line)))
        return shards

    def log(self, shard: Shard) -> None:
        """Note a finished shard."""
        with open(self._log, "a", encoding="utf-8") as handle:
            # A line torn by a kill must not swallow the next one.
            handle.write("\n" + json.dumps(asdict(shard)) + "\n")

    def finish(self, report: Report) -> None:
        """Write the manifest, then remove what it does not name."""
        counts = sorted({name for shard in report.shards for name in shard.counts})
        content = {
            **self.settings,
            "kind": self.kind,
            "rows": report.rows,
            **{name: report.total(name) for name in counts},
            "shards": [asdict(shard) for shard in report.shards],
        }
        write_json(self.path / "manifest.json", content)
        self._sweep(report.shards)
        for path in [*self.path.glob(".*.partial"), *self.work.iterdir()]:
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            elif path.name not in {"lock", "settings.json"}:
                path.unlink()

    @property
    def _log(self) -> Path:
        return self.work / "log.jsonl"

    def _sweep(self, shards: Sequence[Shard]) -> None:
        """Remove all shards but these."""
        names = {shard.name for shard in shards}
        for path in self.path.glob("part-*"):
            if path.name not in names:
                path.unlink()

    def _begun(self) -> dict[str, Any] | None:
        return _read(self.work / "settings.json")

    def _of_manifest(self) -> dict[str, Any] | None:
        content = _read(self.path / "manifest.json")
        return content if content is not None and content.get("kind") == self.kind else None

    def _fits(self, content: Mapping[str, Any] | None) -> bool:
        return content is not None and {**content, **self.settings} == content

    def _difference(self, theirs: Mapping[str, Any]) -> str:
        told = []
        for name, value in self.settings.items():
            if (other := theirs.get(name)) != value:
                short = len(f"{other}{value}") < 60
                told.append(f"{name} {other}, now {value}" if short else f"another {name}")
        return ", ".join(told)


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
) -> Report:
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
    kept = 0

    def keep(shard: Shard) -> None:
        nonlocal kept
        kept += 1
        note(shard, kept=True)
        if progress is not None:
            progress(shard.rows, 0)

    def note(shard: Shard, *, kept: bool) -> None:
        shards[shard.number] = shard
        if each is not None:
            each(shard, kept)

    tasks = _tasks(work, blocks, job, keep)
    with closing((engine or Local()).make(work, job, tasks, progress)) as all_made:
        for made in all_made:
            job.log(made.shard)
            done.update(made.counts)
            note(made.shard, kept=False)
    if not shards:
        raise InputError(f"{shown}: is empty; give at least one string")
    return Report(shards=[shards[number] for number in sorted(shards)], kept=kept, done=done)


def _tasks(
    work: Work, blocks: Iterator[Block], job: JobFolder, keep: Callable[[Shard], None]
) -> Iterator[Task]:
    """Yield the blocks whose shards are to be made; give the shards that are there to ``keep``."""
    first = next(blocks, None)
    if first is None:
        return
    job.begin()
    finished = {shard.name: shard for shard in job.finished()}
    there = {shard.name: shard for shard in job.logged()} | finished
    prepared = False
    for block in chain([first], blocks):
        name = job.name_of(block)
        shard = there.get(name)
        if shard is not None and shard.fault(job.path) is None:
            keep(shard)
            continue
        if not prepared:
            work.prepare(job, list(finished.values()))
            prepared = True
        yield Task(name=name, block=block, again=name in finished)


def read_manifest(path: Path) -> list[Shard]:
    """Return the shards of a finished folder, in order.

    Raises:
        InputError: There is no manifest, or it cannot be read.
    """
    try:
        content = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
        return [Shard(**shard) for shard in content["shards"]]
    except FileNotFoundError as error:
        raise InputError(
            f"{path}: not finished (no manifest.json); run the same command again to go on"
        ) from error
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(f"{path}: its manifest.json cannot be read ({error})") from error


def file_faults(folder: str | Path) -> list[str]:
    """Compare every shard of a finished folder with its sha256; return what is wrong.

    Running the same command again makes faulty shards anew, and only these.

    Raises:
        InputError: The folder holds no finished job.
    """
    path = Path(folder)
    faults = (shard.fault(path) for shard in read_manifest(path))
    return [fault for fault in faults if fault is not None]


def _is_bare(path: Path) -> bool:
    """Tell whether a folder is empty but for what a job killed in its first moment left."""
    return path.is_dir() and all(child.name == ".job" for child in path.iterdir())


def _read(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def _shards_in(content: Mapping[str, Any] | None) -> list[Shard]:
    try:
        return [Shard(**shard) for shard in (content or {}).get("shards", ())]
    except TypeError:
        return []
