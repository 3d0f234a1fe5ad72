"""Worker processes that propose entities; the main process embeds the mentions.

Much of linking is Python code, which uses one core per process. Each worker opens the same folder,
so they share its memory pages. Workers open no encoder.

Axes: Q mentions, K rows, D width.
"""

from __future__ import annotations

import math
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from threading import Lock, Thread, current_thread, main_thread
from typing import TYPE_CHECKING

from mirror_rt._count import counted
from mirror_rt.errors import KnowledgeBaseError
from mirror_rt.knowledge.linking.proposals import Proposal, propose
from mirror_rt.knowledge.linking.resources import LinkResources
from mirror_rt.staging import ignore_signals

if TYPE_CHECKING:
    from concurrent.futures import ProcessPoolExecutor
    from pathlib import Path

    from mirror_rt.knowledge.ranking.reranker import Reranker
    from mirror_rt.knowledge.retrieval.filters import Conditions, FilterMask
    from mirror_rt.types import Float32, Int64

__all__ = ["MIN_PER_WORKER", "Workers"]

MIN_PER_WORKER = 16
"""With fewer mentions per worker, other processes do not pay off."""
_PIECES = 2
"""Pieces of work per process; more than one evens out the load."""
_SETTINGS = Lock()
"""Held while the environment of new processes is set."""


class Workers:
    """A pool of processes with an open knowledge base. They start on first use.

    Args:
        path: The knowledge base, for messages.
        open_resources: Opens it in a process; must be picklable.
        count: The number of processes.
    """

    def __init__(self, path: Path, open_resources: Callable[[], LinkResources], count: int) -> None:
        self._path = path
        self._open_resources = open_resources
        self._count = count
        self._lock = Lock()
        self._pool: ProcessPoolExecutor | None = None

    def propose(
        self,
        resources: LinkResources,
        texts: Sequence[str],
        vectors_QD: Float32,
        dense_QK: Int64,
        top: int,
        mask: FilterMask | None,
    ) -> list[Proposal]:
        """Propose entities; see ``proposals.propose``.

        Raises:
            KnowledgeBaseError: Processes cannot be started, a process died, or the folder was
                replaced before a process opened it.
        """
        if len(texts) < MIN_PER_WORKER:
            return propose(resources, texts, vectors_QD, dense_QK, top=top, mask=mask)
        from concurrent.futures.process import BrokenProcessPool

        with self._lock:
            if self._pool is None:
                self._pool = self._started()
        size = math.ceil(len(texts) / (_PIECES * self._count))
        pieces = [slice(start, start + size) for start in range(0, len(texts), size)]
        try:
            with _SETTINGS, _inherited_settings():
                pending = [
                    self._pool.submit(
                        _propose,
                        list(texts[piece]),
                        vectors_QD[piece],
                        dense_QK[piece],
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
                f"{self._path}: one of {counted(self._count, 'worker')} ended early, perhaps for "
                "lack of memory; run it again with fewer workers"
            ) from error

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
                f"{self._path}: cannot start {counted(self._count, 'worker')} here ({error}); "
                "ask for one"
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
            with ignore_signals():
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


def _propose(
    texts: list[str],
    vectors_QD: Float32,
    dense_QK: Int64,
    *,
    top: int,
    conditions: Conditions,
    reranker: Reranker,
) -> list[Proposal]:
    if _Opened.resources is None:
        if _Opened.open is None:
            raise RuntimeError("a worker got a task before it began")
        _Opened.resources = _Opened.open()
    # A calibration may change the reranker while the folder is open.
    resources = replace(_Opened.resources, reranker=reranker)
    mask = resources.masks.get(conditions)
    return propose(resources, texts, vectors_QD, dense_QK, top=top, mask=mask)
