"""Fetch evaluation sets from the Hugging Face hub, once, as files of the suite's own layouts.

This runs only if the user requests it. The sets are written to the data folder, so the same reader
works for both, and the next run needs no network.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mirror_rt._extras import require
from mirror_rt.errors import InputError
from mirror_rt.evaluation.tasks import Task, TaskKind
from mirror_rt.staging import staging_file

__all__ = ["SOURCES", "HubFile", "Rows", "fetch_missing"]


@dataclass(frozen=True, slots=True, kw_only=True)
class HubFile:
    """The source of a file.

    Attributes:
        dataset: The hub's dataset.
        config: Its configuration, if it has several.
        split: Its split, or several with ``+`` between.
        columns: Our column for each of the hub's, in the order we write them.
        labels: What the hub's class numbers mean; empty keeps the numbers.
        exported: Whether the dataset is a script, which ``datasets`` no longer runs, and is read
            from the hub's own Parquet copy of its rows; the folds of a split come together.
        distinct: Whether equal lines are written once.
    """

    dataset: str
    config: str | None = None
    split: str = "test"
    columns: Mapping[str, str]
    labels: tuple[str, ...] = field(default=())
    exported: bool = False
    distinct: bool = False


Rows = Callable[[HubFile], Iterable[Mapping[str, Any]]]
"""Gives the hub's rows for one file of a task."""

_SCORED = {"score": "score", "sentence1": "sentence1", "sentence2": "sentence2"}
_PAIRED = {"label": "label", "sentence1": "sentence1", "sentence2": "sentence2"}
_LABELED = {"label": "label", "text": "text"}
_RATED = {"text_1": "word1", "text_2": "word2", "label": "score"}

SOURCES: Mapping[str, HubFile] = {
    **{
        f"sts/STS{year}.test.tsv": HubFile(dataset=f"mteb/sts{year}-sts", columns=_SCORED)
        for year in range(12, 17)
    },
    "sts/STSB.test.tsv": HubFile(dataset="mteb/stsbenchmark-sts", columns=_SCORED),
    "sts/SICK.test.tsv": HubFile(dataset="mteb/sickr-sts", columns=_SCORED),
    "wordsim/simlex999.tsv": HubFile(
        dataset="tasksource/simlex",
        split="train",
        columns={"word1": "word1", "word2": "word2", "SimLex999": "score"},
    ),
    **{
        f"wordsim/{part}.tsv": HubFile(
            dataset=dataset, config=config, split="train", columns=_RATED, exported=True
        )
        for part, dataset, config in (
            ("umnsrs_sim", "bigbio/umnsrs", "umnsrs_similarity_bigbio_pairs"),
            ("mayosrs", "bigbio/mayosrs", "mayosrs_bigbio_pairs"),
        )
    },
    # The concepts of the set are all there is to link to, each under its formal name.
    "el_askapatient/test_dictionary.txt": HubFile(
        dataset="bigbio/ask_a_patient",
        config="ask_a_patient_source",
        split="train+validation+test",
        columns={"cui": "id", "medical_concept": "name"},
        exported=True,
        distinct=True,
    ),
    "el_askapatient/processed_test": HubFile(
        dataset="bigbio/ask_a_patient",
        config="ask_a_patient_source",
        columns={"social_media_text": "mention", "cui": "id"},
        exported=True,
    ),
    # Ten folds are made of all there is, whatever splits the hub made of it.
    "senteval/MR.all.tsv": HubFile(
        dataset="cornell-movie-review-data/rotten_tomatoes",
        split="train+validation+test",
        columns=_LABELED,
    ),
    "senteval/CR.all.tsv": HubFile(
        dataset="SetFit/SentEval-CR", split="train+test", columns=_LABELED
    ),
    "senteval/SUBJ.all.tsv": HubFile(dataset="SetFit/subj", split="train+test", columns=_LABELED),
    "senteval/MPQA.all.tsv": HubFile(
        dataset="rahulsikder223/SentEval-MPQA",
        split="train+test",
        columns={"label": "label", "sentence": "text"},
    ),
    **{
        f"senteval/SST2.{part}.tsv": HubFile(dataset="SetFit/sst2", split=split, columns=_LABELED)
        for part, split in (("train", "train"), ("test", "test"), ("dev", "validation"))
    },
    **{
        f"senteval/TREC.{split}.tsv": HubFile(
            dataset="SetFit/TREC-QC",
            split=split,
            columns={"label_coarse_original": "label", "text": "text"},
        )
        for split in ("train", "test")
    },
    # GLUE took its validation part out of the training part of the set.
    **{
        f"senteval/MRPC.{part}.tsv": HubFile(
            dataset="nyu-mll/glue", config="mrpc", split=split, columns=_PAIRED
        )
        for part, split in (("train", "train+validation"), ("test", "test"))
    },
    "glue/QNLI.dev.tsv": HubFile(
        dataset="nyu-mll/glue",
        config="qnli",
        split="validation",
        columns={"idx": "index", "question": "question", "sentence": "sentence", "label": "label"},
        labels=("entailment", "not_entailment"),
    ),
    **{
        f"glue/MRPC.{part}.tsv": HubFile(
            dataset="nyu-mll/glue", config="mrpc", split=split, columns=_PAIRED
        )
        for part, split in (("train", "train"), ("dev", "validation"))
    },
    **{
        f"tweets/tweeteval_{name}.{part}.tsv": HubFile(
            dataset="cardiffnlp/tweet_eval",
            config=name,
            split=split,
            columns=_LABELED,
        )
        for name in ("emotion", "hate")
        for part, split in (("train", "train"), ("test", "test"), ("val", "validation"))
    },
}
"""Our files that the hub has as plain data, or of which it keeps a Parquet copy.

STS12 to 16 come without their subsets: the pooled score only.
"""


