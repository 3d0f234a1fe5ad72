"""Tell what a MODEL on the command line is, and open it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mirror_rt.errors import InputError

if TYPE_CHECKING:
    from mirror_rt.evaluation.baselines import ExactMatch
    from mirror_rt.knowledge import KnowledgeBase
    from mirror_rt.types import Embedder

CATALOGUE = "catalogue.sqlite"


def is_knowledge_base(name: str) -> bool:
    """Tell whether ``name`` is a knowledge-base folder."""
    return (Path(name) / CATALOGUE).is_file()


def open_model(name: str) -> Embedder | KnowledgeBase | ExactMatch:
    """Open a baseline, a knowledge base, a bundle, a checkpoint or a model of the hub.

    A path that exists is never looked up on the hub.

    Raises:
        InputError: It is a file, or a folder that holds none of these.
        MirrorError: It is one of these, but broken.
    """
    path = Path(name)
    if name.startswith("baseline:"):
        from mirror_rt.evaluation.baselines import open_baseline

        return open_baseline(name)
    if is_knowledge_base(name):
        from mirror_rt.knowledge import KnowledgeBase

        return KnowledgeBase.open(path)
    if (path / "model.onnx").is_file() or (path / "manifest.json").is_file():
        from mirror_rt.runtime import Encoder

        return Encoder.open(path)
    if path.is_file():
        raise InputError(f"{path}: is a file; name a checkpoint, a bundle or a knowledge base")
    if path.is_dir() and not (path / "config.json").is_file():
        raise InputError(f"{path}: neither a checkpoint, a bundle nor a knowledge base")
    from mirror_rt.training.checkpoint import TorchEncoder

    return TorchEncoder.open(name)
