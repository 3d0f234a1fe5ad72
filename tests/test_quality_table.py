"""The numbers in the pages on training are those of the records."""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest

from mirror_rt.evaluation.report import cell
from mirror_rt.evaluation.result import Report

ROOT = Path(__file__).resolve().parent.parent
EXPERIMENTS = (ROOT / "docs/experiments.md").read_text(encoding="utf-8")


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))


def record_of(name: str) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((ROOT / f"benchmarks/results/{name}.json").read_text())
    return record


def test_the_page_of_results_is_made_from_its_record() -> None:
    from quality_table import NEXT, render

    page = (ROOT / "docs/results.md").read_text(encoding="utf-8")
    assert page.partition(f"\n{NEXT}")[0] == render(record_of("results_table"))


def test_the_numbers_of_twice_as_many_pairs_are_those_of_their_record() -> None:
    from quality_table import found

    both = Report.from_dict(record_of("results_table_both")["reports"][-1])
    paragraphs = (line for line in EXPERIMENTS.splitlines() if not line.startswith("|"))
    (output,) = (line for line in paragraphs if "results_table_both.json" in line)
    for task in ("hpo", "esco", "ncbi-kb", "ncbi-kb, unseen"):
        scores = (cell(found(both, task), metric) for metric in ("acc@1", "acc@5"))
        assert " and ".join(scores).replace("±", "± ") in output, task


def test_the_table_of_candidates_for_training_is_that_of_their_record() -> None:
    from quality_table import found

    reports = {r["model"]: Report.from_dict(r) for r in record_of("variants")["reports"]}
    columns = "before plain repetition queue whitening plain-2 hard-negatives-2".split()
    for row, task, metric in (
        ("STS12 (all)", "sts12", "all"), ("STS13 (all)", "sts13", "all"), ("STS-B", "stsb", "all"),
        ("SimLex-999", "simlex999", "all"), ("UMNSRS", "umnsrs", "all"),
        ("MayoSRS", "mayosrs", "all"), ("NCBI, acc@1", "ncbi-kb", "acc@1"),
        ("HPO held-out synonyms, acc@1", "hpo", "acc@1"),
        ("HPO held-out synonyms, acc@5", "hpo", "acc@5"),
    ):  # fmt: skip
        cells = (cell(found(reports[name], task), metric) for name in columns)
        assert f"| {' | '.join([row, *cells])} |" in EXPERIMENTS.splitlines()


def test_a_record_names_the_commit_that_was_there_before_the_first_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import quality_table

    commits = ["before"]

    def run(*_: object, **__: object) -> Report:
        commits.append("after")
        return Report(model="m", results=())

    for name in ("settle", "keep", "evaluate_model"):
        monkeypatch.setattr(quality_table, name, run)
    monkeypatch.setattr(quality_table, "demo_model", lambda: tmp_path)
    monkeypatch.setattr(quality_table, "provenance", lambda *_: {"commit": commits[-1]})
    args = Namespace(variants=[], seeds=[], names=[], data=tmp_path, max_pairs=1, small=False)
    record = quality_table.measure(args)
    assert (record["commit"], len(record["reports"])) == ("before", 2)
