"""Write files and folders whole or not at all: beside the target first, then renamed onto it."""

from __future__ import annotations

import ctypes
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mirror_rt.errors import MirrorError, TargetError

__all__ = ["check_target", "staging_file", "staging_folder"]

_WRITE_REFUSED = ("no space left", "file too large", "disk i/o error", "disk is full")
_NO_ROOM = 4 * 1024 * 1024


def check_target(target: Path, *, force: bool = False) -> None:
    """Refuse a target that is taken, before any work is done for it.

    Raises:
        TargetError: It exists and ``force`` is not set, or its parent is not a folder.
    """
    if target.exists() and not force:
        raise TargetError(f"{target}: exists already; choose another name or give --force")
    for parent in target.absolute().parents:
        if parent.exists():
            if not parent.is_dir():
                raise TargetError(f"{target}: {parent} is a file, not a folder")
            if not os.access(parent, os.W_OK):
                raise TargetError(f"{target}: no right to write in {parent}")
            return


@contextmanager
def staging_folder(target: Path, *, force: bool = False) -> Iterator[Path]:
    """Give an empty folder that becomes ``target`` if the block ends well.

    With ``force`` an existing target and the new one change places in one step where the
    system can do that (Linux); else the old one is moved aside first. Either way it is removed
    only after the new one is in place, and at no moment is there half a folder under its name.

    Raises:
        TargetError: ``target`` exists and ``force`` is not set.
    """
    check_target(target, force=force)
    parent = target.absolute().parent
    parent.mkdir(parents=True, exist_ok=True)
    # mkdtemp makes 0700 folders; what the user gets should follow the umask as mkdir does.
    holder = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".partial", dir=parent))
    fresh, old = holder / "new", holder / "old"
    fresh.mkdir()
    try:
        with _disk_told(target, parent):
            yield fresh
        if target.exists():
            if _exchange(fresh, target):
                return
            os.rename(target, old)
        try:
            os.rename(fresh, target)
        except OSError:
            if old.exists():
                os.rename(old, target)
            raise
    finally:
        shutil.rmtree(holder, ignore_errors=True)


@contextmanager
def staging_file(target: Path, *, force: bool = False) -> Iterator[Path]:
    """Give a path beside ``target`` that is renamed onto it if the block ends well.

    Raises:
        TargetError: ``target`` exists and ``force`` is not set, or is a folder.
    """
    check_target(target, force=force)
    if target.is_dir():
        raise TargetError(f"{target}: is a folder; name a file")
    with tempfile.TemporaryDirectory(
        prefix=f".{target.name}.",
        suffix=".partial",
        dir=_made(target.absolute().parent),
        ignore_cleanup_errors=True,
    ) as holder:
        fresh = Path(holder) / target.name
        with _disk_told(target, Path(holder)):
            yield fresh
        os.replace(fresh, target)


@contextmanager
def _disk_told(target: Path, folder: Path) -> Iterator[None]:
    """Tell a full disk for what it is, whatever library's error it came as.

    SQLite, safetensors, FAISS and onnxruntime each have an error of their own for a write that
    failed; only Python's carries the system's number.
    """
    try:
        yield
    except (MirrorError, OSError):
        raise
    except Exception as error:
        words = " ".join(str(error).split())
        refused = any(sign in words.lower() for sign in _WRITE_REFUSED)
        if refused or shutil.disk_usage(folder).free < _NO_ROOM:
            raise TargetError(
                f"{target}: cannot be written ({words[:200]}); free some space and run again"
            ) from error
        raise


def _exchange(one: Path, other: Path) -> bool:
    """Let two paths change places in one step; say whether the system could (Linux 3.15)."""
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError, TypeError):
        return False
    paths = [os.fsencode(path.absolute()) for path in (one, other)]
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE of linux/fs.h
    return bool(rename(here, paths[0], here, paths[1], exchange) == 0)


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
