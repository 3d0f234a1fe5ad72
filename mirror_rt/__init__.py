"""Turn any masked language model into an encoder of names, and look up millions of them on a CPU.

The public names are listed in ``__all__``. Each is imported when it is first used, so that
``import mirror_rt`` costs next to nothing and needs no optional stack.
"""

from __future__ import annotations

from importlib import import_module

from mirror_rt.version import VERSION as __version__

_WHERE: dict[str, str] = {
    "Bundle": "mirror_rt.bundle",
    "Candidate": "mirror_rt.types",
    "Encoder": "mirror_rt.runtime.encoder",
    "Entity": "mirror_rt.types",
    "KnowledgeBase": "mirror_rt.knowledge",
    "MirrorError": "mirror_rt.errors",
    "Pairs": "mirror_rt.types",
    "Pooling": "mirror_rt.types",
    "Precision": "mirror_rt.types",
    "Preset": "mirror_rt.types",
    "TorchEncoder": "mirror_rt.training.checkpoint",
    "TrainConfig": "mirror_rt.training.config",
    "evaluate": "mirror_rt.evaluation.suite",
    "export": "mirror_rt.exporting.pipeline",
    "train": "mirror_rt.training.loop",
}

__all__ = ["__version__", *_WHERE]


def __getattr__(name: str) -> object:
    if name not in _WHERE:
        raise AttributeError(f"module 'mirror_rt' has no attribute {name!r}")
    value: object = getattr(import_module(_WHERE[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
