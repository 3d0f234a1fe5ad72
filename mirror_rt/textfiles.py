"""Read text files line by line, from a path, a pipe or standard input, compressed or not.

The first bytes of a file, not its name, decide its compression (gzip, zstd, bzip2, xz), whether
it is UTF-16, and whether its lines end in CR. A ``Source`` shows the start of its file before it
is read, also of a pipe, which can be read only once.
"""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import lzma
import re
import stat
import sys
import weakref
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from os import PathLike
from pathlib import Path
from typing import IO, TypeAlias, cast

from mirror_rt.encodings import encoding_hint, utf16_of
from mirror_rt.errors import ConfigError, InputError

StrPath: TypeAlias = "str | PathLike[str]"

__all__ = [
    "MAX_LINE_BYTES",
    "PACKED_ENDINGS",
    "UNPACKING_ERRORS",
    "Head",
    "Source",
    "StrPath",
    "head_lines",
    "is_plain_utf8",
    "numbered_lines",
    "open_binary",
    "read_lines",
    "shown",
]

MAX_LINE_BYTES = 64 * 1024 * 1024
"""Maximum length of a line; a longer one is a binary file by mistake and would fill memory."""

PACKED_ENDINGS = frozenset({".gz", ".zst", ".bz2", ".xz"})
"""The endings of compressed files. Their first bytes, not the ending, decide how they are read."""

UNPACKING_ERRORS = (EOFError, OSError, zlib.error, lzma.LZMAError)
"""The errors of broken compressed files."""

_HEAD_BYTES = 1 << 16
_BLOCK = 1 << 18
_UNDECODABLE = "mirror_rt.undecodable"

_PACKED = {
    "gzip": re.compile(rb"\x1f\x8b\x08"),
    "zstd": re.compile(rb"\x28\xb5\x2f\xfd"),
    "bzip2": re.compile(rb"BZh[1-9]1A"),
    "xz": re.compile(rb"\xfd7zXZ\x00"),
}


_READ: weakref.WeakSet[IO[str]] = weakref.WeakSet()
"""Standard input, once it has been read: a second reader would find it empty."""


