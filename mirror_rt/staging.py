"""Write files and folders whole or not at all: beside the target first, then renamed onto it.

One rule says what may be replaced: of a folder only the files that its manifest names as ours.
Whatever else it holds stays where it is, or the folder is refused before any work is done.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import re
import shutil
import signal
import stat
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from secrets import token_hex
from typing import Any

from mirror_rt.errors import MirrorError, TargetError

__all__ = [
    "check_apart",
    "check_target",
    "clear_leftovers",
    "contents",
    "disk_named",
    "locked",
    "replacing",
    "staging_file",
    "staging_folder",
    "undisturbed",
    "write_json",
]

_WRITE_REFUSED = ("no space left", "file too large", "disk i/o error", "disk is full")
_NO_SPACE = {errno.ENOSPC, errno.EFBIG, errno.EDQUOT, errno.EIO}
_NO_ROOM = 4 * 1024 * 1024
_MANIFESTS = ("manifest.json", "training.json", "quickstart.json", "state.json")
"""Files of which each folder we write has one; ``files`` in it names what else is ours."""
_ALSO = {
    "knowledge base": {"reranker.json", "combination.json", "feedback.jsonl"},
    "training.json": {"scores.json"},
}
"""What is ours though it was written after the manifest, by the manifest's kind or name."""
_WORK = ".job"
"""The folder of an embedding job in its output, ours as a whole."""
_LEFTOVER = re.compile(r"\.(.+)\.\w{8}\.partial")
_NO_REPLACE, _EXCHANGE = 1, 2  # RENAME_NOREPLACE, RENAME_EXCHANGE of linux/fs.h


def check_target(
    target: Path, *, force: bool = False, folder: bool = False, keep: bool = False
) -> None:
    """Refuse a target that is taken or cannot be replaced, before any work is done for it.

    Args:
        target: What is to be written.
        force: Whether it may be replaced, if it is a file or a folder that mirror-rt wrote.
        folder: Whether a folder is to be written.
        keep: Whether files that mirror-rt did not write are carried over into the new folder;
            if not, a folder that holds any is refused.

    Raises:
        TargetError: It exists and ``force`` is not set, is nothing that may be replaced or a
            mount point, or its parent is not a folder.
    """
    if str(target) == "-":
        raise TargetError("-: results go to no pipe here; name a file or folder")
    try:
        str(target.absolute()).encode("utf-8")
    except UnicodeEncodeError as error:  # FAISS and Arrow take no others
        raise TargetError(f"{target}: is no name in UTF-8; choose another name") from error
    if target.is_symlink() and not target.exists():
        raise TargetError(f"{target}: is a link to nothing; remove it or choose another name")
    if target.exists():
        if not force:
            raise TargetError(f"{target}: exists already; choose another name or give --force")
        if folder:
            _check_ours(target, keep=keep)
        elif not target.is_dir() and not target.is_file():
            raise TargetError(f"{target}: is not a regular file; choose another name")
        _check_mounts(target)
    for parent in target.resolve().parents:
        if parent.exists():
            if not parent.is_dir():
                raise TargetError(f"{target}: {parent} is a file, not a folder")
            if not os.access(parent, os.W_OK):
                raise TargetError(f"{target}: no right to write in {parent}")
            return


def check_apart(target: Path, inputs: Mapping[str, str | Path | None]) -> None:
    """Refuse a target that is, or holds, what the command reads: it would be replaced.

    Compared by what the system says a path is, so links and mounts do not hide it.

    Args:
        target: What is to be written.
        inputs: What is read, by the word for it; None, ``-`` and what is no path are passed over.

    Raises:
        TargetError: One of them is the target or lies in it.
    """
    try:
        taken = target.stat()
    except OSError:  # nothing is replaced
        return
    for what, given in inputs.items():
        if given is None or str(given) == "-":
            continue
        try:
            path = Path(given).resolve(strict=True)
        except (OSError, ValueError):
            continue
        for place in (path, *path.parents):
            if os.path.samestat(place.stat(), taken):
                raise TargetError(
                    f"{target}: is or holds the {what}, {given}, which would be replaced; "
                    "choose another name"
                )


