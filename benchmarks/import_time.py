"""Time to start the program and to import the package: ``mirror-rt --help``, ``import mirror_rt``.

python benchmarks/import_time.py --out benchmarks/results/import_time.json
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

import harness

PYTHON = sys.executable
WAYS = {
    "python -c pass": [PYTHON, "-c", "pass"],
    "import mirror_rt": [PYTHON, "-c", "import mirror_rt"],
    "from mirror_rt import Encoder": [PYTHON, "-c", "from mirror_rt import Encoder"],
    "mirror-rt --help": [str(Path(PYTHON).with_name("mirror-rt")), "--help"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=10)
    args = harness.common(parser)
    if args.small:
        args.repeats = 3
    times: dict[str, list[float]] = {name: [] for name in WAYS}
    for turn in range(args.repeats + 1):
        for name, command in WAYS.items():
            begin = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            if turn:  # the first start reads the disk
                times[name].append(1000 * (time.perf_counter() - begin))
    rows = {name: harness.spread(values) for name, values in times.items()}
    results = {"repeats": args.repeats, "milliseconds": rows}
    harness.finish(harness.record("import_time", args, results), args.out)


if __name__ == "__main__":
    main()
