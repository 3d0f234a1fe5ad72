r"""Train and evaluate: all-MiniLM-L6-v2 before and after Mirror, synonyms and both, over seeds.

For each variant and seed, one model is trained on the names of the chosen knowledge bases, without
the held-out synonyms of HPO, exported as int8, as users have it, and evaluated on the suite. Each
report is kept in the work folder, so an interrupted run can be continued.

    python benchmarks/quality_table.py --data DIR                 # hours on 2 cores
    python benchmarks/quality_table.py --data DIR --names hpo --max-pairs 10000 \
        --tasks sts12,sts13,stsb,simlex999,hpo                    # under an hour
    python benchmarks/quality_table.py --data DIR --small         # minutes, to see that it runs
    python benchmarks/quality_table.py --render benchmarks/results/results_table.json
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness import provenance

from mirror_rt.evaluation.baselines import CharNgrams
from mirror_rt.evaluation.holdout import join_pieces, standard_split
from mirror_rt.evaluation.report import cell
from mirror_rt.evaluation.result import Report, Result, mean_report
from mirror_rt.evaluation.suite import evaluate
from mirror_rt.exporting.pipeline import export
from mirror_rt.hashing import checksum, sha256_file
from mirror_rt.knowledge.formats import read_entities, read_names
from mirror_rt.quickstart import demo_model
from mirror_rt.runtime import Encoder
from mirror_rt.training.config import TrainConfig
from mirror_rt.training.loop import train
from mirror_rt.types import Entity, PairSource, Precision, Preset

FILES = {
    "hpo": "kb_hpo/hpo_names.tsv",
    "medic": "el_ncbi_disease/train_dictionary.txt",
    "esco": "el_esco/esco_occupation_names.tsv",
}
# Two pairs per entity; otherwise the long lists of names of MEDIC and ESCO dominate HPO. The rate
# and temperature for synonyms were chosen on names held out of HPO's training part; that `both`
# keeps half of the base's weights, on mentions of NCBI's train and dev parts (docs/experiments.md).
SYNONYMS: Mapping[str, Any] = {"temperature": 0.07, "lr": 2e-4, "pairs_per_entity": 2}
VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "mirror": {"pairs": PairSource.MIRROR},
    "synonyms": {"pairs": PairSource.SYNONYMS, **SYNONYMS},
    "both": {
        "pairs": {PairSource.MIRROR: 1.0, PairSource.SYNONYMS: 1.0},
        **SYNONYMS,
        "base_share": 0.5,
    },
}
NAMES = "names.tsv"
TASKS = "sts12,sts13,stsb,multisimlex-eng,simlex999,wordsim353,rg65,umnsrs,mayosrs,ncbi-kb,hpo,esco"
SHOWN = ("all", "mean", "acc@1", "acc@5", "mrr")
NEXT = "## On a raw masked language model\n"
"""The heading of the rest of the page, which another script writes."""


def names_file(data: Path, names: Sequence[str], out: Path) -> Path:
    """Write the names to train on as id, name, kind; those of HPO without its held-out synonyms."""
    with open(out, "w", encoding="utf-8", newline="") as handle:
        write = csv.writer(handle, delimiter="\t", quoting=csv.QUOTE_NONE, quotechar=None)
        write.writerow(("id", "name", "kind"))
        for name in names:
            entities: Iterable[Entity] = read_entities(data / FILES[name])
            entities = standard_split(entities)[0] if name == "hpo" else join_pieces(entities)
            for entity in entities:
                write.writerows((entity.id, n.text, n.kind.value) for n in entity.names)
    return out


def settle(args: argparse.Namespace) -> Path:
    """Make a folder for these settings and names in the work folder, and write the names."""
    names = {name: sha256_file(args.data / FILES[name]) for name in args.names}
    variants = {name: repr(options) for name, options in VARIANTS.items()}
    asked = {"names": names, "variants": variants, "tasks": args.tasks}
    args.work /= checksum({**asked, "pairs": args.max_pairs, "small": args.small})[:12]
    args.work.mkdir(parents=True, exist_ok=True)
    return names_file(args.data, args.names, args.work / NAMES)


def evaluate_model(folder: Path, args: argparse.Namespace, *, name: str) -> Report:
    """Evaluate a checkpoint through its int8 bundle; keep and reuse the report."""
    kept = args.work / f"{name}.json"
    if kept.exists():
        return Report.from_dict(json.loads(kept.read_text()))
    bundle = args.work / f"{name}-bundle"
    sample = list(read_names(args.work / NAMES))
    export(folder, bundle, precision=Precision.INT8, sample=sample, force=True)
    return keep(Encoder.open(bundle), args, name=name)


def keep(model: Any, args: argparse.Namespace, *, name: str) -> Report:  # noqa: ANN401
    kept = args.work / f"{name}.json"
    if kept.exists():
        return Report.from_dict(json.loads(kept.read_text()))
    started = time.perf_counter()
    report = evaluate(model, data=args.data, tasks=args.tasks.split(","), name=name)
    kept.write_text(json.dumps(report.to_dict()))
    say(f"evaluated {name} in {time.perf_counter() - started:.0f} s")
    return report


def trained(
    args: argparse.Namespace,
    corpus: Path,
    variant: str,
    seed: int,
    options: Mapping[str, Any] | None = None,
) -> Path:
    out = args.work / f"{variant}-{seed}"
    if not out.exists():
        given = dict(VARIANTS[variant] if options is None else options)
        preset = given.pop("preset", None)
        if preset is None:
            given = {"epochs": 1, **given}
        pairs = given.get("pairs", {PairSource.MIRROR: 1.0, PairSource.SYNONYMS: 1.0})
        sources = 1 if isinstance(pairs, PairSource) else len(pairs)
        config = TrainConfig(
            corpus=corpus,
            base=demo_model(),
            out=out,
            preset=preset or Preset.NAME,
            seed=seed,
            max_pairs=args.max_pairs * sources,
            max_steps=3 if args.small else None,
            **given,
        )
        report = train(config)
        say(f"trained {variant}, seed {seed}: {len(report.losses)} steps, {report.seconds:.0f} s")
    return out


def measure(args: argparse.Namespace) -> dict[str, Any]:
    started = time.perf_counter()
    # At the start: the commit is that of the running code, not of the repository hours later.
    summary = provenance("results_table", ("mirror-rt", "torch", "transformers", "onnxruntime"))
    corpus = settle(args)
    reports = [keep(CharNgrams(), args, name="char-ngram")]
    reports.append(evaluate_model(demo_model(), args, name="before"))
    runs: dict[str, list[Report]] = {variant: [] for variant in args.variants}
    for seed in args.seeds:  # an interrupted run has every variant, over fewer seeds
        for variant, reports_of in runs.items():
            folder = trained(args, corpus, variant, seed)
            reports_of.append(evaluate_model(folder, args, name=f"{variant}-{seed}"))
    reports += [mean_report(variant, reports_of) for variant, reports_of in runs.items()]
    return {
        **summary,
        "seconds": round(time.perf_counter() - started, 1),
        "names": {n: sha256_file(args.data / FILES[n]) for n in args.names},
        "seeds": args.seeds,
        "max_pairs": args.max_pairs,
        "max_pairs_are_of": "each source",
        "base_shares": {name: VARIANTS[name].get("base_share", 0.0) for name in args.variants},
        "small": args.small,
        "reports": [report.to_dict() for report in reports],
    }


def render(record: Mapping[str, Any]) -> str:
    """Return the record as a Markdown page."""
    reports = [Report.from_dict(report) for report in record["reports"]]
    rows: dict[tuple[str, str], None] = {}
    for report in reports:
        for result in report.results:
            rows.update({(result.task, m): None for m in result.scores if m in SHOWN})
    mixed = [f"{n}: {s:g}" for n, s in record.get("base_shares", {}).items() if s]
    kept = f"; `--base-share` of {', '.join(mixed)}" if mixed else ""
    of_what = f" of {record['max_pairs_are_of']}" if "max_pairs_are_of" in record else ""
    lines = [
        "# Results",
        "",
        "<!-- Generated by benchmarks/quality_table.py --render; do not edit by hand. -->",
        "",
        f"all-MiniLM-L6-v2 before and after one epoch on the names of {', '.join(record['names'])} "
        f"(at most {record['max_pairs']:,} pairs{of_what}; HPO's held-out synonyms left "
        f"out{kept}), "
        f"{len(record['seeds'])} seeds, int8: mean ± standard deviation. "
        "`sts`: Spearman's ρ pooled (all) and as the mean of subsets; linking: entities by exact "
        "search; `unseen`: mentions that equal no name; `ncbi-kb`: BioSyn's convention on "
        "MEDIC alone. The authors of all-MiniLM-L6-v2 trained it with labels; nothing here was "
        "trained with labels.",
        "",
        "| task | metric | " + " | ".join(report.model for report in reports) + " |",
        "|---|---|" + "---:|" * len(reports),
    ]
    if record["small"]:
        lines[4:4] = ["**A run of the small mode: three steps of training. Not results.**", ""]
    for task, metric in rows:
        cells = [cell(found(report, task), metric) for report in reports]
        lines.append(f"| {task} | {metric} | " + " | ".join(cells) + " |")
    lines += ["", "Made by", "```", record["command"], "```"]
    machine = record["machine"]
    lines.append(
        f"on {machine['cpu']}, {machine['cores']} cores, {record['seconds'] / 60:.0f} minutes for "
        "what was not kept from a call before; "
        f"commit {record['commit'][:7]}, {record['date'][:10]}. Every other score: the JSON."
    )
    return "\n".join(lines) + "\n"


def found(report: Report, task: str) -> Result | None:
    return next((result for result in report.results if result.task == task), None)


def say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="folder of evaluation sets")
    parser.add_argument("--work", type=Path, default=Path("build/results_table"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/results_table.json"))
    parser.add_argument("--page", type=Path, default=Path("docs/results.md"))
    parser.add_argument("--render", type=Path, help="only write the page from this JSON")
    parser.add_argument("--names", nargs="+", choices=list(FILES), default=list(FILES))
    parser.add_argument("--variants", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--tasks", default=TASKS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[33, 44, 55])
    parser.add_argument("--max-pairs", type=int, default=24_000)
    parser.add_argument("--small", action="store_true")
    args = parser.parse_args()
    if args.render is not None:
        record = json.loads(args.render.read_text())
    else:
        if args.data is None:
            parser.error("--data DIR is needed")
        if args.small:
            args.names, args.seeds, args.tasks = ["hpo"], args.seeds[:2], "sts13,simlex999,rg65"
            args.work = args.work.with_name(args.work.name + "-small")
        record = measure(args)
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(record, indent=2) + "\n")
        print(json.dumps(record))
    args.page.parent.mkdir(parents=True, exist_ok=True)
    before = args.page.read_text(encoding="utf-8") if args.page.exists() else ""
    rest = "".join(before.partition(f"\n{NEXT}")[1:])
    args.page.write_text(render(record) + rest, encoding="utf-8")


if __name__ == "__main__":
    main()
