"""``mirror-rt index``, as a user types it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from typer.testing import CliRunner

from mirror_rt import Encoder
from mirror_rt.errors import ConfigError, InputError, MirrorError
from mirror_rt.knowledge import KnowledgeBase
from mirror_rt.knowledge.storage import build
from mirror_rt.runtime.embedding import VectorOptions, embed
from mirror_rt.runtime.storage import Dtype
from mirror_rt_cli import asked
from mirror_rt_cli.app import app
from tests.vectors import written

if TYPE_CHECKING:
    from mirror_rt.types import Float32

KB = "id\tname\tkind\nH:1\tshort stature\tpreferred\nH:1\tsmall hand\texact\nH:2\tfever\texact\n"


def test_index_makes_a_knowledge_base_and_says_what_is_in_it(
    tiny_bundle: Path, tmp_path: Path
) -> None:
    (tmp_path / "kb.tsv").write_text(KB)
    arguments = ["index", str(tiny_bundle), str(tmp_path / "kb.tsv"), "--out", str(tmp_path / "kb")]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "2 entities, 3 different names" in result.stderr
    assert {p.name for p in (tmp_path / "kb").iterdir()} >= {
        "bundle",
        "catalogue.sqlite",
        "index.faiss",
        "manifest.json",
        "vectors.npy",
    }
    again = CliRunner().invoke(app, arguments)
    assert again.exit_code == 1
    assert "exists already" in again.stderr
    assert CliRunner().invoke(app, [*arguments, "--force"]).exit_code == 0


def test_ids_that_are_merged_with_others_are_counted(tiny_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "kb.txt").write_text("A|B||one\nA|B||two\nB||three\nC||four\n")
    result = CliRunner().invoke(
        app, ["index", str(tiny_bundle), str(tmp_path / "kb.txt"), "--out", str(tmp_path / "kb")]
    )
    assert result.exit_code == 0, result.output
    assert "2 entities, 4 different names; 1 ids merged" in result.stderr


def test_descriptions_left_out_are_counted(tiny_bundle: Path, tmp_path: Path) -> None:
    rows = [("A", "Hot."), ("A", "Warm."), ("B", "Small.")]
    lines = "".join(f'{{"id": "{i}", "name": "fever", "description": "{d}"}}\n' for i, d in rows)
    (tmp_path / "kb.jsonl").write_text(lines)
    result = CliRunner().invoke(
        app, ["index", str(tiny_bundle), str(tmp_path / "kb.jsonl"), "--out", str(tmp_path / "kb")]
    )
    assert result.exit_code == 0, result.output
    assert "; 1 descriptions left out, as their entity has another\n" in result.stderr


def test_a_bad_row_is_named_by_line_and_leaves_no_folder(tiny_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "kb.tsv").write_text(KB + "H:3\t\tpreferred\n")
    result = CliRunner().invoke(
        app, ["index", str(tiny_bundle), str(tmp_path / "kb.tsv"), "--out", str(tmp_path / "kb")]
    )
    assert result.exit_code == 1
    assert "line 5" in result.stderr
    assert not (tmp_path / "kb").exists()


def test_an_empty_file_is_called_empty(tiny_bundle: Path, tmp_path: Path) -> None:
    for name in ("kb", "kb.tsv", "kb.jsonl"):
        (tmp_path / name).touch()
        result = CliRunner().invoke(
            app, ["index", str(tiny_bundle), str(tmp_path / name), "--out", str(tmp_path / "out")]
        )
        assert result.exit_code == 1
        assert f"{name}: is empty" in result.stderr
        assert result.stderr.count("\n") == 1


def test_index_closes_what_it_built(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[KnowledgeBase] = []
    monkeypatch.setattr(KnowledgeBase, "close", lambda self: closed.append(self))
    (tmp_path / "kb.tsv").write_text(KB)
    arguments = ["index", str(tiny_bundle), str(tmp_path / "kb.tsv"), "--out", str(tmp_path / "kb")]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    (built,) = closed
    built.resources.catalogue.close()


def test_a_recall_that_was_not_reached_is_told(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "autotune", lambda index, *, recall: {"recall_at_10": 0.9})
    (tmp_path / "kb.tsv").write_text(KB)
    arguments = ["index", str(tiny_bundle), str(tmp_path / "kb.tsv"), "--out", str(tmp_path / "kb")]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0
    assert "finds 0.900 of the true ten nearest, 0.98 was asked" in done.stderr


def test_swapped_arguments_are_told(tiny_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "kb.tsv").write_text(KB)
    arguments = ["index", str(tmp_path / "kb.tsv"), str(tiny_bundle), "--out", str(tmp_path / "kb")]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 1
    assert "kb.tsv: is a file; the bundle, a folder, comes before the names" in done.stderr
    assert not (tmp_path / "kb").exists()


def embedded(bundle: Path, out: Path, **options: object) -> Path:
    """Embed the names of ``KB`` but one, beside another that is not in it."""
    texts = written(out.with_suffix(".txt"), ["fever", "cough", "short stature"])
    embed(Encoder.open(bundle), texts, out, options=VectorOptions(**options))  # type: ignore[arg-type]
    return out


@pytest.mark.parametrize("dtype", [Dtype.FLOAT32, Dtype.FLOAT16])
def test_names_whose_vectors_are_given_are_not_embedded_again(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: Dtype
) -> None:
    seen: list[str] = []
    encode = asked.CountingEncoder.encode

    def noted(self: asked.CountingEncoder, texts: Sequence[str]) -> Float32:
        seen.extend(texts)
        return encode(self, texts)

    monkeypatch.setattr(asked.CountingEncoder, "encode", noted)
    (tmp_path / "kb.tsv").write_text(KB)
    vectors = embedded(tiny_bundle, tmp_path / "vectors", dtype=dtype)
    arguments = ["index", str(tiny_bundle), str(tmp_path / "kb.tsv"), "--out"]
    plain = CliRunner().invoke(app, [*arguments, str(tmp_path / "plain")])
    assert sorted(seen) == ["fever", "short stature", "small hand"]
    seen.clear()
    given = CliRunner().invoke(app, [*arguments, str(tmp_path / "kb"), "--vectors", str(vectors)])
    assert (plain.exit_code, given.exit_code) == (0, 0), given.output
    assert seen == ["small hand"]
    with (
        KnowledgeBase.open(tmp_path / "plain") as one,
        KnowledgeBase.open(tmp_path / "kb") as other,
    ):
        assert one.resources.catalogue.texts() == other.resources.catalogue.texts()
        np.testing.assert_allclose(
            other.resources.retrievers.vectors.vectors_ND,
            one.resources.retrievers.vectors.vectors_ND,
            atol=1e-3,
        )
        for found in other.link(["Fever", "small hands"]):
            assert found
    assert set(files_of(tmp_path / "plain")) == set(files_of(tmp_path / "kb"))


def files_of(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def unfinished(vectors: Path) -> None:
    (vectors / "manifest.json").unlink()


def flipped(vectors: Path) -> None:
    (shard,) = vectors.glob("part-*")
    content = bytearray(shard.read_bytes())
    content[100] ^= 1
    shard.write_bytes(content)


def without_shards(vectors: Path) -> None:
    (shard,) = vectors.glob("part-*")
    shard.unlink()


def gone(vectors: Path) -> None:
    shutil.rmtree(vectors)


@pytest.mark.parametrize(
    ("options", "spoil", "error"),
    [
        ({"dims": 8}, None, ConfigError),
        ({"dtype": Dtype.INT8}, None, ConfigError),
        ({"text": False}, None, ConfigError),
        ({}, unfinished, InputError),
        ({}, flipped, InputError),
        ({}, without_shards, InputError),
        ({}, gone, InputError),
    ],
)
def test_vectors_that_do_not_fit_are_refused_and_leave_no_folder(
    tiny_bundle: Path,
    tmp_path: Path,
    options: dict[str, object],
    spoil: Callable[[Path], None] | None,
    error: type[MirrorError],
) -> None:
    (tmp_path / "kb.tsv").write_text(KB)
    vectors = embedded(tiny_bundle, tmp_path / "vectors", **options)
    if spoil is not None:
        spoil(vectors)
    before = {path.name for path in tmp_path.iterdir()}
    with pytest.raises(error):
        KnowledgeBase.build(tiny_bundle, tmp_path / "kb.tsv", tmp_path / "kb", vectors=vectors)
    assert {path.name for path in tmp_path.iterdir()} == before


def test_vectors_of_another_bundle_or_kind_of_folder_are_refused_in_a_line(
    tiny_bundle: Path, tiny_bundle_int8: Path, tmp_path: Path
) -> None:
    (tmp_path / "kb.tsv").write_text(KB)
    vectors = embedded(tiny_bundle_int8, tmp_path / "vectors")
    with pytest.raises(ConfigError):
        KnowledgeBase.build(tiny_bundle, tmp_path / "kb.tsv", tmp_path / "kb", vectors=vectors)
    for given in (vectors, tiny_bundle, tmp_path / "kb.tsv"):
        arguments = ["index", str(tiny_bundle), str(tmp_path / "kb.tsv")]
        arguments += ["--out", str(tmp_path / "kb"), "--vectors", str(given)]
        done = CliRunner().invoke(app, arguments)
        assert (done.exit_code, done.stdout) == (1, "")
        assert done.stderr.startswith(f"mirror-rt: {given}")
        assert done.stderr.count("\n") == 1
        assert not (tmp_path / "kb").exists()
