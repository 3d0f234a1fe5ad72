"""Which entities of two vocabularies their cross-references say are the same thing."""

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
"""What is known before names say how often cross-references are right: as if 9 of 10 were."""


@dataclass(frozen=True, slots=True, kw_only=True)
class References:
    """What cross-references say.

    Attributes:
        of: For an id of what is mapped the ids of the other vocabulary that its strongest
            cross-references lead to, and which these are.
        reliability: How often references of each kind lead to an entity that bears a name of
            theirs, letter for letter but for capitals and punctuation, where any entity does.
        contradictions: For an id the ids that its cross-references and shared names lead to,
            where these are not one.
        labels: The name of each entity that a reference leads to.
    """

    of: Mapping[str, tuple[tuple[str, ...], Evidence]] = field(default_factory=dict)
    reliability: Mapping[Evidence, float] = field(default_factory=dict)
    contradictions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)


def find_references(own: Vocabulary, other: Vocabulary) -> References:
    """Follow the cross-references between two vocabularies.

    An id that both have goes before a cross-reference of one to the other, and this before a
    third id that both refer to. The third id counts only if one entity of either side refers to
    it: what several refer to may be broader than they are.

    Args:
        own: What is mapped.
        other: What it is mapped to.
    """
    theirs, mine = owners_of(other), owners_of(own)
    bearers = other.holders(close=True)
    of: dict[str, tuple[tuple[str, ...], Evidence]] = {}
    contradictions: dict[str, tuple[str, ...]] = {}
    labels: dict[str, str] = {}
    compared, agreed = Counter[Evidence](), Counter[Evidence]()
    for entity in own.entities.values():
        found: dict[str, Evidence] = {}
        for key in keys_of(entity):
            for evidence, looked_up in met(key):
                led_to = few(theirs.get(looked_up, ()))
                alone = len(led_to) == 1 and len(mine[key]) == 1
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
        named = _named(entity, bearers)
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


def _named(entity: Entity, bearers: Mapping[str, list[str]]) -> set[str]:
    texts = {normalize(name.text) for name in entity.names if name.kind in CLOSE}
    return {id_ for text in texts for id_ in few(bearers.get(text, ()))}
