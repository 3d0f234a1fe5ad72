"""Count what a file of entities holds, before a long build."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from mirror_rt.knowledge.text.normalize import normalize
from mirror_rt.types import Entity

__all__ = ["AmbiguousName", "KbStatistics", "compute_statistics"]

_SHOWN = 5
_PERCENTILES = (1, 5, 50, 95, 99)


@dataclass(frozen=True, slots=True, kw_only=True)
class AmbiguousName:
    """A string that names several entities, and the number of these entities."""

    name: str
    entities: int


@dataclass(frozen=True, slots=True, kw_only=True)
class KbStatistics:
    """Counts of a stream of entities.

    Attributes:
        entities: Distinct ids.
        names: Names read.
        distinct_names: Distinct strings among them; one vector each.
        repeated_names: Names that the same entity had already, letter for letter.
        ambiguous_names: Distinct strings that name more than one entity.
        ambiguous_normalized: Distinct normalized strings that name more than one entity.
        most_ambiguous: The five strings with the most entities, in descending order.
        entities_with_one_name: Entities with one distinct name.
        names_by_kind: Names of each kind, in descending order.
        names_by_language: Names of each language, in descending order; ``""`` if not given.
        names_by_source: Names of each source, in descending order; ``""`` if not given.
        names_by_script: Names by the script of their first letter; ``none`` without letters.
        name_length: Characters of the distinct strings: ``min``, ``max`` and percentiles.
        longest_name_of: Id of an entity with the longest name.
        types: Entities of each type, in descending order.
        alternative_ids: Distinct alternative ids.
        alternative_ids_that_are_entities: Alternative ids that are also the own id of an entity.
        shared_alternative_ids: Alternative ids of more than one entity.
        cross_references: References to other databases.
        descriptions: Entities with a description.
        entities_with_parent: Entities with at least one parent.
        missing_parents: Distinct ids of parents that no entity has.
        entities_in_circles: Entities that are their own ancestors.
    """

    entities: int
    names: int
    distinct_names: int
    repeated_names: int
    ambiguous_names: int
    ambiguous_normalized: int
    most_ambiguous: tuple[AmbiguousName, ...]
    entities_with_one_name: int
    names_by_kind: dict[str, int]
    names_by_language: dict[str, int]
    names_by_source: dict[str, int]
    names_by_script: dict[str, int]
    name_length: dict[str, int]
    longest_name_of: str
    types: dict[str, int]
    alternative_ids: int
    alternative_ids_that_are_entities: int
    shared_alternative_ids: int
    cross_references: int
    descriptions: int
    entities_with_parent: int
    missing_parents: int
    entities_in_circles: int


class _NameOwners:
    """The owners of each string: a number for one owner, a set for several. Most have one."""

    def __init__(self) -> None:
        self.of: dict[str, int | set[int]] = {}

    def add(self, text: str, number: int) -> bool:
        """Add an owner; return whether it was new."""
        held = self.of.get(text)
        if held is None:
            self.of[text] = number
        elif isinstance(held, set):
            if number in held:
                return False
            held.add(number)
        elif held == number:
            return False
        else:
            self.of[text] = {held, number}
        return True

    def shared(self) -> list[tuple[str, int]]:
        """Return the strings with several owners, with the number of owners."""
        return [(text, len(held)) for text, held in self.of.items() if isinstance(held, set)]


def compute_statistics(entities: Iterable[Entity]) -> KbStatistics:
    """Count what is in a stream of entities; pieces with the same id are one entity.

    Memory grows with the distinct names: about 0.4 GB for a million.
    """
    numbers: dict[str, int] = {}
    own_names: list[int] = []
    texts, folded, alternative = _NameOwners(), _NameOwners(), _NameOwners()
    kinds, languages, sources = Counter[str](), Counter[str](), Counter[str]()
    scripts, typed = Counter[str](), Counter[str]()
    seen_types: set[tuple[int, str]] = set()
    described: set[int] = set()
    above: dict[int, set[str]] = {}
    names = references = 0
    longest = ("", 0)
    for entity in entities:
        number = numbers.setdefault(entity.id, len(numbers))
        if number == len(own_names):
            own_names.append(0)
        for name in entity.names:
            names += 1
            kinds[name.kind.value] += 1
            languages[name.language] += 1
            sources[name.source] += 1
            scripts[_script(name.text)] += 1
            if len(name.text) > longest[1]:
                longest = (entity.id, len(name.text))
            if texts.add(name.text, number):
                own_names[number] += 1
                folded.add(normalize(name.text), number)
        for other in entity.alternative_ids:
            alternative.add(other, number)
        for kind in entity.types:
            if (number, kind) not in seen_types:
                seen_types.add((number, kind))
                typed[kind] += 1
        references += len(entity.cross_references)
        if entity.description:
            described.add(number)
        if entity.parents:
            above.setdefault(number, set()).update(entity.parents)
    shared = sorted(texts.shared(), key=lambda pair: (-pair[1], pair[0]))
    return KbStatistics(
        entities=len(numbers),
        names=names,
        distinct_names=len(texts.of),
        repeated_names=names - sum(own_names),
        ambiguous_names=len(shared),
        ambiguous_normalized=len(folded.shared()),
        most_ambiguous=tuple(AmbiguousName(name=t, entities=n) for t, n in shared[:_SHOWN]),
        entities_with_one_name=sum(count == 1 for count in own_names),
        names_by_kind=dict(kinds.most_common()),
        names_by_language=dict(languages.most_common()),
        names_by_source=dict(sources.most_common()),
        names_by_script=dict(scripts.most_common()),
        name_length=_lengths(Counter(map(len, texts.of))),
        longest_name_of=longest[0],
        types=dict(typed.most_common()),
        alternative_ids=len(alternative.of),
        alternative_ids_that_are_entities=sum(other in numbers for other in alternative.of),
        shared_alternative_ids=len(alternative.shared()),
        cross_references=references,
        descriptions=len(described),
        **_hierarchy(numbers, alternative.of, above),
    )


def _hierarchy(
    numbers: dict[str, int], alternative: dict[str, int | set[int]], above: dict[int, set[str]]
) -> dict[str, int]:
    edges: list[tuple[int, int]] = []
    missing: set[str] = set()
    for number, parents in above.items():
        for parent in parents:
            other = numbers.get(parent, alternative.get(parent))
            if other is None:
                missing.add(parent)
            else:
                edges += [(number, o) for o in (other if isinstance(other, set) else (other,))]
    return {
        "entities_with_parent": len(above),
        "missing_parents": len(missing),
        "entities_in_circles": _in_circles(edges, len(numbers)),
    }


def _in_circles(edges: list[tuple[int, int]], size: int) -> int:
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    if not edges:
        return 0
    children, parents = np.array(edges).T
    graph = coo_array((np.ones(len(edges), dtype=np.int8), (children, parents)), (size, size))
    _, component_E = connected_components(graph, connection="strong")
    alone = {child for child, parent in edges if child == parent}
    sizes = np.bincount(component_E)
    return int((sizes[component_E] > 1).sum()) + sum(
        int(sizes[component_E[number]]) == 1 for number in alone
    )


def _lengths(counts: Counter[int]) -> dict[str, int]:
    """Return the minimum, the maximum and percentiles of lengths (nearest rank)."""
    total = counts.total()
    if not total:
        return {}
    ordered = sorted(counts)
    found = {"min": ordered[0]}
    for percentile in _PERCENTILES:
        rank, passed = max(1, -(-total * percentile // 100)), 0
        for length in ordered:
            passed += counts[length]
            if passed >= rank:
                found[f"p{percentile}"] = length
                break
    return found | {"max": ordered[-1]}


def _script(text: str) -> str:
    for sign in text:
        script = _script_of(sign)
        if script:
            return script
    return "none"


@lru_cache(maxsize=1 << 16)
def _script_of(sign: str) -> str:
    if not sign.isalpha():
        return ""
    # The first word of a letter's Unicode name is its script, with few exceptions.
    word = unicodedata.name(sign, "OTHER").split()[0].removesuffix("-").casefold()
    return {"cjk": "han", "fullwidth": "latin", "modifier": "other"}.get(word, word)
