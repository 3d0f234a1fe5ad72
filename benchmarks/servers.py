"""Start the servers of a benchmark, load them with wrk, and measure their CPU time."""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import harness

LUA = """
local requests, place, bodies = {}, 0, {}
function init(args)
  local form = args[2] == "form" and "application/x-www-form-urlencoded" or "application/json"
  for line in io.lines(args[1]) do
    table.insert(requests, wrk.format("POST", nil, {["Content-Type"] = form}, line))
  end
end
function request()
  place = place % #requests + 1
  return requests[place]
end
function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format("RESULT %d %d %f %f %f %d %d\\n", summary.requests, summary.duration,
    latency:percentile(5), latency:percentile(50), latency:percentile(99), e.status,
    e.connect + e.read + e.write + e.timeout))
end
"""
QUICK = os.environ | {"HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1",
                      "INFINITY_ANONYMOUS_USAGE_STATS": "0"}  # fmt: skip


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextmanager
def running(command: Sequence[str], ready: str, *, cwd: Path | None = None) -> Iterator[int]:
    """Run a server, wait until it answers, and yield its process id."""
    process = subprocess.Popen(
        command, env=QUICK, cwd=cwd, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 300
        while True:
            try:
                with urllib.request.urlopen(ready, timeout=5):
                    break
            except OSError as error:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit(f"{command[0]}: did not start") from error
                time.sleep(0.01)
        yield process.pid
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)


@contextmanager
def ours(*arguments: str | Path) -> Iterator[tuple[str, int]]:
    port = free_port()
    program = [sys.executable, "-c", "from mirror_rt_cli.app import main; main()", "serve"]
    command = [*program, "--port", str(port), "--log-level", "warning", *map(str, arguments)]
    with running(command, f"http://127.0.0.1:{port}/ready") as pid:
        yield f"http://127.0.0.1:{port}", pid


@contextmanager
def infinity(program: Path, bundle: Path) -> Iterator[tuple[str, int]]:
    """Run infinity with the same graph and its default batching."""
    port = free_port()
    command = [
        str(program), "v2", "--model-id", ".", "--served-model-name", "m",
        "--engine", "optimum", "--device", "cpu", "--pooling-method", "mean",
        "--onnx-disable-optimize", "--no-bettertransformer", "--batch-size", "32",
        "--host", "127.0.0.1", "--port", str(port), "--url-prefix", "/v1",
        "--log-level", "warning",
    ]  # fmt: skip
    # In the folder: it uses the given path as the name of a file in it.
    with running(command, f"http://127.0.0.1:{port}/health", cwd=bundle) as pid:
        yield f"http://127.0.0.1:{port}", pid


def load(
    url: str,
    bodies: Sequence[str],
    *,
    connections: int,
    seconds: int,
    form: bool = False,
    pid: int | None = None,
) -> dict[str, Any]:
    """Load an address with wrk, with all bodies in rotation.

    The CPU time of the server per request does not depend on other work of the machine, unlike the
    other numbers. It includes requests that were unfinished at the end and are not counted, so it
    is too high if there are few requests.
    """
    taken = 0.0 if pid is None else cpu_seconds(pid)
    with tempfile.TemporaryDirectory() as folder:
        script, file = Path(folder) / "load.lua", Path(folder) / "bodies"
        script.write_text(LUA)
        file.write_text("\n".join(bodies) + "\n")
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        begin = time.perf_counter()
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "60s"]
        done = subprocess.run(
            [*command, "-s", str(script), url, "--", str(file), "form" if form else "json"],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        wall = time.perf_counter() - begin
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("RESULT")]
    count, micro, p05, p50, p99, refused, broken = map(float, line.split()[1:])
    taken = 0.0 if pid is None else cpu_seconds(pid) - taken
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {
        "requests_per_second": round(count / micro * 1e6, 1),
        "p05_ms": round(p05 / 1e3, 3),
        "p50_ms": round(p50 / 1e3, 3),
        "p99_ms": round(p99 / 1e3, 3),
        "server_cpu_ms": round(1e3 * taken / max(count, 1.0), 3),
        "refused": int(refused),
        "broken": int(broken),
        "client_cpu": round(cpu / wall, 3),
    }


def cpu_seconds(pid: int) -> float:
    """Return the processor time of a process and of its running children."""
    stats = [Path(f"/proc/{one}/stat").read_text() for one in with_children(pid)]
    fields = [stat.rpartition(")")[2].split() for stat in stats]
    return sum(int(mine[11]) + int(mine[12]) for mine in fields) / os.sysconf("SC_CLK_TCK")


def with_children(pid: int) -> Iterator[int]:
    yield pid
    for file in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in file.read_text().split():
            yield from with_children(int(child))


def embeddings(texts: Sequence[str], *, size: int, form: str | None = None) -> list[str]:
    """Return requests with ``size`` names each."""
    more = {"encoding_format": form} if form else {}
    groups = [texts[i : i + size] for i in range(0, len(texts) - size + 1, size)]
    return [
        json.dumps({"model": "m", "input": group if size > 1 else group[0], **more})
        for group in groups
    ]


def medians(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {
        name: harness.spread([row[name] for row in rows])
        if isinstance(rows[0][name], float)
        else max(row[name] for row in rows)
        for name in rows[0]
    }


def resident_mb(pid: int) -> float:
    """Return the resident memory of a process and its children, with mapped files in each."""
    pages = [int(Path(f"/proc/{p}/statm").read_text().split()[1]) for p in with_children(pid)]
    return round(sum(pages) * os.sysconf("SC_PAGE_SIZE") / 2**20, 1)
