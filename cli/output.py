"""Print results: to standard output, in a form for programs or a table for people."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from itertools import islice

import typer

from . import layout


class Format(Enum):
    """The form of results on standard output."""

    JSONL = "jsonl"
    TSV = "tsv"
    TABLE = "table"


def show(
    lines: Sequence[str],
    form: Format,
    *,
    subject: str = "mention",
    columns: Sequence[str] | None = None,
    head: bool = True,
) -> None:
    """Print results, each a line of JSON, in a form.

    JSON lines: an object a text. TSV and table: a row a candidate, and one row for a text
    without any that has the reason alone, so that no text goes missing.

    Args:
        lines: The results of texts, in their order.
        form: How to print them.
        subject: What a text is called: the name of its field or column.
        columns: The fields of a candidate; by default those of a mention.
        head: Whether to print the headings of columns first.
    """
    from mirror_rt.knowledge.linking import results

    if form is Format.JSONL:
        for line in lines:
            typer.echo(line)
        return
    columns = results.COLUMNS if columns is None else columns
    rows = [
        row
        for line in lines
        for row in results.in_rows(json.loads(line), subject=subject, columns=columns)
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
