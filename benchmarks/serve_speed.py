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
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import harness
from encode_speed import names
from serve_overload import overload
from servers import cpu_seconds, embeddings, infinity, load, medians, ours, running

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
    names_ = ("encoder", "served", "encoder_cpu_ms", "served_cpu_ms")
    found: dict[str, list[float]] = {name: [] for name in names_}
    with ours("--bundle", f"m={args.bundle}", "--threads", str(args.threads)) as (url, pid):
        load(f"{url}/v1/embeddings", bodies, connections=4, seconds=2)
        for _ in range(args.turns):
            begin, used = time.perf_counter(), time.process_time()
            encoder.encode(texts[: args.texts])
            found["encoder"].append(args.texts / (time.perf_counter() - begin))
            found["encoder_cpu_ms"].append(1e3 * (time.process_time() - used) / args.texts)
            row = load(f"{url}/v1/embeddings", bodies, connections=8, seconds=args.seconds, pid=pid)
            found["served"].append(32 * row["requests_per_second"])
            found["served_cpu_ms"].append(row["server_cpu_ms"] / 32)
            harness.say(str({name: rows[-1] for name, rows in found.items()}))
    shares = [s / a for s, a in zip(found["served"], found["encoder"], strict=True)]
    cpu = zip(found["encoder_cpu_ms"], found["served_cpu_ms"], strict=True)
    return {
        "texts": args.texts,
        **{name: harness.spread(values) for name, values in found.items()},
        "share": harness.spread(shares),
        "share_by_cpu": harness.spread([own / served for own, served in cpu]),
    }


def links(args: argparse.Namespace) -> dict[str, Any]:
    """Links against the library itself: misspelt names, and exact ones."""
    from mirror_rt.knowledge import KnowledgeBase

    asked = _questions(args)
    shuffled = random.Random(0).sample(asked, len(asked))
    exact = _exact_names(args, 2_000)
    bodies = [json.dumps({"mentions": [mention]}) for mention in asked]
    exactly = [json.dumps({"mentions": [mention]}) for mention in exact]
    measured = ("library", "library_cpu_ms", "served", "exact", "exact_one",
                "library_exact_p05_ms", "library_exact_p50_ms")  # fmt: skip
    result: dict[str, list[Any]] = {name: [] for name in measured}
    with KnowledgeBase.open(args.kb) as kb, ours("--kb", f"kb={args.kb}") as (url, pid):
        kb.link(asked[:64])
        load(f"{url}/link", bodies, connections=8, seconds=2)
        for _ in range(args.turns):
            begin, used, done = time.perf_counter(), time.process_time(), 0
            while time.perf_counter() - begin < args.seconds:
                done += len(kb.link(shuffled[:512]))
            result["library"].append(done / (time.perf_counter() - begin))
            result["library_cpu_ms"].append(1e3 * (time.process_time() - used) / done)
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
    cpu = [row["server_cpu_ms"] for row in result["served"]]
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
        "library_cpu_ms": harness.spread(result["library_cpu_ms"]),
        "share": harness.spread(shares),
        "share_by_cpu": harness.spread(
            [own / c for own, c in zip(result["library_cpu_ms"], cpu, strict=True)]
        ),
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
                begin, used = time.perf_counter(), cpu_seconds(pid)
                share = right(address, some, lambda id_: id_.partition("-")[0])
                seconds = time.perf_counter() - begin
                result["csv-reconcile"] = {
                    "queries_per_second": round(len(some) / seconds, 3),
                    "server_cpu_ms": round(1e3 * (cpu_seconds(pid) - used) / len(some), 1),
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


def overloaded(args: argparse.Namespace) -> dict[str, Any]:
    """Many more clients than it can answer."""
    found: dict[str, Any] = overload(args, _questions(args), _exact_names(args, 400))
    return found


def start(args: argparse.Namespace) -> dict[str, Any]:
    """From the command to the first answer of /ready."""
    result = {}
    for name, kb in (("kb", args.kb), ("big_kb", args.big_kb)):
        if kb is None:
            continue
        taken, used = [], []
        for _ in range(args.turns):
            begin = time.perf_counter()
            with ours("--kb", f"kb={kb}") as (_, pid):
                taken.append(time.perf_counter() - begin)
                used.append(cpu_seconds(pid))
                peak = harness.peak_mb(pid)
        counts = json.loads((kb / "manifest.json").read_text())["counts"]
        result[name] = {"names": counts["texts"], "seconds": harness.spread(taken),
                        "cpu_seconds": harness.spread(used), "peak_mb": peak}  # fmt: skip
        harness.say(f"start: {result[name]}")
    return result


STAGES = {
    "same_graph": same_graph, "batches": batches, "links": links, "reconcile": reconcile,
    "fairness": fairness, "overload": overloaded, "start": start,
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
    parser.add_argument("--texts", type=int, default=8_000, help="for Encoder.encode itself")
    args = harness.common(parser)
    harness.pin(args.threads)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if args.small:
        args.turns, args.seconds, args.flood_seconds, args.each = 1, 1, 1.0, 5
        args.texts = 256
    results: dict[str, Any] = {"load_average": [os.getloadavg()[0]]}
    for name in args.stages:
        if name == "same_graph" and args.bundle32 is None:
            continue
        results[name] = STAGES[name](args)
        results["load_average"].append(os.getloadavg()[0])  # what else the machine did
    harness.finish(harness.record("serve_speed", args, results), args.out)


if __name__ == "__main__":
    main()
