"""Write files and folders whole or not at all: beside the target first, then renamed onto it."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import re
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex

from mirror_rt.errors import MirrorError, TargetError

__all__ = [
    "check_target",
    "clear_leftovers",
    "locked",
    "replacing",
    "staging_file",
    "staging_folder",
    "undisturbed",
    "write_json",
]

_WRITE_REFUSED = ("no space left", "file too large", "disk i/o error", "disk is full")
_NO_ROOM = 4 * 1024 * 1024
_MARKS = {
    "manifest.json": "format_version",
    "training.json": "losses",
    "config.json": "model_type",
    "quickstart.json": "seconds",
    "state.json": "corpus_sha256",
}
"""Files of which each folder we write has one, with a key that it holds."""
_NO_REPLACE, _EXCHANGE = 1, 2  # RENAME_NOREPLACE, RENAME_EXCHANGE of linux/fs.h


def check_target(target: Path, *, force: bool = False, folder: bool = False) -> None:
    """Refuse a target that is taken, before any work is done for it.

    Args:
        target: What is to be written.
        force: Whether it may be replaced, if it is a file or a folder that mirror-rt wrote.
        folder: Whether a folder is to be written.

    Raises:
        TargetError: It exists and ``force`` is not set, is nothing that may be replaced, or its
            parent is not a folder.
    """
    if target.is_symlink() and not target.exists():
        raise TargetError(f"{target}: is a link to nothing; remove it or choose another name")
    if target.exists():
        if not force:
            raise TargetError(f"{target}: exists already; choose another name or give --force")
        if folder:
            _check_ours(target)
        elif not target.is_dir() and not target.is_file():
            raise TargetError(f"{target}: is not a regular file; choose another name")
    for parent in target.resolve().parents:
        if parent.exists():
            if not parent.is_dir():
                raise TargetError(f"{target}: {parent} is a file, not a folder")
            if not os.access(parent, os.W_OK):
                raise TargetError(f"{target}: no right to write in {parent}")
            return


def _check_ours(target: Path) -> None:
    """Refuse to replace what we did not write: a slip in ``--out`` must not cost a home folder."""
    if not target.is_dir():
        raise TargetError(f"{target}: is a file, not a folder; choose another name")
    try:
        here = Path.cwd().resolve()
    except FileNotFoundError:
        here = None
    if here is not None and here.is_relative_to(target.resolve()):
        raise TargetError(
            f"{target}: is the current folder or holds it, and cannot be replaced; "
            "run from elsewhere or choose another name"
        )
    if any(target.iterdir()) and not any(_marked(target / m, key) for m, key in _MARKS.items()):
        raise TargetError(
            f"{target}: is not a folder that mirror-rt wrote, so --force does not replace it; "
            "choose another name or remove it yourself"
        )


def _marked(file: Path, key: str) -> bool:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and key in content


@contextmanager
def staging_folder(target: Path, *, force: bool = False) -> Iterator[Path]:
    """Give an empty folder that becomes ``target`` if the block ends well.

    With ``force`` an existing target and the new one change places in one step where the
    system can do that (Linux); else the old one is moved aside first. Either way it is removed
    only after the new one is in place, and at no moment is there half a folder under its name.
    Where ``target`` is a symbolic link, what it points to is replaced.

    Raises:
        TargetError: ``target`` exists, before or after the block, and ``force`` is not set, or
            it is not a folder that mirror-rt wrote.
    """
    check_target(target, force=force, folder=True)
    place = target.resolve()
    with _beside(place) as holder:
        # mkdtemp makes 0700 folders; what the user gets should follow the umask as mkdir does.
        fresh, old = holder / "new", holder / "old"
        fresh.mkdir()
        with _disk_told(target, holder):
            yield fresh
        check_target(target, force=force, folder=True)
        if not place.exists():
            _rename_new(fresh, place, shown=target)
        elif not _rename2(fresh, place, _EXCHANGE):
            try:
                os.rename(place, old)
                os.rename(fresh, place)
            finally:
                if old.exists() and not place.exists():
                    os.rename(old, place)


@contextmanager
def staging_file(target: Path, *, force: bool = False) -> Iterator[Path]:
    """Give a path beside ``target`` that is renamed onto it if the block ends well.

    Raises:
        TargetError: ``target`` exists, before or after the block, and ``force`` is not set, or
            is a folder or a device.
    """
    check_target(target, force=force)
    if target.is_dir():
        raise TargetError(f"{target}: is a folder; name a file")
    place = target.resolve()
    with _beside(place) as holder:
        fresh = holder / place.name
        with _disk_told(target, holder):
            yield fresh
        check_target(target, force=force)
        if force:
            os.replace(fresh, place)
        else:
            _rename_new(fresh, place, shown=target)


@contextmanager
def _beside(place: Path) -> Iterator[Path]:
    """Give a folder for what is not finished, and remove it whatever comes."""
    place.parent.mkdir(parents=True, exist_ok=True)
    clear_leftovers(place)
    made = Path(tempfile.mkdtemp(prefix=f".{place.name}.", dir=place.parent))
    with locked(made):
        # It is called a partial one only now that it is locked: no other process takes it for a
        # leftover.
        holder = made.with_name(f"{made.name}.partial")
        os.replace(made, holder)
        try:
            yield holder
        finally:
            with undisturbed():
                shutil.rmtree(holder, ignore_errors=True)


def clear_leftovers(target: Path) -> None:
    """Remove what processes that were killed have left beside ``target``.

    What a process of this machine is writing is locked by it, and stays; so does all where there
    are no such locks (Windows), and an old output that was moved aside and is nowhere else.
    """
    place = target.resolve()
    ours = re.compile(rf"\.{re.escape(place.name)}\.\w{{8}}\.partial")
    try:
        found = [path for path in place.parent.iterdir() if ours.fullmatch(path.name)]
    except OSError:  # it is not there, or may be written but not listed
        return
    for holder in filter(Path.is_dir, found):
        with locked(holder) as alone:
            only_copy = (holder / "old").exists() and not place.exists()
            if alone and not only_copy:
                shutil.rmtree(holder, ignore_errors=True)


@contextmanager
def locked(path: Path, *, create: bool = False) -> Iterator[bool]:
    """Lock a file or a folder until the block, or the process, ends.

    Yields whether that could be done: not where another process has it, or it is not there; nor
    a folder where the system has no such locks (Windows).

    Args:
        path: The file, or the folder.
        create: Whether to make a file that is missing.

    Raises:
        OSError: The file cannot be made.
    """
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT if create else os.O_RDONLY, 0o666)
    except OSError:
        if create:
            raise
        yield False
        return
    try:
        yield _lock(handle)
    finally:
        os.close(handle)


def _lock(handle: int) -> bool:
    with suppress(OSError):
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a path beside ``path`` that is renamed onto it if the block ends well.

    For files inside a folder of ours: what is there is replaced. Two processes may write the
    same file at once: one of the two stays.
    """
    fresh = path.with_name(f".{path.name}.{token_hex(4)}.partial")
    try:
        yield fresh
        os.replace(fresh, path)
    finally:
        fresh.unlink(missing_ok=True)


