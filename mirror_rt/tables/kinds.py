"""Detect the format of a table: by the user's option, its first bytes, or its name."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from mirror_rt.errors import ConfigError, InputError
from mirror_rt.textfiles import PACKED_ENDINGS, Source, StrPath, shown

__all__ = ["Kind", "TableOptions", "delimiter_named", "detect_kind", "kind_of", "parquet_parts"]

_OBJECT = re.compile(rb'(?:\xef\xbb\xbf)?\s*\[?\s*\{\s*"[^"\n]*"\s*:')


class Kind(Enum):
    """The format of a file."""

    TEXT = "text"
    CSV = "csv"
    TSV = "tsv"
    JSONL = "jsonl"
    PARQUET = "parquet"
    XLSX = "xlsx"


_KINDS = {
    ".csv": Kind.CSV, ".tsv": Kind.TSV, ".tab": Kind.TSV, ".jsonl": Kind.JSONL,
    ".ndjson": Kind.JSONL, ".json": Kind.JSONL, ".parquet": Kind.PARQUET, ".xlsx": Kind.XLSX,
    ".xlsm": Kind.XLSX, ".xls": Kind.XLSX,
}  # fmt: skip


def kind_of(source: StrPath) -> Kind:
    """Return the format by the last suffix before a compression suffix; plain text if unknown.

    A folder of Parquet parts, as Spark writes it, is Parquet.

    >>> kind_of("names.tsv.gz")
    <Kind.TSV: 'tsv'>
    """
    path = Path(source)
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in PACKED_ENDINGS:
        suffixes.pop()
    kind = _KINDS.get(suffixes[-1], Kind.TEXT) if suffixes else Kind.TEXT
    with suppress(OSError, ValueError):
        if kind is Kind.TEXT and path.is_dir() and parquet_parts(path):
            return Kind.PARQUET
    return kind


def parquet_parts(folder: StrPath) -> list[Path]:
    """Return the Parquet files of a folder that Spark wrote, in order; none for other folders.

    Such a folder contains Parquet files, folders ``column=value`` of Parquet files, and hidden
    files (starting with ``_`` or ``.``), which are not data. With any other file it is not a table.
    """
    found: list[Path] = []
    for path in sorted(Path(folder).iterdir()):
        if path.name.startswith(("_", ".")):
            continue
        if path.is_dir():
            parts = parquet_parts(path) if "=" in path.name else []
        else:
            parts = [path] if path.suffix == ".parquet" else []
        if not parts:
            return []
        found += parts
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class TableOptions:
    """Options for reading a file whose name and content are not enough.

    Attributes:
        format: The format; None to detect it.
        delimiter: The delimiter, one character or ``tab``; None to detect it.
        encoding: The encoding of the text; None to detect UTF-8 or UTF-16.
        quoted: Whether ``"`` quotes cells.

    Raises:
        ConfigError: The delimiter is not a single character, or the encoding is unknown.
    """

    format: Kind | None = None
    delimiter: str | None = None
    encoding: str | None = None
    quoted: bool = True

    def __post_init__(self) -> None:
        if self.delimiter is not None:
            object.__setattr__(self, "delimiter", delimiter_named(self.delimiter))
        if self.encoding is not None:
            Source("-", encoding=self.encoding)


def delimiter_named(text: str) -> str:
    r"""Return the delimiter for an option: one character, or the word ``tab``.

    Raises:
        ConfigError: It is neither.

    >>> delimiter_named("tab"), delimiter_named("\\t"), delimiter_named(";")
    ('\t', '\t', ';')
    """
    found = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";", "bar": "|"}.get(text, text)
    if len(found) != 1 or found in '"\r\n':
        raise ConfigError(f"--delimiter {text}: give one character, or tab")
    return found


def detect_kind(source: Source, options: TableOptions, default: Kind) -> Kind:
    """Detect the format of a file: by the options, its first bytes, or its name.

    Raises:
        InputError: It cannot be opened, or is a folder or an archive.
    """
    if options.format is not None:
        return options.format
    kind = kind_of(source)
    if Path(source).is_dir():
        if kind is Kind.PARQUET:
            return kind
        raise InputError(f"{source}: is a folder; name a file")
    magic = source.head()[:8]
    if magic.startswith(b"PAR1"):
        return Kind.PARQUET
    if magic.startswith((b"PK\x03\x04", b"\xd0\xcf\x11\xe0")):
        if kind is not Kind.XLSX and b"xl/" not in source.head() and magic.startswith(b"PK"):
            raise InputError(
                f"{shown(source)}: is a zip archive; unpack it and name the file in it"
            )
        return Kind.XLSX
    if kind is Kind.TEXT and default is Kind.TEXT and options.delimiter is not None:
        return Kind.CSV  # what has cells is a table
    if kind is Kind.TEXT and default is not Kind.TEXT and _OBJECT.match(source.head()):
        return Kind.JSONL
    return default if kind is Kind.TEXT else kind
