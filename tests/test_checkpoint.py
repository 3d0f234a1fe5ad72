"""Other libraries load checkpoints unchanged, and give the same vectors."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from mirror_rt.errors import InputError, ModelError
from mirror_rt.pooling_config import read_pooling
from mirror_rt.training.checkpoint import TorchEncoder
from mirror_rt.training.config import TrainConfig
from mirror_rt.training.loop import train
from mirror_rt.types import Pooling
from tests.errors import about
from tests.tiny import NAMES, add_pooling, tiny_checkpoint

TEXTS = [*NAMES, "", "  ", "日本", "Fever " * 60]


@pytest.fixture(scope="module", params=["cls", "mean"])
def checkpoint(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, tiny_bert: Path
) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    (folder / "names.txt").write_text("\n".join(NAMES))
    config = TrainConfig(
        corpus=folder / "names.txt",
        base=tiny_bert,
        out=folder / "out",
        pooling=Pooling(request.param),
        batch_size=8,
    )
    return train(config).out


def test_sentence_transformers_gives_the_same_vectors(checkpoint: Path) -> None:
    from sentence_transformers import SentenceTransformer

    peer = SentenceTransformer(str(checkpoint), device="cpu")
    expected = peer.encode(TEXTS, show_progress_bar=False)
    found = TorchEncoder.open(checkpoint).encode(TEXTS)
    assert np.abs(found - expected).max() < 1e-5
    assert peer.max_seq_length == 25


def test_transformers_loads_it_and_gives_the_same_vectors(checkpoint: Path) -> None:
    import torch
    from transformers import AutoModel, AutoTokenizer

    model = AutoModel.from_pretrained(checkpoint).eval()
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    encoder = TorchEncoder.open(checkpoint)
    for text, vector in zip(NAMES, encoder.encode(NAMES), strict=True):
        with torch.no_grad():
            states = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0]
        raw = (states[0] if encoder.model.pooling is Pooling.CLS else states.mean(0)).numpy()
        assert np.abs(raw / np.linalg.norm(raw) - vector).max() < 1e-5


def test_rows_are_unit_length_in_the_order_given(checkpoint: Path) -> None:
    encoder = TorchEncoder.open(checkpoint)
    rows = encoder.encode(TEXTS)
    assert rows.shape == (len(TEXTS), encoder.dim)
    assert rows.dtype == np.float32
    assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)
    backwards = encoder.encode(TEXTS[::-1])[::-1]
    assert np.abs(rows - backwards).max() < 1e-5
    assert encoder.encode([]).shape == (0, encoder.dim)


def test_a_vector_does_not_depend_on_the_strings_beside_it(checkpoint: Path) -> None:
    # The authors' mean included padding, so a vector depended on the longest string of its batch.
    encoder = TorchEncoder.open(checkpoint)
    alone = encoder.encode(["fever"])
    beside = encoder.encode(["fever", "ventricular septal defect of the left heart " * 3])
    assert np.abs(alone[0] - beside[0]).max() < 1e-6


def test_half_a_surrogate_pair_is_refused_by_row(checkpoint: Path) -> None:
    with pytest.raises(InputError, check=about("row 1")):
        TorchEncoder.open(checkpoint).encode(["fever", "\ud800"])


def test_a_checkpoint_can_be_trained_on(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("\n".join(NAMES))
    config = TrainConfig(
        corpus=tmp_path / "names.txt", base=checkpoint, out=tmp_path / "o", batch_size=8, epochs=1
    )
    assert train(config).pooling is TorchEncoder.open(checkpoint).model.pooling


@pytest.mark.parametrize("mode", ["cls", "mean"])
def test_pooling_is_read_in_the_old_and_the_new_form(tmp_path: Path, mode: str) -> None:
    folder = add_pooling(tmp_path, mode, max_length=48)
    assert read_pooling(folder) == (Pooling(mode), 48)
    new = {"embedding_dimension": 32, "pooling_mode": mode, "include_prompt": True}
    (folder / "1_Pooling/config.json").write_text(json.dumps(new))
    assert read_pooling(folder) == (Pooling(mode), 48)
    assert read_pooling(tmp_path / "plain") == (Pooling.CLS, None)


@pytest.mark.parametrize(
    "config",
    [
        {"pooling_mode_max_tokens": True},
        {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True},
        {"pooling_mode": "lasttoken"},
        {"pooling_mode_mean_tokens": False},
    ],
)
def test_another_pooling_is_refused(tmp_path: Path, config: dict[str, object]) -> None:
    folder = add_pooling(tmp_path, "mean")
    (folder / "1_Pooling/config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, check=about("config.json")):
        read_pooling(folder)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("modules.json", "[{}]"),
        ("modules.json", "[1]"),
        ("1_Pooling/config.json", "[]"),
        ("sentence_bert_config.json", "[]"),
        ("sentence_bert_config.json", '{"max_seq_length": "many"}'),
    ],
)
def test_a_file_that_says_something_else_is_refused_on_one_line(
    tmp_path: Path, name: str, content: str
) -> None:
    folder = add_pooling(tmp_path, "mean")
    (folder / name).write_text(content)
    with pytest.raises(ModelError, check=about(str(folder))) as error:
        read_pooling(folder)
    assert "\n" not in str(error.value)


def test_another_module_is_refused(tmp_path: Path) -> None:
    folder = add_pooling(tmp_path, "mean")
    modules = json.loads((folder / "modules.json").read_text())
    modules.append({"idx": 3, "name": "3", "path": "3_Dense", "type": "a.b.Dense"})
    (folder / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(ModelError, check=about(value="Dense")):
        read_pooling(folder)


def test_a_model_with_its_own_longest_input_keeps_it(tmp_path: Path) -> None:
    folder = add_pooling(tiny_checkpoint(tmp_path / "base"), "mean", max_length=11)
    assert TorchEncoder.open(folder).model.max_length == 11
    assert TorchEncoder.open(folder, max_length=7).model.max_length == 7
