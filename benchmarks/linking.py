r"""Link real mentions: each retriever alone and all together, as published and tuned on the names.

NCBI disease in the BioSyn convention, with both dictionaries: if a name belongs to several
entities, any of them counts as right; a composite mention is right only if every part is. HPO with
20 % of the exact synonyms held out; ESCO job titles; the dev parts of NCBI and of BC5CDR diseases,
the train parts of AskAPatient and of BB4 habitats, O*NET titles with ESCO (MELO).

Then the probabilities, with 20 % of the gold entities removed: calibration error, and the area
under the ROC curve for separating mentions with an entity from those without. They are measured
as the knowledge base learned them from its own names, and after calibrating on other gold links
(the train and dev mentions of NCBI with train_dictionary, half of the mentions elsewhere).

    python benchmarks/linking.py --data DIR --out benchmarks/results/linking.json
    python benchmarks/linking.py --data DIR --tune --tasks ncbi-test,ncbi-train,hpo,esco \
        --out benchmarks/results/linking_tuned.json                          # an hour
    python benchmarks/linking.py --data DIR --small                          # a minute or two
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from harness import provenance

from mirror_rt.bundle import Bundle
from mirror_rt.evaluation.gold import Convention, Query, read_gold
from mirror_rt.evaluation.holdout import hold_out_synonyms, join_pieces
from mirror_rt.evaluation.metrics import area_under_curve
from mirror_rt.exporting.pipeline import export
from mirror_rt.hashing import checksum, sha256_file
from mirror_rt.knowledge import KnowledgeBase
from mirror_rt.knowledge.formats import read_entities, read_names
from mirror_rt.knowledge.linking.exact import exact_matches
from mirror_rt.knowledge.ranking.features import FEATURES, FeatureInputs, compute_features
from mirror_rt.knowledge.ranking.rank import best_names
from mirror_rt.knowledge.ranking.reliability import expected_calibration_error
from mirror_rt.knowledge.ranking.ties import tie_groups
from mirror_rt.knowledge.retrieval.candidates import CandidateBatch, generate_candidates
from mirror_rt.knowledge.text.normalize import normalize
from mirror_rt.quickstart import demo_model
from mirror_rt.runtime import Encoder
from mirror_rt.types import Candidate, Entity, IndexKind, LinkResult, PairSource, Pooling, Preset

NCBI = "el_ncbi_disease"
FILES = {
    "ncbi-test": f"{NCBI}/test_dictionary.txt",
    "ncbi-train": f"{NCBI}/train_dictionary.txt",
    "hpo": "kb_hpo/hpo_names.tsv",
    "esco": "el_esco/esco_occupation_names.tsv",
    "ncbi-dev": f"{NCBI}/train_dictionary.txt",
    "bc5cdr-dev": f"{NCBI}/train_dictionary.txt",
    "askapatient-train": "el_askapatient/concept_dictionary.txt",
    "bb4-train": "el_bb4_habitat/ontobiotope_names.tsv",
    "melo": "el_melo/melo_usa_names.tsv",
}
GOLD = {
    "ncbi-test": f"{NCBI}/processed_test",
    "ncbi-train": f"{NCBI}/processed_test",
    "ncbi-dev": f"{NCBI}/processed_dev",
    "bc5cdr-dev": "el_bc5cdr_disease/processed_dev",
    "askapatient-train": "el_askapatient/train.mentions.tsv",
    "bb4-train": "el_bb4_habitat/train.mentions.tsv",
    "melo": "el_melo/melo_usa.test.tsv",
}
"""The mentions of each part of texts."""
LISTED = 10
"""Misses that the record spells out."""
DEPTH = 5
WAYS = ("exact", "lexical", "dense", "reranked", "together")
# A ranking: for each rank, the numbers of the entities that share it (those with the same name).
Ranking = Sequence[Sequence[int]]


@dataclass(frozen=True, kw_only=True)
class Task:
    """Entities, and mentions with their right ids."""

    name: str
    file: Path
    entities: Sequence[Entity]
    queries: Sequence[Query]


class Memory:
    """An encoder with a cache: many knowledge bases here share their names."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._known: dict[str, np.ndarray] = {}
        self.dim = encoder.dim

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Return (N, D) float32 unit rows."""
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        if new:
            self._known.update(zip(new, self._encoder.encode(new), strict=True))
        return np.stack([self._known[text] for text in texts])


def load(name: str, data: Path, *, small: bool) -> Task:
    file = data / FILES[name]
    entities: Sequence[Entity] = list(read_entities(file))
    match name:
        case "hpo":
            kept, asked = hold_out_synonyms(entities, share=0.2, rng=random.Random(13))
            entities, queries = kept, [Query(parts=(m,), ids=ids) for m, ids in asked]
        case "esco":
            titles = data / "el_esco/jobbert_dev.tsv"
            gold = read_gold(titles, mention_column="title", id_column="esco_id")
            queries = list(gold.queries)
        case _:
            gold = read_gold(data / GOLD[name], convention=Convention.BIOSYN)
            queries = list(gold.queries)
    if small:
        queries = random.Random(0).sample(queries, min(150, len(queries)))
        wanted = {id_ for query in queries for id_ in query.ids}
        entities = [
            e for i, e in enumerate(entities) if i % 20 == 0 or wanted & {e.id, *e.alternative_ids}
        ]
    return Task(name=name, file=file, entities=entities, queries=queries)


def tuned(
    task: Task, work: Path, *, base: Path, max_pairs: int | None, steps: int | None, seed: int
) -> Path:
    """Train with the preset ``linking`` on the task's own names and export it as int8."""
    from mirror_rt.training.config import TrainConfig
    from mirror_rt.training.loop import train

    corpus = work / f"{task.name}.tsv"
    with open(corpus, "w", encoding="utf-8", newline="") as handle:
        write = csv.writer(handle, delimiter="\t", quoting=csv.QUOTE_NONE, quotechar=None)
        write.writerow(("id", "name", "kind"))
        for entity in join_pieces(task.entities):
            write.writerows((entity.id, n.text, n.kind.value) for n in entity.names)
    config = TrainConfig(
        corpus=corpus, base=str(base), out=work / "checkpoint", preset=Preset.LINKING,
        pairs=PairSource.SYNONYMS, max_pairs=max_pairs, max_steps=steps, seed=seed,
    )  # fmt: skip
    # A kept model is used again only for exactly the same settings and names.
    key = checksum({"config": config.to_dict(), "names": sha256_file(corpus)})[:12]
    bundle = work / f"{task.name}-{key}"
    if not bundle.exists():
        train(config, force=True)
        export(config.out, bundle, pooling=Pooling.MEAN, sample=read_names(corpus))
    return bundle


