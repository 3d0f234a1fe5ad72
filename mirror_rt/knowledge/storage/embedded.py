"""Reuse the vectors of an ``embed`` job in a build, which then embeds only the missing names."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow.parquet as pq

from mirror_rt.bundle import Bundle
from mirror_rt.errors import ConfigError, InputError
from mirror_rt.knowledge.storage.build import KnownVectors
from mirror_rt.runtime.jobfolder import file_faults, read_manifest
from mirror_rt.runtime.shards import read_stored
from mirror_rt.types import Embedder

__all__ = ["embedded_names"]

_EXACT = ("float32", "float16")


@contextmanager
def embedded_names(folder: Path, bundle: Bundle, encoder: Embedder) -> Iterator[KnownVectors]:
    """Provide an embedder that has the vectors of a folder, and embeds other texts.

    The vectors are copied into a temporary file, in float16 as in a knowledge base.

    Args:
        folder: A folder of vectors with their texts, made by ``embed``.
        bundle: The bundle of the knowledge base.
        encoder: The opened bundle.

    Raises:
        ConfigError: The vectors are from another bundle, have another width or less precision
            than float16, or the folder has no texts.
        InputError: The folder is not a finished folder of vectors, or one of its files changed.
    """
    manifest = _read_manifest(folder)
    width = manifest["dims"]
    if manifest.get("bundle") != bundle.fingerprint:
        raise ConfigError(f"{folder}: its vectors are of another bundle; embed the names again")
    if width != encoder.dim or manifest.get("dtype") not in _EXACT:
        raise ConfigError(
            f"{folder}: its vectors are of width {width} in {manifest.get('dtype')}, not of "
            f"{encoder.dim} in float32 or float16; embed the names again"
        )
    if not manifest.get("text"):
        raise ConfigError(f"{folder}: has no texts; embed the names again without --no-text")
    for fault in file_faults(folder):
        raise InputError(f"{fault}; run the same mirror-rt embed again")
    shards = [folder / shard.name for shard in read_manifest(folder)]
    rows = sum(pq.ParquetFile(shard).metadata.num_rows for shard in shards)
    with tempfile.TemporaryDirectory(prefix="mirror-rt-") as scratch:
        vectors_ND = np.lib.format.open_memmap(
            Path(scratch) / "vectors.npy", mode="w+", dtype=np.float16, shape=(rows, width)
        )

        def texts() -> Iterator[list[str]]:
            start = 0
            for shard in shards:
                stored = read_stored(shard).values_NP
                vectors_ND[start : start + len(stored)] = stored
                start += len(stored)
                yield pq.ParquetFile(shard).read(columns=["text"])["text"].to_pylist()

        # One pass writes the vectors and indexes the texts.
        yield KnownVectors(texts(), np.asarray(vectors_ND), encoder)


def _read_manifest(folder: Path) -> dict[str, Any]:
    """Return the manifest of a folder of vectors.

    Raises:
        InputError: It is not a folder of vectors, or not finished.
    """
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        if manifest["kind"] == "vectors":
            return cast("dict[str, Any]", manifest)
    except (OSError, ValueError, TypeError, KeyError):
        pass
    raise InputError(
        f"{folder}: is not a finished folder of vectors; name one that mirror-rt embed wrote"
    )
