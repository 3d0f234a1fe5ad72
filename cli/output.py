"""Print results: to standard output, in a form for programs or a table for people."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import Enum
from itertools import islice
from typing import TYPE_CHECKING

import typer

from . import layout

if TYPE_CHECKING:
    from mirror_rt.types import Answer


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
    from mirror_rt.knowledge.linking import results

    both = results.COLUMNS_OF_BOTH if hybrid else results.COLUMNS
    columns = results.COLUMNS_OF_PASSAGES if passages else both
    many = "passages" if passages else "candidates"
    lines = [
        in_json(results.record(text, answer, subject=subject, many=many))
        for text, answer in zip(texts, found, strict=True)
    ]
    show(lines, form, subject=subject, many=many, columns=columns, head=head)


def show(
    lines: Sequence[str],
    form: Format,
    *,
    subject: str = "mention",
    many: str = "candidates",
    columns: Sequence[str] | None = None,
    head: bool = True,
) -> None:
    """Print records, each a line of JSON, in a form; see ``candidates``."""
    from mirror_rt.knowledge.linking import results

    if form is Format.JSONL:
        for line in lines:
            typer.echo(line)
        return
    columns = results.COLUMNS if columns is None else columns
    rows = [
        row
        for line in lines
        for row in results.in_rows(json.loads(line), subject=subject, many=many, columns=columns)
    ]
    match form:
        case Format.TSV:
            plain = layout.plain if sys.stdout.isatty() else results.one_cell
            for row in [(subject, *columns), *rows] if head else rows:
                typer.echo("\t".join(plain(field) for field in row))
        case Format.TABLE:
            drawn = layout.lines(
                (subject, *columns), rows, least=[c for c in results.LEAST if c in columns]
            )
            for line in drawn if head else islice(drawn, 1, None):
                typer.echo(line)


def in_json(value: object) -> str:
    """Return JSON on one line, which no terminal obeys."""
    from mirror_rt.knowledge.linking.results import in_json as one_line

    return one_line(value)


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
