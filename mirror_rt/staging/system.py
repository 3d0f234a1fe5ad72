"""System functions: locks, atomic renames, disk errors, interrupts."""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["EXCHANGE", "NO_REPLACE", "disk_named", "ignore_signals", "locked", "rename2"]

NO_REPLACE, EXCHANGE = 1, 2
"""RENAME_NOREPLACE and RENAME_EXCHANGE of linux/fs.h."""
_NO_SPACE = {errno.ENOSPC, errno.EFBIG, errno.EDQUOT, errno.EIO}


@contextmanager
def locked(path: Path, *, create: bool = False, wait: bool = False) -> Iterator[bool | None]:
    """Lock a file or a folder until the block, or the process, ends.

    Args:
        path: The file, or the folder.
        create: Whether to create a missing file.
        wait: Whether to wait until another process releases it.

    Yields:
        Whether this process has the lock; None if unknown: a missing folder, a disk without
        locks, a folder on Windows.

    Raises:
        OSError: The file cannot be created.
    """
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT if create else os.O_RDONLY, 0o666)
    except OSError:
        if create:
            raise
        yield None
        return
    try:
        yield _lock(handle, wait=wait)
    finally:
        os.close(handle)


def _lock(handle: int, *, wait: bool) -> bool | None:
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(handle, msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except (BlockingIOError, PermissionError):
        return False
    except OSError:
        return None
    return True


@contextmanager
def ignore_signals() -> Iterator[None]:
    """Ignore interrupts in a block, so that a second Ctrl-C leaves no half-removed folder."""
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
def disk_named(path: Path) -> Iterator[None]:
    """Add the file name to the system's error of a write."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno in _NO_SPACE:
            error.filename = str(path)
        raise


def rename2(one: Path, other: Path, how: int) -> bool:
    """Call renameat2 of Linux 3.15; return whether system and disk support it.

    Raises:
        FileExistsError: ``other`` exists and ``how`` is ``NO_REPLACE``.
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
