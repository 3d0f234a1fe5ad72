"""Update a knowledge base: add, remove and replace entities. Only new names are embedded.

The weights and the probabilities stay, even those of a calibration. So an update changes answers
about other entities only through the frequencies of words and trigrams. ``refit`` learns the
weights again.

The changed folder is written beside the old one, and replaces it in one step. Until then, readers
see the old state; if the process is killed, the old state remains. A second update at the same
time is an error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from mirror_rt.bundle import Bundle
from mirror_rt.errors import InputError, KnowledgeBaseError
from mirror_rt.knowledge.entities.reader import Catalogue
from mirror_rt.knowledge.ranking.reranker import Reranker
from mirror_rt.knowledge.retrieval.autotune import RECALL
from mirror_rt.knowledge.retrieval.index_selection import IndexChoice
from mirror_rt.knowledge.retrieval.vector_index import can_append
from mirror_rt.knowledge.storage.build import KnownVectors, write_knowledge_base
from mirror_rt.knowledge.storage.feedback import FeedbackLog
from mirror_rt.knowledge.storage.manifest import (
    BUNDLE,
    PASSAGES,
    RERANKER,
    KnowledgeBaseManifest,
)
from mirror_rt.types import Embedder, Entity

if TYPE_CHECKING:
    from mirror_rt.types import Float16

__all__ = ["UpdateReport", "UpdateSource", "merge", "remove", "rename"]

_SETS = ("types", "alternative_ids", "cross_references", "parents", "fields")
"""Fields whose values have no order."""
_UNUSED_SHARE = 0.1
"""An index is rebuilt when more than this share of its rows are unused strings."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateReport:
    """The counts of an update.

    Attributes:
        entities_added: Entities with new ids.
        entities_changed: Existing entities whose content changed.
        entities_removed: Entities that were removed.
        entities_merged: Entities that were merged into others which list their ids, minus those
            that became separate again.
        entities: Entities after the update.
        names_embedded: Strings that were embedded.
        names_reused: Strings whose vectors existed already.
        names_repeated: Given names that their entity had already, equal in every field.
        descriptions_left_out: Given descriptions of entities that have another one.
        ids_missing: Ids to remove that did not exist.
    """

    entities_added: int
    entities_changed: int
    entities_removed: int
    entities_merged: int
    entities: int
    names_embedded: int
    names_reused: int
    names_repeated: int = 0
    descriptions_left_out: int = 0
    ids_missing: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateSource:
    """The knowledge base to update.

    Attributes:
        path: The folder.
        manifest: Its manifest.
        catalogue: Its entities.
        vectors_ND: (N, D) float16 vectors of its names.
        encoder: Embeds new names.
        query_encoder: Embeds mentions, if another encoder does that.
        progress: Called with (names done, names).
        feedback: The decisions that add names to entities.
        finish: Called with the new folder before it takes its place.
    """

    path: Path
    manifest: KnowledgeBaseManifest
    catalogue: Catalogue
    vectors_ND: Float16
    encoder: Embedder
    query_encoder: Embedder | None
    progress: Callable[[int, int], None] | None
    feedback: FeedbackLog
    finish: Callable[[Path], None]


def remove(kb: UpdateSource, ids: Sequence[str], *, missing_ok: bool) -> UpdateReport:
    """Remove entities; see ``KnowledgeBase.remove``."""
    there = {id_ for id_ in ids if _has(kb, id_)}
    missing = [id_ for id_ in dict.fromkeys(ids) if id_ not in there]
    if missing and not missing_ok:
        more = f" and {len(missing) - 3:,} more" if len(missing) > 3 else ""
        raise InputError(f"{kb.path}: no entity {', '.join(missing[:3])}{more}; nothing removed")
    if all(piece.id in there for piece in kb.catalogue.pieces()):
        raise InputError(f"{kb.path}: no entity would be left; delete the folder instead")
    kept = (piece for piece in kb.catalogue.pieces() if piece.id not in there)
    report = _rewrite(kb, kept, leaving=_names_of(kb, there), removed=len(there))
    return replace(report, ids_missing=len(missing))


def rename(kb: UpdateSource, *, leaving: int) -> UpdateReport:
    """Give every entity its names from ``kb.feedback``; ``leaving`` names may be removed."""
    return _rewrite(kb, kb.catalogue.pieces(), leaving=leaving)


