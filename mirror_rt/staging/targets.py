"""Check what may be replaced: a file, or a folder with only files in its manifest."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mirror_rt.encodings import is_utf8
from mirror_rt.errors import TargetError

__all__ = ["check_apart", "check_different", "check_target", "contents", "foreign", "own_files_in"]

_MANIFESTS = ("manifest.json", "training.json", "quickstart.json", "state.json")
"""Each folder that mirror-rt writes has one of these; ``files`` in it lists the other files."""
_OF_ONE_THING = ("manifest.json", "training.json")
"""The manifests of folders that do not contain other folders of ours."""
_ALSO = {
    "knowledge base": {"reranker.json", "feedback.jsonl"},
    "training.json": {"scores.json"},
}
"""Our files that are written after the manifest, by the manifest's kind or name."""
_WORK = ".job"
"""The work folder of an embedding job in its output; all of it is ours."""
_LEFTOVER = re.compile(r"\.(.+)\.\w{8}\.partial")


def check_target(
    target: Path,
    *,
    force: bool = False,
    folder: bool = False,
    keep: bool = False,
    part: bool = False,
) -> None:
    """Check before any work that a target can be written.

    Args:
        target: The target.
        force: Whether it may be replaced, if it is a file or a folder that mirror-rt wrote.
        folder: Whether the target is a folder.
        keep: Whether to keep files that mirror-rt did not write; if not, a folder with such files
            is an error.
        part: Whether it may be a part of a knowledge base, bundle or checkpoint.

    Raises:
        TargetError: It exists and ``force`` is not set, may not be replaced, is a mount point, or
            its parent is not a folder.
    """
    if str(target) == "-":
        raise TargetError("-: results cannot go to a pipe here; name a file or folder")
    if not is_utf8(target.absolute()):
        raise TargetError(f"{target}: the name is not UTF-8; choose another name")
    if target.is_symlink() and not target.exists():
        raise TargetError(f"{target}: is a link to nothing; remove it or choose another name")
    if target.exists():
        if not force:
            raise TargetError(f"{target}: exists already; choose another name or give --force")
        if folder:
            _check_ours_in(target, keep=keep)
        elif not target.is_dir() and not target.is_file():
            raise TargetError(f"{target}: is not a regular file; choose another name")
        _check_mounts(target)
        if not part:
            _check_no_part(target)
    for parent in target.resolve().parents:
        if parent.exists():
            if not parent.is_dir():
                raise TargetError(f"{target}: {parent} is a file, not a folder")
            if not os.access(parent, os.W_OK):
                raise TargetError(f"{target}: no right to write in {parent}")
            return


def check_apart(target: Path, inputs: Mapping[str, str | Path | None]) -> None:
    """Check that a target does not contain an input, which would be replaced.

    Files are compared by device and inode, so links and mounts are detected.

    Args:
        target: The target.
        inputs: The inputs, by a word for each; None, ``-`` and values that are not paths are
            ignored.

    Raises:
        TargetError: An input is the target or is in it.
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


def check_different(targets: Mapping[str, Path | None]) -> None:
    """Check that the targets of a command are different files.

    Args:
        targets: The targets, by option; None is ignored.

    Raises:
        TargetError: Two are the same, even through links.
    """
    taken: dict[Path, str] = {}
    for option, target in targets.items():
        if target is not None:
            first = taken.setdefault(target.resolve(), option)
            if first != option:
                raise TargetError(f"{target}: is given to {first} and to {option}; name two files")


def contents(folder: Path) -> list[str]:
    """Return what a folder contains, for its manifest: relative paths with ``/``, sorted."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def _check_ours_in(target: Path, *, keep: bool) -> None:
    """Check that mirror-rt wrote a folder: a typo in ``--out`` must not delete a home folder."""
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
    own_files = own_files_in(target)
    other = next(foreign(target, own_files), None)
    if other is None or (keep and own_files):
        return
    if not own_files:
        raise TargetError(
            f"{target}: is not a folder that mirror-rt wrote, so --force does not replace it; "
            "choose another name or remove it yourself"
        )
    raise TargetError(
        f"{target}: holds {other.relative_to(target).as_posix()}, which mirror-rt did not "
        "write, so --force does not replace it; move that away or choose another name"
    )


def _check_no_part(target: Path) -> None:
    """Check that a target is not a part of something that would then be broken."""
    place = target.resolve()
    for folder in place.parents:
        name = place.relative_to(folder).as_posix()
        own_files = own_files_in(folder, manifests=_OF_ONE_THING)
        if name in own_files or any(part.startswith(f"{name}/") for part in own_files):
            raise TargetError(
                f"{target}: is a part of {folder}, which mirror-rt wrote; choose another name"
            )


def own_files_in(folder: Path, *, manifests: Sequence[str] = _MANIFESTS) -> set[str]:
    """Return the files that the manifests of a folder, and of folders in it, list."""
    own_files: set[str] = set()
    for name in manifests:
        content = _manifest(folder / name)
        if content is None:
            continue
        own_files |= {name, *map(str, content.get("files", ()))}
        own_files |= _ALSO.get(name, set()) | _ALSO.get(str(content.get("kind")), set())
        if content.get("kind") == "vectors":
            own_files |= {_WORK, *(str(shard["name"]) for shard in content["shards"])}
    if own_files:
        own_files |= {f"bundle/{name}" for name in own_files_in(folder / "bundle")}
    return own_files


def _manifest(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(content, dict):
        return None
    if path.name == "manifest.json" and "format_version" not in content:
        return None  # of another program
    if content.get("kind") == "vectors":
        return content if _are_shards(content.get("shards")) else None
    return content if isinstance(content.get("files"), (dict, list)) else None


def _are_shards(shards: object) -> bool:
    return isinstance(shards, list) and all(
        isinstance(shard, dict) and "name" in shard for shard in shards
    )


def foreign(folder: Path, own_files: set[str]) -> Iterator[Path]:
    """Yield files that mirror-rt did not write; a folder without any of our files as a whole."""
    above = {name[:place] for name in own_files for place, sign in enumerate(name) if sign == "/"}
    todo = [folder]
    while todo:
        for path in sorted(todo.pop().iterdir()):
            name = path.relative_to(folder).as_posix()
            leftover = _LEFTOVER.fullmatch(path.name)
            if path.is_dir() and not path.is_symlink() and name in above | own_files - {_WORK}:
                todo.append(path)
            elif name not in own_files and (leftover is None or leftover[1] not in own_files):
                yield path


def _check_mounts(target: Path) -> None:
    """Check that a target can be renamed and contains no mount point.

    Raises:
        TargetError: The target is a mount point, or holds one.
    """
    place = target.resolve()
    for mount in _mount_points(place):
        if mount == place:
            raise TargetError(
                f"{target}: is a mount point, which cannot be replaced; name a folder or file in "
                "it, or mount the folder above it"
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
