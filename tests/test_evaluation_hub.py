"""Datasets of the hub: its columns in folders of this machine, read by ``datasets``."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from mirror_rt.errors import InputError
from mirror_rt.evaluation.hub import SOURCES, HubFile, fetch_missing
from mirror_rt.evaluation.suite import evaluate
from mirror_rt.evaluation.tasks import TASKS, select_tasks
from mirror_rt_cli.app import app
from tests.errors import about
from tests.kb import LetterEncoder

SCORED = [
    {"sentence1": "a\tcat", "sentence2": 'a "cat"\n', "score": 5.0},
    {"sentence1": "a dog", "sentence2": "the moon", "score": 1.2},
]

OPINIONS = [{"text": f"{'good' if i % 2 else 'awful'} day {i}", "label": i % 2} for i in range(20)]

# Columns as on the hub's pages; the values are invented.
HUB: dict[tuple[str, str | None], list[dict[str, Any]]] = {
    **{(f"mteb/sts{year}-sts", None): SCORED for year in range(12, 17)},
    ("mteb/sickr-sts", None): SCORED,
    ("mteb/stsbenchmark-sts", None): [
        {"split": "test", "genre": "news", "dataset": "x", "year": "2012", "sid": "1",
         "score": 2.5 + i, "sentence1": f"a {word}", "sentence2": "a cat"}
        for i, word in enumerate(("cat", "car"))
    ],
    ("nyu-mll/glue", "qnli"): [
        {"question": "What is a cat?", "sentence": "A cat is what?", "label": 0, "idx": 0},
        {"question": "What is it?", "sentence": "Zebras.", "label": 1, "idx": 1},
    ],
    ("cardiffnlp/tweet_eval", "hate"): OPINIONS,
    ("cardiffnlp/tweet_eval", "emotion"): [
        {"text": f"day {i % 4} of four", "label": i % 4} for i in range(20)
    ],
    ("tasksource/simlex", None): [
        {"word1": "old", "word2": other, "POS": "A", "SimLex999": score, "conc(w1)": 2.72,
         "conc(w2)": 2.81, "concQ": 2, "Assoc(USF)": 7.25, "SimAssoc333": 1, "SD(SimLex)": 0.41}
        for other, score in (("new", 1.58), ("olden", 9.2))
    ],
    ("cornell-movie-review-data/rotten_tomatoes", None): OPINIONS,
    ("SetFit/SentEval-CR", None): [
        row | {"label_text": "positive" if row["label"] else "negative"} for row in OPINIONS
    ],
    ("SetFit/subj", None): [
        row | {"label_text": "subjective" if row["label"] else "objective"} for row in OPINIONS
    ],
    ("rahulsikder223/SentEval-MPQA", None): [
        {"sentence": row["text"], "label": row["label"]} for row in OPINIONS
    ],
    ("SetFit/sst2", None): [
        row | {"label_text": "positive" if row["label"] else "negative"} for row in OPINIONS
    ],
    ("SetFit/TREC-QC", None): [
        {"text": f"{word} is {i} ?", "label": fine, "label_text": "", "label_original": code,
         "label_coarse": coarse, "label_coarse_text": "", "label_coarse_original": code[:4]}
        for i in range(10)
        for word, fine, code, coarse in (("How", 0, "DESC:manner", 0), ("Who", 6, "ENTY:x", 1))
    ],
    ("nyu-mll/glue", "mrpc"): [
        {"sentence1": f"s {i}", "sentence2": f"s {i + i % 2}", "label": i % 2, "idx": i}
        for i in range(20)
    ],
}  # fmt: skip


# The hub's label columns are class labels: numbers with names.
CLASSES = {
    ("nyu-mll/glue", "qnli"): ["entailment", "not_entailment"],
    ("nyu-mll/glue", "mrpc"): ["not_equivalent", "equivalent"],
    ("cardiffnlp/tweet_eval", "hate"): ["non-hate", "hate"],
    ("cardiffnlp/tweet_eval", "emotion"): ["anger", "joy", "optimism", "sadness"],
    ("cornell-movie-review-data/rotten_tomatoes", None): ["neg", "pos"],
}
SPLITS = ("train", "validation", "test")
FEWER = {
    "tasksource/simlex": ("train",),
    **dict.fromkeys(
        ("SetFit/SentEval-CR", "SetFit/subj", "rahulsikder223/SentEval-MPQA", "SetFit/TREC-QC"),
        ("train", "test"),
    ),
}
"""Datasets that lack splits."""

RATED = [
    {"id": str(i), "document_id": str(i), "text_1": left, "text_2": right, "label": label}
    for i, (left, right, label) in enumerate(
        (("Glaucoma", "Fibrillation", "279.0"), ("Carbatrol", "Dilantin", "370.5"))
    )
]
POSTS = [
    {"cui": "271782001", "medical_concept": "Drowsy", "social_media_text": "drowsy all day"},
    {"cui": "22253000", "medical_concept": "Pain", "social_media_text": "pain"},
]

# For datasets that are scripts, the hub keeps a copy: a folder of Parquet for each split.
EXPORTED: dict[tuple[str, str], dict[str, list[dict[str, Any]]]] = {
    ("bigbio/umnsrs", "umnsrs_similarity_bigbio_pairs"): {"train": RATED},
    ("bigbio/umnsrs", "umnsrs_relatedness_bigbio_pairs"): {"train": RATED[::-1]},
    ("bigbio/mayosrs", "mayosrs_bigbio_pairs"): {
        "train": [row | {"label": str(i)} for i, row in enumerate(RATED)]
    },
    ("bigbio/mayosrs", "mayosrs_source"): {"train": [{"text_1": "x", "code_1": "C0"}]},
    ("bigbio/ask_a_patient", "ask_a_patient_source"): {
        f"{split}_{fold}": POSTS[:held]
        for split, held in (("train", 1), ("validation", 1), ("test", 2))
        for fold in range(10)
    },
}


@pytest.fixture
def mirrored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write datasets in the hub's layout to the working directory, where ``datasets`` finds them.

    A configuration is a folder of Parquet files, named as in the hub's own conversions.
    """
    datasets = pytest.importorskip("datasets")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()
    for (name, config), content in HUB.items():
        features = datasets.Dataset.from_list(content).features
        if (name, config) in CLASSES:
            features["label"] = datasets.ClassLabel(names=CLASSES[name, config])
        for split in FEWER.get(name, SPLITS):
            part = datasets.Dataset.from_list(content, features=features)
            part.to_parquet(tmp_path / name / (config or "data") / f"{split}-00000.parquet")
    for name in {name for name, _ in HUB}:
        configs = [config for held, config in HUB if held == name]
        card = [
            {"config_name": c or "default", "data_files": [
                {"split": split, "path": f"{c or 'data'}/{split}-*"}
                for split in FEWER.get(name, SPLITS)
            ]} for c in configs
        ]  # fmt: skip
        (tmp_path / name / "README.md").write_text(f"---\nconfigs: {json.dumps(card)}\n---\n")
    for (name, exported), splits in EXPORTED.items():
        script = tmp_path / name / f"{name.partition('/')[2]}.py"
        script.parent.mkdir(parents=True, exist_ok=True)
        script.touch()
        for split, content in splits.items():
            file = tmp_path / "refs/convert/parquet" / name / exported / split / "0000.parquet"
            datasets.Dataset.from_list(content).to_parquet(file)
    load = datasets.load_dataset

    def of_revision(path: str, revision: str = "", **requested: object) -> object:
        # The library uses the revision only on the hub itself.
        return load(str(tmp_path / revision / path) if revision else path, **requested)

    monkeypatch.setattr(datasets, "load_dataset", of_revision)
    return tmp_path


