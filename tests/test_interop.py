"""Other libraries use a bundle folder unchanged, with the same vectors."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest

from mirror_rt.exporting.pipeline import export
from mirror_rt.runtime import Encoder
from mirror_rt.types import Pooling, Precision
from tests.tiny import NAMES, tiny_checkpoint, without_padding

TEXTS = [*NAMES, "chronic " * 90]
"""The last one is longer than the model takes: every program must cut it at the same place."""


@pytest.fixture(
    scope="module",
    params=[
        "bert-cls-fp32",
        "bert-mean-int8",
        "roberta-cls-int8",
        "distilbert-mean-fp32",
        "unpadded-mean-int8",
    ],
)
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    family, pooling, precision = request.param.split("-")
    folder = tmp_path_factory.mktemp(request.param)
    if family == "unpadded":
        checkpoint = without_padding(tiny_checkpoint(folder / "model"))
    else:
        checkpoint = tiny_checkpoint(folder / "model", architecture=family)
    bundle = export(
        checkpoint, folder / "bundle", precision=Precision(precision), pooling=Pooling(pooling)
    )
    assert bundle.manifest.quantization["batch_invariant"]
    return bundle.path


def test_fastembed_serves_a_bundle_as_a_custom_model(bundle: Path, tmp_path: Path) -> None:
    fastembed = pytest.importorskip("fastembed")
    from fastembed.common.model_description import ModelSource, PoolingType

    name = f"mirror-rt/{bundle.parent.name}-{tmp_path.name}"
    fastembed.TextEmbedding.add_custom_model(
        model=name,
        pooling=PoolingType.DISABLED,
        normalization=False,
        sources=ModelSource(hf=name),
        dim=32,
        model_file="model.onnx",
    )
    peer = fastembed.TextEmbedding(name, specific_model_path=str(bundle), threads=1)
    vectors_ND = np.stack(list(peer.embed(TEXTS, batch_size=8)))
    np.testing.assert_allclose(vectors_ND, Encoder.open(bundle).encode(TEXTS), atol=1e-5)


def test_sentence_transformers_serves_a_bundle_with_its_onnx_backend(
    bundle: Path, tmp_path: Path
) -> None:
    peers = pytest.importorskip("sentence_transformers")
    folder = Path(shutil.copytree(bundle, tmp_path / "bundle"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the peer's own libraries
        peer = peers.SentenceTransformer(
            str(folder),
            backend="onnx",
            device="cpu",
            model_kwargs={"provider": "CPUExecutionProvider"},
        )
        vectors_ND = peer.encode(TEXTS, batch_size=8)
    np.testing.assert_allclose(vectors_ND, Encoder.open(bundle).encode(TEXTS), atol=1e-5)


def test_a_folder_saved_by_sentence_transformers_is_exported_to_its_vectors(
    tiny_bert: Path, tmp_path: Path
) -> None:
    peers = pytest.importorskip("sentence_transformers")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the peer's own libraries
        from sentence_transformers import models

        peer = peers.SentenceTransformer(
            modules=[
                models.Transformer(str(tiny_bert), max_seq_length=24),
                models.Pooling(32, pooling_mode="mean"),
                models.Normalize(),
            ],
            device="cpu",
        )
        peer.save(str(tmp_path / "model"), create_model_card=False)
        vectors_ND = peer.encode(TEXTS)
    bundle = export(tmp_path / "model", tmp_path / "bundle", precision=Precision.FP32)
    assert (bundle.manifest.pooling, bundle.manifest.max_length) == (Pooling.MEAN, 24)
    np.testing.assert_allclose(Encoder.open(bundle).encode(TEXTS), vectors_ND, atol=1e-5)
