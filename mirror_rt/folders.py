"""Tell what a folder is, by the files in it. Every command asks here."""

from __future__ import annotations

import json
from enum import Enum
from pathlib import Path

__all__ = ["MANIFEST", "FolderKind", "folder_kind"]

MANIFEST = "manifest.json"
"""The file that names the others, in bundles, knowledge bases and folders of vectors."""
_CATALOGUE = "catalogue.sqlite"


class FolderKind(Enum):
    """What mirror-rt writes and reads as folders."""

    BUNDLE = "bundle"
    CHECKPOINT = "checkpoint"
    KNOWLEDGE_BASE = "knowledge base"
    VECTORS = "vectors"


def folder_kind(folder: str | Path) -> FolderKind | None:
    """Return what a folder is; None if it is none of these, or no folder.

    Whether it is whole is not looked at. Where the manifest is missing or damaged, the other
    files tell, so that the error of whoever opens it is about the right kind of folder.
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
    if (folder / MANIFEST).is_file():
        return FolderKind.BUNDLE
    if (folder / "model.onnx").is_file() and not any(folder.glob("*.safetensors")):
        return FolderKind.BUNDLE
    return FolderKind.CHECKPOINT if (folder / "config.json").is_file() else None
