"""Shared by all benchmarks: the card of the machine, interleaved rounds, the final record."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any

PACKAGES = (
    "mirror-rt", "onnxruntime", "tokenizers", "numpy", "fastembed", "sentence-transformers",
    "torch", "transformers", "optimum-onnx", "ctranslate2", "openvino", "nncf",
)  # fmt: skip
FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_bf16", "amx_int8",
         "asimddp")  # fmt: skip
HERE = Path(__file__).resolve().parent


def pin(cores: int) -> None:
    """Restrict this process, its threads and its children to the first ``cores`` cores."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    os.environ["OMP_NUM_THREADS"] = str(cores)
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    os.environ["TOKENIZERS_PARALLELISM"] = "true"
    os.environ["HF_HUB_OFFLINE"] = "1"


def machine() -> dict[str, Any]:
    """Return the card of the machine."""
    cpu = _proc("/proc/cpuinfo")
    memory = int(_proc("/proc/meminfo").get("MemTotal", "0 kB").split()[0])
    present = set(cpu.get("flags", cpu.get("Features", "")).split())
    return {
        "cpu": cpu.get("model name", platform.processor() or platform.machine()),
        "flags": [flag for flag in FLAGS if flag in present],
        "cores": os.cpu_count(),
        "ram_gib": round(memory / 2**20, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }


def provenance(name: str, packages: Sequence[str] = PACKAGES) -> dict[str, Any]:
    """Return the origin of a result: date, commit, command, versions of installed packages."""
    return {
        "name": name,
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "commit": _COMMIT,
        "command": shlex.join(["python", f"benchmarks/{name}.py", *map(_shown, sys.argv[1:])]),
        "machine": machine(),
        "versions": {package: v for package in packages if (v := _version(package))},
    }


def _shown(word: str) -> str:
    """Return a word of a command line, with a local folder replaced."""
    option, equals, value = word.rpartition("=")
    outside = Path(value).is_absolute() or value.startswith("..")
    return f"{option}{equals}DIR" if outside else word


def record(name: str, args: argparse.Namespace, results: Mapping[str, Any]) -> dict[str, Any]:
    """Return the whole record of a benchmark: the results and their origin."""
    return provenance(name) | {"load_before": getattr(args, "load_before", None), **results}


def peak_mb(process: int | str = "self") -> float:
    """Return the largest resident memory of this process, or of another, so far, in MB.

    getrusage is not used, because a process inherits its peak from its parent.
    """
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("this system does not say how much memory a process took")


def resident_mb() -> dict[str, float]:
    """Return the resident memory of this process in MB, with and without mapped files."""
    values = {"Rss": 0.0, "Anonymous": 0.0}
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines():
        name, _, rest = line.partition(":")
        if name in values:
            values[name] = int(rest.split()[0]) / 1024
    return {"whole": round(values["Rss"]), "not_mapped": round(values["Anonymous"])}


def finish(content: Mapping[str, Any], out: Path | None) -> None:
    """Print the record as the last line, and write it to the given file."""
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(content))


def say(words: str) -> None:
    """Print the progress on standard error."""
    print(words, file=sys.stderr, flush=True)


def interleaved(
    ways: Mapping[str, Callable[[], object]], *, repeats: int, pause: float = 0.5
) -> dict[str, list[float]]:
    """Time all methods interleaved, so that a slow minute of the machine affects them equally."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(repeats):
        for name, way in ways.items():
            time.sleep(pause)  # spinning threads of the method before go to sleep
            begin = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - begin)
            say(f"turn {turn + 1}/{repeats}  {name:40s} {seconds[name][-1]:8.2f} s")
    return seconds


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return the median, the lowest and the highest value."""
    return {
        "median": round(median(values), 4),
        "least": round(min(values), 4),
        "most": round(max(values), 4),
    }


def percentile(values: Iterable[float], share: float) -> float:
    """Return the value below which ``share`` of the values are."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def common(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Add the options of every benchmark, and parse the command line."""
    parser.add_argument("--out", type=Path, help="where to write the record, JSON")
    parser.add_argument("--small", action="store_true", help="a minute, to see that it runs")
    args = parser.parse_args()
    args.load_before = round(os.getloadavg()[0], 2)
    return args


def _proc(path: str) -> dict[str, str]:
    try:
        text = Path(path).read_text(encoding="utf-8", errors="replace").split("\n\n")[0]
    except OSError:
        return {}
    pairs = (line.split(":", 1) for line in text.splitlines() if ":" in line)
    return {key.strip(): value.strip() for key, value in pairs}


def _commit() -> str:
    git = ["git", "-C", str(HERE), "rev-parse", "--short", "HEAD"]
    done = subprocess.run(git, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


_COMMIT = _commit()
"""Of the code that runs; hours later, when the record is written, there may be another."""


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
