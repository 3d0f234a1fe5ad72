"""Write results to standard output or a file, in formats for programs or as a table."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from . import text_table

if TYPE_CHECKING:
    from rich.console import ConsoleRenderable


class Format(Enum):
    """The format of results."""

    TABLE = "table"
    JSONL = "jsonl"
    JSON = "json"
    CSV = "csv"
    TSV = "tsv"


PANEL = "Output"

FormatOption = Annotated[
    Format | None,
    typer.Option(
        "--format",
        "-f",
        help="By default a table on a terminal, otherwise JSON lines.",
        rich_help_panel=PANEL,
    ),
]
OutOption = Annotated[
    Path | None,
    typer.Option(
        "--out",
        "-o",
        help="Write this file; its ending is the format: .csv, .json, ….",
        rich_help_panel=PANEL,
    ),
]
_FORCE = "Replace what exists."
ForceOption = Annotated[bool, typer.Option("--force", help=_FORCE)]
ForceOptionInPanel = Annotated[bool, typer.Option("--force", help=_FORCE, rich_help_panel=PANEL)]

Write: TypeAlias = Callable[[str], None]
"""Writes a line."""

_OF_ENDINGS = {f".{form.value}": form for form in Format} | {".txt": Format.TABLE}


def chosen(form: Format | None, out: Path | None = None) -> Format:
    """Return the format: the given one, or by the ending of the file, or for standard output.

    Raises:
        ConfigError: The format of a file is not clear.
    """
    if form is not None:
        return form
    if out is None:
        return Format.TABLE if sys.stdout.isatty() else Format.JSONL
    if (found := _OF_ENDINGS.get(out.suffix.lower())) is None:
        from mirror_rt.errors import ConfigError

        raise ConfigError(f"{out}: end the name in {', '.join(_OF_ENDINGS)}, or give --format")
    return found


@contextmanager
def lines_to(out: Path | None, *, force: bool = False) -> Iterator[Write]:
    """Provide a function that writes lines: to standard output, or to a file atomically.

    Raises:
        TargetError: ``out`` exists and ``force`` is not set.
    """
    if out is None:
        yield typer.echo
        return
    from mirror_rt.staging import staging_file

    with (
        staging_file(out, force=force) as fresh,
        open(fresh, "w", encoding="utf-8", newline="") as handle,
    ):
        yield lambda line: print(line, file=handle)


def cells(row: Iterable[object], form: Format) -> str:
    r"""Return a row as a line of CSV or TSV; None is an empty cell.

    >>> cells(["a, b", None, 0.5], Format.CSV)
    '"a, b",,0.5'
    """
    texts = ["" if value is None else str(value) for value in row]
    if form is Format.TSV:
        from mirror_rt.knowledge.linking.results import one_cell

        plain = text_table.plain if sys.stdout.isatty() else one_cell
        texts = [plain(text) for text in texts]
    line = io.StringIO()
    delimiter = "," if form is Format.CSV else "\t"
    csv.writer(line, delimiter=delimiter, lineterminator="").writerow(texts)
    return line.getvalue()


def table(
    columns: Sequence[str], rows: Sequence[Sequence[object]], form: Format, write: Write
) -> None:
    """Write rows in a format; in JSON, one object for each row."""
    match form:
        case Format.JSON | Format.JSONL:
            records = [dict(zip(columns, row, strict=True)) for row in rows]
            if form is Format.JSON:
                write(json.dumps(records, indent=2, ensure_ascii=False))
            else:
                for record in records:
                    write(to_json_line(record))
        case Format.CSV | Format.TSV:
            for row in (columns, *rows):
                write(cells(row, form))
        case Format.TABLE:
            texts = [["" if value is None else str(value) for value in row] for row in rows]
            for line in text_table.lines(columns, texts):
                write(line)


def report(
    record: Mapping[str, object],
    columns: Sequence[str],
    rows: Sequence[Sequence[object]],
    form: Format,
    write: Write,
    *,
    people: Callable[[], Iterable[str]],
) -> None:
    """Write the result of a command: everything as JSON, its main table, or readable lines.

    Args:
        record: Everything, in JSON types.
        columns: The headings of the main table.
        rows: The rows of the main table.
        form: The format.
        write: Writes a line.
        people: Returns the lines of ``Format.TABLE``.
    """
    match form:
        case Format.JSON:
            write(json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False))
        case Format.JSONL:
            write(to_json_line(record))
        case Format.CSV | Format.TSV:
            table(columns, rows, form, write)
        case Format.TABLE:
            for line in people():
                write(line)


@contextmanager
def results(
    form: Format,
    write: Write = typer.echo,
    *,
    subject: str = "mention",
    columns: Sequence[str] | None = None,
) -> Iterator[Callable[[Sequence[str]], None]]:
    """Provide a function that writes results in a format. Each result is a line of JSON.

    JSON has one object for each text. CSV, TSV and tables have one row for each candidate. A text
    without candidates gets a row with the reason. Columns without room in a table are reported on
    standard error at the end.

    Args:
        form: The format.
        write: Writes a line.
        subject: The name of the field or column of the text.
        columns: The fields of a candidate; by default those of a mention.
    """
    from mirror_rt.knowledge.linking import results as records

    columns = records.COLUMNS if columns is None else columns
    headings, least = (subject, *columns), [c for c in records.DROP_ORDER if c in columns]
    gone: dict[str, None] = {}
    begun, header = False, list[str]()

    def add(lines: Sequence[str]) -> None:
        nonlocal begun, header
        match form:
            case Format.JSONL:
                for line in lines:
                    write(line)
            case Format.JSON:
                for line in lines:
                    write(("," if begun else "[") + line)
                    begun = True
            case Format.CSV | Format.TSV | Format.TABLE:
                rows = [
                    row
                    for line in lines
                    for row in records.in_rows(json.loads(line), subject=subject, columns=columns)
                ]
                if form is Format.TABLE:
                    drawn = text_table.lines(headings, rows, least=least, gone=gone.setdefault)
                else:
                    drawn = (cells(row, form) for row in (headings, *rows))
                first = next(drawn)
                if first.split() != header:  # a later table may have other columns
                    write(first)
                    header = first.split()
                for line in drawn:
                    write(line)

    yield add
    if form is Format.JSON:
        write("]" if begun else "[]")
    if gone:
        typer.echo(
            f"no room here for {', '.join(gone)}; widen the window, or give --format csv", err=True
        )


def summary(record: Mapping[str, object]) -> None:
    """Print a record: one line per value on a terminal, otherwise one line of JSON."""
    if not sys.stdout.isatty():
        typer.echo(to_json_line(record))
        return
    texts = {k: v if isinstance(v, str) else json.dumps(v) for k, v in record.items()}
    for line in text_table.record_lines(texts):
        typer.echo(line)


def rendered(what: ConsoleRenderable) -> list[str]:
    """Return the lines of a rich object, in color if standard output supports it."""
    from rich.console import Console

    console = Console()
    with console.capture() as capture:
        console.print(what)
    return capture.get().splitlines()


def to_json_line(value: object) -> str:
    """Return JSON on one line, without control characters."""
    from mirror_rt.knowledge.linking.results import to_json_line as one_line

    return one_line(value)
