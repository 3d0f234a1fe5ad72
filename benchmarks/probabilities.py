r"""Are the probabilities true, by default and after calibrating on few links? With diagrams.

In each set, a fifth of the gold entities is removed, similar entities stay, and the mentions of
removed entities are NIL. The sets are NCBI disease (train and dev mentions) and BC5CDR diseases
with MEDIC, AskAPatient, BB4 habitats, ESCO job titles, and HPO with a fifth of its exact synonyms
held out as mentions. Then 200 links are drawn, and the probabilities are calibrated on them, as by
``calibrate``, and measured on the other mentions; the results are means over draws.

Each error has two others beside it: the error that so few mentions would show if every probability
were true; and, after calibrating, the error after the same 200 links if their answers were drawn
from the best fit to all links. Random letters are linked before and after. For a target precision,
the record has the coverage, and the coverage of the best threshold of the same probabilities.

    python benchmarks/probabilities.py --data DIR --bundle DIR --plot docs/reliability.png \
        --out benchmarks/results/probabilities.json                           # half an hour
"""

from __future__ import annotations

import argparse
import json
import random
import string
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from harness import provenance
from linking import Memory, error_if_true
from name_probability import SETS

from mirror_rt.bundle import Bundle
from mirror_rt.errors import ConfigError
from mirror_rt.evaluation.gold import Convention, Query, read_gold
from mirror_rt.evaluation.holdout import hold_out_synonyms
from mirror_rt.evaluation.metrics import area_under_curve
from mirror_rt.exporting.pipeline import export
from mirror_rt.knowledge import KnowledgeBase
from mirror_rt.knowledge.formats import read_entities
from mirror_rt.knowledge.linking.calibration import (
    _calibrated,
    _fit,
    _GoldLinks,
    _link,
    _probabilities,
)
from mirror_rt.knowledge.ranking.reliability import expected_calibration_error
from mirror_rt.knowledge.ranking.reranker import Reranker
from mirror_rt.quickstart import demo_model
from mirror_rt.runtime import Encoder
from mirror_rt.types import Entity, IndexKind, Pooling

HPO = "kb_hpo/hpo_names.tsv"
MOST = 6_000
LINKS = 200
PRECISION = 0.95


def load(name: str, data: Path) -> tuple[list[Entity], list[Query]]:
    if name == "hpo":
        entities = list(read_entities(data / HPO))
        kept, held_out = hold_out_synonyms(entities, share=0.2, rng=random.Random(13))
        return list(kept), [Query(parts=(mention,), ids=ids) for mention, ids in held_out]
    file, gold, columns = SETS[name]
    queries: list[Query] = []
    for part in gold:
        if columns is None:
            found = read_gold(data / part, convention=Convention.BIOSYN)
        else:
            found = read_gold(data / part, mention_column=columns[0], id_column=columns[1])
        queries += [query for query in found.queries if len(query.parts) == 1]
    if len(queries) > MOST:
        queries = random.Random(2).sample(queries, MOST)
    return list(read_entities(data / file)), queries


