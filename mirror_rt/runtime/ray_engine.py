"""Make the shards of a job on a Ray cluster: Ray Data, an actor for each worker.

The driver cuts the input into blocks and writes each as a Parquet file into the job's folder;
``map_batches`` gives their names to a pool of actors, which write the shards beside them. The
input, the shards and the model never go through the object store. A block gives the same bytes
on every worker and at every try.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import shutil
import signal
import socket
import sys
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mirror_rt._extras import require
from mirror_rt.errors import ConfigError, MirrorError
from mirror_rt.runtime.cores import available_cpus
from mirror_rt.runtime.job import JobFolder, Progress, Shard, ShardResult, ShardTask, Work
from mirror_rt.runtime.ray_worker import Worker, WorkerConfig, rebuild_error
from mirror_rt.staging import ignore_signals

__all__ = ["RayEngine"]

STORE = 128 * 1024 * 1024
"""Bytes of the object store of a cluster that we start; only names go through it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RayEngine:
    """A Ray cluster, or a temporary one on this machine.

    A process that is connected to a cluster already keeps its connection. Every machine needs
    mirror-rt, and the bundle or knowledge base and the output under the same paths.

    Attributes:
        address: The cluster to join, ``auto`` for the cluster of this machine; None starts one
            on this machine.
        workers: The number of actors; by default as many as fit.
        threads: CPUs of each; by default one, or more if there are fewer blocks than CPUs.
    """

    address: str | None = None
    workers: int | None = None
    threads: int | None = None

    def make(
        self, work: Work, job: JobFolder, tasks: Iterator[ShardTask], progress: Progress | None
    ) -> Generator[ShardResult]:
        """Make the shards in whatever order they come.

        Raises:
            ConfigError: There is no such cluster, or no room for a worker in it.
            MissingExtraError: Ray is not installed.
            MirrorError: Ray gave up, or a worker raised an error.
        """
        require("ray", "pandas", "fsspec", extra="ray")
        if self.address is not None and self.address.startswith("ray://"):
            raise ConfigError(
                f"{self.address}: cannot be reached from outside; run mirror-rt on a machine of "
                "the cluster, with --address auto"
            )
        first = next(tasks, None)
        if first is None:
            return
        with self._connected():
            items = _stage(job, chain([first], tasks))
            threads, workers = self._shares(len(items))
            order = WorkerConfig(
                opener=work.opener(), job=job.at(job.path.absolute()), threads=threads,
                driver=platform.node(),
            )  # fmt: skip
            answers = _answers(items, order, workers=workers)
            with _at_the_end(answers.close):
                for answer in answers:
                    shard = Shard(**answer["made"].pop("shard"))
                    (job.staged / shard.name).unlink(missing_ok=True)
                    if progress is not None:
                        for texts, tokens in answer["progress"]:
                            progress(texts, tokens)
                    yield ShardResult(shard=shard, **answer["made"])

    @contextmanager
    def _connected(self) -> Iterator[None]:
        # Ray reads these when it is imported or started. They turn off usage reports, and its own
        # output, which would report a dead worker at length.
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
        os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".")
        import ray

        if ray.is_initialized():
            yield
            return
        options: dict[str, Any] = {}
        if self.address is None:
            # By default Ray lets every other process of the machine go before its workers.
            os.environ.setdefault("RAY_worker_niceness", "0")
            cores = max(available_cpus(), (self.workers or 1) * (self.threads or 1))
            options = {
                "num_cpus": cores, "include_dashboard": False, "object_store_memory": STORE,
            }  # fmt: skip
        try:
            _check_reachable(self.address)
            with _own_signals(), _no_stderr():
                ray.init(
                    self.address or "local",
                    log_to_driver=False,
                    logging_level=logging.CRITICAL,
                    **options,
                )
        except Exception as error:  # Ray raises bare ones too: a node that did not start in time
            raise ConfigError(
                f"{self.address or 'ray'}: no Ray cluster to work with ({_first_line(error)}); "
                "start one with `ray start --head`, or leave --address out for one of its own"
            ) from error
        with _at_the_end(ray.shutdown):
            import ray.data

            logging.getLogger("ray.data").setLevel(logging.CRITICAL)
            yield

    def _shares(self, blocks: int) -> tuple[int, int]:
        """Return the threads of a worker and the number of workers."""
        import ray

        nodes = [node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"]]
        most, all_of_them = int(max(nodes)), int(sum(nodes))
        threads = self.threads or max(1, min(most, all_of_them // blocks))
        room = sum(int(cpus // threads) for cpus in nodes)
        if not room:
            raise ConfigError(f"threads {threads}: no machine of the cluster has more than {most}")
        return threads, min(self.workers or room, blocks)


def _stage(job: JobFolder, tasks: Iterator[ShardTask]) -> list[dict[str, Any]]:
    """Write the blocks into the folder of the job, and return an item that names each."""
    shutil.rmtree(job.staged, ignore_errors=True)
    job.staged.mkdir()
    items: list[dict[str, Any]] = []
    for task in tasks:
        pq.write_table(pa.table(task.block.columns), job.staged / task.name, compression="zstd")
        items.append({"name": task.name, "number": task.block.number, "again": task.again})
    return items


def _answers(
    items: list[dict[str, Any]], order: WorkerConfig, *, workers: int
) -> Generator[dict[str, Any]]:
    """Give the items to a pool of workers, and yield their answers, in any order."""
    import ray.data

    dataset = ray.data.from_items(items, override_num_blocks=len(items))
    dataset.context.enable_progress_bars = False
    answers = dataset.map_batches(
        Worker,
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(size=workers),
        fn_constructor_kwargs={"order": order},
        num_cpus=order.threads,
    )
    rows = iter(answers.iter_rows())
    while True:
        try:
            row = next(rows)
        except StopIteration:
            return
        except Exception as error:  # an error of Ray: our own errors come as answers
            raise MirrorError(
                f"the Ray cluster failed ({_first_line(error)}); run again to continue"
            ) from error
        answer = json.loads(row["answer"])
        if "error" in answer:
            problem = answer["error"]
            raise rebuild_error(problem) from RuntimeError(problem["traceback"])
        yield answer


def _check_reachable(address: str | None) -> None:
    """Connect to HOST:PORT once; Ray itself would try for minutes.

    Raises:
        OSError: Nothing answers there.
    """
    if address == "auto":  # for Ray that is first of all what the environment names
        address = os.environ.get("RAY_ADDRESS")
    host, _, port = (address or "").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), timeout=10).close()


def _first_line(error: Exception) -> str:
    lines = (line.strip(" .") for line in str(error).splitlines())
    return next(filter(None, lines), repr(error))


@contextmanager
def _at_the_end(close: Callable[[], None]) -> Iterator[None]:
    """Call ``close`` in any case; a second Ctrl-C must not leave a half-closed cluster."""
    try:
        yield
    finally:
        with ignore_signals():
            close()


@contextmanager
def _own_signals() -> Iterator[None]:
    """Keep our signal handlers: Ray replaces that of SIGTERM."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


@contextmanager
def _no_stderr() -> Iterator[None]:
    """Close standard error: Ray writes there even when its log is off."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
