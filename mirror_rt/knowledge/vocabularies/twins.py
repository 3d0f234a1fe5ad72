"""Find twins: equal entities of two vocabularies, by id, cross-reference or shared name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from mirror_rt.knowledge.text.normalize import normalize
from mirror_rt.knowledge.vocabularies.vocabulary import CLOSE, Vocabulary
from mirror_rt.types import Entity

__all__ = [
    "Evidence",
    "Twins",
    "few",
    "find_twins",
    "keys_of",
    "met",
    "owners_of",
    "reference_key",
]

_MOST_HOLDERS = 10
"""A reference or a name that more entities share is not evidence."""
_PREFIXES = {
    "msh": "mesh", "mesh_id": "mesh", "umls_cui": "umls", "cui": "umls", "sctid": "snomedct",
    "snomedct_us": "snomedct", "snomed": "snomedct", "snomedct_us_2023_03_01": "snomedct",
    "orphanet": "orpha", "ordo": "orpha", "mim": "omim", "ncit": "nci", "ncithesaurus": "nci",
    "medra": "meddra", "icd10": "icd10cm", "do": "doid",
}  # fmt: skip
"""Other prefixes for the same vocabulary in ontologies."""


class Evidence(str, Enum):
    """Evidence that two entities are the same thing, the strongest first."""

    ID = "id"
    CROSS_REFERENCE = "cross-reference"
    SHARED_REFERENCE = "shared cross-reference"
    NAME = "shared name"

    __str__ = str.__str__


_WEIGHTS: dict[Evidence, int] = {
    Evidence.ID: 1_000_000, Evidence.CROSS_REFERENCE: 10_000, Evidence.SHARED_REFERENCE: 100,
    Evidence.NAME: 1,
}  # fmt: skip
"""Weights of the evidence: any number of weaker ones is less than a stronger one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Twins:
    """Pairs of entities of two vocabularies that are the same thing.

    Attributes:
        of: For each id of the other vocabulary: the id of its twin, and the strongest evidence.
        contradictions: For an id of the other vocabulary with contradicting evidence: the ids
            that it might equal. It refers to several entities, or several claim the same one.
        related: Ids of the other vocabulary that share something with an entity, twins or not.
    """

    of: Mapping[str, tuple[str, Evidence]] = field(default_factory=dict)
    contradictions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    related: frozenset[str] = frozenset()


def reference_key(reference: str) -> str:
    """Return a cross-reference in lower case, with one prefix for each vocabulary.

    >>> reference_key("MSH:D012345"), reference_key("MESH:D012345"), reference_key("Q42")
    ('mesh:d012345', 'mesh:d012345', 'q42')
    """
    prefix, colon, rest = reference.strip().casefold().partition(":")
    return f"{_PREFIXES.get(prefix, prefix)}:{rest}" if colon else prefix


def find_twins(own: Vocabulary, other: Vocabulary) -> Twins:
    """Pair entities that share an id, a cross-reference or a name.

    Two entities are twins if each is the single best partner of the other. A cross-reference from
    one to the other is stronger evidence than a third id that both refer to, which is stronger
    than shared names. Further evidence adds to the strongest.
    """
    owners = owners_of(own)
    scores: dict[str, Counter[str]] = {}
    why: dict[tuple[str, str], Evidence] = {}
    for entity in other.entities.values():
        own_scores: Counter[str] = Counter()
        for key in keys_of(entity):
            for evidence, looked_up in met(key):
                for id_ in few(owners.get(looked_up, ())):
                    own_scores[id_] += _WEIGHTS[evidence]
                    known = why.get((entity.id, id_), evidence)
                    why[entity.id, id_] = max(known, evidence, key=_WEIGHTS.__getitem__)
        if own_scores:
            scores[entity.id] = own_scores
    best_of = {id_: _best(own_scores) for id_, own_scores in scores.items()}
    claims: dict[str, Counter[str]] = {}
    for id_, best in best_of.items():
        if len(best) == 1:
            claims.setdefault(best[0], Counter())[id_] = scores[id_][best[0]]
    twins: dict[str, tuple[str, Evidence]] = {}
    contradictions: dict[str, tuple[str, ...]] = {}
    for id_, best in best_of.items():
        if len(best) == 1 and _best(claims[best[0]]) == (id_,):
            twins[id_] = best[0], why[id_, best[0]]
        else:
            contradictions[id_] = best
    return Twins(of=twins, contradictions=contradictions, related=frozenset(scores))


def owners_of(vocabulary: Vocabulary) -> dict[tuple[Evidence, str], list[str]]:
    """Return the entities that have each id, cross-reference or name."""
    owners: dict[tuple[Evidence, str], list[str]] = {}
    for entity in vocabulary.entities.values():
        for key in keys_of(entity):
            owners.setdefault(key, []).append(entity.id)
    return owners


def keys_of(entity: Entity) -> set[tuple[Evidence, str]]:
    """Return the ids, cross-references and names that an entity may share with another."""
    return set(_keys(entity))


def _keys(entity: Entity) -> Iterator[tuple[Evidence, str]]:
    for id_ in (entity.id, *entity.alternative_ids):
        yield Evidence.ID, reference_key(id_)
    for reference in entity.cross_references:
        yield Evidence.CROSS_REFERENCE, reference_key(reference)
    for name in entity.names:
        if name.kind in CLOSE and (key := normalize(name.text)):
            yield Evidence.NAME, key


def met(key: tuple[Evidence, str]) -> Iterator[tuple[Evidence, tuple[Evidence, str]]]:
    """Yield the entities of the other side with a key, and the kind of evidence."""
    kind, text = key
    match kind:
        case Evidence.ID:
            yield Evidence.ID, (Evidence.ID, text)
            yield Evidence.CROSS_REFERENCE, (Evidence.CROSS_REFERENCE, text)
        case Evidence.CROSS_REFERENCE:
            yield Evidence.CROSS_REFERENCE, (Evidence.ID, text)
            yield Evidence.SHARED_REFERENCE, (Evidence.CROSS_REFERENCE, text)
        case _:
            yield Evidence.NAME, key


def few(ids: Sequence[str]) -> Sequence[str]:
    """Return the ids, or none if they are too many to be evidence."""
    return ids if len(ids) <= _MOST_HOLDERS else ()


def _best(scores: Counter[str]) -> tuple[str, ...]:
    most = max(scores.values())
    return tuple(sorted(id_ for id_, score in scores.items() if score == most))
