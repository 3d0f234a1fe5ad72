"""What is text, and in which encoding: guesses for files, checks for strings and paths."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from pathlib import Path

from mirror_rt.errors import InputError

__all__ = ["check_texts", "encoding_hint", "is_utf8", "lone_surrogate", "utf16_of"]


def encoding_hint(text: bytes | str, *, head: bytes = b"") -> str:
    r"""Return the likely encoding of a text that is not UTF-8, and what to do.

    Args:
        text: The text.
        head: The first bytes of its file, which may not be text at all.

    >>> encoding_hint(b"caf\xe9")
    'probably it is windows-1252: give --encoding windows-1252, or convert the file (iconv -f)'
    """
    raw = text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text
    if any(byte < 0x20 and byte not in b"\t\n\r\f" for byte in head[:1000] + raw):
        return "it holds control characters, so it may not be text"
    high = sum(byte >= 0x80 for byte in raw)
    letters = sum(chr(byte).isalpha() for byte in raw if byte < 0x80)
    if high > 2 and high > letters:  # another script, not Latin with accents
        found = "perhaps it is windows-1251, shift_jis, gb18030 or euc-kr"
        return f"{found}: name it with --encoding, or convert the file (iconv -f)"
    likely = "windows-1252"
    return f"probably it is {likely}: give --encoding {likely}, or convert the file (iconv -f)"


def utf16_of(head: bytes) -> str | None:
    """Return utf-16 or utf-32 if the first bytes of a file are so encoded, else None."""
    if head.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        return "utf-32"
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    # Without a mark: every other byte of a Latin text is NUL.
    some = head[:1000]
    even, odd = some[::2].count(0), some[1::2].count(0)
    if len(some) >= 4 and max(even, odd) > len(some) // 4 and min(even, odd) == 0:
        return "utf-16-le" if odd else "utf-16-be"
    return None


def lone_surrogate(text: str) -> int | None:
    r"""Return the index of the first lone surrogate, which is not text; None if there is none.

    >>> lone_surrogate("naïve"), lone_surrogate("na\ud800ve")
    (None, 2)
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        return error.start
    return None


def check_texts(texts: Sequence[str]) -> None:
    """Check that all items are strings without lone surrogates.

    Raises:
        InputError: An item is not; the message has its index.
    """
    for row, text in enumerate(texts):
        if not isinstance(text, str):
            raise InputError(f"texts[{row}]: a {type(text).__name__}, not a string")
        place = lone_surrogate(text)
        if place is not None:
            raise InputError(
                f"texts[{row}]: holds a lone surrogate (U+{ord(text[place]):04X}) "
                f"at character {place}, which is not text; remove or replace it"
            )


def is_utf8(path: Path) -> bool:
    """Return whether a path is UTF-8: FAISS, Arrow and onnxruntime cannot open others."""
    try:
        str(path).encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
