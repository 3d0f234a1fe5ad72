"""Names of another vocabulary for the entities of one; and the other as a judge of its links."""

from __future__ import annotations

import random
from dataclasses import dataclass

from mirror_rt.errors import ConfigError
from mirror_rt.knowledge.text.normalize import normalize
from mirror_rt.knowledge.vocabularies.twins import Twins, find_twins
from mirror_rt.knowledge.vocabularies.vocabulary import CLOSE, Vocabulary
from mirror_rt.types import Entity, Name, NameKind

__all__ = ["Enrichment", "check_related", "enrich", "gold_of"]

_LEAST_SHARE = 0.01
"""Vocabularies of which fewer entities have a twin are of other things."""
_NIL_SHARE = 0.15
"""As when probabilities are learned from names alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrichment:
    """What another vocabulary adds.

    Attributes:
        pieces: For each entity that gains, its id and the new names.
        twins: Who is whose twin.
        names_added: How many names are new.
        names_known: Names of twins that their entity has already.
        conflicts: (name, id that would get it, ids that bear it) of names that are another
            entity's: none is added.
    """

    pieces: tuple[Entity, ...]
    twins: Twins
    names_added: int
    names_known: int
    conflicts: tuple[tuple[str, str, tuple[str, ...]], ...]


def check_related(own: Vocabulary, other: Vocabulary, twins: Twins) -> None:
    """Refuse vocabularies of other things.

    Raises:
        ConfigError: Under one in a hundred entities has a twin.
    """
    smaller = min(len(own), len(other))
    if len(twins.of) < max(1, _LEAST_SHARE * smaller):
        raise ConfigError(
            f"only {len(twins.of):,} of {smaller:,} entities have a twin: these are vocabularies "
            "of other things; nothing is done without --force"
        )


def enrich(own: Vocabulary, other: Vocabulary, *, source: str, force: bool = False) -> Enrichment:
    """Find the names that twins have in another vocabulary.

    A name that any entity bears already, whoever it is, is never given to a second one.

    Args:
        own: What gains.
        other: Where names come from.
        source: What new names say that they are from.
        force: Whether few twins are enough.

    Raises:
        ConfigError: Few entities have a twin, and ``force`` is not set.
    """
    twins = find_twins(own, other)
    if not force:
        check_related(own, other, twins)
    holders: dict[str, list[str]] = own.holders()
    new: dict[str, list[Name]] = {}
    conflicts: list[tuple[str, str, tuple[str, ...]]] = []
    known = 0
    for id_, (twin, _) in twins.of.items():
        for name in other.entities[id_].names:
            key = normalize(name.text)
            bearers = holders.get(key)
            if not key:
                continue
            if bearers is None:
                kind = NameKind.EXACT if name.kind is NameKind.PREFERRED else name.kind
                holders[key] = [twin]
                new.setdefault(twin, []).append(
                    Name(text=name.text, kind=kind, language=name.language, source=source)
                )
            elif twin in bearers:
                known += 1
            else:
                conflicts.append((name.text, twin, tuple(bearers)))
    pieces = tuple(Entity(id=id_, names=tuple(names)) for id_, names in new.items())
    return Enrichment(
        pieces=pieces,
        twins=twins,
        names_added=sum(len(piece.names) for piece in pieces),
        names_known=known,
        conflicts=tuple(conflicts),
    )


def gold_of(
    own: Vocabulary, other: Vocabulary, *, most: int = 4_000, force: bool = False
) -> list[tuple[str, frozenset[str]]]:
    """Take the names of another vocabulary for gold mentions of one.

    Names of a twin mean its twin; names of an entity that shares nothing with any mean nothing
    here (NIL). Names that are names here as well are left out: by them the twins were found. So
    are entities of which the evidence does not decide.

    Args:
        own: The vocabulary that the gold mentions are for.
        other: The vocabulary whose names are the mentions.
        most: A random sample of so many, the same each time; 15 % of it NIL, if there are enough.
        force: Whether few twins are enough.

    Raises:
        ConfigError: Few entities have a twin, and ``force`` is not set.
    """
    twins = find_twins(own, other)
    if not force:
        check_related(own, other, twins)
    known = own.holders()
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
