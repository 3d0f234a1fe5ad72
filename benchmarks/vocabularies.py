r"""Map vocabularies, and compare with the cross-references that they publish.

The gold is the source's cross-references to the target (``cross_references`` of its file), as
published by the maintainers of the ontology. The methods are exact names, normalized names,
normalized names with at most one edit, and ``mirror-rt map`` by names alone, because its
cross-references are the gold. Precision is over the entities with a published reference, because
it is unknown whether the others should have one. The gain of cross-references is measured on a
random half of them: ``map`` either knows the other half, or not.

``--enrich``: the dev and train mentions of NCBI are linked with MEDIC, and again with the names of
MONDO's twins added (``kb enrich``).

``--judge``: a fifth of the gold entities is removed, as in linking.py, similar entities stay. The
probabilities that the knowledge base learned from its own names are compared with those fitted to
the names of MONDO (``calibrate --from-kb``), on held-out synonyms of HPO and on the dev mentions of
NCBI with MEDIC.

    python benchmarks/vocabularies.py --map ZFA.jsonl UBERON_KB --map ZFA.jsonl CL_KB \
        --judge DATA BUNDLE --enrich DATA BUNDLE --out benchmarks/results/vocabularies.json
"""

from __future__ import annotations

import argparse
import random
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import harness
import linking

from mirror_rt.bundle import Bundle
from mirror_rt.evaluation.gold import Convention, Query, read_gold
from mirror_rt.knowledge import KnowledgeBase
from mirror_rt.knowledge.text.normalize import normalize
from mirror_rt.knowledge.vocabularies import (
    Vocabulary,
    enrich,
    find_references,
    gold_of,
    map_entities,
    read_vocabulary,
)
from mirror_rt.knowledge.vocabularies.vocabulary import CLOSE
from mirror_rt.runtime import Encoder
from mirror_rt.types import IndexKind, LinkResult

HALVES = 5
THRESHOLDS = (0.0, 0.5, 0.7, 0.9)


def close_names(vocabulary: Vocabulary, *, exact: bool) -> dict[str, set[str]]:
    """Return the entities of each name."""
    found: dict[str, set[str]] = {}
    for entity in vocabulary.entities.values():
        for name in entity.names:
            if name.kind in CLOSE:
                key = name.text if exact else normalize(name.text)
                found.setdefault(key, set()).add(entity.id)
    return found


def shorter(text: str) -> Iterator[str]:
    """Yield a text, and it without each of its letters; texts one edit apart share one."""
    yield text
    if len(text) > 4:
        yield from (text[:i] + text[i + 1 :] for i in range(len(text)))


def by_names(own: Vocabulary, target: Vocabulary, *, exact: bool, edits: bool) -> dict[str, str]:
    """Map to the entity that shares most names; among equals, to the first."""
    there: dict[str, set[str]] = {}
    for key, ids in close_names(target, exact=exact).items():
        for part in shorter(key) if edits else (key,):
            there.setdefault(part, set()).update(ids)
    found: dict[str, str] = {}
    for entity in own.entities.values():
        votes: dict[str, int] = {}
        names = {n.text if exact else normalize(n.text) for n in entity.names if n.kind in CLOSE}
        for name in names:
            parts = shorter(name) if edits else (name,)
            for id_ in {id_ for part in parts for id_ in there.get(part, ())}:
                votes[id_] = votes.get(id_, 0) + 1
        if votes:
            found[entity.id] = min(votes, key=lambda id_: (-votes[id_], id_))
    return found


def scored(mapped: Mapping[str, str], gold: Mapping[str, set[str]]) -> dict[str, Any]:
    """Return precision and recall over the entities with a published reference."""
    scored_ids = [id_ for id_ in mapped if id_ in gold]
    right = sum(mapped[id_] in gold[id_] for id_ in scored_ids)
    precision = right / len(scored_ids) if scored_ids else 0.0
    recall = right / len(gold)
    both = precision + recall
    return {
        "mapped": len(mapped),
        "mapped_with_gold": len(scored_ids),
        "precision": round(precision, 4),
        "recall": round(recall, 4),
        "f1": round(2 * precision * recall / both, 4) if both else 0.0,
    }


