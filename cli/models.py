"""Open a MODEL of the command line, of any kind."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mirror_rt.errors import InputError
from mirror_rt.folders import FolderKind, folder_kind

if TYPE_CHECKING:
    from mirror_rt.evaluation.baselines import ExactMatch
    from mirror_rt.knowledge import KnowledgeBase
    from mirror_rt.types import Embedder


def open_model(name: str) -> Embedder | KnowledgeBase | ExactMatch:
    """Open a baseline, a knowledge base, a bundle, a checkpoint or a model of the hub.

    An existing path is never looked up on the hub.

    Raises:
        InputError: It is a file, or a folder of another kind.
        MirrorError: It is broken.
    """
    path = Path(name)
    if name.startswith("baseline:"):
        from mirror_rt.evaluation.baselines import open_baseline

        return open_baseline(name)
    if path.is_file():
        raise InputError(f"{path}: is a file; name a checkpoint, a bundle or a knowledge base")
    match folder_kind(path):
        case FolderKind.KNOWLEDGE_BASE:
            from mirror_rt.knowledge import KnowledgeBase

            return KnowledgeBase.open(path)
        case FolderKind.BUNDLE | FolderKind.VECTORS:  # vectors: the error for a bundle explains it
            from mirror_rt.runtime import Encoder

            return Encoder.open(path)
        case None if path.is_dir():
            raise InputError(f"{path}: neither a checkpoint, a bundle nor a knowledge base")
        case FolderKind.CHECKPOINT | None:
            from mirror_rt.training.checkpoint import TorchEncoder

            return TorchEncoder.open(name)
