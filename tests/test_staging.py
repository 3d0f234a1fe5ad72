"""Outputs appear completely or not at all."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mirror_rt.errors import TargetError
from mirror_rt.staging import (
    check_apart,
    check_different,
    check_target,
    staging_file,
    staging_folder,
)
from tests.errors import about

MARK = '{"format_version": 1, "files": ["old.txt", "new.txt"]}'


def ours(folder: Path) -> Path:
    """Make a folder like those that mirror-rt writes, with old content."""
    folder.mkdir()
    (folder / "manifest.json").write_text(MARK)
    (folder / "old.txt").write_text("old")
    return folder


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
        pytest.raises(TargetError, check=about("out", hint="--force")),
        staging_folder(tmp_path / "out"),
    ):
        pytest.fail("the block ran")
    assert names(tmp_path / "out") == ["mine.txt"]


def test_force_replaces_a_folder_whole(tmp_path: Path) -> None:
    ours(tmp_path / "out")
    with staging_folder(tmp_path / "out", force=True) as folder:
        (folder / "new.txt").write_text("new")
        assert "old.txt" in names(tmp_path / "out"), "the old one stands until the new is whole"
    assert names(tmp_path / "out") == ["new.txt"]
    assert names(tmp_path) == ["out"]


def test_force_replaces_a_folder_whole_where_two_paths_cannot_change_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mirror_rt.staging.writing.rename2", lambda one, other, how: False)
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
    ours(tmp_path / "out")
    with pytest.raises(ValueError, match="boom"), staging_folder(tmp_path / "out", force=True):
        raise ValueError("boom")
    assert names(tmp_path / "out") == ["manifest.json", "old.txt"]


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
    with pytest.raises(TargetError, check=about("out")):
        check_target(tmp_path / "file/out")


def test_a_folder_has_the_rights_that_mkdir_gives(tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain.txt").touch()
    with staging_folder(tmp_path / "out") as folder:
        (folder / "sub").mkdir()
        (folder / "sub/private.txt").touch(mode=0o600)
    rights = {
        name: stat.S_IMODE(os.stat(tmp_path / name).st_mode)
        for name in ("plain", "out", "plain.txt", "out/sub/private.txt")
    }
    assert rights["plain"] == rights["out"]
    assert rights["plain.txt"] == rights["out/sub/private.txt"]


@pytest.mark.parametrize("in_one_step", [True, False])
def test_a_folder_that_appears_meanwhile_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_one_step: bool
) -> None:
    if not in_one_step:
        monkeypatch.setattr("mirror_rt.staging.writing.rename2", lambda one, other, how: False)
    for force in (False, True):
        with (
            pytest.raises(TargetError, check=about("out")),
            staging_folder(tmp_path / "out", force=force),
        ):
            (tmp_path / "out").mkdir(exist_ok=True)
            (tmp_path / "out/mine.txt").write_text("precious")
        assert names(tmp_path / "out") == ["mine.txt"]
        assert names(tmp_path) == ["out"]
        (tmp_path / "out/mine.txt").unlink()
        (tmp_path / "out").rmdir()


def test_a_file_that_appears_meanwhile_is_kept(tmp_path: Path) -> None:
    with (
        pytest.raises(TargetError, check=about("out.npy", hint="--force")),
        staging_file(tmp_path / "out.npy") as fresh,
    ):
        fresh.write_bytes(b"ours")
        (tmp_path / "out.npy").write_bytes(b"theirs")
    assert (tmp_path / "out.npy").read_bytes() == b"theirs"
    assert names(tmp_path) == ["out.npy"]


def test_an_interrupt_between_two_renames_puts_the_old_folder_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours(tmp_path / "out")
    rename = os.rename

    def interrupted(source: Path, target: Path) -> None:
        if Path(source).name == "new":
            raise KeyboardInterrupt
        rename(source, target)

    monkeypatch.setattr("mirror_rt.staging.writing.rename2", lambda one, other, how: False)
    monkeypatch.setattr(os, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt), staging_folder(tmp_path / "out", force=True):
        pass
    assert names(tmp_path / "out") == ["manifest.json", "old.txt"]
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize(
    "content",
    [
        {"mine.txt": "precious"},
        {"manifest.json": '{"name": "a web page"}'},
        {"config.json": '{"port": 80}'},
        {"config.json": '{"model_type": "bert"}', "model.safetensors": "weights"},
        {"manifest.json": '{"format_version": 1}'},
        {"config.json": "[]"},
        {"training.json/mine.txt": "precious"},
    ],
)
def test_force_keeps_what_mirror_rt_did_not_write(tmp_path: Path, content: dict[str, str]) -> None:
    for name, text in content.items():
        (tmp_path / "out" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "out" / name).write_text(text)
    with (
        pytest.raises(TargetError, check=about("out")),
        staging_folder(tmp_path / "out", force=True),
    ):
        pytest.fail("the block ran")
    for name, text in content.items():
        assert (tmp_path / "out" / name).read_text() == text


def test_force_never_replaces_the_current_folder_or_one_above_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours(tmp_path / "out")
    (tmp_path / "out/below").mkdir()
    for here in (tmp_path / "out", tmp_path / "out/below"):
        monkeypatch.chdir(here)
        with pytest.raises(TargetError, check=about("out")):
            check_target(tmp_path / "out", force=True, folder=True)
    with pytest.raises(TargetError, check=about(".")):
        check_target(Path("."), force=True, folder=True)


def test_force_does_not_replace_a_file_by_a_folder_or_a_device_by_a_file(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("precious")
    with pytest.raises(TargetError, check=about("out")):
        check_target(tmp_path / "out", force=True, folder=True)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(TargetError, check=about("pipe")):
        check_target(tmp_path / "pipe", force=True)


def test_what_a_link_points_to_is_replaced(tmp_path: Path) -> None:
    ours(tmp_path / "real")
    (tmp_path / "link").symlink_to("real")
    with staging_folder(tmp_path / "link", force=True) as folder:
        (folder / "new.txt").write_text("new")
    assert (tmp_path / "link").is_symlink()
    assert names(tmp_path / "real") == ["new.txt"]
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep/real.txt").write_text("old")
    (tmp_path / "link.txt").symlink_to("deep/real.txt")
    with staging_file(tmp_path / "link.txt", force=True) as path:
        path.write_text("new")
    assert (tmp_path / "link.txt").is_symlink()
    assert (tmp_path / "deep/real.txt").read_text() == "new"
    assert names(tmp_path) == ["deep", "link", "link.txt", "real"]


@pytest.mark.parametrize("force", [False, True])
def test_a_link_to_nothing_is_refused(tmp_path: Path, force: bool) -> None:
    (tmp_path / "link").symlink_to("nowhere")
    with pytest.raises(TargetError, check=about("link")):
        check_target(tmp_path / "link", force=force)


@pytest.mark.parametrize("staging", [staging_file, staging_folder])
def test_a_second_interrupt_leaves_no_partial_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, staging: Callable[..., Any]
) -> None:
    remove = shutil.rmtree

    def pressed_again(path: Path, *, ignore_errors: bool) -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)
        remove(path, ignore_errors=ignore_errors)

    monkeypatch.setattr(shutil, "rmtree", pressed_again)
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), staging(tmp_path / "out") as fresh:
        assert fresh.name
        signal.raise_signal(signal.SIGINT)
    assert names(tmp_path) == []
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


KILLED = """
import os, signal, sys
from pathlib import Path
from mirror_rt.staging import staging_file, staging_folder
staging = {"staging_file": staging_file, "staging_folder": staging_folder}[sys.argv[1]]
with staging(Path("out"), force=True) as fresh:
    (fresh / "half" if fresh.is_dir() else fresh).write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no locks that end with their process")
