"""Embed with a bundle: tokenizers, onnxruntime and numpy, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mirror_rt.runtime.encoder import Encoder, Progress

__all__ = ["Encoder", "Progress"]


def __getattr__(name: str) -> object:
    # Imported late: jobs and readers of files need neither onnxruntime nor tokenizers.
    if name in __all__:
        from mirror_rt.runtime import encoder

        return getattr(encoder, name)
    raise AttributeError(f"module 'mirror_rt.runtime' has no attribute {name!r}")
