"""The folder of an embedding job: its settings, its log, and the manifest that ends it.

OUT/part-00000-<content>.parquet …   shards, each whole
OUT/manifest.json                    written last: which shards, in which order
OUT/.job/settings.json               what the vectors of the run begun last depend on
OUT/.job/log.jsonl                   a line for each shard of an unfinished run
OUT/.job/sources.json                shards of unfinished runs over other inputs, to copy from,
                                     and from which window on
OUT/.job/seen/<shard>.npy            hashes of its texts, to find them again
OUT/.job/windows/<shard>             rows that wait for a worker on another machine

A job with other settings is refused, or, if it may replace this one, writes its shards, whose
names differ, beside those of the manifest, which stay until the new manifest is written.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mirror_rt.bundle import sha256_file
from mirror_rt.errors import InputError, TargetError
from mirror_rt.runtime.shards import Shard
from mirror_rt.staging import check_target

__all__ = [
    "JobFolder",
    "Settings",
    "Stage",
    "lock",
    "read_manifest",
    "verify_vectors",
    "write_json",
    "write_whole",
]

FORMAT_VERSION = 1
KIND = "vectors"
_SHARD = re.compile(r"part-\d{5,}-[0-9a-f]{16}\.parquet")
"""The name of a shard; what else is called ``part-…`` is not ours."""
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What only a write can fail with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All that the bytes of the shards depend on, beside the texts.

    Attributes:
        bundle: Fingerprint of the bundle.
        dims: Numbers kept of each vector.
        dtype: How they are stored.
        text: Whether the texts are kept.
        ids: Whether there are ids.
        window_rows: Most rows of a shard.
    """

    bundle: str
    dims: int
    dtype: str
    text: bool
    ids: bool
    window_rows: int
    format_version: int = FORMAT_VERSION


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Where vectors are copied from, from some window on.

    Attributes:
        begin: The number of that window.
        shards: The shards, made of other rows.
    """

    begin: int
    shards: Sequence[Shard]


class JobFolder:
    """An output folder that this process holds.

    Args:
        path: The folder.
        settings: Those of the job.
    """

    def __init__(self, path: Path, settings: Settings) -> None:
        self.path = path
        self.settings = settings
        self.work = path / ".job"
        self.sidecars = self.work / "seen"
        self.staged = self.work / "windows"

    @classmethod
    @contextmanager
    def hold(cls, path: Path, settings: Settings, *, force: bool) -> Iterator[JobFolder]:
        """Hold ``path`` for a job that ``begin`` begins; if no shard comes of it, leave no trace.

        Args:
            path: The folder.
            settings: Those of the job.
            force: Whether the job may replace one with other settings.

        Raises:
            TargetError: The folder is of another job, not of a job at all, in use, or cannot be
                made.
            OSError: There is no room for it.
        """
        folder = cls(path, settings)
        if not path.exists():
            check_target(path)
        left = [found for found in (_of_manifest(path), _begun(path)) if found is not None]
        if not left and path.exists() and not _is_bare(path):
            raise TargetError(f"{path}: exists and holds no vectors; choose another name")
        if left and not force and not any(_fits(found, settings) for found in left):
            raise TargetError(
                f"{path}: {_difference(left[0], asdict(settings))}; choose another name, or "
                "replace it with --force"
            )
        ours = not path.exists() or folder.work.exists()  # an empty folder of the user's stays
        folder.sidecars.mkdir(parents=True, exist_ok=True)
        with lock(folder.work / "lock", path):
            try:
                yield folder
            except BaseException as error:
                if not any(_SHARD.fullmatch(child.name) for child in path.iterdir()):
                    shutil.rmtree(folder.work, ignore_errors=True)
                    if ours:
                        with suppress(OSError):
                            path.rmdir()
                if isinstance(error, OSError) and error.errno in NO_ROOM and not error.filename:
                    # A write that fails names no file, nor does Arrow.
                    raise OSError(error.errno, os.strerror(error.errno), str(path)) from error
                raise

    def begin(self) -> None:
        """Begin the job, or go on with it; an unfinished one with other settings is removed.

        To be called when there is something to embed.
        """
        if not _fits(_begun(self.path), self.settings):
            self._forget()
            self._sweep(_shards_of(self.path))
            write_json(self.work / "settings.json", asdict(self.settings))

    def finished(self) -> list[Shard]:
        """Return the shards of the last run that came to its end, if it had these settings."""
        return _shards_of(self.path) if _fits(_of_manifest(self.path), self.settings) else []

    def logged(self) -> list[Shard]:
        """Return the shards of a run that did not come to its end, as far as it came."""
        try:
            lines = (self.work / "log.jsonl").read_text(encoding="utf-8").splitlines()
        except OSError:
            return []
        shards = []
        for line in lines:
            try:
                shards.append(Shard(**json.loads(line)))
            except (ValueError, TypeError):
                continue  # the kill came in the middle of a line
        return shards

    def log(self, shard: Shard) -> None:
        """Note a finished shard."""
        with open(self.work / "log.jsonl", "a", encoding="utf-8") as handle:
            handle.write(_line(shard))

    def stages(self) -> list[Stage]:
        """Return where unfinished runs copied from, in the order of their first windows."""
        try:
            content = json.loads((self.work / "sources.json").read_text(encoding="utf-8"))
            return [
                Stage(begin=stage["begin"], shards=[Shard(**shard) for shard in stage["shards"]])
                for stage in content
            ]
        except (OSError, ValueError, TypeError, KeyError):
            return []

    def set_stages(self, stages: Sequence[Stage], logged: Sequence[Shard]) -> None:
        """Keep shards of other inputs apart from those of this one.

        Args:
            stages: Where to copy from.
            logged: What the log holds from here on.
        """
        write_json(self.work / "sources.json", [asdict(stage) for stage in stages])
        write_whole(self.work / "log.jsonl", "".join(map(_line, logged)))

    def sidecar(self, name: str) -> Path:
        """Return where the hashes of a shard's texts are."""
        return self.sidecars / f"{name}.npy"

    def has_sidecar(self, shard: Shard) -> bool:
        """Tell whether the hashes of a shard's texts are there as they were written."""
        path = self.sidecar(shard.name)
        return path.is_file() and sha256_file(path) == shard.sidecar

    def finish(self, shards: Sequence[Shard]) -> None:
        """Write the manifest, then remove what it does not name."""
        content = asdict(self.settings) | {
            "kind": KIND,
            "rows": sum(shard.rows for shard in shards),
            "truncated": sum(shard.truncated for shard in shards),
            "shards": [asdict(shard) for shard in shards],
        }
        write_json(self.path / "manifest.json", content)
        self._sweep(shards)
        for path in [*self.path.glob(".part-*.partial"), *self.work.glob("merged*")]:
            if _SHARD.match(path.name, 1) or path.parent == self.work:
                path.unlink()
        shutil.rmtree(self.staged, ignore_errors=True)
        self._forget()

    def _sweep(self, shards: Sequence[Shard]) -> None:
        """Remove all shards, and hashes of texts, but these."""
        names = {shard.name for shard in shards}
        found = [path for path in self.path.iterdir() if _SHARD.fullmatch(path.name)]
        for path in [*found, *self.sidecars.iterdir()]:
            if path.name.removesuffix(".npy") not in names:
                path.unlink()

    def _forget(self) -> None:
        for name in ("log.jsonl", "sources.json"):
            (self.work / name).unlink(missing_ok=True)


