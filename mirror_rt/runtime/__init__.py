"""Embed with a bundle: tokenizers, onnxruntime and numpy, and nothing else."""

from mirror_rt.runtime.encoder import Encoder, Progress

__all__ = ["Encoder", "Progress"]
