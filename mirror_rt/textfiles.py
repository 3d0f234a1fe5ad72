"""Read text files a line at a time: plain, .gz or .zst, or standard input, strictly UTF-8."""

from __future__ import annotations

import csv
import gzip
import io
import sys
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import RLock
from typing import IO, cast

from mirror_rt.errors import InputError

__all__ = [
    "MAX_LINE_BYTES",
    "csv_rows",
    "lone_surrogate",
    "numbered_lines",
    "open_binary",
    "read_lines",
]

MAX_LINE_BYTES = 64 * 1024 * 1024
"""A longer line is a binary file by mistake, and would fill memory before it fails."""

_csv_limit = RLock()
"""The csv module has one limit for the process; it is raised for the length of one row."""


@contextmanager
def open_binary(source: str | Path) -> Iterator[IO[bytes]]:
    """Open ``source`` for reading bytes; ``-`` is standard input, .gz and .zst are unpacked.

    Raises:
        InputError: It is missing, a folder, or may not be read.
    """
    if str(source) == "-":
        yield sys.stdin.buffer
        return
    path = Path(source)
    if path.is_dir():
        raise InputError(f"{path}: is a folder; name a file")
    try:
        handle = _opened(path)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    with handle:
        yield handle


def _opened(path: Path) -> IO[bytes]:
    match path.suffix.lower():
        case ".gz":
            return cast("IO[bytes]", gzip.open(path, "rb"))
        case ".zst":
            import pyarrow

            packed = pyarrow.OSFile(str(path))
            return io.BufferedReader(pyarrow.CompressedInputStream(packed, "zstd"))
        case _:
            return open(path, "rb")


def numbered_lines(source: str | Path, *, strict: bool = True) -> Iterator[tuple[int, str]]:
    r"""Yield (line number from 1, text without its line end) of a UTF-8 file.

    Only ``\n`` and ``\r\n`` end a line, so a string may hold any other Unicode separator.
    A byte order mark at the start is dropped.

    Args:
        source: A path, or ``-`` for standard input.
        strict: Whether to refuse bytes that are not UTF-8. If not, they come as lone
            surrogates (``surrogateescape``), for a caller who refuses row by row.

    Raises:
        InputError: The file cannot be opened, is not UTF-8 (the line is named), is a broken
            gzip or zstd file, or has a line over ``MAX_LINE_BYTES``.
    """
    shown = "standard input" if str(source) == "-" else str(source)
    with open_binary(source) as handle:
        number = 0
        while True:
            try:
                raw = handle.readline(MAX_LINE_BYTES + 1)
            except (EOFError, gzip.BadGzipFile, zlib.error) as error:
                raise InputError(f"{shown}: broken gzip after line {number} ({error})") from error
            except OSError as error:
                raise InputError(f"{shown}: broken after line {number} ({error})") from error
            if not raw:
                return
            number += 1
            if len(raw) > MAX_LINE_BYTES:
                raise InputError(f"{shown}: line {number} is over 64 MiB; is this a text file?")
            try:
                text = raw.decode("utf-8", errors="strict" if strict else "surrogateescape")
            except UnicodeDecodeError as error:
                raise InputError(
                    f"{shown}: line {number} is not UTF-8 (byte {error.start + 1}); "
                    "convert it, for example with: iconv -t UTF-8"
                ) from error
            if number == 1:
                text = text.removeprefix("\ufeff")
            yield number, text.removesuffix("\n").removesuffix("\r")


def csv_rows(lines: Iterable[str]) -> Iterator[tuple[int, list[str] | csv.Error]]:
    r"""Yield (last line's number, cells or what is wrong) of each row of strict CSV.

    A cell may be as long as a line; the csv module alone refuses one over 128 KiB.

    Args:
        lines: The lines with their ends, so that a quoted cell may go over several.

    >>> [row for _, row in csv_rows(['a,"b\n', 'c"\n'])]
    [['a', 'b\nc']]
    """
    reader = csv.reader(lines, strict=True)
    while True:
        row: list[str] | csv.Error
        with _csv_limit:
            before = csv.field_size_limit(MAX_LINE_BYTES)
            try:
                row = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                row = error
            finally:
                csv.field_size_limit(before)
        yield reader.line_num, row


def lone_surrogate(text: str) -> int | None:
    r"""Return the place of the first half of a surrogate pair, which is no text; None if none.

    >>> lone_surrogate("naïve"), lone_surrogate("na\ud800ve")
    (None, 2)
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        return error.start
    return None


def read_lines(source: str | Path) -> list[str]:
    """Return every line of a text file, empty ones too, so that row i is line i + 1.

    Raises:
        InputError: As ``numbered_lines``, or the file is empty.
    """
    lines = [text for _, text in numbered_lines(source)]
    if not lines:
        shown = "standard input" if str(source) == "-" else str(source)
        raise InputError(f"{shown}: is empty; give one string a line")
    return lines
