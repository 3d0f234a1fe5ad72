r"""Train and evaluate variants that might beat the paper, each compared with the plain recipe.

All are trained on Mirror and synonym pairs in equal shares over several seeds, and evaluated as in
benchmarks/quality_table.py. Models and reports are kept in the work folder, so an interrupted run
can be continued.

    python benchmarks/training_variants.py --data DIR            # hours on 2 cores
    python benchmarks/training_variants.py --data DIR --small    # minutes, to see that it runs
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

from harness import provenance
from quality_table import FILES, SHOWN, VARIANTS, evaluate_model, found, say, settle, trained

from mirror_rt.evaluation.report import cell
from mirror_rt.evaluation.result import Report, mean_report
from mirror_rt.hashing import sha256_file
from mirror_rt.quickstart import demo_model
from mirror_rt.types import Preset

PLAIN = {**VARIANTS["both"], "base_share": 0.0}
CANDIDATES: Mapping[str, Mapping[str, Any]] = {
    "plain": {},
    "plain-2": {"epochs": 2},
    "hard-negatives-2": {"epochs": 2, "hard_negatives": 3},
    "preset-synonyms": {"preset": Preset.SYNONYMS},
    "preset-linking": {"preset": Preset.LINKING},
}
"""What each has that ``PLAIN`` has not, or the preset it is trained with, on as many pairs.
Those that lost are gone, and in docs/experiments.md."""

TASKS = "sts12,sts13,stsb,simlex999,umnsrs,mayosrs,ncbi-kb,hpo"


def options_of(name: str) -> dict[str, Any]:
    """Return the training settings of a variant."""
    candidate = CANDIDATES[name]
    return dict(candidate) if "preset" in candidate else {**PLAIN, **candidate}


def measure(args: argparse.Namespace) -> dict[str, Any]:
    started = time.perf_counter()
    corpus = settle(args)
    runs: dict[str, list[Report]] = {name: [] for name in args.variants}
    seconds: dict[str, list[float]] = {name: [] for name in args.variants}
    before = evaluate_model(demo_model(), args, name="before")
    for seed in args.seeds:  # every variant once before any is repeated
        for name in args.variants:
            folder = trained(args, corpus, name, seed, options_of(name))
            account = json.loads((folder / "training.json").read_text())
            seconds[name].append(account["seconds"])
            runs[name].append(evaluate_model(folder, args, name=f"{name}-{seed}"))
    return {
        **provenance("variants", ("mirror-rt", "torch", "transformers", "onnxruntime")),
        "seconds": round(time.perf_counter() - started, 1),
        "names": {n: sha256_file(args.data / FILES[n]) for n in args.names},
        "seeds": args.seeds,
        "max_pairs": args.max_pairs,
        "small": args.small,
        "variants": {
            name: {k: v.value if isinstance(v, Preset) else v for k, v in CANDIDATES[name].items()}
            for name in args.variants
        },
        "training_seconds": {n: round(fmean(s), 1) for n, s in seconds.items() if s},
        "reports": [before.to_dict()]
        + [mean_report(name, reports).to_dict() for name, reports in runs.items()],
        "by_seed": {name: [r.to_dict() for r in reports] for name, reports in runs.items()},
    }


def table(record: Mapping[str, Any]) -> str:
    """Return the record as a Markdown table."""
    reports = [Report.from_dict(report) for report in record["reports"]]
    lines = [
        "| task | metric | " + " | ".join(report.model for report in reports) + " |",
        "|---|---|" + "---:|" * len(reports),
    ]
    for result in reports[0].results:
        for metric in result.scores:
            if metric in SHOWN:
                cells = [cell(found(report, result.task), metric) for report in reports]
                lines.append(f"| {result.task} | {metric} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = list(CANDIDATES)
    parser.add_argument("--data", type=Path, required=True, help="folder of evaluation sets")
    parser.add_argument("--work", type=Path, default=Path("build/variants"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/variants.json"))
    parser.add_argument("--names", nargs="+", choices=list(FILES), default=["hpo"])
    parser.add_argument("--variants", nargs="+", choices=names, default=names)
    parser.add_argument("--tasks", default=TASKS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[33, 44, 55])
    parser.add_argument("--max-pairs", type=int, default=5_000, help="of each source")
    parser.add_argument("--small", action="store_true")
    args = parser.parse_args()
    if args.small:  # two steps per epoch, so the third one is of the second epoch
        args.names, args.seeds, args.tasks = ["hpo"], args.seeds[:1], "simlex999,rg65"
        args.max_pairs = 200
        args.work = args.work.with_name(args.work.name + "-small")
    record = measure(args)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(record, indent=2) + "\n")
    print(table(record))
    say(f"wrote {args.out}")


if __name__ == "__main__":
    main()
