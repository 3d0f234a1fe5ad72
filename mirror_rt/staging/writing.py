"""Provide temporary files and folders, and rename them onto their targets at the end."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from secrets import token_hex

from mirror_rt.errors import MirrorError, TargetError
from mirror_rt.staging.system import (
    EXCHANGE,
    NO_REPLACE,
    disk_named,
    ignore_signals,
    locked,
    rename2,
)
from mirror_rt.staging.targets import check_target, foreign, own_files_in

__all__ = ["clear_leftovers", "replacing", "staging_file", "staging_folder", "write_json"]

_WRITE_REFUSED = ("no space left", "file too large", "disk i/o error", "disk is full")
_NO_ROOM = 4 * 1024 * 1024


@contextmanager
def staging_folder(target: Path, *, force: bool = False, keep: bool = False) -> Iterator[Path]:
    """Provide an empty folder that becomes ``target`` if the block succeeds.

    With ``force``, an existing target and the new folder are exchanged in one step if the system
    can (Linux); otherwise the old one is moved aside first. The old one is removed only after the
    new one is in place, so there is never half a folder. A new folder and its files follow the
    umask; one that replaces another gets its mode and group. If ``target`` is a symbolic link, its
    destination is replaced.

    Args:
        target: The folder to make.
        force: Whether a folder that mirror-rt wrote may be replaced.
        keep: Whether to keep other files in it; if not, such a folder is an error.

    Raises:
        TargetError: ``target`` exists, before or after the block, and ``force`` is not set; it
            is not a folder that mirror-rt wrote, or a mount point; or another process is writing
            it.
    """
    check_target(target, force=force, folder=True, keep=keep)
    place = target.resolve()
    with _beside(place, shown=target) as partial:
        # mkdtemp makes 0700 folders; what the user gets should follow the umask as mkdir does.
        fresh, old = partial / "new", partial / "old"
        fresh.mkdir()
        with _explain_disk_errors(target, partial):
            yield fresh
        _follow_umask(fresh)
        check_target(target, force=force, folder=True, keep=keep)
        if not place.exists():
            _rename_new(fresh, place, shown=target)
            return
        own_files = own_files_in(place)
        _carry_over(place, fresh, own_files, shown=target)
        _resemble(fresh, place)
        if rename2(fresh, place, EXCHANGE):
            replaced = fresh
        else:
            replaced = old
            try:
                os.rename(place, old)
                os.rename(fresh, place)
            finally:
                if old.exists() and not place.exists():
                    os.rename(old, place)
        # What came into the folder while it was being replaced.
        _carry_over(replaced, place, own_files, shown=None)


def _follow_umask(folder: Path) -> None:
    """Let those read and write the files who may do so in the folder, which mkdir made.

    Some libraries write files for one user alone (safetensors).
    """
    for path in folder.rglob("*"):
        found = path.lstat()
        if stat.S_ISREG(found.st_mode) and found.st_nlink == 1:  # a hard link has another owner
            path.chmod(stat.S_IMODE(found.st_mode) | folder.stat().st_mode & 0o666)


def _carry_over(source: Path, to: Path, own_files: set[str], *, shown: Path | None) -> None:
    """Hard-link files that mirror-rt did not write into another folder, so they are never missing.

    Raises:
        TargetError: The other folder has something else by that name; not where ``shown`` is None.
    """
    for path in foreign(source, own_files):
        twin = to / path.relative_to(source)
        whole = path.is_dir() and not path.is_symlink()
        if not os.path.lexists(twin):
            twin.parent.mkdir(parents=True, exist_ok=True)
            if whole:
                shutil.copytree(path, twin, symlinks=True, copy_function=_link)
                _resemble(twin, path)
            else:
                _link(path, twin)
        elif whole and twin.is_dir():
            _carry_over(path, twin, set(), shown=shown)
        elif shown is not None:
            raise TargetError(f"{shown}: {path.name} in it has a name that we need; move it away")


def _link(source: str | Path, target: str | Path) -> None:
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:  # a disk without such links
        shutil.copy2(source, target, follow_symlinks=False)


def _resemble(fresh: Path, old: Path) -> None:
    """Copy mode and group of the old path to the new one and its content, as far as allowed.

    New files in a folder with the set-group-id bit get the folder's group; folders get the bit.
    """
    shared = old.stat() if old.is_dir() and old.stat().st_mode & stat.S_ISGID else None
    below = fresh.rglob("*") if fresh.is_dir() else ()
    for new in (fresh, *below):
        before = old if new == fresh else old / new.relative_to(fresh)
        now = new.lstat()
        try:
            as_was = before.lstat()
        except OSError:
            if shared is not None:
                bit = stat.S_ISGID if new.is_dir() else 0
                _belong(new, -1, shared.st_gid, stat.S_IMODE(now.st_mode) | bit)
        else:
            if not os.path.samestat(as_was, now) and not new.is_symlink():
                _belong(new, as_was.st_uid, as_was.st_gid, stat.S_IMODE(as_was.st_mode))


def _belong(path: Path, owner: int, group: int, mode: int) -> None:
    with suppress(OSError, AttributeError):
        os.chown(path, -1, group)
    with suppress(OSError, AttributeError):
        os.chown(path, owner, -1)
    with suppress(OSError):
        os.chmod(path, mode)  # the last, as a change of owner takes bits away


@contextmanager
def staging_file(target: Path, *, force: bool = False) -> Iterator[Path]:
    """Provide a path beside ``target`` that is renamed onto it if the block succeeds.

    The new file gets the mode and group of the old one.

    Raises:
        TargetError: ``target`` exists, before or after the block, and ``force`` is not set; it
            is a folder, a device or a mount point; or another process is writing it.
    """
    check_target(target, force=force, part=True)
    if target.is_dir():
        raise TargetError(f"{target}: is a folder; name a file")
    place = target.resolve()
    with _beside(place, shown=target) as partial:
        fresh = partial / place.name
        with _explain_disk_errors(target, partial):
            yield fresh
        check_target(target, force=force, part=True)
        if place.exists():
            _resemble(fresh, place)
        if force:
            os.replace(fresh, place)
        else:
            _rename_new(fresh, place, shown=target)


@contextmanager
def _beside(place: Path, *, shown: Path) -> Iterator[Path]:
    """Provide a temporary folder, and always remove it.

    Raises:
        TargetError: Another process is writing ``place``.
    """
    place.parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as held:
        # Only one looks at a time: of two that begin together, one goes on.
        with locked(place.parent, wait=True):
            if clear_leftovers(place):
                raise TargetError(f"{shown}: another process is writing it; wait for it")
            _clear_unnamed(place)
            made = Path(tempfile.mkdtemp(prefix=f".{place.name}.", dir=place.parent))
            held.enter_context(locked(made))
            # It is called a partial one only now that it is locked: no other process takes it
            # for a leftover.
            partial = made.with_name(f"{made.name}.partial")
            os.replace(made, partial)
        try:
            yield partial
        finally:
            with ignore_signals():
                shutil.rmtree(partial, ignore_errors=True)


def _clear_unnamed(place: Path) -> None:
    """Remove folders of processes that were killed before renaming them to a partial name.

    Such a process holds the lock of the parent folder. The caller has the lock, so none is alive.
    """
    unnamed = re.compile(rf"\.{re.escape(place.name)}\.[a-z0-9_]{{8}}")
    with suppress(OSError):
        for path in place.parent.iterdir():
            if unnamed.fullmatch(path.name) and path.is_dir() and not path.is_symlink():
                with suppress(OSError):
                    path.rmdir()  # only an empty one goes


def clear_leftovers(target: Path) -> bool:
    """Remove leftovers of killed processes; return whether a process is writing ``target``.

    Folders of live processes on this machine are locked and stay. So do all folders without lock
    support (Windows), and an old output that was moved aside and has no replacement.
    """
    place = target.resolve()
    leftovers = re.compile(rf"\.{re.escape(place.name)}\.\w{{8}}\.partial")
    try:
        found = [path for path in place.parent.iterdir() if leftovers.fullmatch(path.name)]
    except OSError:  # it is not there, or may be written but not listed
        return False
    live = False
    for partial in filter(Path.is_dir, found):
        with locked(partial) as alone:
            only_copy = (partial / "old").exists() and not place.exists()
            if alone and not only_copy:
                shutil.rmtree(partial, ignore_errors=True)
            live = live or alone is False
    return live


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Provide a path beside ``path`` that is renamed onto it if the block succeeds.

    It is for files inside our folders, which are replaced. If two processes write the same file,
    one of the two results stays.
    """
    fresh = path.with_name(f".{path.name}.{token_hex(4)}.partial")
    try:
        with disk_named(path):
            yield fresh
        os.replace(fresh, path)
    finally:
        fresh.unlink(missing_ok=True)


def write_json(path: Path, content: object) -> None:
    """Write a JSON file inside one of our folders, atomically."""
    with replacing(path) as fresh:
        text = json.dumps(content, indent=1, sort_keys=True)
        fresh.write_text(text + "\n", encoding="utf-8")


@contextmanager
def _explain_disk_errors(target: Path, folder: Path) -> Iterator[None]:
    """Convert a library's error for a full disk into one clear error.

    SQLite, safetensors, FAISS and onnxruntime have different errors for failed writes; only
    Python's has the system's error number.
    """
    try:
        with disk_named(target):
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
    """Rename onto a name that must be free.

    Raises:
        TargetError: The name is taken now.
    """
    try:
        if not rename2(fresh, place, NO_REPLACE):
            os.rename(fresh, place)
    except OSError as error:
        if error.errno in {errno.EEXIST, errno.ENOTEMPTY}:
            raise TargetError(
                f"{shown}: exists already; choose another name or give --force"
            ) from error
        raise
