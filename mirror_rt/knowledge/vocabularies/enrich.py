"""Add names from another vocabulary to entities; or use its names as gold mentions."""

from __future__ import annotations

import random
from dataclasses import dataclass

from mirror_rt._count import counted
from mirror_rt.errors import ConfigError
from mirror_rt.knowledge.text.normalize import normalize
from mirror_rt.knowledge.vocabularies.twins import Twins, find_twins
from mirror_rt.knowledge.vocabularies.vocabulary import CLOSE, Vocabulary
from mirror_rt.types import Entity, Name, NameKind

__all__ = ["Enrichment", "check_related", "enrich", "gold_of"]

_LEAST_SHARE = 0.01
"""If a smaller share of the entities has a twin, the vocabularies are unrelated."""
_NIL_SHARE = 0.15
"""The share of NIL mentions; the same as when probabilities are learned from names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrichment:
    """The names that another vocabulary adds.

    Attributes:
        pieces: For each entity that gets names: its id and the new names.
        twins: The pairs of equal entities.
        names_added: The number of new names.
        names_known: Names of twins that their entity has already.
        conflicts: (name, id that would get it, ids that have it) of names that belong to another
            entity already. They are not added.
    """

    pieces: tuple[Entity, ...]
    twins: Twins
    names_added: int
    names_known: int
    conflicts: tuple[tuple[str, str, tuple[str, ...]], ...]


def check_related(own: Vocabulary, other: Vocabulary, twins: Twins) -> None:
    """Raise an error for unrelated vocabularies.

    Raises:
        ConfigError: Less than 1 % of the entities have a twin.
    """
    smaller = min(len(own), len(other))
    if len(twins.of) < max(1, _LEAST_SHARE * smaller):
        raise ConfigError(
            f"only {len(twins.of):,} of {counted(smaller, 'entity')} with a twin: these are "
            "vocabularies of other things; give --allow-few-twins to go on"
        )


def enrich(
    own: Vocabulary, other: Vocabulary, *, source: str, allow_few_twins: bool = False
) -> Enrichment:
    """Find the names that twins have in another vocabulary.

    A name that any entity has already is never added to another one.

    Args:
        own: The vocabulary that gets the names.
        other: The vocabulary that the names come from.
        source: The ``source`` of the new names.
        allow_few_twins: Whether to accept unrelated vocabularies.

    Raises:
        ConfigError: Few entities have a twin, and ``allow_few_twins`` is not set.
    """
    twins = find_twins(own, other)
    if not allow_few_twins:
        check_related(own, other, twins)
    owners_of_names: dict[str, list[str]] = own.owners_of_names()
    new: dict[str, list[Name]] = {}
    conflicts: list[tuple[str, str, tuple[str, ...]]] = []
    known = 0
    for id_, (twin, _) in twins.of.items():
        for name in other.entities[id_].names:
            key = normalize(name.text)
            owners = owners_of_names.get(key)
            if not key:
                continue
            if owners is None:
                kind = NameKind.EXACT if name.kind is NameKind.PREFERRED else name.kind
                owners_of_names[key] = [twin]
                new.setdefault(twin, []).append(
                    Name(text=name.text, kind=kind, language=name.language, source=source)
                )
            elif twin in owners:
                known += 1
            else:
                conflicts.append((name.text, twin, tuple(owners)))
    pieces = tuple(Entity(id=id_, names=tuple(names)) for id_, names in new.items())
    return Enrichment(
        pieces=pieces,
        twins=twins,
        names_added=sum(len(piece.names) for piece in pieces),
        names_known=known,
        conflicts=tuple(conflicts),
    )


def gold_of(
    own: Vocabulary, other: Vocabulary, *, most: int = 4_000, allow_few_twins: bool = False
) -> list[tuple[str, frozenset[str]]]:
    """Make gold mentions from the names of another vocabulary.

    A name of a twin links to its twin. A name of an entity that shares nothing with any entity
    links to nothing (NIL). Names that both vocabularies have are left out, as they were used to
    find the twins. Entities with contradicting evidence are left out too.

    Args:
        own: The vocabulary that the gold mentions link to.
        other: The vocabulary whose names are the mentions.
        most: The size of the sample. It is random but the same each time; 15 % are NIL, if there
            are enough.
        allow_few_twins: Whether to accept unrelated vocabularies.

    Raises:
        ConfigError: Few entities have a twin, and ``allow_few_twins`` is not set.
    """
    twins = find_twins(own, other)
    if not allow_few_twins:
        check_related(own, other, twins)
    known = own.owners_of_names()
    right: dict[str, frozenset[str]] = {}
    nil: dict[str, frozenset[str]] = {}
    for entity in other.entities.values():
        for name in entity.names:
            key = normalize(name.text)
            if name.kind not in CLOSE or not key or key in known:
                continue
            if entity.id in twins.of:
                twin, _ = twins.of[entity.id]
                right[name.text] = right.get(name.text, frozenset()) | {twin}
            elif entity.id not in twins.related:
                nil[name.text] = frozenset()
    rng = random.Random(0)
    for text in right.keys() & nil.keys():
        del nil[text]
    wanted = min(len(right), round(most * (1 - _NIL_SHARE)))
    chosen = rng.sample(sorted(right), wanted)
    others = min(len(nil), most - wanted, round(wanted * _NIL_SHARE / (1 - _NIL_SHARE)))
    pairs = [(text, right[text]) for text in chosen]
    pairs += [(text, frozenset[str]()) for text in rng.sample(sorted(nil), others)]
    rng.shuffle(pairs)
    return pairs