def contents(folder: Path) -> list[str]:
    """Return all that a folder holds, as its manifest names it: relative, with ``/``, sorted."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def _check_ours(target: Path, *, keep: bool) -> None:
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
    ours = _ours(target)
    foreign = next(_foreign(target, ours), None)
    if foreign is None or (keep and ours):
        return
    if not ours:
        raise TargetError(
            f"{target}: is not a folder that mirror-rt wrote, so --force does not replace it; "
            "choose another name or remove it yourself"
        )
    raise TargetError(
        f"{target}: holds {foreign.relative_to(target).as_posix()}, which mirror-rt did not "
        "write, so --force does not replace it; move that away or choose another name"
    )


def _ours(folder: Path) -> set[str]:
    """Return what the manifests of a folder, and of folders in it, say that we wrote."""
    ours: set[str] = set()
    for name in _MANIFESTS:
        content = _manifest(folder / name)
        if content is None:
            continue
        ours |= {name, *map(str, content.get("files", ()))}
        ours |= _ALSO.get(name, set()) | _ALSO.get(str(content.get("kind")), set())
        if content.get("kind") == "vectors":
            ours |= {_WORK, *(str(shard["name"]) for shard in content["shards"])}
    if ours:
        ours |= {f"bundle/{name}" for name in _ours(folder / "bundle")}
    return ours


def _manifest(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(content, dict):
        return None
    named = "shards" if content.get("kind") == "vectors" else "files"
    return content if isinstance(content.get(named), (dict, list)) else None


def _foreign(folder: Path, ours: set[str]) -> Iterator[Path]:
    """Yield what is not ours; a folder of which nothing is ours, as a whole."""
    above = {name[:place] for name in ours for place, sign in enumerate(name) if sign == "/"}
    todo = [folder]
    while todo:
        for path in sorted(todo.pop().iterdir()):
            name = path.relative_to(folder).as_posix()
            leftover = _LEFTOVER.fullmatch(path.name)
            if path.is_dir() and not path.is_symlink() and name in above | ours - {_WORK}:
                todo.append(path)
            elif name not in ours and (leftover is None or leftover[1] not in ours):
                yield path


def _check_mounts(target: Path) -> None:
    """Refuse what cannot be renamed, or holds another disk.

    Raises:
        TargetError: The target is a mount point, or holds one.
    """
    place = target.resolve()
    for mount in _mount_points(place):
        if mount == place:
            raise TargetError(
                f"{target}: is a mount point, which cannot be replaced; name a folder or file in it"
            )
        if mount.is_relative_to(place):
            raise TargetError(
                f"{target}: holds the mount point {mount}; unmount it or choose another name"
            )


def _mount_points(place: Path) -> list[Path]:
    found = [place] if os.path.ismount(place) else []
    try:
        table = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return found
    escaped = re.compile(r"\\([0-7]{3})")  # blanks and the like are written as \040
    paths = (line.split(" ")[4] for line in table.splitlines())
    return found + [Path(escaped.sub(lambda m: chr(int(m[1], 8)), path)) for path in paths]


@contextmanager
def staging_folder(target: Path, *, force: bool = False, keep: bool = False) -> Iterator[Path]:
    """Give an empty folder that becomes ``target`` if the block ends well.

    With ``force`` an existing target and the new one change places in one step where the
    system can do that (Linux); else the old one is moved aside first. Either way it is removed
    only after the new one is in place, and at no moment is there half a folder under its name.
    The new one has the mode and the group of the old one. Where ``target`` is a symbolic link,
    what it points to is replaced.

    Args:
        target: The folder to make.
        force: Whether a folder that mirror-rt wrote may be replaced.
        keep: Whether what else is in it is carried over; if not, such a folder is refused.

    Raises:
        TargetError: ``target`` exists, before or after the block, and ``force`` is not set; it
            is not a folder that mirror-rt wrote, or a mount point; or another process is writing
            it.
    """
    check_target(target, force=force, folder=True, keep=keep)
    place = target.resolve()
    with _beside(place, shown=target) as holder:
        # mkdtemp makes 0700 folders; what the user gets should follow the umask as mkdir does.
        fresh, old = holder / "new", holder / "old"
        fresh.mkdir()
        with _disk_told(target, holder):
            yield fresh
        check_target(target, force=force, folder=True, keep=keep)
        if not place.exists():
            _rename_new(fresh, place, shown=target)
            return
        ours = _ours(place)
        _carry_over(place, fresh, ours, shown=target)
        _resemble(fresh, place)
        if _rename2(fresh, place, _EXCHANGE):
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
        _carry_over(replaced, place, ours, shown=None)


def _carry_over(source: Path, to: Path, ours: set[str], *, shown: Path | None) -> None:
    """Put what is not ours into another folder as well: linked, so that no moment is without it.

    Raises:
        TargetError: The other folder has something else by that name; not where ``shown`` is None.
    """
    for path in _foreign(source, ours):
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
    """Give a path, and all in it, the mode and group of what had its name, as far as we may.

    What is new in a folder with the set-group-id bit has the folder's group, and a folder the bit.
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
    """Give a path beside ``target`` that is renamed onto it if the block ends well.

    A file that is replaced leaves its mode and group to the new one.

    Raises:
        TargetError: ``target`` exists, before or after the block, and ``force`` is not set; it
            is a folder, a device or a mount point; or another process is writing it.
    """
    check_target(target, force=force)
    if target.is_dir():
        raise TargetError(f"{target}: is a folder; name a file")
    place = target.resolve()
    with _beside(place, shown=target) as holder:
        fresh = holder / place.name
        with _disk_told(target, holder):
            yield fresh
        check_target(target, force=force)
        if place.exists():
            _resemble(fresh, place)
        if force:
            os.replace(fresh, place)
        else:
            _rename_new(fresh, place, shown=target)


