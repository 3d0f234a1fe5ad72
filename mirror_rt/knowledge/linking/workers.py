"""Worker processes that propose entities; the main process embeds the mentions.

Much of linking is Python code, which uses one core per process. Each worker opens the same folder,
so they share its memory pages. Workers open no encoder.

Axes: Q mentions, K rows, D width.
"""

from __future__ import annotations

import logging
import math
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from threading import Lock, Thread, current_thread, main_thread
from typing import TYPE_CHECKING, Protocol

from mirror_rt.errors import KnowledgeBaseError
from mirror_rt.knowledge.linking.proposals import Proposal, propose
from mirror_rt.knowledge.linking.resources import LinkResources
from mirror_rt.staging import undisturbed

if TYPE_CHECKING:
    from concurrent.futures import ProcessPoolExecutor
    from pathlib import Path

    from mirror_rt.knowledge.ranking.reranker import Reranker
    from mirror_rt.knowledge.retrieval.filters import Conditions, FilterMask
    from mirror_rt.types import Float32

__all__ = ["MIN_PER_WORKER", "Beside", "Proposer", "Workers"]

_LOG = logging.getLogger(__name__)

MIN_PER_WORKER = 16
"""With fewer mentions per worker, other processes do not pay off."""
_PIECES = 2
"""Pieces of work per process; more than one evens out the load."""
_SETTINGS = Lock()
"""Held while the environment of new processes is set."""
_AGAIN = 60.0
"""Seconds until ``Beside`` starts a process again that has ended."""


class Proposer(Protocol):
    """Proposes entities for batches of mentions, in other processes."""

    def propose(
        self,
        resources: LinkResources,
        texts: Sequence[str],
        vectors_QD: Float32,
        top: int,
        mask: FilterMask | None,
    ) -> list[Proposal]:
        """Propose entities; see ``proposals.propose``."""
        ...

    def close(self) -> None:
        """End the processes."""
        ...


