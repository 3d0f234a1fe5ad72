"""Finding strings that were embedded before."""

from __future__ import annotations

from pathlib import Path

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