def mapped(source: Path, target: Path) -> dict[str, Any]:
    """Map a file to a knowledge base by every method."""
    own, other = read_vocabulary(source), read_vocabulary(target)
    gold: dict[str, set[str]] = {}
    for entity in own.entities.values():
        references = {id_ for id_ in entity.cross_references if id_ in other.entities}
        if references:
            gold[entity.id] = references
    ways: dict[str, Any] = {
        "exact names": scored(by_names(own, other, exact=True, edits=False), gold),
        "normalized names": scored(by_names(own, other, exact=False, edits=False), gold),
        "normalized names, one edit": scored(by_names(own, other, exact=False, edits=True), gold),
    }
    with KnowledgeBase.open(target) as kb:
        links = Remembered(kb)
        for once in (False, True):
            mappings = list(map_entities(own.entities.values(), links, one_to_one=once))
            for least in THRESHOLDS:
                kept = {
                    m.subject_id: m.object_id for m in mappings if (m.confidence or 0.0) >= least
                }
                way = f"map{', one to one' if once else ''}, probability >= {least}"
                ways[way] = scored(kept, gold)
        halves = [half_known(own, other, gold, links, seed) for seed in range(HALVES)]
    return {
        "source": source.name, "target": target.name, "entities": len(own),
        "entities_of_the_target": len(other), "published_references": len(gold), "ways": ways,
        "half_of_the_references": {
            way: {
                name: [
                    round(float(f(half[way][name] for half in halves)), 4) for f in (mean, stdev)
                ]
                for name in ("precision", "recall", "f1")
            }
            for way in halves[0]
        },
    }  # fmt: skip


class Remembered:
    """A knowledge base that links each name once."""

    def __init__(self, kb: KnowledgeBase) -> None:
        self._kb = kb
        self._known: dict[str, LinkResult] = {}

    def link(self, mentions: Sequence[str], *, top: int) -> list[LinkResult]:
        """Return the entities that each mention may mean."""
        new = [text for text in dict.fromkeys(mentions) if text not in self._known]
        if new:
            self._known.update(zip(new, self._kb.link(new, top=top), strict=True))
        return [self._known[text] for text in mentions]


