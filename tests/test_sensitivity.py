"""Which multiplications suffer most from rounding, found in torch, named as in the graph."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
import torch

from mirror_rt.exporting.graph import SentenceModel, write_graph
from mirror_rt.exporting.sensitivity import by_sensitivity
from mirror_rt.exporting.weight_only import constant_weights
from mirror_rt.training.model import load_model
from mirror_rt.types import Pooling
from tests.tiny import NAMES, tiny_checkpoint


@pytest.mark.parametrize("pooling", Pooling)
@pytest.mark.parametrize("architecture", ["bert", "distilbert"])
def test_the_layer_that_was_made_hard_to_round_comes_first(
    tmp_path: Path, architecture: str, pooling: Pooling
) -> None:
    folder = tiny_checkpoint(tmp_path / "model", architecture=architecture)
    model = load_model(folder, pooling=pooling, max_length=None, attention="eager")
    hard = "transformer.layer.0.ffn.lin2" if architecture == "distilbert" else (
        "encoder.layer.0.output.dense"
    )  # fmt: skip
    with torch.no_grad():
        for weight in model.model.parameters():
            weight.mul_(8)
        layer = model.model.get_submodule(hard)
        # One input that is never large gets a huge weight: its step drowns all the others.
        layer.weight[:, 0] *= 1000
    write_graph(SentenceModel(model.model, pooling=pooling), tmp_path / "model.onnx")
    nodes = list(constant_weights(onnx.load(tmp_path / "model.onnx")))
    found = by_sensitivity(model, NAMES, nodes)
    assert sorted(found) == sorted(nodes)
    assert hard.replace(".", "") in found[0].replace("/", "").replace(".", "")