@pytest.mark.parametrize("staging", [staging_file, staging_folder])
def test_the_next_run_removes_what_a_killed_one_left_and_nothing_else(
    tmp_path: Path, staging: Callable[..., Any]
) -> None:
    subprocess.run([sys.executable, "-c", KILLED, staging.__name__], cwd=tmp_path, check=False)
    (left,) = names(tmp_path)
    assert re.fullmatch(r"\.out\..{8}\.partial", left)
    mine = [".out.12345678.partial", ".out.partial", ".out.b.12345678.partial"]
    (tmp_path / mine[0]).write_text("a file")
    for name in mine[1:]:
        (tmp_path / name).mkdir()
    # Killed before its folder got its partial name; a folder of someone else is not empty.
    mine.append(".out.other_01")
    for name in (".out.killed_0", mine[-1]):
        (tmp_path / name).mkdir()
    (tmp_path / mine[-1] / "mine").touch()
    with staging(tmp_path / "out", force=True) as live:
        assert left not in names(tmp_path)
        (live / "manifest.json" if live.is_dir() else live).write_text(MARK)
        with (
            pytest.raises(TargetError, check=about("out")),
            staging(tmp_path / "out", force=True) as other,
        ):
            pytest.fail(f"both write {other}")
        assert live.parent.exists(), "a live one is kept"
    assert names(tmp_path) == sorted(["out", *mine])