def test_every_source_is_read_by_the_library_and_scored(mirrored: Path) -> None:
    data = mirrored / "data"
    names = [task.name for task in TASKS if set(task.files) & set(SOURCES)]
    written = fetch_missing(select_tasks(names, TASKS), data)
    assert {path.relative_to(data).as_posix() for path in written} == set(SOURCES)
    found = {r.task: r for r in evaluate(LetterEncoder(), data=data, tasks=names).results}
    assert {r.status.value for r in found.values()} == {"scored"}, found
    assert found["qnli"].score == 1.0
    assert set(found["sts average"].scores) == {"all"}  # the years have no subsets
    items = {name: found[name].items for name in ("mr", "cr", "subj", "mpqa", "sst2", "mrpc")}
    # Folds use all splits together; with splits, only the test part is scored.
    assert items == {"mr": 60, "cr": 40, "subj": 40, "mpqa": 40, "sst2": 20, "mrpc": 20}
    assert len((data / "senteval/MRPC.train.tsv").read_text().splitlines()) == 1 + 40
    assert (data / "senteval/TREC.test.tsv").read_text().startswith("label\ttext\nDESC\tHow is 0 ?")
    rated = "word1\tword2\tscore\nGlaucoma\tFibrillation\t279.0\nCarbatrol\tDilantin\t370.5\n"
    assert (data / "wordsim/umnsrs_sim.tsv").read_text() == rated
    # The test parts of ten folds together; each concept has its name once, whatever fold it is in.
    concepts = (data / "el_askapatient/test_dictionary.txt").read_text()
    assert concepts == "id\tname\n271782001\tDrowsy\n22253000\tPain\n"
    assert (found["askapatient"].items, found["askapatient"].score) == (20, 1.0)


def test_a_dataset_that_is_not_available_is_reported_on_one_line(
    mirrored: Path, tmp_path: Path
) -> None:
    shutil.rmtree(mirrored / "mteb/sts13-sts")  # now only the hub could have it
    with pytest.raises(InputError, check=about("mteb/sts13-sts")):
        fetch_missing(select_tasks(["sts13"], TASKS), tmp_path / "data")
    assert not list((tmp_path / "data").rglob("*.*"))


