"""Batches of many requests: which run together, in which order, and which are dropped."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Hashable, Sequence
from typing import Any

import pytest

from mirror_rt.serving import scheduler as schedulers
from mirror_rt.serving.errors import Refused
from mirror_rt.serving.scheduler import BUDGET, SLICE, Scheduler


class Held:
    """Doubles numbers; waits for a permit before each batch, and records its input."""

    def __init__(self, key: Hashable = "held") -> None:
        self.key = key
        self.batches: list[list[Any]] = []
        self.permits = threading.Semaphore(0)
        self.begun = threading.Semaphore(0)

    def run(self, items: Sequence[Any]) -> list[Any]:
        self.batches.append(list(items))
        self.begun.release()
        assert self.permits.acquire(timeout=30)
        if "fault" in items:
            raise ValueError("fault")
        return [2 * item for item in items]


def ones(items: Sequence[Any]) -> list[int]:
    return [1] * len(items)


def run(coroutine: Any) -> Any:  # noqa: ANN401
    return asyncio.run(asyncio.wait_for(coroutine, 60))


async def begun(work: Held) -> None:
    assert await asyncio.to_thread(work.begun.acquire, True, 30)


def test_what_comes_while_a_batch_runs_is_run_together() -> None:
    async def scenario() -> None:
        work = Held()
        scheduler = Scheduler(threads=1, most_waiting=10_000)
        first = scheduler.submit(work, [1], [1])
        await begun(work)  # nothing waited for other requests
        others = [scheduler.submit(work, [i, i + 100], [1, 1]) for i in range(2, 6)]
        work.permits.release(10)
        for job in (first, *others):
            await job.future
        assert work.batches[0] == [1]
        assert sorted(work.batches[1]) == sorted(i for job in others for i in job.items)
        assert [job.results for job in others] == [[2 * i, 2 * i + 200] for i in range(2, 6)]
        assert scheduler.waiting == 0
        scheduler.stop()

    run(scenario())


def test_different_work_is_never_run_together() -> None:
    async def scenario() -> None:
        one, other = Held("one"), Held("other")
        scheduler = Scheduler(threads=1, most_waiting=10_000)
        jobs = [scheduler.submit(one if i % 2 else other, [i], [1]) for i in range(9)]
        for work in (one, other):
            work.permits.release(20)
        await asyncio.gather(*(job.future for job in jobs))
        assert all(i % 2 for batch in one.batches for i in batch)
        assert not any(i % 2 for batch in other.batches for i in batch)
        scheduler.stop()

    run(scenario())


def test_a_short_request_waits_for_a_slice_of_a_long_one_not_for_all_of_it() -> None:
    async def scenario() -> None:
        work = Held()
        scheduler = Scheduler(threads=1, most_waiting=100_000)
        long = scheduler.submit(work, list(range(20_000)), ones(range(20_000)))
        await begun(work)
        short = scheduler.submit(work, [-1], [1])
        work.permits.release(1)
        await begun(work)
        assert len(work.batches[0]) <= BUDGET
        assert work.batches[1] == [-1]
        work.permits.release(1)
        await short.future
        await begun(work)
        assert len(work.batches[2]) <= SLICE  # of the long one, because another may arrive
        another = scheduler.submit(work, [-2], [1])
        work.permits.release(2)
        await another.future
        assert work.batches[3] == [-2]
        assert not long.future.done()
        work.permits.release(10_000)
        assert await long.future == [2 * i for i in range(20_000)]
        scheduler.stop()

    run(scenario())


def test_a_thread_is_kept_for_short_requests_and_used_when_none_come() -> None:
    async def scenario() -> None:
        work = Held()
        scheduler = Scheduler(threads=2, most_waiting=100_000)
        first = scheduler.submit(work, [-1], [1])
        await begun(work)
        size = 4 * BUDGET
        long = scheduler.submit(work, list(range(size)), ones(range(size)))
        await begun(work)  # one thread has a short request, the other a slice of the long one
        work.permits.release(1)
        while len(work.batches) < 3:  # both have it in the end, because no short one arrives
            await asyncio.to_thread(work.begun.acquire, True, 30)
        assert len(work.batches[1]) == SLICE
        work.permits.release(10_000)
        await first.future
        assert await long.future == [2 * i for i in range(size)]
        scheduler.stop()

    run(scenario())


def test_what_waits_is_left_to_no_thread_that_is_at_work() -> None:
    async def scenario() -> None:
        work = Held()
        scheduler = Scheduler(threads=2, most_waiting=100_000)
        for i in (1, 2):
            scheduler.submit(work, [i], [1])
            await begun(work)
        size = SLICE // 2
        jobs = [scheduler.submit(work, [i], [size]) for i in range(10, 16)]
        work.permits.release(1)
        await begun(work)
        assert sorted(work.batches[2]) == list(range(10, 16))
        work.permits.release(10)
        await asyncio.gather(*(job.future for job in jobs))
        scheduler.stop()

    run(scenario())


def test_clients_answered_together_may_ask_again_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedulers, "LINGER", 1e9)
    monkeypatch.setattr(schedulers, "MOST_LINGER", 30.0)

    async def scenario() -> None:
        work, other = Held(), Held("other")
        scheduler = Scheduler(threads=2, most_waiting=100_000)
        held = scheduler.submit(other, [0], [1])
        await begun(other)
        scheduler.submit(work, [1], [1])
        await begun(work)
        pair = [scheduler.submit(work, [i], [1]) for i in (2, 3)]
        work.permits.release(2)
        await asyncio.gather(*(job.future for job in pair))
        await begun(work)
        # The other thread is busy, this one has answered two: it waits for both.
        first = scheduler.submit(work, [4], [1])
        assert not await asyncio.to_thread(work.begun.acquire, True, 0.05)
        second = scheduler.submit(work, [5], [1])
        await begun(work)
        assert sorted(work.batches[-1]) == [4, 5]
        # A free thread takes new requests at once.
        other.permits.release(1)
        await held.future
        work.permits.release(1)
        await asyncio.gather(first.future, second.future)
        alone = scheduler.submit(work, [6], [1])
        await begun(work)
        work.permits.release(1)
        assert await alone.future == [12]
        scheduler.stop()

    run(scenario())


def test_long_requests_take_turns() -> None:
    async def scenario() -> None:
        work = Held()
        scheduler = Scheduler(threads=1, most_waiting=100_000)
        held = scheduler.submit(work, [-1], [1])
        await begun(work)
        size = 4 * BUDGET
        jobs = [scheduler.submit(work, [n] * size, ones(range(size))) for n in (1, 2, 3)]
        work.permits.release(10_000)
        await asyncio.gather(held.future, *(job.future for job in jobs))
        # Whenever one has had k items, none has had more than a batch more than the others.
        had = {1: 0, 2: 0, 3: 0}
        for batch in work.batches[1:]:
            for n in batch:
                had[n] += 1
            if min(had.values()) < size:
                assert max(had.values()) - min(had.values()) <= BUDGET
        scheduler.stop()

    run(scenario())


def test_the_results_of_slices_on_several_threads_are_in_order() -> None:
    class Double:
        key = "double"

        def run(self, items: Sequence[Any]) -> list[Any]:
            return [2 * item for item in items]

    async def scenario() -> None:
        scheduler = Scheduler(threads=4, most_waiting=10**9)
        work = Double()
        sizes = [1, 7, 5_000, 2, 900, 1, 1, 12_000]
        jobs = []
        for n, size in enumerate(sizes * 5):
            items = [(n << 20) + i for i in range(size)]
            jobs.append(scheduler.submit(work, items, [1 + i % 13 for i in range(size)]))
        for n, job in enumerate(jobs):
            assert await job.future == [2 * ((n << 20) + i) for i in range(len(job.items))]
        assert scheduler.waiting == 0
        assert scheduler.jobs == 0
        scheduler.stop()

    run(scenario())


def test_a_cancelled_request_leaves_the_queue_at_once() -> None:
    async def scenario() -> None:
        work = Held()
        scheduler = Scheduler(threads=1, most_waiting=100_000)
        first = scheduler.submit(work, [1], [1])
        await begun(work)
        gone = scheduler.submit(work, [7] * 5_000, ones(range(5_000)))
        kept = scheduler.submit(work, [3], [1])
        assert scheduler.waiting == 5_001
        scheduler.cancel(gone)
        assert scheduler.waiting == 1
        assert gone.future.cancelled()
        work.permits.release(10)
        await first.future
        await kept.future
        assert not any(7 in batch for batch in work.batches)
        scheduler.stop()

    run(scenario())


def test_a_full_queue_refuses_and_says_when_to_come_back() -> None:
    async def scenario() -> None:
        work = Held()
        scheduler = Scheduler(threads=1, most_waiting=100)
        first = scheduler.submit(work, [1], [1])
        await begun(work)
        fits = scheduler.submit(work, [2] * 100, ones(range(100)))
        with pytest.raises(Refused) as refused:
            scheduler.submit(work, [3], [1])
        assert refused.value.status == 429
        assert 1 <= (refused.value.retry_after or 0) <= 30
        work.permits.release(100)
        await first.future
        await fits.future
        again = scheduler.submit(work, [4], [1])  # there is space again
        assert await again.future == [8]
        # A request longer than the queue is accepted when it is alone.
        alone = scheduler.submit(work, [5] * 500, ones(range(500)))
        assert await alone.future == [10] * 500
        scheduler.stop()
        with pytest.raises(Refused) as stopped:
            scheduler.submit(work, [1], [1])
        assert stopped.value.status == 503

    run(scenario())


def test_an_error_reaches_only_the_request_that_caused_it() -> None:
    async def scenario() -> None:
        work = Held()
        scheduler = Scheduler(threads=1, most_waiting=1_000)
        first = scheduler.submit(work, [1], [1])
        await begun(work)
        good, bad, fine = (scheduler.submit(work, [item], [1]) for item in (1, "fault", 3))
        work.permits.release(100)
        await first.future
        assert (await good.future, await fine.future) == ([2], [6])
        with pytest.raises(ValueError, match="fault"):
            await bad.future
        scheduler.stop()

    run(scenario())
