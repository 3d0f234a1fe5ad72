"""Counting the cores and the memory that a process may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mirror_rt.runtime.cores import available_cpus, available_memory


@pytest.fixture
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({}, 8),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"}, 8),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "250000 100000\n"}, 3),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "10000 100000\n"}, 1),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "1600000 100000\n"}, 8),
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/cpu.max": "200000 100000\n"}, 2),
        ({"proc/self/cgroup": "0::/of/the/host\n", "sys/fs/cgroup/cpu.max": "400000 100000"}, 4),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "what is this\n"}, 8),
        (
            {
                "proc/self/cgroup": "12:memory:/\n4:cpu,cpuacct:/x\n",
                "sys/fs/cgroup/cpu/x/cpu.cfs_quota_us": "300000\n",
                "sys/fs/cgroup/cpu/x/cpu.cfs_period_us": "100000\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            3,
        ),
    ],
)
@pytest.mark.usefixtures("eight_cores")
def test_the_tightest_of_affinity_and_quota_counts(
    tmp_path: Path, files: dict[str, str], cores: int
) -> None:
    assert available_cpus(root=write(tmp_path, files)) == cores


MEMINFO = {"proc/meminfo": "MemTotal:  9000 kB\nMemAvailable:  1000 kB\nHugePages_Total: 0\n"}


@pytest.mark.parametrize(
    ("files", "kib"),
    [
        ({}, 1_000),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "max\n"}, 1_000),
        (
            {
                "proc/self/cgroup": "0::/a\n",
                "sys/fs/cgroup/a/memory.max": f"{800 << 10}\n",
                "sys/fs/cgroup/a/memory.current": f"{700 << 10}\n",
                "sys/fs/cgroup/a/memory.stat": f"anon 5\ninactive_file {300 << 10}\n",
            },
            400,
        ),
        (
            {
                "proc/self/cgroup": "12:memory:/\n4:cpu,cpuacct:/x\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{800 << 10}\n",
                "sys/fs/cgroup/memory/memory.usage_in_bytes": f"{900 << 10}\n",
                "sys/fs/cgroup/memory/memory.stat": "total_inactive_file 0\n",
            },
            0,
        ),
    ],
)
def test_memory_is_what_the_system_and_the_container_leave(
    tmp_path: Path, files: dict[str, str], kib: int
) -> None:
    assert available_memory(root=write(tmp_path, MEMINFO | files)) == kib << 10


def test_a_system_that_does_not_say_has_some_memory(tmp_path: Path) -> None:
    assert available_memory(root=tmp_path) > 1 << 20
