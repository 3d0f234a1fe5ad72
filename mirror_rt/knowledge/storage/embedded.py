"""Take the vectors that an ``embed`` job made, so that a build embeds only what is missing."""

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
    """Give an embedder that has the vectors of a folder, and embeds other texts.

    The vectors are copied into a temporary file, in float16 as a knowledge base keeps them.

    Args:
        folder: A folder of vectors with their texts, made by ``embed``.
        bundle: What the knowledge base is built with.
        encoder: The opened bundle.

    Raises:
        ConfigError: The vectors are of another bundle or width, rounded to less than float16, or
            without texts.
        InputError: The folder is no finished folder of vectors, or a file of it has changed.
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

        # The vectors are written while the texts are indexed.
        yield KnownVectors(texts(), np.asarray(vectors_ND), encoder)


def _read_manifest(folder: Path) -> dict[str, Any]:
    """Return what a folder of vectors says of itself.

    Raises:
        InputError: It is not one, or not finished.
    """
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        if manifest["kind"] == "vectors":
            return cast("dict[str, Any]", manifest)
    except (OSError, ValueError, TypeError, KeyError):
        pass
    raise InputError(
        f"{folder}: is no finished folder of vectors; name one that mirror-rt embed wrote"
    )
