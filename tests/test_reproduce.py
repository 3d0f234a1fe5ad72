"""The paper's rows, compared with ours."""

from __future__ import annotations

import json
import shutil
from itertools import pairwise
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mirror_rt.evaluation.paper import PaperTable, paper_reports
from mirror_rt.evaluation.report import cell
from mirror_rt.evaluation.result import Report, Result, Status, mean_report
from mirror_rt.evaluation.tasks import TASKS
from mirror_rt_cli.app import app
from tests import schemas
from tests.tiny import NAMES


def test_the_mean_over_seeds_has_the_sample_spread() -> None:
    def report(score: float | None) -> Report:
        lost = Result(task="b", metric="x", status=Status.MISSING, note="get it")
        return Report(model="m", results=(Result(task="a", metric="x", scores={"x": score}), lost))

    mean = mean_report("three", [report(0.1), report(0.2), report(0.6)])
    assert mean.results[0].scores["x"] == pytest.approx(0.3)
    assert mean.results[0].spreads["x"] == pytest.approx(0.2645751)
    assert cell(mean.results[0], "x") == ".300 ±.265"
    assert mean.results[1].status is Status.MISSING
    undefined = mean_report("two", [report(0.1), report(None)])
    assert undefined.results[0].scores == {"x": None}
    assert Report.from_dict(json.loads(json.dumps(mean.to_dict()))) == mean


@pytest.mark.parametrize("table", PaperTable)
@pytest.mark.parametrize("base", ["bert-base-uncased", "roberta-base", "my/model"])
def test_the_papers_tasks_are_tasks_of_ours(table: PaperTable, base: str) -> None:
    known = {task.name for task in TASKS} | {"sts average"}
    before, after = paper_reports(table, base)
    for report in (before, after):
        assert {result.task for result in report.results} <= known
    assert all(b.score < a.score for b, a in zip(before.results, after.results, strict=True)), (
        "the paper gains everywhere"
    )


def test_the_average_in_the_papers_sts_rows_is_the_mean_of_the_seven() -> None:
    for base in ("bert", "roberta"):
        for report in paper_reports(PaperTable.STS, base):
            *seven, average = (result.score for result in report.results)
            assert sum(seven) / 7 == pytest.approx(average, abs=1.1e-3)


def test_reproduce_trains_each_seed_once_and_prints_four_columns(
    tmp_path: Path, tiny_bert: Path
) -> None:
    strings = [f"{a} {b}" for a in NAMES for b in NAMES[:8]]  # at least a batch of 200
    (tmp_path / "names.txt").write_text("\n".join(strings))
    (tmp_path / "data/sts").mkdir(parents=True)
    rows = "".join(f"{i % 6}\t{a}\t{b}\n" for i, (a, b) in enumerate(pairwise(NAMES)))
    (tmp_path / "data/sts/STS12.test.tsv").write_text("score\tsentence1\tsentence2\n" + rows)
    base = shutil.copytree(tiny_bert, tmp_path / "tiny-bert")
    (base / "manifest.json").write_text('{"kind": "raw_mlm"}')  # as benchmarks/raw_mlm.py writes
    arguments = [
        "reproduce", "--base", str(base), "--data", str(tmp_path / "data"),
        "--out", str(tmp_path / "out"), "--corpus", str(tmp_path / "names.txt"),
        "--seeds", "1,2", "--max-steps", "1", "--device", "cpu", "-f", "json",
    ]  # fmt: skip
    first = CliRunner().invoke(app, arguments)
    assert first.exit_code == 0, first.output
    schemas.check("evaluate", [json.loads(first.stdout)])
    reports = json.loads(first.stdout)["reports"]
    assert [r["model"] for r in reports] == [
        "paper, BERT mean", "tiny-bert mean, here", "paper, + Mirror", "+ Mirror, here (2 seeds)",
    ]  # fmt: skip
    assert [r["results"][0]["task"] for r in reports] == ["sts12"] * 4
    # The paper's row has only our tasks; our missing tasks say where to get the data.
    assert [len(r["results"]) for r in reports] == [1, 7, 1, 7]
    for result in (*reports[1]["results"][1:], *reports[3]["results"][1:]):
        assert (result["status"], result["score"]) == ("missing", None)
        assert "get it from" in result["note"]
    assert reports[3]["results"][0]["spreads"]["all"] >= 0.0
    stamps = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*.safetensors")}
    assert len(stamps) == 2
    again = CliRunner().invoke(app, arguments)
    assert again.stdout == first.stdout
    for_people = CliRunner().invoke(app, [*arguments[:-2], "--format", "table"])
    assert for_people.exit_code == 0
    assert "sickr: no sts/SICK.test.tsv" in for_people.stderr
    for width in ("80", "200"):
        answer = CliRunner().invoke(app, [*arguments[:-2], "-f", "table"], env={"COLUMNS": width})
        lines = answer.stdout.splitlines()
        assert max(map(len, lines)) <= int(width)
        assert sum("sts12" in line for line in lines) == 1, "one table, paper beside ours"
    assert stamps == {p: p.stat().st_mtime_ns for p in stamps}
    other = CliRunner().invoke(app, [*arguments, "--max-steps", "2"])
    assert other.exit_code == 1
    assert "was trained with other settings" in other.stderr


