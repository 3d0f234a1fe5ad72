"""Quantize with fixed ranges of activations, measured on the user's own strings.

The quantizers of onnxruntime and optimum keep each bias as a separate addition, which makes
their static graphs slower than dynamic ones. Here the bias goes into the multiplication.

Axes: K channels: inputs of a multiplication, N its outputs.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from mirror_rt.exporting.smoothing import channel_ranges
from mirror_rt.exporting.weight_only import constant_weights, remove_unused_initializers

if TYPE_CHECKING:
    from mirror_rt.types import Float32, TokenBatch

__all__ = ["quantize_static", "quantize_weight"]


def quantize_static(
    source: Path,
    target: Path,
    *,
    batches: Sequence[TokenBatch],
    per_channel: bool,
    reduce_range: bool,
    embeddings: bool = False,
    nodes_to_exclude: Collection[str] = (),
) -> None:
    """Write a graph whose weights are int8 and whose activations have fixed ranges.

    Args:
        source: A float32 graph.
        target: The file to write.
        batches: Token ids to measure the ranges.
        per_channel: A scale for each output of a weight, else one for the whole.
        reduce_range: 7-bit weights.
        embeddings: Whether tables of embeddings become int8 too, with a scale for each row.
        nodes_to_exclude: Names of multiplications that stay in float.
    """
    graph = onnx.load(source)
    seen = channel_ranges(source, batches)
    weights = {tensor.name: tensor for tensor in graph.graph.initializer}
    chosen = {k: node for k, node in constant_weights(graph).items() if k not in nodes_to_exclude}
    for label in sorted({node.input[1] for node in chosen.values()}):
        values, scales_N = quantize_weight(
            numpy_helper.to_array(weights[label]), per_channel=per_channel, reduce=reduce_range
        )
        _add(graph, f"{label}_int8", values)
        _add(graph, f"{label}_scales", scales_N)
    bias_of = _biases(graph, {node.output[0] for node in chosen.values()})
    before: dict[str, list[NodeProto]] = {}
    done = set()
    for name, node in chosen.items():
        states, label = node.input
        if states not in done:
            done.add(states)
            before[name] = [_rounding(graph, states, *seen[states])]
        addition, bias = bias_of.get(node.output[0], (None, ""))
        output = node.output[0] if addition is None else addition.output[0]
        inputs = [f"{states}_int8", f"{label}_int8", f"{states}_scale", f"{label}_scales"]
        inputs += [f"{states}_zero", "", bias] if bias else [f"{states}_zero"]
        node.CopyFrom(
            helper.make_node(
                "MatMulIntegerToFloat", inputs, [output], name=name, domain="com.microsoft"
            )
        )
    gone = {addition.name for addition, _ in bias_of.values()}
    nodes = [
        part
        for node in graph.graph.node
        if node.name not in gone
        for part in [*before.get(node.name, []), node]
    ]
    del graph.graph.node[:]
    graph.graph.node.extend(nodes)
    if embeddings:
        _round_tables(graph)
    remove_unused_initializers(graph)
    graph.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    onnx.save(graph, target)


def _round_tables(graph: ModelProto) -> None:
    """Store embedding tables as int8 rows, each with its own scale."""
    tables = {t.name: t for t in graph.graph.initializer if len(t.dims) == 2}
    nodes = []
    for node in graph.graph.node:
        table = tables.get(node.input[0]) if node.op_type == "Gather" else None
        if table is None or table.data_type != TensorProto.FLOAT:
            nodes.append(node)
            continue
        values, scales = quantize_weight(
            numpy_helper.to_array(table).T, per_channel=True, reduce=False
        )
        out = node.output[0]
        _add(graph, f"{out}_table", np.ascontiguousarray(values.T))
        _add(graph, f"{out}_scales", scales[:, None])
        ids = node.input[1]
        nodes += [
            helper.make_node("Gather", [f"{out}_table", ids], [f"{out}_int8"], f"{out}_rows"),
            helper.make_node(
                "Gather", [f"{out}_scales", ids], [f"{out}_scale"], f"{out}_scale_rows"
            ),
            helper.make_node(
                "Cast", [f"{out}_int8"], [f"{out}_wide"], f"{out}_cast", to=TensorProto.FLOAT
            ),
            helper.make_node("Mul", [f"{out}_wide", f"{out}_scale"], [out], node.name),
        ]
    del graph.graph.node[:]
    graph.graph.node.extend(nodes)


def quantize_weight(
    weight_KN: Float32, *, per_channel: bool, reduce: bool
) -> tuple[np.ndarray, Float32]:
    """Round a matrix to int8, symmetric around 0.

    Returns:
        (K, N) int8 and the scale of each output, (N,) float32, or () for a shared scale.
    """
    largest = np.abs(weight_KN).max(axis=0) if per_channel else np.abs(weight_KN).max()
    scales = np.maximum(largest / (63 if reduce else 127), 1e-12).astype(np.float32)
    return np.rint(weight_KN / scales).astype(np.int8), scales


def _rounding(graph: ModelProto, states: str, low_K: Float32, high_K: Float32) -> NodeProto:
    """Return the node that rounds activations to uint8; zero stays zero."""
    low, high = min(float(low_K.min()), 0.0), max(float(high_K.max()), 0.0)
    scale = max((high - low) / 255, 1e-12)
    _add(graph, f"{states}_scale", np.array(scale, dtype=np.float32))
    _add(graph, f"{states}_zero", np.array(round(-low / scale), dtype=np.uint8))
    return helper.make_node(
        "QuantizeLinear",
        [states, f"{states}_scale", f"{states}_zero"],
        [f"{states}_int8"],
        name=f"{states}_round",
    )


def _biases(graph: ModelProto, products: Collection[str]) -> dict[str, tuple[NodeProto, str]]:
    """Return the bias of each product whose only use is a bias: the addition and the vector."""
    vectors = {tensor.name for tensor in graph.graph.initializer if len(tensor.dims) == 1}
    for node in graph.graph.node:
        if node.op_type == "Identity" and node.input[0] in vectors:
            vectors.add(node.output[0])  # equal constants are exported once and passed on
    readers: dict[str, list[NodeProto]] = {}
    for node in graph.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    found = {}
    for product in products:
        match readers.get(product, []):
            case [node] if node.op_type == "Add":
                (other,) = [name for name in node.input if name != product] or [""]
                if other in vectors:
                    found[product] = (node, other)
    return found


def _add(graph: ModelProto, name: str, values: np.ndarray) -> None:
    graph.graph.initializer.append(numpy_helper.from_array(values, name))