def test_an_old_output_that_is_nowhere_else_is_not_removed(tmp_path: Path) -> None:
    ours(tmp_path / "old")
    (tmp_path / ".out.12345678.partial").mkdir()
    (tmp_path / "old").rename(tmp_path / ".out.12345678.partial/old")
    with staging_folder(tmp_path / "out"):
        pass
    assert names(tmp_path / ".out.12345678.partial/old") == ["manifest.json", "old.txt"]
    with staging_folder(tmp_path / "out", force=True):
        pass
    assert names(tmp_path) == ["out"]


def test_staging_works_away_from_the_main_thread(tmp_path: Path) -> None:
    def work() -> None:
        with staging_file(tmp_path / "out.txt") as path:
            path.write_text("x")

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert names(tmp_path) == ["out.txt"]


FOREIGN = [
    "notes.txt",
    ".hidden",
    "notes/a.txt",
    "notes/deep/b.txt",
    "sub/mine.txt",
    "empty/",
    ".old.txt.job/block.jsonl",
    ".mine.12345678.partial",
]


def with_foreign(folder: Path, name: str) -> Path:
    """Make a folder of ours, with a file in a folder, and a file of the user in it."""
    ours(folder)
    (folder / "manifest.json").write_text(MARK.replace('"old.txt"', '"old.txt", "sub/old.txt"'))
    (folder / "sub").mkdir()
    (folder / "sub/old.txt").write_text("old")
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if name.endswith("/"):
        path.mkdir()
    else:
        path.write_text("precious")
    return path


@pytest.mark.parametrize("name", FOREIGN)
def test_force_refuses_a_folder_of_ours_that_holds_something_else(
    tmp_path: Path, name: str
) -> None:
    mine = with_foreign(tmp_path / "out", name)
    with pytest.raises(TargetError), staging_folder(tmp_path / "out", force=True):
        pytest.fail("the block ran")
    assert mine.is_dir() or mine.read_text() == "precious"


@pytest.mark.parametrize("in_one_step", [True, False])
@pytest.mark.parametrize("linked", [True, False])
@pytest.mark.parametrize("name", FOREIGN)
def test_what_is_not_ours_is_carried_over_and_what_is_ours_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, linked: bool, in_one_step: bool
) -> None:
    def refused(*paths: object, **options: object) -> None:
        raise OSError

    if not in_one_step:
        monkeypatch.setattr("mirror_rt.staging.writing.rename2", lambda one, other, how: False)
    if not linked:
        monkeypatch.setattr(os, "link", refused)
    mine = with_foreign(tmp_path / "out", name)
    (tmp_path / "out/away").symlink_to(tmp_path)
    with staging_folder(tmp_path / "out", force=True, keep=True) as folder:
        (folder / "new.txt").write_text("new")
        (tmp_path / "out/late.txt").write_text("made meanwhile")
    assert mine.is_dir() or mine.read_text() == "precious"
    assert (tmp_path / "out/late.txt").read_text() == "made meanwhile"
    assert (tmp_path / "out/away").readlink() == tmp_path
    assert (tmp_path / "out/new.txt").read_text() == "new"
    assert not (tmp_path / "out/old.txt").exists()
    assert not (tmp_path / "out/sub/old.txt").exists()
    assert names(tmp_path) == ["out"]


