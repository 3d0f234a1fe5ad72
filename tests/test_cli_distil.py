"""``mirror-rt distil``, and students in the other commands."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from mirror_rt import Encoder
from mirror_rt_cli.app import app
from tests.embed_jobs import bytes_of, written
from tests.schemas import check
from tests.test_static import NAMES
from tests.tiny import WORDS

RUN = CliRunner()


@pytest.fixture(scope="module")
def student(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli")
    first, second = folder / "first.txt", folder / "second.tsv"
    written(first, NAMES[:500])
    rows = "".join(f"E{i}\t{name}\n" for i, name in enumerate(NAMES[500:]))
    second.write_text("id\tname\n" + rows)
    command = ["distil", str(tiny_bundle), str(first), str(second), "--out", str(folder / "out")]
    done = RUN.invoke(app, [*command, "--dims", "16", "--min-top1", ".05"])
    assert done.exit_code == 0, done.stderr
    output = json.loads(done.stdout)
    check("distil", [output])
    assert (output["kind"], output["dim"]) == ("static", 16)
    assert output["gate"]["names"] == len(NAMES) // 10
    return folder / "out"


def test_info_tells_the_kind(student: Path) -> None:
    output = json.loads(RUN.invoke(app, ["info", str(student), "--json", "--verify"]).stdout)
    assert (output["kind"], output["encoder"], output["dim"]) == ("bundle", "static", 16)


def test_embed_gives_the_encoders_vectors_and_tells_what_is_unfamiliar(
    student: Path, tmp_path: Path
) -> None:
    texts = [*NAMES[:50], "Больница", "a" * 5000]
    source = written(tmp_path / "texts.txt", texts)
    done = RUN.invoke(app, ["embed", str(student), str(source), "--out", str(tmp_path / "v.npy")])
    assert done.exit_code == 0, done.stderr
    np.testing.assert_array_equal(np.load(tmp_path / "v.npy"), Encoder.open(student).encode(texts))
    assert "unfamiliar: of 2 of 52" in done.stderr
    assert "4096 characters" in done.stderr


def test_a_folder_of_vectors_grows_to_the_bytes_of_a_single_run(
    student: Path, tmp_path: Path
) -> None:
    source = written(tmp_path / "texts.txt", [*NAMES[:20], "Больница"])
    command = ["embed", str(student), str(source), "--out"]
    assert RUN.invoke(app, [*command, str(tmp_path / "grown")]).exit_code == 0
    written(source, [*NAMES[10:40], "Больница"])
    for name in ("grown", "single"):
        done = RUN.invoke(app, [*command, str(tmp_path / name)])
        assert done.exit_code == 0, done.stderr
    assert bytes_of(tmp_path / "grown") == bytes_of(tmp_path / "single")


def test_a_knowledge_base_of_another_bundle_refuses_the_student(
    student: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    source = tmp_path / "kb.tsv"
    source.write_text("id\tname\n" + "".join(f"E{i}\t{n}\n" for i, n in enumerate(NAMES[:60])))
    done = RUN.invoke(app, ["index", str(tiny_bundle), str(source), "--out", str(tmp_path / "kb")])
    assert done.exit_code == 0, done.stderr
    done = RUN.invoke(app, ["link", str(tmp_path / "kb"), "liver", "--bundle", str(student)])
    assert done.exit_code == 1
    assert "was not built with" in done.stderr
    done = RUN.invoke(app, ["index", str(student), str(source), "--out", str(tmp_path / "kb2")])
    assert done.exit_code == 0, done.stderr
    done = RUN.invoke(app, ["link", str(tmp_path / "kb2"), NAMES[0], "--bundle", str(student)])
    assert json.loads(done.stdout)["candidates"][0]["entity_id"] == "E0"


@pytest.mark.parametrize(
    ("names", "more"),
    [
        (["same"] * 300, []),
        (NAMES[:5], []),
        (NAMES, ["--dims", "500"]),
        (NAMES, ["--ridge", "0"]),
        (NAMES, ["--dims", "8", "--min-top1", "1"]),
    ],
)
def test_an_error_is_one_line_and_leaves_nothing(
    tiny_bundle: Path, tmp_path: Path, names: list[str], more: list[str]
) -> None:
    source = written(tmp_path / "names.txt", names)
    command = ["distil", str(tiny_bundle), str(source), "--out", str(tmp_path / "out"), *more]
    done = RUN.invoke(app, command)
    assert done.exit_code == 1
    assert [line.startswith("mirror-rt: ") for line in done.stderr.splitlines()].count(True) == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", ["bundle", "checkpoint"])
def test_a_teacher_without_a_tokenizer_is_refused(
    kind: str, tiny_bundle: Path, tiny_bert: Path, tmp_path: Path
) -> None:
    whole = tiny_bundle if kind == "bundle" else tiny_bert
    teacher = Path(shutil.copytree(whole, tmp_path / "teacher"))
    for file in teacher.glob("tokenizer*"):
        file.unlink()
    (teacher / "vocab.txt").unlink(missing_ok=True)
    source = written(tmp_path / "names.txt", NAMES)
    command = ["distil", str(teacher), str(source), "--out", str(tmp_path / "out"), "--dims", "8"]
    done = RUN.invoke(app, command)
    assert done.exit_code == 1
    assert done.exception is None or isinstance(done.exception, SystemExit)
    assert [line.startswith("mirror-rt: ") for line in done.stderr.splitlines()].count(True) == 1
    assert not (tmp_path / "out").exists()


def test_a_name_of_100_000_letters_is_cut(tiny_bundle: Path, tmp_path: Path) -> None:
    endless = " ".join(WORDS[:50]) + " x" * 50_000
    source = written(tmp_path / "names.txt", [*NAMES, endless])
    out = tmp_path / "out"
    command = ["distil", str(tiny_bundle), str(source), "--out", str(out), "--dims", "16"]
    done = RUN.invoke(app, [*command, "--min-top1", "0"])
    assert done.exit_code == 0, done.stderr
    found = Encoder.open(out).encode_counted([endless, endless[:4_096], endless[:4_000]])
    assert found.truncated == 1
    np.testing.assert_array_equal(found.vectors_ND[0], found.vectors_ND[1])
    assert np.abs(found.vectors_ND[0] - found.vectors_ND[2]).max() > 0
