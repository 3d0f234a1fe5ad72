"""Print results: to standard output, in a form for programs or a table for people."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from enum import Enum
from itertools import islice
from typing import TYPE_CHECKING, Any

import typer

from mirror_rt.types import Answer, Candidate

from . import layout

if TYPE_CHECKING:
    from mirror_rt.knowledge.explain import Explanation

_COLUMNS = (
    "rank", "id", "name", "matched", "score", "probability", "how", "tied", "read_as", "context",
    "reason",
)  # fmt: skip

_TWO_DOORS = ("dense", "letters")
"""Columns of a search by vectors and letters together."""

_PASSAGES = ("rank", "id", "title", "text", "matched", "score", *_TWO_DOORS, "how", "reason")

_CONTROL = re.compile(r"[\x7f-\x9f]")
"""What JSON lets through of them."""

_LEAST = ("context", "reason", "tied", "rank", "read_as", "how", "probability", *_TWO_DOORS)
"""Columns of a table that may go where the terminal is narrow."""


class Format(Enum):
    """The form of results on standard output."""

    JSONL = "jsonl"
    TSV = "tsv"
    TABLE = "table"


def candidates(
    texts: Sequence[str],
    found: Iterable[Answer],
    form: Format,
    *,
    subject: str,
    head: bool = True,
    passages: bool = False,
    hybrid: bool = False,
) -> None:
    """Print the candidates of each text, in the order of the texts.

    JSON lines: an object a text. TSV and table: a row a candidate, and one row for a text
    without any that has the reason alone, so that no text goes missing.

    Args:
        texts: What was asked.
        found: For each text its candidates.
        form: How to print them.
        subject: What a text is called: the name of its field or column.
        head: Whether to print the headings of columns first.
        passages: Whether they are passages.
        hybrid: Whether they were found by vectors and letters together.
    """
    columns = _PASSAGES if passages else (*_COLUMNS, *_TWO_DOORS) if hybrid else _COLUMNS
    many = "passages" if passages else "candidates"
    lines = in_lines(texts, found, subject=subject, many=many)
    show(lines, form, subject=subject, many=many, columns=columns, head=head)


def in_lines(
    texts: Sequence[str],
    found: Iterable[Answer],
    *,
    subject: str = "mention",
    many: str = "candidates",
) -> list[str]:
    """Return a JSON object a text, each on one line: what every other form is made from."""
    lines = []
    for text, mine in zip(texts, found, strict=True):
        record = {subject: text, many: [candidate_fields(c) for c in mine]}
        if mine.reason is not None:
            record["reason"] = mine.reason.value
        lines.append(in_json(record))
    return lines


def show(
    lines: Sequence[str],
    form: Format,
    *,
    subject: str = "mention",
    many: str = "candidates",
    columns: Sequence[str] = _COLUMNS,
    head: bool = True,
) -> None:
    """Print what ``in_lines`` made, in a form; see ``candidates``."""
    if form is Format.JSONL:
        for line in lines:
            typer.echo(line)
        return
    rows = [row for line in lines for row in _rows(json.loads(line), subject, many, columns)]
    match form:
        case Format.TSV:
            plain = layout.plain if sys.stdout.isatty() else _one_cell
            for row in [(subject, *columns), *rows] if head else rows:
                typer.echo("\t".join(plain(field) for field in row))
        case Format.TABLE:
            drawn = layout.lines(
                (subject, *columns), rows, least=[c for c in _LEAST if c in columns]
            )
            for line in drawn if head else islice(drawn, 1, None):
                typer.echo(line)


def tsv(lines: Sequence[str], *, head: bool) -> Iterator[str]:
    """Yield the rows of a TSV file for what ``in_lines`` made of mentions."""
    if head:
        yield "\t".join(("mention", *_COLUMNS))
    for line in lines:
        for row in _rows(json.loads(line), "mention", "candidates", _COLUMNS):
            yield "\t".join(map(_one_cell, row))


def explained(texts: Sequence[str], found: Iterable[Explanation]) -> None:
    """Print an object a mention: its candidates with their evidence, rivals marked."""
    for text, mine in zip(texts, found, strict=True):
        rows = []
        for one in mine:
            reasons = asdict(one)
            del reasons["candidate"]
            rows.append({**candidate_fields(one.candidate), **reasons})
        record: dict[str, object] = {"mention": text, "candidates": rows}
        if mine.reason is not None:
            record["reason"] = mine.reason.value
        typer.echo(in_json(record))


def in_json(value: object) -> str:
    r"""Return JSON on one line; control characters that a terminal obeys are escaped, all of them.

    >>> in_json("ä \x1b[31m \x9b31m")
    '"ä \\u001b[31m \\u009b31m"'
    """
    text = json.dumps(value, ensure_ascii=False)
    return _CONTROL.sub(lambda sign: f"\\u{ord(sign.group()):04x}", text)


def candidate_fields(candidate: Candidate) -> dict[str, object]:
    """Return a candidate as JSON has it.

    ``probability`` is null where none was fitted; ``context`` is there only where one decided,
    ``dense`` and ``letters`` only after a search by both doors.
    """
    score = round(candidate.score, 4)
    fields: dict[str, object]
    if candidate.passage is not None:
        fields = {
            "id": candidate.passage.id,
            "title": candidate.passage.title,
            "text": candidate.passage.text,
            "matched": candidate.matched,
            "score": score,
            "how": candidate.how.value,
        }
    else:
        probability = candidate.probability
        fields = {
            "id": candidate.entity_id,
            "name": candidate.name,
            "matched": candidate.matched,
            "score": score,
            "probability": None if probability is None else round(probability, 4),
            "how": candidate.how.value,
            "tied": candidate.tied,
            "read_as": candidate.read_as,
        }
    for name in ("context", *_TWO_DOORS):
        value = getattr(candidate, name)
        if value is not None:
            fields[name] = round(value, 4)
    return fields


def facts(values: Mapping[str, object], *, as_json: bool) -> None:
    """Print what is known of one thing: a line a value, nested ones indented; or as JSON."""
    if as_json:
        typer.echo(in_json(values))
        return
    for line in _fact_lines(values, indent=""):
        typer.echo(line)


def _fact_lines(values: Mapping[str, object], *, indent: str) -> Iterator[str]:
    width = max((len(name) for name, v in values.items() if not isinstance(v, Mapping)), default=0)
    for name, value in values.items():
        if isinstance(value, Mapping):
            if value:
                yield f"{indent}{name}"
                yield from _fact_lines(value, indent=indent + "  ")
        else:
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            shown = layout.plain(text)
            yield f"{indent}{name.ljust(width)}  {shown}"


def _rows(
    record: Mapping[str, Any], subject: str, many: str, columns: Sequence[str]
) -> Iterator[tuple[str, ...]]:
    if not record[many]:
        reason = record.get("reason", "")
        yield (record[subject], *(reason if name == "reason" else "" for name in columns))
    for rank, candidate in enumerate(record[many], start=1):
        fields = {"rank": rank, "reason": record.get("reason"), **candidate}
        yield (record[subject], *(_shown(fields.get(name)) for name in columns))


def _shown(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def _one_cell(text: str) -> str:
    return " ".join(text.split()) if any(sign in text for sign in "\t\n\r") else text
