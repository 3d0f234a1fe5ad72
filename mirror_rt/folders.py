"""Detect the kind of a folder by its files, for all commands."""

from __future__ import annotations

import json
from enum import Enum
from pathlib import Path

__all__ = ["MANIFEST", "FolderKind", "folder_kind"]

MANIFEST = "manifest.json"
"""The file that lists the others, in bundles, knowledge bases and folders of vectors."""
_CATALOGUE = "catalogue.sqlite"


class FolderKind(Enum):
    """The kinds of folders that mirror-rt writes and reads."""

    BUNDLE = "bundle"
    CHECKPOINT = "checkpoint"
    KNOWLEDGE_BASE = "knowledge base"
    VECTORS = "vectors"


def folder_kind(folder: str | Path) -> FolderKind | None:
    """Return the kind of a folder; None if it is another folder, or not a folder.

    The folder may be incomplete. If the manifest is missing or damaged, the other files decide, so
    opening the folder raises the error of the right kind.
    """
    folder = Path(folder)
    try:
        content = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        content = None
    said = content.get("kind") if isinstance(content, dict) else None
    if said == FolderKind.VECTORS.value:
        return FolderKind.VECTORS
    if said == FolderKind.KNOWLEDGE_BASE.value or (folder / _CATALOGUE).is_file():
        return FolderKind.KNOWLEDGE_BASE
    signs = ((folder / MANIFEST).is_file(), (folder / "model.onnx").is_file())
    # Weights beside one sign alone: a model, with a manifest or graph of another program.
    if all(signs) or (any(signs) and not any(folder.glob("*.safetensors"))):
        return FolderKind.BUNDLE
    return FolderKind.CHECKPOINT if (folder / "config.json").is_file() else None
