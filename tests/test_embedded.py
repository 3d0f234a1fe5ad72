"""Knowledge bases built from the vectors of an embed job: only missing names are embedded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from typer.testing import CliRunner

from mirror_rt.errors import ConfigError, InputError
from mirror_rt.knowledge import KnowledgeBase
from mirror_rt.runtime import Encoder
from mirror_rt.runtime.embedding import VectorOptions, embed
from mirror_rt.runtime.storage import Dtype
from mirror_rt_cli.app import app
from tests.errors import about
from tests.kb import HEARTS

if TYPE_CHECKING:
    from mirror_rt.types import Float32

NAMES = sorted({name.text for entity in HEARTS for name in entity.names})
MISSING = {"VSD", "liver cancer"}


class Noting:
    """An encoder that records its texts."""

    def __init__(self, encoder: Encoder) -> None:
        self.dim = encoder.dim
        self.requested: list[str] = []
        self._encoder = encoder

    def encode(self, texts: Sequence[str]) -> Float32:
        """Return (N, D) float32 unit rows."""
        self.requested += texts
        return self._encoder.encode(texts)


@pytest.fixture(scope="module")
def encoder(tiny_bundle: Path) -> Encoder:
    return Encoder.open(tiny_bundle)


def _embedded(
    encoder: Encoder, folder: Path, *, dtype: Dtype = Dtype.FLOAT32, dims: int | None = None,
    text: bool = True,
) -> Path:  # fmt: skip
    names = folder / "names.txt"
    names.write_text("".join(f"{name}\n" for name in NAMES if name not in MISSING))
    options = VectorOptions(dtype=dtype, dims=dims, text=text)
    embed(encoder, names, folder / "vectors", options=options)
    return folder / "vectors"


@pytest.mark.parametrize("dtype", [Dtype.FLOAT32, Dtype.FLOAT16])
def test_only_missing_names_are_embedded_and_the_vectors_are_the_same(
    encoder: Encoder, tiny_bundle: Path, tmp_path: Path, dtype: Dtype
) -> None:
    vectors, noting = _embedded(encoder, tmp_path, dtype=dtype), Noting(encoder)
    build = KnowledgeBase.build
    build(tiny_bundle, HEARTS, tmp_path / "a", encoder=noting, vectors=vectors).close()
    assert set(noting.requested) & set(NAMES) == MISSING
    build(tiny_bundle, HEARTS, tmp_path / "b", encoder=encoder).close()
    files = [tmp_path / name / "vectors.npy" for name in ("a", "b")]
    one_ND, other_ND = (np.load(file).astype(np.float32) for file in files)
    # In another batch, the last digit of a float16 may differ.
    np.testing.assert_allclose(one_ND, other_ND, atol=2e-3)
    with KnowledgeBase.open(tmp_path / "a") as kb:
        assert [found[0].entity_id for found in kb.search(["VSD", "short stature"])] == [
            "H:2",
            "H:3",
        ]


def test_vectors_that_do_not_fit_are_refused(
    encoder: Encoder, tiny_bundle: Path, tiny_bundle_int8: Path, tmp_path: Path
) -> None:
    made = {
        "narrow": {"dims": 8},
        "rounded": {"dtype": Dtype.INT8},
        "bare": {"text": False},
    }
    for name, options in made.items():
        (tmp_path / name).mkdir()
        vectors = _embedded(encoder, tmp_path / name, **options)  # type: ignore[arg-type]
        with pytest.raises(ConfigError):
            KnowledgeBase.build(tiny_bundle, HEARTS, tmp_path / "kb", vectors=vectors)
    (tmp_path / "good").mkdir()
    good = _embedded(encoder, tmp_path / "good")
    with pytest.raises(ConfigError, check=about("vectors")):
        KnowledgeBase.build(tiny_bundle_int8, HEARTS, tmp_path / "kb", vectors=good)
    for no_vectors in (tmp_path / "none", tiny_bundle, good / "manifest.json"):
        with pytest.raises(InputError):
            KnowledgeBase.build(tiny_bundle, HEARTS, tmp_path / "kb", vectors=no_vectors)
    shard = next(good.glob("part-*"))
    shard.write_bytes(shard.read_bytes()[:-10])
    with pytest.raises(InputError, check=about(shard.name)):
        KnowledgeBase.build(tiny_bundle, HEARTS, tmp_path / "kb", vectors=good)
    assert not (tmp_path / "kb").exists()


def test_the_command_tells_how_many_vectors_it_took(
    encoder: Encoder, tiny_bundle: Path, tmp_path: Path
) -> None:
    vectors = _embedded(encoder, tmp_path)
    (tmp_path / "kb.tsv").write_text("".join(f"{name}\t{name}\n" for name in NAMES))
    arguments = [
        "index", tiny_bundle, tmp_path / "kb.tsv", "--out", tmp_path / "kb", "--vectors", vectors,
    ]  # fmt: skip
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exit_code == 0, done.output
    known = len(NAMES) - len(MISSING)
    assert f"{known} vectors taken, {len(MISSING)} strings embedded\n" in done.stderr
