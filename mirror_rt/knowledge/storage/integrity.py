"""Whether a knowledge base is whole, and whether another process is changing it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from mirror_rt.bundle import Bundle
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
        verify: Whether to hash every file whole rather than, of those above 16 MiB, blocks;
            None: while they are together under 256 MiB (a fraction of a second).

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
    """Keep every other process from changing or replacing a knowledge base meanwhile.

    Raises:
        KnowledgeBaseError: Another one is at it, or the lock cannot be opened.
    """
    # The lock goes with the process that holds it. The file stands beside the folder, as the
    # folder itself is replaced.
    path = folder.absolute().parent / f".{folder.name}.lock"
    with ExitStack() as stack:
        try:
            held = stack.enter_context(locked(path, create=True))
        except OSError as error:
            raise KnowledgeBaseError(
                f"{folder}: its lock {path} cannot be opened ({error}); make it a file you may "
                "write"
            ) from error
        if held is False:
            raise KnowledgeBaseError(
                f"{folder}: is being changed by another process; try again when it is done"
            )
        yield


@contextmanager
def assert_unchanged(folder: Path, manifest: KnowledgeBaseManifest) -> Iterator[None]:
    """Hold the lock of a knowledge base that is still the one that was opened.

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
    """Read a folder that another process may replace meanwhile: all of one state.

    Args:
        folder: The knowledge base.
        reading: Opens what it needs, given the manifest.
        attempts: How often to begin again if the folder is another one afterwards.

    Raises:
        BundleError, KnowledgeBaseError: As ``reading``, or the folder is replaced all the time.
    """
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
    raise KnowledgeBaseError(f"{folder}: is being replaced all the time; try again later")


def _state(folder: Path) -> tuple[int, ...]:
    """Return what tells a folder from another under its name, even one with the same content."""
    try:
        found = (folder / KB_MANIFEST).stat()
    except OSError:
        return ()
    return (found.st_dev, found.st_ino, found.st_mtime_ns, found.st_ctime_ns)


def open_bundle(folder: Path, fingerprint: str) -> Bundle:
    """Open the bundle in a knowledge base, which must be the one its vectors were made with.

    Raises:
        BundleError: It is not whole.
        KnowledgeBaseError: The folder was replaced by one of another bundle.
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
    except (OSError, ValueError, EOFError) as error:  # the last of an empty file
        raise KnowledgeBaseError(
            f"{folder / VECTORS}: cannot be read ({error}); build the knowledge base again"
        ) from error
    if vectors_ND.dtype != np.float16 or vectors_ND.ndim != 2:
        raise KnowledgeBaseError(
            f"{folder / VECTORS}: not a float16 matrix; build the knowledge base again"
        )
    return np.asarray(vectors_ND)
