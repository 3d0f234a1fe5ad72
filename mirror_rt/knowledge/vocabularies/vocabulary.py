"""The entities of a vocabulary in memory, from a file or a knowledge base."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from mirror_rt.errors import KnowledgeBaseError
from mirror_rt.folders import FolderKind, folder_kind
from mirror_rt.knowledge.entities.reader import Catalogue
from mirror_rt.knowledge.formats import Columns, SkippedRows, read_entities
from mirror_rt.knowledge.storage.manifest import (
    CATALOGUE,
    PASSAGES,
    KnowledgeBaseManifest,
)
from mirror_rt.knowledge.text.normalize import normalize
from mirror_rt.tables import TableOptions
from mirror_rt.textfiles import StrPath
from mirror_rt.types import Entity, KbFormat, Name, NameKind

__all__ = ["CLOSE", "Vocabulary", "read_vocabulary"]

CLOSE = frozenset({NameKind.PREFERRED, NameKind.EXACT, NameKind.ABBREVIATION})
"""Kinds of names for the entity itself, not for broader, narrower or related ones."""


@dataclass(slots=True)
class _Parts:
    names: dict[Name, None] = field(default_factory=dict)
    types: dict[str, None] = field(default_factory=dict)
    alternative_ids: dict[str, None] = field(default_factory=dict)
    cross_references: dict[str, None] = field(default_factory=dict)
    parents: dict[str, None] = field(default_factory=dict)
    fields: dict[tuple[str, str], None] = field(default_factory=dict)
    description: str = ""


class Vocabulary:
    """Entities by id. They need about 1 KB of memory per name.

    Attributes:
        entities: The entities in the order of reading, with their pieces joined.
        successors: The entities that list an alternative id, for ids that no entity has as its
            own.
    """

    def __init__(self, pieces: Iterable[Entity]) -> None:
        parts: dict[str, _Parts] = {}
        for piece in pieces:
            merged = parts.setdefault(piece.id, _Parts())
            merged.names.update(dict.fromkeys(piece.names))
            merged.types.update(dict.fromkeys(piece.types))
            merged.alternative_ids.update(dict.fromkeys(piece.alternative_ids))
            merged.cross_references.update(dict.fromkeys(piece.cross_references))
            merged.parents.update(dict.fromkeys(piece.parents))
            merged.fields.update(dict.fromkeys(piece.fields))
            merged.description = merged.description or piece.description
        self.entities = {
            id_: Entity(
                id=id_,
                names=tuple(merged.names),
                types=tuple(merged.types),
                alternative_ids=tuple(merged.alternative_ids),
                cross_references=tuple(merged.cross_references),
                parents=tuple(merged.parents),
                description=merged.description,
                fields=tuple(merged.fields),
            )
            for id_, merged in parts.items()
        }
        self.successors: dict[str, list[str]] = {}
        for entity in self.entities.values():
            for other in entity.alternative_ids:
                if other not in self.entities:
                    self.successors.setdefault(other, []).append(entity.id)

    def __len__(self) -> int:
        return len(self.entities)

    def owners_of_names(self, *, close: bool = False) -> dict[str, list[str]]:
        """Return the distinct entities with each normalized name.

        Args:
            close: Whether only names of the kinds in ``CLOSE`` count.
        """
        found: dict[str, dict[str, None]] = {}
        for entity in self.entities.values():
            for name in entity.names:
                if (not close or name.kind in CLOSE) and (key := normalize(name.text)):
                    found.setdefault(key, {})[entity.id] = None
        return {key: [*ids] for key, ids in found.items()}


def read_vocabulary(
    path: StrPath,
    *,
    format: KbFormat | None = None,
    skip_bad: SkippedRows | None = None,
    columns: Columns | None = None,
    options: TableOptions | None = None,
) -> Vocabulary:
    """Read a file of entities in any format, or the entities of a knowledge base.

    Args:
        path: The file, or the folder of a knowledge base.
        format: The file's format; None to detect it.
        skip_bad: Counts bad rows of a file, instead of stopping at the first.
        columns: The columns of a table to read; None to detect them by the headings.
        options: Options for reading a table; None to detect them.

    Raises:
        KnowledgeBaseError: The folder holds passages, or is incomplete.
        InputError: The file cannot be read.
        ConfigError: The format cannot be detected.
    """
    folder = Path(path)
    if folder_kind(folder) is not FolderKind.KNOWLEDGE_BASE:
        return Vocabulary(
            read_entities(path, format=format, skip_bad=skip_bad, columns=columns, options=options)
        )
    if KnowledgeBaseManifest.read(folder).content_type == PASSAGES:
        raise KnowledgeBaseError(f"{folder}: holds passages, which are not entities")
    with closing(Catalogue.open(folder / CATALOGUE)) as catalogue:
        return Vocabulary(catalogue.entities())
