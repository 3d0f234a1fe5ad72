"""Sets from the hub, on fakes with the hub's own columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from mirror_rt.errors import InputError
from mirror_rt.evaluation.hub import SOURCES, fetch_missing
from mirror_rt.evaluation.suite import evaluate
from mirror_rt.evaluation.tasks import TASKS, choose
from tests.kb import LetterEncoder

# Columns as the hub's pages show them; values made up.
HUB: dict[tuple[str, str | None], list[dict[str, Any]]] = {
    ("mteb/sts12-sts", None): [
        {"sentence1": "a\tcat", "sentence2": 'a "cat"\n', "score": 5.0},
        {"sentence1": "a dog", "sentence2": "the moon", "score": 0.2},
    ],
    ("mteb/stsbenchmark-sts", None): [
        {"split": "test", "genre": "news", "dataset": "x", "year": "2012", "sid": "1",
         "score": 2.5, "sentence1": f"a {word}", "sentence2": "a cat"} for word in ("cat", "car")
    ],
    ("nyu-mll/glue", "qnli"): [
        {"question": "What is a cat?", "sentence": "A cat is what?", "label": 0, "idx": 0},
        {"question": "What is it?", "sentence": "Zebras.", "label": 1, "idx": 1},
    ],
    ("cardiffnlp/tweet_eval", "hate"): [
        {"text": f"{'good' if i % 2 else 'awful'} day {i}", "label": i % 2} for i in range(20)
    ],
    ("nyu-mll/glue", "mrpc"): [
        {"sentence1": f"s {i}", "sentence2": f"s {i + i % 2}", "label": i % 2, "idx": i}
        for i in range(20)
    ],
}  # fmt: skip


def rows(dataset: str, config: str | None, split: str) -> Iterator[Mapping[str, Any]]:
    yield from HUB[dataset, config]


def test_a_fetched_set_is_written_once_and_scored_like_any_other(tmp_path: Path) -> None:
    names = ["sts12", "qnli", "tweets-hate", "glue-mrpc"]
    written = fetch_missing(choose(names, TASKS), tmp_path, rows=rows)
    assert len(written) == 1 + 1 + 3 + 2
    assert (tmp_path / "sts/STS12.test.tsv").read_text() == (
        'score\tsentence1\tsentence2\n5.0\ta cat\ta "cat"\n0.2\ta dog\tthe moon\n'
    )
    report = evaluate(LetterEncoder(), data=tmp_path, tasks=names)
    assert {result.status.value for result in report.results} == {"scored"}
    assert next(r for r in report.results if r.task == "qnli").score == 1.0
    assert fetch_missing(choose(names, TASKS), tmp_path, rows=rows) == []


def test_every_source_is_a_file_of_some_task() -> None:
    assert set(SOURCES) <= {file for task in TASKS for file in task.files}


def test_a_dataset_with_other_columns_leaves_no_file(tmp_path: Path) -> None:
    def other(dataset: str, config: str | None, split: str) -> Iterator[Mapping[str, Any]]:
        yield {"sentence1": "a", "sentence2": "b", "score": 1.0}
        yield {"text_a": "a", "text_b": "b", "similarity": 1.0}

    with pytest.raises(InputError, match="mteb/sts12-sts: has no column score"):
        fetch_missing(choose(["sts12"], TASKS), tmp_path, rows=other)
    assert not list(tmp_path.rglob("*.tsv"))
