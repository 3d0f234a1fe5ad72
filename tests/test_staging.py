"""Outputs appear whole or not at all."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import pytest

from mirror_rt.errors import TargetError
from mirror_rt.staging import check_target, staging_file, staging_folder


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_a_folder_appears_when_the_block_ends_well(tmp_path: Path) -> None:
    with staging_folder(tmp_path / "out") as folder:
        (folder / "a.txt").write_text("a")
        assert not (tmp_path / "out").exists()
    assert (tmp_path / "out/a.txt").read_text() == "a"
    assert names(tmp_path) == ["out"]


def test_nothing_is_left_when_the_block_fails(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), staging_folder(tmp_path / "out") as folder:
        (folder / "a.txt").write_text("a")
        raise KeyboardInterrupt
    assert names(tmp_path) == []


def test_a_taken_folder_is_refused_before_the_block_runs(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine.txt").write_text("precious")
    with (
        pytest.raises(TargetError, match=r"exists already.*--force"),
        staging_folder(tmp_path / "out"),
    ):
        pytest.fail("the block ran")
    assert names(tmp_path / "out") == ["mine.txt"]


def test_force_replaces_a_folder_whole(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/old.txt").write_text("old")
    with staging_folder(tmp_path / "out", force=True) as folder:
        (folder / "new.txt").write_text("new")
        assert names(tmp_path / "out") == ["old.txt"], "the old one stands until the new is whole"
    assert names(tmp_path / "out") == ["new.txt"]
    assert names(tmp_path) == ["out"]


def test_force_replaces_a_folder_whole_where_two_paths_cannot_change_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mirror_rt.staging._exchange", lambda one, other: False)
    test_force_replaces_a_folder_whole(tmp_path)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux exchanges paths in one step")
def test_a_replaced_folder_is_never_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(source: Path, target: Path) -> None:
        pytest.fail("renamed in two steps")

    (tmp_path / "out").mkdir()
    monkeypatch.setattr(os, "rename", refuse)
    with staging_folder(tmp_path / "out", force=True) as folder:
        (folder / "new.txt").write_text("new")
    assert names(tmp_path / "out") == ["new.txt"]


def test_force_keeps_the_old_folder_when_the_block_fails(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/old.txt").write_text("old")
    with pytest.raises(ValueError, match="boom"), staging_folder(tmp_path / "out", force=True):
        raise ValueError("boom")
    assert names(tmp_path / "out") == ["old.txt"]


def test_a_file_appears_whole_and_keeps_the_old_one_on_failure(tmp_path: Path) -> None:
    target = tmp_path / "deep/er/out.npy"
    with staging_file(target) as path:
        path.write_bytes(b"1")
    with pytest.raises(ValueError, match="boom"), staging_file(target, force=True) as path:
        path.write_bytes(b"2")
        raise ValueError("boom")
    assert target.read_bytes() == b"1"
    with staging_file(target, force=True) as path:
        path.write_bytes(b"3")
    assert target.read_bytes() == b"3"
    assert names(target.parent) == ["out.npy"]


def test_a_target_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TargetError, match="is a file, not a folder"):
        check_target(tmp_path / "file/out")


def test_a_folder_has_the_rights_that_mkdir_gives(tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    with staging_folder(tmp_path / "out"):
        pass
    rights = [stat.S_IMODE(os.stat(tmp_path / name).st_mode) for name in ("plain", "out")]
    assert rights[0] == rights[1]
