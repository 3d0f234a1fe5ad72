"""Job titles of ESCO before and after feedback on some of them: acc@1 and calibration error.

Titles are drawn in three random orders. In each, the first 250, 500 and 2,000 are decided as by a
person who knows the right ids: accepted if the proposed id is right, corrected if not. Other
titles are then evaluated, the same for all three; none of them equals a decided one.

    python benchmarks/feedback.py --data DIR --bundle DIR --out benchmarks/results/feedback.json
"""

from __future__ import annotations

import argparse
import csv
import random
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import TYPE_CHECKING, Any

import harness
import numpy as np

if TYPE_CHECKING:
    from mirror_rt.knowledge import KnowledgeBase

NAMES, TITLES = "el_esco/esco_occupation_names.tsv", "el_esco/jobbert_dev.tsv"
LABELS = (250, 500, 2_000)
JUDGED = 2_000
SEEDS = (0, 1, 2)


class Memory:
    """An encoder with a cache: the knowledge bases share their names."""

    def __init__(self, bundle: Path) -> None:
        from mirror_rt.runtime import Encoder

        self._encoder = Encoder.open(bundle)
        self._known: dict[str, np.ndarray] = {}
        self.dim = self._encoder.dim

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Return (N, D) float32 unit rows."""
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        if new:
            self._known.update(zip(new, self._encoder.encode(new), strict=True))
        return np.stack([self._known[text] for text in texts])


def titles(data: Path) -> dict[str, frozenset[str]]:
    """Return the distinct normalized titles with all right ids."""
    from mirror_rt.evaluation.gold import read_gold
    from mirror_rt.knowledge.text.normalize import normalize

    gold = read_gold(data / TITLES, mention_column="title", id_column="esco_id")
    text_of, ids_of = dict[str, str](), dict[str, set[str]]()
    for query in gold.queries:
        key = normalize(query.parts[0])
        text_of.setdefault(key, query.parts[0])
        ids_of.setdefault(key, set()).update(query.ids)
    return {text: frozenset(ids_of[key]) for key, text in text_of.items() if key}


def evaluate(kb: KnowledgeBase, gold: Mapping[str, frozenset[str]]) -> dict[str, float]:
    """Return acc@1, acc@5 and the calibration error."""
    from mirror_rt.knowledge.ranking.reliability import expected_calibration_error

    found = kb.link(list(gold))
    hits = [bool(f) and f[0].entity_id in gold[f.mention] for f in found]
    five = [any(c.entity_id in gold[f.mention] for c in f[:5]) for f in found]
    sure = np.array([(f[0].probability or 0.0) if f else 0.0 for f in found])
    return {
        "acc_at_1": round(mean(hits), 4),
        "acc_at_5": round(mean(five), 4),
        "calibration_error": round(expected_calibration_error(sure, np.array(hits)), 4),
    }


def decide(kb: KnowledgeBase, gold: Mapping[str, frozenset[str]], path: Path) -> None:
    """Write the decision of a person about each title."""
    with open(path, "w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(("mention", "entity_id", "decision", "correct_id"))
        for found in kb.link(list(gold), top=1):
            right = gold[found.mention]
            proposed = found[0].entity_id if found else ""
            if proposed in right:
                writer.writerow((found.mention, proposed, "accept", ""))
            else:
                writer.writerow((found.mention, proposed, "", min(right)))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="the folder of evaluation data")
    parser.add_argument("--bundle", type=Path, required=True, help="a bundle of MiniLM")
    parser.add_argument("--threads", type=int, default=2)
    args = harness.common(parser)
    harness.pin(args.threads)
    record = harness.record("feedback", args, {"threads": args.threads, "judged": JUDGED})
    labels, judged, seeds = (LABELS, JUDGED, SEEDS)
    if args.small:
        labels, judged, seeds = (100,), 200, (0,)
    from mirror_rt.knowledge import KnowledgeBase

    gold, encoder, rows = titles(args.data), Memory(args.bundle), list[dict[str, Any]]()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        plain = KnowledgeBase.build(args.bundle, args.data / NAMES, work / "plain", encoder=encoder)
        for seed in seeds:
            order = random.Random(seed).sample(list(gold), len(gold))
            held_out = {title: gold[title] for title in order[max(labels) :][:judged]}
            before = evaluate(plain, held_out)
            for count in labels:
                some = {title: gold[title] for title in order[:count]}
                decide(plain, some, work / "reviewed.csv")
                shutil.copytree(work / "plain", work / "taught")
                with KnowledgeBase.open(work / "taught", encoder=encoder) as kb:
                    begin = time.perf_counter()
                    report = kb.feedback(work / "reviewed.csv")
                    seconds = time.perf_counter() - begin
                    after = evaluate(kb, held_out)
                shutil.rmtree(work / "taught")
                rows.append(
                    {
                        "seed": seed,
                        "labels": count,
                        "accepted": report.accepted,
                        "corrected": report.corrected,
                        "names": report.aliases,
                        "seconds": round(seconds, 1),
                        "before": before,
                        "after": after,
                    }
                )
                harness.say(f"seed {seed}, {count:,} labels: {before} → {after}")
        plain.close()
    summary = {}
    for count in labels:
        gains = [
            100 * (row["after"]["acc_at_1"] - row["before"]["acc_at_1"])
            for row in rows
            if row["labels"] == count
        ]
        spread = stdev(gains) if len(gains) > 1 else 0.0
        summary[str(count)] = {"points": round(mean(gains), 2), "deviation": round(spread, 2)}
    titles_of = {"titles": len(gold), "gain_in_points": summary, "runs": rows}
    harness.finish(record | titles_of, args.out)


if __name__ == "__main__":
    main()
