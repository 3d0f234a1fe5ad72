"""Read the input of a command: words, the rows of a file, or standard input."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from mirror_rt._count import counted
from mirror_rt.errors import ConfigError, InputError

from .file_options import FILE_PANEL

if TYPE_CHECKING:
    from mirror_rt.knowledge import KnowledgeBase
    from mirror_rt.knowledge.linking.inputs import MentionNotes, Row
    from mirror_rt.runtime import Encoder
    from mirror_rt.tables import Notes
    from mirror_rt.types import Float32


_WHICH = "Which entities may be found"


ColumnOption = Annotated[
    str | None,
    typer.Option(
        help="Column or field of the text.",
        rich_help_panel=FILE_PANEL,
    ),
]

FilterOption = Annotated[
    list[str] | None,
    typer.Option(
        "--filter",
        help="Only entities with FIELD=VALUE[,VALUE]: type, id, source, language, xref, under, "
        "description (yes, no), kept columns, metadata of passages; repeatable.",
        rich_help_panel=_WHICH,
    ),
]

UnderOption = Annotated[
    list[str] | None,
    typer.Option(
        "--under",
        help="Only this entity and its descendants (is_a); repeatable.",
        rich_help_panel=_WHICH,
    ),
]

_LONGEST = 4_096
"""Maximum characters of a word on the command line; a longer one is a document."""

_FILE_ENDINGS = (
    ".txt", ".list", ".tsv", ".csv", ".jsonl", ".ndjson", ".json", ".parquet", ".xlsx", ".xlsm",
    ".xls", ".tab", ".pubtator",
)  # fmt: skip


def parsed_filters(
    given: Sequence[str] | None, under: Sequence[str] | None = None
) -> list[tuple[str, list[str]]]:
    """Parse ``--filter`` and ``--under`` into the filters of a knowledge base.

    Raises:
        ConfigError: A condition is not FIELD=VALUE.
    """
    found = []
    for text in given or ():
        field, equals, values = text.partition("=")
        if not field or not equals:
            raise ConfigError(f"--filter {text}: give FIELD=VALUE, as in type=disease")
        found.append((field.strip(), [value.strip() for value in values.split(",")]))
    return [*found, ("under", list(under))] if under else found


def source_of(
    arguments: Sequence[str], *, columns: Mapping[str, str | None], longest: int = _LONGEST
) -> str | list[str]:
    """Return the file or ``-`` on the command line; or the words.

    Args:
        arguments: The words, a file or ``-``.
        columns: The value of each option that names a column. Words have no columns.
        longest: The maximum number of characters of a word.

    Raises:
        InputError: The only argument looks like a missing file, or is a folder; or one of several
            is a file; or one is a whole text.
        ConfigError: A column is given for words.
    """
    from mirror_rt.textfiles import PACKED_ENDINGS

    if len(arguments) == 1:
        only = arguments[0]
        if only == "-" or _is_file(only):
            if only != "-" and "." not in only and "/" not in only:
                typer.echo(
                    f"{only}: is read as the file of that name; to use the word, give it through -",
                    err=True,
                )
            return only
        if only.lower().endswith((*_FILE_ENDINGS, *PACKED_ENDINGS)):
            raise InputError(f"{only}: no such file")
        if _is_folder(only):
            raise InputError(f"{only}: is a folder; name a file, or give the word through -")
    for argument in arguments:
        if _is_file(argument):
            raise InputError(
                f"{argument}: is a file among other arguments; give one file, or join files "
                "and words through - (standard input)"
            )
        if len(argument) > longest or "\n" in argument.strip():
            raise InputError(
                f"{argument[:40]!r} …: is a text of {counted(len(argument), 'character')}; "
                "give what is to be found, one a line of a file or through -"
            )
    for name, value in columns.items():
        if value is not None:
            option = f"--{name.replace('_', '-')}"
            raise ConfigError(f"{option}: words have no columns; name a file")
    return list(arguments)


def rows_of(
    source: str | list[str], notes: MentionNotes, columns: Mapping[str, Any]
) -> Iterator[Row]:
    """Return the rows of a file, while it is read, or of words.

    Args:
        source: The result of ``source_of``.
        notes: Filled with remarks about the file.
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


def report_notes(source: str | Path | list[str], notes: Notes) -> None:
    """Print on standard error what was skipped in a file, and how it was read."""
    shown = "standard input" if source == "-" else source
    for sentence in notes.sentences():
        typer.echo(f"{shown}: {sentence}", err=True)


def count(source: str | list[str]) -> int | None:
    """Return the approximate number of rows, to show the remaining time."""
    from mirror_rt.runtime.sources import count_rows

    return count_rows(source) if isinstance(source, str) else len(source)


def _is_folder(argument: str) -> bool:
    try:
        return Path(argument).is_dir()
    except (OSError, ValueError):
        return False


def _is_file(argument: str) -> bool:
    try:
        path = Path(argument)
        if not path.is_dir():
            return path.exists()
    except (OSError, ValueError):  # too long for a file name, or contains a NUL
        return False
    from mirror_rt.tables import parquet_parts

    return bool(parquet_parts(path))


class CountingEncoder:
    """Opens a bundle on first use, and counts the strings that a build cuts off.

    Attributes:
        calls: (strings, strings that were cut off, unfamiliar strings) of each call.
    """

    def __init__(self, bundle: Path) -> None:
        self.calls: list[tuple[int, int, int]] = []
        self._bundle = bundle
        self._encoder: Encoder | None = None

    @property
    def encoder(self) -> Encoder:
        """The encoder of the bundle."""
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
        self.calls.append((len(texts), found.truncated, found.unfamiliar))
        return found.vectors_ND

    def report_truncated(self, names: int, *, more: str = "") -> None:
        """Report the names of a build that were cut off, or that are unfamiliar to a student.

        The misspelled names after them are not counted.
        """
        cut = unfamiliar = done = 0
        for strings, truncated, unknown in self.calls:
            if done < names:
                done, cut, unfamiliar = done + strings, cut + truncated, unfamiliar + unknown
        report_truncated(self, cut, what=f"{cut:,} of {counted(names, 'string')}{more}")
        report_unfamiliar(unfamiliar, names)


def report_unfamiliar(count: int, texts: int) -> None:
    """Report on standard error the strings that are unfamiliar to a student, if any."""
    if count:
        typer.echo(
            f"unfamiliar: of {count:,} of {counted(texts, 'string')} most words and letters are "
            "unknown to this static encoder (another script or domain?): the vector means little; "
            "distil one on names like these",
            err=True,
        )


def report_truncated(owner: CountingEncoder | KnowledgeBase, cut: int, *, what: str) -> None:
    """Report on standard error the strings that were cut off, if any.

    Args:
        owner: The encoder, or what holds it.
        cut: How many were cut off.
        what: The number with its noun.
    """
    if cut:
        encoder = cast("Encoder", owner.encoder)
        manifest = encoder.bundle.manifest
        limit = f"cut off at {manifest.max_length} {manifest.unit_of_length}"
        typer.echo(f"{limit}: {what}", err=True)
