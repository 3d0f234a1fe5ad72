"""Turn any masked language model into an encoder of names, and look up millions of them on a CPU.

The public names are listed in ``__all__``. Each is imported on first use, so ``import mirror_rt``
is fast and needs no optional package.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING

from mirror_rt.version import VERSION as __version__

# Some libraries send usage reports unless this is switched off before they are imported:
# onnxruntime (from 1.29 on, Linux too) writes a device id into the home folder and sends events,
# Ray and the hub client report calls. Variables that the user has set are kept.
for _switch, _off in (
    ("ORT_DISABLE_TELEMETRY", "1"),
    ("RAY_USAGE_STATS_ENABLED", "0"),
    ("HF_HUB_DISABLE_TELEMETRY", "1"),
):
    os.environ.setdefault(_switch, _off)

if TYPE_CHECKING:
    from mirror_rt.bundle import STARTER, Bundle
    from mirror_rt.errors import MirrorError
    from mirror_rt.evaluation.suite import evaluate
    from mirror_rt.exporting.pipeline import export
    from mirror_rt.knowledge import KnowledgeBase
    from mirror_rt.runtime.encoder import Encoder
    from mirror_rt.training.checkpoint import TorchEncoder
    from mirror_rt.training.config import TrainConfig
    from mirror_rt.training.loop import train
    from mirror_rt.types import (
        Candidate,
        Entity,
        IndexKind,
        LinkResult,
        Loss,
        MatchType,
        Name,
        NameKind,
        NilReason,
        PairSource,
        Passage,
        Pooling,
        Precision,
        Preset,
        SearchResult,
    )

_WHERE: dict[str, str] = {
    "STARTER": "mirror_rt.bundle",
    "Bundle": "mirror_rt.bundle",
    "Candidate": "mirror_rt.types",
    "Encoder": "mirror_rt.runtime.encoder",
    "Entity": "mirror_rt.types",
    "IndexKind": "mirror_rt.types",
    "KnowledgeBase": "mirror_rt.knowledge",
    "LinkResult": "mirror_rt.types",
    "Loss": "mirror_rt.types",
    "MatchType": "mirror_rt.types",
    "MirrorError": "mirror_rt.errors",
    "Name": "mirror_rt.types",
    "NameKind": "mirror_rt.types",
    "NilReason": "mirror_rt.types",
    "PairSource": "mirror_rt.types",
    "Passage": "mirror_rt.types",
    "Pooling": "mirror_rt.types",
    "Precision": "mirror_rt.types",
    "Preset": "mirror_rt.types",
    "SearchResult": "mirror_rt.types",
    "TorchEncoder": "mirror_rt.training.checkpoint",
    "TrainConfig": "mirror_rt.training.config",
    "evaluate": "mirror_rt.evaluation.suite",
    "export": "mirror_rt.exporting.pipeline",
    "train": "mirror_rt.training.loop",
}

__all__ = [
    "STARTER",
    "Bundle",
    "Candidate",
    "Encoder",
    "Entity",
    "IndexKind",
    "KnowledgeBase",
    "LinkResult",
    "Loss",
    "MatchType",
    "MirrorError",
    "Name",
    "NameKind",
    "NilReason",
    "PairSource",
    "Passage",
    "Pooling",
    "Precision",
    "Preset",
    "SearchResult",
    "TorchEncoder",
    "TrainConfig",
    "__version__",
    "evaluate",
    "export",
    "train",
]


def __getattr__(name: str) -> object:
    if name not in _WHERE:
        raise AttributeError(f"module 'mirror_rt' has no attribute {name!r}")
    value: object = getattr(import_module(_WHERE[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