def half_known(
    own: Vocabulary,
    other: Vocabulary,
    gold: Mapping[str, set[str]],
    kb: Remembered,
    seed: int,
) -> dict[str, dict[str, Any]]:
    """Map with half of the references and with none, and score on the other half."""
    half = set(random.Random(seed).sample(sorted(gold), len(gold) // 2))
    rest = Vocabulary(
        replace(e, cross_references=()) if e.id in half else e for e in own.entities.values()
    )
    half_gold = {id_: gold[id_] for id_ in half}
    ways: dict[str, dict[str, Any]] = {}
    for name, references in (("none", None), ("half", find_references(rest, other))):
        for once in (False, True):
            mappings = list(
                map_entities(rest.entities.values(), kb, references=references, one_to_one=once)
            )
            for least in (0.0, 0.5):
                kept = {
                    m.subject_id: m.object_id for m in mappings if (m.confidence or 0.0) >= least
                }
                way = f"{name}{', one to one' if once else ''}, probability >= {least}"
                ways[way] = scored({i: o for i, o in kept.items() if i in half}, half_gold)
    return ways


def evaluate_gold_links(name: str, data: Path, bundle: Path) -> dict[str, Any]:
    """Fit probabilities to the names of MONDO, with a fifth of the gold entities removed."""
    task = linking.load("hpo" if name == "hpo" else "ncbi-train", data, small=False)
    queries = task.queries
    if name == "ncbi-dev":
        dev = data / linking.NCBI / "processed_dev"
        queries = read_gold(dev, convention=Convention.BIOSYN).queries
    queries = [query for query in queries if len(query.parts) == 1]
    drawn = random.Random(2).sample(queries, min(len(queries), 2_000))
    right_ids = sorted({id_ for query in drawn for id_ in query.ids})
    gone = set(random.Random(1).sample(right_ids, len(right_ids) // 5))
    left = [e for e in task.entities if not gone & {e.id, *e.alternative_ids}]
    gold = gold_of(Vocabulary(left), read_vocabulary(data / "kb_mondo/mondo_names.tsv"))
    opened = Bundle.open(bundle)
    with (
        tempfile.TemporaryDirectory() as work,
        KnowledgeBase.build(
            opened, left, Path(work) / "kb", encoder=linking.Memory(Encoder.open(opened))
        ) as kb,
    ):
        record: dict[str, Any] = {
            "task": name, "mentions": len(drawn), "gold_names": len(gold),
            "gold_names_without_entity": sum(not ids for _, ids in gold),
            "from_its_own_names": linking.evaluate_probabilities(kb, drawn),
        }  # fmt: skip
        kb.calibrate(gold)
        record["from_another_vocabulary"] = linking.evaluate_probabilities(kb, drawn)
    return record


def enriched(data: Path, bundle: Path) -> list[dict[str, Any]]:
    """Link mentions of NCBI with MEDIC, and with the names of MONDO's twins added."""
    task = linking.load("ncbi-train", data, small=False)
    queries_of = {
        part: list(
            read_gold(
                data / linking.NCBI / f"processed_{part}", convention=Convention.BIOSYN
            ).queries
        )
        for part in ("dev", "train")
    }
    found = enrich(
        Vocabulary(task.entities),
        read_vocabulary(data / "kb_mondo/mondo_names.tsv"),
        source="mondo",
    )
    opened = Bundle.open(bundle)
    encoder = linking.Memory(Encoder.open(opened))
    scores: dict[str, dict[str, Any]] = {part: {} for part in queries_of}
    first: dict[str, dict[str, dict[str, list[bool]]]] = {part: {} for part in queries_of}
    for name, more in (("without", ()), ("with", found.pieces)):
        with (
            tempfile.TemporaryDirectory() as work,
            KnowledgeBase.build(
                opened, [*task.entities, *more], Path(work) / "kb", encoder=encoder,
                index=IndexKind.EXACT,
            ) as kb,
        ):  # fmt: skip
            for part, queries in queries_of.items():
                scores[part][name], first[part][name] = by_way(kb, queries)
    return [
        {
            "task": f"ncbi-{part}", "mentions": len(queries), "twins": len(found.twins.of),
            "names_added": found.names_added, "names_known": found.names_known,
            "conflicts": len(found.conflicts), **scores[part],
            "won_and_lost": {
                way: won_and_lost(before, first[part]["with"][way])
                for way, before in first[part]["without"].items()
            },
        }
        for part, queries in queries_of.items()
    ]  # fmt: skip


def by_way(
    kb: KnowledgeBase, queries: Sequence[Query]
) -> tuple[dict[str, dict[str, float]], dict[str, list[bool]]]:
    """Return the accuracy of each method, and which mentions it links right."""
    parts = list(dict.fromkeys(part for query in queries for part in query.parts))
    right = linking.right_entities(kb, queries)
    rankings = {
        way: dict(zip(parts, places, strict=True))
        for way, places in linking.ways(kb, parts).items()
    }
    return {
        way: linking.scored(places, queries, right, linking.place)
        for way, places in rankings.items()
    }, {
        way: [
            all(linking.place(places[part], ids) == 0 for part in query.parts)
            for query, ids in zip(queries, right, strict=True)
        ]
        for way, places in rankings.items()
    }


def won_and_lost(before: Sequence[bool], after: Sequence[bool]) -> list[int]:
    """Count the mentions that are right only after, and only before."""
    pairs = [*zip(before, after, strict=True)]
    return [pairs.count((False, True)), pairs.count((True, False))]


def main() -> None:
    """Run as a command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "--map", nargs=2, type=Path, action="append", default=[], metavar=("FILE", "KB")
    )
    parser.add_argument("--judge", nargs=2, type=Path, metavar=("DATA", "BUNDLE"))
    parser.add_argument("--enrich", nargs=2, type=Path, metavar=("DATA", "BUNDLE"))
    args = harness.common(parser)
    record = harness.record("vocabularies", args, {})
    mappings = [mapped(source, target) for source, target in args.map]
    sets = ("hpo", "ncbi-dev") if args.judge else ()
    judged = [evaluate_gold_links(name, *args.judge) for name in sets]
    names = enriched(*args.enrich) if args.enrich else []
    harness.finish(record | {"mappings": mappings, "judged": judged, "enriched": names}, args.out)


if __name__ == "__main__":
    main()
