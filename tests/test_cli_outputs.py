"""No command loses other files or its input; an output must be writable before any work."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mirror_rt.training.model_card import license_of, model_card
from mirror_rt_cli.app import app

TSV = "id\tname\n" + "".join(f"A:{n}\tname {n}\n" for n in range(30))
PROGRAM = [sys.executable, "-c", "from mirror_rt_cli.app import main; main()"]


@pytest.fixture(scope="module")
def built(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from mirror_rt.knowledge import KnowledgeBase
    from mirror_rt.knowledge.formats import read_entities

    work = tmp_path_factory.mktemp("built")
    (work / "kb.tsv").write_text(TSV)
    KnowledgeBase.build(tiny_bundle, read_entities(work / "kb.tsv"), work / "kb").close()
    return work / "kb"


@pytest.fixture
def kb(built: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built, tmp_path / "kb"))


def run(arguments: Iterable[object]) -> tuple[int, str]:
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return done.exit_code, done.stderr


@pytest.mark.parametrize(
    "change", [["add", "new.tsv"], ["update", "new.tsv"], ["remove", "A:3"]], ids=lambda c: c[0]
)
def test_a_change_of_a_knowledge_base_keeps_the_users_files_and_the_folders_rights(
    kb: Path, change: list[str]
) -> None:
    (kb / "notes").mkdir()
    (kb / "new.tsv").write_text("id\tname\nB:1\tanother\n")
    (kb / "links.jsonl").write_text("{}\n")
    (kb / "notes/a.txt").write_text("mine")
    kb.chmod(0o2775)
    arguments = [kb / name if name.endswith(".tsv") else name for name in change[1:]]
    code, output = run(["kb", change[0], kb, *arguments])
    assert code == 0, output
    assert (kb / "new.tsv").read_text().endswith("another\n")
    assert (kb / "links.jsonl").read_text() == "{}\n"
    assert (kb / "notes/a.txt").read_text() == "mine"
    if sys.platform != "win32":
        assert stat.S_IMODE(kb.stat().st_mode) == 0o2775


def bytes_of(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_no_command_replaces_what_it_reads(
    kb: Path, tiny_bundle: Path, tiny_bert: Path, tmp_path: Path
) -> None:
    (kb / "names.tsv").write_text(TSV)
    for name in ("m.jsonl", "c.txt", "g.png"):
        (tmp_path / name).write_text('{"text": "name 1"}\n')
    (tmp_path / "g.png").write_text("mention\tid\nname 1\tA:1\n")
    (tmp_path / "away.jsonl").symlink_to("m.jsonl")
    bundle = Path(shutil.copytree(tiny_bundle, tmp_path / "b"))
    (bundle / "s.txt").write_text("one\ntwo\n")
    here = tmp_path
    before = bytes_of(here)
    for command in (
        ["index", tiny_bundle, kb / "names.tsv", "--out", kb],
        ["index", bundle, kb / "names.tsv", "--out", bundle],
        ["export", tiny_bert, "--out", bundle, "--sample", bundle / "s.txt"],
        ["link", kb, here / "m.jsonl", "--out", here / "m.jsonl"],
        ["link", kb, here / "m.jsonl", "--out", here / "away.jsonl"],
        ["link", kb, here / "away.jsonl", "--out", here / "m.jsonl"],
        ["link", kb, "name 1", "--document", here / "m.jsonl", "--out", here / "m.jsonl"],
        ["corpus", "names", kb / "names.tsv", "--out", kb / "names.tsv"],
        ["corpus", "sentences", here / "c.txt", "--out", here / "c.txt"],
        ["evaluate", kb, "--gold", here / "g.png", "--plot", here / "g.png"],
        ["calibrate", kb, here / "g.png", "--plot", here / "g.png"],
        # A part of a knowledge base or bundle, even of one that is not read.
        ["evaluate", kb, "--gold", here / "g.png", "--out", kb / "manifest.json"],
        ["corpus", "sentences", here / "c.txt", "--out", kb / "index.faiss"],
        ["corpus", "sentences", here / "c.txt", "--out", bundle / "manifest.json"],
        ["export", tiny_bert, "--out", kb / "bundle"],
    ):
        code, output = run([*command, "--force"])
        assert (code, output.count("\n")) == (1, 1), command
        assert bytes_of(here) == before


@pytest.mark.parametrize("out", ["-", os.fsdecode(b"bad\xff")])
def test_a_target_that_cannot_be_written_is_an_error_before_any_work(
    kb: Path, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "names.tsv").write_text(TSV)
    before = bytes_of(tmp_path)
    for command in (
        ["index", tiny_bundle, "names.tsv"],
        ["embed", tiny_bundle, "names.tsv", "--column", "name"],
        ["corpus", "names", "names.tsv"],
    ):
        done = subprocess.run(
            [*PROGRAM, *map(str, command), "--out", out], capture_output=True, check=False
        )
        assert (done.returncode, done.stderr.count(b"\n")) == (1, 1), done.stderr
    assert bytes_of(tmp_path) == before


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("kb stats kb.tsv <&-", 0),
        ("kb stats - --kb-format tsv <&-", 1),
        ("kb stats kb.tsv >&-", 1),
        ("kb stats kb.tsv >&- 2>&-", 1),
        ("kb stats kb.tsv > /dev/full", 1),
        ("--help > /dev/full", 1),
        ("corpus names kb.tsv --out c.txt >&- <&-", 0),
    ],
)
def test_closed_and_full_streams_end_in_one_line(tmp_path: Path, command: str, code: int) -> None:
    (tmp_path / "kb.tsv").write_text(TSV)
    quoted = f"{sys.executable} -c 'from mirror_rt_cli.app import main; main()' {command}"
    done = subprocess.run(quoted, shell=True, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == code
    assert done.stderr.count("mirror-rt: ") == (code if "2>&-" not in command else 0)
    assert "Traceback" not in done.stderr
    assert "internal error" not in done.stderr


@pytest.mark.parametrize(
    "locale",
    [
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"PYTHONIOENCODING": "latin-1"},
        {"LC_ALL": "C"},
    ],
)
def test_words_and_output_are_utf8_in_any_locale(tmp_path: Path, locale: dict[str, str]) -> None:
    (tmp_path / "naïve….tsv").write_text("id\tname\nA\tπ € …\n", encoding="utf-8")
    done = subprocess.run(
        [*PROGRAM, "corpus", "names", "naïve….tsv"],
        env={**os.environ, **locale},
        cwd=tmp_path,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.decode() == "π € …\n"


BLOCKED = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {away}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Missing())
"""


