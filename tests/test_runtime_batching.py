"""Packing batches, and running them in threads."""

from __future__ import annotations

import threading
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror_rt.runtime.batching import CALL, pack, thread_map

LENGTHS = st.lists(st.integers(1, 600), max_size=300)


@given(LENGTHS, st.integers(1, 2000))
def test_every_row_is_in_one_batch_and_no_batch_is_over_budget(
    lengths: list[int], tokens: int
) -> None:
    lengths_N = np.array(lengths, dtype=np.int64)
    batches = pack(lengths_N, tokens=tokens)
    assert sorted(row for rows in batches for row in rows) == list(range(len(lengths)))
    for rows in batches:
        assert len(rows) == 1 or len(rows) * lengths_N[rows].max() <= tokens


@given(LENGTHS)
def test_sorting_by_length_limits_the_padding(lengths: list[int]) -> None:
    lengths_N = np.array(lengths, dtype=np.int64)
    batches = pack(lengths_N, tokens=512)
    longest = [lengths_N[rows].max() for rows in batches]
    shortest = [lengths_N[rows].min() for rows in batches]
    assert all(a >= b for a, b in zip(shortest, longest[1:], strict=False))


@given(st.lists(st.integers(1, 60), min_size=1, max_size=9))
def test_no_other_cuts_cost_less(lengths: list[int]) -> None:
    ordered = sorted(lengths, reverse=True)

    def cost(ends: tuple[int, ...]) -> int:
        parts = zip((0, *ends), (*ends, len(ordered)), strict=True)
        return sum(CALL + (end - begin) * ordered[begin] for begin, end in parts)

    places = range(1, len(ordered))
    every = (cuts for count in range(len(ordered)) for cuts in combinations(places, count))
    batches = pack(np.array(lengths, dtype=np.int64), tokens=10_000)
    own = np.cumsum([len(rows) for rows in batches])[:-1]
    assert cost(tuple(own.tolist())) == min(cost(cuts) for cuts in every)


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_results_come_in_the_order_of_the_items(threads: int) -> None:
    assert list(thread_map(lambda x: x * x, range(50), threads=threads)) == [
        x * x for x in range(50)
    ]


def test_items_run_at_the_same_time() -> None:
    meeting = threading.Barrier(3, timeout=30)  # would fail if they ran one after another
    assert len(list(thread_map(lambda _: meeting.wait(), range(3), threads=3))) == 3


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_the_first_error_stops_the_rest(threads: int) -> None:
    begun: list[int] = []

    def work(item: int) -> None:
        begun.append(item)
        raise ValueError(f"item {item}")

    with pytest.raises(ValueError, match="item 0"):
        list(thread_map(work, range(10_000), threads=threads))
    assert len(begun) <= threads  # each may have started one before the first had failed


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_what_came_before_an_error_is_given_first(threads: int) -> None:
    def work(item: int) -> int:
        if item >= 20:
            raise ValueError(f"item {item}")
        return item

    results = thread_map(work, range(10_000), threads=threads)
    assert [next(results) for _ in range(20)] == list(range(20))
    with pytest.raises(ValueError, match="item 20"):
        next(results)
