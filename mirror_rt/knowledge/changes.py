"""Change a knowledge base: add, remove and replace entities, embedding only names that are new.

The changed folder is written beside the old one and takes its place in one step. Until then
every reader sees the old state, and a kill leaves it; two changes at once are refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mirror_rt.bundle import Bundle
from mirror_rt.errors import InputError, KnowledgeBaseError
from mirror_rt.knowledge.catalogue import Catalogue
from mirror_rt.knowledge.choosing import Choice
from mirror_rt.knowledge.index import may_grow
from mirror_rt.knowledge.knowledge_base import KnowledgeBase
from mirror_rt.knowledge.store import (
    BUNDLE,
    CATALOGUE,
    PASSAGES,
    KnowledgeBaseManifest,
    alone,
    write_store,
)
from mirror_rt.knowledge.tuning import RECALL
from mirror_rt.types import Embedder, Entity

if TYPE_CHECKING:
    from mirror_rt.types import Float32

__all__ = ["Change", "add", "remove", "update"]


_UNUSED_SHARE = 0.1
"""So many rows of an index may belong to strings that name nothing any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What a change did.

    Attributes:
        entities_added: Entities with ids that were new.
        entities_changed: Entities that were there and have other content now.
        entities_removed: Entities that are gone.
        entities_joined: Entities that others list as themselves and have taken in, less those
            that are on their own again.
        entities: Entities now.
        names_embedded: Strings that had to be embedded.
        names_reused: Strings whose vectors were there already.
        names_repeated: Names given that their entity had already, alike in every field.
        descriptions_left_out: Descriptions given for entities that have another.
        ids_missing: Ids to remove that were not there.
        gold_links: Links of a calibration on gold, which the change has undone.
    """

    entities_added: int
    entities_changed: int
    entities_removed: int
    entities_joined: int
    entities: int
    names_embedded: int
    names_reused: int
    names_repeated: int = 0
    descriptions_left_out: int = 0
    ids_missing: int = 0
    gold_links: int = 0


def add(
    kbdir: str | Path,
    entities: Iterable[Entity],
    *,
    encoder: Embedder | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Change:
    """Add entities, and names, types and references to entities that are there.

    Args:
        kbdir: The knowledge base.
        entities: Pieces as a reader gives them.
        encoder: The opened bundle of the knowledge base, where there is one already.
        progress: Called with (names done, names).

    Raises:
        KnowledgeBaseError: The folder is not a whole knowledge base, or is being changed.
        InputError: An entity cannot be read or stored; nothing has changed then.
    """
    return _merge(kbdir, entities, replacing=False, encoder=encoder, progress=progress)


def update(
    kbdir: str | Path,
    entities: Iterable[Entity],
    *,
    encoder: Embedder | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Change:
    """Replace entities by new ones with the same ids, names and all; add those that are new.

    Arguments and errors are those of ``add``.
    """
    return _merge(kbdir, entities, replacing=True, encoder=encoder, progress=progress)


def remove(
    kbdir: str | Path,
    ids: Sequence[str],
    *,
    missing_ok: bool = False,
    encoder: Embedder | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Change:
    """Remove entities by their ids; no name is embedded again.

    Args:
        kbdir: The knowledge base.
        ids: Ids of entities; alternative ids are not taken.
        missing_ok: Whether ids that are not there are passed over.
        encoder: The opened bundle of the knowledge base, where there is one already.
        progress: Called with (names done, names).

    Raises:
        KnowledgeBaseError: The folder is not a whole knowledge base, or is being changed.
        InputError: An id is not there, or no entity would be left.
    """
    with _changing(Path(kbdir), encoder=encoder) as kb:
        there = {id_ for id_ in ids if _has(kb, id_)}
        missing = [id_ for id_ in dict.fromkeys(ids) if id_ not in there]
        if missing and not missing_ok:
            more = f" and {len(missing) - 3:,} more" if len(missing) > 3 else ""
            raise InputError(f"{kbdir}: no entity {', '.join(missing[:3])}{more}; nothing removed")
        if all(piece.id in there for piece in kb.catalogue.pieces()):
            raise InputError(f"{kbdir}: no entity would be left; delete the folder instead")
        kept = (piece for piece in kb.catalogue.pieces() if piece.id not in there)
        change = _rewrite(
            kb, kept, leaving=_names_of(kb, there), removed=len(there), progress=progress
        )
        return replace(change, ids_missing=len(missing))


def _merge(
    kbdir: str | Path,
    entities: Iterable[Entity],
    *,
    replacing: bool,
    encoder: Embedder | None,
    progress: Callable[[int, int], None] | None,
) -> Change:
    with _changing(Path(kbdir), encoder=encoder) as kb:
        if kb.manifest.holds == PASSAGES:
            raise KnowledgeBaseError(
                f"{kbdir}: holds passages; build it again with: mirror-rt index --passages --force"
            )
        given: dict[str, list[Entity]] = {}
        for piece in entities:
            given.setdefault(piece.id, []).append(piece)
        there = {id_ for id_ in given if _has(kb, id_)}
        changed = repeated = 0

        def now() -> Iterator[Entity]:
            nonlocal changed, repeated
            waiting = dict(given)
            for old in kb.catalogue.pieces():
                if old.id not in waiting:
                    yield old
                    continue
                new = waiting.pop(old.id)
                pieces = new if replacing else [old, *new]
                changed += old.id in there and _joined(pieces) != _joined([old])
                repeated += _repeated(pieces)
                yield from pieces
            repeated += sum(map(_repeated, waiting.values()))
            yield from chain.from_iterable(waiting.values())

        change = _rewrite(
            kb,
            now(),
            leaving=_names_of(kb, given) if replacing else 0,
            added=len(given) - len(there),
            progress=progress,
        )
        return replace(change, entities_changed=changed, names_repeated=repeated)


def _joined(pieces: Sequence[Entity]) -> Entity:
    """Return one entity of all that its pieces say, what has no order in one."""
    types, others, references = (
        tuple(sorted({text for piece in pieces for text in getattr(piece, field)}))
        for field in ("types", "alternative_ids", "cross_references")
    )
    return Entity(
        id=pieces[0].id,
        names=tuple(dict.fromkeys(name for piece in pieces for name in piece.names)),
        types=types,
        alternative_ids=tuple(other for other in others if other != pieces[0].id),
        cross_references=references,
        description=next((piece.description for piece in pieces if piece.description), ""),
    )


def _repeated(pieces: Sequence[Entity]) -> int:
    names = [name for piece in pieces for name in piece.names]
    return len(names) - len(set(names))


def _names_of(kb: KnowledgeBase, ids: Iterable[str]) -> int:
    numbers = {number for id_ in ids for number in kb.catalogue.resolve(id_)}
    return sum(len(kb.catalogue.entity(number).names) for number in numbers)


def _has(kb: KnowledgeBase, id_: str) -> bool:
    return any(own == id_ for own, _ in kb.catalogue.headings(kb.catalogue.resolve(id_)).values())


def _rewrite(
    kb: KnowledgeBase,
    entities: Iterable[Entity],
    *,
    leaving: int,
    added: int = 0,
    removed: int = 0,
    progress: Callable[[int, int], None] | None,
) -> Change:
    """Write the new state; ``leaving`` is how many names may go with what is removed."""
    known = _KnownVectors(kb)
    recipe = kb.manifest.index
    choice = Choice.of(recipe)
    write_store(
        Bundle.open(kb.path / BUNDLE, verify=False),
        entities,
        kb.path,
        encoder=known,
        choice=choice,
        recall=float(recipe.get("recall", RECALL)),
        force=True,
        keep=True,
        grown_from=kb.path if _may_grow(kb, choice, leaving) else None,
        holds=kb.manifest.holds,
        progress=progress,
    )
    counts = KnowledgeBaseManifest.read(kb.path).counts
    with closing(Catalogue.open(kb.path / CATALOGUE)) as catalogue:
        reused = [text in known.rows for text in catalogue.texts()]
    return Change(
        entities_added=added,
        entities_changed=0,
        entities_removed=removed,
        entities_joined=kb.manifest.counts["entities"] + added - removed - counts["entities"],
        entities=counts["entities"],
        names_embedded=reused.count(False),
        names_reused=reused.count(True),
        descriptions_left_out=counts["further_descriptions"],
        gold_links=int(kb.combination.fitted_on.get("gold_links", 0)),
    )


def _may_grow(kb: KnowledgeBase, choice: Choice, leaving: int) -> bool:
    """Tell whether the index is better added to than built again.

    One that is added to keeps the rows of strings that name nothing any more, until there are
    too many.
    """
    rows, width = kb.index.vectors_ND.shape
    unused = kb.manifest.counts.get("unused_texts", 0) + leaving
    kind, _ = choice.settle(rows, width)
    return may_grow(kb.manifest.index, kind, rows=rows) and unused <= _UNUSED_SHARE * rows


@contextmanager
def _changing(kbdir: Path, *, encoder: Embedder | None) -> Iterator[KnowledgeBase]:
    """Open a knowledge base that nobody else may change meanwhile."""
    if not kbdir.is_dir():
        raise KnowledgeBaseError(f"{kbdir}: no such folder; make one with: mirror-rt index")
    with alone(kbdir), KnowledgeBase.open(kbdir, encoder=encoder) as kb:
        yield kb


class _KnownVectors:
    """An embedder that has the vectors of a knowledge base, and asks its model for others."""

    def __init__(self, kb: KnowledgeBase) -> None:
        self._kb = kb
        self.rows = {text: row for row, text in enumerate(kb.catalogue.texts())}

    @property
    def dim(self) -> int:
        """Width of a vector."""
        return self._kb.manifest.dim

    def encode(self, texts: Sequence[str]) -> Float32:
        """Return (N, D) float32 rows; those that are known exactly as they were stored."""
        vectors_ND = np.empty((len(texts), self.dim), dtype=np.float32)
        new = [i for i, text in enumerate(texts) if text not in self.rows]
        known = [i for i, text in enumerate(texts) if text in self.rows]
        if new:
            vectors_ND[new] = self._kb.encoder.encode([texts[i] for i in new])
        vectors_ND[known] = self._kb.index.vectors_ND[[self.rows[texts[i]] for i in known]]
        return vectors_ND
