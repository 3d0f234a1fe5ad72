"""Embed with a bundle: tokenizers, onnxruntime and numpy, and nothing else."""

from mirror_rt.runtime.encoder import Encoder, Progress
from mirror_rt.runtime.schedule import Schedule

__all__ = ["Encoder", "Progress", "Schedule"]
