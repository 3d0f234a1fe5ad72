"""Read OBO ontologies: synonyms with their scope, parents (is_a), and successors of old ids.

An OBO file consists of lines ``tag: value``. The reader parses only the clauses that entities need.
So comments, other tags, reference lists and modifiers may have any dialect, and a file with a wrong
date is read too.

Obsolete terms are left out. If one names its successor (``replaced_by``, or a single ``consider``),
its id and its alternative ids become alternative ids of the successor, even through several
obsolete terms. So the file is read twice, first for the ids.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from mirror_rt.knowledge.formats._rows import RowError, SkippedRows, checked, flat, shown
from mirror_rt.knowledge.formats._successors import merge, successors
from mirror_rt.textfiles import Source, StrPath, numbered_lines, open_binary
from mirror_rt.types import Entity, Name, NameKind

__all__ = ["read_obo"]

_SCOPES = {
    "EXACT": NameKind.EXACT,
    "BROAD": NameKind.BROAD,
    "NARROW": NameKind.NARROW,
    "RELATED": NameKind.RELATED,
}
_SYNONYMS = {
    "synonym": "RELATED",  # where no scope is given
    "exact_synonym": "EXACT",  # OBO 1.0
    "broad_synonym": "BROAD",
    "narrow_synonym": "NARROW",
    "related_synonym": "RELATED",
}
_KEPT = {
    "id", "name", "def", "xref", "namespace", "alt_id", "is_obsolete", "replaced_by", "consider",
    "is_a",
    *_SYNONYMS,
}  # fmt: skip
_ABBREVIATIONS = {"abbreviation", "acronym", "omo:0003000", "omo:0003012"}
_FRAME = re.compile(r"\[(\w+)\]\s*(?:!.*)?")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"([^\[]*)')
_BRACES = r'\{(?:[^{}"]|"(?:[^"\\]|\\.)*")*\}'
_PLAIN = re.compile(rf"(?:\\.?|(?<=\s){_BRACES}|[^!\\])*")
_MODIFIERS = re.compile(rf"(?:^|\s){_BRACES}\s*$")
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_MadeT = TypeVar("_MadeT")
_ESCAPES = {"n": "\n", "t": "\t", "W": " "}


@dataclass(slots=True)
class _Frame:
    """A stanza: the text and the line of each clause that is used.

    Attributes:
        faults: The faults of skipped clauses, with their lines.
    """

    kind: str
    line: int
    clauses: list[tuple[str, str, int]] = field(default_factory=list)
    faults: list[tuple[int, RowError]] = field(default_factory=list)

    def of(self, tag: str) -> list[str]:
        """Return the plain values of a tag."""
        return [_plain(value) for found, value, _ in self.clauses if found == tag]

    def made(self, make: Callable[[str, str], _MadeT], *tags: str) -> list[_MadeT]:
        """Return what is made of the clauses of some tags; blank and bad ones are passed over."""
        found = []
        for tag, value, line in self.clauses:
            if tag in tags and not _is_blank(value):
                try:
                    found.append(make(tag, value))
                except RowError as fault:
                    self.faults.append((line, fault))
        return found

    def checked(self, *tags: str) -> list[str]:
        """Return the plain values of some tags, made sure of."""
        return self.made(lambda tag, value: checked(_plain(value), tag), *tags)

    @property
    def id(self) -> str:
        return next(iter(self.of("id")), "")

    @property
    def obsolete(self) -> bool:
        return any(value.casefold() == "true" for value in self.of("is_obsolete"))

    def replaced_by(self) -> tuple[str, ...]:
        considered = self.of("consider")
        return tuple(self.of("replaced_by") or (considered if len(considered) == 1 else ()))


def read_obo(path: StrPath, skipped: SkippedRows) -> Iterator[Entity]:
    """Read every term that is not obsolete; instances are counted as filtered.

    A bad clause beside a sound id and name is counted, and its term is kept.

    Raises:
        InputError: A term has no valid id or name, or a line is not a clause; the message names
            the line.
    """
    with _readable_twice(path) as file:

        def refuse(frame: _Frame, fault: RowError, line: int = 0) -> None:
            where = f"{shown(path)}: line {line or frame.line}"
            skipped.refuse(f"{where}: {frame.id or '?'}: {fault}")

        live: set[str] = set()
        alternative: dict[str, list[str]] = {}
        obsolete: list[_Frame] = []
        for frame in _terms(file, path, SkippedRows()):
            if frame.obsolete:
                obsolete.append(frame)
                continue
            live.add(frame.id)
            if olds := frame.checked("alt_id"):  # a bad one is reported when the term is read
                alternative.setdefault(frame.id, []).extend(olds)
        replaced_by: dict[str, tuple[str, ...]] = {}
        for frame in obsolete:
            try:
                own, olds = checked(frame.id, "id"), frame.checked("alt_id")
            except RowError as fault:
                refuse(frame, fault)
                continue
            for line, wrong in frame.faults:
                refuse(frame, wrong, line)
            skipped.obsolete += 1
            if own not in live:
                replaced_by[own] = (*replaced_by.get(own, ()), *frame.replaced_by())
            alternative.setdefault(own, []).extend(olds)
        merge(replaced_by, alternative, live=live)
        old_ids, unresolved = successors(replaced_by, live)
        skipped.unresolved += unresolved
        met: set[str] = set()
        for frame in _terms(file, path, skipped):
            if frame.obsolete:
                continue
            merged = old_ids.get(frame.id, ())
            try:
                entity = _entity(frame, merged)
            except RowError as fault:
                refuse(frame, fault)
                continue
            for line, wrong in frame.faults:
                refuse(frame, wrong, line)
            met.update(merged)
            yield entity
        skipped.unresolved += len({old for olds in old_ids.values() for old in olds} - met)


def _entity(frame: _Frame, old_ids: tuple[str, ...]) -> Entity:
    identifier = checked(frame.id, "id")
    preferred = frame.checked("name")
    if not preferred:
        raise frame.faults[0][1] if frame.faults else RowError("no name")
    names = [Name(text=text, kind=NameKind.PREFERRED) for text in preferred]
    names += frame.made(lambda tag, value: _synonym(value, _SYNONYMS[tag]), *_SYNONYMS)
    definitions = frame.made(lambda _, value: flat(_quoted(value)[0]), "def")
    references = frame.made(lambda tag, value: checked(_plain(value).split(' "')[0], tag), "xref")
    return Entity(
        id=identifier,
        names=tuple(names),
        types=tuple(frame.checked("namespace")),
        alternative_ids=tuple(dict.fromkeys([*frame.checked("alt_id"), *old_ids])),
        cross_references=tuple(references),
        parents=tuple(dict.fromkeys(frame.checked("is_a"))),
        description=definitions[-1] if definitions else "",
    )


def _synonym(value: str, scope: str) -> Name:
    text, rest = _quoted(value)
    words = rest.split()
    if words and words[0] in _SCOPES:
        scope = words.pop(0)
    marked = bool(words) and words[0].casefold() in _ABBREVIATIONS
    kind = NameKind.ABBREVIATION if marked else _SCOPES[scope]
    return Name(text=checked(text.strip(), "synonym"), kind=kind)


def _terms(file: Path, path: StrPath, skipped: SkippedRows) -> Iterator[_Frame]:
    """Yield the terms of a file; count instances, and lines that are not clauses."""
    frame = _Frame("", 0)
    for number, line in numbered_lines(file, strict=False):
        text = line.strip()
        if not text or text.startswith("!"):
            continue
        if text.startswith("["):
            if frame.kind == "Term":
                yield frame
            opened = _FRAME.fullmatch(text)
            if opened is None:
                skipped.refuse(f"{shown(path)}: line {number}: not OBO ({text[:40]!r})")
            frame = _Frame(opened[1].capitalize() if opened else "", number)
            skipped.filtered += frame.kind == "Instance"
        elif frame.kind == "Term":
            tag, colon, value = text.partition(":")
            tag = tag.rstrip()
            if not colon:
                skipped.refuse(f"{shown(path)}: line {number}: not OBO ({text[:40]!r} has no tag)")
            elif tag in _KEPT:
                if tag == "id" and not frame.id:
                    frame.line = number
                frame.clauses.append((tag, value.strip(), number))
    if frame.kind == "Term":
        yield frame


def _plain(value: str) -> str:
    r"""Return a value without its modifiers and comment.

    >>> _plain(r'x \{y\} {source="a!"} ! a remark'), _plain("true ! so")
    ('x {y}', 'true')
    """
    found = _PLAIN.match(value)
    without = _MODIFIERS.sub("", found[0] if found else "")
    return _unescaped(without).strip()


def _is_blank(value: str) -> bool:
    """Return whether a value is an empty string, or nothing but modifiers or a comment."""
    return not value or value.startswith('""') or (value[0] in "!{" and not _plain(value))


def _quoted(value: str) -> tuple[str, str]:
    """Return the quoted string, and the text between it and a list.

    Raises:
        RowError: The value does not start with a quoted string.
    """
    found = _QUOTED.match(value)
    if found is None:
        raise RowError(f"{value[:40]!r} is not in quotes")
    return _unescaped(found[1]), found[2]


def _unescaped(text: str) -> str:
    return _ESCAPED.sub(lambda sign: _ESCAPES.get(sign[1], sign[1]), text) if "\\" in text else text


@contextmanager
def _readable_twice(path: StrPath) -> Iterator[Path]:
    if not Source.of(path).once:
        yield Path(path)
        return
    with open_binary(path) as source, tempfile.TemporaryDirectory(prefix="mirror-rt-") as folder:
        copy = Path(folder) / "input.obo"
        with open(copy, "wb") as target:
            shutil.copyfileobj(source, target)
        yield copy
