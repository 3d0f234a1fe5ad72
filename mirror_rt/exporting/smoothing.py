"""Smooth the channels of activations before they are rounded to 8 bits.

A few channels of a transformer's states are far larger than the others. With one scale for all,
the small ones use only a few of the 256 steps. So each channel is divided by a factor, and the
matching row of the weight is multiplied by it, which changes no product (SmoothQuant, Xiao et
al. 2023, section 4.1). Weights have a scale for each output, so rounding them stays exact enough.

Axes: B texts, T tokens, K channels: inputs of a multiplication.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper

from mirror_rt.exporting.weight_only import constant_weights

if TYPE_CHECKING:
    from mirror_rt.types import Float32, TokenBatch

__all__ = ["channel_ranges", "smooth"]

STRENGTH = 0.7
"""α of the paper: 0 smooths only the weights, 1 only the activations. Measured with MiniLM:
.65 to .8 are best; .5 and 1.0 are worse than no smoothing (docs/experiments.md)."""


def channel_ranges(
    source: Path, batches: Iterable[TokenBatch]
) -> dict[str, tuple[Float32, Float32]]:
    """Return the minimum and maximum of each channel of the inputs of weight multiplications.

    Args:
        source: A float32 graph.
        batches: Token ids of sample strings; padding does not count.

    Returns:
        Two arrays (K,) float32, by name of the activations.
    """
    graph = onnx.load(source)
    names = sorted({node.input[0] for node in constant_weights(graph).values()})
    known = {value.name for value in graph.graph.output}
    for name in names:
        if name not in known:
            graph.graph.output.append(helper.make_empty_tensor_value_info(name))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        graph.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    inputs = {value.name for value in session.get_inputs()}
    ranges: dict[str, tuple[Float32, Float32]] = {}
    for batch in batches:
        feed = {"input_ids": batch.input_ids_BT, "attention_mask": batch.attention_mask_BT}
        if "token_type_ids" in inputs:
            feed["token_type_ids"] = np.zeros_like(batch.input_ids_BT)
        real_BT = batch.attention_mask_BT.astype(bool)
        for name, states in zip(names, session.run(names, feed), strict=True):
            texts, *places = states.shape[:-1]
            if texts == len(real_BT) and places[0] <= real_BT.shape[1]:
                # The last layer of a [CLS] model has a single position.
                kept = states[real_BT[:, : places[0]]]
            else:  # such as the relative positions of DeBERTa, which are the same for all texts
                kept = states.reshape(-1, states.shape[-1])
            low_K, high_K = kept.min(axis=0), kept.max(axis=0)
            if name in ranges:
                low_K = np.minimum(low_K, ranges[name][0])
                high_K = np.maximum(high_K, ranges[name][1])
            ranges[name] = (low_K, high_K)
    return ranges


def smooth(source: Path, target: Path, ranges: Mapping[str, tuple[Float32, Float32]]) -> None:
    """Write a graph of the same function with smoothed activations.

    Args:
        source: A float32 graph.
        target: The file to write.
        ranges: The result of ``channel_ranges``.
    """
    graph = onnx.load(source)
    weights = {tensor.name: tensor for tensor in graph.graph.initializer}
    uses = Counter(node.input[1] for node in constant_weights(graph).values())
    sharing = defaultdict(list)
    for node in constant_weights(graph).values():
        if uses[node.input[1]] == 1:  # a weight shared by several layers cannot fit them all
            sharing[node.input[0]].append(node)
    for name, nodes in sharing.items():
        matrices = [numpy_helper.to_array(weights[node.input[1]]) for node in nodes]
        largest_K = np.max([np.abs(matrix).max(axis=1) for matrix in matrices], axis=0)
        low_K, high_K = ranges[name]
        factor_K = np.maximum(np.maximum(-low_K, high_K), 1e-5) ** STRENGTH
        factor_K = (factor_K / np.maximum(largest_K, 1e-5) ** (1 - STRENGTH)).astype(np.float32)
        for node, matrix in zip(nodes, matrices, strict=True):
            scaled = numpy_helper.from_array(matrix * factor_K[:, None], node.input[1])
            weights[node.input[1]].CopyFrom(scaled)
            node.input[0] = f"{name}_even"
        inverse = numpy_helper.from_array(1 / factor_K, f"{name}_factor")
        graph.graph.initializer.append(inverse)
        mul = helper.make_node("Mul", [name, inverse.name], [f"{name}_even"], name=f"{name}_smooth")
        graph.graph.node.insert(list(graph.graph.node).index(nodes[0]), mul)
    onnx.save(graph, target)