def read_manifest(path: Path) -> list[Shard]:
    """Return the shards of a finished folder, in order.

    Raises:
        InputError: There is no manifest, or it cannot be read.
    """
    try:
        content = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
        return [Shard(**shard) for shard in content["shards"]]
    except FileNotFoundError as error:
        raise InputError(
            f"{path}: no finished vectors (no manifest.json); run mirror-rt embed again to go on"
        ) from error
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(f"{path}: its manifest.json cannot be read ({error})") from error


def verify_vectors(folder: str | Path) -> list[str]:
    """Compare every shard of a finished folder with its sha256; return what is wrong.

    Running the same ``mirror-rt embed`` again computes faulty shards anew, and only these.

    Raises:
        InputError: The folder holds no finished vectors.
    """
    path = Path(folder)
    faults = (shard.fault(path) for shard in read_manifest(path))
    return [fault for fault in faults if fault is not None]


def _is_bare(path: Path) -> bool:
    """Tell whether a folder is empty but for what a job killed in its first moment left."""
    return path.is_dir() and all(child.name == ".job" for child in path.iterdir())


def _begun(path: Path) -> dict[str, Any] | None:
    return _read(path / ".job/settings.json")


def _of_manifest(path: Path) -> dict[str, Any] | None:
    content = _read(path / "manifest.json")
    return content if content is not None and content.get("kind") == KIND else None


def _read(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def _fits(content: dict[str, Any] | None, settings: Settings) -> bool:
    return content is not None and content | asdict(settings) == content


def _shards_of(path: Path) -> list[Shard]:
    try:
        return read_manifest(path)
    except InputError:
        return []


def _difference(theirs: dict[str, Any], ours: dict[str, Any]) -> str:
    if theirs.get("bundle") != ours["bundle"]:
        return "holds vectors of another bundle"
    names = [name for name in ours if theirs.get(name) != ours[name]]
    return (
        "was made with other settings ("
        + ", ".join(f"{name} {theirs.get(name)}, now {ours[name]}" for name in names)
        + ")"
    )


def write_json(path: Path, content: object) -> None:
    """Write a JSON file, whole or not at all."""
    write_whole(path, json.dumps(content, indent=1, sort_keys=True) + "\n")


def write_whole(path: Path, content: str) -> None:
    """Write a file, whole or not at all."""
    fresh = path.with_name(f".{path.name}.partial")
    fresh.write_text(content, encoding="utf-8")
    os.replace(fresh, path)


def _line(shard: Shard) -> str:
    # A line torn by a kill must not swallow the next one.
    return "\n" + json.dumps(asdict(shard)) + "\n"


@contextmanager
def lock(path: Path, shown: Path) -> Iterator[None]:
    """Let one process at a time write a folder, where the system has such locks.

    Raises:
        TargetError: Another process is writing ``shown``.
    """
    try:
        import fcntl
    except ImportError:
        yield
        return
    with open(path, "w", encoding="utf-8") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise TargetError(f"{shown}: another process is writing it; wait for it") from error
        yield