class Source:
    """A file whose head can be read before the whole, even if it can be read only once.

    It is accepted wherever a path is.

    Args:
        path: A path, or ``-`` for standard input.
        encoding: The encoding of its text; by default UTF-8, or UTF-16 if detected.

    Raises:
        ConfigError: There is no such encoding, or ``path`` is not a path.
    """

    def __init__(self, path: StrPath, *, encoding: str | None = None) -> None:
        if not isinstance(path, (str, PathLike)):
            raise ConfigError(
                f"{type(path).__name__}: is not a file; give a path, or a table of pandas, Polars "
                "or Arrow where a table in memory is read"
            )
        if encoding is not None:
            try:
                "".encode(encoding)  # a lookup is not enough: some codecs are not for text
            except (LookupError, ValueError) as error:
                raise ConfigError(
                    f"--encoding {encoding}: no such encoding; give one such as windows-1252"
                ) from error
        self._path = str(path)
        self._head: bytes | None = None
        self._held: IO[bytes] | None = None
        self._taken = False
        self._packing = ""
        self.encoding = encoding
        self.once = self._path == "-" or not _is_regular(self._path)

    @classmethod
    def of(cls, source: StrPath, *, encoding: str | None = None) -> Source:
        """Return ``source`` itself if it is a ``Source``, else one for the path."""
        return source if isinstance(source, Source) else cls(source, encoding=encoding)

    def __fspath__(self) -> str:
        return self._path

    def __str__(self) -> str:
        return self._path

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Close a file that was opened for its head and not read."""
        held, self._held = getattr(self, "_held", None), None
        if held is not None and self._path != "-":
            held.close()

    def head(self) -> bytes:
        """Return its first 64 KiB, uncompressed; a later reader loses nothing.

        Raises:
            InputError: It cannot be opened, or is broken.
        """
        if self._head is None:
            handle = self._opened()
            try:
                parts, left = [], _HEAD_BYTES
                while left and (part := handle.read(left)):
                    parts.append(part)
                    left -= len(part)
            except UNPACKING_ERRORS as error:
                if not parts:
                    handle.close()
                    raise InputError(self._broken(error, 0)) from error
                # A later reader gets the error with its line.
            self._head = b"".join(parts)
            if self.once:
                self._held = handle
            else:
                handle.close()
        return self._head

    def _broken(self, error: BaseException, line: int) -> str:
        reason = str(error) or type(error).__name__
        return f"{shown(self)}: broken {self._packing or 'file'} after line {line} ({reason})"

    @contextmanager
    def open(self) -> Iterator[IO[bytes]]:
        """Open it to read its bytes, uncompressed, from the beginning.

        Raises:
            InputError: It is missing, a folder or not readable, or was read before and cannot
                be read twice.
        """
        if self.once and self._taken:
            raise InputError(f"{shown(self)}: can be read only once; save it as a file")
        self._taken = True
        if self._held is not None:
            rest, self._held = self._held, None
            blocks = iter(lambda: rest.read(_BLOCK), b"")
            handle = _stream(chain([self._head or b""], blocks), rest.close)
        else:
            handle = self._opened()
        try:
            yield handle
        finally:
            if self._path != "-":
                handle.close()

    def _opened(self) -> IO[bytes]:
        if self._path == "-":
            if sys.stdin is None:
                raise InputError("standard input: is closed")
            if sys.stdin in _READ:
                raise InputError("standard input: can be read only once; save it as a file")
            _READ.add(sys.stdin)
            return self._unpacked(sys.stdin.buffer)
        path = Path(self._path)
        if path.is_dir():
            raise InputError(f"{path}: is a folder; name a file")
        try:
            return self._unpacked(open(path, "rb"))
        except FileNotFoundError as error:
            raise InputError(f"{path}: no such file") from error
        except OSError as error:
            reason = error.strerror or error
            raise InputError(f"{path}: cannot be read ({reason})") from error

    def _unpacked(self, raw: IO[bytes]) -> IO[bytes]:
        """Return a handle on the content of a compressed file, or on the file itself."""
        magic = b""
        while len(magic) < 6 and (more := raw.read(6 - len(magic))):
            magic += more
        self._packing = next((name for name, sign in _PACKED.items() if sign.match(magic)), "")
        if self.once:
            blocks = iter(lambda: cast("io.BufferedReader", raw).read1(_BLOCK), b"")
            whole = _stream(chain([magic], blocks), raw.close)
        else:
            raw.seek(0)
            whole = raw
        match self._packing:
            case "gzip":
                inner = cast("IO[bytes]", gzip.GzipFile(fileobj=whole))
            case "bzip2":
                inner = cast("IO[bytes]", bz2.BZ2File(whole))
            case "xz":
                inner = cast("IO[bytes]", lzma.LZMAFile(whole))
            case "zstd":
                import pyarrow

                packed = pyarrow.PythonFile(whole, mode="r")
                inner = io.BufferedReader(pyarrow.CompressedInputStream(packed, "zstd"))
            case _:
                return whole

        def close() -> None:
            inner.close()
            whole.close()

        return _stream(iter(lambda: inner.read(_BLOCK), b""), close)


class Head(Source):
    """The first 64 KiB of a source, as if they were the whole; the source loses nothing."""

    def __init__(self, source: Source) -> None:
        super().__init__(source, encoding=source.encoding)
        self._head = source.head()
        self._held = io.BytesIO(b"")
        self.once = False


def head_lines(source: Source) -> list[str]:
    """Return the complete lines of the head of a file, without line ends."""
    lines = [line for _, line in numbered_lines(Head(source), strict=False)]
    return lines[:-1] if len(source.head()) >= _HEAD_BYTES and len(lines) > 1 else lines


def is_plain_utf8(source: Source) -> bool:
    r"""Return whether a file is read unchanged: it is not UTF-16, and its lines end in ``\n``."""
    return _encoding_of(source) == (None, False)


class _Blocks(io.RawIOBase):
    """Blocks of bytes as a file."""

    def __init__(self, blocks: Iterator[bytes], closing: Callable[[], None]) -> None:
        self._blocks = blocks
        self._closing = closing
        self._ready = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        while not self._ready:
            block = next(self._blocks, None)
            if block is None:
                return 0
            self._ready = memoryview(block)
        target = cast("memoryview", buffer)
        count = min(len(target), len(self._ready))
        target[:count] = self._ready[:count]
        self._ready = self._ready[count:]
        return count

    def close(self) -> None:
        if not self.closed:
            self._closing()
        super().close()


def _stream(blocks: Iterator[bytes], closing: Callable[[], None]) -> IO[bytes]:
    return cast("IO[bytes]", io.BufferedReader(_Blocks(blocks, closing), buffer_size=_BLOCK))


def _is_regular(path: str) -> bool:
    try:
        mode = Path(path).stat().st_mode
    except (OSError, ValueError):
        return True  # opening it raises the error
    return stat.S_ISREG(mode) or stat.S_ISDIR(mode)


def shown(source: StrPath) -> str:
    """Return the name of a source for a message."""
    return "standard input" if str(source) == "-" else str(source)


@contextmanager
def open_binary(source: StrPath) -> Iterator[IO[bytes]]:
    """Open ``source`` to read its bytes, uncompressed; ``-`` is standard input.

    Raises:
        InputError: It is missing, a folder or not readable, or cannot be read a second time.
    """
    with Source.of(source).open() as handle:
        yield handle


def numbered_lines(
    source: StrPath, *, strict: bool = True, keep_ends: bool = False
) -> Iterator[tuple[int, str]]:
    r"""Yield (line number from 1, text) of a text file, by default without line ends.

    Only ``\n`` and ``\r\n`` end a line, so a string may contain any other Unicode separator. If
    a file has neither in its first 64 KiB, ``\r`` ends a line. A byte order mark at the start
    is dropped. The text is UTF-8, UTF-16, or in the encoding of the ``Source``.

    Args:
        source: A path, or ``-`` for standard input.
        strict: Whether to refuse bytes that are not text. If not, they become lone
            surrogates, for a caller that refuses single rows.
        keep_ends: Whether to keep the line ends.

    Raises:
        InputError: The file cannot be opened, is not text (the error names the line), is a
            broken compressed file, or has a line over ``MAX_LINE_BYTES``.
    """
    given = Source.of(source)
    encoding, ends_in_cr = _encoding_of(given)
    errors = "surrogateescape"
    with given.open() as handle:
        if encoding is not None or ends_in_cr:
            handle = _recoded(given, handle, encoding, ends_in_cr)
            errors = "surrogateescape" if encoding is None else "surrogatepass"
        number = 0
        while True:
            try:
                raw = handle.readline(MAX_LINE_BYTES + 1)
            except UNPACKING_ERRORS as error:
                raise InputError(given._broken(error, number)) from error
            if not raw:
                return
            number += 1
            if len(raw) > MAX_LINE_BYTES:
                raise InputError(
                    f"{shown(given)}: line {number} is over 64 MiB; is this a text file?"
                )
            try:
                text = raw.decode("utf-8")
            except UnicodeDecodeError as error:
                if strict:
                    name = given.encoding or encoding or "UTF-8"
                    place = f" (byte {error.start + 1})" if encoding is None else ""
                    hint = f"; {encoding_hint(raw, head=given.head())}" if encoding is None else ""
                    raise InputError(
                        f"{shown(given)}: line {number} is not {name}{place}{hint}"
                    ) from error
                text = raw.decode("utf-8", errors=errors)
            if number == 1:
                text = text.removeprefix("\ufeff")
            if not keep_ends:
                yield number, text.removesuffix("\n").removesuffix("\r")
            elif ends_in_cr and text.endswith("\n"):
                yield number, text[:-1] + "\r"
            else:
                yield number, text


def _encoding_of(source: Source) -> tuple[str | None, bool]:
    """Return the encoding if it is not UTF-8, and whether lines end in CR alone."""
    head = source.head()
    encoding = source.encoding or utf16_of(head)
    if encoding is not None and codecs.lookup(encoding).name == "utf-8":
        encoding = None
    try:
        text = head if encoding is None else head.decode(encoding, errors="replace").encode("utf-8")
    except UnicodeError as error:  # UTF-16 without its mark, or odd codecs
        raise _wrong_encoding(source, encoding, error) from error
    return encoding, b"\r" in text and b"\n" not in text


def _wrong_encoding(source: Source, encoding: str | None, error: UnicodeError) -> InputError:
    return InputError(
        f"{shown(source)}: is not {encoding} ({error}); give another --encoding, or none"
    )


def _recoded(
    source: Source, handle: IO[bytes], encoding: str | None, ends_in_cr: bool
) -> IO[bytes]:
    """Return the text of a handle as UTF-8; undecodable bytes become lone surrogates."""
    codecs.register_error(_UNDECODABLE, lambda error: ("\udcff", getattr(error, "end", 0)))
    decoder = codecs.getincrementaldecoder(encoding or "utf-8")(
        "surrogateescape" if encoding is None else _UNDECODABLE
    )

    def blocks() -> Iterator[bytes]:
        while True:
            raw = handle.read(_BLOCK)
            try:
                text = decoder.decode(raw, final=not raw)
            except UnicodeError as error:
                raise _wrong_encoding(source, encoding, error) from error
            if ends_in_cr:
                text = text.replace("\r\n", "\n").replace("\r", "\n")
            if text:
                errors = "surrogateescape" if encoding is None else "surrogatepass"
                yield text.encode("utf-8", errors)
            if not raw:
                return

    return _stream(blocks(), lambda: None)


def read_lines(source: StrPath) -> list[str]:
    """Return every line of a text file, also empty ones: row i is line i + 1.

    Raises:
        InputError: As in ``numbered_lines``, or the file is empty.
    """
    lines = [text for _, text in numbered_lines(source)]
    if not lines:
        raise InputError(f"{shown(source)}: is empty; give one string a line")
    return lines
