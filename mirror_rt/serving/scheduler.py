"""Dynamic batching: combine the texts of many requests into batches, without a fixed delay.

A few threads take work as soon as they are free. Waiting requests with the same key (the same
model, or the same knowledge base and options) share a batch, up to a token budget. A thread that
has just answered several requests waits a moment for the next requests of these clients, if other
threads are busy. Long requests are cut into slices and take turns, so a short request waits for one
slice only.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Hashable, Sequence
from typing import Any, Protocol

from mirror_rt.serving.errors import Refused

__all__ = ["Job", "Scheduler", "Work"]

BUDGET = 1_024
"""Approximate tokens of a batch. Larger batches are hardly faster, but finish later."""
SLICE = 128
"""Tokens of a slice while short requests arrive too."""
LATELY = 1.0
"""For this many seconds after a short request, long requests run in slices."""
LINGER, MOST_LINGER = 0.15, 0.003
"""After a batch of several requests, a thread waits for the next requests of these clients: this
share of the batch's time, and at most this many seconds. A batch of one costs as much as one of
several."""
JUST_NOW = 0.1
"""For this many seconds after a short request, one thread takes no long requests."""


class Work(Protocol):
    """The work for the items of a request."""

    @property
    def key(self) -> Hashable:
        """Requests with equal keys may share a batch; ``run`` of any of them is called."""
        ...

    def run(self, items: Sequence[Any]) -> Sequence[Any]:
        """Return a result for each item; called on a thread of the scheduler."""
        ...


class Job:
    """The items of a request, with their results so far."""

    def __init__(
        self, work: Work, items: Sequence[Any], costs: Sequence[int], future: asyncio.Future[Any]
    ) -> None:
        # Sort items by cost: batches then need less padding.
        self.order = sorted(range(len(items)), key=costs.__getitem__)
        self.work = work
        self.key = work.key
        self.items = items
        self.costs = costs
        self.taken = 0
        self.waiting = sum(costs)
        self.missing = len(items)
        self.results: list[Any] = [None] * len(items)
        self.future = future
        self.arrived = time.perf_counter()
        self.queue_seconds = 0.0
        self.run_seconds = 0.0

    @property
    def is_long(self) -> bool:
        """Whether the remaining items are more than a slice."""
        return self.waiting > SLICE

    @property
    def next_cost(self) -> int:
        """The cost of the next item."""
        return self.costs[self.order[self.taken]]

    def take(self, budget: int) -> list[int]:
        """Take items up to a budget, but at least one."""
        places: list[int] = []
        if not self.taken:
            self.queue_seconds = time.perf_counter() - self.arrived
        while self.taken < len(self.order):
            place = self.order[self.taken]
            if self.costs[place] > budget and places:
                break
            budget -= self.costs[place]
            self.waiting -= self.costs[place]
            places.append(place)
            self.taken += 1
        return places


class Scheduler:
    """Runs jobs on its own threads.

    Attributes:
        threads: The number of batches that run at the same time.
        most_waiting: The maximum number of waiting tokens.
    """

    def __init__(self, *, threads: int, most_waiting: int) -> None:
        self.threads = threads
        self.most_waiting = most_waiting
        self.on_batch: Any = None
        self._jobs: deque[Job] = deque()
        self._waiting = 0
        self._wake = threading.Condition()
        self._stopped = False
        self._last_short = -LATELY
        self._last_was_long = False
        self._long_running = 0
        self._free = 0  # threads that run nothing
        self._rate = 20_000.0  # tokens a second; measured as it goes on
        self._pool = [
            threading.Thread(target=self._serve, name=f"mirror-rt-{i}", daemon=True)
            for i in range(threads)
        ]
        for thread in self._pool:
            thread.start()

    @property
    def waiting(self) -> int:
        """The approximate number of waiting tokens."""
        return self._waiting

    @property
    def jobs(self) -> int:
        """The number of waiting requests."""
        return len(self._jobs)

    def retry_after(self) -> int:
        """Return the seconds until the waiting requests are done, from 1 to 30."""
        return int(min(max(self._waiting / self._rate, 1.0), 30.0))

    def submit(self, work: Work, items: Sequence[Any], costs: Sequence[int]) -> Job:
        """Put the items of a request into the queue.

        Args:
            work: The work.
            items: The items; at least one.
            costs: The approximate tokens of each item.

        Returns:
            The job. Its ``future`` is done when ``results`` are complete, or has the error.

        Raises:
            Refused: The queue is full (429), or the server is stopping (503).
        """
        job = Job(work, items, costs, asyncio.get_running_loop().create_future())
        with self._wake:
            if self._stopped:
                raise Refused(503, "the server is stopping; ask again", retry_after=1)
            # An empty queue accepts any request, as the size of a request has its own limit.
            if self._waiting and self._waiting + job.waiting > self.most_waiting:
                raise Refused(
                    429,
                    "too many requests wait already; ask again later",
                    retry_after=self.retry_after(),
                )
            if job.waiting <= SLICE:
                self._last_short = time.monotonic()
            self._waiting += job.waiting
            self._jobs.append(job)
            self._wake.notify()
        return job

    def cancel(self, job: Job) -> None:
        """Remove a job from the queue; slices that are running are finished."""
        with self._wake:
            if job in self._jobs:
                self._jobs.remove(job)
                self._waiting -= job.waiting
        if not job.future.done():
            job.future.cancel()

    def stop(self, *, seconds: float = 5.0) -> None:
        """Stop the threads after their current batches; wait up to ``seconds`` for them.

        A thread that still computes at Python's exit would be killed inside a library.
        """
        with self._wake:
            self._stopped = True
            self._jobs.clear()
            self._waiting = 0
            self._wake.notify_all()
        end = time.monotonic() + seconds
        for thread in self._pool:
            thread.join(max(end - time.monotonic(), 0.0))

    def _serve(self) -> None:
        answered, seconds = 0, 0.0
        while True:
            with self._wake:
                self._free += 1
                if answered > 1:
                    self._linger(answered, min(LINGER * seconds, MOST_LINGER))
                while (first := self._next()) is None and not self._stopped:
                    # Long requests that wait now may run if no short one arrives for a while.
                    self._wake.wait(JUST_NOW if self._jobs else None)
                if first is None:
                    return
                long = first.is_long
                batch = self._take(first)
                self._free -= 1
                self._long_running += long
                self._last_was_long = long
                if self._jobs:
                    self._wake.notify()
            begin = time.perf_counter()
            self._run(batch)
            answered, seconds = 0 if long else len(batch), time.perf_counter() - begin
            if long:
                with self._wake:
                    self._long_running -= 1

    def _linger(self, jobs: int, seconds: float) -> None:
        """Wait until as many jobs have come as were answered, if other threads are busy."""
        end = time.monotonic() + seconds
        while self._free == 1 < self.threads and len(self._jobs) < jobs and not self._stopped:
            left = end - time.monotonic()
            if left <= 0:
                return
            self._wake.wait(left)

    def _next(self) -> Job | None:
        """Return the next job: the first one, but long and short ones take turns."""
        if not self._jobs or self._stopped:
            return None
        head, since = self._jobs[0], time.monotonic() - self._last_short
        if not head.is_long or since >= LATELY:
            return head
        short = next((job for job in self._jobs if not job.is_long), None)
        if short is not None and self._last_was_long:
            return short
        if since < JUST_NOW and 0 < self.threads - 1 <= self._long_running:
            return short
        return head

    def _take(self, first: Job) -> list[tuple[Job, list[int]]]:
        """Form a batch: a job, and others with the same key, in turn."""
        shared = time.monotonic() - self._last_short < LATELY
        same = [
            job
            for job in self._jobs
            if job.key == first.key and not (shared and job.is_long != first.is_long)
        ]
        # Share the waiting items among the free threads, including this one.
        everything = sum(job.waiting for job in same)
        budget = min(BUDGET, max(SLICE, -(-everything // self._free)))
        if shared and first.is_long:
            budget = SLICE
        share = max(budget // len(same), SLICE)
        batch: list[tuple[Job, list[int]]] = []
        for job in [first, *(job for job in same if job is not first)]:
            if batch and job.next_cost > budget:
                continue
            before = job.waiting
            places = job.take(min(budget, share))
            budget -= before - job.waiting
            self._waiting -= before - job.waiting
            batch.append((job, places))
        for job, _ in batch:
            self._jobs.remove(job)
            if job.taken < len(job.order):
                self._jobs.append(job)  # its next turn comes after the others
        return batch

    def _run(self, batch: Sequence[tuple[Job, list[int]]]) -> None:
        work = batch[0][0].work
        items = [job.items[place] for job, places in batch for place in places]
        begin = time.perf_counter()
        try:
            results: Sequence[Any] = work.run(items)
        except BaseException as error:
            if len(batch) > 1:  # one request caused the error: answer the others
                for part in batch:
                    self._run([part])
                return
            _call(batch[0][0], _fail, batch[0][0], error)
            return
        seconds = time.perf_counter() - begin
        tokens = sum(job.costs[place] for job, places in batch for place in places)
        self._rate += 0.1 * (self.threads * tokens / max(seconds, 1e-6) - self._rate)
        if self.on_batch is not None:
            self.on_batch(len(items), tokens, seconds)
        at = 0
        complete = []
        for job, places in batch:
            for place in places:
                job.results[place] = results[at]
                at += 1
            with self._wake:  # several threads may finish slices of one job at the same time
                job.missing -= len(places)
                job.run_seconds += seconds
                if not job.missing:
                    complete.append(job)
        if complete:
            _call(complete[0], _finish, complete)


def _call(job: Job, function: Any, *arguments: Any) -> None:  # noqa: ANN401
    try:
        job.future.get_loop().call_soon_threadsafe(function, *arguments)
    except RuntimeError:  # the loop is closed: no client is waiting
        pass


def _finish(jobs: Sequence[Job]) -> None:
    for job in jobs:
        if not job.future.done():
            job.future.set_result(job.results)


def _fail(job: Job, error: BaseException) -> None:
    if not job.future.done():
        job.future.set_exception(error)