def rows(source: HubFile) -> Iterator[Mapping[str, Any]]:
    yield from HUB[source.dataset, source.config]


def test_a_fetched_set_is_written_once_and_scored_like_any_other(tmp_path: Path) -> None:
    names = ["sts12", "qnli", "tweets-hate", "glue-mrpc"]
    written = fetch_missing(select_tasks(names, TASKS), tmp_path, rows=rows)
    assert len(written) == 1 + 1 + 3 + 2
    assert (tmp_path / "sts/STS12.test.tsv").read_text() == (
        'score\tsentence1\tsentence2\n5.0\ta cat\ta "cat"\n1.2\ta dog\tthe moon\n'
    )
    report = evaluate(LetterEncoder(), data=tmp_path, tasks=names)
    assert {result.status.value for result in report.results} == {"scored"}
    assert next(r for r in report.results if r.task == "qnli").score == 1.0
    assert fetch_missing(select_tasks(names, TASKS), tmp_path, rows=rows) == []


def test_every_source_is_a_file_of_some_task() -> None:
    assert set(SOURCES) <= {file for task in TASKS for file in task.files}


def test_a_task_names_the_hub_where_the_hub_has_it_and_another_place_anyway() -> None:
    for task in TASKS:
        datasets = {SOURCES[file].dataset for file in task.files if file in SOURCES}
        assert re.findall(r"or --hub \((.*)\)$", task.where) == list(datasets), task.name
        assert task.where.partition(", or --hub (")[0], task.name


def test_a_dataset_with_other_columns_leaves_no_file_and_costs_no_other(tmp_path: Path) -> None:
    def other(source: HubFile) -> Iterator[Mapping[str, Any]]:
        yield {"sentence1": "a", "sentence2": "b", "score": 1.0}
        if source.dataset == "mteb/sts12-sts":
            yield {"text_a": "a", "text_b": "b", "similarity": 1.0}

    answer: list[str] = []
    tasks = select_tasks(["sts12", "sts13"], TASKS)
    written = fetch_missing(tasks, tmp_path, rows=other, progress=answer.append)
    assert written == list(tmp_path.rglob("*.*")) == [tmp_path / "sts/STS13.test.tsv"]
    assert "mteb/sts12-sts: has no column score" in answer[0]
    assert answer[1:] == [f"fetched {written[0]}"]


DICTIONARY, MENTIONS = "el_askapatient/test_dictionary.txt", "el_askapatient/processed_test"


@pytest.mark.parametrize(("own", "lacking"), [(DICTIONARY, MENTIONS), (MENTIONS, DICTIONARY)])
def test_half_a_linking_set_is_not_filled_up_with_another_version(
    tmp_path: Path, own: str, lacking: str
) -> None:
    (tmp_path / own).parent.mkdir()
    (tmp_path / own).write_text("mine")
    answer: list[str] = []
    tasks = select_tasks(["askapatient", "sts12"], TASKS)
    written = fetch_missing(tasks, tmp_path, rows=rows, progress=answer.append)
    assert written == [tmp_path / "sts/STS12.test.tsv"]
    assert answer[0].startswith(f"{tmp_path / own} is there, {lacking} not; ")
    (tmp_path / lacking).write_text("mine too")
    assert fetch_missing(tasks, tmp_path, rows=rows, progress=answer.append) == []
    assert len(answer) == 2


def test_a_linking_set_comes_whole_or_not_at_all(tmp_path: Path) -> None:
    def broken(source: HubFile) -> Iterator[Mapping[str, Any]]:
        yield from POSTS
        if source.split == "test":
            raise InputError("the hub does not give it")

    answer: list[str] = []
    tasks = select_tasks(["askapatient"], TASKS)
    assert fetch_missing(tasks, tmp_path, rows=broken, progress=answer.append) == []
    assert answer == ["the hub does not give it"]
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    written = fetch_missing(tasks, tmp_path, rows=lambda source: POSTS)
    assert written == [tmp_path / DICTIONARY, tmp_path / MENTIONS]


def test_a_dataset_that_the_hub_no_longer_gives_is_reported_and_missing(
    mirrored: Path, tmp_path: Path
) -> None:
    # A folder without data, which the library finds first, gives the same error as the hub.
    for file in (mirrored / "SetFit/subj/data").iterdir():
        file.unlink()
    own = tmp_path / "data/wordsim/mine.tsv"
    own.parent.mkdir(parents=True)
    own.write_text("cat\tcats\t5\ncat\tmoon\t1\n")
    arguments = ["evaluate", "baseline:char-ngram", "--data", str(tmp_path / "data"), "--hub"]
    result = CliRunner().invoke(app, [*arguments, "--tasks", "subj,sts12,mine", "-f", "json"])
    assert result.exit_code == 0, result.output
    assert "SetFit/subj: the hub does not give it" in result.stderr
    assert "get the data elsewhere" in result.stderr
    found = {r["task"]: r["status"] for r in json.loads(result.stdout)["reports"][0]["results"]}
    assert found == {"sts12": "scored", "subj": "missing", "mine": "scored"}
