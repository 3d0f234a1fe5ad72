"""Make an integer graph from a float one, with optimum's quantiser."""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

__all__ = ["Recipe", "quantize"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How weights and activations become 8-bit integers.

    Attributes:
        per_channel: One scale for each output channel of a weight, else one for the tensor.
        reduce_range: 7-bit weights: what CPUs without VNNI need so that sums do not saturate.
        embeddings: Whether the embedding tables become integers as well.
    """

    per_channel: bool = True
    reduce_range: bool = True
    embeddings: bool = False

    def described(self) -> dict[str, Any]:
        """Return the recipe as the manifest tells it."""
        return {"method": "dynamic", **asdict(self)}


def quantize(source: Path, target: Path, recipe: Recipe) -> None:
    """Write the quantised form of the graph ``source`` to ``target``."""
    from onnxruntime.quantization import QuantFormat, QuantizationMode, QuantType
    from optimum.onnxruntime import ORTQuantizer
    from optimum.onnxruntime.configuration import QuantizationConfig

    config = QuantizationConfig(
        is_static=False,
        format=QuantFormat.QOperator,
        mode=QuantizationMode.IntegerOps,
        activations_dtype=QuantType.QUInt8,
        weights_dtype=QuantType.QInt8,
        per_channel=recipe.per_channel,
        reduce_range=recipe.reduce_range,
        operators_to_quantize=["MatMul"] + (["Gather"] if recipe.embeddings else []),
    )
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch, _quiet_root_logger():
        ORTQuantizer(source).quantize(config, save_dir=scratch, file_suffix="")
        shutil.move(Path(scratch) / source.name, target)


@contextmanager
def _quiet_root_logger() -> Iterator[None]:
    """Keep onnxruntime's advice on pre-processing, said to the root logger, off the screen."""
    root = logging.getLogger()
    before = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(before)
