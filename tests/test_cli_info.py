"""``mirror-rt info`` describes a folder, and detects changes in it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from mirror_rt.bundle import STARTER
from mirror_rt.knowledge import KnowledgeBase
from mirror_rt.knowledge.ranking.operating_points import OperatingPoint
from mirror_rt.knowledge.ranking.reranker import Reranker
from mirror_rt.training.config import TrainConfig
from mirror_rt.training.loop import train
from mirror_rt.types import Entity, Name
from mirror_rt_cli.app import app
from tests.tiny import add_pooling, tiny_checkpoint


def info(*words: object) -> Result:
    return CliRunner().invoke(app, ["info", *map(str, words)])


def flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.fixture
def knowledge_base(tmp_path: Path, tiny_bundle: Path) -> Path:
    entities = [
        Entity(id="1", names=(Name(text="heart disease"), Name(text="cardiac disease"))),
        Entity(id="2", names=(Name(text="lung disease"),)),
    ]
    KnowledgeBase.build(tiny_bundle, entities, tmp_path / "kb").close()
    return tmp_path / "kb"


def test_a_checkpoint_tells_its_architecture_and_pooling(tmp_path: Path) -> None:
    folder = add_pooling(tiny_checkpoint(tmp_path / "model"), "mean")
    output = json.loads(info(folder, "--json").stdout)
    assert output["kind"] == "checkpoint"
    assert (output["architecture"], output["layers"], output["dim"]) == ("bert", 2, 32)
    assert output["pooling"] == "mean"
    # It has no checksums, so nothing is verified, whatever the option.
    assert json.loads(info(folder, "--json", "--verify").stdout)["verified"] is False


def test_the_pooling_of_either_kind_of_config_is_reported(tmp_path: Path) -> None:
    folder = add_pooling(tiny_checkpoint(tmp_path / "model"), "mean")
    config = {"pooling_mode": "mean", "embedding_dimension": 32, "include_prompt": True}
    (folder / "1_Pooling/config.json").write_text(json.dumps(config))
    assert json.loads(info(folder, "--json").stdout)["pooling"] == "mean"


def test_a_bundle_tells_its_precision_and_width(tiny_bundle: Path) -> None:
    output = json.loads(info(tiny_bundle, "--json").stdout)
    assert (output["kind"], output["dim"], output["verified"]) == ("bundle", 32, False)


def test_a_knowledge_base_tells_its_counts_and_its_bundle(
    knowledge_base: Path, tiny_bundle: Path
) -> None:
    output = json.loads(info(knowledge_base, "--json", "--verify").stdout)
    assert output["kind"] == "knowledge base"
    assert (output["counts"]["entities"], output["counts"]["texts"]) == (2, 3)
    bundle = json.loads(info(tiny_bundle, "--json").stdout)
    assert output["bundle"]["fingerprint"] == bundle["fingerprint"]


def test_ten_lines_are_enough_for_the_starter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    names = [Entity(id=str(i), names=(Name(text=f"name {i}"),)) for i in range(3)]
    KnowledgeBase.build(STARTER, names, tmp_path / "kb").close()
    points = [
        OperatingPoint(target_precision=p, probability=None).to_dict() for p in (0.9, 0.95, 0.99)
    ]
    reranker = replace(
        Reranker.read(tmp_path / "kb/reranker.json"),
        operating_points=points,
        fitted_on={"samples": 1_805, "decisions": 12_345},
    )
    reranker.write(tmp_path / "kb/reranker.json")
    shown = info(tmp_path / "kb").stdout.splitlines()
    assert len(shown) <= 9, "a student has a line more, with its teacher"
    assert max(map(len, shown)) <= 80


@pytest.mark.parametrize("width", [80, 200])
def test_ten_lines_say_what_a_person_wants_to_know(
    knowledge_base: Path, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    points = [
        OperatingPoint(
            target_precision=0.9, probability=0.612, linked=710, coverage=0.71, precision=0.912,
            precision_low=0.888, precision_high=0.931,
        ),
        OperatingPoint(target_precision=0.99, probability=None),
    ]  # fmt: skip
    reranker = replace(
        Reranker.read(knowledge_base / "reranker.json"),
        operating_points=[point.to_dict() for point in points],
        fitted_on={"samples": 40, "gold_links": 1_000},
    )
    reranker.write(knowledge_base / "reranker.json")
    shown = info(knowledge_base).stdout.splitlines()
    assert len(shown) <= 10
    assert max(map(len, shown)) <= width
    output = {line.split("  ")[0]: line.split("  ", 1)[1].strip() for line in shown}
    assert output["entities"] == "2"
    assert output["names"].startswith("3 different")
    assert "feedback" not in output["names"]
    assert "1,000 gold links" in output["probabilities"]
    assert output["precision 0.90"] == ("from 0.612 on, 71 % linked, 0.912 right (0.888 to 0.931)")
    assert output["precision 0.99"] == "not reached"
    whole = json.loads(info(knowledge_base, "--json").stdout)
    assert whole["probabilities"]["operating_points"] == reranker.operating_points
    assert info(knowledge_base, "--out", knowledge_base.parent / "a.json").stdout == ""
    assert json.loads((knowledge_base.parent / "a.json").read_text()) == whole


def test_other_folders_are_reported_in_a_few_lines_too(
    tmp_path: Path, tiny_bundle: Path, vectors: Path
) -> None:
    folder = add_pooling(tiny_checkpoint(tmp_path / "model"), "mean")
    for path, words in (
        (folder, "bert, 2 layers"),
        (tiny_bundle, "32 dimensions"),
        (vectors, "2, 32"),
    ):
        shown = info(path).stdout
        assert words in shown
        assert len(shown.splitlines()) <= 10


@pytest.mark.parametrize("name", ["vectors.npy", "catalogue.sqlite", "bundle/model.onnx"])
def test_verify_finds_a_flipped_byte(knowledge_base: Path, name: str) -> None:
    flip_a_byte(knowledge_base / name)
    done = info(knowledge_base, "--verify")
    assert done.exit_code == 1
    assert Path(name).name in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("name", ["manifest.json", "reranker.json", "bundle/manifest.json"])
def test_changed_numbers_are_found_without_verify(knowledge_base: Path, name: str) -> None:
    file = knowledge_base / name
    content = json.loads(file.read_text())
    key = {"manifest.json": "dim", "reranker.json": "nil_score"}.get(name, "max_length")
    file.write_text(json.dumps(content | {key: 4}))
    done = info(knowledge_base)
    assert done.exit_code == 1
    assert f"{name}: " in done.stderr
    assert "changed since" in done.stderr


def test_what_is_not_ours_is_named(tmp_path: Path) -> None:
    (tmp_path / "file.txt").write_text("x")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/config.json").write_text("{")
    (tmp_path / "pickled").mkdir()
    (tmp_path / "pickled/config.json").write_text("{}")
    (tmp_path / "pickled/pytorch_model.bin").write_text("")
    for name, message in {
        "missing": "no such folder",
        "file.txt": "is a file",
        ".": "not a checkpoint, bundle, knowledge base or folder of vectors",
        "broken": "cannot be read",
        "pickled": "no safetensors weights",
    }.items():
        done = info(tmp_path / name)
        assert (done.exit_code, done.stderr.count("\n")) == (1, 1)
        assert message in done.stderr


def test_vectors_whose_manifest_lacks_its_shards_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text('{"kind": "vectors"}')
    done = info(tmp_path)
    assert done.exit_code == 1
    assert "its manifest.json cannot be read ('shards')" in done.stderr


@pytest.fixture
def vectors(tmp_path: Path, tiny_bundle: Path) -> Path:
    (tmp_path / "names.txt").write_text("heart disease\nlung disease\n")
    embed = ["embed", tiny_bundle, tmp_path / "names.txt", "--out", tmp_path / "vectors"]
    assert CliRunner().invoke(app, [str(word) for word in embed]).exit_code == 0
    return tmp_path / "vectors"


def test_vectors_count_the_shards_that_their_manifest_names(vectors: Path) -> None:
    before = json.loads(info(vectors, "--json").stdout)
    (vectors / "part-00007-of-another-run.parquet").write_bytes(bytes(3_000_000))
    assert json.loads(info(vectors, "--json").stdout) == before
    assert (before["kind"], before["rows"], before["shards"]) == ("vectors", 2, 1)
    next(vectors.glob("part-00000*")).unlink()
    done = info(vectors)
    assert (done.exit_code, done.stderr.count("\n")) == (1, 1)
    assert "is missing (1 of 1 shard faulty); run the same mirror-rt embed" in done.stderr


def test_an_unfinished_job_is_reported_with_the_command_to_continue(
    vectors: Path, tmp_path: Path, tiny_bert: Path
) -> None:
    (vectors / "manifest.json").unlink()  # as after a kill
    done = info(vectors)
    assert (done.exit_code, done.stderr.count("\n")) == (1, 1)
    assert "is not finished; run the same mirror-rt embed again to continue" in done.stderr

    def stop(_: object) -> None:
        raise KeyboardInterrupt

    (tmp_path / "c.txt").write_text("a\nb\nc\nd\n")
    config = TrainConfig(
        corpus=tmp_path / "c.txt", base=tiny_bert, out=tmp_path / "o", batch_size=2,
        save_steps=1,
    )  # fmt: skip
    with pytest.raises(KeyboardInterrupt):
        train(config, progress=stop)
    done = info(tmp_path / "o.unfinished")
    assert (done.exit_code, done.stderr.count("\n")) == (1, 1)
    assert "run the same mirror-rt train with --resume again" in done.stderr