def fetch_missing(
    tasks: Iterable[Task],
    data: Path,
    *,
    rows: Rows | None = None,
    progress: Callable[[str], None] | None = None,
) -> list[Path]:
    """Write the files of ``tasks`` that are not under ``data`` and that the hub has.

    If a dataset is missing or has other columns, the others are still fetched. The files of a
    linking task are fetched together or not at all, as the ids of a user's own dictionary may
    differ from those of the hub's mentions.

    Args:
        tasks: The tasks to run.
        data: The folder of evaluation sets; made if missing.
        rows: Gives the hub's rows; ``datasets`` by default.
        progress: Called with a word on each file, fetched or not.

    Returns:
        The files written.

    Raises:
        MissingExtraError: ``datasets`` is not installed.
        InputError: The hub cannot be reached.
    """
    tell = progress or (lambda words: None)
    wanted: list[tuple[str, ...]] = []
    for task in tasks:
        there = [file for file in task.files if (data / file).exists()]
        lacking = tuple(file for file in task.files if file in SOURCES and file not in there)
        if task.kind is not TaskKind.LINKING:
            wanted += [(file,) for file in lacking]
        elif lacking and there:
            tell(
                f"{data / there[0]} is there, {' and '.join(lacking)} not; the hub may have "
                "another version, so nothing is fetched: put yours there, or remove what is there"
            )
        elif lacking:
            wanted.append(lacking)
    if wanted and rows is None:
        require("datasets", extra="hub")
    written: list[Path] = []
    for names in dict.fromkeys(wanted):
        try:
            _fetch(names, data, rows or _rows)
        except InputError as error:
            if isinstance(error.__cause__, ConnectionError):
                raise
            tell(str(error))
        else:
            for name in names:
                tell(f"fetched {data / name}")
                written.append(data / name)
    return written


def _fetch(names: Sequence[str], data: Path, rows: Rows) -> None:
    """Write files, all of them or none."""
    with ExitStack() as stack:
        for name in names:
            source, fresh = SOURCES[name], stack.enter_context(staging_file(data / name))
            lines: Iterable[str] = ("\t".join(_fields(row, source)) + "\n" for row in rows(source))
            with open(fresh, "w", encoding="utf-8") as handle:
                handle.write("\t".join(source.columns.values()) + "\n")
                handle.writelines(dict.fromkeys(lines) if source.distinct else lines)


def _fields(row: Mapping[str, Any], source: HubFile) -> list[str]:
    lost = [column for column in source.columns if column not in row]
    if lost:
        raise InputError(
            f"{source.dataset}: has no column {', '.join(lost)} (it has {', '.join(row)}); "
            "get the data elsewhere"
        )
    values = {column: row[column] for column in source.columns}
    if source.labels:
        values["label"] = source.labels[int(values["label"])]
    # Our files are tab-separated without quoting.
    return [" ".join(str(value).split()) for value in values.values()]


def _rows(source: HubFile) -> Iterable[Mapping[str, Any]]:
    import datasets

    # The copy has a folder for each configuration.
    subset = (
        {"revision": "refs/convert/parquet", "data_dir": source.config}
        if source.exported
        else {"name": source.config}
    )
    try:
        found: Iterable[Mapping[str, Any]] = datasets.load_dataset(
            source.dataset, split=source.split, **subset
        )
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        reason = " ".join(str(error).split())[:200]
        lost = isinstance(error, ConnectionError)
        way_out = "is there a network?" if lost else "get the data elsewhere"
        raise InputError(
            f"{source.dataset}: the hub does not give it ({reason}); {way_out}"
        ) from error
    return found