@pytest.mark.parametrize(
    ("broken", "content"),
    [
        ("data/sts/STS12.test.tsv", "score\tsentence1\tsentence2\n9\ta\tb\n"),
        ("data/sts/STS12.test.tsv", "no\theader\n"),
        ("names.txt", ""),
        ("names.txt", None),
        ("base/config.json", "{"),
        ("data/sts", None),
    ],
)
def test_reproduce_looks_at_every_file_before_it_trains(
    tmp_path: Path, tiny_bert: Path, broken: str, content: str | None
) -> None:
    (tmp_path / "names.txt").write_text("\n".join(f"{a} {b}" for a in NAMES for b in NAMES[:8]))
    (tmp_path / "data/sts").mkdir(parents=True)
    rows = "".join(f"{i % 6}\t{a}\t{b}\n" for i, (a, b) in enumerate(pairwise(NAMES)))
    (tmp_path / "data/sts/STS12.test.tsv").write_text("score\tsentence1\tsentence2\n" + rows)
    shutil.copytree(tiny_bert, tmp_path / "base")
    path = tmp_path / broken
    if content is not None:
        path.write_text(content)
    elif path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
    done = CliRunner().invoke(app, [
        "reproduce", "--base", str(tmp_path / "base"), "--data", str(tmp_path / "data"),
        "--out", str(tmp_path / "out"), "--corpus", str(tmp_path / "names.txt"), "--seeds", "1",
        "--max-steps", "1", "--device", "cpu",
    ])  # fmt: skip
    assert (done.exit_code, done.stderr.count("\n")) == (1, 1), done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("table", "corpus", "task", "settings"),
    [
        ("sts", "mirror_corpus/stsbenchmark_train_10k_sents_random_sampled.txt", "sts12",
         {"preset": "sentence", "temperature": 0.04, "span_length": 5, "max_length": 50}),
        ("lexical", "mirror_corpus/en_words_top_10k.txt", "multisimlex-eng",
         {"preset": "word", "temperature": 0.2, "span_length": 0, "max_length": 25}),
        ("linking", "el_ncbi_disease/train_dictionary.txt", "ncbi",
         {"preset": "name", "temperature": 0.04, "span_length": 2, "max_length": 25}),
    ],
)  # fmt: skip
def test_each_table_is_trained_for_with_the_papers_settings(
    tmp_path: Path, tiny_bert: Path, table: str, corpus: str, task: str, settings: dict[str, object]
) -> None:
    strings = [f"{a} {b}" for a in NAMES for b in NAMES[:8]]
    names = "".join(f"D{i}||{string}\n" for i, string in enumerate(strings))
    pairs = [f"{a}\t{b}\t{i % 6}\n" for i, (a, b) in enumerate(pairwise(NAMES))]
    for file, text in {
        corpus: names if table == "linking" else "\n".join(strings),
        "el_ncbi_disease/test_dictionary.txt": names,
        "el_ncbi_disease/processed_test/a.concept": f"1||0|7||Disease||{strings[3]}||D3\n",
        "multisimlex/ENG.tsv": "".join(pairs),
        "sts/STS12.test.tsv": "sentence1\tsentence2\tscore\n" + "".join(pairs),
    }.items():
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text(text)
    result = CliRunner().invoke(app, [
        "reproduce", "--base", str(tiny_bert), "--data", str(tmp_path), "--table", table,
        "--out", str(tmp_path / "out"), "--seeds", "5", "--max-steps", "1", "--device", "cpu",
        "-f", "json",
    ])  # fmt: skip
    assert result.exit_code == 0, result.output
    scored = [
        [r["task"] for r in report["results"] if r["status"] == "scored"]
        for report in json.loads(result.stdout)["reports"]
    ]
    assert [tasks[0] for tasks in scored] == [task] * 4
    config = json.loads((tmp_path / "out/seed-5/training.json").read_text())["config"]
    settings |= {"max_pairs": 10_000, "seed": 5, "batch_size": 200, "lr": 2e-5, "dropout": 0.1}
    assert config == config | settings | {"corpus": str(tmp_path / corpus), "pairs": {"mirror": 1}}