class Workers:
    """A pool of processes with an open knowledge base. They start on first use.

    Args:
        path: The knowledge base, for messages.
        open_resources: Opens it in a process; must be picklable.
        count: The number of processes.
        pieces: The pieces that each process gets of a batch.
        least: With fewer mentions per process, a batch is computed here.
    """

    def __init__(
        self,
        path: Path,
        open_resources: Callable[[], LinkResources],
        count: int,
        *,
        pieces: int = _PIECES,
        least: int = MIN_PER_WORKER,
    ) -> None:
        self._path = path
        self._open_resources = open_resources
        self._count = count
        self._pieces = pieces
        self._least = least
        self._lock = Lock()
        self._pool: ProcessPoolExecutor | None = None

    def propose(
        self,
        resources: LinkResources,
        texts: Sequence[str],
        vectors_QD: Float32,
        top: int,
        mask: FilterMask | None,
    ) -> list[Proposal]:
        """Propose entities; see ``proposals.propose``.

        Raises:
            KnowledgeBaseError: Processes cannot be started, a process died, or the folder was
                replaced before a process opened it.
        """
        if len(texts) < self._least:
            return propose(resources, texts, vectors_QD, top=top, mask=mask)
        from concurrent.futures.process import BrokenProcessPool

        pool = self._started_pool()
        size = math.ceil(len(texts) / (self._pieces * self._count))
        pieces = [slice(start, start + size) for start in range(0, len(texts), size)]
        try:
            with _SETTINGS, _inherited_settings():
                pending = [
                    pool.submit(
                        _propose,
                        list(texts[piece]),
                        vectors_QD[piece],
                        top=top,
                        conditions=() if mask is None else mask.conditions,
                        reranker=resources.reranker,
                    )
                    for piece in pieces
                ]
            try:
                return [proposal for some in pending for proposal in some.result()]
            finally:
                for some in pending:
                    some.cancel()
        except BrokenProcessPool as error:
            raise KnowledgeBaseError(
                f"{self._path}: one of {self._count} workers ended early, perhaps for lack of "
                "memory; run it again with fewer workers"
            ) from error

    def start(self) -> None:
        """Start the processes, if they do not run, and open the knowledge base in one of them.

        Raises:
            KnowledgeBaseError: Processes cannot be started, or the folder was replaced.
            RuntimeError: A process died.
        """
        self._started_pool().submit(_open).result()

    def _started_pool(self) -> ProcessPoolExecutor:
        with self._lock:
            if self._pool is None:
                self._pool = self._started()
            return self._pool

    def _started(self) -> ProcessPoolExecutor:
        from concurrent.futures import ProcessPoolExecutor
        from concurrent.futures.process import BrokenProcessPool
        from multiprocessing import get_context

        try:
            pool = ProcessPoolExecutor(
                self._count,
                # Not forked: onnxruntime and FAISS have threads, which do not survive a fork.
                mp_context=get_context("spawn"),
                initializer=_begin,
                initargs=(self._open_resources,),
            )
        except (OSError, ImportError, ValueError) as error:
            raise KnowledgeBaseError(
                f"{self._path}: {self._count} workers cannot be started here ({error}); ask for one"
            ) from error
        try:
            # Send a no-op first. If a worker dies while a large payload is being sent, Python
            # 3.11.2 hangs.
            with _SETTINGS, _inherited_settings():
                ready = [pool.submit(_ready) for _ in range(self._count)]
            for one in ready:
                one.result()
        except BaseException as error:
            # A pool that nobody holds is not ended at exit, which then waits for ever.
            with undisturbed():
                pool.shutdown(cancel_futures=True)
            if not isinstance(error, BrokenProcessPool):
                raise
            raise KnowledgeBaseError(
                f"{self._path}: its workers cannot be started; a script that asks for some has its "
                "work under: if __name__ == '__main__'"
            ) from error
        return pool

    def close(self) -> None:
        """End the processes, after they finish their current work."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)


class Beside:
    """Gives whole batches to one other process while it runs, and else computes them here.

    For callers with several threads, most of whose work is Python code: Python's lock lets one
    thread at a time run. The process starts in the background when it is first needed. If it
    cannot be started or ends early, batches are computed here, and it is started again later.

    Args:
        path: The knowledge base, for messages.
        open_resources: Opens it in a process; must be picklable.
    """

    def __init__(self, path: Path, open_resources: Callable[[], LinkResources]) -> None:
        self._path, self._open_resources = path, open_resources
        self._lock = Lock()
        self._running: Workers | None = None
        self._starting: Thread | None = None
        self._earliest = 0.0
        self._closed = False

    def propose(
        self,
        resources: LinkResources,
        texts: Sequence[str],
        vectors_QD: Float32,
        top: int,
        mask: FilterMask | None,
    ) -> list[Proposal]:
        """Propose entities; see ``proposals.propose``."""
        running = self._running
        if running is None:
            self._start_later()
        else:
            try:
                return running.propose(resources, texts, vectors_QD, top, mask)
            except (KnowledgeBaseError, RuntimeError) as error:  # RuntimeError: it was closed
                self._give_up(running, error)
        return propose(resources, texts, vectors_QD, top=top, mask=mask)

    def _start_later(self) -> None:
        with self._lock:
            if self._closed or self._starting is not None or time.monotonic() < self._earliest:
                return
            self._starting = Thread(target=self._start, name="mirror-rt-beside", daemon=True)
            self._starting.start()

    def _start(self) -> None:
        workers = Workers(self._path, self._open_resources, 1, pieces=1, least=1)
        try:
            workers.start()
        except (KnowledgeBaseError, RuntimeError) as error:
            self._give_up(workers, error)
        else:
            self._running = workers
        finally:
            self._starting = None

    def _give_up(self, workers: Workers, error: Exception) -> None:
        with self._lock:
            if self._closed or time.monotonic() < self._earliest:
                return
            self._running, self._earliest = None, time.monotonic() + _AGAIN
        workers.close()
        _LOG.warning("links without a second process for now", extra={"error": str(error)})

    def close(self) -> None:
        """End the process, after it finishes its current work."""
        with self._lock:
            self._closed = True
            starting = self._starting
        if starting is not None:
            starting.join()
        if self._running is not None:
            self._running.close()


@contextmanager
def _inherited_settings() -> Iterator[None]:
    """Set the signal mask and environment that new processes inherit.

    Workers ignore interrupts: the main process handles them and ends its workers. Each worker
    computes on one thread, as all share the cores.

    An interrupt meanwhile comes at the end: a pool that is half started cannot be ended. The mask
    does not hold it back, as the system gives it to any thread of the process.
    """
    caught: list[int] = []
    handlers = {}
    if current_thread() is main_thread():  # others get no interrupts
        for number in (signal.SIGINT, signal.SIGTERM):
            handlers[number] = signal.signal(number, lambda given, _: caught.append(given))
    threads = {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    masks = hasattr(signal, "pthread_sigmask")
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT}) if masks else set()
    os.environ.update(dict.fromkeys(threads, "1"))
    try:
        yield
    finally:
        for name, value in threads.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
        if masks:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        for number, handler in handlers.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        if caught:
            signal.raise_signal(caught[0])


class _Opened:
    """The resources of a worker process, opened on first use."""

    open: Callable[[], LinkResources] | None = None
    resources: LinkResources | None = None


def _begin(open_resources: Callable[[], LinkResources]) -> None:
    _Opened.open = open_resources
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Exit when the parent dies, even if it was killed; the pool itself would wait forever."""
    from multiprocessing import parent_process

    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _ready() -> None:
    """Do nothing."""


def _open() -> None:
    """Open the knowledge base."""
    _opened()


def _opened() -> LinkResources:
    if _Opened.resources is None:
        if _Opened.open is None:
            raise RuntimeError("a worker got a task before it began")
        _Opened.resources = _Opened.open()
    return _Opened.resources


def _propose(
    texts: list[str],
    vectors_QD: Float32,
    *,
    top: int,
    conditions: Conditions,
    reranker: Reranker,
) -> list[Proposal]:
    # A calibration may change the reranker while the folder is open.
    resources = replace(_opened(), reranker=reranker)
    mask = resources.masks.get(conditions)
    return propose(resources, texts, vectors_QD, top=top, mask=mask)
