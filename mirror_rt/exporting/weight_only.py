"""Store weights in 8 or 16 bits, and leave the activations in float.

Axes: K inputs of a multiplication, N outputs, G groups of the K inputs.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

__all__ = [
    "constant_weights",
    "pack_blocks",
    "quantize_weight_only",
    "remove_unused_initializers",
    "to_fp16",
]


def constant_weights(graph: ModelProto) -> dict[str, NodeProto]:
    """Return the multiplications of activations by a constant matrix, by name of the node."""
    constant = {tensor.name: tensor for tensor in graph.graph.initializer}
    return {
        node.name: node
        for node in graph.graph.node
        if node.op_type == "MatMul"
        and node.input[1] in constant
        and len(constant[node.input[1]].dims) == 2
    }


def quantize_weight_only(
    source: Path, target: Path, *, block_size: int, nodes_to_exclude: Collection[str] = ()
) -> None:
    """Turn multiplications into MatMulNBits: int8 weights, activations scaled row by row.

    onnxruntime's kernel rounds each row of activations to 8 bits in separate groups, so the
    vector of a text does not depend on its batch.

    Args:
        source: A float32 graph.
        target: The file to write.
        block_size: The number of weights that share a scale; a power of two, at least 16.
        nodes_to_exclude: Names of nodes that stay in float.
    """
    graph = onnx.load(source)
    weights = {tensor.name: tensor for tensor in graph.graph.initializer}
    chosen = {k: node for k, node in constant_weights(graph).items() if k not in nodes_to_exclude}
    for label in {node.input[1] for node in chosen.values()}:
        packed, scales = pack_blocks(numpy_helper.to_array(weights[label]), block_size=block_size)
        graph.graph.initializer.append(numpy_helper.from_array(packed, f"{label}_packed"))
        graph.graph.initializer.append(numpy_helper.from_array(scales, f"{label}_scales"))
    for name, node in chosen.items():
        label = node.input[1]
        inputs, outputs = weights[label].dims
        node.CopyFrom(
            helper.make_node(
                "MatMulNBits",
                [node.input[0], f"{label}_packed", f"{label}_scales"],
                list(node.output),
                name=name,
                domain="com.microsoft",
                K=inputs,
                N=outputs,
                bits=8,
                block_size=block_size,
                accuracy_level=4,  # multiply in int8
            )
        )
    remove_unused_initializers(graph)
    graph.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    onnx.save(graph, target)


def remove_unused_initializers(graph: ModelProto) -> None:
    """Remove the constants that no node reads."""
    read = {name for node in graph.graph.node for name in node.input}
    kept = [tensor for tensor in graph.graph.initializer if tensor.name in read]
    del graph.graph.initializer[:]
    graph.graph.initializer.extend(kept)


def pack_blocks(weight_KN: np.ndarray, *, block_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Round a matrix to 8 bits, with a scale for every ``block_size`` inputs of an output.

    Returns:
        (N, G, block_size) uint8 around the zero point 128, and (N, G) float32 scales.
    """
    inputs, outputs = weight_KN.shape
    groups = -(-inputs // block_size)
    padded = np.zeros((outputs, groups * block_size), dtype=np.float32)
    padded[:, :inputs] = weight_KN.T
    blocks = padded.reshape(outputs, groups, block_size)
    scales_NG = np.abs(blocks).max(axis=2) / 127
    scales_NG[scales_NG == 0] = 1
    packed = (np.rint(blocks / scales_NG[:, :, None]) + 128).astype(np.uint8)
    return packed, scales_NG.astype(np.float32)


def to_fp16(source: Path, target: Path) -> None:
    """Store every float matrix in 16 bits; onnxruntime widens them when it loads the graph.

    It has half the size on disk, and the speed and memory of float32. A weight beyond the
    range of float16 is not changed.
    """
    graph = onnx.load(source)
    casts = []
    for tensor in list(graph.graph.initializer):
        if tensor.data_type != TensorProto.FLOAT or len(tensor.dims) < 2:
            continue
        values = numpy_helper.to_array(tensor)
        if np.abs(values).max(initial=0) > np.finfo(np.float16).max:
            continue
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}_half"))
        casts.append(helper.make_node("Cast", [f"{name}_half"], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *graph.graph.node]
    del graph.graph.node[:]
    graph.graph.node.extend(nodes)
    onnx.save(graph, target)
