"""Inputs of embedding jobs, and their outputs."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from mirror_rt.runtime.sources import FileFormat, format_of
from tests.tiny import WORDS


def made_up(count: int, *, seed: int = 0) -> list[str]:
    """Return different names of one to five words."""
    rng = random.Random(seed)
    return [" ".join([*rng.choices(WORDS, k=rng.randint(1, 4)), str(i)]) for i in range(count)]


def written(path: Path, texts: list[str]) -> Path:
    path.write_text("".join(text + "\n" for text in texts))
    return path


def in_layout(path: Path, texts: Sequence[str]) -> Path:
    """Write texts in the layout, and packed as, the name tells; a table has a column ``text``."""
    match format_of(path):
        case FileFormat.PARQUET:
            pq.write_table(pa.table({"text": pa.array(texts, pa.string())}), path)
            return path
        case FileFormat.TEXT:
            lines = list(texts)
        case FileFormat.TSV:
            lines = ["text", *texts]
        case FileFormat.CSV:
            lines = ["text", *('"' + text.replace('"', '""') + '"' for text in texts)]
        case FileFormat.JSONL:
            lines = [json.dumps({"text": text}) for text in texts]
    content = "".join(line + "\n" for line in lines).encode()
    match path.suffix:
        case ".gz":
            path.write_bytes(gzip.compress(content))
        case ".zst":
            with pa.CompressedOutputStream(str(path), "zstd") as stream:
                stream.write(content)
        case _:
            path.write_bytes(content)
    return path


def bytes_of(folder: Path) -> dict[str, bytes]:
    """Return every file of a finished folder but the lock, by name."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "lock"
    }
