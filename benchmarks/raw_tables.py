"""The tables of benchmarks/results/raw_mlm.json: Mirror on a raw masked language model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

from markdown_tables import grid

from mirror_rt.evaluation.report import cell
from mirror_rt.evaluation.result import Report, Result, mean_report

Record = Mapping[str, Any]
COLUMNS = {
    "sts12": "STS12",
    "sts13": "STS13",
    "stsb": "STS-B",
    "simlex999": "SimLex",
    "wordsim353": "WordSim",
    "multisimlex-eng": "Multi-SimLex",
    "ncbi": "NCBI",
    "ncbi-kb": "MEDIC alone",
    "ncbi-kb, unseen": "…, unseen",
    "hpo": "HPO",
}
OWN = {
    "word": ("multisimlex-eng", "simlex999"),
    "name": ("hpo",),
    "sentence": ("stsb", "sts12", "sts13"),
}
"""The tasks of a preset in the tables by size and by views, the most telling one first."""
PAPER: Mapping[str, Mapping[str, float]] = {
    "*paper: BERT, [CLS]*": {
        "sts12": 0.215, "sts13": 0.321, "stsb": 0.203, "multisimlex-eng": 0.105, "ncbi": 0.676,
    },
    "*paper: BERT, mean*": {
        "sts12": 0.314, "sts13": 0.536, "stsb": 0.464, "multisimlex-eng": 0.267,
    },
    "*paper: BERT + Mirror*": {
        "sts12": 0.670, "sts13": 0.801, "stsb": 0.764, "multisimlex-eng": 0.556, "ncbi": 0.872,
    },
}  # fmt: skip
"""Liu et al. 2021, tables of English STS, Multi-SimLex and entity linking; each task after the
preset that is for it."""
PAPER_VIEWS = {(True, True): 0.744, (True, False): 0.717, (False, True): 0.726,
               (False, False): 0.651}  # fmt: skip
"""Liu et al. 2021, BERT, mean of seven STS sets, by (dropout, masking)."""
RAW = {"raw cls": "raw, [CLS]", "raw mean": "raw, mean"}
LABELS = {"char-ngram": "character n-grams", **RAW, "whitened mean": "raw, mean, whitened"}
STRINGS_PLOT = (
    "![A panel per preset: the score of its tasks against the number of training strings, with the "
    "raw model's scores as lines](img/raw-mirror-strings.svg)"
)
PRETRAINING_PLOT = (
    "![Held-out loss and share of masked tokens right, against millions of tokens seen]"
    "(img/raw-pretraining.svg)"
)
VIEWS = {
    (True, True): "dropout and masking",
    (True, False): "dropout",
    (False, True): "masking",
    (False, False): "neither",
}


def raw_results(record: Record) -> list[str]:
    """Return the section of the record, with as many cells as there are."""
    lines = ["### Mirror on a raw masked language model", "", _about(record)]
    if gains := _gains(record):
        lines += ["", gains]
    lines += ["", *_main(record)]
    if len(sizes := _sizes(record)) > 2:
        lines += ["", "By the number of training strings:", "", *sizes]
    if len(views := _views(record)) > 3:
        lines += ["", "By what makes the two views of a string differ:", "", *views]
    return [*lines, "", "Pre-training, on text that is never trained on:", "", *_curve(record)]


def is_pretrained(record: Record) -> bool:
    """Return whether the pre-training went on to a held-out loss below 4, or 200 million tokens.

    Before that the model knows too little for the README.
    """
    model = record["pretraining"]
    return bool(model["history"][-1]["held_out"] < 4 or model["tokens"] >= 200_000_000)


def plots(record: Record) -> list[str]:
    """Return the links to the plots, as seen from docs; a curve of one size is left out."""
    curves = any(len(sizes_of(record, preset)) > 1 for preset in OWN)
    return [*[STRINGS_PLOT] * curves, PRETRAINING_PLOT]


def readme(record: Record) -> list[str]:
    """Return three lines for the README."""
    model = record["pretraining"]
    recipe, last = model["recipe"], model["history"][-1]
    lines = [
        f"- A raw masked language model ({recipe['layers']} layers, width {recipe['width']}), "
        f"pre-trained here on {model['tokens'] / 1e6:.0f} million tokens of plain text: held-out "
        f"loss {last['held_out']:.2f}, {last['accuracy']:.0%} of the masked tokens right."
    ]
    told = [
        f"{COLUMNS[tasks[0]]} {before} → {after}"
        for preset, tasks in OWN.items()
        if (before := _best_raw(record, tasks[0])) and (after := _after(record, preset, tasks[0]))
    ]
    if told:
        lines.append(
            f"- After Mirror on {record['strings']:,} strings (the better of [CLS] and mean → "
            f"Mirror): {'; '.join(told)}."
        )
        seconds = [
            f"{preset}s {_spread(found)}" for preset in OWN if (found := _seconds(record, preset))
        ]
        lines.append(
            f"- Seconds of training: {', '.join(seconds)} (CPU; load of the machine before: "
            f"{record['load_before']}). "
            "[All tables and plots](docs/results.md#on-a-raw-masked-language-model)."
        )
    return lines


def cells_of(
    record: Record,
    way: str,
    *,
    strings: int | None = None,
    views: tuple[bool, bool] | None = None,
) -> list[Record]:
    """Return the cells of a way, one a seed; by default with the usual strings and views."""
    strings = record["strings"] if strings is None else strings
    if views is None:
        views = (True, way != "word")
    return [
        one
        for one in record["cells"]
        if one["way"] == way
        and (
            way not in OWN or (one["strings"], (one["dropout"], one["masking"])) == (strings, views)
        )
    ]


def result_of(cells: Sequence[Record], task: str) -> Result | None:
    """Return the mean of a task's result over the cells that have it."""
    reports = [Report.from_dict(one["report"]) for one in cells]
    reports = [r for r in reports if any(result.task == task for result in r.results)]
    if not reports:
        return None
    return next(r for r in mean_report("", reports).results if r.task == task)


