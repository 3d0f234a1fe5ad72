"""Map every entity of one vocabulary to the entities of a knowledge base, by all its names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Protocol

from mirror_rt.errors import ConfigError
from mirror_rt.knowledge.formats.sssom import SssomMapping, justification
from mirror_rt.knowledge.vocabularies.vocabulary import CLOSE
from mirror_rt.types import Candidate, Entity, LinkResult

__all__ = ["map_entities"]

_AT_ONCE = 1_024
_CONSIDERED = 5
"""Candidates of each name."""


class Links(Protocol):
    """What links names: a knowledge base."""

    def link(self, mentions: Sequence[str], *, top: int) -> list[LinkResult]:
        """Return the entities that each mention may mean."""
        ...


@dataclass(slots=True)
class _Pair:
    """An entity of each vocabulary, and the names by which the one led to the other."""

    subject: Entity
    names: int
    by_name: dict[str, Candidate] = field(default_factory=dict)

    @property
    def best(self) -> Candidate:
        return min(self.by_name.values(), key=_surest)

    @property
    def probability(self) -> float:
        return self.best.probability or 0.0

    @property
    def support(self) -> float:
        """The sum of the probabilities of all names."""
        return sum(c.probability or 0.0 for c in self.by_name.values())

    def order(self) -> tuple[bool, float, float, str]:
        """Sort by: a name letter for letter, the surest name, then by how much all names say."""
        best = self.best
        return (*_surest(best)[:2], -self.support, best.entity_id)


def _surest(candidate: Candidate) -> tuple[bool, float, float]:
    """Sort by: a name letter for letter first, then by probability."""
    return (
        not candidate.match_type.is_exact, -(candidate.probability or 0.0), -candidate.score,
    )  # fmt: skip


def map_entities(
    entities: Iterable[Entity],
    kb: Links,
    *,
    min_probability: float = 0.0,
    one_to_one: bool = False,
    progress: Callable[[int, int], None] | None = None,
    total: int = 0,
) -> Iterator[SssomMapping]:
    """Yield for each entity that which its names lead to best, in the order of the entities.

    Every name that means the entity itself is linked. The surest one decides, and its probability
    is that of the mapping; where several are as sure, the sum of the probabilities of all names.

    Args:
        entities: Whole entities, not pieces.
        kb: What they are mapped to.
        min_probability: Leave out mappings below.
        one_to_one: Whether an entity of ``kb`` is mapped to once only, by the surest: then all
            pairs are held until the last is known.
        progress: Called with (entities, ``total``).
        total: How many entities there are.

    Raises:
        ConfigError: The probability is out of range.
        KnowledgeBaseError: As ``KnowledgeBase.link`` says.
    """
    if not 0.0 <= min_probability <= 1.0:
        raise ConfigError(f"min_probability must be between 0 and 1, got {min_probability}")
    found = _pairs(entities, kb, progress, total)
    chosen = _each_once([*found]) if one_to_one else (pairs[0] for pairs in found)
    for pair in chosen:
        if pair.probability >= min_probability:
            yield _mapping(pair)


def _pairs(
    entities: Iterable[Entity],
    kb: Links,
    progress: Callable[[int, int], None] | None,
    total: int,
) -> Iterator[list[_Pair]]:
    """Yield the pairs of each entity that has any, the best first."""
    remaining, done = iter(entities), 0
    while block := list(islice(remaining, _AT_ONCE)):
        names = [
            [*dict.fromkeys(name.text for name in entity.names if name.kind in CLOSE)]
            or [entity.name]
            for entity in block
        ]
        texts = [*dict.fromkeys(text for mine in names for text in mine)]
        linked: Mapping[str, LinkResult] = dict(
            zip(texts, kb.link(texts, top=_CONSIDERED), strict=True)
        )
        for entity, mine in zip(block, names, strict=True):
            pairs: dict[str, _Pair] = {}
            for text in mine:
                for candidate in linked[text]:
                    pair = pairs.setdefault(
                        candidate.entity_id, _Pair(subject=entity, names=len(mine))
                    )
                    pair.by_name[text] = candidate
            if pairs:
                yield sorted(pairs.values(), key=_Pair.order)
        done += len(block)
        if progress is not None:
            progress(done, total)


def _each_once(found: Sequence[Sequence[_Pair]]) -> list[_Pair]:
    """Choose pairs so that no entity of either side is in two, the surest first."""
    order = sorted(
        ((place, pair) for place, pairs in enumerate(found) for pair in pairs),
        key=lambda one: (*one[1].order(), one[0]),
    )
    subjects, objects = dict[int, _Pair](), set[str]()
    for place, pair in order:
        if place not in subjects and pair.best.entity_id not in objects:
            subjects[place] = pair
            objects.add(pair.best.entity_id)
    return [subjects[place] for place in sorted(subjects)]


def _mapping(pair: _Pair) -> SssomMapping:
    best = pair.best
    sure = sorted(pair.by_name.values(), key=_surest)
    return SssomMapping(
        subject_id=pair.subject.id,
        subject_label=pair.subject.name,
        relation=best.relation or next(c.relation for c in sure if c.relation),
        object_id=best.entity_id,
        object_label=best.entity_name,
        justification=justification(best.match_type),
        confidence=pair.probability,
        score=best.score,
        match_strings=tuple(dict.fromkeys(c.matched_name for c in sure)),
        comment=f"by {len(pair.by_name)} of {pair.names} names",
    )
