"""Count the cores that this process may use, with the limits of a container."""

from __future__ import annotations

import math
import os
from pathlib import Path

__all__ = ["available_cpus"]


def available_cpus(*, root: Path = Path("/")) -> int:
    """Return the number of threads that can run at the same time, at least 1.

    It is the smaller of the CPU affinity (taskset, cpusets) and the CPU quota of the control group
    and its parents (docker ``--cpus``, Kubernetes limits), rounded up.

    Args:
        root: The folder with ``proc`` and ``sys``.
    """
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    quota = min(_cgroup_quotas(root), default=math.inf)
    return max(1, math.ceil(min(cores, quota)))


def _cgroup_quotas(root: Path) -> list[float]:
    """Return the CPU quotas of a control group and its parents, of version 2 or 1."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
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
        # In a container the path is often that of the host and does not exist; the base does.
        folder = base / group.lstrip("/")
        for each in [folder, *folder.parents]:
            quota = read(each)
            if quota is not None:
                quotas.append(quota)
            if each == base:
                break
    return quotas


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
