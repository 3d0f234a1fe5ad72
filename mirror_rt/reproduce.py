"""Train with the paper's settings over several seeds, and set its numbers beside ours."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from mirror_rt._count import counted
from mirror_rt.errors import ConfigError, InputError, TargetError
from mirror_rt.evaluation.paper import PaperTable, paper_reports
from mirror_rt.evaluation.result import Report, Status, mean_report
from mirror_rt.evaluation.suite import evaluate, files_of
from mirror_rt.evaluation.tasks import find_custom_tasks, select_tasks
from mirror_rt.training.checkpoint import TorchEncoder
from mirror_rt.training.config import TrainConfig
from mirror_rt.training.loop import load_base, train
from mirror_rt.training.pairs import read_table
from mirror_rt.types import Preset

__all__ = ["SEEDS", "reproduce"]

Progress = Callable[[int, int, str], None]

SEEDS = (33, 44, 55)
"""The seeds named in the authors' code."""

_SETTINGS: dict[PaperTable, tuple[Preset, str, tuple[str, ...]]] = {
    PaperTable.STS: (
        Preset.SENTENCE,
        "mirror_corpus/stsbenchmark_train_10k_sents_random_sampled.txt",
        ("sts12", "sts13", "sts14", "sts15", "sts16", "stsb", "sickr"),
    ),
    PaperTable.LEXICAL: (
        Preset.WORD,
        "mirror_corpus/en_words_top_10k.txt",
        tuple(f"multisimlex-{c}" for c in ("eng", "fra", "est", "ara", "cmn", "rus", "spa", "pol")),
    ),
    # The paper's sample of UMLS names was not published; MEDIC's names are of the domain.
    PaperTable.LINKING: (
        Preset.NAME,
        "el_ncbi_disease/train_dictionary.txt",
        ("ncbi", "bc5cdr-d", "bc5cdr-c", "askapatient", "cometa"),
    ),
}
_ENGLISH = ("multisimlex-eng",)
"""In the paper each language has a BERT and words of its own: English words reach no other row."""
PAIRS = 10_000
"""Strings the paper trains on."""
DROPOUT = 0.1
"""The paper's rate, and that of its bases; another base may have been saved with none."""


def reproduce(
    *,
    base: str,
    table: PaperTable,
    data: Path,
    out: Path,
    seeds: Sequence[int] = SEEDS,
    corpus: Path | None = None,
    max_steps: int | None = None,
    device: str = "auto",
    progress: Progress | None = None,
) -> list[Report]:
    """Train and evaluate one checkpoint a seed, with the paper's settings for a table.

    A checkpoint that is already there with the same settings is used as it is, so that an
    interrupted run goes on where it stopped.

    Args:
        base: Folder or hub name of a masked language model.
        table: The paper's table.
        data: The folder of evaluation sets, with ``mirror_corpus`` in it unless ``corpus``.
        out: Folder for the checkpoints, one a seed.
        seeds: One run each.
        corpus: The training strings, where the data folder has none.
        max_steps: Cuts the runs short, to try the command.
        device: As in ``TrainConfig``.
        progress: Called with (stages done, stages, what happens next).

    Returns:
        The paper before, ours before, the paper after, ours after (mean and spread). Tasks
        without data here are missing in ours, and left out of the paper's. Of the lexical table
        the paper's English alone stands there, unless ``corpus`` has words of another language.

    Everything that is read is looked at before anything is trained.

    Raises:
        ConfigError: There are no seeds or one twice, no corpus, no data of the table's tasks, or
            the base is not a model.
        InputError: The corpus or a file of the tasks cannot be read.
        TargetError: A checkpoint of other settings is in the way.
        MirrorError: As ``train`` and ``evaluate``.
    """
    preset, own_corpus, tasks = _SETTINGS[table]
    strings = corpus or data / own_corpus
    if not seeds or len(set(seeds)) < len(seeds):
        raise ConfigError("reproduce: give at least one seed, and none twice")
    if not strings.is_file():
        raise ConfigError(f"{strings}: no such file; give the training strings with --corpus")
    configs = [
        TrainConfig(
            corpus=strings,
            base=base,
            out=out / f"seed-{seed}",
            preset=preset,
            seed=seed,
            max_pairs=PAIRS,
            dropout=DROPOUT,
            max_steps=max_steps,
            device=device,
        )
        for seed in seeds
    ]
    to_train = [config for config in configs if not _is_there(config)]
    _check_inputs(configs[0], data, tasks, to_train=bool(to_train))
    stages = iter(range(2 + len(configs) + len(to_train)))
    last = 1 + len(configs) + len(to_train)

    def tell(words: str) -> None:
        if progress is not None:
            progress(next(stages), last, words)

    tell(f"evaluate {base}")
    # The base is scored as its checkpoints pool, like the paper's rows.
    pooling = load_base(configs[0]).pooling
    raw = TorchEncoder.open(base, pooling=pooling, max_length=configs[0].max_length)
    named = f"{Path(base).name} {raw.model.pooling.value}, here"
    before = evaluate(raw, data=data, tasks=tasks, name=named)
    failed = [r for r in before.results if r.status is Status.FAILED]
    if failed:  # before hours are spent on training
        raise InputError(f"{failed[0].task}: {failed[0].note}")
    measured = {r.task for r in before.results if r.status is not Status.MISSING}
    for config in to_train:
        tell(f"train with seed {config.seed}")
        train(config)
    runs = []
    for config in configs:
        tell(f"evaluate seed {config.seed}")
        runs.append(evaluate(TorchEncoder.open(config.out), data=data, tasks=tasks))
    tell("done")
    after = mean_report(f"+ Mirror, here ({counted(len(runs), 'seed')})", runs)
    like = measured.intersection(
        _ENGLISH if table is PaperTable.LEXICAL and corpus is None else measured
    )
    paper_before, paper_after = (_only(r, like) for r in paper_reports(table, base))
    return [paper_before, before, paper_after, after]


def _check_inputs(config: TrainConfig, data: Path, tasks: Sequence[str], *, to_train: bool) -> None:
    """Read what will be read, so that a fault in it stops the run before anything is trained."""
    if not data.is_dir():
        raise ConfigError(f"{data}: no such folder; --data names the folder of evaluation sets")
    found = [task for task in select_tasks(tasks, find_custom_tasks(data)) if files_of(task, data)]
    if not found:
        raise ConfigError(f"{data}: has no file of the tasks {', '.join(tasks)}")
    # The first evaluation, of the base, reads every file of the tasks.
    if to_train:
        read_table(config)


def _is_there(config: TrainConfig) -> bool:
    if not config.out.exists():
        return False
    record = config.out / "training.json"
    try:
        recorded = json.loads(record.read_text(encoding="utf-8"))["config"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TargetError(f"{config.out}: is in the way and not a checkpoint of ours") from error
    if recorded != json.loads(json.dumps(config.to_dict())):
        raise TargetError(
            f"{config.out}: was trained with other settings; choose another --out or remove it"
        )
    return True


def _only(report: Report, tasks: set[str]) -> Report:
    return Report(model=report.model, results=tuple(r for r in report.results if r.task in tasks))
