"""Check that a knowledge base is complete, and lock it against changes by other processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from mirror_rt.bundle import Bundle
from mirror_rt.encodings import is_utf8
from mirror_rt.errors import BundleError, KnowledgeBaseError
from mirror_rt.hashing import sampled_sha256, sha256_file
from mirror_rt.knowledge.storage.manifest import (
    BUNDLE,
    KB_MANIFEST,
    VECTORS,
    KnowledgeBaseManifest,
)
from mirror_rt.staging import locked

if TYPE_CHECKING:
    from mirror_rt.types import Float16

__all__ = [
    "assert_unchanged",
    "check_files",
    "exclusive_lock",
    "open_bundle",
    "open_vectors",
    "read_consistently",
]

ReadT = TypeVar("ReadT")
_HASHED_AT_OPEN = 256 * 1024 * 1024
_HASHED_WHOLE = 16 * 1024 * 1024


def check_files(
    folder: Path, manifest: KnowledgeBaseManifest, *, verify: bool | None = None
) -> None:
    """Compare the files of a knowledge base with its manifest.

    Args:
        folder: The knowledge base.
        manifest: Its manifest.
        verify: Whether to hash all bytes of every file, instead of sampled blocks of files above
            16 MiB. None: all bytes if the files are together under 256 MiB (a fraction of a
            second).

    Raises:
        KnowledgeBaseError: A file is missing, cannot be read or has changed.
    """
    if verify is None:
        verify = sum(int(f["bytes"]) for f in manifest.files.values()) <= _HASHED_AT_OPEN
    for name, expected in manifest.files.items():
        file = folder / name
        try:
            same = file.stat().st_size == expected["bytes"]
            if same and (verify or expected["bytes"] <= _HASHED_WHOLE):
                same = sha256_file(file) == expected.get("sha256")
            elif same:
                same = sampled_sha256(file) == expected.get("sampled_sha256")
        except FileNotFoundError as error:
            raise KnowledgeBaseError(
                f"{folder}: {name} is missing; build the knowledge base again"
            ) from error
        except OSError as error:
            raise KnowledgeBaseError(
                f"{file}: cannot be read ({error.strerror}); build the knowledge base again"
            ) from error
        if not same:
            raise KnowledgeBaseError(
                f"{file}: changed since it was built; build the knowledge base again"
            )


@contextmanager
def exclusive_lock(folder: Path) -> Iterator[None]:
    """Lock a knowledge base: no other process can change or replace it in the block.

    Raises:
        KnowledgeBaseError: Another process holds the lock, or the lock cannot be opened.
    """
    # The lock ends with its process. The lock file is beside the folder, as an update replaces
    # the folder itself.
    path = folder.absolute().parent / f".{folder.name}.lock"
    with ExitStack() as stack:
        try:
            held = stack.enter_context(locked(path, create=True))
        except OSError as error:
            way_out = "get the right to write there" if not path.exists() else "make it a file"
            raise KnowledgeBaseError(
                f"{folder}: cannot be changed, as its lock {path} cannot be written "
                f"({error.strerror}); {way_out}, or change a copy"
            ) from error
        if held is False:
            raise KnowledgeBaseError(
                f"{folder}: is being changed by another process; try again when it is done"
            )
        yield


@contextmanager
def assert_unchanged(folder: Path, manifest: KnowledgeBaseManifest) -> Iterator[None]:
    """Lock a knowledge base, and check that it did not change since it was opened.

    Raises:
        KnowledgeBaseError: Another process is changing it, or has changed it.
    """
    with exclusive_lock(folder):
        if KnowledgeBaseManifest.read(folder) != manifest:
            raise KnowledgeBaseError(f"{folder}: changed since it was opened; open it again")
        yield


def read_consistently(
    folder: Path, reading: Callable[[KnowledgeBaseManifest], ReadT], *, attempts: int = 50
) -> ReadT:
    """Read a folder that another process may replace, and return one consistent state.

    Args:
        folder: The knowledge base.
        reading: Opens the files that it needs, given the manifest.
        attempts: How often to start again if the folder was replaced during the reading.

    Raises:
        BundleError, KnowledgeBaseError: Raised by ``reading``, or the folder is replaced again
            and again.
    """
    if not is_utf8(folder):
        raise KnowledgeBaseError(
            f"{folder}: the name is not UTF-8, so it cannot be opened; rename it"
        )
    for _ in range(attempts):
        before = _state(folder)
        try:
            found = reading(KnowledgeBaseManifest.read(folder))
        except (BundleError, KnowledgeBaseError):
            if _state(folder) == before:
                raise
            continue
        if _state(folder) == before:
            return found
    raise KnowledgeBaseError(f"{folder}: is replaced again and again; try again later")


def _state(folder: Path) -> tuple[int, ...]:
    """Return a value that differs between two folders with the same name, even of equal content."""
    try:
        found = (folder / KB_MANIFEST).stat()
    except OSError:
        return ()
    return (found.st_dev, found.st_ino, found.st_mtime_ns, found.st_ctime_ns)


def open_bundle(folder: Path, fingerprint: str) -> Bundle:
    """Open the bundle in a knowledge base; its fingerprint must be the expected one.

    Raises:
        BundleError: The bundle is incomplete.
        KnowledgeBaseError: The folder was replaced by a knowledge base of another bundle.
    """
    bundle = Bundle.open(folder / BUNDLE)
    if bundle.fingerprint != fingerprint:
        raise KnowledgeBaseError(
            f"{folder}: was replaced by a knowledge base of another bundle; open it again"
        )
    return bundle


def open_vectors(folder: Path) -> Float16:
    """Map the (N, D) float16 vectors of a knowledge base into memory without reading them.

    Raises:
        KnowledgeBaseError: The file is not a float16 matrix.
    """
    try:
        vectors_ND = np.load(folder / VECTORS, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:  # numpy raises EOFError for an empty file
        raise KnowledgeBaseError(
            f"{folder / VECTORS}: cannot be read ({error}); build the knowledge base again"
        ) from error
    if vectors_ND.dtype != np.float16 or vectors_ND.ndim != 2:
        raise KnowledgeBaseError(
            f"{folder / VECTORS}: not a float16 matrix; build the knowledge base again"
        )
    return np.asarray(vectors_ND)
