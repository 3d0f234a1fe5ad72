from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from mirror_rt.knowledge import KnowledgeBase
from mirror_rt.knowledge.storage import build
from mirror_rt_cli.app import app

if TYPE_CHECKING:
    pass

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
    assert "2 entities, 4 different names; 1 id merged" in result.stderr


def test_descriptions_left_out_are_counted(tiny_bundle: Path, tmp_path: Path) -> None:
    rows = [("A", "Hot."), ("A", "Warm."), ("B", "Small.")]
    lines = "".join(f'{{"id": "{i}", "name": "fever", "description": "{d}"}}\n' for i, d in rows)
    (tmp_path / "kb.jsonl").write_text(lines)
    result = CliRunner().invoke(
        app, ["index", str(tiny_bundle), str(tmp_path / "kb.jsonl"), "--out", str(tmp_path / "kb")]
    )
    assert result.exit_code == 0, result.output
    assert "; 1 description left out, as the entity has another\n" in result.stderr


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


def test_a_recall_that_was_not_reached_is_reported(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "autotune", lambda *_, **_options: {"recall_at_10": 0.9})
    (tmp_path / "kb.tsv").write_text(KB)
    arguments = ["index", str(tiny_bundle), str(tmp_path / "kb.tsv"), "--out", str(tmp_path / "kb")]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0
    assert "finds 0.900 of the true ten nearest, 0.98 was asked" in done.stderr


def test_swapped_arguments_are_reported(tiny_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "kb.tsv").write_text(KB)
    arguments = ["index", str(tmp_path / "kb.tsv"), str(tiny_bundle), "--out", str(tmp_path / "kb")]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 1
    assert "kb.tsv: is a file; the bundle, a folder, comes before the names" in done.stderr
    assert not (tmp_path / "kb").exists()
