"""How an encoder shares the cores between its runs, and what was measured to be best."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import onnxruntime

from mirror_rt.bundle import Bundle

__all__ = ["Schedule", "candidates", "fastest", "recall", "remember"]

CLEARLY = 1.05
"""How much faster than the default another schedule must be: less is noise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """A division of the cores.

    Attributes:
        workers: Batches that run at once.
        width: Threads inside each run (onnxruntime's intra-op threads).
    """

    workers: int
    width: int = 1


def candidates(threads: int) -> list[Schedule]:
    """Return the divisions of ``threads`` cores worth measuring, the default first.

    >>> [(s.workers, s.width) for s in candidates(6)]
    [(6, 1), (3, 2), (1, 6)]
    """
    widths = dict.fromkeys([1, 2, 4, threads])
    return [
        Schedule(workers=threads // width, width=width) for width in widths if threads % width == 0
    ]


def fastest(
    schedules: Sequence[Schedule],
    work: Callable[[Schedule], object],
    *,
    seconds: float,
    clock: Callable[[], float] = time.perf_counter,
) -> Schedule:
    """Return the schedule that does ``work`` fastest, in turns until the time is up.

    The first schedule is the default: another must be clearly faster, and one that was never
    measured does not count.
    """
    begin = clock()
    taken: dict[Schedule, list[float]] = {schedule: [] for schedule in schedules}
    while True:
        for schedule in schedules:
            before = clock()
            work(schedule)
            after = clock()
            taken[schedule].append(after - before)
            # Stop where another turn like this one would go over the time.
            if after - begin + (after - before) > seconds:
                measured = {s: median(times) for s, times in taken.items() if times}
                best = min(measured, key=lambda s: measured[s])
                default = schedules[0]
                return best if measured[default] > CLEARLY * measured[best] else default


def remember(bundle: Bundle, threads: int, schedule: Schedule) -> None:
    """Keep a measured schedule for this CPU and bundle; not being able to is no fault."""
    path = _cache_file(bundle, threads)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as handle:
            json.dump(asdict(schedule), handle)
        os.replace(handle.name, path)
    except OSError:
        return


def recall(bundle: Bundle, threads: int) -> Schedule:
    """Return the schedule measured before, or the default: a core for each run."""
    default = Schedule(workers=threads)
    try:
        kept = Schedule(**json.loads(_cache_file(bundle, threads).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return default
    return kept if kept in candidates(threads) else default


def _cache_file(bundle: Bundle, threads: int) -> Path:
    """Return where the schedule of this CPU, bundle and number of threads is kept."""
    key = f"{_cpu()}|{threads}|{bundle.fingerprint}|{onnxruntime.__version__}"
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    name = hashlib.sha256(key.encode()).hexdigest()[:24]
    return Path(home) / "mirror-rt" / f"schedule-{name}.json"


def _cpu() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as lines:
            names = (line.split(":", 1)[1].strip() for line in lines if "model name" in line)
            return next(names, platform.machine())
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
