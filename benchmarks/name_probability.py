r"""Fit the probability that a mention which equals a name means the entity with that name.

The mentions are those of five sets of texts (NCBI disease and BC5CDR diseases with MEDIC,
AskAPatient, BB4 habitats, ESCO job titles) that equal a name after normalization. All sets have
equal weight; a mention has the square root of its frequency as weight. The model is a logistic
regression with a constant for each set, so the weights describe differences within a set; no
weight may have the wrong sign. The median of the constants is kept. Each set is evaluated with
the weights of the others, MEDIC's two together. No encoder is needed.

    python benchmarks/name_probability.py --data DIR --out benchmarks/results/name_probability.json
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from harness import provenance
from scipy.optimize import minimize

from mirror_rt.evaluation.gold import Convention, Query, read_gold
from mirror_rt.evaluation.metrics import area_under_curve
from mirror_rt.knowledge.arrays import hash_text
from mirror_rt.knowledge.entities.names import NameArrays, NameArraysWriter
from mirror_rt.knowledge.formats import read_entities
from mirror_rt.knowledge.ranking import name_probability
from mirror_rt.knowledge.ranking.name_probability import EXACT_MATCH_FEATURES, exact_match_features
from mirror_rt.knowledge.ranking.reliability import expected_calibration_error
from mirror_rt.knowledge.text.match_levels import match_level
from mirror_rt.knowledge.text.normalize import normalize
from mirror_rt.types import MatchType

MEDIC = "el_ncbi_disease/train_dictionary.txt"
SETS: dict[str, tuple[str, Sequence[str], tuple[str, str] | None]] = {
    "ncbi": (MEDIC, [f"el_ncbi_disease/processed_{part}" for part in ("train", "dev")], None),
    "bc5cdr": (
        MEDIC, [f"el_bc5cdr_disease/processed_{part}" for part in ("train", "dev")], None
    ),
    "askapatient": (
        "el_askapatient/concept_dictionary.txt", ["el_askapatient/train.mentions.tsv"],
        ("mention", "id"),
    ),
    "bb4": (
        "el_bb4_habitat/ontobiotope_names.tsv", ["el_bb4_habitat/train.mentions.tsv"],
        ("mention", "id"),
    ),
    "esco": (
        "el_esco/esco_occupation_names.tsv", ["el_esco/jobbert_dev.tsv"], ("title", "esco_id")
    ),
}  # fmt: skip
BOUNDS = ((0.0, None), (None, 0.0), (None, 0.0))
PENALTY = 0.01
LEVELS = (MatchType.EXACT, MatchType.CASE, MatchType.PUNCTUATION)


@dataclass(frozen=True)
class Mentions:
    """Mentions of a set that equal names: the features of the names, and whether they are right."""

    features_S3: np.ndarray
    hit_S: np.ndarray
    weight_S: np.ndarray


def read(name: str, data: Path) -> Mentions:
    file, gold, columns = SETS[name]
    queries: list[Query] = []
    for part in gold:
        if columns is None:
            found = read_gold(data / part, convention=Convention.BIOSYN)
        else:
            found = read_gold(data / part, mention_column=columns[0], id_column=columns[1])
        queries += [query for query in found.queries if len(query.parts) == 1]
    owners: dict[str, set[str]] = {}
    for entity in read_entities(data / file):
        for one in entity.names:
            owners.setdefault(one.text, set()).update({entity.id, *entity.alternative_ids})
    texts = list(owners)
    names = _arrays([normalize(text) for text in texts])
    counts = Counter(query.parts[0] for query in queries)
    rows, hits, weights = [], [], []
    for query in queries:
        mention = query.parts[0].strip()
        _, same = names.rows_named(np.array([hash_text(normalize(mention))]))
        levels = {row: match_level(mention, texts[row]) for row in same.tolist()}
        best = min((LEVELS.index(x) for x in levels.values() if x in LEVELS), default=None)
        if best is None:
            continue
        tied = [row for row, level in levels.items() if level is LEVELS[best]]
        rows.append(tied[0])
        hits.append(any(query.ids & owners[texts[row]] for row in tied))
        weights.append(counts[query.parts[0]] ** -0.5)
    return Mentions(
        features_S3=exact_match_features(names, np.array(rows)),
        hit_S=np.array(hits),
        weight_S=np.array(weights) / sum(weights),
    )


def _arrays(normalized: Sequence[str]) -> NameArrays:
    writer = NameArraysWriter()
    writer.add(normalized)
    with tempfile.TemporaryDirectory() as folder:
        writer.write(Path(folder), entities=[(row, 0, 0) for row in range(len(normalized))])
        return NameArrays.open(Path(folder))


def fit(sets: Sequence[Mentions]) -> np.ndarray:
    """Return the weights of ``EXACT_MATCH_FEATURES`` and the constant."""
    features_S3 = np.concatenate([one.features_S3 for one in sets])
    hit_S = np.concatenate([one.hit_S for one in sets])
    weight_S = np.concatenate([one.weight_S for one in sets]) / len(sets)
    of_set_SD = np.repeat(np.eye(len(sets)), [len(one.hit_S) for one in sets], axis=0)
    inputs = np.concatenate([features_S3, of_set_SD], axis=1)
    penalty = np.array([PENALTY] * len(EXACT_MATCH_FEATURES) + [1e-4] * len(sets))

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        odds = inputs @ weights
        error = weight_S * (1 / (1 + np.exp(-odds)) - hit_S)
        value = weight_S @ (np.logaddexp(0, odds) - hit_S * odds) + penalty @ weights**2 / 2
        return float(value), inputs.T @ error + penalty * weights

    start = np.zeros(inputs.shape[1])
    bounds = [*BOUNDS, *[(None, None)] * len(sets)]
    weights = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds).x
    # The median constant: a single unusual set of texts does not change it.
    return np.append(
        weights[: len(EXACT_MATCH_FEATURES)], np.median(weights[len(EXACT_MATCH_FEATURES) :])
    )


def score_probabilities(mentions: Mentions, p_S: np.ndarray) -> dict[str, float]:
    said_S = np.where(mentions.hit_S, p_S, 1 - p_S)
    return {
        "log_loss": round(float(-np.log(np.maximum(said_S, 1e-9)).mean()), 4),
        "calibration_error": round(expected_calibration_error(p_S, mentions.hit_S), 4),
        "auroc_of_being_right": round(area_under_curve(mentions.hit_S.tolist(), p_S), 4),
        "mean_probability": round(float(p_S.mean()), 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, help="write the record here")
    parser.add_argument(
        "--write", action="store_true", help="put the weights into the package that runs this"
    )
    args = parser.parse_args()
    sets = {name: read(name, args.data) for name in SETS}
    record = provenance("name_probability", ("mirror-rt", "numpy", "scipy"))
    record["sets"] = {}
    for name, mentions in sets.items():
        others = [
            one for other, one in sets.items() if other != name and SETS[other][0] != SETS[name][0]
        ]
        weights = fit(others)
        p_S = 1 / (1 + np.exp(-(mentions.features_S3 @ weights[:-1] + weights[-1])))
        short_S = mentions.features_S3[:, 1] == 1
        record["sets"][name] = {
            "mentions": len(mentions.hit_S),
            "right": round(float(mentions.hit_S.mean()), 4),
            "right_of_short_words": round(float(mentions.hit_S[short_S].mean()), 4),
            "short_words": int(short_S.sum()),
            "constant_0.93": score_probabilities(mentions, np.full(len(p_S), 0.93)),
            "learned_from_the_others": score_probabilities(mentions, p_S),
        }
        print(name, json.dumps(record["sets"][name]))
    weights = fit(list(sets.values()))
    names = [*EXACT_MATCH_FEATURES, "constant"]
    made = {name: round(float(w), 4) for name, w in zip(names, weights, strict=True)}
    record["name_weights"] = made
    print(json.dumps(made))
    if args.write:
        path = Path(name_probability.__file__).with_suffix(".json")
        path.write_text(json.dumps({"name_weights": made}, indent=1) + "\n", encoding="utf-8")
    if args.out:
        args.out.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", "utf-8")


if __name__ == "__main__":
    main()
