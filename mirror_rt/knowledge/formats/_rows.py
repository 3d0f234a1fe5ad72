"""What every reader shares: how a row is checked, refused, or counted and passed over."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO, TypeVar

from mirror_rt.errors import InputError, one_line
from mirror_rt.tables import RowError
from mirror_rt.textfiles import UNPACKING_ERRORS, StrPath, encoding_hint, open_binary, shown
from mirror_rt.types import NameKind

__all__ = [
    "NOT_UTF8", "RowError", "SkippedRows", "checked", "each", "flat", "is_kind", "name_kind",
    "shown", "whole",
]  # fmt: skip

NOT_UTF8 = "\ufdd0"
"""Stands for undecodable bytes where a library wants valid UTF-8; no text may hold it."""

_REFUSED = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufdd0]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_MESSAGES_KEPT = 20

RowT = TypeVar("RowT")
MadeT = TypeVar("MadeT")


@dataclass(slots=True, kw_only=True)
class SkippedRows:
    """Counts what a reader passed over, so that rows in = rows out + rows counted.

    Attributes:
        strict: Whether a bad row still stops the reading; the other counts are kept anyway.
        bad: Rows that could not be used.
        obsolete: Terms marked obsolete by the file itself.
        filtered: Names that a filter left out (language, source, suppressed).
        unresolved: Ids that point to no entity of the file, or round in a circle.
        nameless: Classes and concepts of RDF without a name.
        anonymous: Classes and concepts of RDF with a name but no address (blank nodes).
        language_tags: Tags of RDF that are none: their strings are read as without one.
        types: Types (UMLS) of concepts that no name was read of.
        metadata: Values of passages and fields that are no use to filter by.
        repeated_headings: Rows of tables equal to their headings.
        null_words: Names such as ``NULL`` and ``NaN``, which are kept.
        left_alone: Headings of tables of which no column was read.
        remarks: Sentences on how a table was understood.
        messages: What was wrong with the first 20 bad rows.
    """

    strict: bool = False
    bad: int = 0
    obsolete: int = 0
    filtered: int = 0
    unresolved: int = 0
    nameless: int = 0
    anonymous: int = 0
    language_tags: int = 0
    types: int = 0
    metadata: int = 0
    repeated_headings: int = 0
    null_words: int = 0
    left_alone: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)

    def understood(self) -> list[str]:
        """Return what there is to say, once, on how a table was understood."""
        alone = ", ".join(dict.fromkeys(self.left_alone))
        told = [*dict.fromkeys(self.remarks), *([f"columns left alone: {alone}"] if alone else [])]
        if self.null_words:
            told.append(
                f"{self.null_words:,} entities are called NULL, NaN, None or the like: these are "
                "read as names; leave cells empty where there is none"
            )
        return [one_line(sentence) for sentence in told]

    def refuse(self, message: str) -> None:
        """Count a bad row.

        Raises:
            InputError: ``strict`` is set.
        """
        if self.strict:
            raise InputError(message)
        self.bad += 1
        if len(self.messages) < _MESSAGES_KEPT:
            self.messages.append(one_line(message))


def each(
    path: StrPath,
    rows: Iterable[tuple[int, RowT]],
    parse: Callable[[RowT], MadeT | None],
    skipped: SkippedRows,
    *,
    unit: str = "line",
) -> Iterator[MadeT]:
    """Parse numbered rows, and refuse or count the bad ones by their line.

    Args:
        path: The file, for messages.
        rows: Line numbers and rows.
        parse: Makes something of a row, most often an entity; None where it means nothing.
        skipped: Where bad rows are counted.
        unit: What the numbers count.

    Raises:
        InputError: A row is bad and ``skipped`` is strict; the message names the line.
    """
    for number, row in rows:
        try:
            made = parse(row)
        except RowError as fault:
            skipped.refuse(f"{shown(path)}: {unit} {number}: {fault}")
            continue
        if made is not None:
            yield made


def checked(text: str, what: str) -> str:
    """Return ``text`` without the blanks around it.

    Args:
        text: An id or a name.
        what: What to call it in a message.

    Raises:
        RowError: It is empty, not UTF-8, or holds a control character.

    >>> checked(" heart attack ", "name")
    'heart attack'
    """
    stripped = text.strip()  # line ends at its edges too
    if stripped.isprintable() and stripped:
        return stripped
    refused = _REFUSED.search(stripped)
    if refused is not None:
        sign = refused.group()
        if "\udc80" <= sign <= "\udcff":
            raise RowError(f"the {what} is not UTF-8; {encoding_hint(text)}")
        if sign == NOT_UTF8 or "\ud800" <= sign <= "\udfff":
            raise RowError(f"the {what} is not UTF-8")
        raise RowError(f"the {what} holds the control character U+{ord(sign):04X}")
    if not stripped:
        raise RowError(f"no {what}")
    return stripped


def flat(text: str, what: str = "description") -> str:
    """Return what may be empty on one line, blanks and control characters joined.

    Args:
        text: Running text, or a tag such as a language.
        what: What to call it in a message.

    Raises:
        RowError: It is not UTF-8.
    """
    if not text:
        return text
    line = " ".join(_CONTROL.sub(" ", text).split())
    return checked(line, what) if line else ""


@contextmanager
def whole(path: StrPath) -> Iterator[IO[bytes]]:
    """Open a file as ``open_binary`` does, for a reader that asks for more than lines.

    Raises:
        InputError: Also where a packed file is broken.
    """
    with open_binary(path) as handle:
        try:
            yield handle
        except UNPACKING_ERRORS as error:
            raise InputError(f"{shown(path)}: cannot be read to its end ({error})") from error


_KINDS = {
    NameKind.PREFERRED: "label main main_label name pref preferred preferred_label preferred_name "
    "preferred_term preflabel primary",
    NameKind.EXACT: "alias alt alternative alternative_label altlabel exact exact_synonym "
    "hasexactsynonym synonym",
    NameKind.BROAD: "broad broad_synonym broader hasbroadsynonym",
    NameKind.NARROW: "hasnarrowsynonym narrow narrow_synonym narrower",
    NameKind.RELATED: "hasrelatedsynonym hidden hidden_label hiddenlabel related related_synonym",
    NameKind.ABBREVIATION: "abbr abbreviation acronym",
    NameKind.ACCEPTED: "accepted",
}
_KIND_OF = {word: kind for kind, words in _KINDS.items() for word in words.split()}


def is_kind(text: str) -> bool:
    """Say whether ``text`` names a kind of name, such as ``label`` or ``exact_synonym``."""
    return _kind_key(text) in _KIND_OF


def name_kind(text: str) -> NameKind:
    """Return the kind that a word stands for; an empty one is an exact synonym.

    Raises:
        RowError: The word is unknown.

    >>> name_kind("exact_synonym")
    <NameKind.EXACT: 'exact'>
    """
    key = _kind_key(text)
    if not key:
        return NameKind.EXACT
    if key not in _KIND_OF:
        allowed = ", ".join(kind.value for kind in NameKind)
        raise RowError(f"{text!r} is not a kind of name ({allowed}, label, alt, …)")
    return _KIND_OF[key]


def _kind_key(text: str) -> str:
    return text.strip().casefold().replace(" ", "_").replace("-", "_")
