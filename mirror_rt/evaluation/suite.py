"""Run tasks on a model: read the files, compute scores, report missing data."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from mirror_rt._extras import require
from mirror_rt.errors import ConfigError, MirrorError
from mirror_rt.evaluation.baselines import ExactMatch, Model
from mirror_rt.evaluation.cached_embedder import CachedEmbedder
from mirror_rt.evaluation.gold import Convention, Query, read_gold
from mirror_rt.evaluation.holdout import standard_split
from mirror_rt.evaluation.intervals import auc_interval, spearman_intervals
from mirror_rt.evaluation.link_report import link_results, table_answers
from mirror_rt.evaluation.linking import NameTable
from mirror_rt.evaluation.metrics import why_undefined
from mirror_rt.evaluation.result import Report, Result, Status
from mirror_rt.evaluation.similarity import cross_pairs, pair_auc, pair_similarities, pair_spearman
from mirror_rt.evaluation.tables import Pair, read_labeled, read_lexicon, read_pairs
from mirror_rt.evaluation.tasks import (
    AVERAGED,
    LAYOUTS,
    Family,
    Task,
    TaskKind,
    find_custom_tasks,
    select_tasks,
)
from mirror_rt.evaluation.transfer import score_folds, score_split
from mirror_rt.evaluation.translation import bilingual_lexicon_induction
from mirror_rt.knowledge.formats import read_entities

__all__ = ["AVERAGE", "evaluate", "files_of", "run_task"]

AVERAGE = ("sts12", "sts13", "sts14", "sts15", "sts16", "stsb", "sickr")
"""The seven sets of the usual STS average."""
_WHOLE = ("stsb", "sickr")


def evaluate(
    model: Model,
    *,
    data: str | Path,
    tasks: Sequence[str] = (),
    name: str = "model",
    seed: int = 0,
    convention: Convention | None = None,
    progress: Callable[[str], None] | None = None,
) -> Report:
    """Run tasks on a model. A task that fails is reported, and the others continue.

    Args:
        model: An embedder or a baseline.
        data: The folder of the evaluation sets.
        tasks: Names of tasks or families; empty for all.
        name: The name of the model in the report.
        seed: Seed of the folds and held-out parts of transfer tasks.
        convention: How linking is scored; by default as in the papers of each task. With another
            convention, it is part of the task's name.
        progress: Called with each task's name before it runs.

    Raises:
        ConfigError: A task is unknown, ``data`` is not a folder, or there is a convention and no
            linking.
    """
    folder = Path(data)
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder; --data names the folder of evaluation sets")
    chosen = select_tasks(tasks, find_custom_tasks(folder))
    if convention is not None:
        if not any(task.family is Family.LINKING for task in chosen):
            raise ConfigError("--convention: there is no linking task to apply it to; leave it out")
        chosen = [_with_convention(convention, task) for task in chosen]
    if not isinstance(model, ExactMatch):
        model = CachedEmbedder.around(model)
    results: list[Result] = []
    for task in chosen:
        if progress is not None:
            progress(task.name)
        try:
            results.extend(run_task(model, task, folder, seed=seed))
        except MirrorError as error:
            results.append(_without(task, Status.FAILED, str(error)))
    return Report(model=name, results=(*results, *_average(results)))


def run_task(model: Model, task: Task, data: Path, *, seed: int = 0) -> list[Result]:
    """Run one task; a linking task also gives the result over its unseen mentions.

    Raises:
        InputError: A file is faulty; the line is named.
        MissingExtraError: A transfer task, and scikit-learn is not installed.
    """
    files = [_find(data, pattern) for pattern in task.files]
    lacking = _lacking(task, files)
    if lacking:
        missing, them = " or ".join(lacking), "it" if len(lacking) == 1 else "them"
        note = f"no {missing} under {data} ({LAYOUTS[task.kind]}); get {them} from {task.where}"
        return [_without(task, Status.MISSING, note)]
    first = files[0][0]
    match task.kind:
        case TaskKind.PAIRS:
            pairs = read_pairs(first, low=task.low, high=task.high)
            return [_correlated(model, task, pairs)]
        case TaskKind.CROSS_PAIRS:
            sides = [read_pairs(found[0], low=task.low, high=task.high) for found in files]
            crossed = cross_pairs(*sides, scale=task.high - task.low)
            return [_correlated(model, task, crossed, together=2)]
        case TaskKind.AUC:
            pairs = read_labeled(first, labels=task.labels)
            cosines = pair_similarities(model, pairs)
            auc = pair_auc(pairs, cosines, positive=task.positive)
            positive = [p.label == task.positive for p in pairs]
            found = _scored(task, {"auc": auc}, pairs, why=why_undefined(positive, cosines))
            if auc is None:
                return [found]
            return [replace(found, intervals={"auc": auc_interval(np.array(positive), cosines)})]
        case TaskKind.TRANSLATION:
            words = read_lexicon(first)
            return [_scored(task, bilingual_lexicon_induction(model, words), list(words))]
        case TaskKind.LINKING:
            gold = [q for f in files[1] for q in read_gold(f, convention=task.convention).queries]
            table = NameTable.of(read_entities(first), task.convention)
            return link_results(task.name, table_answers(model, table, gold), gold, table)
        case TaskKind.HELD_OUT:
            entities, held_out = standard_split(read_entities(first))
            table = NameTable.of(entities, task.convention)
            held = [Query(parts=(mention,), ids=ids) for mention, ids in held_out]
            # Every held-out name is unseen: the second result would repeat the first.
            return link_results(task.name, table_answers(model, table, held), held, table)[:1]
        case TaskKind.FOLDS | TaskKind.SPLIT:
            if isinstance(model, ExactMatch):
                return [_without(task, Status.NOT_APPLICABLE, "needs vectors to learn from")]
            require("sklearn", extra="evaluate")
            parts = [read_labeled(found[0], labels=task.labels) for found in files if found]
            if task.kind is TaskKind.FOLDS:
                return [_scored(task, score_folds(model, parts[0], seed=seed), parts[0])]
            return [_scored(task, score_split(model, *parts, seed=seed), parts[1])]


def files_of(task: Task, data: Path) -> list[Path]:
    """Return the files of a task; none if one that it needs is missing."""
    files = [_find(data, pattern) for pattern in task.files]
    return [] if _lacking(task, files) else [path for found in files for path in found]


def _lacking(task: Task, files: Sequence[Sequence[Path]]) -> list[str]:
    # The third part of a split chooses the regularization; without it a tenth of the first does.
    return [p for p, found in zip(task.files[:2], files, strict=False) if not found]


def _find(data: Path, pattern: str) -> list[Path]:
    if "*" in pattern:
        return sorted(data.glob(pattern))
    return [data / pattern] if (data / pattern).exists() else []


def _with_convention(convention: Convention, task: Task) -> Task:
    if task.family is not Family.LINKING or task.convention is convention:
        return task
    return replace(task, name=f"{task.name} ({convention.value})", convention=convention)


def _correlated(model: Model, task: Task, pairs: Sequence[Pair], *, together: int = 1) -> Result:
    cosines = pair_similarities(model, pairs) if pairs else np.zeros(0, np.float32)
    gold = [pair.score for pair in pairs]
    found = _scored(task, pair_spearman(pairs, cosines), pairs, why=why_undefined(gold, cosines))
    if found.score is None:
        return found
    ends = spearman_intervals(np.array(gold), cosines, [p.group for p in pairs], together=together)
    known = {metric for metric, score in found.scores.items() if score is not None}
    return replace(found, intervals={m: e for m, e in ends.items() if m in known})


def _scored(
    task: Task, scores: Mapping[str, float | None], items: Sequence[object], *, why: str = ""
) -> Result:
    undefined = scores[task.metric] is None
    return Result(
        task=task.name,
        metric=task.metric,
        scores=scores,
        status=Status.UNDEFINED if undefined else Status.SCORED,
        items=len(items),
        note=f"{why}, so there is no score" if undefined else "",
    )


def _without(task: Task, status: Status, note: str) -> Result:
    return Result(task=task.name, metric=task.metric, status=status, note=note)


def _average(results: Iterable[Result]) -> list[Result]:
    """Return the mean over the seven STS sets if all of them have a score, else nothing."""
    found = {r.task: r for r in results if r.task in AVERAGE}
    means: dict[str, float | None] = {}
    intervals: dict[str, tuple[float, float]] = {}
    for metric in ("all", "mean"):
        # Two sets have no subsets: their one ρ is their score by both conventions. A year whose
        # file lacks its subsets has no score by the convention ``mean``.
        values = [
            found[t].scores.get(metric, found[t].score if t in _WHOLE else None)
            for t in AVERAGE
            if t in found
        ]
        known = [value for value in values if value is not None]
        if len(known) == len(AVERAGE):
            means[metric] = mean = sum(known) / len(known)
            # The sets are drawn apart from each other, so that squares of distances add up.
            each = [found[t].intervals for t in AVERAGE]
            ends = [e.get(metric) or e.get("all") or (math.nan,) * 2 for e in each]
            below, above = (
                math.hypot(*(v - e[side] for v, e in zip(known, ends, strict=True)))
                for side in (0, 1)
            )
            if math.isfinite(below + above):
                intervals[metric] = mean - below / len(known), mean + above / len(known)
    if "all" not in means:
        return []
    return [
        Result(task=AVERAGED, metric="all", scores=means, intervals=intervals, items=len(AVERAGE))
    ]
