"""The strings that a command is asked about: words, a file's rows, or standard input's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from mirror_rt.errors import ConfigError, InputError

if TYPE_CHECKING:
    from mirror_rt.knowledge import KnowledgeBase
    from mirror_rt.knowledge.linking.inputs import Notes, Row
    from mirror_rt.runtime import Encoder
    from mirror_rt.types import Float32


ColumnOption = Annotated[
    str | None, typer.Option(help="Column or field of a .csv, .tsv, .jsonl or .parquet file.")
]

TypeOption = Annotated[
    list[str] | None,
    typer.Option("--type", "--types", help="Only entities of this type (or of another one given)."),
]

WhereOption = Annotated[
    list[str] | None,
    typer.Option(
        help="Only entities with FIELD=VALUE[,VALUE]: type, id, source, language, xref, "
        "description (yes, no), metadata of passages; repeatable."
    ),
]

_FILE_ENDINGS = (
    ".txt", ".list", ".tsv", ".csv", ".jsonl", ".ndjson", ".json", ".parquet", ".pubtator",
    ".gz", ".zst",
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


def source_of(arguments: Sequence[str], *, columns: Mapping[str, str | None]) -> str | list[str]:
    """Return the file, or ``-``, that the strings of the command line are in; or the words.

    Args:
        arguments: The words, a file or ``-``.
        columns: What was given for each option that names a column: words have none.

    Raises:
        InputError: The only argument looks like a file that is not there, or one of several is
            a file.
        ConfigError: Words were asked for a column.
    """
    if len(arguments) == 1:
        only = arguments[0]
        if only == "-" or _is_file(only):
            return only
        if only.lower().endswith(_FILE_ENDINGS):
            raise InputError(f"{only}: no such file")
    for argument in arguments:
        if _is_file(argument):
            raise InputError(
                f"{argument}: is a file among other arguments; give one file, or join files "
                "and words through - (standard input)"
            )
    for name, value in columns.items():
        if value is not None:
            option = f"--{name.replace('_', '-')}"
            raise ConfigError(f"{option}: words have no columns; name a file")
    return list(arguments)


def rows_of(source: str | list[str], notes: Notes, columns: Mapping[str, Any]) -> Iterator[Row]:
    """Return the rows of a file as they are read, or of words.

    Args:
        source: What ``source_of`` found.
        notes: What is worth telling when a file has been read.
        columns: The options of ``read_mentions``.

    Raises:
        InputError: The file cannot be read or is empty.
    """
    from mirror_rt.knowledge.linking.inputs import read_mentions

    if isinstance(source, list):
        return ((word, "", "") for word in source)
    rows = read_mentions(source, notes=notes, **columns)
    first = next(rows, None)
    if first is None:
        shown = "standard input" if source == "-" else source
        raise InputError(f"{shown}: is empty; give one string a row")
    return chain([first], rows)


def tell_notes(source: str | list[str], notes: Notes) -> None:
    """Say on standard error what a file held beside its rows."""
    if notes.blank_rows:
        typer.echo(f"{source}: {notes.blank_rows:,} blank rows passed over", err=True)
    if notes.misplaced:
        there = f"{notes.misplaced:,} mentions do not stand in the text at their offsets"
        typer.echo(f"{source}: {there}", err=True)


def count(source: str | list[str]) -> int | None:
    """Return about how many rows there are, for showing the time left."""
    from mirror_rt.runtime.sources import count_rows

    return count_rows(source) if isinstance(source, str) else len(source)


def _is_file(argument: str) -> bool:
    try:
        return Path(argument).exists() and not Path(argument).is_dir()
    except (OSError, ValueError):  # too long for a name of a file, or holds a NUL
        return False


class CountingEncoder:
    """Opens a bundle when it is first needed, and counts what a build cuts off.

    Attributes:
        calls: (strings, how many of them were cut off) of each call.
    """

    def __init__(self, bundle: Path) -> None:
        self.calls: list[tuple[int, int]] = []
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
        self.calls.append((len(texts), found.truncated))
        return found.vectors_ND

    def tell_cut(self, names: int, *, more: str = "") -> None:
        """Say how many of the names of a build were cut off: misspelt ones come after them."""
        cut = done = 0
        for strings, truncated in self.calls:
            if done < names:
                done, cut = done + strings, cut + truncated
        tell_cut(self, cut, what=f"of {names:,} strings{more}")


def tell_cut(holder: CountingEncoder | KnowledgeBase, cut: int, *, what: str) -> None:
    """Say on standard error how many strings were cut off; nothing if none was."""
    if cut:
        encoder = cast("Encoder", holder.encoder)
        longest = encoder.bundle.manifest.max_length
        typer.echo(f"cut off at {longest} tokens: {cut:,} {what}", err=True)
