"""Count the cores this process may use: by affinity and by container quota, not by the machine."""

from __future__ import annotations

import math
import os
from pathlib import Path

__all__ = ["usable_cores"]


def usable_cores(*, root: Path = Path("/")) -> int:
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
    quota = _cgroup_quota(root)
    return max(1, cores if quota is None else min(cores, math.ceil(quota)))


def _cgroup_quota(root: Path) -> float | None:
    """Return the tightest CPU quota in cores, of control groups version 2 or 1."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return None
    quotas: list[float] = []
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        if not controllers:
            base, read = root / "sys/fs/cgroup", _quota_v2
        elif "cpu" in controllers.split(","):
            base, read = root / "sys/fs/cgroup/cpu", _quota_v1
        else:
            continue
        # In a container the path is often that of the host and not there: the base is.
        folder = base / group.lstrip("/")
        for each in [folder, *folder.parents]:
            quota = read(each)
            if quota is not None:
                quotas.append(quota)
            if each == base:
                break
    return min(quotas, default=None)


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
