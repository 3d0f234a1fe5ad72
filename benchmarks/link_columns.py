"""``link_file`` of a table with five further columns, compared with one of the mentions alone.

The mentions are those of ``link_job.py``. Both files are linked from CSV to CSV, each to a new
file, in one process. Each round starts with the other file: if the load of the machine falls, the
first of a pair would always look slower. The result is the ratio of the CPU seconds, of this
process and its children; seconds of the clock are recorded too.

    python benchmarks/link_columns.py --work DIR --bundle DIR \
        --out benchmarks/results/link_columns.json
"""

from __future__ import annotations

import argparse
import csv
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import harness
from link_job import build, mentions, names_of

HEAD = ("id", "mention", "country", "note", "price", "day")


def write(path: Path, texts: list[str], *, further: bool) -> Path:
    """Write a table of mentions, with five further columns or none."""
    with open(path, "w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(HEAD if further else ["mention"])
        for i, text in enumerate(texts):
            row = (f"row-{i}", text, ("DE", "FR", "IT")[i % 3], f'a "note", no. {i}', i / 8,
                   f"2024-01-{i % 28 + 1:02d}")  # fmt: skip
            writer.writerow(row if further else [text])
    return path


def rounds(
    link: Callable[[str], None], names: tuple[str, str], count: int
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Time both in each round, with alternating order, by the clock and by the CPU."""
    wall: dict[str, list[float]] = {name: [] for name in names}
    processor: dict[str, list[float]] = {name: [] for name in names}
    for number in range(count):
        for name in names if number % 2 == 0 else names[::-1]:
            before, begin = os.times(), time.perf_counter()
            link(name)
            wall[name].append(round(time.perf_counter() - begin, 2))
            # user, system, and those of finished children
            used = sum(now - then for now, then in zip(os.times()[:4], before[:4], strict=True))
            processor[name].append(round(used, 2))
            harness.say(f"round {number + 1}/{count}  {name:8s} {used:8.2f} s of the processor")
    return wall, processor


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--work", type=Path, help="keep the knowledge base here")
    parser.add_argument("--bundle", type=Path, help="instead of exporting all-MiniLM-L6-v2, int8")
    parser.add_argument("--names", type=int, default=100_000, help="names of places")
    parser.add_argument("--mentions", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=4, help="rounds, an even number")
    parser.add_argument("--threads", type=int, default=2)
    args = harness.common(parser)
    harness.pin(args.threads)
    if args.small:
        args.names, args.mentions, args.repeats = 2_000, 5_000, 2
    record = harness.record("link_columns", args, {"threads": args.threads})
    from mirror_rt.knowledge import KnowledgeBase

    with tempfile.TemporaryDirectory() as folder:
        work = args.work or Path(folder)
        work.mkdir(parents=True, exist_ok=True)
        kb = build(args, work)
        texts = mentions(names_of(kb), args.mentions)
        sources = {
            name: write(work / f"{name}.csv", texts, further=name == "with")
            for name in ("with", "without")
        }
        with KnowledgeBase.open(kb) as opened:
            opened.link_file(texts[:100], work / "first.csv", force=True)

            def link(name: str) -> None:
                out = work / f"{name}.out.csv"
                opened.link_file(sources[name], out, column="mention", force=True)

            wall, processor = rounds(link, ("with", "without"), args.repeats)
        with open(work / "with.out.csv", encoding="utf-8", newline="") as lines:
            rows = csv.DictReader(lines)
            for i, (row, text) in enumerate(zip(rows, texts, strict=True)):
                if (row["id"], row["mention"]) != (f"row-{i}", text):
                    raise RuntimeError(f"row {i} is not in its place")
        ratios, by_clock = (
            [a / b for a, b in zip(seconds["with"], seconds["without"], strict=True)]
            for seconds in (processor, wall)
        )
        content = {
            "mentions": len(texts), "different": len(set(texts)), "names": args.names,
            "further_columns": len(HEAD) - 1, "seconds": wall, "processor_seconds": processor,
            "with_over_without": harness.spread(ratios),
            "with_over_without_by_the_clock": harness.spread(by_clock),
            "peak_rss_mib": round(harness.peak_mb()),
        }  # fmt: skip
    harness.finish(record | content, args.out)


if __name__ == "__main__":
    main()
