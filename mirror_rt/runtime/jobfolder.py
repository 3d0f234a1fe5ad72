"""The folder of a job: its settings, its lock, its log, and the manifest that ends it.

OUT/part-00000-<content>.parquet …   shards, each complete
OUT/manifest.json                    written last: the shards, in order
OUT/.job/settings.json               the settings of the latest run
OUT/.job/log.jsonl                   a line for each shard of an unfinished run
OUT/.job/blocks/<shard>              rows that wait for a worker on another machine

A job whose output is one file has this folder beside it, ``.NAME.job``, until the file exists.

A folder of a job with other settings is refused, unless it may be replaced. Then the new job writes
its shards under other names; the old ones stay until the new manifest is written. Beside a file, a
job with other settings starts again.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mirror_rt.errors import ConfigError, InputError, TargetError, add_note
from mirror_rt.hashing import sha256_file
from mirror_rt.staging import check_target, disk_named, locked, write_json

__all__ = ["JobFolder", "Shard", "file_faults", "read_manifest"]

JOB_FORMAT_VERSION = 2
_SHARD = re.compile(r"part-\d{5,}-[0-9a-f]{16}\.\w+")
"""The name of a shard; other files named ``part-…`` belong to the user."""
_TORN = re.compile(rf"\.({_SHARD.pattern}|manifest\.json)\..*\.partial")
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Errors that only a write raises."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """The record of a finished shard.

    Attributes:
        name: Its file name.
        rows: How many rows it has.
        sha256: Of the file.
        counts: The counts of its rows, by name.
    """

    name: str
    rows: int
    sha256: str
    counts: dict[str, int] = field(default_factory=dict)

    @property
    def number(self) -> int:
        """The number of the shard in the folder, from 0."""
        return int(self.name.split("-")[1])

    def fault(self, folder: Path) -> str | None:
        """Return what is wrong with the file, if anything."""
        path = folder / self.name
        if not path.is_file():
            return f"{path}: is missing"
        if sha256_file(path) != self.sha256:
            return f"{path}: changed since it was written (sha256 differs)"
        return None


class JobFolder:
    """A folder of shards.

    Args:
        path: The folder.
        kind: What it contains, for example ``vectors``.
        settings: Everything but the rows that the bytes of the shards depend on, as JSON.
        ending: The file extension of a shard.
    """

    def __init__(self, path: Path, kind: str, settings: Mapping[str, Any], ending: str) -> None:
        self.path = path
        self.kind = kind
        self.settings = {"format_version": JOB_FORMAT_VERSION, **settings}
        self.work = path / ".job"
        self.staged = self.work / "blocks"
        self._ending = ending

    @contextmanager
    def hold(self, *, force: bool) -> Iterator[JobFolder]:
        """Lock the folder for a job; remove the folder if the job makes no shard.

        Args:
            force: Whether the job may replace one with other settings.

        Raises:
            TargetError: The folder belongs to another job, is not a job folder, is in use, or
                cannot be created.
            OSError: The disk is full.
        """
        path = self.path
        if not path.exists():
            check_target(path)
        left = [found for found in (self._of_manifest(), self._begun()) if found is not None]
        if not left and path.exists() and not _is_bare(path):
            raise TargetError(f"{path}: exists and holds no {self.kind}; choose another name")
        if left and not force and not any(self._fits(found) for found in left):
            raise TargetError(
                f"{path}: was made with other settings ({self._difference(left[0])}); choose "
                "another name, or replace it with --force"
            )
        created = not path.exists() or self.work.exists()  # an empty folder of the user stays
        self.work.mkdir(parents=True, exist_ok=True)
        with locked(self.work / "lock", create=True) as alone:
            if not alone:
                raise TargetError(f"{path}: another process is writing it; wait for it")
            try:
                yield self
            except BaseException as error:
                if isinstance(error, OSError) and error.errno in _NO_ROOM and not error.filename:
                    # Neither a failed write nor Arrow names the file.
                    cause, error = error, OSError(error.errno, os.strerror(error.errno), str(path))
                    error.__cause__ = cause
                if any(_SHARD.fullmatch(child.name) for child in path.iterdir()):
                    # After a ConfigError the same command would fail again.
                    again = "" if isinstance(error, ConfigError) else ": the same command continues"
                    add_note(error, f"{path} keeps what is done{again}")
                else:
                    shutil.rmtree(self.work, ignore_errors=True)
                    if created:
                        with suppress(OSError):
                            path.rmdir()
                raise error

    @classmethod
    @contextmanager
    def hold_beside(
        cls, out: Path, kind: str, settings: Mapping[str, Any], ending: str, *, force: bool
    ) -> Iterator[JobFolder]:
        """Lock the folder of a job whose output is one file; remove it if the block succeeds.

        Args:
            out: The file.
            kind: What the folder contains.
            settings: The settings of the job.
            ending: The file extension of a shard.
            force: Whether the file may be replaced.

        Raises:
            TargetError: The file exists and ``force`` is not set, is a folder, or another process
                is writing it.
            OSError: The disk is full.
        """
        check_target(out, force=force)
        if out.is_dir():
            raise TargetError(f"{out}: is a folder; name a file")
        job = cls(out.with_name(f".{out.name}.job"), kind, settings, ending)
        with job.hold(force=True):
            yield job
            shutil.rmtree(job.path, ignore_errors=True)

    def at(self, path: Path) -> JobFolder:
        """Return the same folder under another path."""
        return JobFolder(path, self.kind, self.settings, self._ending)

    def name_of(self, number: int, content: str) -> str:
        """Return the file name of a shard: its number and the hash of its rows."""
        return f"part-{number:05d}-{content[:16]}{self._ending}"

    def begin(self) -> None:
        """Begin or resume the job; remove an unfinished job with other settings."""
        if not self._fits(self._begun()):
            self._log.unlink(missing_ok=True)
            self._sweep(self._of_manifest() or {})
            write_json(self.work / "settings.json", self.settings)

    def finished(self) -> list[Shard]:
        """Return the shards of the last finished run, if it had these settings."""
        content = self._of_manifest()
        return _shards_in(content) if self._fits(content) else []

    def logged(self) -> list[Shard]:
        """Return the shards that an unfinished run has written."""
        try:
            lines = self._log.read_text(encoding="utf-8").splitlines()
        except OSError:
            return []
        shards = []
        for line in lines:
            # A killed process may have left half a line.
            with suppress(ValueError, TypeError):
                shards.append(Shard(**json.loads(line)))
        return shards

    def log(self, shard: Shard) -> None:
        """Record a finished shard."""
        with disk_named(self._log), open(self._log, "a", encoding="utf-8") as handle:
            # Half a line of a killed process must not join the next one.
            handle.write("\n" + json.dumps(asdict(shard)) + "\n")

    def finish(self, shards: Sequence[Shard]) -> None:
        """Write the manifest, then remove the files that it does not name."""
        counts = Counter[str]()
        for shard in shards:
            counts.update(shard.counts)
        content = {
            **self.settings,
            "kind": self.kind,
            "rows": sum(shard.rows for shard in shards),
            **counts,
            "shards": [asdict(shard) for shard in shards],
        }
        write_json(self.path / "manifest.json", content)
        self._sweep(content)
        left = [path for path in self.path.iterdir() if _TORN.fullmatch(path.name)]
        for path in [*left, *self.work.iterdir()]:
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            elif path.name not in {"lock", "settings.json"}:
                path.unlink()

    @property
    def _log(self) -> Path:
        return self.work / "log.jsonl"

    def _sweep(self, manifest: Mapping[str, Any]) -> None:
        """Remove the shards that are not in a manifest."""
        names = {shard["name"] for shard in manifest.get("shards", ())}
        for path in [child for child in self.path.iterdir() if _SHARD.fullmatch(child.name)]:
            if path.name not in names:
                path.unlink()

    def _begun(self) -> dict[str, Any] | None:
        return _read(self.work / "settings.json")

    def _of_manifest(self) -> dict[str, Any] | None:
        content = _read(self.path / "manifest.json")
        return content if content is not None and content.get("kind") == self.kind else None

    def _fits(self, content: Mapping[str, Any] | None) -> bool:
        return content is not None and {**content, **self.settings} == content

    def _difference(self, theirs: Mapping[str, Any]) -> str:
        differences = []
        for name, value in self.settings.items():
            if (other := theirs.get(name)) != value:
                short = len(f"{other}{value}") < 60
                differences.append(f"{name} {other}, now {value}" if short else f"another {name}")
        return ", ".join(differences)


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
            f"{path}: not finished (no manifest.json); run the same command again to continue"
        ) from error
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(f"{path}: its manifest.json cannot be read ({error})") from error


def file_faults(folder: str | Path) -> list[str]:
    """Compare every shard of a finished folder with its sha256; return the faults.

    The same command, run again, makes only the faulty shards again.

    Raises:
        InputError: The folder holds no finished job.
    """
    path = Path(folder)
    faults = (shard.fault(path) for shard in read_manifest(path))
    return [fault for fault in faults if fault is not None]


def _is_bare(path: Path) -> bool:
    """Return whether a folder is empty, except for the start of a job that was killed."""
    return path.is_dir() and all(child.name == ".job" for child in path.iterdir())


def _read(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def _shards_in(content: Mapping[str, Any] | None) -> list[Shard]:
    try:
        return [Shard(**shard) for shard in (content or {}).get("shards", ())]
    except TypeError:
        return []