def ways(kb: KnowledgeBase, mentions: Sequence[str]) -> dict[str, list[Ranking]]:
    """Rank by exact matches, by each retriever alone, by the reranker, and by everything."""
    rankings: dict[str, list[Ranking]] = {way: [] for way in WAYS}
    for found in exact_matches(kb.resources, mentions):
        levels = dict.fromkeys(zip(found.rows, found.match_types, strict=True))
        same = [*zip(found.rows, found.match_types, found.entities, strict=True)]
        rankings["exact"].append([[e for *at, e in same if (*at,) == level] for level in levels])
    for batch, features_PF in _scored(kb, mentions):
        columns = {
            "lexical": features_PF[:, FEATURES.index("trigram_cosine")],
            "dense": features_PF[:, FEATURES.index("dense_cosine")],
            "reranked": kb.resources.reranker.scores(features_PF),
        }
        for way, scores_P in columns.items():
            rankings[way] += _ranked(batch, scores_P)
    rankings["together"] = [_steps(kb, found) for found in kb.link(mentions, top=DEPTH + 3)]
    return rankings


def _scored(
    kb: KnowledgeBase, mentions: Sequence[str], *, size: int = 256
) -> Iterator[tuple[CandidateBatch, np.ndarray]]:
    """Yield the candidates of mentions, in batches, with their features."""
    found = kb.resources
    for start in range(0, len(mentions), size):
        texts = [mention.strip() for mention in mentions[start : start + size]]
        vectors_QD = np.asarray(kb.encoder.encode(texts), dtype=np.float32)
        batch = generate_candidates(texts, vectors_QD, found.retrievers)
        yield batch, compute_features(FeatureInputs(batch, found.retrievers, found.translation))


