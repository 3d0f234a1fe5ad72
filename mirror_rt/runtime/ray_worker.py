"""The work of an actor of ``ray_engine``: make shards of the blocks in the job's folder.

This module does not need Ray.
"""

from __future__ import annotations

import json
import os
import platform
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow.parquet as pq

from mirror_rt import errors
from mirror_rt.errors import MirrorError, TargetError
from mirror_rt.runtime.job import Block, JobFolder, Opener, ShardTask, Work

__all__ = ["Worker", "WorkerConfig", "rebuild_error"]

TRIES = 3
"""The number of workers that may die on one block before the job gives up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerConfig:
    """The configuration of every worker of a job.

    Attributes:
        opener: Opens the work.
        job: The folder, under a path that is the same on every machine.
        threads: CPUs of a worker.
        driver: Name of the machine that runs the job.
    """

    opener: Opener
    job: JobFolder
    threads: int
    driver: str


class Worker:
    """An actor: opens the work at its first block, and answers every block with a line.

    An error is an answer too. If it were raised here, Ray would wrap it in a long message.
    """

    def __init__(self, order: WorkerConfig) -> None:
        self.order = order
        self.job = order.job
        self.work: Work | None = None

    def __call__(self, batch: Mapping[str, Sequence[Any]]) -> dict[str, list[str]]:
        """Make the shards of the blocks named in a batch of items."""
        rows = zip(batch["name"], batch["number"], batch["again"], strict=True)
        answers = [self.answer(str(name), int(number), bool(again)) for name, number, again in rows]
        return {"answer": [json.dumps(answer) for answer in answers]}

    def answer(self, name: str, number: int, again: bool) -> dict[str, Any]:
        """Make one shard and return its record.

        Args:
            name: The name of the shard.
            number: The number of the block.
            again: See ``job.ShardTask``.
        """
        try:
            computed, copied = [0, 0], 0

            def count(texts: int, tokens: int) -> None:
                nonlocal copied
                if tokens:
                    computed[0] += texts
                    computed[1] += tokens
                else:
                    copied += texts

            work = self.open()
            columns = pq.ParquetFile(self.job.staged / name).read().to_pydict()
            block = Block.of(number, columns, self.job.settings)
            with self.survived(name, block):
                made = work.make(self.job, ShardTask(name=name, block=block, again=again), count)
        except Exception as error:
            return {"error": _described(error, driver=self.order.driver)}
        return {"made": asdict(made), "progress": [computed, [copied, 0]]}

    def open(self) -> Work:
        """Open the work, once."""
        if self.work is None:
            if not self.job.staged.is_dir():
                raise TargetError(
                    f"{self.job.path}: the workers do not see it; put it, and the bundle or "
                    "knowledge base, on a disk that all machines of the cluster share"
                )
            os.environ["RAYON_NUM_THREADS"] = str(self.order.threads)  # of the tokenizer
            self.work = self.order.opener(self.order.threads)
        return self.work

    @contextmanager
    def survived(self, name: str, block: Block) -> Iterator[None]:
        """Refuse rows on which workers have died too often; Ray itself would retry for ever."""
        deaths = self.job.staged / f"{name}.deaths"
        if deaths.is_file() and deaths.stat().st_size >= TRIES:
            raise MirrorError(
                f"{TRIES} workers died over the rows from {block.first[:40]!r} on; if memory "
                "ran out give fewer --workers, then run again to continue"
            )
        with open(deaths, "ab") as handle:
            handle.write(b".")
        yield
        deaths.unlink(missing_ok=True)


def _described(error: Exception, *, driver: str) -> dict[str, Any]:
    """Describe an exception in JSON."""
    here = "" if platform.node() == driver else f" (on {platform.node()})"
    parts: dict[str, Any] = {"kind": type(error).__name__, "traceback": traceback.format_exc()}
    if isinstance(error, OSError) and error.errno is not None:
        filename = str(error.filename or "output") + here
        return parts | {"errno": error.errno, "message": error.strerror, "filename": filename}
    return parts | {"errno": None, "message": f"{error}{here}", "filename": None}


def rebuild_error(parts: Mapping[str, Any]) -> Exception:
    """Return the exception that was described in JSON."""
    kind, message = parts["kind"], parts["message"]
    if kind in errors.__all__:
        exception: Exception = getattr(errors, kind)(message)
        return exception
    if parts["errno"] is not None:
        return OSError(parts["errno"], message, parts["filename"])
    return MemoryError(message) if kind == "MemoryError" else RuntimeError(f"{kind}: {message}")
