"""Find the multiplications that are most sensitive to 8-bit rounding.

Axes: B texts, K inputs, N outputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mirror_rt.errors import ModelError
from mirror_rt.training.checkpoint import TorchEncoder
from mirror_rt.training.model import TextModel

__all__ = ["rank_nodes_by_sensitivity"]


def rank_nodes_by_sensitivity(
    model: TextModel, names: Sequence[str], nodes: Sequence[str]
) -> list[str]:
    """Return the names of nodes, the costliest first.

    Each linear layer is rounded alone, in torch, as onnxruntime would round it. Its cost is
    measured by the mean cosine between the vectors and the unrounded ones.

    Args:
        model: The model that was exported.
        names: Sample strings.
        nodes: Names of the graph's multiplications by a weight.

    Raises:
        ModelError: A node has no layer of its name in the model.
    """
    encoder = TorchEncoder(model)
    exact_BD = torch.from_numpy(encoder.encode(names))
    cost = {}
    for name, layer in model.model.named_modules():
        if not isinstance(layer, nn.Linear):
            continue
        handle = layer.register_forward_hook(_rounded)
        rounded_BD = torch.from_numpy(encoder.encode(names))
        handle.remove()
        cost[_plain(name)] = float((exact_BD * rounded_BD).sum(1).mean())
    # '/body/encoder/layer.0/output/dense/MatMul' is the module 'encoder.layer.0.output.dense'.
    layers = {node: _plain(node.removesuffix("/MatMul").removeprefix("/body/")) for node in nodes}
    for node, name in layers.items():
        if name not in cost:
            raise ModelError(
                f"{node}: no layer of the model has this name, so what rounding it costs is not "
                "known; give --precision fp32, and please report it"
            )
    return sorted(nodes, key=lambda node: (cost[layers[node]], node))


def _plain(name: str) -> str:
    return name.replace("/", ".").replace(".inner", "")


def _rounded(layer: Any, inputs: tuple[Tensor], output: Tensor) -> Tensor:  # noqa: ANN401
    (states,) = inputs
    low, high = states.min().clamp(max=0), states.max().clamp(min=0)
    step = (high - low).clamp(min=1e-12) / 255
    scales_N1 = layer.weight.abs().amax(dim=1, keepdim=True).clamp(min=1e-12) / 127
    weight_NK = (layer.weight / scales_N1).round() * scales_N1
    out: Tensor = nn.functional.linear((states / step).round() * step, weight_NK, layer.bias)
    return out
