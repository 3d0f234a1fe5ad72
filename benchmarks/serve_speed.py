"""A server's speed: single names, batches, links, reconciliation, fairness, overload, start.

python benchmarks/serve_speed.py --bundle INT8 --bundle32 FP32 --kb KB --questions FILE \
    --infinity VENV/bin/infinity_emb --csv-reconcile VENV/bin/csv-reconcile --table FILE \
    --big-kb KB --out benchmarks/results/serve_speed.json

The load is wrk's (Debian), whose own share of the CPU is told; overload is a client of ours that
checks every answer. Servers take turns on the same cores and are never loaded at once. Peers are
left out where they are not given: infinity_emb and csv-reconcile live in environments of their
own.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import harness
from encode_speed import names

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
    """Run a server until it answers; yields its process id."""
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
    """The same graph behind infinity, set to batch as it does by default."""
    port = free_port()
    command = [
        str(program), "v2", "--model-id", ".", "--served-model-name", "m",
        "--engine", "optimum", "--device", "cpu", "--pooling-method", "mean",
        "--onnx-disable-optimize", "--no-bettertransformer", "--batch-size", "32",
        "--host", "127.0.0.1", "--port", str(port), "--url-prefix", "/v1",
        "--log-level", "warning",
    ]  # fmt: skip
    # From within the folder: it passes on the path that it finds as the name of a file in it.
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
    """Load an address with wrk, with the bodies in turn.

    The processor's time that the server took for a request does not depend on what else the
    machine does, as the other numbers do.
    """
    taken = 0.0 if pid is None else _cpu_seconds(pid)
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
    taken = 0.0 if pid is None else _cpu_seconds(pid) - taken
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


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def embeddings(texts: Sequence[str], *, size: int, form: str | None = None) -> list[str]:
    """Return requests of so many names each."""
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


# Stages


def same_graph(args: argparse.Namespace) -> dict[str, Any]:
    """The same fp32 graph in both servers."""
    texts = names(20_000)
    loads = {
        "single names, 1 connection": (embeddings(texts[:4_000], size=1), 1),
        "single names, 32 connections": (embeddings(texts[:8_000], size=1), 32),
        "32 names, 4 connections": (embeddings(texts, size=32), 4),
        "32 names, base64, 4 connections": (embeddings(texts, size=32, form="base64"), 4),
    }
    servers = {"mirror-rt": lambda: ours("--bundle", f"m={args.bundle32}")}
    if args.infinity:
        servers["infinity_emb"] = lambda: infinity(args.infinity, args.bundle32)
    found: dict[str, dict[str, list[dict[str, Any]]]] = {
        name: {what: [] for what in loads} for name in servers
    }
    vectors = {}
    for turn in range(args.turns):
        for name in list(servers) if turn % 2 == 0 else list(servers)[::-1]:
            with servers[name]() as (url, pid):
                address = f"{url}/v1/embeddings"
                vectors[name] = _vectors(address, texts[:64])
                load(address, loads["single names, 32 connections"][0], connections=8, seconds=2)
                for what, (bodies, connections) in loads.items():
                    row = load(
                        address, bodies, connections=connections, seconds=args.seconds, pid=pid
                    )
                    row["peak_mb"] = harness.peak_mb(pid)
                    harness.say(f"{name}, {what}: {row}")
                    found[name][what].append(row)
    result: dict[str, Any] = {
        name: {what: medians(rows) for what, rows in of.items()} for name, of in found.items()
    }
    if "infinity_emb" in vectors:
        pairs = zip(vectors["mirror-rt"], vectors["infinity_emb"], strict=True)
        result["least_cosine"] = round(min(float(a @ b) for a, b in pairs), 6)
    return result


def _vectors(address: str, texts: Sequence[str]) -> Any:  # noqa: ANN401
    import numpy as np

    body = json.dumps({"model": "m", "input": list(texts)}).encode()
    request = urllib.request.Request(address, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as answer:
        rows = np.array([row["embedding"] for row in json.load(answer)["data"]])
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def batches(args: argparse.Namespace) -> dict[str, Any]:
    """Requests of 32 names against the encoder itself."""
    from mirror_rt.runtime import Encoder

    texts = names(20_000)
    bodies = embeddings(texts, size=32, form="base64")
    encoder = Encoder.open(args.bundle, threads=args.threads)
    encoder.encode(texts[:512])
    alone, served = [], []
    with ours("--bundle", f"m={args.bundle}", "--threads", str(args.threads)) as (url, _):
        load(f"{url}/v1/embeddings", bodies, connections=4, seconds=2)
        for _ in range(args.turns):
            begin = time.perf_counter()
            encoder.encode(texts[:8_000])
            alone.append(8_000 / (time.perf_counter() - begin))
            row = load(f"{url}/v1/embeddings", bodies, connections=8, seconds=args.seconds)
            served.append(32 * row["requests_per_second"])
            harness.say(f"encode {alone[-1]:.0f}, served {served[-1]:.0f} strings/s")
    shares = [s / a for s, a in zip(served, alone, strict=True)]
    return {
        "encoder_strings_per_second": harness.spread(alone),
        "served_strings_per_second": harness.spread(served),
        "share": harness.spread(shares),
    }


def links(args: argparse.Namespace) -> dict[str, Any]:
    """Links against the library itself: misspelt names, and exact ones."""
    from mirror_rt.knowledge import KnowledgeBase

    asked = _questions(args)
    exact = _exact_names(args, 2_000)
    bodies = [json.dumps({"mentions": [mention]}) for mention in asked]
    exactly = [json.dumps({"mentions": [mention]}) for mention in exact]
    measured = ("library", "served", "exact", "exact_one", "library_exact_p05_ms",
                "library_exact_p50_ms")  # fmt: skip
    result: dict[str, list[Any]] = {name: [] for name in measured}
    with KnowledgeBase.open(args.kb) as kb, ours("--kb", f"kb={args.kb}") as (url, pid):
        kb.link(asked[:64])
        load(f"{url}/link", bodies, connections=8, seconds=2)
        for _ in range(args.turns):
            begin, done = time.perf_counter(), 0
            while time.perf_counter() - begin < args.seconds:
                done += len(kb.link(asked[:512]))
            result["library"].append(done / (time.perf_counter() - begin))
            result["served"].append(
                load(f"{url}/link", bodies, connections=32, seconds=args.seconds, pid=pid)
            )
            result["exact"].append(
                load(f"{url}/link", exactly, connections=32, seconds=args.seconds, pid=pid)
            )
            result["exact_one"].append(
                load(f"{url}/link", exactly, connections=1, seconds=3, pid=pid)
            )
            taken = []
            for mention in exact[:1_000]:
                begin = time.perf_counter()
                kb.link([mention])
                taken.append(time.perf_counter() - begin)
            result["library_exact_p05_ms"].append(1e3 * harness.percentile(taken, 0.05))
            result["library_exact_p50_ms"].append(1e3 * harness.percentile(taken, 0.5))
            harness.say(str({name: rows[-1] for name, rows in result.items()}))
    rates = [row["requests_per_second"] for row in result["served"]]
    shares = [r / own for r, own in zip(rates, result["library"], strict=True)]
    least, overhead = (
        [
            row[f"{share}_ms"] - own
            for row, own in zip(
                result["exact_one"], result[f"library_exact_{share}_ms"], strict=True
            )
        ]
        for share in ("p05", "p50")
    )
    return {
        "names": kb.manifest.counts["texts"],
        "library_mentions_per_second": harness.spread(result["library"]),
        "served, 32 connections": medians(result["served"]),
        "share": harness.spread(shares),
        "exact, 32 connections": medians(result["exact"]),
        "exact, 1 connection": medians(result["exact_one"]),
        "overhead_p05_ms": harness.spread(least),
        "overhead_p50_ms": harness.spread(overhead),
    }


def _questions(args: argparse.Namespace) -> list[str]:
    parts = json.loads(args.questions.read_text())
    return [mention for part in parts for mention, _ in part]


def _exact_names(args: argparse.Namespace, count: int) -> list[str]:
    from mirror_rt.knowledge import KnowledgeBase

    with KnowledgeBase.open(args.kb) as kb:
        texts = kb.resources.catalogue.texts(start=0, stop=20_000)
    return random.Random(0).sample(texts, count)


def reconcile(args: argparse.Namespace) -> dict[str, Any]:
    """Batches of 50 misspelt names; the share whose first candidate is right."""
    parts = json.loads(args.questions.read_text())
    asked = [(mention, id_) for mention, id_ in parts[0]]  # the misspelt ones
    result: dict[str, Any] = {}

    def batches_of(pairs: Sequence[tuple[str, str]]) -> list[str]:
        groups = [pairs[i : i + 50] for i in range(0, len(pairs) - 49, 50)]
        return [
            "queries="
            + quote_plus(json.dumps({f"q{i}": {"query": m} for i, (m, _) in enumerate(group)}))
            for group in groups
        ]

    def right(url: str, pairs: Sequence[tuple[str, str]], clean: Any) -> float:  # noqa: ANN401
        hits = 0
        for place, body in enumerate(batches_of(pairs)):
            with urllib.request.urlopen(url, body.encode(), timeout=600) as answer:
                found = json.load(answer)
            for i, (_, id_) in enumerate(pairs[50 * place : 50 * place + 50]):
                candidates = found[f"q{i}"]["result"]
                hits += bool(candidates) and clean(candidates[0]["id"]) == id_
        return hits / (50 * len(batches_of(pairs)))

    with ours("--kb", f"kb={args.kb}") as (url, pid):
        address = f"{url}/reconcile/kb"
        bodies = batches_of(asked)
        load(address, bodies, connections=2, seconds=2, form=True)
        rows = [
            load(address, bodies, connections=2, seconds=args.seconds, form=True, pid=pid)
            for _ in range(args.turns)
        ]
        row = medians(rows)
        row["server_cpu_ms_per_query"] = row["server_cpu_ms"]["median"] / 50
        row["queries_per_second"] = round(50 * row["requests_per_second"]["median"], 1)
        row["top1"] = {"asked": len(asked), "share": right(address, asked, str)}
        row["top1_of_the_peers"] = right(address, asked[: args.peer_queries], str)
        row["peak_mb"] = harness.peak_mb(pid)
        result["mirror-rt"] = row
        harness.say(f"reconcile: {row}")
    if args.csv_reconcile:
        with tempfile.TemporaryDirectory() as folder:
            config = Path(folder) / "config.py"
            config.write_text("SECRET_KEY='x'\nCSVKWARGS={'delimiter': '\\t'}\n")
            shutil.copy(args.table, Path(folder) / "names.tsv")
            subprocess.run(
                [str(args.csv_reconcile), "init", "--config", "config.py", "names.tsv", "id",
                 "name"], cwd=folder, check=True, capture_output=True,
            )  # fmt: skip
            command = [str(args.csv_reconcile), "serve"]
            address = "http://127.0.0.1:5000/reconcile"
            with running(command, address, cwd=Path(folder)) as pid:
                some = asked[: args.peer_queries]
                begin, used = time.perf_counter(), _cpu_seconds(pid)
                share = right(address, some, lambda id_: id_.partition("-")[0])
                seconds = time.perf_counter() - begin
                result["csv-reconcile"] = {
                    "queries_per_second": round(len(some) / seconds, 3),
                    "server_cpu_ms": round(1e3 * (_cpu_seconds(pid) - used) / len(some), 1),
                    "top1": {"asked": len(some), "share": share},
                    "peak_mb": harness.peak_mb(pid),
                }
                harness.say(f"csv-reconcile: {result['csv-reconcile']}")
    return result


def fairness(args: argparse.Namespace) -> dict[str, Any]:
    """Single names alone, and beside a client with requests of 2,048."""
    texts = names(20_000)
    single = embeddings(texts[:4_000], size=1)
    long = embeddings(texts, size=2_048, form="base64")
    alone, beside = [], []
    with ours("--bundle", f"m={args.bundle}") as (url, _):
        address = f"{url}/v1/embeddings"
        load(address, single, connections=4, seconds=2)
        for _ in range(args.turns):
            alone.append(load(address, single, connections=1, seconds=args.seconds))
            process = subprocess.Popen(
                [sys.executable, __file__, "--long", address], stdin=subprocess.PIPE, text=True
            )
            assert process.stdin is not None
            process.stdin.write("\n".join(long))
            process.stdin.close()
            time.sleep(1.0)
            beside.append(load(address, single, connections=1, seconds=args.seconds))
            process.kill()
            process.wait()
            harness.say(f"alone {alone[-1]}, beside {beside[-1]}")
            time.sleep(1.5)
    ratios = [b["p99_ms"] / a["p99_ms"] for a, b in zip(alone, beside, strict=True)]
    return {
        "alone": medians(alone), "beside": medians(beside), "p99_ratio": harness.spread(ratios),
    }  # fmt: skip


def _send_long(address: str) -> None:
    bodies = [line for line in sys.stdin.read().split("\n") if line]
    place = 0
    while True:
        body = bodies[place % len(bodies)].encode()
        place += 1
        request = urllib.request.Request(address, body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=120) as answer:
            answer.read()


def overload(args: argparse.Namespace) -> dict[str, Any]:
    """512 connections at once, then many requests of 64; every answer is checked."""
    from mirror_rt.knowledge import KnowledgeBase

    asked, exact = _questions(args), _exact_names(args, 400)
    with KnowledgeBase.open(args.kb) as kb:
        mentions = [*asked, *exact]
        expected = {
            m: [c.entity_id for c in r][:1]
            for m, r in zip(mentions, kb.link(mentions), strict=True)
        }
    with ours("--kb", f"kb={args.kb}", "--max-queue", str(args.queue)) as (url, pid):
        address = url.removeprefix("http://")
        before = asyncio.run(_ask(address, mentions[:200], expected, clients=1, each=50))
        resident = _resident_mb(pid)
        flood = asyncio.run(
            _ask(address, mentions, expected, clients=512, seconds=args.flood_seconds)
        )
        after = asyncio.run(_ask(address, mentions[:200], expected, clients=1, each=50))
        steady = asyncio.run(_ask(address, mentions, expected, clients=64, each=args.each))
        result = {
            "before": before, "flood": flood, "after": after, "steady": steady,
            "resident_mb": {"before": resident, "after": _resident_mb(pid),
                            "peak": harness.peak_mb(pid)},
        }  # fmt: skip
    harness.say(str(result))
    return result


def _resident_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    found = {name: rest for name, _, rest in (line.partition(":") for line in lines)}
    return round(int(found["VmRSS"].split()[0]) / 1024, 1)


async def _ask(
    address: str,
    mentions: Sequence[str],
    expected: dict[str, list[str]],
    *,
    clients: int,
    each: int | None = None,
    seconds: float | None = None,
) -> dict[str, Any]:
    """Ask from so many connections, and compare every answer with what it must be."""
    host, port = address.split(":")
    statuses: Counter[int] = Counter()
    taken: list[float] = []
    wrong = broken = 0
    end = time.perf_counter() + (seconds or 1e9)

    async def client(number: int) -> None:
        nonlocal wrong, broken
        random_ = random.Random(number)
        reader, writer = await asyncio.open_connection(host, int(port))
        asked = 0
        while (each is None or asked < each) and time.perf_counter() < end:
            asked += 1
            mention = random_.choice(mentions)
            body = json.dumps({"mentions": [mention]}).encode()
            begin = time.perf_counter()
            writer.write(
                b"POST /link HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
            )
            try:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length: ")[2].split(b"\r")[0])
                content = await reader.readexactly(length)
            except (OSError, asyncio.IncompleteReadError):
                broken += 1
                return
            status = int(head.split()[1])
            statuses[status] += 1
            if status == 200:
                taken.append(time.perf_counter() - begin)
                (result,) = json.loads(content)["results"]
                found = [c["entity_id"] for c in result["candidates"]][:1]
                wrong += result["mention"] != mention or found != expected[mention]
            else:
                await asyncio.sleep(0.05)
        writer.close()

    begin = time.perf_counter()
    await asyncio.gather(*(client(n) for n in range(clients)))
    wall = time.perf_counter() - begin
    return {
        "clients": clients,
        "statuses": {str(status): count for status, count in sorted(statuses.items())},
        "answers_per_second": round(statuses[200] / wall, 1),
        "p50_ms": round(1e3 * harness.percentile(taken, 0.5), 2),
        "p99_ms": round(1e3 * harness.percentile(taken, 0.99), 2),
        "wrong": wrong,
        "broken": broken,
    }


def start(args: argparse.Namespace) -> dict[str, Any]:
    """From the command to the first answer of /ready."""
    result = {}
    for name, kb in (("kb", args.kb), ("big_kb", args.big_kb)):
        if kb is None:
            continue
        taken = []
        for _ in range(args.turns):
            begin = time.perf_counter()
            with ours("--kb", f"kb={kb}") as (_, pid):
                taken.append(time.perf_counter() - begin)
                peak = harness.peak_mb(pid)
        counts = json.loads((kb / "manifest.json").read_text())["counts"]
        result[name] = {"names": counts["texts"], "seconds": harness.spread(taken), "peak_mb": peak}
        harness.say(f"start: {result[name]}")
    return result


STAGES = {
    "same_graph": same_graph, "batches": batches, "links": links, "reconcile": reconcile,
    "fairness": fairness, "overload": overload, "start": start,
}  # fmt: skip


def main() -> None:
    if sys.argv[1:2] == ["--long"]:
        _send_long(sys.argv[2])
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", type=Path, required=True, help="int8")
    parser.add_argument("--bundle32", type=Path, help="the same model, fp32")
    parser.add_argument("--kb", type=Path, required=True, help="a hundred thousand names")
    parser.add_argument("--big-kb", type=Path, help="a million names")
    parser.add_argument("--questions", type=Path, required=True, help="of kb_scale.py")
    parser.add_argument("--infinity", type=Path, help="its program")
    parser.add_argument("--csv-reconcile", type=Path, help="its program")
    parser.add_argument("--table", type=Path, help="the names of --kb for it: id, name")
    parser.add_argument("--peer-queries", type=int, default=50)
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=list(STAGES))
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--flood-seconds", type=float, default=20.0)
    parser.add_argument("--each", type=int, default=10_000, help="requests of each of 64 clients")
    parser.add_argument("--queue", type=int, default=4_096, help="tokens that may wait, overload")
    parser.add_argument("--threads", type=int, default=2)
    args = harness.common(parser)
    harness.pin(args.threads)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if args.small:
        args.turns, args.seconds, args.flood_seconds, args.each = 1, 1, 1.0, 5
    results: dict[str, Any] = {"load_average": [os.getloadavg()[0]]}
    for name in args.stages:
        if name == "same_graph" and args.bundle32 is None:
            continue
        results[name] = STAGES[name](args)
        results["load_average"].append(os.getloadavg()[0])  # what else the machine did
    harness.finish(harness.record("serve_speed", args, results), args.out)


if __name__ == "__main__":
    main()
