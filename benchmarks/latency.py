"""Latency of single names: of 9 tokens on one core, and with 1 to 16 parallel callers.

python benchmarks/latency.py --out benchmarks/results/latency.json     # two minutes
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import harness
from encode_speed import names

TOKENS = 9
"""Of the names on one core, special tokens included: as many as names of HPO have on average."""


def calls(encoder: Any, strings: Sequence[str], callers: int) -> list[float]:  # noqa: ANN401
    """Return the seconds of every call, with ``callers`` threads that share the strings."""
    taken: list[float] = []
    start = threading.Barrier(callers)

    def caller(number: int) -> None:
        mine = []
        start.wait()
        for text in strings[number::callers]:
            begin = time.perf_counter()
            encoder.encode(text)
            mine.append(time.perf_counter() - begin)
        taken.extend(mine)

    threads = [threading.Thread(target=caller, args=(n,)) for n in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return taken


def percentiles(seconds: Sequence[float]) -> dict[str, float]:
    """Return the p50 and the p99, in milliseconds."""
    shares = {"p50_ms": 0.5, "p99_ms": 0.99}
    return {name: round(1000 * harness.percentile(seconds, s), 3) for name, s in shares.items()}


def on_one_core(bundle: Path, count: int) -> dict[str, Any]:
    """Measure a single caller, in a process that had one core from the start."""
    harness.pin(1)
    from mirror_rt.runtime import Encoder
    from mirror_rt.runtime.tokenize import FastTokenizer

    strings = names(20_000)
    encoder = Encoder.open(bundle, threads=1)
    lengths_N = FastTokenizer.open(encoder.bundle)(strings).lengths_N
    strings = [text for text, length in zip(strings, lengths_N, strict=True) if length == TOKENS]
    encoder.encode(strings[-64:])
    taken = calls(encoder, strings[:count], 1)
    return {"tokens": TOKENS, "calls": len(taken), **percentiles(taken)}


def measure(args: argparse.Namespace, bundle: Path) -> dict[str, Any]:
    from mirror_rt.runtime import Encoder

    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        one = process.submit(on_one_core, bundle, min(args.count, 1000)).result()
    harness.say(f"one core: {one}")
    strings = names(args.count * len(args.callers))  # distinct: no call finds a cached vector
    encoder = Encoder.open(bundle, threads=args.threads)
    encoder.encode(strings[:64])
    rows = []
    for place, callers in enumerate(args.callers):
        part = strings[place * args.count : (place + 1) * args.count]
        begin = time.perf_counter()
        taken = calls(encoder, part, callers)
        seconds = time.perf_counter() - begin
        row = {"callers": callers, "calls_per_second": round(len(part) / seconds, 1)}
        row |= percentiles(taken)
        harness.say(str(row))
        rows.append(row)
    again = calls(encoder, part[-1000:], 1)  # the last ones, which are still cached
    repeated = round(1000 * harness.percentile(again, 0.5), 4)
    return {"one_core": one, "rows": rows, "repeated_p50_ms": repeated}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=3000, help="calls of each row")
    parser.add_argument("--callers", type=int, nargs="+", default=[1, 2, 4, 8, 16])
    parser.add_argument("--bundle", type=Path, help="instead of exporting all-MiniLM-L6-v2, int8")
    parser.add_argument("--threads", type=int, default=2)
    args = harness.common(parser)
    harness.pin(args.threads)
    if args.small:
        args.count = 100
    with tempfile.TemporaryDirectory() as work:
        bundle = args.bundle
        if bundle is None:
            from mirror_rt.exporting.pipeline import export
            from mirror_rt.quickstart import demo_model
            from mirror_rt.types import Pooling, Precision

            bundle = Path(work) / "bundle"
            export(demo_model(), bundle, precision=Precision.INT8, pooling=Pooling.MEAN)
        results = measure(args, bundle)
    harness.finish(harness.record("latency", args, {"threads": args.threads} | results), args.out)


if __name__ == "__main__":
    main()
