"""Pack texts of similar length into batches, and run batches on threads.

Axes: N texts, B texts of a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias, TypeVar

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from mirror_rt.types import Float32, Int64

__all__ = ["CALL", "Prepared", "Progress", "Rows", "pack", "thread_map"]

Progress = Callable[[int, int], None]
"""Called with (texts, tokens) done since the last call, from the calling thread."""

Rows: TypeAlias = "Int64 | slice"

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """Tokenized texts, in batches.

    Attributes:
        batches: Row numbers of each batch, (B,) int64, or a slice; every row in exactly one.
        lengths_N: (N,) int64, tokens or characters of each text.
        truncated: How many texts were cut off.
        run: Returns the (B, D) float32 unit rows of a batch.
        unfamiliar_N: (N,) bool, texts most of whose features a static encoder does not know;
            set by ``run``. None for other encoders.
    """

    batches: Sequence[Rows]
    lengths_N: Int64
    truncated: int
    run: Callable[[Rows], Float32]
    unfamiliar_N: npt.NDArray[np.bool_] | None = None

    @property
    def unfamiliar(self) -> int:
        """How many texts are unfamiliar, after all batches have run."""
        return 0 if self.unfamiliar_N is None else int(self.unfamiliar_N.sum())


CALL = 14
"""The fixed cost of a batch, in tokens: its weights are read from memory."""


def pack(lengths_N: Int64, *, tokens: int) -> list[Int64]:
    """Split texts into batches of similar length, longest first.

    The cost of a batch is ``CALL`` plus its places, padding included. The cuts with the lowest
    total cost are taken: many texts get almost no padding, and few texts are not split into a
    batch for each length. Longest first lets threads end together. The batches depend only on
    the lengths, not on the number of threads.

    Args:
        lengths_N: (N,) int64, tokens of each text.
        tokens: Budget of a batch: its rows × its longest length, padding included. A text
            longer than the budget gets its own batch.

    Returns:
        Row numbers of each batch, (B,) int64; every row in exactly one.

    >>> [rows.tolist() for rows in pack(np.array([30, 2, 9, 3, 8]), tokens=64)]
    [[0], [2, 4, 3, 1]]
    >>> [rows.tolist() for rows in pack(np.array([30, 2, 9, 3, 8]), tokens=18)]
    [[0], [2, 4], [3, 1]]
    """
    order_N = np.argsort(-lengths_N, kind="stable")
    distinct, counts = np.unique(lengths_N, return_counts=True)
    widths = distinct[::-1].tolist()
    ends = [0, *np.cumsum(counts[::-1]).tolist()]
    least, cuts = [0], [0]
    for last in range(1, len(ends)):  # the lowest cost of all texts before each end
        costs = []
        for first in range(last):
            rows, width = ends[last] - ends[first], widths[first]
            calls = -(-rows // max(1, tokens // width))
            costs.append(least[first] + calls * CALL + rows * width)
        least.append(min(costs))
        cuts.append(costs.index(least[-1]))
    batches: list[Int64] = []
    last = len(widths)
    while last:
        first = cuts[last]
        size = max(1, tokens // widths[first])
        starts = range(ends[first], ends[last], size)
        batches[:0] = [order_N[begin : min(begin + size, ends[last])] for begin in starts]
        last = first
    return batches


def thread_map(work: Callable[[T], R], items: Sequence[T], *, threads: int) -> Iterator[R]:
    """Yield ``work(item)`` in order, up to ``threads`` at a time; the first error stops all."""
    if threads == 1 or len(items) < 2:
        yield from map(work, items)
        return
    failed = len(items)

    def unless_stopped(at: int) -> R:
        # The consumer may not have reached the failed item yet, so the worker itself cancels
        # later items. Earlier items still run, so waiting for them always ends.
        nonlocal failed
        if at > failed:
            raise CancelledError
        try:
            return work(items[at])
        except BaseException:
            failed = min(failed, at)
            raise

    with ThreadPoolExecutor(min(threads, len(items)), thread_name_prefix="mirror-rt") as pool:
        futures = [pool.submit(unless_stopped, at) for at in range(len(items))]
        try:
            for future in futures:
                yield future.result()
        finally:
            # After an error or Ctrl-C: do not begin the rest.
            pool.shutdown(wait=False, cancel_futures=True)