def test_english_words_stand_beside_the_papers_english_alone(
    tmp_path: Path, tiny_bert: Path
) -> None:
    strings = "\n".join(f"{a} {b}" for a in NAMES for b in NAMES[:8])
    for name in ("mirror_corpus/en_words_top_10k.txt", "own.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(strings)
    (tmp_path / "multisimlex").mkdir()
    rows = "".join(f"{a}\t{b}\t{i % 6}\n" for i, (a, b) in enumerate(pairwise(NAMES)))
    for code in ("ENG", "FRA"):
        (tmp_path / f"multisimlex/{code}.tsv").write_text(rows)
    arguments = [
        "reproduce", "--base", str(tiny_bert), "--data", str(tmp_path), "--table", "lexical",
        "--seeds", "1", "--max-steps", "1", "--device", "cpu", "-f", "json",
    ]  # fmt: skip
    for extra, rows_of_the_paper in (
        ([], ["multisimlex-eng"]),
        (["--corpus", str(tmp_path / "own.txt")], ["multisimlex-eng", "multisimlex-fra"]),
    ):
        out = ["--out", str(tmp_path / f"out{len(extra)}")]
        result = CliRunner().invoke(app, [*arguments, *out, *extra])
        assert result.exit_code == 0, result.output
        tasks = [
            [r["task"] for r in m["results"] if r["status"] == "scored"]
            for m in json.loads(result.stdout)["reports"]
        ]
        assert tasks[0] == tasks[2] == rows_of_the_paper
        assert tasks[1] == tasks[3] == ["multisimlex-eng", "multisimlex-fra"]


def test_a_run_without_strings_or_data_is_refused(tmp_path: Path, tiny_bert: Path) -> None:
    common = ["reproduce", "--base", str(tiny_bert), "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(app, [*common, "--data", str(tmp_path)])
    assert (result.exit_code, len(result.stderr.splitlines())) == (1, 1)
    assert "--corpus" in result.stderr
    # Before hours of training, not after them.
    (tmp_path / "names.txt").write_text("\n".join(f"{a} {b}" for a in NAMES for b in NAMES[:8]))
    common += ["--corpus", str(tmp_path / "names.txt"), "--max-steps", "1"]
    for data, fault in (("none", "no such folder"), ("", "has no file of the tasks sts12, ")):
        result = CliRunner().invoke(app, [*common, "--data", str(tmp_path / data)])
        assert (result.exit_code, len(result.stderr.splitlines())) == (1, 1)
        assert fault in result.stderr
    assert not (tmp_path / "out").exists()


def test_an_existing_checkpoint_of_another_run_is_an_error_before_training(
    tmp_path: Path, tiny_bert: Path
) -> None:
    (tmp_path / "names.txt").write_text("\n".join(f"{a} {b}" for a in NAMES for b in NAMES[:8]))
    (tmp_path / "out/seed-2").mkdir(parents=True)
    result = CliRunner().invoke(app, [
        "reproduce", "--base", str(tiny_bert), "--out", str(tmp_path / "out"), "--seeds", "1,2",
        "--corpus", str(tmp_path / "names.txt"), "--max-steps", "1", "--data", str(tmp_path),
    ])  # fmt: skip
    assert (result.exit_code, len(result.stderr.splitlines())) == (1, 1)
    assert "seed-2: is in the way and not a checkpoint of ours" in result.stderr
    assert not (tmp_path / "out/seed-1").exists()