def without_a_fifth(entities: Sequence[Entity], queries: Sequence[Query]) -> list[Entity]:
    right_ids = sorted({id_ for query in queries for id_ in query.ids})
    gone = set(random.Random(1).sample(right_ids, len(right_ids) // 5))
    return [e for e in entities if not gone & {e.id, *e.alternative_ids}]


def letters(count: int) -> list[str]:
    draw = random.Random(0)

    def word() -> str:
        return "".join(draw.choice(string.ascii_lowercase) for _ in range(draw.randint(6, 11)))

    return [" ".join(word() for _ in range(draw.randint(1, 2))) for _ in range(count)]


def score_probabilities(links: _GoldLinks, p_S: np.ndarray) -> dict[str, float]:
    mentions = [str(number) for number in links.mention_S.tolist()]
    return {
        "right": round(float(links.hit_S.mean()), 4),
        "mean_probability": round(float(p_S.mean()), 4),
        "calibration_error": round(expected_calibration_error(p_S, links.hit_S), 4),
        "error_if_true": round(error_if_true(mentions, p_S, draws=20), 4),
        "nil_auroc": round(area_under_curve((~links.nil_S).tolist(), p_S), 4),
        "auroc_of_being_right": round(area_under_curve(links.hit_S.tolist(), p_S), 4),
    }


def coverage(links: _GoldLinks, p_S: np.ndarray, threshold: float) -> tuple[float, float, float]:
    """Return coverage and precision at a threshold, and the best coverage at that precision."""
    order = np.argsort(-p_S, kind="stable")
    precision = np.cumsum(links.hit_S[order]) / np.arange(1, len(order) + 1)
    possible = np.flatnonzero(precision >= PRECISION)
    above = p_S >= threshold - 1e-9
    return (
        float(above.mean()),
        float(links.hit_S[above].mean()) if above.any() else 1.0,
        (int(possible[-1]) + 1) / len(order) if len(possible) else 0.0,
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--bundle", type=Path, help="by default all-MiniLM-L6-v2 as int8")
    parser.add_argument("--sets", default=",".join([*SETS, "hpo"]))
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--plot", type=Path, help="draw the diagrams from defaults as this PNG")
    parser.add_argument("--out", type=Path, help="write the record here")
    args = parser.parse_args()
    record = provenance("probabilities", ("mirror-rt", "faiss-cpu", "onnxruntime", "numpy"))
    record["sets"] = {}
    diagrams = []
    with tempfile.TemporaryDirectory() as folder:
        if args.bundle is None:
            export(demo_model(), Path(folder) / "bundle", pooling=Pooling.MEAN)
        bundle = Bundle.open(args.bundle or Path(folder) / "bundle")
        encoder = Memory(Encoder.open(bundle, threads=args.threads))
        for name in args.sets.split(","):
            entities, queries = load(name, args.data)
            left = without_a_fifth(entities, queries)
            gold = [(query.parts[0], query.ids) for query in queries]
            random_letters = [(text, frozenset[str]()) for text in letters(300)]
            with KnowledgeBase.build(
                bundle, left, Path(folder) / "kb", encoder=encoder, index=IndexKind.EXACT,
                force=True,
            ) as kb:  # fmt: skip
                before = kb.resources.reranker
                links = _link(kb.resources, gold, encoder.encode)
                unlike = _link(kb.resources, random_letters, encoder.encode)
            p_S = _probabilities(links, before)
            summary: dict[str, Any] = {
                "mentions": len(links),
                "from_defaults": score_probabilities(links, p_S),
            }
            named = links[links.exact_S]
            if len(named):
                summary["names"] = score_probabilities(named, p_S[links.exact_S])
            summary["others"] = score_probabilities(links[~links.exact_S], p_S[~links.exact_S])
            summary["letters"] = _letters(unlike, before)
            summary[f"after_{LINKS}"] = calibrated(links, unlike, before, draws=args.draws)
            record["sets"][name] = summary
            diagrams.append((name, p_S, links.hit_S))
            print(name, json.dumps(summary), flush=True)
    if args.plot:
        draw(diagrams, args.plot)
    if args.out:
        args.out.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", "utf-8")


def _letters(unlike: _GoldLinks, reranker: Reranker) -> dict[str, float]:
    p_S = _probabilities(unlike[~unlike.exact_S], reranker)
    return {
        "mean": round(float(p_S.mean()), 4),
        "95_of_100_below": round(float(np.quantile(p_S, 0.95)), 4),
    }


def calibrated(
    links: _GoldLinks, unlike: _GoldLinks, before: Reranker, *, draws: int
) -> dict[str, float]:
    """Calibrate on the links of drawn mentions, and evaluate on the other mentions."""
    rng = np.random.default_rng(1)
    best_fit = _fit(links, before, fits=True, l2=1.0)
    found: list[dict[str, float]] = []
    for _ in range(draws):
        drawn = rng.permutation(len(links))[:LINKS]
        seen = np.isin(links.mention_S, links.mention_S[drawn])
        fitted, cross_validated = _calibrated(links[drawn], before)
        evaluated_on, p_S = links[~seen], _probabilities(links[~seen], fitted)
        said_before_S = _probabilities(evaluated_on, before)
        ideal = drawn_from(links, best_fit, rng)
        from_ideal, _ = _calibrated(ideal[drawn], before)
        try:
            threshold = fitted.threshold(PRECISION)
        except ConfigError:
            threshold = 2.0
        got, precision, possible = coverage(evaluated_on, p_S, threshold)
        found.append(
            {
                "kept": float(cross_validated.better),
                "calibration_error_before": expected_calibration_error(
                    said_before_S, evaluated_on.hit_S
                ),
                "calibration_error": expected_calibration_error(p_S, evaluated_on.hit_S),
                "error_if_true": error_if_true(
                    [str(number) for number in evaluated_on.mention_S.tolist()], p_S, draws=5
                ),
                "error_if_drawn_from_the_best_fit": expected_calibration_error(
                    _probabilities(ideal[~seen], from_ideal), ideal[~seen].hit_S
                ),
                "nil_auroc": area_under_curve((~evaluated_on.nil_S).tolist(), p_S),
                "letters_95_of_100_below": _letters(unlike, fitted)["95_of_100_below"],
                "coverage_at_0.95": got,
                "precision_at_0.95": precision,
                "possible_coverage_at_0.95": possible,
            }
        )
    return {key: round(float(np.mean([one[key] for one in found])), 4) for key in found[0]} | {
        "worse_by_over_0.005": round(
            float(
                np.mean(
                    [
                        one["calibration_error"] > one["calibration_error_before"] + 0.005
                        for one in found
                    ]
                )
            ),
            4,
        )
    }


def drawn_from(links: _GoldLinks, truth: Reranker, rng: np.random.Generator) -> _GoldLinks:
    """Return the links with answers drawn from their probabilities.

    Equal mentions are right or wrong together.
    """
    count = int(links.mention_S.max()) + 1
    inside_S, first_S = (rng.random(count)[links.mention_S] for _ in range(2))
    p_in_S = truth.p_in_candidates(links.confidence_S3)
    p_S = _probabilities(links, truth)
    in_candidates_S = ~links.exact_S & (inside_S < p_in_S)
    hit_S = np.where(
        links.exact_S, first_S < p_S, in_candidates_S & (first_S < p_S / np.maximum(p_in_S, 1e-9))
    )
    return replace(links, in_candidates_S=in_candidates_S, hit_S=hit_S)


def draw(diagrams: Sequence[tuple[str, np.ndarray, np.ndarray]], path: Path) -> None:
    """Draw a reliability diagram of each set, in tenths of the probability."""
    from matplotlib.figure import Figure

    from mirror_rt.knowledge.ranking.reliability import reliability

    figure = Figure(figsize=(10, 6.5), layout="constrained")
    grid = figure.subplots(2, 3)
    for axes, (name, p_S, hit_S) in zip(grid.flat, diagrams, strict=False):
        bins = reliability(p_S, hit_S)
        axes.plot([0, 1], [0, 1], linestyle=":", color="grey")
        middle = np.array([one.accuracy for one in bins])
        ends = np.array([[one.accuracy_low, one.accuracy_high] for one in bins]).T
        axes.errorbar(
            [one.confidence for one in bins], middle, np.abs(ends - middle), marker="o", capsize=2
        )
        error = expected_calibration_error(p_S, hit_S)
        axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="probability", ylabel="share right")
        axes.set_title(f"{name}: {len(p_S):,} mentions, error {error:.3f}")
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
