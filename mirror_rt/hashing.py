"""Checksums of files, of samples of large files, and of JSON files that contain their own."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["checksum", "is_unchanged", "sampled_sha256", "sha256_file", "write_checked_json"]

_KEY = "manifest_sha256"
_BLOCKS = 16
_BLOCK = 4_096


def checksum(content: Mapping[str, Any], *, key: str = _KEY) -> str:
    """Return the hex sha256 of the content of a JSON file, without the checksum under ``key``."""
    rest = {name: value for name, value in content.items() if name != key}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def is_unchanged(content: Mapping[str, Any], *, key: str = _KEY) -> bool:
    """Return whether content equals what ``write_checked_json`` wrote."""
    return content.get(key) == checksum(content, key=key)


def write_checked_json(path: Path, content: Mapping[str, Any], *, key: str = _KEY) -> None:
    """Write a JSON file with its own checksum; equal content gives equal bytes.

    It is not atomic: give a path in a staging folder (``staging``).
    """
    plain: dict[str, Any] = json.loads(json.dumps(dict(content)))
    plain[key] = checksum(plain, key=key)
    text = json.dumps(plain, indent=2, sort_keys=True, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")


def sha256_file(path: Path) -> str:
    """Return the hex sha256 of a file, read in pieces."""
    digest = hashlib.sha256()
    with open(path, "rb") as handle:
        while piece := handle.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def sampled_sha256(path: Path) -> str:
    """Return the hex sha256 of 16 blocks of a file, evenly spread from its first to its last byte.

    Another file of the same size has another hash, unless it is nearly the same. Only 64 KiB are
    read: this takes milliseconds from a local disk, longer over a network.
    """
    digest = hashlib.sha256()
    with open(path, "rb", buffering=0) as handle:
        last = max(path.stat().st_size - _BLOCK, 0)
        for i in range(_BLOCKS):
            handle.seek(last * i // (_BLOCKS - 1))
            digest.update(handle.read(_BLOCK))
    return digest.hexdigest()
