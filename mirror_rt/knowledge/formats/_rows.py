"""Shared by all readers: check rows; report bad ones, or count and skip them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO, TypeVar

from mirror_rt._count import counted
from mirror_rt.encodings import encoding_hint
from mirror_rt.errors import InputError, one_line
from mirror_rt.tables import RowError, is_blank
from mirror_rt.textfiles import UNPACKING_ERRORS, StrPath, open_binary, shown
from mirror_rt.types import NameKind

__all__ = [
    "NOT_UTF8", "RowError", "SkippedRows", "checked", "each", "flat", "is_kind", "name_kind",
    "shown", "usable", "whole",
]  # fmt: skip

NOT_UTF8 = "\ufdd0"
"""Replaces undecodable bytes for libraries that require UTF-8; a text with it is an error."""

_REFUSED = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufdd0]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_MESSAGES_KEPT = 20

RowT = TypeVar("RowT")
MadeT = TypeVar("MadeT")


@dataclass(slots=True, kw_only=True)
class SkippedRows:
    """Counts what a reader skipped: rows in = rows out + rows counted.

    Attributes:
        strict: Whether a bad row is an error. The other counts are kept in any case.
        bad: Rows that could not be used.
        obsolete: Terms that the file marks as obsolete.
        filtered: Names that a filter removed (language, source, suppressed).
        unresolved: Ids that lead to no entity of the file, or in a circle.
        nameless: Classes and concepts of RDF without a name.
        anonymous: Classes and concepts of RDF with a name but without an IRI (blank nodes).
        language_tags: Invalid language tags in RDF; their strings are read without a language.
        types: Types (UMLS) of concepts that have no names here.
        metadata: Values of passages and fields that cannot be used in filters.
        repeated_headings: Rows of tables equal to their headings.
        null_words: Names such as ``NULL`` and ``NaN``, which are kept.
        left_alone: Headings of columns that were not read.
        remarks: Sentences about how a table was read.
        messages: The faults of the first 20 bad rows.
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
        """Return sentences about how a table was read, each once."""
        alone = ", ".join(dict.fromkeys(self.left_alone))
        sentences = [
            *dict.fromkeys(self.remarks),
            *([f"columns left alone: {alone}"] if alone else []),
        ]
        if self.null_words:
            sentences.append(
                f"{counted(self.null_words, 'entity')} called NULL, NaN, None or similar: this is "
                "read as a name; leave the cell empty if there is no name"
            )
        return [one_line(sentence) for sentence in sentences]

    def left_out(self) -> list[tuple[int, str, str]]:
        """Return what was left out of an entity file, without the bad rows.

        Each is a number, a noun in the singular, and further words.
        """
        return [
            (self.repeated_headings, "row", "with the headings again"),
            (self.obsolete, "obsolete term", ""),
            (self.filtered, "name", "filtered out"),
            (self.language_tags, "unknown language tag", ""),
            (self.unresolved, "old id", "without successor"),
            (self.nameless, "class", "without a name"),
            (self.anonymous, "class", "without an id"),
            (self.types, "type", "of concepts without a name"),
        ]

    def sentences(self) -> list[str]:
        """Return all sentences to report: how the file was read, faults, and what was left out."""
        counts = [
            (self.bad, "bad row", ""),
            *self.left_out(),
            (self.metadata, "metadata value", ""),
        ]
        words = ", ".join(
            f"{counted(count, noun)} {more}".rstrip() for count, noun, more in counts if count
        )
        left = [f"left out: {words}"] if words else []
        return [*self.understood(), *self.messages, *left]

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
    """Parse numbered rows; report bad ones by line, or count them.

    Args:
        path: The file, for messages.
        rows: Line numbers and rows.
        parse: Converts a row, usually to an entity; returns None for a row without meaning.
        skipped: Counts the bad rows.
        unit: The unit of the numbers, such as "line".

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
    """Return ``text`` without leading and trailing spaces.

    Args:
        text: An id or a name.
        what: The word for it in messages.

    Raises:
        RowError: It is blank, not UTF-8, or contains a control character.

    >>> checked(" heart attack ", "name")
    'heart attack'
    """
    stripped = text.strip()  # strips line ends too
    if is_blank(stripped):
        raise RowError(f"no {what}")
    if stripped.isprintable():
        return stripped
    refused = _REFUSED.search(stripped)
    if refused is not None:
        sign = refused.group()
        if "\udc80" <= sign <= "\udcff":
            raise RowError(f"the {what} is not UTF-8; {encoding_hint(text)}")
        if sign == NOT_UTF8 or "\ud800" <= sign <= "\udfff":
            raise RowError(f"the {what} is not UTF-8")
        raise RowError(f"the {what} holds the control character U+{ord(sign):04X}")
    return stripped


def usable(texts: Iterable[str], what: str, faults: list[RowError]) -> list[str]:
    """Return the texts that are not blank, each once; what is wrong with others is kept."""
    found: dict[str, None] = {}
    for text in texts:
        try:
            if not is_blank(text):
                found[checked(text, what)] = None
        except RowError as fault:
            faults.append(fault)
    return list(found)


def flat(text: str, what: str = "description") -> str:
    """Return a text on one line, with spaces and control characters joined. It may be empty.

    Args:
        text: Running text, or a tag such as a language.
        what: The word for it in messages.

    Raises:
        RowError: It is not UTF-8.
    """
    if not text:
        return text
    line = " ".join(_CONTROL.sub(" ", text).split())
    return "" if is_blank(line) else checked(line, what)


@contextmanager
def whole(path: StrPath) -> Iterator[IO[bytes]]:
    """Open a file as ``open_binary`` does, for readers that do not read line by line.

    Raises:
        InputError: As ``open_binary``; or a compressed file is broken.
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
    """Return whether ``text`` is a kind of name, such as ``label`` or ``exact_synonym``."""
    return _kind_key(text) in _KIND_OF


def name_kind(text: str) -> NameKind:
    """Return the kind of name that a word means; an empty word is an exact synonym.

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