def shown(cells: Sequence[Record], task: str) -> str:
    """Return the main score of a task with its spread, or nothing."""
    result = result_of(cells, task)
    return "" if result is None else cell(result, result.metric)


def sizes_of(record: Record, preset: str) -> list[int]:
    """Return the numbers of strings that a preset was trained with, in the usual way."""
    found = {one["strings"] for one in record["cells"] if one["way"] == preset}
    return sorted(size for size in found if cells_of(record, preset, strings=size))


def _about(record: Record) -> str:
    model = record["pretraining"]
    recipe, last = model["recipe"], model["history"][-1]
    seeds = len({one["seed"] for one in record["cells"]} - {None})
    return (
        f"A BERT of {recipe['layers']} layers of width {recipe['width']} and "
        f"{recipe['vocabulary']:,} word pieces, pre-trained by `benchmarks/raw_mlm.py` on "
        f"{model['tokens'] / 1e6:.1f} million tokens of plain text, by masked language modeling "
        f"alone: held-out loss {last['held_out']:.3f}, {last['accuracy']:.1%} of the masked tokens "
        f"right, {model['seconds'] / 60:.0f} minutes. Then Mirror with the paper's settings on "
        f"{record['strings']:,} strings, {seeds} seeds, mean ± standard deviation (without ±: one "
        "seed). `word`: the most frequent words of the same text; `name`: a sample of the names of "
        "HPO (without its held-out synonyms) and of MEDIC; `sentence`: a sample of the sentences "
        "of the same text. "
        "STS and words: Spearman's ρ (STS12, STS13: pooled). NCBI (BioSyn's convention and its "
        "dictionary with training mentions), MEDIC alone (*unseen*: mentions that equal no name) "
        "and HPO's held-out synonyms: acc@1 by vectors alone. *Whitened*: without training, mean 0 "
        "and covariance I on the strings that the preset for a task trains on. *Paper*: BERT-base, "
        "Liu et al. 2021, each task after the preset for it."
        + (f" This record: {record['remark']}." if record.get("remark") else "")
    )


def _gains(record: Record) -> str:
    """Return the gains over the better raw row, and why they are as large as they are."""
    told, much_less = [], []
    for preset, tasks in OWN.items():
        before, after = _raw_scores(record, tasks[0]), result_of(cells_of(record, preset), tasks[0])
        if before and after is not None and after.score is not None:
            gain = after.score - max(before)
            told.append(f"{COLUMNS[tasks[0]]} {100 * gain:+.1f} (`{preset}`)")
            published = _paper_gain(tasks[0])
            much_less += [] if published is None else [gain < published / 2]
    if not told:
        return ""
    paper = [f"{COLUMNS[t]} {100 * g:+.1f}" for t in COLUMNS if (g := _paper_gain(t)) is not None]
    text = (
        f"Points gained over the better raw row: {', '.join(told)}. The paper's BERT: "
        f"{', '.join(paper)}."
    )
    if all(much_less):
        tokens = record["pretraining"]["tokens"] / 1e6
        text += (
            " The effect is much smaller here. A probable reason, which was not tested: this model "
            f"has seen {tokens:.0f} million tokens, while BERT saw a corpus of 3.3 billion words "
            "about 40 times (Devlin et al. 2019), and Mirror has only what pre-training has left. "
            "The learning rate is the paper's, which is for a larger model; [higher ones]"
            "(experiments.md#leaving-the-plateau-of-masked-language-modeling) gain more of words."
        )
    return text