def test_a_name_that_is_taken_by_the_user_is_not_written_over(tmp_path: Path) -> None:
    with_foreign(tmp_path / "out", "mine.txt")
    with (
        pytest.raises(TargetError),
        staging_folder(tmp_path / "out", force=True, keep=True) as folder,
    ):
        (folder / "mine.txt").write_text("new")
    assert (tmp_path / "out/mine.txt").read_text() == "precious"
    assert (tmp_path / "out/old.txt").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="no modes")
@pytest.mark.parametrize("mode", [0o2775, 0o700, 0o755])
def test_a_folder_that_is_replaced_keeps_mode_and_group(tmp_path: Path, mode: int) -> None:
    ours(tmp_path / "out")
    others = [group for group in os.getgroups() if group != os.getgid()]
    group = 4321 if os.geteuid() == 0 else (others or [os.getgid()])[0]
    os.chown(tmp_path / "out", -1, group)
    (tmp_path / "out").chmod(mode)
    (tmp_path / "out/old.txt").chmod(0o660)
    with staging_folder(tmp_path / "out", force=True) as folder:
        (folder / "old.txt").write_text("changed")
        (folder / "new.txt").write_text("new")
        (folder / "sub").mkdir()
    found = (tmp_path / "out").stat()
    assert (stat.S_IMODE(found.st_mode), found.st_gid) == (mode, group)
    assert stat.S_IMODE((tmp_path / "out/old.txt").stat().st_mode) == 0o660
    if mode & stat.S_ISGID:
        assert {p.stat().st_gid for p in (tmp_path / "out").iterdir() if p.name != "old.txt"} == {
            group
        }
        assert (tmp_path / "out/sub").stat().st_mode & stat.S_ISGID


@pytest.mark.skipif(sys.platform == "win32", reason="no modes")
def test_a_file_that_is_replaced_keeps_its_mode(tmp_path: Path) -> None:
    for mode in (0o664, 0o600):
        (tmp_path / "a.txt").write_text("old")
        (tmp_path / "a.txt").chmod(mode)
        with staging_file(tmp_path / "a.txt", force=True) as fresh:
            fresh.write_text("new")
        assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == mode


def test_a_mount_point_is_refused_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours(tmp_path / "out")
    for mount in (tmp_path / "out", tmp_path / "out/below"):
        monkeypatch.setattr("mirror_rt.staging.targets._mount_points", lambda place, at=mount: [at])
        with pytest.raises(TargetError, check=about("out")):
            check_target(tmp_path / "out", force=True, folder=True)
    (tmp_path / "file").write_text("old")
    monkeypatch.setattr("mirror_rt.staging.targets._mount_points", lambda place: [place])
    with (
        pytest.raises(TargetError, check=about("file")),
        staging_file(tmp_path / "file", force=True),
    ):
        pytest.fail("the block ran")


@pytest.mark.parametrize(
    "content",
    [
        {"kind": "vectors", "shards": ["a"], "format_version": 1},
        {"kind": "vectors", "shards": ["a"]},
        {"name": "an extension", "files": ["below/out.csv"]},
    ],
)
def test_a_manifest_of_another_program_above_says_nothing(
    tmp_path: Path, content: dict[str, object]
) -> None:
    (tmp_path / "manifest.json").write_text(json.dumps(content))
    (tmp_path / "below").mkdir()
    (tmp_path / "below/out.csv").write_text("old")
    check_target(tmp_path / "below/out.csv", force=True)


MOUNTED = """
mount --bind "$1/real" "$1/out" && mount --bind "$1/real.txt" "$1/out.txt" || exit 77
exec "$2" -c "
import sys
from pathlib import Path
from mirror_rt.errors import TargetError
from mirror_rt.staging import check_apart, check_target
here = Path(sys.argv[1])
for name, folder in (('out', True), ('out.txt', False)):
    try:
        check_target(here / name, force=True, folder=folder)
        sys.exit(1)
    except TargetError:
        pass
for target, source in (('real', 'out/old.txt'), ('real.txt', 'out.txt')):
    try:
        check_apart(here / target, {'input': here / source})
        sys.exit(2)
    except TargetError:
        pass
" "$1"
"""


