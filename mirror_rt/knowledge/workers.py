"""Processes that judge mentions beside the one that embeds them.

Most of a link is Python, which runs on one core of a process. Each worker opens the same folder,
whose pages are shared, and no encoder.

Axes: Q mentions, D width.
"""

from __future__ import annotations

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
    from mirror_rt.types import Candidate, Float32

__all__ = ["Workers"]


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
        pieces: Sequence[tuple[Sequence[str], Float32]],
        *,
        top: int,
        wanted: Conditions,
        combination: Combination,
    ) -> list[list[Candidate]]:
        """Judge mentions as ``KnowledgeBase.judged`` does.

        Args:
            pieces: Q texts that are no names and their vectors, (Q, D) float32 unit rows: what
                one process judges at a time.
            top: How many entities at most for each; more where they are tied with the best.
            wanted: What they have to meet.
            combination: What judges: a calibration changes it while the folder is open.

        Returns:
            The candidates of each text, one piece after another.

        Raises:
            KnowledgeBaseError: Processes cannot be started here, one ended before its time, or
                the folder was replaced before one opened it.
        """
        from concurrent.futures.process import BrokenProcessPool

        with self._lock:
            if self._pool is None:
                self._pool = self._made()
        try:
            with _as_workers_start():
                found = [
                    self._pool.submit(_judged, list(texts), vectors_QD, top, wanted, combination)
                    for texts, vectors_QD in pieces
                ]
            try:
                return [candidates for some in found for candidates in some.result()]
            finally:
                for some in found:
                    some.cancel()
        except BrokenProcessPool as error:
            raise KnowledgeBaseError(
                f"{self._path}: one of {self._count} workers ended before its time: killed for "
                "want of memory, or started by a script whose work is not under "
                "if __name__ == '__main__':; open the knowledge base again, with fewer workers"
            ) from error

    def _made(self) -> ProcessPoolExecutor:
        from concurrent.futures import ProcessPoolExecutor
        from multiprocessing import get_context

        try:
            return ProcessPoolExecutor(
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


def _judged(
    mentions: list[str],
    vectors_QD: Float32,
    top: int,
    wanted: Conditions,
    combination: Combination,
) -> list[list[Candidate]]:
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
    return _opened.judged(mentions, vectors_QD, top=top, allowed=_opened.allowed(filters=wanted))
