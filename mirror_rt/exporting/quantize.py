"""Quantize a float graph by a recipe."""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx

from mirror_rt.exporting.static import quantize_static
from mirror_rt.exporting.weight_only import constant_weights, quantize_weight_only, to_fp16
from mirror_rt.types import Precision

if TYPE_CHECKING:
    from mirror_rt.types import TokenBatch

__all__ = ["Method", "Recipe", "quantize"]


class Method(Enum):
    """How numbers are stored and multiplied.

    ``DYNAMIC``: int8 weights, activations scaled for each batch. ``STATIC``: int8 weights,
    activations scaled by ranges from the sample. ``WEIGHT_ONLY``: int8 weights, activations
    scaled row by row. ``HALF``: float16 on disk, float32 in use.
    """

    NONE = "none"
    HALF = "half"
    DYNAMIC = "dynamic"
    STATIC = "static"
    WEIGHT_ONLY = "weight-only"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """One way to quantize a graph.

    Attributes:
        method: The method.
        per_channel: A scale for each output of a weight, else one for the whole (dynamic, static).
        reduce_range: 7-bit weights, for CPUs without VNNI (dynamic, static).
        embeddings: Whether the embedding tables become int8 too (dynamic, static).
        smooth: Whether the channels of activations are smoothed first (dynamic, static).
        block_size: The number of weights that share a scale (weight-only).
        nodes_to_exclude: Names of multiplications that stay in float.
    """

    method: Method
    per_channel: bool = True
    reduce_range: bool = False
    embeddings: bool = False
    smooth: bool = False
    block_size: int = 128
    nodes_to_exclude: tuple[str, ...] = ()

    @property
    def precision(self) -> Precision:
        """How the weights are stored."""
        match self.method:
            case Method.NONE:
                return Precision.FP32
            case Method.HALF:
                return Precision.FP16_WEIGHTS
            case Method.DYNAMIC | Method.STATIC | Method.WEIGHT_ONLY:
                return Precision.INT8

    @property
    def batch_invariant(self) -> bool:
        """Whether the vector of a text is the same in every batch."""
        match self.method:
            case Method.NONE | Method.HALF | Method.STATIC | Method.WEIGHT_ONLY:
                return True
            case Method.DYNAMIC:
                return False

    @property
    def can_overflow(self) -> bool:
        """Whether its products need a CPU that adds them in 32 bits."""
        return self.method in {Method.STATIC, Method.DYNAMIC} and not self.reduce_range

    def to_dict(self) -> dict[str, Any]:
        """Return the fields of the recipe for the manifest."""
        values = asdict(self)
        used: tuple[str, ...]
        own = {"method": self.method.value, "batch_invariant": self.batch_invariant}
        match self.method:
            case Method.NONE | Method.HALF:
                return own
            case Method.WEIGHT_ONLY:
                used = ("block_size", "nodes_to_exclude")
            case Method.STATIC | Method.DYNAMIC:
                used = ("per_channel", "reduce_range", "embeddings", "smooth", "nodes_to_exclude")
        return own | {name: values[name] for name in used}


def quantize(
    source: Path, target: Path, recipe: Recipe, *, batches: Sequence[TokenBatch] = ()
) -> None:
    """Write the graph ``source`` to ``target`` as ``recipe`` says.

    Args:
        source: A float32 graph, already smoothed if the recipe says so.
        target: The file to write.
        recipe: The recipe.
        batches: Token ids of sample strings, to measure static ranges.
    """
    match recipe.method:
        case Method.NONE:
            shutil.copyfile(source, target)
        case Method.HALF:
            to_fp16(source, target)
        case Method.WEIGHT_ONLY:
            quantize_weight_only(
                source,
                target,
                block_size=recipe.block_size,
                nodes_to_exclude=recipe.nodes_to_exclude,
            )
        case Method.STATIC:
            quantize_static(
                source,
                target,
                batches=batches,
                per_channel=recipe.per_channel,
                reduce_range=recipe.reduce_range,
                embeddings=recipe.embeddings,
                nodes_to_exclude=recipe.nodes_to_exclude,
            )
        case Method.DYNAMIC:
            _dynamic(source, target, recipe)


def _nodes(graph: onnx.ModelProto, recipe: Recipe) -> list[str]:
    # Named one by one: left to itself, a quantizer also rounds both sides of the products
    # inside attention, which is slower and far less exact.
    return [name for name in constant_weights(graph) if name not in recipe.nodes_to_exclude]


def _dynamic(source: Path, target: Path, recipe: Recipe) -> None:
    from onnxruntime.quantization import QuantFormat, QuantizationMode, QuantType
    from optimum.onnxruntime import ORTQuantizer
    from optimum.onnxruntime.configuration import QuantizationConfig
    from transformers import PretrainedConfig

    graph = onnx.load(source)
    nodes = _nodes(graph, recipe)
    if recipe.embeddings:
        tables = {tensor.name for tensor in graph.graph.initializer if len(tensor.dims) == 2}
        nodes += [
            n.name for n in graph.graph.node if n.op_type == "Gather" and n.input[0] in tables
        ]
    if not nodes:  # an empty list would mean all
        shutil.copyfile(source, target)
        return
    config = QuantizationConfig(
        is_static=False,
        format=QuantFormat.QOperator,
        mode=QuantizationMode.IntegerOps,
        activations_dtype=QuantType.QUInt8,
        weights_dtype=QuantType.QInt8,
        per_channel=recipe.per_channel,
        reduce_range=recipe.reduce_range,
        nodes_to_quantize=nodes,
        operators_to_quantize=["MatMul", "Gather"],
    )
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch, _quiet_root_logger():
        # An empty configuration: the quantizer would look for one and copy it.
        ORTQuantizer(source, PretrainedConfig()).quantize(config, save_dir=scratch, file_suffix="")
        shutil.move(next(Path(scratch).glob("*.onnx")), target)


@contextmanager
def _quiet_root_logger() -> Iterator[None]:
    """Hide onnxruntime's advice on pre-processing, which it sends to the root logger."""
    root = logging.getLogger()
    before = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(before)
