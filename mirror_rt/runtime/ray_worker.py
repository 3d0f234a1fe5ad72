"""What an actor of ``ray_engine`` does: windows that lie in the job's folder to shards.

Ray itself is not needed here.
"""

from __future__ import annotations

import json
import os
import platform
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from mirror_rt import errors
from mirror_rt.errors import MirrorError, TargetError
from mirror_rt.runtime.encoder import Encoder
from mirror_rt.runtime.jobfolder import JobFolder, Settings
from mirror_rt.runtime.seen import Seen
from mirror_rt.runtime.windows import Window, window_of
from mirror_rt.runtime.work import Task, make_shard

__all__ = ["Order", "Worker", "raised"]

TRIES = 3
"""So many workers may die over one window before the job gives up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What every worker of a job is told.

    Attributes:
        bundle: Path of the bundle.
        out: Path of the job's folder.
        settings: Of the job.
        seen: From where vectors may be copied.
        threads: CPUs of a worker.
        driver: Name of the machine that gives the order.
    """

    bundle: str
    out: str
    settings: dict[str, Any]
    seen: list[Seen]
    threads: int
    driver: str


class Worker:
    """An actor: opens the bundle at its first window, and answers every window with a line.

    What goes wrong is an answer too: raised here, Ray would wrap it in pages of its own.
    """

    def __init__(self, order: Order) -> None:
        self.order = order
        self.job = JobFolder(Path(order.out), Settings(**order.settings))
        self.encoder: Encoder | None = None

    def __call__(self, batch: Mapping[str, Sequence[Any]]) -> dict[str, list[str]]:
        """Make the shards of the windows named in a batch of items."""
        rows = zip(batch["name"], batch["number"], batch["seen"], strict=True)
        answers = [self.answer(str(name), int(number), int(seen)) for name, number, seen in rows]
        return {"answer": [json.dumps(answer) for answer in answers]}

    def answer(self, name: str, number: int, seen: int) -> dict[str, Any]:
        """Make one shard and tell of it.

        Args:
            name: Of the shard.
            number: Of the window.
            seen: From which of what the order names vectors are copied; -1 from none.
        """
        try:
            tokens = 0

            def count(_: int, more: int) -> None:
                nonlocal tokens
                tokens += more

            encoder = self.open()
            window = self.window(name, number)
            with self.survived(window):
                task = Task(window=window, seen=self.order.seen[seen] if seen >= 0 else None)
                made = make_shard(encoder, self.job, task, progress=count)
        except Exception as error:
            return {"error": _told(error, driver=self.order.driver)}
        return {"made": asdict(made), "tokens": tokens}

    def open(self) -> Encoder:
        """Open the bundle, once."""
        if self.encoder is None:
            if not self.job.staged.is_dir():
                raise TargetError(
                    f"{self.job.path}: the workers do not see it; put it, and the bundle, on a "
                    "disk that all machines of the cluster share"
                )
            os.environ["RAYON_NUM_THREADS"] = str(self.order.threads)  # of the tokenizer
            self.encoder = Encoder.open(self.order.bundle, threads=self.order.threads)
        return self.encoder

    def window(self, name: str, number: int) -> Window:
        """Read the rows of a window."""
        columns = pq.ParquetFile(self.job.staged / name).read()
        texts, ids = columns["text"].to_pylist(), columns["id"].to_pylist()
        return window_of(number, texts, ids, self.job.settings)

    @contextmanager
    def survived(self, window: Window) -> Iterator[None]:
        """Refuse rows over which workers have died too often; Ray itself would go on for ever."""
        deaths = self.job.staged / f"{window.name}.deaths"
        if deaths.is_file() and deaths.stat().st_size >= TRIES:
            raise MirrorError(
                f"{TRIES} workers died over the rows from {window.texts[0][:40]!r} on; if memory "
                "ran out give fewer --workers, then run again to go on"
            )
        with open(deaths, "ab") as handle:
            handle.write(b".")
        yield
        deaths.unlink(missing_ok=True)


def _told(error: Exception, *, driver: str) -> dict[str, Any]:
    """Put an exception into what JSON can carry."""
    here = "" if platform.node() == driver else f" (on {platform.node()})"
    told: dict[str, Any] = {"kind": type(error).__name__, "traceback": traceback.format_exc()}
    if isinstance(error, OSError) and error.errno is not None:
        filename = str(error.filename or "output") + here
        return told | {"errno": error.errno, "message": error.strerror, "filename": filename}
    return told | {"errno": None, "message": f"{error}{here}", "filename": None}


def raised(told: Mapping[str, Any]) -> Exception:
    """Make the exception again."""
    kind, message = told["kind"], told["message"]
    if kind in errors.__all__:
        exception: Exception = getattr(errors, kind)(message)
        return exception
    if told["errno"] is not None:
        return OSError(told["errno"], message, told["filename"])
    return MemoryError(message) if kind == "MemoryError" else RuntimeError(f"{kind}: {message}")
