"""Find equal entities of two vocabularies by their cross-references."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from mirror_rt.knowledge.text.normalize import normalize
from mirror_rt.knowledge.vocabularies.twins import Evidence, few, keys_of, met, owners_of
from mirror_rt.knowledge.vocabularies.vocabulary import CLOSE, Vocabulary
from mirror_rt.types import Entity

__all__ = ["References", "find_references"]

_SUPPOSED_RIGHT, _SUPPOSED = 9, 10
"""The prior for the reliability of cross-references: 9 right of 10."""


@dataclass(frozen=True, slots=True, kw_only=True)
class References:
    """The entities that cross-references lead to.

    Attributes:
        of: For each mapped id: the ids of the other vocabulary that its strongest
            cross-references lead to, and the kind of these references.
        reliability: For each kind of reference: how often it leads to an entity with one of the
            same names (after normalization), among entities whose names occur at all.
        contradictions: For an id whose cross-references and shared names lead to different ids:
            all these ids.
        labels: The name of each entity that a reference leads to.
    """

    of: Mapping[str, tuple[tuple[str, ...], Evidence]] = field(default_factory=dict)
    reliability: Mapping[Evidence, float] = field(default_factory=dict)
    contradictions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)


def find_references(own: Vocabulary, other: Vocabulary) -> References:
    """Follow the cross-references between two vocabularies.

    A common id takes precedence over a cross-reference from one to the other, which takes
    precedence over a third id that both refer to. The third id counts only if one entity on each
    side refers to it: if several do, it may be a broader concept.

    Args:
        own: The vocabulary to map.
        other: The vocabulary to map to.
    """
    theirs, own_owners = owners_of(other), owners_of(own)
    owners = other.owners_of_names(close=True)
    of: dict[str, tuple[tuple[str, ...], Evidence]] = {}
    contradictions: dict[str, tuple[str, ...]] = {}
    labels: dict[str, str] = {}
    compared, agreed = Counter[Evidence](), Counter[Evidence]()
    for entity in own.entities.values():
        found: dict[str, Evidence] = {}
        for key in keys_of(entity):
            for evidence, looked_up in met(key):
                led_to = few(theirs.get(looked_up, ()))
                alone = len(led_to) == 1 and len(own_owners[key]) == 1
                if evidence is Evidence.NAME or (
                    evidence is Evidence.SHARED_REFERENCE and not alone
                ):
                    continue
                for id_ in led_to:
                    found[id_] = min(found.get(id_, evidence), evidence, key=_ORDER.index)
        if not found:
            continue
        strongest = min(found.values(), key=_ORDER.index)
        ids = tuple(sorted(id_ for id_, evidence in found.items() if evidence is strongest))
        of[entity.id] = ids, strongest
        labels.update((id_, other.entities[id_].name) for id_ in ids)
        named = _named(entity, owners)
        if len(ids) == 1 and named:
            compared[strongest] += 1
            agreed[strongest] += ids[0] in named
        if len(ids) > 1 or (named and not named.intersection(ids)):
            contradictions[entity.id] = (*ids, *sorted(named.difference(ids)))
    return References(
        of=of,
        reliability={
            kind: (agreed[kind] + _SUPPOSED_RIGHT) / (compared[kind] + _SUPPOSED)
            for kind in {kind for _, kind in of.values()}
        },
        contradictions=contradictions,
        labels=labels,
    )


_ORDER = [*Evidence]


def _named(entity: Entity, owners: Mapping[str, list[str]]) -> set[str]:
    texts = {normalize(name.text) for name in entity.names if name.kind in CLOSE}
    return {id_ for text in texts for id_ in few(owners.get(text, ()))}