def _ranked(batch: CandidateBatch, scores_P: np.ndarray) -> list[Ranking]:
    """Rank the entities of each mention by their best names; equal names share a rank."""
    mention_P = batch.mention_K[batch.name_P]
    offsets, pair_E = best_names(mention_P, batch.entity_P, scores_P, mentions=len(batch))
    rankings: list[Ranking] = []
    for first, last in pairwise(offsets.tolist()):
        places: dict[int, list[int]] = {}
        for pair in pair_E[first:last].tolist():
            places.setdefault(int(batch.name_P[pair]), []).append(int(batch.entity_P[pair]))
        rankings.append(list(places.values()))
    return rankings


def _steps(kb: KnowledgeBase, found: Sequence[Candidate]) -> Ranking:
    places: list[list[int]] = []
    last: tuple[str, object] | None = None
    for candidate in found:
        numbers = kb.resources.catalogue.resolve(candidate.entity_id)
        if (candidate.matched_name, candidate.match_type) == last:
            places[-1] += numbers
        else:
            places.append(list(numbers))
        last = (candidate.matched_name, candidate.match_type)
    return places


def right_entities(kb: KnowledgeBase, queries: Sequence[Query]) -> list[set[int]]:
    resolve = kb.resources.catalogue.resolve
    return [{number for id_ in query.ids for number in resolve(id_)} for query in queries]


def place(ranking: Ranking, right: set[int]) -> int:
    return next((i for i, group in enumerate(ranking) if right.intersection(group)), 10**6)


def strict_place(ranking: Ranking, right: set[int]) -> int:
    flat = [entity for group in ranking for entity in group]
    return next((i for i, entity in enumerate(flat) if entity in right), 10**6)


def scored(
    rankings: Mapping[str, Ranking],
    queries: Sequence[Query],
    right: Sequence[set[int]],
    where: Callable[[Ranking, set[int]], int],
) -> dict[str, float]:
    worst = np.array(
        [
            max(where(rankings[part], ids) for part in query.parts)
            for query, ids in zip(queries, right, strict=True)
        ]
    )
    return {
        "acc@1": round(float((worst < 1).mean()), 4),
        "acc@5": round(float((worst < DEPTH).mean()), 4),
        "mrr": round(float((1 / (1 + worst)).mean()), 4),
    }


def linked(task: Task, encoder: Memory, bundle: Bundle, work: Path) -> dict[str, object]:
    kb = KnowledgeBase.build(
        bundle, task.entities, work / "kb", encoder=encoder, index=IndexKind.EXACT, force=True
    )
    with kb:
        parts = list(dict.fromkeys(part for query in task.queries for part in query.parts))
        right = [
            {n for i in q.ids for n in kb.resources.catalogue.resolve(i)} for q in task.queries
        ]
        rankings = {
            name: dict(zip(parts, found, strict=True)) for name, found in ways(kb, parts).items()
        }
        reranker = kb.resources.reranker
        result: dict[str, object] = {
            "task": task.name,
            "queries": len(task.queries),
            "counts": dict(kb.manifest.counts),
            "reranker": {**reranker.weights, "nil_score": reranker.nil_score},
            "fitted_on": dict(reranker.fitted_on),
        }
        for name, found in rankings.items():
            result[name] = {
                "any_holder": scored(found, task.queries, right, place),
                "strict_homonyms": scored(found, task.queries, right, strict_place),
            }
        result["misses"] = misses(kb, rankings["together"], task.queries, right)
    return result


