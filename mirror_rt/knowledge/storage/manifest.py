"""The manifest of a knowledge base, and the names of its files. See docs/knowledge-base.md."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from mirror_rt.errors import KnowledgeBaseError
from mirror_rt.folders import MANIFEST
from mirror_rt.hashing import is_unchanged, write_checked_json
from mirror_rt.knowledge.entities.names import NAME_FILES
from mirror_rt.knowledge.ranking.translation import TRANSLATION_FILES
from mirror_rt.knowledge.retrieval.trigram_index import TRIGRAM_FILES

__all__ = [
    "BUNDLE",
    "CATALOGUE",
    "FEEDBACK",
    "FILES",
    "INDEX",
    "KB_MANIFEST",
    "NAMES",
    "PASSAGES",
    "RERANKER",
    "VECTORS",
    "KnowledgeBaseManifest",
]

KB_FORMAT_VERSION = 7
KB_MANIFEST = MANIFEST
CATALOGUE = "catalogue.sqlite"
VECTORS = "vectors.npy"
INDEX = "index.faiss"
RERANKER = "reranker.json"
FEEDBACK = "feedback.jsonl"
BUNDLE = "bundle"
NAMES, PASSAGES = "names", "passages"
FILES = (CATALOGUE, VECTORS, INDEX, *NAME_FILES, *TRIGRAM_FILES, *TRANSLATION_FILES)


@dataclass(frozen=True, slots=True, kw_only=True)
class KnowledgeBaseManifest:
    """The manifest of a knowledge base.

    Attributes:
        bundle: Fingerprint of the bundle in the folder. It embeds mentions; it also made the
            vectors, unless ``names_bundle`` is given.
        dim: Width of a vector.
        counts: Counts of the build (see ``entities.schema.BuildCounts``).
        index: The recipe of the index.
        files: Size in bytes, sha256 (hex) and sha256 of sampled blocks (see
            ``hashing.sampled_sha256``) of each file outside ``bundle/``.
        content_type: ``names`` of entities, or ``passages``.
        names_bundle: ``name`` and ``fingerprint`` of the bundle that made the vectors, if a
            static student of it embeds the mentions; otherwise empty.
        created_with: Version of mirror-rt that wrote it.
        format_version: Version of this layout.
    """

    bundle: str
    dim: int
    counts: Mapping[str, int]
    index: Mapping[str, Any]
    files: Mapping[str, Mapping[str, Any]]
    content_type: str = NAMES
    names_bundle: Mapping[str, str] = field(default_factory=dict)
    created_with: str = ""
    format_version: int = KB_FORMAT_VERSION
    kind: str = field(default="knowledge base")

    def write(self, path: Path) -> None:
        """Write the manifest as JSON with a checksum; the same content gives the same bytes."""
        content = asdict(self)
        if not self.names_bundle:
            del content["names_bundle"]  # the same bytes as from versions without this field
        write_checked_json(path, content)

    @classmethod
    def read(cls, folder: Path) -> KnowledgeBaseManifest:
        """Read the manifest of a knowledge-base folder.

        Raises:
            KnowledgeBaseError: The folder is missing, not a knowledge base, too new, or its
                manifest has changed since it was written.
        """
        path = folder / KB_MANIFEST
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError) as error:
            raise KnowledgeBaseError(
                f"{folder}: not a knowledge base (no {KB_MANIFEST}); make one with: mirror-rt index"
            ) from error
        except (OSError, ValueError) as error:
            raise KnowledgeBaseError(
                f"{path}: cannot be read ({error}); build the knowledge base again"
            ) from error
        if not isinstance(content, dict) or content.get("kind") != "knowledge base":
            raise KnowledgeBaseError(
                f"{folder}: {_other_kind(content)}not a knowledge base; "
                "make one with: mirror-rt index"
            )
        version = content.get("format_version")
        if not isinstance(version, int) or version > KB_FORMAT_VERSION:
            raise KnowledgeBaseError(
                f"{folder}: knowledge-base format {version}, this version reads up to "
                f"{KB_FORMAT_VERSION}; run: pip install -U mirror-rt"
            )
        if version < KB_FORMAT_VERSION:
            raise KnowledgeBaseError(
                f"{folder}: knowledge-base format {version}, of an older version; build it again "
                "from its file with: mirror-rt index BUNDLE FILE --out KBDIR --force"
            )
        if not is_unchanged(content):
            raise KnowledgeBaseError(
                f"{path}: changed since it was built; build the knowledge base again"
            )
        known = {f.name for f in fields(cls)}
        try:
            return cls(**{name: value for name, value in content.items() if name in known})
        except TypeError as error:
            raise KnowledgeBaseError(
                f"{path}: incomplete ({error}); build the knowledge base again"
            ) from error


def _other_kind(content: object) -> str:
    """Return what else a folder with this manifest is, as the start of a sentence."""
    if isinstance(content, dict) and content.get("kind") == "vectors":
        return "is vectors, "
    if isinstance(content, dict) and "pooling" in content:
        return "is a bundle, "
    return ""
