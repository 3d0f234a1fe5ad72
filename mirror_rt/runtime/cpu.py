"""Detect how the CPU multiplies 8-bit integers, and which quantized graphs are safe on it."""

from __future__ import annotations

import platform
from enum import Enum
from pathlib import Path

__all__ = ["Target", "detect_cpu", "int8_cannot_saturate"]


class Target(Enum):
    """The CPU that a bundle is made for."""

    AVX2 = "avx2"
    AVX512 = "avx512"
    AVX512_VNNI = "avx512_vnni"
    ARM64 = "arm64"


def detect_cpu(*, root: Path = Path("/"), machine: str | None = None) -> Target:
    """Return the target of this machine, or the safest one if it is not known.

    Args:
        root: The folder with ``proc``; tests pass another one.
        machine: The architecture; by default this machine's.
    """
    machine = (machine or platform.machine()).lower()
    if machine in {"arm64", "aarch64"}:
        return Target.ARM64
    try:
        cpuinfo = (root / "proc/cpuinfo").read_text()
    except OSError:
        return Target.AVX2
    flags = {
        flag
        for line in cpuinfo.splitlines()
        if line.startswith("flags")
        for flag in line.partition(":")[2].split()
    }
    if flags & {"avx512_vnni", "avx_vnni"}:
        return Target.AVX512_VNNI  # AVX-VNNI adds in 32 bits as well, only half as wide
    return Target.AVX512 if "avx512f" in flags else Target.AVX2


def int8_cannot_saturate(target: Target) -> bool:
    """Return whether unsigned × signed 8-bit products are added without saturation.

    Without VNNI, x86 adds two products of 8-bit integers in 16 bits (VPMADDUBSW). That can
    overflow silently; with weights of 7 bits (``reduce_range``) it cannot.
    """
    match target:
        case Target.AVX512_VNNI | Target.ARM64:
            return True
        case Target.AVX2 | Target.AVX512:
            return False
