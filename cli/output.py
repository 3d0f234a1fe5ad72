"""Print results: to standard output, in a form for programs or a table for people."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from mirror_rt.types import Candidate

if TYPE_CHECKING:
    from mirror_rt.knowledge.explain import Explained

_COLUMNS = ("rank", "id", "name", "matched", "score", "probability", "how", "tied", "read_as")


_FILE_ENDINGS = (".txt", ".tsv", ".csv", ".jsonl", ".json", ".gz", ".parquet", ".list")


class Format(Enum):
    """The form of results on standard output."""

    JSONL = "jsonl"
    TSV = "tsv"
    TABLE = "table"


def texts_of(arguments: Sequence[str]) -> list[str]:
    """Return the texts meant on the command line: a file's lines, standard input's, or words.

    Raises:
        InputError: A file cannot be read, or the only argument looks like one that is not there.
    """
    from mirror_rt.textfiles import read_lines

    if len(arguments) == 1:
        only = arguments[0]
        if only == "-" or only.lower().endswith(_FILE_ENDINGS) or _is_file(Path(only)):
            return read_lines(only)
    return list(arguments)


def candidates(
    texts: Sequence[str], found: Iterable[Sequence[Candidate]], form: Format, *, subject: str
) -> None:
    """Print the candidates of each text, in the order of the texts.

    JSON lines: an object a text. TSV and table: a row a candidate, and one row with empty
    fields for a text without any, so that no text goes missing.

    Args:
        texts: What was asked.
        found: For each text its candidates.
        form: How to print them.
        subject: What a text is called: the name of its field or column.
    """
    match form:
        case Format.JSONL:
            for text, mine in zip(texts, found, strict=True):
                record = {subject: text, "candidates": [candidate_fields(c) for c in mine]}
                typer.echo(json.dumps(record, ensure_ascii=False))
        case Format.TSV:
            typer.echo("\t".join((subject, *_COLUMNS)))
            for text, mine in zip(texts, found, strict=True):
                for row in _rows(text, mine):
                    typer.echo("\t".join(_flat(field) for field in row))
        case Format.TABLE:
            rows = [
                row for text, mine in zip(texts, found, strict=True) for row in _rows(text, mine)
            ]
            table((subject, *_COLUMNS), rows)


def explained(texts: Sequence[str], found: Iterable[Sequence[Explained]]) -> None:
    """Print an object a mention: its candidates with their evidence, rivals marked."""
    for text, mine in zip(texts, found, strict=True):
        rows = []
        for one in mine:
            reasons = asdict(one)
            del reasons["candidate"]
            rows.append({**candidate_fields(one.candidate), **reasons})
        typer.echo(json.dumps({"mention": text, "candidates": rows}, ensure_ascii=False))


def candidate_fields(candidate: Candidate) -> dict[str, object]:
    """Return a candidate as JSON has it; ``probability`` is null where none was fitted."""
    return {
        "id": candidate.entity_id,
        "name": candidate.name,
        "matched": candidate.matched,
        "score": round(candidate.score, 4),
        "probability": None if candidate.probability is None else round(candidate.probability, 4),
        "how": candidate.how.value,
        "tied": candidate.tied,
        "read_as": candidate.read_as,
    }


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print columns of aligned text, long fields cut."""
    shown = [[_cut(_flat(field)) for field in row] for row in (columns, *rows)]
    widths = [max(len(row[i]) for row in shown) for i in range(len(columns))]
    for row in shown:
        line = "  ".join(f.ljust(width) for f, width in zip(row, widths, strict=True))
        typer.echo(line.rstrip())


def facts(values: Mapping[str, object], *, as_json: bool) -> None:
    """Print what is known of one thing: a line a value, nested ones indented; or as JSON."""
    if as_json:
        typer.echo(json.dumps(values, ensure_ascii=False))
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
            shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            yield f"{indent}{name.ljust(width)}  {shown}"


@contextmanager
def progress_bar(words: str) -> Iterator[Callable[[int, int], None]]:
    """Give a function of (done, of how many) that draws a bar on standard error.

    Draws nothing when standard error is not a terminal.
    """
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task(words, total=None)

        def advance(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        yield advance


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # too long for a name of a file, or holds a NUL
        return False


def _rows(text: str, mine: Sequence[Candidate]) -> Iterator[tuple[str, ...]]:
    if not mine:
        yield (text, *([""] * len(_COLUMNS)))
    for rank, candidate in enumerate(mine, start=1):
        values = candidate_fields(candidate).values()
        yield (text, str(rank), *(_shown(value) for value in values))


def _shown(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def _flat(field: str) -> str:
    return " ".join(field.split()) if any(sign in field for sign in "\t\n\r") else field


def _cut(field: str, width: int = 48) -> str:
    return field if len(field) <= width else field[: width - 1] + "…"
