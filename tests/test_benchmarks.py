"""The benchmarks' own arithmetic, and the table that is made from their records."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def test_the_table_is_what_the_records_say() -> None:
    command = [sys.executable, str(BENCHMARKS / "table.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_ways_take_turns_and_every_time_is_kept() -> None:
    import card

    order: list[str] = []
    ways = {"a": lambda: order.append("a"), "b": lambda: order.append("b")}
    seconds = card.in_turns(ways, repeats=2, pause=0)
    assert order == ["a", "b", "a", "b"]
    assert [len(times) for times in seconds.values()] == [2, 2]


def test_flops_are_those_of_the_matrices_written_out() -> None:
    from encode_speed import flops

    tokens, width = 9, 384
    projections = 2 * tokens * width * width * 4  # queries, keys, values, output
    feed_forward = 2 * tokens * width * 4 * width * 2
    attention = 2 * tokens * tokens * width * 2
    layer = projections + feed_forward + attention
    assert flops([tokens], width=width, layers=6, first_only=False) == pytest.approx(6 * layer)
    last = 2 * tokens * width * width * 2 + 2 * width * width * 2  # keys, values; query, output
    last += 2 * width * 4 * width * 2 + 2 * tokens * width * 2
    shortened = flops([tokens], width=width, layers=6, first_only=True)
    assert shortened == pytest.approx(5 * layer + last)


def test_every_candidate_is_the_plain_recipe_but_for_what_it_names(tmp_path: Path) -> None:
    from results_table import VARIANTS
    from variants import CANDIDATES

    from mirror_rt.training.config import TrainConfig

    plain: dict[str, Any] = {"corpus": "c", "base": "b", "out": tmp_path, "epochs": 1}
    plain |= VARIANTS["both"]
    before = TrainConfig(**plain).as_json()
    for options in CANDIDATES.values():
        now = TrainConfig(**(plain | options)).as_json()
        assert {name for name in now if now[name] != before[name]} == set(options)


def test_a_record_becomes_a_table_and_others_are_left_alone(tmp_path: Path) -> None:
    from table import generated

    record = {
        "name": "import_time", "date": "2026-01-02T03:04:05+00:00", "commit": "abc1234",
        "command": "python benchmarks/import_time.py", "repeats": 10,
        "machine": {"cpu": "A CPU", "cores": 2, "flags": ["avx2"]},
        "versions": {"onnxruntime": "1.0"},
        "milliseconds": {"import mirror_rt": {"median": 12.4}},
    }  # fmt: skip
    (tmp_path / "import_time.json").write_text(json.dumps(record))
    (tmp_path / "other.json").write_text('{"name": "other"}')
    text = generated(tmp_path)
    assert "| `import mirror_rt` | 12 |" in text
    assert "A CPU, 2 cores (avx2), commit abc1234, 2026-01-02" in text
    assert "other" not in text
