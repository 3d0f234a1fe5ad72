"""``mirror-rt evaluate`` from the command line."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import huggingface_hub
import pytest
from typer.testing import CliRunner

from mirror_rt.evaluation import link_report, suite
from mirror_rt.knowledge import KnowledgeBase
from mirror_rt.training.checkpoint import TorchEncoder
from mirror_rt.types import Pooling
from mirror_rt_cli.app import app
from tests.tiny import NAMES

KB = (
    "id\tname\tkind\nH:1\tshort stature\tlabel\nH:1\tsmall height\texact\n"
    "H:2\tliver cancer\tlabel\nH:3\tacute cough\tlabel\n"
)
GOLD = "mention\tid\nShort Stature\tH:1\nliver cancer\tH:2\nlung tumor\tH:9\n"


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "kb.tsv").write_text(KB)
    (tmp_path / "gold.tsv").write_text(GOLD)
    return tmp_path


def run(*arguments: str | Path) -> str:
    result = CliRunner().invoke(app, ["evaluate", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result.stdout


def scores(output: str, row: int = 0) -> dict[str, object]:
    return json.loads(output)["reports"][0]["results"][row]


def test_exact_match_is_scored_against_names_and_gold(files: Path) -> None:
    gold = ("--gold", files / "gold.tsv", "-f", "json")
    out = run("baseline:exact", *gold, "--kb", files / "kb.tsv")
    found = scores(out)
    assert found["scores"]["acc@1"] == pytest.approx(2 / 3)  # the lookup normalizes case
    assert found["items"] == 3
    assert "1 of 3 mentions without a right id" in found["note"]


def test_a_bundle_and_a_knowledge_base_built_with_it_are_evaluated(
    files: Path, tiny_bundle: Path
) -> None:
    KnowledgeBase.build(tiny_bundle, files / "kb.tsv", files / "kb").close()
    gold = ("--gold", files / "gold.tsv", "-f", "json")
    of_base = scores(run(files / "kb", *gold))
    of_bundle = scores(run(tiny_bundle, *gold, "--kb", files / "kb.tsv"))
    assert of_base["scores"]["acc@1"] == of_bundle["scores"]["acc@1"] == pytest.approx(2 / 3)
    unseen = scores(run(files / "kb", *gold), row=1)
    assert (unseen["task"], unseen["items"], unseen["score"]) == ("gold, unseen", 1, 0.0)
    # It has learned no threshold from so few names: a table of them would be empty.
    answer = run(files / "kb", *gold[:2], "-f", "table")
    assert "mirror-rt calibrate" in " ".join(answer.split())
    assert "probability from" not in answer


def test_models_stand_side_by_side_in_a_table(files: Path) -> None:
    out = run(
        "baseline:exact", "--gold", files / "gold.tsv", "--kb", files / "kb.tsv",
        "--compare", "baseline:char-ngram", "--format", "table",
    )  # fmt: skip
    row = next(line for line in out.splitlines() if "acc@1" in line)
    assert row.split("  ")[0] == "gold"
    assert row.split()[1:4] == ["3", "acc@1", ".667"]
    assert row.count(".667 [.208, .939]") == 2


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (("baseline:exact",), "--gold"),
        (("baseline:exact", "--gold", "gold.tsv", "--tasks", "sts"), "--tasks goes with --data"),
        (("baseline:exact", "--data", ".", "--kb", "kb.tsv"), "goes with --gold"),
        (("baseline:exact", "--data", ".", "--id-column", "cui"), "goes with --gold"),
        (("baseline:exact", "--data", ".", "--mention-column", "m"), "goes with --gold"),
        (
            ("baseline:exact", "--data", ".", "--tasks", "sts", "--convention", "entity"),
            "no linking",
        ),
        (("baseline:exact", "--data", "no"), "no: no such folder"),
        (("baseline:exact", "--data", ".", "--tasks", "sts99"), "no such task"),
        (("baseline:exact", "--gold", "gold.tsv"), "--kb FILE"),
        (("baseline:nothing", "--gold", "gold.tsv", "--kb", "kb.tsv"), "there are: baseline:"),
        (("kb.tsv", "--gold", "gold.tsv", "--kb", "kb.tsv"), "is a file"),
        ((".", "--gold", "gold.tsv", "--kb", "kb.tsv"), "neither a checkpoint"),
        (("baseline:exact", "--gold", "no.tsv", "--kb", "kb.tsv"), "no.tsv: no such file"),
        (("baseline:exact", "--gold", "gold.tsv", "--kb", "no.tsv"), "no.tsv: no such file"),
    ],
)
def test_a_usage_error_is_printed_on_one_line(
    files: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], fault: str
) -> None:
    monkeypatch.chdir(files)
    result = CliRunner().invoke(app, ["evaluate", *arguments])
    assert result.exit_code == 1
    assert fault in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("convention", "of_task", "of_own"), [("", 6, 2), ("entity", 2, 2), ("biosyn", 6, 6)]
)
def test_linking_uses_the_given_convention_or_the_default(
    tmp_path: Path, convention: str, of_task: int, of_own: int
) -> None:
    # The right name is that of the second entity, and the sixth of all.
    names = [*(("D1", f"fever {letter}") for letter in "abcde"), ("D2", "liver")]
    folder = tmp_path / "el_ncbi_disease"
    (folder / "processed_test").mkdir(parents=True)
    (folder / "test_dictionary.txt").write_text("".join(f"{i}||{name}\n" for i, name in names))
    (folder / "processed_test/a.concept").write_text("1||0|7||Disease||fever x||D2\n")
    (tmp_path / "kb.tsv").write_text("".join(f"{i}\t{n}\n" for i, n in [("id", "name"), *names]))
    (tmp_path / "gold.tsv").write_text("mention\tid\nfever x\tD2\n")
    requested = ["-f", "json", *(("--convention", convention) if convention else ())]
    data = ("--data", tmp_path, "--tasks", "ncbi")
    gold = ("--gold", tmp_path / "gold.tsv", "--kb", tmp_path / "kb.tsv")
    for arguments, rank in ((data, of_task), (gold, of_own)):
        found = scores(run("baseline:char-ngram", *arguments, *requested))["scores"]
        assert found["acc@5"] == float(rank <= 5)
        assert found["mrr"] == pytest.approx(1 / rank)


def test_a_model_of_the_hub_is_evaluated_by_its_name(
    files: Path, tiny_bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched: list[str] = []

    def snapshot_download(name: str, **_: object) -> str:
        fetched.append(name)
        return str(tiny_bert)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    gold = ("--gold", files / "gold.tsv", "--kb", files / "kb.tsv", "-f", "json")
    by_name, by_folder = (json.loads(run(m, *gold))["reports"] for m in ("a/tiny", tiny_bert))
    assert fetched == ["a/tiny"]
    assert by_name[0]["model"] == "a/tiny"
    assert by_name[0]["results"] == by_folder[0]["results"]


def test_a_knowledge_base_cannot_be_evaluated_by_names(files: Path, tiny_bundle: Path) -> None:
    KnowledgeBase.build(tiny_bundle, files / "kb.tsv", files / "kb").close()
    arguments = [str(files / "kb"), "--gold", str(files / "gold.tsv"), "--convention", "biosyn"]
    result = CliRunner().invoke(app, ["evaluate", *arguments])
    assert (result.exit_code, len(result.stderr.splitlines())) == (1, 1)
    assert "ranks entities, not names" in result.stderr


def test_a_base_is_compared_with_itself_under_the_given_pooling(
    tmp_path: Path, tiny_bert: Path
) -> None:
    (tmp_path / "wordsim").mkdir()
    rows = "".join(f"{a}\t{b}\t{i * 7 % 10}\n" for i, (a, b) in enumerate(pairwise(NAMES)))
    (tmp_path / "wordsim/simlex999.tsv").write_text(rows)
    data = ("--data", tmp_path, "--tasks", "simlex999", "-f", "json")
    out = run(tiny_bert, *data, "--pooling", "mean", "--compare", tiny_bert)
    requested, own = json.loads(out)["reports"]
    assert (requested["model"], own["model"]) == (f"{tiny_bert} (mean)", str(tiny_bert))
    for report, pooling in ((requested, Pooling.MEAN), (own, Pooling.CLS)):
        encoder = TorchEncoder.open(tiny_bert, pooling=pooling)
        (expected,) = suite.evaluate(encoder, data=tmp_path, tasks=["simlex999"]).results
        assert report["results"][0]["score"] == pytest.approx(expected.score, abs=1e-6)
    assert requested["results"][0]["score"] != own["results"][0]["score"]


def test_pooling_is_refused_where_it_changes_nothing_or_would_mislead(
    files: Path, tiny_bert: Path, tiny_bundle: Path
) -> None:
    gold = ["--gold", str(files / "gold.tsv"), "--kb", str(files / "kb.tsv"), "--pooling", "mean"]
    for model, extra, fault in (
        ("baseline:exact", [], "--pooling: is for a checkpoint or base, and baseline:exact is"),
        (tiny_bundle, [], f"--pooling: is for a checkpoint or base, and {tiny_bundle} is none"),
        (tiny_bert, ["--card"], "a card describes a model's own pooling"),
    ):
        result = CliRunner().invoke(app, ["evaluate", str(model), *gold, *extra])
        assert (result.exit_code, len(result.stderr.splitlines())) == (1, 1)
        assert fault in result.stderr


def test_mentions_without_an_id_are_counted(files: Path) -> None:
    (files / "gold.tsv").write_text(GOLD + "odd thing\t-1\nother\t\nthird\tnan\n")
    arguments = ["evaluate", "baseline:exact", "--gold", str(files / "gold.tsv")]
    result = CliRunner().invoke(app, [*arguments, "--kb", str(files / "kb.tsv"), "-f", "json"])
    assert scores(result.stdout)["items"] == 3
    assert result.stderr == f"{files / 'gold.tsv'}: 3 mentions without an id are left out\n"


def test_every_model_is_opened_before_any_is_evaluated(
    files: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def judge(*_: object, **__: object) -> None:
        pytest.fail("judged, and all of it lost")

    monkeypatch.setattr(suite, "evaluate", judge)
    monkeypatch.setattr(link_report, "evaluate_linking", judge)
    KnowledgeBase.build(tiny_bundle, files / "kb.tsv", files / "kb").close()
    data = ["--data", str(files)]
    gold = ["--gold", str(files / "gold.tsv"), "--kb", str(files / "kb.tsv")]
    for arguments, other, fault in (
        (data, files / "kb.tsv", "is a file"),
        (gold, files / "kb.tsv", "is a file"),
        (data, files / "kb", "a knowledge base is scored with --gold"),
    ):
        words = ["evaluate", "baseline:exact", *arguments, "--compare", str(other)]
        result = CliRunner().invoke(app, words)
        assert (result.exit_code, len(result.stderr.splitlines())) == (1, 1)
        assert fault in result.stderr