def merge(kb: UpdateSource, entities: Iterable[Entity], *, replacing: bool) -> UpdateReport:
    """Add or replace entities; see ``KnowledgeBase.add`` and ``KnowledgeBase.update``."""
    if kb.manifest.content_type == PASSAGES:
        raise KnowledgeBaseError(
            f"{kb.path}: holds passages; build it again with: mirror-rt index --passages --force"
        )
    given: dict[str, list[Entity]] = {}
    for piece in entities:
        given.setdefault(piece.id, []).append(piece)
    there = {id_ for id_ in given if _has(kb, id_)}
    changed = repeated = 0

    def merged() -> Iterator[Entity]:
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

    report = _rewrite(
        kb,
        merged(),
        leaving=_names_of(kb, given) if replacing else 0,
        added=len(given) - len(there),
    )
    return replace(report, entities_changed=changed, names_repeated=repeated)


def _joined(pieces: Sequence[Entity]) -> Entity:
    """Join the pieces of one entity; fields without order are sorted."""
    types, others, references, parents, fields = (
        tuple(sorted({value for piece in pieces for value in getattr(piece, attribute)}))
        for attribute in _SETS
    )
    return Entity(
        id=pieces[0].id,
        names=tuple(dict.fromkeys(name for piece in pieces for name in piece.names)),
        types=types,
        alternative_ids=tuple(other for other in others if other != pieces[0].id),
        cross_references=references,
        parents=parents,
        description=next((piece.description for piece in pieces if piece.description), ""),
        fields=fields,
    )


def _repeated(pieces: Sequence[Entity]) -> int:
    names = [name for piece in pieces for name in piece.names]
    return len(names) - len(set(names))


def _names_of(kb: UpdateSource, ids: Iterable[str]) -> int:
    numbers = {number for id_ in ids for number in kb.catalogue.resolve(id_)}
    return sum(len(kb.catalogue.entity(number).names) for number in numbers)


def _has(kb: UpdateSource, id_: str) -> bool:
    found = kb.catalogue.ids_and_names(kb.catalogue.resolve(id_))
    return any(own == id_ for own, _ in found.values())


def _rewrite(
    kb: UpdateSource, entities: Iterable[Entity], *, leaving: int, added: int = 0, removed: int = 0
) -> UpdateReport:
    """Write the new state; up to ``leaving`` names may be removed."""
    rows = len(kb.vectors_ND)
    known = KnownVectors(
        (kb.catalogue.texts(start=i, stop=i + 16_384) for i in range(0, rows, 16_384)),
        kb.vectors_ND,
        kb.encoder,
    )
    recipe = kb.manifest.index
    choice = IndexChoice.from_recipe(recipe)
    write_knowledge_base(
        Bundle.open(kb.path / BUNDLE, verify=False),
        kb.feedback.applied(entities),
        kb.path,
        encoder=kb.query_encoder or known,
        names_encoder=known if kb.query_encoder else None,
        names_bundle=kb.manifest.names_bundle,
        choice=choice,
        recall=float(recipe.get("recall", RECALL)),
        force=True,
        keep=True,
        append_to=kb.path if _appends(kb, choice, leaving) else None,
        content_type=kb.manifest.content_type,
        reranker=Reranker.read(kb.path / RERANKER),
        finish=kb.finish,
        progress=kb.progress,
    )
    counts = KnowledgeBaseManifest.read(kb.path).counts
    return UpdateReport(
        entities_added=added,
        entities_changed=0,
        entities_removed=removed,
        entities_merged=kb.manifest.counts["entities"] + added - removed - counts["entities"],
        entities=counts["entities"],
        names_embedded=counts["texts"] - known.known_names,
        names_reused=known.known_names,
        descriptions_left_out=counts["further_descriptions"],
    )


def _appends(kb: UpdateSource, choice: IndexChoice, leaving: int) -> bool:
    """Return whether to append to the index rather than build it again.

    An index that is appended to keeps the rows of unused strings, until they are too many.
    """
    rows = len(kb.vectors_ND)
    unused = kb.manifest.counts["unused_texts"] + leaving
    kind = choice.resolve(rows)
    return can_append(kb.manifest.index, kind, rows=rows) and unused <= _UNUSED_SHARE * rows
