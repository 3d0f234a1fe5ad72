"""A full disk and an interrupt end with one line, and leave no half-written output."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tiny import NAMES

PROGRAM = "from mirror_rt_cli.app import main; main()"


def names_file(folder: Path, *, count: int) -> Path:
    path = folder / "names.tsv"
    rows = (f"{i}\t{NAMES[i % len(NAMES)]} {i}\n" for i in range(count))
    path.write_text("id\tname\n" + "".join(rows))
    return path


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 KB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("mounting a small disk needs the rights of root on Linux")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def small_files() -> None:
    """Limit files to 4 KB, so a write fails; for users who may not mount a disk."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))


def work(command: str, names: Path, out: Path, checkpoint: Path, bundle: Path) -> list[str]:
    """Return the command line of a job that writes more than 64 KB to ``out``."""
    words: list[object] = {
        "train": [names, "--base", checkpoint, "--max-steps", 1, "--batch-size", 2],
        "export": [checkpoint],
        "embed": [bundle, names],
        "index": [bundle, names],
    }[command]
    return [sys.executable, "-c", PROGRAM, command, *map(str, words), "--out", str(out)]


@pytest.mark.parametrize(
    "command",
    [
        pytest.param("train", marks=pytest.mark.slow),
        pytest.param("export", marks=pytest.mark.slow),
        "embed",
        "index",
    ],
)
def test_a_full_disk_is_one_line_and_leaves_nothing(
    command: str, tmp_path: Path, full_disk: Path, tiny_bert: Path, tiny_bundle: Path
) -> None:
    names = names_file(tmp_path, count=1500)
    out = full_disk / ("out.npy" if command == "embed" else "out")
    line = work(command, names, out, tiny_bert, tiny_bundle)
    done = subprocess.run(line, capture_output=True, text=True)
    assert_told(done)
    assert str(full_disk) in done.stderr.splitlines()[-1], "the file is named"
    assert list(full_disk.iterdir()) == []


@pytest.mark.parametrize("command", ["train", "embed", "index"])
def test_a_refused_write_is_one_line_and_leaves_nothing(
    command: str, tmp_path: Path, tiny_bert: Path, tiny_bundle: Path
) -> None:
    names = names_file(tmp_path, count=300)
    out = tmp_path / ("out.npy" if command == "embed" else "out")
    line = work(command, names, out, tiny_bert, tiny_bundle)
    done = subprocess.run(line, capture_output=True, text=True, preexec_fn=small_files)
    assert_told(done)
    assert str(tmp_path / "out") in done.stderr.splitlines()[-1].replace(".out", "out")
    assert [p.name for p in tmp_path.iterdir()] == ["names.tsv"]


def assert_told(done: subprocess.CompletedProcess[str]) -> None:
    assert done.returncode == 1, done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("mirror-rt: ")
    assert "Traceback" not in done.stderr
    assert "internal error" not in last


@pytest.mark.parametrize(
    ("command", "numbers", "status"),
    [
        ("embed", [signal.SIGINT] * 2, 130),
        ("index", [signal.SIGINT], 130),
        ("index", [signal.SIGTERM], 143),
    ],
)
def test_an_interrupt_is_one_line_and_leaves_nothing(
    command: str, numbers: list[int], status: int, tmp_path: Path, tiny_bundle: Path
) -> None:
    form = ["--kb-format", "tsv"] if command == "index" else []
    # The command waits for the end of its input, which never comes, so it is interrupted at work.
    out = tmp_path / ("out.npy" if command == "embed" else "out")
    running = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, command, str(tiny_bundle), "-", *form, "--out", str(out)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert running.stdin is not None
    # A pipe holds 64 KiB. If more than that has been written, the command is reading.
    os.write(running.stdin.fileno(), b"id\tname\n" + b"1\theart\n" * 16_000)
    for number in numbers:
        running.send_signal(number)
    _, err = running.communicate()
    assert running.returncode == status, err
    assert err.decode().strip() == "mirror-rt: interrupted; no half-written output was left"
    assert list(tmp_path.iterdir()) == []


def test_a_second_interrupt_does_not_break_the_cleaning_up() -> None:
    # The command interrupts itself, so that the second signal arrives while a generator, whose
    # errors Python only prints, is closed.
    program = """
import signal
from mirror_rt_cli import app

def steps():
    try:
        yield
    finally:
        signal.raise_signal(signal.SIGINT)

def command():
    kept = steps()
    next(kept)
    try:
        signal.raise_signal(signal.SIGINT)
    finally:
        del kept

app.app.command("twice")(command)
app.main()
"""
    done = subprocess.run(
        [sys.executable, "-c", program, "twice"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 130
    assert done.stderr.strip() == "mirror-rt: interrupted; no half-written output was left"
