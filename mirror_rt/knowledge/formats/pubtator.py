"""Read the mentions of a PubTator file, and write the file again with their ids.

A document is ``ID|t|title``, ``ID|a|abstract``, then a line for each mention, its fields separated
by tabs: ``ID start end mention type [id …]``; a blank line follows. Offsets count characters of
the title, one space and the abstract. A line of four fields whose second is not a number is a
relation (``ID CID id id``), which is kept unchanged.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from mirror_rt.errors import InputError
from mirror_rt.textfiles import (
    PACKED_ENDINGS,
    Source,
    StrPath,
    head_lines,
    is_plain_utf8,
    numbered_lines,
    open_binary,
    shown,
)

__all__ = ["NO_ID", "Mention", "check_kept", "is_pubtator", "read_mentions", "with_ids"]

NO_ID = "-"
"""The placeholder for a missing id."""

_TEXT = re.compile(r"([^|\t]+)\|([ta])\|(.*)", re.DOTALL)
_STOP = re.compile(r"[.!?]\s+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mention:
    """A mention and its place.

    Attributes:
        text: The mention, as in its line.
        document: Title and abstract.
        document_id: The document's id.
        start: The index of its first character in the document.
        end: The index after its last character.
        ids: The ids of its line, unchanged; empty if there are none.
    """

    text: str
    document: str
    document_id: str
    start: int
    end: int
    ids: str = ""

    @property
    def stands(self) -> bool:
        """Whether the document has its text between its offsets."""
        return self.document[self.start : self.end] == self.text

    @property
    def sentence(self) -> str:
        """The sentence around it: up to a full stop and a space on either side."""
        begin = max((m.end() for m in _STOP.finditer(self.document, 0, self.start)), default=0)
        after = _STOP.search(self.document, self.end)
        return self.document[begin : after.start() + 1 if after else None].strip()


def is_pubtator(source: StrPath) -> bool:
    """Return whether a file is PubTator, by its name or by its first non-blank line.

    The line decides for a ``.txt`` and for a pipe; a ``Source`` loses nothing by that.
    """
    suffixes = [s.lower() for s in Path(source).suffixes if s.lower() not in PACKED_ENDINGS]
    if suffixes[-1:] == [".pubtator"]:
        return True
    given = Source.of(source)
    looked_at = isinstance(source, Source) if given.once else suffixes[-1:] == [".txt"]
    if not looked_at:
        return False
    first = _TEXT.fullmatch(next(filter(None, head_lines(given)), ""))
    return first is not None and first[2] == "t"


def read_mentions(source: StrPath) -> Iterator[Mention]:
    """Yield the mentions of a file in order, with one document in memory at a time.

    Raises:
        InputError: The file cannot be read, or a line is not PubTator; the message has its
            number.
    """
    name, texts, found = "", dict[str, str](), list[tuple[str, int, int, str]]()
    count = 0
    for number, line in chain(numbered_lines(source), [(0, "")]):
        if not line:
            document = " ".join(texts.values())
            for text, start, end, ids in found:
                yield Mention(
                    text=text, document=document, document_id=name, start=start, end=end, ids=ids
                )
            name, texts, found = "", {}, []
            continue
        fault, fields = "", line.split("\t")
        if headed := _TEXT.fullmatch(line):
            if headed[2] in texts or (headed[2] == "a" and not texts):
                fault = "a document has a title, an abstract and a blank line after it"
            name, texts[headed[2]] = name or headed[1], headed[3]
        elif _is_mention(fields):
            found.append((fields[3], int(fields[1]), int(fields[2]), "".join(fields[5:6])))
            count += 1
            if found[-1][1] >= found[-1][2]:
                fault = "the mention ends before it starts"
        elif len(fields) != 4 or _is_number(fields[1]):
            fault = "give ID|t|title, ID|a|abstract, or ID start end mention type, split by tabs"
        if not fault and (headed[1] if headed else fields[0]) != name:
            fault = f"is not of the document {name or 'before it, as there is none'}"
        if fault:
            raise InputError(f"{shown(source)}: line {number} is not PubTator: {fault}")
    if not count:
        raise InputError(
            f"{shown(source)}: has no mentions; give lines of ID start end mention type"
        )


def check_kept(source: str | Path) -> None:
    """Refuse a file that cannot be written back unchanged, before any work.

    Raises:
        InputError: It is UTF-16, or its lines end in CR alone.
    """
    if not is_plain_utf8(Source(source)):
        raise InputError(
            f"{source}: is UTF-16, or its lines end in CR; PubTator is written again as it is "
            "where it is UTF-8 with other line ends: convert it, or write another format"
        )


def with_ids(source: str | Path, ids: Iterable[str]) -> Iterator[bytes]:
    """Yield the lines of a file that ``read_mentions`` read, each mention with its id.

    Everything else, also line ends, is kept byte by byte.

    Raises:
        InputError: The number of mentions differs from the number of ids.
    """
    given = iter(ids)
    changed = InputError(f"{source}: changed while it was linked; run again")
    with open_binary(source) as handle:
        for raw in handle:
            line = raw.decode("utf-8", "surrogateescape")
            body = line.removesuffix("\n").removesuffix("\r")
            fields = body.split("\t")
            if not _is_mention(fields):
                yield raw
                continue
            one = next(given, None)
            if one is None:
                raise changed
            fields[5:6] = [one]
            yield ("\t".join(fields) + line[len(body) :]).encode("utf-8", "surrogateescape")
    if next(given, None) is not None:
        raise changed


def _is_mention(fields: list[str]) -> bool:
    return len(fields) >= 5 and _is_number(fields[1]) and _is_number(fields[2])


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal()
