"""Latency of one name at a time: alone on one core, and under 1 to 16 callers at once.

python benchmarks/latency.py --out benchmarks/results/latency.json     # two minutes
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import card
from encode_speed import names


def calls(encoder: Any, strings: Sequence[str], callers: int) -> list[float]:  # noqa: ANN401
    """Return the seconds of every call, with so many callers sharing the strings."""
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


def measure(args: argparse.Namespace, bundle: Path) -> dict[str, Any]:
    from mirror_rt.runtime import Encoder

    strings = names(args.count * (1 + len(args.callers)))  # different: no call finds another's
    encoder = Encoder.open(bundle, threads=args.threads)
    encoder.encode(strings[:64])
    rows = []
    for place, callers in enumerate(args.callers):
        part = strings[place * args.count : (place + 1) * args.count]
        begin = time.perf_counter()
        taken = calls(encoder, part, callers)
        seconds = time.perf_counter() - begin
        row = {"callers": callers, "calls_per_second": round(len(part) / seconds, 1)}
        for name, share in (("p50_ms", 0.5), ("p99_ms", 0.99)):
            row[name] = round(1000 * card.percentile(taken, share), 3)
        card.say(str(row))
        rows.append(row)
    again = calls(encoder, strings[: args.count][-1000:], 1)
    return {"rows": rows, "repeated_p50_ms": round(1000 * card.percentile(again, 0.5), 4)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=3000, help="calls of each row")
    parser.add_argument("--callers", type=int, nargs="+", default=[1, 2, 4, 8, 16])
    parser.add_argument("--bundle", type=Path, help="instead of exporting all-MiniLM-L6-v2, int8")
    parser.add_argument("--threads", type=int, default=2)
    args = card.common(parser)
    card.pin(args.threads)
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
    card.finish(card.record("latency", args, {"threads": args.threads} | results), args.out)


if __name__ == "__main__":
    main()