@pytest.mark.skipif(shutil.which("unshare") is None, reason="no mounts of our own here")
def test_real_mounts_are_known_as_targets_and_seen_through_as_inputs(tmp_path: Path) -> None:
    ours(tmp_path / "real")
    (tmp_path / "out").mkdir()
    for name in ("real.txt", "out.txt"):
        (tmp_path / name).write_text("old")
    command = ["unshare", "-Urm", "sh", "-c", MOUNTED, "sh", str(tmp_path), sys.executable]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip("this system gives us no mounts")
    assert done.returncode == 0, done.stderr


def test_a_target_is_never_what_is_read(tmp_path: Path) -> None:
    ours(tmp_path / "out")
    (tmp_path / "link").symlink_to("out/old.txt")
    (tmp_path / "away").symlink_to("out")
    (tmp_path / "twin.txt").hardlink_to(tmp_path / "out/old.txt")
    source = tmp_path / "out/old.txt"
    for target, given in (
        ("out", source),
        ("out", tmp_path / "link"),
        ("away", source),
        ("out/old.txt", source),
        ("link", source),
        ("out/old.txt", tmp_path / "link"),
        ("twin.txt", source),
        ("out", tmp_path / "out"),
    ):
        with pytest.raises(TargetError):
            check_apart(tmp_path / target, {"input": given})
    check_apart(tmp_path / "out", {"input": tmp_path / "none", "word": "-", "nothing": None})
    check_apart(tmp_path / "new", {"input": source})
    check_apart(tmp_path / "out/old.txt", {"input": tmp_path})


def test_two_targets_of_a_command_are_two_files(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path, target_is_directory=True)
    out = tmp_path / "a.csv"
    check_different({"--out": out, "--plot": tmp_path / "b.png", "--errors": None})
    for same in (out, tmp_path / "x" / ".." / "a.csv", tmp_path / "link" / "a.csv"):
        with pytest.raises(TargetError):
            check_different({"--out": out, "--plot": None, "--errors": same})


def test_a_mount_point_and_a_lock_that_cannot_be_written_are_reported(tmp_path: Path) -> None:
    from mirror_rt.errors import KnowledgeBaseError
    from mirror_rt.knowledge.storage.integrity import exclusive_lock

    (tmp_path / ".kb.lock").mkdir()  # no file can be created there, as on a read-only disk
    with pytest.raises(KnowledgeBaseError), exclusive_lock(tmp_path / "kb"):
        pass


@pytest.mark.parametrize("name", ["bad\udcff", "a\udc80/kb"])
def test_folders_whose_names_are_not_utf8_are_reported(tmp_path: Path, name: str) -> None:
    from mirror_rt.errors import BundleError, KnowledgeBaseError
    from mirror_rt.knowledge.storage.integrity import read_consistently
    from mirror_rt.runtime.session import _load

    with pytest.raises(TargetError):
        check_target(tmp_path / name)
    with pytest.raises(KnowledgeBaseError):
        read_consistently(tmp_path / name, lambda _: None)
    with pytest.raises(BundleError):
        _load(tmp_path / name / "model.onnx", exact=False)


@pytest.mark.parametrize("manifest", ["manifest.json", "training.json"])
def test_a_part_of_what_mirror_rt_wrote_is_no_target(tmp_path: Path, manifest: str) -> None:
    ours = tmp_path / "kb"
    (ours / "bundle").mkdir(parents=True)
    content: dict[str, object] = {"kind": "knowledge base", "format_version": 1}
    content["files"] = ["index.faiss", "bundle/model.onnx"]
    for name in (manifest, "index.faiss", "bundle/model.onnx", "bundle/manifest.json"):
        (ours / name).write_text(json.dumps(content | {"kind": "", "files": []}))
    (ours / manifest).write_text(json.dumps(content))
    (ours / "notes.txt").write_text("theirs")
    (tmp_path / "link").symlink_to(ours / "index.faiss")
    for part in (ours / manifest, ours / "index.faiss", ours / "bundle/model.onnx"):
        with pytest.raises(TargetError, check=about(str(part))):
            check_target(part, force=True)
        check_target(part, force=True, part=True)
    with pytest.raises(TargetError):
        check_target(tmp_path / "link", force=True)
    with pytest.raises(TargetError, check=about("bundle")):
        check_target(ours / "bundle", force=True, folder=True)
    for other in (ours / "notes.txt", ours / "new.tsv", tmp_path / "x.tsv"):
        check_target(other, force=True)
