"""The strings that a command is asked about: words, a file's rows, or standard input's."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from mirror_rt.errors import ConfigError, InputError

from . import progress

if TYPE_CHECKING:
    from mirror_rt.runtime import Encoder
    from mirror_rt.types import Float32

Block = tuple[list[str], list[str]]
"""Strings, and what stands beside each in the input: a context, or nothing."""

BLOCK = 1_024
"""Strings answered and printed at a time: an interrupt loses no more than these."""

ColumnOption = Annotated[
    str | None, typer.Option(help="Column or field of a .csv, .tsv, .jsonl or .parquet file.")
]

WhereOption = Annotated[
    list[str] | None,
    typer.Option(
        help="Only entities with FIELD=VALUE[,VALUE]: type, id, source, language, xref, "
        "description (yes, no), metadata of passages; repeatable."
    ),
]

_FILE_ENDINGS = (
    ".txt", ".list", ".tsv", ".csv", ".jsonl", ".ndjson", ".json", ".parquet", ".gz", ".zst",
)  # fmt: skip


def conditions(
    where: Sequence[str] | None, types: Sequence[str] | None = None
) -> list[tuple[str, list[str]]]:
    """Read ``--where`` and ``--type`` into the filters that a knowledge base takes.

    Raises:
        ConfigError: A condition is not FIELD=VALUE.
    """
    found = []
    for text in where or ():
        field, equals, values = text.partition("=")
        if not field or not equals:
            raise ConfigError(f"--where {text}: give FIELD=VALUE, as in type=disease")
        found.append((field.strip(), [value.strip() for value in values.split(",")]))
    return [*found, ("type", list(types))] if types else found


def blocks(
    arguments: Sequence[str], *, column: str | None, beside: str | None = None
) -> Iterator[Block]:
    """Yield the strings meant on the command line, ``BLOCK`` at a time; a file is read as it goes.

    A single argument may be a file, in every layout that ``embed`` reads, or ``-``. ``beside``
    names another column of it, whose strings come beside the first ones.

    Raises:
        InputError: A file cannot be read or is empty, the only argument looks like a file
            that is not there, or one of several is a file.
        ConfigError: Words, or plain text, were asked for a column.
    """
    rows = _rows(arguments, column, beside)
    first = list(islice(rows, BLOCK))
    if not first:
        raise InputError(f"{_shown(arguments[0])}: is empty; give one string a row")
    some = chain([first], iter(lambda: list(islice(rows, BLOCK)), []))
    return (([text for text, _ in rows], [other for _, other in rows]) for rows in some)


def _rows(
    arguments: Sequence[str], column: str | None, beside: str | None
) -> Iterator[tuple[str, str]]:
    from mirror_rt.runtime.sources import read_rows

    if len(arguments) == 1:
        only = arguments[0]
        if only == "-" or _is_file(only):
            return read_rows(only, column=column, id_column=beside)
        if only.lower().endswith(_FILE_ENDINGS):
            raise InputError(f"{only}: no such file")
    for argument in arguments:
        if _is_file(argument):
            raise InputError(
                f"{argument}: is a file among other arguments; give one file, or join files "
                "and words through - (standard input)"
            )
    if column is not None or beside is not None:
        raise ConfigError("--column: words have no columns; name a file")
    return ((argument, "") for argument in arguments)


def _is_file(argument: str) -> bool:
    try:
        return Path(argument).exists() and not Path(argument).is_dir()
    except (OSError, ValueError):  # too long for a name of a file, or holds a NUL
        return False


def _shown(argument: str) -> str:
    return "standard input" if argument == "-" else argument


class CountingEncoder:
    """Opens a knowledge base's bundle when it is first needed, and counts what it cuts off.

    Attributes:
        truncated: Strings cut off, of each call.
    """

    def __init__(self, bundle: Path) -> None:
        self.truncated: list[int] = []
        self._bundle = bundle
        self._encoder: Encoder | None = None

    @property
    def encoder(self) -> Encoder:
        """The encoder behind it."""
        from mirror_rt.runtime import Encoder

        if self._encoder is None:
            self._encoder = Encoder.open(self._bundle)
        return self._encoder

    @property
    def dim(self) -> int:
        """Width D of a vector."""
        return self.encoder.dim

    def encode(self, texts: Sequence[str]) -> Float32:
        """Return (N, D) float32 unit rows, row i for texts[i]."""
        found = self.encoder.encode_counted(texts)
        self.truncated.append(found.truncated)
        return found.vectors_ND


FoundT = TypeVar("FoundT")


def answer(
    some: Iterable[Block],
    find: Callable[[list[str], list[str]], FoundT],
    write: Callable[[list[str], FoundT, bool], None],
    *,
    encoder: CountingEncoder,
    what: str,
) -> None:
    """Answer and print block by block; say at the end how many strings were cut off.

    Args:
        some: The blocks.
        find: Answers a block, given its strings and what stands beside them. What it encodes
            more than once counts once.
        write: Prints a block and its answers; told whether it is the first.
        encoder: The knowledge base's.
        what: A word for the job, for a bar where the answers go elsewhere.
    """
    done, cut = 0, 0
    with progress.bar(what, shown=not sys.stdout.isatty()) as show:
        for texts, others in some:
            found = find(texts, others)
            write(texts, found, not done)
            done += len(texts)
            cut += max(encoder.truncated, default=0)
            encoder.truncated.clear()
            show(done, None)
    if cut:
        longest = encoder.encoder.bundle.manifest.max_length
        words = f"cut off at {longest} tokens: {cut:,} of {done:,} strings"
        typer.echo(words, err=True)
