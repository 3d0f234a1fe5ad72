"""The multiplications that suffer most from rounding, with their names in the graph."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
import torch

from mirror_rt.errors import ModelError
from mirror_rt.exporting.graph import SentenceModel, write_graph
from mirror_rt.exporting.sensitivity import rank_nodes_by_sensitivity
from mirror_rt.exporting.weight_only import constant_weights
from mirror_rt.training.model import FAMILIES, load_model
from mirror_rt.types import Pooling
from tests.errors import about
from tests.tiny import NAMES, tiny_checkpoint

HARD = {
    "albert": "encoder.albert_layer_groups.0.albert_layers.0.ffn_output",
    "distilbert": "transformer.layer.0.ffn.lin2",
    "modernbert": "layers.0.mlp.Wo",
}
"""A layer to be made hard to round, where it is not BERT's ``encoder.layer.0.output.dense``."""


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # DeBERTa, ModernBERT
@pytest.mark.parametrize(
    ("architecture", "pooling"),
    [*((family, Pooling.CLS) for family in FAMILIES), ("bert", Pooling.MEAN)],
)
def test_the_layer_that_was_made_hard_to_round_comes_first(
    tmp_path: Path, architecture: str, pooling: Pooling
) -> None:
    folder = tiny_checkpoint(tmp_path / "model", architecture=architecture)
    model = load_model(folder, pooling=pooling, max_length=None, attention="eager")
    hard = HARD.get(architecture, "encoder.layer.0.output.dense")
    with torch.no_grad():
        for weight in model.model.parameters():
            weight.mul_(8)
        layer = model.model.get_submodule(hard)
        # One input that is never large gets a huge weight: its scale hides all the others.
        layer.weight[:, 0] *= 1000
    write_graph(SentenceModel(model.model, pooling=pooling), tmp_path / "model.onnx")
    nodes = list(constant_weights(onnx.load(tmp_path / "model.onnx")))
    found = rank_nodes_by_sensitivity(model, NAMES, nodes)
    assert sorted(found) == sorted(nodes)
    assert hard.replace(".", "") in found[0].replace("/", "").replace(".", "")


def test_a_multiplication_of_no_known_layer_is_refused(tiny_bert: Path) -> None:
    model = load_model(tiny_bert, pooling=Pooling.CLS, max_length=None, attention="eager")
    with pytest.raises(ModelError, check=about("MatMul", hint="--precision")):
        rank_nodes_by_sensitivity(model, NAMES[:2], ["/body/elsewhere/MatMul"])
