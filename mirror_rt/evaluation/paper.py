"""The results in the Mirror-BERT paper, for comparison.

Source: Liu et al. 2021, *Fast, Effective, and Self-Supervised* (EMNLP), its tables of
English STS, Multi-SimLex and entity linking; numbers after training are means of 3 runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from mirror_rt.evaluation.result import Report, Result

__all__ = ["PaperTable", "paper_reports"]


class PaperTable(Enum):
    """The tables that can be reproduced."""

    STS = "sts"
    LEXICAL = "lexical"
    LINKING = "linking"


_STS: tuple[str, ...] = (
    "sts12",
    "sts13",
    "sts14",
    "sts15",
    "sts16",
    "stsb",
    "sickr",
    "sts average",
)
_LANGUAGES = ("eng", "fra", "est", "ara", "cmn", "rus", "spa", "pol")
_LEXICAL: tuple[str, ...] = tuple(f"multisimlex-{code}" for code in _LANGUAGES)
_LINKING: tuple[str, ...] = ("ncbi", "bc5cdr-d", "bc5cdr-c", "askapatient", "cometa")

_ROWS: Mapping[PaperTable, Mapping[str, Mapping[str, tuple[float, ...]]]] = {
    PaperTable.STS: {
        "bert": {
            "paper, BERT mean": (0.314, 0.536, 0.433, 0.582, 0.596, 0.464, 0.528, 0.493),
            "paper, + Mirror": (0.670, 0.801, 0.713, 0.812, 0.743, 0.764, 0.699, 0.743),
        },
        "roberta": {
            "paper, RoBERTa CLS": (0.090, 0.327, 0.210, 0.338, 0.388, 0.317, 0.355, 0.289),
            "paper, + Mirror": (0.646, 0.818, 0.734, 0.802, 0.782, 0.787, 0.703, 0.753),
        },
    },
    # In the paper, each language has its own BERT.
    PaperTable.LEXICAL: {
        "bert": {
            "paper, BERT CLS": (0.105, 0.050, 0.160, 0.210, 0.277, 0.177, 0.152, 0.257),
            "paper, + Mirror": (0.556, 0.621, 0.308, 0.538, 0.639, 0.365, 0.296, 0.444),
        },
        "multilingual": {
            "paper, mBERT mean": (0.105, 0.130, 0.094, 0.101, 0.261, 0.109, 0.095, 0.087),
            "paper, + Mirror": (0.358, 0.341, 0.134, 0.097, 0.501, 0.210, 0.332, 0.141),
        },
    },
    PaperTable.LINKING: {
        "bert": {
            "paper, BERT": (0.676, 0.815, 0.798, 0.382, 0.404),
            "paper, BERT @5": (0.770, 0.891, 0.912, 0.433, 0.477),
            "paper, + Mirror": (0.872, 0.921, 0.957, 0.555, 0.547),
            "paper, + Mirror @5": (0.921, 0.949, 0.971, 0.695, 0.647),
        },
        "pubmed": {
            "paper, PubMedBERT": (0.778, 0.890, 0.930, 0.425, 0.468),
            "paper, PubMedBERT @5": (0.869, 0.938, 0.946, 0.496, 0.532),
            "paper, + Mirror": (0.909, 0.930, 0.958, 0.590, 0.603),
            "paper, + Mirror @5": (0.948, 0.962, 0.979, 0.750, 0.713),
        },
    },
}


def paper_reports(table: PaperTable, base: str) -> tuple[Report, Report]:
    """Return the paper's rows before and after Mirror for the model family of ``base``.

    A family that is not in the paper is compared with BERT.
    """
    families = _ROWS[table]
    name = base.casefold()
    family = next((word for word in families if word != "bert" and word in name), "bert")
    rows = families[family]
    match table:
        case PaperTable.STS:
            tasks, metric = _STS, "all"
        case PaperTable.LEXICAL:
            tasks, metric = _LEXICAL, "all"
        case PaperTable.LINKING:
            tasks, metric = _LINKING, "acc@1"
    before, after = (label for label in rows if not label.endswith("@5"))
    return _report(before, rows, tasks, metric), _report(after, rows, tasks, metric)


def _report(
    label: str, rows: Mapping[str, tuple[float, ...]], tasks: tuple[str, ...], metric: str
) -> Report:
    at_5 = rows.get(f"{label} @5")
    results = []
    for i, (task, score) in enumerate(zip(tasks, rows[label], strict=True)):
        scores: dict[str, float | None] = {metric: score}
        if at_5 is not None:
            scores["acc@5"] = at_5[i]
        results.append(Result(task=task, metric=metric, scores=scores))
    return Report(model=label, results=tuple(results))