@contextmanager
def _beside(place: Path, *, shown: Path) -> Iterator[Path]:
    """Give a folder for what is not finished, and remove it whatever comes.

    Raises:
        TargetError: Another process is writing ``place``.
    """
    place.parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as held:
        # Only one looks at a time: of two that begin together, one goes on.
        with locked(place.parent, wait=True):
            if clear_leftovers(place):
                raise TargetError(f"{shown}: another process is writing it; wait for it")
            made = Path(tempfile.mkdtemp(prefix=f".{place.name}.", dir=place.parent))
            held.enter_context(locked(made))
            # It is called a partial one only now that it is locked: no other process takes it
            # for a leftover.
            holder = made.with_name(f"{made.name}.partial")
            os.replace(made, holder)
        try:
            yield holder
        finally:
            with undisturbed():
                shutil.rmtree(holder, ignore_errors=True)


def clear_leftovers(target: Path) -> bool:
    """Remove what processes that were killed have left; say whether a live one writes ``target``.

    What a process of this machine is writing is locked by it, and stays; so does all where there
    are no such locks (Windows), and an old output that was moved aside and is nowhere else.
    """
    place = target.resolve()
    ours = re.compile(rf"\.{re.escape(place.name)}\.\w{{8}}\.partial")
    try:
        found = [path for path in place.parent.iterdir() if ours.fullmatch(path.name)]
    except OSError:  # it is not there, or may be written but not listed
        return False
    live = False
    for holder in filter(Path.is_dir, found):
        with locked(holder) as alone:
            only_copy = (holder / "old").exists() and not place.exists()
            if alone and not only_copy:
                shutil.rmtree(holder, ignore_errors=True)
            live = live or alone is False
    return live


@contextmanager
def locked(path: Path, *, create: bool = False, wait: bool = False) -> Iterator[bool | None]:
    """Lock a file or a folder until the block, or the process, ends.

    Args:
        path: The file, or the folder.
        create: Whether to make a file that is missing.
        wait: Whether to wait until another process has let go of it.

    Yields:
        Whether it is locked by us; None where it cannot be told: a folder that is not there, a
        disk without locks, a folder on Windows.

    Raises:
        OSError: The file cannot be made.
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
def replacing(path: Path) -> Iterator[Path]:
    """Give a path beside ``path`` that is renamed onto it if the block ends well.

    For files inside a folder of ours: what is there is replaced. Two processes may write the
    same file at once: one of the two stays.
    """
    fresh = path.with_name(f".{path.name}.{token_hex(4)}.partial")
    try:
        with disk_named(path):
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
def disk_named(path: Path) -> Iterator[None]:
    """Name the file in the system's error of a write, which knows none."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno in _NO_SPACE:
            error.filename = str(path)
        raise


@contextmanager
def _disk_told(target: Path, folder: Path) -> Iterator[None]:
    """Tell a full disk for what it is, whatever library's error it came as.

    SQLite, safetensors, FAISS and onnxruntime each have an error of their own for a write that
    failed; only Python's carries the system's number.
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