def _paper_gain(task: str) -> float | None:
    scores = [rows[task] for rows in PAPER.values() if task in rows]
    return scores[-1] - max(scores[:-1]) if scores else None


def _raw_scores(record: Record, task: str) -> list[float]:
    found = [result_of(cells_of(record, way), task) for way in RAW]
    return [r.score for r in found if r is not None and r.score is not None]


def _best_raw(record: Record, task: str) -> str:
    scores = _raw_scores(record, task)
    return _three(max(scores)) if scores else ""


def _after(record: Record, preset: str, task: str) -> str:
    return shown(cells_of(record, preset), task)


def _three(score: float) -> str:
    return cell(Result(task="", metric="x", scores={"x": score}), "x")


def _seconds(record: Record, preset: str, strings: int | None = None) -> list[float]:
    return [one["train_seconds"] for one in cells_of(record, preset, strings=strings)]


def _spread(values: Sequence[float]) -> str:
    """Return the mean with the standard deviation, if there are several values.

    >>> _spread([10, 14])
    '12 ±3'
    """
    more = f" ±{stdev(values):.0f}" if len(values) > 1 else ""
    return f"{fmean(values):.0f}{more}"


def _main(record: Record) -> list[str]:
    rows: list[Sequence[object]] = []
    for way in (*LABELS, *OWN):
        cells = cells_of(record, way)
        if not cells:
            continue
        label = LABELS.get(way) or f"**Mirror, `{way}`**, {_pooled(cells[0]['pooling'])}"
        seconds = _spread(_seconds(record, way)) if way in OWN else ""
        rows.append((label, *(shown(cells, task) for task in COLUMNS), seconds))
    for label, scores in PAPER.items():
        figures = (_three(scores[task]) if task in scores else "" for task in COLUMNS)
        rows.append((label, *figures, ""))
    return grid(["model", *COLUMNS.values(), "training, s"], rows)


def _pooled(pooling: str) -> str:
    return "[CLS]" if pooling == "cls" else pooling


def _sizes(record: Record) -> list[str]:
    sizes = sorted({size for preset in OWN for size in sizes_of(record, preset)})
    rows: list[Sequence[object]] = []
    for preset, tasks in OWN.items():
        by_size = [cells_of(record, preset, strings=size) for size in sizes]
        for task in tasks:
            rows.append((f"`{preset}`", COLUMNS[task], *(shown(cells, task) for cells in by_size)))
    if len(sizes) < 2:
        return []
    return grid(["preset", "task", *(f"{size:,}" for size in sizes)], rows)


def _views(record: Record) -> list[str]:
    columns = [(preset, task) for preset in ("name", "sentence") for task in OWN[preset]]
    rows: list[Sequence[object]] = []
    for views, label in VIEWS.items():
        cells = [shown(cells_of(record, p, views=views), task) for p, task in columns]
        if any(cells):
            rows.append((label, *cells, _three(PAPER_VIEWS[views])))
    head = [f"`{preset}`: {COLUMNS[task]}" for preset, task in columns]
    return grid(["views", *head, "*paper: BERT, mean of STS*"], rows)


def _curve(record: Record) -> list[str]:
    history = record["pretraining"]["history"]
    rows = [
        (
            f"{point['step']:,}",
            f"{point['tokens'] / 1e6:.1f}",
            f"{point['seconds'] / 60:.0f}",
            f"{point['held_out']:.3f}",
            f"{point['accuracy']:.1%}",
        )
        for point in thinned(history, 10)
    ]
    return grid(["step", "million tokens", "minutes", "held-out loss", "masked tokens right"], rows)


def thinned(points: Sequence[Record], most: int) -> Iterable[Record]:
    """Return at most ``most`` points, evenly spread, with the first and the last.

    >>> thinned([{"a": n} for n in range(7)], 3)
    [{'a': 0}, {'a': 3}, {'a': 6}]
    """
    if len(points) <= most:
        return points
    return [points[round(i * (len(points) - 1) / (most - 1))] for i in range(most)]