def misses(
    kb: KnowledgeBase,
    rankings: Mapping[str, Ranking],
    queries: Sequence[Query],
    right: Sequence[set[int]],
) -> dict[str, object]:
    """Return how many parts of mentions are missed for each reason, and the frequent misses."""
    counted: Counter[tuple[str, frozenset[int]]] = Counter(
        (part, frozenset(ids))
        for query, ids in zip(queries, right, strict=True)
        for part in query.parts
        if place(rankings[part], ids)
    )
    texts = list(dict.fromkeys(mention for mention, _ in counted))
    answers = dict(zip(texts, kb.link(texts, top=1), strict=True))
    rankings_Q = [r for batch, found in _scored(kb, texts) for r in _ranked(batch, found[:, 0])]
    candidates = {
        mention: {entity for group in ranking for entity in group}
        for mention, ranking in zip(texts, rankings_Q, strict=True)
    }
    causes: Counter[str] = Counter()
    listed = []
    for (mention, ids), times in counted.most_common():
        found = answers[mention]
        if not ids:
            cause = "no right entity in the knowledge base"
        elif found and found[0].match_type.is_exact:
            cause = "the mention is a name of another entity"
        elif place(rankings[mention], set(ids)) < DEPTH:
            cause = "right among the first five"
        elif ids & candidates[mention]:
            cause = "right among the candidates, not among the first five"
        else:
            cause = "the right entity is no candidate"
        causes[cause] += times
        if len(listed) < LISTED:
            names = [name for _, name in kb.resources.catalogue.ids_and_names(sorted(ids)).values()]
            listed.append(
                {
                    "times": times, "mention": mention, "cause": cause,
                    "found": [found[0].entity_name, found[0].matched_name, found[0].match_type]
                    if found else [],
                    "right": names[:3],
                }
            )  # fmt: skip
    return {"causes": dict(causes.most_common()), "most_frequent": listed}