def write_json(path: Path, content: object) -> None:
    """Write a JSON file inside a folder of ours, whole or not at all."""
    with replacing(path) as fresh:
        text = json.dumps(content, indent=1, sort_keys=True)
        fresh.write_text(text + "\n", encoding="utf-8")


@contextmanager
def undisturbed() -> Iterator[None]:
    """Pass over further interrupts: who presses Ctrl-C twice wants no half-removed folder."""
    signals = (signal.SIGINT, signal.SIGTERM)
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread gets them
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in signals}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


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


def _rename_new(fresh: Path, place: Path, *, shown: Path) -> None:
    """Rename onto a name that nothing has, or that was free a moment ago.

    Raises:
        TargetError: Something has it by now.
    """
    try:
        if not _rename2(fresh, place, _NO_REPLACE):
            os.rename(fresh, place)
    except OSError as error:
        if error.errno in {errno.EEXIST, errno.ENOTEMPTY}:
            raise TargetError(
                f"{shown}: exists already; choose another name or give --force"
            ) from error
        raise


def _rename2(one: Path, other: Path, how: int) -> bool:
    """Rename as Linux 3.15 can; say whether this system and this disk can.

    Raises:
        FileExistsError: ``other`` exists and ``how`` is ``_NO_REPLACE``.
    """
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError, TypeError):
        return False
    here = -100  # AT_FDCWD
    if rename(here, os.fsencode(one), here, os.fsencode(other), how) == 0:
        return True
    if ctypes.get_errno() == errno.EEXIST:
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(other))
    return False
