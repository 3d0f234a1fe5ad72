"""Processes that judge mentions beside the one that embeds them.

Most of a link is Python, which runs on one core of a process. Each worker opens the same folder,
whose pages are shared, and no encoder.

Axes: Q mentions, K rows, D width.
"""

from __future__ import annotations

import math
import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Lock, Thread
from typing import TYPE_CHECKING

from mirror_rt.errors import KnowledgeBaseError

if TYPE_CHECKING:
    from concurrent.futures import ProcessPoolExecutor

    from mirror_rt.knowledge.combination import Combination
    from mirror_rt.knowledge.filters import Conditions
    from mirror_rt.knowledge.knowledge_base import KnowledgeBase
    from mirror_rt.knowledge.store import KnowledgeBaseManifest
    from mirror_rt.types import Candidate, Float32, Int64

__all__ = ["LEAST", "Workers"]

LEAST = 16
"""Mentions judged at once that are worth asking other processes for."""
_PIECES = 2
"""Pieces of work for each process: the last ones even out what the first ones took longer."""


class Workers:
    """A pool of processes that have a knowledge base open, started when first asked.

    Args:
        path: The knowledge base.
        manifest: Its manifest, as it was opened.
        count: How many processes.
    """

    def __init__(self, path: Path, manifest: KnowledgeBaseManifest, count: int) -> None:
        self._path = path
        self._manifest = manifest
        self._count = count
        self._lock = Lock()
        self._pool: ProcessPoolExecutor | None = None

    def judged(
        self,
        mentions: Sequence[str],
        vectors_QD: Float32,
        near_QK: Int64,
        *,
        top: int,
        wanted: Conditions,
        combination: Combination,
    ) -> list[list[Candidate]]:
        """Judge mentions as ``KnowledgeBase.judged`` does.

        Args:
            mentions: Q texts that are no names.
            vectors_QD: (Q, D) float32 unit rows, their vectors.
            near_QK: (Q, K) int64 rows nearest to them, -1 where there are no more.
            top: How many entities at most for each; more where they are tied with the best.
            wanted: What they have to meet.
            combination: What judges: a calibration changes it while the folder is open.

        Returns:
            The candidates of each text, best first.

        Raises:
            KnowledgeBaseError: Processes cannot be started here, one ended before its time, or
                the folder was replaced before one opened it.
        """
        from concurrent.futures.process import BrokenProcessPool

        with self._lock:
            if self._pool is None:
                self._pool = self._made()
        size = math.ceil(len(mentions) / (_PIECES * self._count))
        pieces = [slice(start, start + size) for start in range(0, len(mentions), size)]
        try:
            with _as_workers_start():
                found = [
                    self._pool.submit(
                        _judged,
                        list(mentions[piece]),
                        vectors_QD[piece],
                        near_QK[piece],
                        top=top,
                        wanted=wanted,
                        combination=combination,
                    )
                    for piece in pieces
                ]
            try:
                return [candidates for some in found for candidates in some.result()]
            finally:
                for some in found:
                    some.cancel()
        except BrokenProcessPool as error:
            raise KnowledgeBaseError(
                f"{self._path}: one of {self._count} workers ended before its time, perhaps for "
                "want of memory; run it again with fewer"
            ) from error

    def _made(self) -> ProcessPoolExecutor:
        from concurrent.futures import ProcessPoolExecutor
        from concurrent.futures.process import BrokenProcessPool
        from multiprocessing import get_context

        try:
            pool = ProcessPoolExecutor(
                self._count,
                # Not forked: onnxruntime and FAISS have threads, which a fork leaves behind.
                mp_context=get_context("spawn"),
                initializer=_begin,
                initargs=(self._path.absolute(), self._manifest),
            )
        except (OSError, ImportError, ValueError) as error:
            raise KnowledgeBaseError(
                f"{self._path}: {self._count} workers cannot be started here ({error}); ask for one"
            ) from error
        try:
            # Asked for nothing at first: of one that ends at once, while more than a pipe holds
            # is on its way to it, some versions of Python (3.11.2) wait for ever.
            with _as_workers_start():
                ready = [pool.submit(_ready) for _ in range(self._count)]
            for one in ready:
                one.result()
        except BrokenProcessPool as error:
            pool.shutdown()
            raise KnowledgeBaseError(
                f"{self._path}: its workers cannot be started; a script that asks for some has its "
                "work under: if __name__ == '__main__'"
            ) from error
        return pool

    def close(self) -> None:
        """End the processes, when what they have begun is done."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)


@contextmanager
def _as_workers_start() -> Iterator[None]:
    """Hand down to processes what they must not miss while they are still importing.

    An interrupt is for the process that asks, which ends its workers: they have it blocked. And
    each computes on one thread, as they share the cores.
    """
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


_opened: KnowledgeBase | None = None
_asked: tuple[Path, KnowledgeBaseManifest] | None = None


def _begin(path: Path, manifest: KnowledgeBaseManifest) -> None:
    global _asked
    _asked = path, manifest
    Thread(target=_outlive_nobody, daemon=True).start()


def _outlive_nobody() -> None:
    """End with the process that asks, be it killed: the pool itself would wait for ever."""
    from multiprocessing import parent_process

    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _ready() -> None:
    """Do nothing."""


def _judged(
    mentions: list[str],
    vectors_QD: Float32,
    near_QK: Int64,
    *,
    top: int,
    wanted: Conditions,
    combination: Combination,
) -> list[list[Candidate]]:
    from mirror_rt.knowledge import answering
    from mirror_rt.knowledge.knowledge_base import KnowledgeBase

    global _opened
    if _opened is None:
        if _asked is None:
            raise RuntimeError("a worker was asked before it began")
        path, manifest = _asked
        opened = KnowledgeBase.open(path, verify=False)
        if opened.manifest != manifest:
            opened.close()
            raise KnowledgeBaseError(f"{path}: was replaced while it was open; open it again")
        _opened = opened
    _opened.combination = combination
    allowed = _opened.allowed(filters=wanted)
    return answering.judged(_opened, mentions, vectors_QD, near_QK, top=top, allowed=allowed)
