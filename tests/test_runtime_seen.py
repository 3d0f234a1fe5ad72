"""Finding strings that were embedded before."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from mirror_rt.runtime import seen
from mirror_rt.runtime.seen import Seen, digests, write_sidecar


@pytest.mark.parametrize("at_a_time", [7, 1_000_000])
def test_every_string_is_found_where_a_dictionary_finds_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_a_time: int
) -> None:
    monkeypatch.setattr(seen, "RANGE", at_a_time)
    shards = [[f"name {i % 40}" for i in range(begin, begin + 30)] for begin in (0, 20, 60)]
    first: dict[str, tuple[int, int]] = {}
    sources = []
    for number, texts in enumerate(shards):
        write_sidecar(tmp_path / f"{number}.npy", digests(texts))
        sources.append((tmp_path / f"{number}.parquet", tmp_path / f"{number}.npy"))
        for row, text in enumerate(texts):
            first.setdefault(text, (number, row))
    known = Seen.merge(tmp_path / "merged", sources)
    wanted = [f"name {i}" for i in range(50)] + ["", "name 3"]
    shards_N, rows_N = known.find(digests(wanted))
    found = list(zip(shards_N.tolist(), rows_N.tolist(), strict=True))
    assert found == [first.get(text, (-1, -1)) for text in wanted]


def test_nothing_is_found_among_nothing(tmp_path: Path) -> None:
    shards_N, _ = Seen.merge(tmp_path / "merged", []).find(digests(["fever"]))
    assert shards_N.tolist() == [-1]


def test_no_more_strings_than_a_range_are_held_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seen, "RANGE", 5000)
    texts, sources = [f"name {number}" for number in range(100_000)], []
    for number in range(20):
        write_sidecar(tmp_path / f"{number}.npy", digests(texts[number::20]))
        sources.append((tmp_path / f"{number}.parquet", tmp_path / f"{number}.npy"))
    tracemalloc.start()
    known = Seen.merge(tmp_path / "merged", sources)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 24 * len(texts)
    memmap, mapped = np.memmap, []

    def counted(*arguments: object, **options: object) -> object:
        entries = memmap(*arguments, **options)
        mapped.append(len(entries))
        return entries

    monkeypatch.setattr(np, "memmap", counted)
    shards_N, rows_N = known.find(digests(texts))
    assert (rows_N * 20 + shards_N).tolist() == list(range(len(texts)))
    assert sum(mapped) == len(texts)
    assert max(mapped) < 2 * 5000


FEW_FILES = """
import resource, sys
from pathlib import Path
from mirror_rt.runtime.seen import Seen, digests, write_sidecar

folder, sources = Path(sys.argv[1]), []
for number in range(100):
    write_sidecar(folder / f"{number}.npy", digests([f"name {number} {row}" for row in range(9)]))
    sources.append((folder / f"{number}.parquet", folder / f"{number}.npy"))
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
known = Seen.merge(folder / "merged", sources)
shards_N, rows_N = known.find(digests([f"name {number} 7" for number in range(100)]))
print(shards_N.tolist() == list(range(100)), set(rows_N.tolist()))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="limits open files")
def test_there_may_be_more_shards_than_files_that_a_process_may_open(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FEW_FILES, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert done.stdout == "True {7}\n"
