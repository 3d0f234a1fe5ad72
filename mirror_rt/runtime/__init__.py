"""Embed with a bundle: tokenizers, onnxruntime and numpy, and nothing else."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mirror_rt.runtime.encoder import Encoder, Progress
    from mirror_rt.runtime.schedule import Schedule

__all__ = ["Encoder", "Progress", "Schedule"]

_WHERE = {"Encoder": "encoder", "Progress": "encoder", "Schedule": "schedule"}


def __getattr__(name: str) -> object:
    # Imported when first used: who wants to read a file or count cores needs no onnxruntime.
    if name not in _WHERE:
        raise AttributeError(f"module 'mirror_rt.runtime' has no attribute {name!r}")
    value: object = getattr(import_module(f"mirror_rt.runtime.{_WHERE[name]}"), name)
    globals()[name] = value
    return value
