"""Read the tab-separated files of the evaluation sets; errors contain the line."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from mirror_rt.errors import InputError
from mirror_rt.tables import FileFormat, RowError, Table, TableOptions, cell_text
from mirror_rt.textfiles import StrPath

__all__ = ["Pair", "number_of", "read_labeled", "read_lexicon", "read_pairs", "read_rows"]

LEFT = ("sentence1", "word1", "question")
RIGHT = ("sentence2", "word2", "sentence")
SCORE = ("score", "similarity", "relatedness_score")
GROUP = ("subset",)
TEXT = ("sentence", "text", "question")
LABEL = ("coarse", "label")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two texts with the score or label by people, and the subset."""

    left: str
    right: str
    score: float = 0.0
    label: str = ""
    group: str = ""


_UNQUOTED = TableOptions(quoted=False)
"""The published sets quote nothing: a sentence may begin and end with a quotation mark."""


def read_rows(path: StrPath, table: Table | None = None) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield (line number, row by heading in small letters); what is missing is empty.

    Raises:
        InputError: The file cannot be read, is empty, or a row is broken.
    """
    table = table or Table(path, options=_UNQUOTED, default=FileFormat.TSV)
    if table.first is not None:
        table.take_headings()
    names = [name.strip().casefold() for name in table.headings]
    if not names:
        raise InputError(f"{path}: no header line")
    for number, cells in table.rows():
        try:
            if isinstance(cells, RowError):
                raise cells
            texts = [cell_text(cell, "cell", numbers=True) for cell in cells]
        except RowError as fault:
            raise InputError(f"{path}: {table.unit} {number}: {fault}") from fault
        yield number, dict(zip(names, texts, strict=True))


def read_pairs(path: StrPath, *, low: float = -math.inf, high: float = math.inf) -> list[Pair]:
    """Read scored pairs of sentences or words.

    The header names the texts ``sentence1``/``sentence2`` or ``word1``/``word2`` and the score
    ``score``. A file of three columns whose first line ends in a number has no header.

    Args:
        path: The file.
        low: Lowest score that can be right.
        high: Highest score that can be right.

    Raises:
        InputError: A column is missing, a text is empty, a score is not a number or out of range,
            or there are no rows; the line is named.
    """
    pairs = []
    for number, row in _pair_rows(path):
        left, right = _pick(path, row, LEFT), _pick(path, row, RIGHT)
        score = number_of(_pick(path, row, SCORE), path, number, low=low, high=high)
        if not left.strip() or not right.strip():
            raise InputError(f"{path}: line {number} has an empty text")
        group = next((row[name] for name in GROUP if name in row), "")
        pairs.append(Pair(left=left, right=right, score=score, group=group))
    return _some(path, pairs)


def read_labeled(path: StrPath, *, labels: Sequence[str] = ()) -> list[Pair]:
    """Read labeled texts, or labeled pairs of two sentences or of a question and a sentence.

    A single text is ``left``, and ``right`` is empty.

    Args:
        path: The file.
        labels: Those that can be right; empty for any.

    Raises:
        InputError: A column is missing, a label is empty or not one of ``labels``, or there are
            no rows; the line is named.
    """
    pairs = []
    for number, row in read_rows(path):
        label = _pick(path, row, LABEL).strip()
        if not label or label.casefold() == "nan":
            raise InputError(f"{path}: line {number} has no label")
        if labels and label not in labels:
            raise InputError(
                f"{path}: line {number}: label {label!r} is none of {', '.join(labels)}"
            )
        if "sentence2" in row:
            left, right = row["sentence1"], row["sentence2"]
        elif "question" in row and "sentence" in row:
            left, right = row["question"], row["sentence"]
        else:
            left, right = _pick(path, row, TEXT), ""
        pairs.append(Pair(left=left, right=right, label=label))
    return _some(path, pairs)


def read_lexicon(path: StrPath) -> dict[str, set[str]]:
    """Read a bilingual dictionary: ``source<TAB>target`` without a header; both kept in order.

    Raises:
        InputError: A line is not two words, or there are none.
    """
    translations: dict[str, set[str]] = {}
    for number, cells in Table(path, options=_UNQUOTED, default=FileFormat.TSV).rows():
        fields = [] if isinstance(cells, RowError) else [str(cell).strip() for cell in cells]
        if len(fields) != 2 or not all(fields):
            raise InputError(f"{path}: line {number} is not source<TAB>target")
        translations.setdefault(fields[0], set()).add(fields[1])
    if not translations:
        raise InputError(f"{path}: holds no rows")
    return translations


def number_of(
    text: str, path: StrPath, line: int, *, low: float = -math.inf, high: float = math.inf
) -> float:
    """Return a finite number in [low, high].

    Raises:
        InputError: It is not; the line is named.
    """
    try:
        value = float(text)
    except ValueError as error:
        raise InputError(f"{path}: line {line}: score {text!r} is not a number") from error
    if not math.isfinite(value):
        raise InputError(f"{path}: line {line}: score is {text.strip()}")
    if not low <= value <= high:
        raise InputError(f"{path}: line {line}: score {value:g} is outside {low:g} to {high:g}")
    return value


def _pair_rows(path: StrPath) -> Iterator[tuple[int, Mapping[str, str]]]:
    table = Table(path, options=_UNQUOTED, default=FileFormat.TSV)
    if table.first is not None and len(table.first) == 3 and _is_number(table.first[2]):
        table.call_columns(["word1", "word2", "score"])
    yield from read_rows(path, table)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _pick(path: StrPath, row: Mapping[str, str], names: Sequence[str]) -> str:
    for name in names:
        if name in row:
            return row[name]
    raise InputError(f"{path}: no column {' or '.join(names)}; its header is: {', '.join(row)}")


def _some(path: StrPath, pairs: list[Pair]) -> list[Pair]:
    if not pairs:
        raise InputError(f"{path}: holds no rows")
    return pairs
