"""List the changes between two releases of a vocabulary."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from mirror_rt.knowledge.vocabularies.vocabulary import Vocabulary

__all__ = ["Change", "ChangeKind", "compare"]


class ChangeKind(str, Enum):
    """The kind of a change."""

    ADDED = "added"
    RETIRED = "retired"
    RENAMED = "renamed"
    NAME_ADDED = "name added"
    NAME_REMOVED = "name removed"
    NAME_MOVED = "name moved"
    PARENTS = "parents"

    __str__ = str.__str__


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One change.

    Attributes:
        kind: The kind of the change.
        id: The id of the entity.
        name: The preferred name, or the name that was added, removed or moved.
        before: The old value: the preferred name, the parents, or empty.
        after: The new value: the successors of a retired entity, the new owner of a moved name,
            the preferred name, or the parents.
    """

    kind: ChangeKind
    id: str
    name: str
    before: str = ""
    after: str = ""


def compare(old: Vocabulary, new: Vocabulary) -> Iterator[Change]:
    """Yield the changes: retired entities, new entities, then the names of each entity.

    Names that a successor takes over from a retired entity are not listed.
    """
    for id_, entity in old.entities.items():
        if id_ not in new.entities:
            yield Change(
                kind=ChangeKind.RETIRED, id=id_, name=entity.name,
                after="|".join(new.successors.get(id_, ())),
            )  # fmt: skip
    for id_, entity in new.entities.items():
        if id_ not in old.entities:
            yield Change(
                kind=ChangeKind.ADDED, id=id_, name=entity.name,
                before="|".join(old.successors.get(id_, ())),
            )  # fmt: skip
    owners: dict[str, list[str]] = {}
    for id_, entity in new.entities.items():
        for text in dict.fromkeys(name.text for name in entity.names):
            owners.setdefault(text, []).append(id_)
    taken_over: dict[str, set[str]] = {}
    for gone, followers in new.successors.items():
        if gone in old.entities:
            texts = {name.text for name in old.entities[gone].names}
            for follower in followers:
                taken_over.setdefault(follower, set()).update(texts)
    moved: set[tuple[str, str]] = set()
    changes: list[Change] = []
    for id_, entity in old.entities.items():
        now = new.entities.get(id_)
        if now is None:
            continue
        if now.name != entity.name:
            changes.append(
                Change(kind=ChangeKind.RENAMED, id=id_, name=now.name, before=entity.name,
                       after=now.name)
            )  # fmt: skip
        if set(now.parents) != set(entity.parents):
            changes.append(
                Change(kind=ChangeKind.PARENTS, id=id_, name=now.name,
                       before="|".join(entity.parents), after="|".join(now.parents))
            )  # fmt: skip
        had = dict.fromkeys(name.text for name in entity.names)
        has = dict.fromkeys(name.text for name in now.names)
        for text in had:
            if text in has:
                continue
            to = [o for o in owners.get(text, ()) if text not in _texts(old, o)]
            moved.update((o, text) for o in to)
            kind = ChangeKind.NAME_MOVED if to else ChangeKind.NAME_REMOVED
            changes.append(Change(kind=kind, id=id_, name=text, after="|".join(to)))
    yield from changes
    for id_, entity in new.entities.items():
        if id_ not in old.entities:
            continue
        had_texts = _texts(old, id_) | taken_over.get(id_, set())
        for text in dict.fromkeys(name.text for name in entity.names):
            if text not in had_texts and (id_, text) not in moved:
                yield Change(kind=ChangeKind.NAME_ADDED, id=id_, name=text)


def _texts(vocabulary: Vocabulary, id_: str) -> set[str]:
    entity = vocabulary.entities.get(id_)
    return set() if entity is None else {name.text for name in entity.names}
