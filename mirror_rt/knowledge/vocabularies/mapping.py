"""Map each entity of a vocabulary to an entity of a knowledge base, by all its names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Protocol

from mirror_rt._count import counted
from mirror_rt.errors import ConfigError
from mirror_rt.knowledge.formats.sssom import SssomMapping, justification
from mirror_rt.knowledge.vocabularies.references import References
from mirror_rt.knowledge.vocabularies.twins import Evidence
from mirror_rt.knowledge.vocabularies.vocabulary import CLOSE
from mirror_rt.types import Candidate, Entity, LinkResult, Relation

__all__ = ["map_entities"]

_AT_ONCE = 1_024
_CONSIDERED = 5
"""Candidates of each name."""


class Links(Protocol):
    """The part of a knowledge base that links names."""

    def link(self, mentions: Sequence[str], *, top: int) -> list[LinkResult]:
        """Return the candidates of each mention."""
        ...


@dataclass(slots=True)
class _Pair:
    """A pair of entities, one of each vocabulary, and the evidence for it."""

    subject: Entity
    object_id: str
    object_name: str
    names: int
    by_name: dict[str, Candidate] = field(default_factory=dict)
    evidence: Evidence | None = None
    reliability: float = 0.0
    against: tuple[str, ...] = ()

    @property
    def best(self) -> Candidate | None:
        return min(self.by_name.values(), key=_surest, default=None)

    @property
    def probability(self) -> float:
        """The probability that the most probable name or the reference is right."""
        by_name = 0.0 if self.best is None else self.best.probability or 0.0
        return 1.0 - (1.0 - by_name) * (1.0 - self.reliability)

    @property
    def support(self) -> float:
        """The sum of the probabilities of all names."""
        return sum(c.probability or 0.0 for c in self.by_name.values())

    def order(self) -> tuple[bool, bool, float, float, float, str]:
        """Return the sort key: reference or exact name, preferred name, probability, support.

        The probability of an exact match depends on its letters alone. It does not tell which
        name of an entity is the best evidence, so it comes after the preferred name.
        """
        best, preferred = self.best, self.by_name.get(self.subject.name)
        referred = self.evidence is not None
        exact = referred or (best is not None and best.match_type.is_exact)
        first = referred or (preferred is not None and preferred.match_type.is_exact)
        score = 0.0 if best is None else best.score
        return not exact, not first, -self.probability, -score, -self.support, self.object_id


def _surest(candidate: Candidate) -> tuple[bool, float, float]:
    """Return the sort key: an identical name first, then by probability."""
    return (
        not candidate.match_type.is_exact, -(candidate.probability or 0.0), -candidate.score,
    )  # fmt: skip


def map_entities(
    entities: Iterable[Entity],
    kb: Links,
    *,
    references: References | None = None,
    min_probability: float = 0.0,
    one_to_one: bool = False,
    progress: Callable[[int, int], None] | None = None,
    total: int = 0,
) -> Iterator[SssomMapping]:
    """Yield the best mapping of each entity, in the order of the entities.

    All preferred, exact and abbreviated names of an entity are linked. If the preferred name is
    an exact match, it decides; otherwise the most probable name; if several are equal, the sum of
    the probabilities of all names. The probability of a mapping is that of its most probable
    name. A cross-reference has the probability in ``references.reliability``. Names and
    references count as independent: the probability that both are wrong is the product.

    Args:
        entities: Whole entities, not pieces.
        kb: The knowledge base to map to.
        references: The cross-references, from ``find_references``; None to use names alone.
        min_probability: Leave out mappings below this probability.
        one_to_one: Whether to map to each entity of ``kb`` only once, by the most probable
            mapping. This holds all pairs in memory.
        progress: Called with (entities, ``total``).
        total: The number of entities.

    Raises:
        ConfigError: The probability is out of range.
        KnowledgeBaseError: As ``KnowledgeBase.link``.
    """
    if not 0.0 <= min_probability <= 1.0:
        raise ConfigError(f"min_probability: must be between 0 and 1, got {min_probability}")
    found = _pairs(entities, kb, references or References(), progress, total)
    chosen = _each_once([*found]) if one_to_one else (pairs[0] for pairs in found)
    for pair in chosen:
        if pair.probability >= min_probability:
            yield _mapping(pair)


def _pairs(
    entities: Iterable[Entity],
    kb: Links,
    references: References,
    progress: Callable[[int, int], None] | None,
    total: int,
) -> Iterator[list[_Pair]]:
    """Yield the pairs of each entity with at least one pair, the best first."""
    remaining, done = iter(entities), 0
    while block := list(islice(remaining, _AT_ONCE)):
        names = [
            [*dict.fromkeys(name.text for name in entity.names if name.kind in CLOSE)]
            or [entity.name]
            for entity in block
        ]
        texts = [*dict.fromkeys(text for own_names in names for text in own_names)]
        linked: Mapping[str, LinkResult] = dict(
            zip(texts, kb.link(texts, top=_CONSIDERED), strict=True)
        )
        for entity, own_names in zip(block, names, strict=True):
            if pairs := _pairs_of(entity, own_names, linked, references):
                yield pairs
        done += len(block)
        if progress is not None:
            progress(done, total)


def _pairs_of(
    entity: Entity,
    texts: Sequence[str],
    linked: Mapping[str, LinkResult],
    references: References,
) -> list[_Pair]:
    """Return the pairs from the names and the cross-references of an entity, the best first."""
    by_name: dict[str, dict[str, Candidate]] = {}
    for text in texts:
        for candidate in linked[text]:
            by_name.setdefault(candidate.entity_id, {})[text] = candidate
    names = {id_: next(iter(found.values())).entity_name for id_, found in by_name.items()}
    ids, evidence = references.of.get(entity.id, ((), None))
    # A reference to several entities can be right for only one of them.
    reliability = 0.0 if evidence is None else references.reliability[evidence] / len(ids)
    against = references.contradictions.get(entity.id, ())
    pairs = [
        _Pair(
            subject=entity, object_id=id_, object_name=names.get(id_) or references.labels[id_],
            names=len(texts), by_name=by_name.get(id_, {}),
            evidence=evidence if id_ in ids else None,
            reliability=reliability if id_ in ids else 0.0,
            against=tuple(other for other in against if other != id_),
        )
        for id_ in dict.fromkeys((*by_name, *ids))
    ]  # fmt: skip
    return sorted(pairs, key=_Pair.order)


def _each_once(found: Sequence[Sequence[_Pair]]) -> list[_Pair]:
    """Choose pairs greedily by probability; no entity of either side is used twice."""
    order = sorted(
        ((place, pair) for place, pairs in enumerate(found) for pair in pairs),
        key=lambda one: (*one[1].order(), one[0]),
    )
    subjects, objects = dict[int, _Pair](), set[str]()
    for place, pair in order:
        if place not in subjects and pair.object_id not in objects:
            subjects[place] = pair
            objects.add(pair.object_id)
    return [subjects[place] for place in sorted(subjects)]


def _mapping(pair: _Pair) -> SssomMapping:
    sorted_pairs = sorted(pair.by_name.values(), key=_surest)
    reasons = [f"{len(sorted_pairs)} of {counted(pair.names, 'name')}"] if sorted_pairs else []
    reasons += [str(pair.evidence)] if pair.evidence is not None else []
    against = f"; contradicted by {', '.join(pair.against)}" if pair.against else ""
    return SssomMapping(
        subject_id=pair.subject.id,
        subject_label=pair.subject.name,
        relation=next((c.relation for c in sorted_pairs if c.relation), Relation.EXACT),
        object_id=pair.object_id,
        object_label=pair.object_name,
        justification=_justification(pair),
        confidence=pair.probability,
        score=sorted_pairs[0].score if sorted_pairs else None,
        match_strings=tuple(dict.fromkeys(c.matched_name for c in sorted_pairs)),
        comment=f"by {' and '.join(reasons)}{against}",
    )


def _justification(pair: _Pair) -> str:
    """Return the term of the Semantic Mapping Vocabulary for the evidence of a mapping."""
    match pair.evidence, pair.best:
        case None, Candidate() as best:
            return justification(best.match_type)
        case _, Candidate():
            return "semapv:CompositeMatching"
        case Evidence.SHARED_REFERENCE, _:
            return "semapv:MappingChaining"
        case _:
            return "semapv:BackgroundKnowledgeBasedMatching"
