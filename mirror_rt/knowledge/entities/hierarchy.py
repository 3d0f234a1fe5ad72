"""The relation of two entities in a hierarchy."""

from __future__ import annotations

from enum import Enum

from mirror_rt.knowledge.entities.reader import Catalogue

__all__ = ["Kinship", "kinship"]


class Kinship(str, Enum):
    """What one entity is to another."""

    PARENT = "parent"
    CHILD = "child"
    SIBLING = "sibling"

    __str__ = str.__str__


def kinship(catalogue: Catalogue, one: int, other: int) -> Kinship | None:
    """Return the relation of one entity (number) to another; None if they are not close kin.

    Only direct parents count. If a file lists all ancestors of an entity as its parents, those
    that are also ancestors of another parent are ignored.
    """
    parents, other_parents = _direct_parents(catalogue, one), _direct_parents(catalogue, other)
    if one in other_parents:
        return Kinship.PARENT
    if other in parents:
        return Kinship.CHILD
    return Kinship.SIBLING if parents & other_parents else None


def _direct_parents(catalogue: Catalogue, number: int) -> set[int]:
    parents = catalogue.parents(number)
    if len(parents) < 2:
        return parents
    above = {parent: catalogue.ancestors(parent) for parent in parents}
    return {
        parent
        for parent in parents
        # In a circle of parents, each is above the others; all of them are kept.
        if not any(parent in above[q] and q not in above[parent] for q in parents - {parent})
    }
