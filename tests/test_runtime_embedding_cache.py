"""Finding strings that were embedded before."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mirror_rt.runtime.embedding_cache import EmbeddingCache


def shard_of(path: Path, texts: list[str]) -> Path:
    pq.write_table(pa.table({"text": texts}), path)
    return path


def test_every_string_is_found_where_a_dictionary_finds_it(tmp_path: Path) -> None:
    shards = [[f"name {i % 40}" for i in range(begin, begin + 30)] for begin in (0, 20, 60)]
    first: dict[str, tuple[int, int]] = {}
    for number, texts in enumerate(shards):
        for row, text in enumerate(texts):
            first.setdefault(text, (number, row))
    paths = [shard_of(tmp_path / f"{i}.parquet", texts) for i, texts in enumerate(shards)]
    known = EmbeddingCache.build(tmp_path / "seen of a %20 ?#.sqlite", paths)
    wanted = [f"name {i}" for i in range(50)] + ["", "name 3"]
    shards_N, rows_N = known.find(wanted)
    found = list(zip(shards_N.tolist(), rows_N.tolist(), strict=True))
    assert found == [first.get(text, (-1, -1)) for text in wanted]


def test_nothing_is_found_among_nothing(tmp_path: Path) -> None:
    shards_N, _ = EmbeddingCache.build(tmp_path / "seen", []).find(["fever"])
    assert shards_N.tolist() == [-1]


FEW_FILES = """
import resource, sys
from pathlib import Path
from mirror_rt.runtime.embedding_cache import EmbeddingCache
from tests.test_runtime_embedding_cache import shard_of

folder = Path(sys.argv[1])
shards = [
    shard_of(folder / f"{number}.parquet", [f"name {number} {row}" for row in range(9)])
    for number in range(100)
]
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
known = EmbeddingCache.build(folder / "seen", shards)
shards_N, rows_N = known.find([f"name {number} 7" for number in range(100)])
print(shards_N.tolist() == list(range(100)), set(rows_N.tolist()))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="limits open files")
def test_there_may_be_more_shards_than_files_that_a_process_may_open(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FEW_FILES, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert done.stdout == "True {7}\n"
