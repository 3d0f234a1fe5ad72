"""Detect the format of a table: by the user's option, its first bytes, or its name."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mirror_rt.errors import ConfigError, InputError
from mirror_rt.textfiles import PACKED_ENDINGS, Source, StrPath, shown
from mirror_rt.types import FileFormat

__all__ = [
    "FileFormat",
    "TableOptions",
    "delimiter_named",
    "detect_format",
    "format_of",
    "parquet_parts",
]

_OBJECT = re.compile(rb'(?:\xef\xbb\xbf)?\s*\[?\s*\{\s*"[^"\n]*"\s*:')


_BY_SUFFIX = {
    ".csv": FileFormat.CSV,
    ".tsv": FileFormat.TSV,
    ".tab": FileFormat.TSV,
    ".jsonl": FileFormat.JSONL,
    ".ndjson": FileFormat.JSONL,
    ".json": FileFormat.JSONL,
    ".parquet": FileFormat.PARQUET,
    ".xlsx": FileFormat.XLSX,
    ".xlsm": FileFormat.XLSX,
    ".xls": FileFormat.XLSX,
}


def format_of(source: StrPath) -> FileFormat:
    """Return the format by the last suffix before a compression suffix; plain text if unknown.

    A folder of Parquet parts, as Spark writes it, is Parquet.

    >>> format_of("names.tsv.gz")
    <FileFormat.TSV: 'tsv'>
    """
    path = Path(source)
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in PACKED_ENDINGS:
        suffixes.pop()
    kind = _BY_SUFFIX.get(suffixes[-1], FileFormat.TEXT) if suffixes else FileFormat.TEXT
    with suppress(OSError, ValueError):
        if kind is FileFormat.TEXT and path.is_dir() and parquet_parts(path):
            return FileFormat.PARQUET
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

    format: FileFormat | None = None
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


def detect_format(source: Source, options: TableOptions, default: FileFormat) -> FileFormat:
    """Detect the format of a file: by the options, its first bytes, or its name.

    Raises:
        InputError: It cannot be opened, or is a folder or an archive.
    """
    if options.format is not None:
        return options.format
    kind = format_of(source)
    if Path(source).is_dir():
        if kind is FileFormat.PARQUET:
            return kind
        raise InputError(f"{source}: is a folder; name a file")
    magic = source.head()[:8]
    if magic.startswith(b"PAR1"):
        return FileFormat.PARQUET
    if magic.startswith((b"PK\x03\x04", b"\xd0\xcf\x11\xe0")):
        if kind is not FileFormat.XLSX and b"xl/" not in source.head() and magic.startswith(b"PK"):
            raise InputError(
                f"{shown(source)}: is a zip archive; unpack it and name the file in it"
            )
        return FileFormat.XLSX
    if kind is FileFormat.TEXT and default is FileFormat.TEXT and options.delimiter is not None:
        return FileFormat.CSV  # what has cells is a table
    if kind is FileFormat.TEXT and default is not FileFormat.TEXT and _OBJECT.match(source.head()):
        return FileFormat.JSONL
    return default if kind is FileFormat.TEXT else kind
