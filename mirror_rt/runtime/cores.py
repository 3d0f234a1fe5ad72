"""Count the cores and the memory this process may use: by container too, not by the machine."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path

__all__ = ["available_cpus", "available_memory"]

_SUPPOSED_MEMORY = 8 << 30
"""Where a system does not say how much there is."""


def available_cpus(*, root: Path = Path("/")) -> int:
    """Return how many threads can run at once here, at least 1.

    The smaller of the CPU affinity (taskset, cpusets) and the CPU quota of the control group
    and its parents (docker ``--cpus``, Kubernetes limits), rounded up.

    Args:
        root: Where ``proc`` and ``sys`` are; the tests give another.
    """
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    quota = min(_cgroup_limits(root, "cpu", _quota_v2, _quota_v1), default=math.inf)
    return max(1, math.ceil(min(cores, quota)))


def available_memory(*, root: Path = Path("/")) -> int:
    """Return how many bytes can be taken here without anything being pushed out.

    The smaller of what the system has available and what the control group and its parents
    leave, each without file caches that give way. Systems that do not say are taken to have
    half of their memory available, or 8 GiB.

    Args:
        root: Where ``proc`` and ``sys`` are; the tests give another.
    """
    try:
        lines = (root / "proc/meminfo").read_text().splitlines()
        found = {name: int(rest.split()[0]) for name, _, rest in (x.partition(":") for x in lines)}
        there = found["MemAvailable"] << 10
    except (OSError, ValueError, KeyError, IndexError):
        try:
            there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
        except (AttributeError, ValueError, OSError):
            there = _SUPPOSED_MEMORY
    return max(0, int(min([there, *_cgroup_limits(root, "memory", _memory_v2, _memory_v1)])))


def _cgroup_limits(
    root: Path,
    controller: str,
    read_v2: Callable[[Path], float | None],
    read_v1: Callable[[Path], float | None],
) -> list[float]:
    """Return what a control group and its parents allow, of version 2 or 1."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    limits: list[float] = []
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        if not controllers:
            base, read = root / "sys/fs/cgroup", read_v2
        elif controller in controllers.split(","):
            base, read = root / "sys/fs/cgroup" / controller, read_v1
        else:
            continue
        # In a container the path is often that of the host and not there: the base is.
        folder = base / group.lstrip("/")
        for each in [folder, *folder.parents]:
            limit = read(each)
            if limit is not None:
                limits.append(limit)
            if each == base:
                break
    return limits


def _quota_v2(folder: Path) -> float | None:
    try:
        allowed, period = (folder / "cpu.max").read_text().split()
        return int(allowed) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None


def _quota_v1(folder: Path) -> float | None:
    try:
        allowed = int((folder / "cpu.cfs_quota_us").read_text())
        period = int((folder / "cpu.cfs_period_us").read_text())
        return allowed / period if allowed > 0 else None
    except (OSError, ValueError, ZeroDivisionError):
        return None


def _memory_v2(folder: Path) -> float | None:
    return _memory_left(folder, "memory.max", "memory.current", "inactive_file")


def _memory_v1(folder: Path) -> float | None:
    names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
    return _memory_left(folder, *names)


def _memory_left(folder: Path, limit: str, used: str, caches: str) -> float | None:
    try:
        allowed = int((folder / limit).read_text())
        taken = int((folder / used).read_text())
        statistics = (folder / "memory.stat").read_text().split()
        return allowed - taken + int(statistics[statistics.index(caches) + 1])
    except (OSError, ValueError, IndexError):
        return None