def test_corpora_and_uploads_need_no_training_stack(tmp_path: Path) -> None:
    (tmp_path / "kb.tsv").write_text(TSV)
    away = {"torch", "transformers", "safetensors", "matplotlib", "optimum", "onnx", "onnxruntime"}
    head = BLOCKED.replace("{away}", repr(away)) + "from mirror_rt_cli.app import main; main()"
    for command, code in (("corpus names kb.tsv", 0), ("push . a/b", 1), ("train a", 2)):
        done = subprocess.run(
            [sys.executable, "-c", head, *command.split()],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, done.stderr
        assert "not installed" not in done.stderr


@pytest.mark.parametrize(
    "module",
    ["mirror_rt.runtime", "mirror_rt.runtime.cores", "mirror_rt.runtime.sources",
     "mirror_rt.knowledge.formats", "mirror_rt.evaluation.gold", "mirror_rt.training.config"],
)  # fmt: skip
def test_what_reads_files_loads_no_model_runtime(module: str) -> None:
    code = f"import {module}, sys; print([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


HEAVY = ["onnxruntime", "tokenizers", "torch", "faiss"]


def training(**pairs: float) -> dict[str, object]:
    config = {
        "base": "/models/base", "corpus": "/data/names.tsv", "pairs": pairs, "loss": "info-nce",
        "temperature": 0.1, "span_length": 2, "span_rate": 1.0, "dropout": None, "drophead": None,
        "batch_size": 2, "lr": 1e-5, "weight_decay": 0.0, "max_length": 8, "seed": 1,
    }  # fmt: skip
    return {
        "config": config, "base_is_local": True, "base_license": "mit", "pooling": "cls",
        "counts": {"strings": 3}, "losses": [1.0, 0.5], "seconds": 1.0,
    }  # fmt: skip


def test_a_card_says_what_was_learned_from_and_whose_it_is(tmp_path: Path) -> None:
    for pairs in ({"mirror": 1.0}, {"synonyms": 1.0}, {"file": 1.0}, {"mirror": 0.5, "file": 0.5}):
        card = model_card(training(**pairs))
        assert ("without labels" in card) == (pairs == {"mirror": 1.0})
        assert ("Mirror-BERT" in card) == ("mirror" in pairs)
        assert ("synonyms of a knowledge base" in card) == ("synonyms" in pairs)
        assert "names.tsv" in card
        assert "/data" not in card
        assert 'license: "mit"' in card
    (tmp_path / "README.md").write_text("---\ntags: [a]\nlicense: apache-2.0\n---\n# Model\n")
    assert license_of(tmp_path) == "apache-2.0"
    (tmp_path / "README.md").write_text("# Model\nlicense: mine\n")
    assert license_of(tmp_path) is None


def test_weights_have_the_mode_of_their_folder(tiny_bert: Path, tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("".join(f"name {n}\n" for n in range(20)))
    arguments = ["--batch-size", "8", "--max-steps", "1", "--out", tmp_path / "model"]
    code, output = run(["train", tmp_path / "names.txt", "--base", tiny_bert, *arguments])
    assert code == 0, output
    folder = stat.S_IMODE((tmp_path / "model").stat().st_mode)
    weights = stat.S_IMODE((tmp_path / "model/model.safetensors").stat().st_mode)
    assert weights == folder & 0o666
    # All files that it wrote are its own, and it may replace them.
    code, output = run(
        ["train", tmp_path / "names.txt", "--base", tiny_bert, *arguments, "--force"]
    )
    assert code == 0, output
    (tmp_path / "model/mine.txt").write_text("mine")
    code, output = run(
        ["train", tmp_path / "names.txt", "--base", tiny_bert, *arguments, "--force"]
    )
    assert code == 1
    assert (tmp_path / "model/mine.txt").read_text() == "mine"