def probabilities(
    task: Task, encoder: Memory, bundle: Bundle, work: Path, data: Path
) -> dict[str, object]:
    """Remove 20 % of the entities; evaluate probabilities and NIL on mentions."""
    evaluated = [query for query in task.queries if len(query.parts) == 1]
    if task.name == "ncbi-train":  # with test_dictionary they are names of the knowledge base
        parts = [data / NCBI / f"processed_{part}" for part in ("train", "dev")]
        gold = [q for p in parts for q in read_gold(p, convention=Convention.BIOSYN).queries]
        teaching = [query for query in gold if len(query.parts) == 1]
    else:
        drawn = random.Random(2).sample(evaluated, len(evaluated))
        evaluated, teaching = drawn[::2], drawn[1::2]
    asked = sorted({id_ for query in [*evaluated, *teaching] for id_ in query.ids})
    gone = set(random.Random(1).sample(asked, len(asked) // 5))
    # An id is removed with each entity that lists it. Other ids of that entity stay if other
    # entities list them; otherwise a homonym would remove all of its entities.
    left = [e for e in task.entities if not gone & {e.id, *e.alternative_ids}]
    kb = KnowledgeBase.build(
        bundle, left, work / "kb", encoder=encoder, index=IndexKind.EXACT, force=True
    )
    with kb:
        summary: dict[str, object] = {"task": task.name, "mentions": len(evaluated)}
        summary["from_its_own_names"] = evaluate_probabilities(kb, evaluated)
        kb.calibrate([(query.parts[0], query.ids) for query in teaching])
        summary["calibrated_on"] = len(teaching)
        summary["calibrated"] = evaluate_probabilities(kb, evaluated)
    return summary


def evaluate_probabilities(kb: KnowledgeBase, queries: Sequence[Query]) -> dict[str, object]:
    answers = kb.link([query.parts[0] for query in queries], top=DEPTH)
    right = right_entities(kb, queries)
    hit = np.array(
        [
            bool(found) and not place(_steps(kb, found), ids)
            for found, ids in zip(answers, right, strict=True)
        ]
    )
    sure = np.array([confidence(found) for found in answers])
    return {
        "without_entity": sum(not ids for ids in right),
        "right": round(float(hit.mean()), 4),
        "mean_probability": round(float(sure.mean()), 4),
        "calibration_error": round(expected_calibration_error(sure, hit), 4),
        "error_if_true": round(error_if_true([query.parts[0] for query in queries], sure), 4),
        "nil_auroc": round(area_under_curve([bool(ids) for ids in right], sure), 4),
        "auroc_of_being_right": round(area_under_curve(hit.tolist(), sure), 4),
    }


def confidence(found: LinkResult) -> float:
    """Return the probability of the best candidate; those of tied candidates are added."""
    # Probabilities are exponentials of scores; each level of an exact match has its own.
    scores = [math.log(max(c.probability or 0.0, 1e-300)) for c in found]
    names = [(normalize(c.matched_name), c.match_type.is_exact and c.match_type) for c in found]
    groups = tie_groups(names, scores)
    best = (c.probability or 0.0 for c, group in zip(found, groups, strict=True) if not group)
    return min(sum(best), 1.0)


def error_if_true(mentions: Sequence[str], sure: np.ndarray, *, draws: int = 200) -> float:
    """Return the mean calibration error of so few mentions if every probability were true.

    Equal mentions are right or wrong together.
    """
    rng = np.random.default_rng(0)
    number_of = {mention: n for n, mention in enumerate(dict.fromkeys(mentions))}
    of_S = [number_of[mention] for mention in mentions]
    drawn = (rng.random(len(number_of))[of_S] < sure for _ in range(draws))
    return float(np.mean([expected_calibration_error(sure, hit) for hit in drawn]))


def summary(found: Mapping[str, Any]) -> str:
    """Print a result on one line."""
    by_way = [f"{way} {found[way]['any_holder']['acc@1']:.3f}" for way in WAYS]
    learned, gold = (found["probabilities"][way] for way in ("from_its_own_names", "calibrated"))
    return (
        f"{found['task']} {found['encoder']}: {', '.join(by_way)}, "
        f"acc@5 {found['together']['any_holder']['acc@5']:.3f}, "
        f"ECE {learned['calibration_error']:.3f}, NIL {learned['nil_auroc']:.3f}, calibrated "
        f"{gold['calibration_error']:.3f}, {gold['nil_auroc']:.3f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--bundle", type=Path, help="by default all-MiniLM-L6-v2 as int8")
    parser.add_argument("--base", type=Path, help="what --tune starts from")
    parser.add_argument("--tune", action="store_true", help="also trained on the names")
    parser.add_argument("--max-pairs", type=int, default=25_000, help="of --tune")
    parser.add_argument("--seeds", type=int, default=3, help="of --tune")
    parser.add_argument("--tasks", default=",".join(FILES))
    parser.add_argument("--threads", type=int)
    parser.add_argument("--small", action="store_true", help="150 mentions, a part of the names")
    parser.add_argument("--work", type=Path, help="keep what is trained here, and use it again")
    parser.add_argument("--out", type=Path, help="write the JSON here as well")
    args = parser.parse_args()
    record = provenance("linking", ("mirror-rt", "faiss-cpu", "onnxruntime", "numpy"))
    results: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as folder:
        work = args.work or Path(folder)
        work.mkdir(parents=True, exist_ok=True)
        base = args.base or demo_model()
        plain = args.bundle or work / "plain"
        if not plain.exists():
            export(base, plain, pooling=Pooling.MEAN)
        for name in args.tasks.split(","):
            task = load(name, args.data, small=args.small)
            steps = 3 if args.small else None
            encoders: list[tuple[str, int | None]] = [("untuned", None)]
            encoders += [("tuned", seed) for seed in range(args.seeds if args.tune else 0)]
            for label, seed in encoders:
                path = plain
                if seed is not None:
                    path = tuned(
                        task, work, base=base, max_pairs=args.max_pairs, steps=steps, seed=seed
                    )
                bundle = Bundle.open(path)
                encoder = Memory(Encoder.open(bundle, threads=args.threads))
                found = linked(task, encoder, bundle, work)
                found |= {"encoder": label, "seed": seed, "data_sha256": sha256_file(task.file)}
                found["probabilities"] = probabilities(task, encoder, bundle, work, args.data)
                results.append(found)
                print(summary(found), file=sys.stderr, flush=True)
    record["results"] = results
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", "utf-8")
    print(json.dumps({**record, "results": [{**f, "misses": []} for f in results]}))


if __name__ == "__main__":
    main()
