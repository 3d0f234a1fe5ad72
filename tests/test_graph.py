"""The exported graph computes what torch computes, for every family, and nothing more."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import transformers

from mirror_rt.exporting.first_position import keep_first_position
from mirror_rt.exporting.graph import SentenceModel, write_graph
from mirror_rt.types import Pooling

FAMILIES = ["bert", "roberta", "xlm-roberta", "camembert", "electra", "distilbert", "mpnet"]
SEGMENTED = {"bert", "electra"}


def body_of(family: str) -> transformers.PreTrainedModel:
    """A seeded encoder with large weights, so attention is not nearly uniform."""
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    sizes |= {"intermediate_size": 64}
    if family == "distilbert":
        sizes = {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64}
    if family == "electra":
        sizes["embedding_size"] = 32
    config = transformers.CONFIG_MAPPING[family](
        vocab_size=120, pad_token_id=0, max_position_embeddings=66, **sizes
    )
    torch.manual_seed(3)
    body = transformers.AutoModel.from_config(config, attn_implementation="eager").eval()
    with torch.no_grad():
        for weight in body.parameters():
            weight.mul_(6)
    return body


def tokens(family: str, *lengths: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(len(lengths))
    longest = max(lengths)
    ids_BT = torch.randint(3, 120, (len(lengths), longest), generator=generator)
    mask_BT = (torch.arange(longest) < torch.tensor(lengths)[:, None]).long()
    feed = {"input_ids": ids_BT * mask_BT, "attention_mask": mask_BT}
    return feed | ({"token_type_ids": torch.zeros_like(ids_BT)} if family in SEGMENTED else {})


def expected(body: transformers.PreTrainedModel, feed: dict[str, torch.Tensor], pooling: Pooling):  # noqa: ANN201
    """Pool and normalize the plain model's states in numpy."""
    with torch.no_grad():
        states_BTD = body(**feed).last_hidden_state.numpy()
    rows = []
    for states_TD, mask_T in zip(states_BTD, feed["attention_mask"].numpy(), strict=True):
        real_TD = states_TD[mask_T == 1]
        row_D = real_TD[0] if pooling is Pooling.CLS else real_TD.mean(axis=0)
        rows.append(row_D / np.sqrt((row_D**2).sum()))
    return np.stack(rows)


@pytest.mark.parametrize("pooling", Pooling)
@pytest.mark.parametrize("family", FAMILIES)
def test_the_graph_gives_what_torch_gives_at_any_shape(
    tmp_path: Path, family: str, pooling: Pooling
) -> None:
    body = body_of(family)
    feeds = [tokens(family, 5, 9, 2), tokens(family, 7), tokens(family, *[3] * 20, 33)]
    wanted = [expected(body, feed, pooling) for feed in feeds]
    write_graph(SentenceModel(body, pooling=pooling), tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    assert session.get_outputs()[0].name == "sentence_embedding"
    for feed, rows_BD in zip(feeds, wanted, strict=True):
        got_BD = session.run(None, {k: v.numpy() for k, v in feed.items()})[0]
        assert got_BD.dtype == np.float32
        np.testing.assert_allclose(got_BD, rows_BD, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_narrowing_the_last_layer_changes_no_cls_vector(family: str) -> None:
    feed = tokens(family, 4, 11, 2)
    whole_BD = expected(body_of(family), feed, Pooling.CLS)
    narrow = SentenceModel(body_of(family), pooling=Pooling.CLS)
    with torch.no_grad():
        out = narrow(**feed)
    assert narrow.narrow
    assert out["last_hidden_state"].shape == (3, 1, 32)
    np.testing.assert_allclose(out["sentence_embedding"].numpy(), whole_BD, atol=1e-6)


def test_the_last_feed_forward_sees_one_position_only() -> None:
    body = body_of("bert")
    assert keep_first_position(body)
    shapes = []
    layer = body.encoder.layer[-1]
    for module in (layer.attention.self.query.inner, layer.intermediate, layer.output.dense):
        module.register_forward_pre_hook(lambda _, inputs: shapes.append(inputs[0].shape[1]))
    with torch.no_grad():
        body(**tokens("bert", 4, 11, 2))
    assert shapes == [1, 1, 1]


def test_mean_pooling_keeps_the_whole_last_layer() -> None:
    model = SentenceModel(body_of("bert"), pooling=Pooling.MEAN)
    with torch.no_grad():
        assert model(**tokens("bert", 4, 11))["last_hidden_state"].shape == (2, 11, 32)


def test_a_family_that_is_not_known_stays_as_it_is() -> None:
    config = transformers.CONFIG_MAPPING["albert"](
        vocab_size=50, hidden_size=32, num_attention_heads=4, intermediate_size=64
    )
    assert not keep_first_position(transformers.AutoModel.from_config(config))


def test_graphs_hold_no_operators_of_other_domains(tmp_path: Path) -> None:
    write_graph(SentenceModel(body_of("bert"), pooling=Pooling.CLS), tmp_path / "model.onnx")
    graph = onnx.load(tmp_path / "model.onnx")
    assert {node.domain for node in graph.graph.node} <= {"", "ai.onnx"}
    onnx.checker.check_model(graph)
