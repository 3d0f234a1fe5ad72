"""Read OBO ontologies through fastobo: synonyms with their scope, and the successors of old ids.

Obsolete terms are left out; the id of one that names its successor (``replaced_by``, else a
single ``consider``) becomes an alternative id of that successor, through other obsolete terms
if need be. The file is therefore read twice: once for the ids, once for the terms.
"""

from __future__ import annotations

import gzip
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import fastobo
from fastobo import term as clauses

from mirror_rt.errors import InputError
from mirror_rt.knowledge.formats._rows import (
    NOT_UTF8,
    RowError,
    SkippedRows,
    checked,
    flat,
    shown,
)
from mirror_rt.textfiles import numbered_lines, open_binary
from mirror_rt.types import Entity, Name, NameKind

__all__ = ["read_obo", "successors"]

_SCOPES = {
    "EXACT": NameKind.EXACT,
    "BROAD": NameKind.BROAD,
    "NARROW": NameKind.NARROW,
    "RELATED": NameKind.RELATED,
}
_PIECE = 1 << 16
_ABBREVIATIONS = {"abbreviation", "acronym", "omo:0003000", "omo:0003012"}


def read_obo(path: str | Path, skipped: SkippedRows) -> Iterator[Entity]:
    """Read every term that is not obsolete.

    Raises:
        InputError: The file is not OBO; the message names the line.
    """
    with _readable_twice(path) as file:
        ids = _Ids()
        for frame in _frames(file, path, SkippedRows()):
            ids.add(frame)
        old_ids, unresolved = successors(ids.replaced_by, ids.live)
        skipped.obsolete += ids.obsolete
        skipped.unresolved += unresolved
        for frame in _frames(file, path, skipped):
            if _is_obsolete(frame):
                continue
            try:
                entity = _entity(frame, old_ids.get(str(frame.id), ()))
            except RowError as fault:
                line = _line_of(file, str(frame.id))
                skipped.refuse(f"{shown(path)}: line {line}: {frame.id}: {fault}")
                continue
            yield entity


def successors(
    replaced_by: dict[str, tuple[str, ...]], live: set[str]
) -> tuple[dict[str, tuple[str, ...]], int]:
    """Turn "old id → next ids" into "live id → every old id that leads to it".

    Args:
        replaced_by: The next ids of each obsolete one; they may be obsolete themselves,
            unknown, or lead back in a circle.
        live: Ids of terms that are not obsolete.

    Returns:
        Old ids of each live id, and the number of obsolete ids that lead nowhere.

    >>> successors({"old": ("older",), "older": ("new",), "a": ("b",), "b": ("a",)}, {"new"})
    ({'new': ('old', 'older')}, 2)
    """
    found: dict[str, list[str]] = {}
    unresolved = 0
    for old in replaced_by:
        seen, todo = {old}, [old]
        ends: list[str] = []
        while todo:
            for following in replaced_by.get(todo.pop(), ()):
                if following in seen:
                    continue
                seen.add(following)
                (ends if following in live else todo).append(following)
        for end in ends:
            found.setdefault(end, []).append(old)
        unresolved += not ends
    return {new: tuple(olds) for new, olds in found.items()}, unresolved


@dataclass(slots=True)
class _Ids:
    live: set[str] = field(default_factory=set)
    replaced_by: dict[str, tuple[str, ...]] = field(default_factory=dict)
    obsolete: int = 0

    def add(self, frame: clauses.TermFrame) -> None:
        if not _is_obsolete(frame):
            self.live.add(str(frame.id))
            return
        self.obsolete += 1
        following = [str(c.term) for c in frame if isinstance(c, clauses.ReplacedByClause)]
        considered = [str(c.term) for c in frame if isinstance(c, clauses.ConsiderClause)]
        if not following and len(considered) == 1:
            following = considered
        if following:
            self.replaced_by[str(frame.id)] = tuple(following)


def _entity(frame: clauses.TermFrame, old_ids: tuple[str, ...]) -> Entity:
    names: list[Name] = []
    alternative: list[str] = []
    references: list[str] = []
    types: list[str] = []
    description = ""
    for clause in frame:
        if isinstance(clause, clauses.NameClause):
            names.append(Name(text=checked(clause.name, "name"), kind=NameKind.PREFERRED))
        elif isinstance(clause, clauses.SynonymClause):
            names.append(_synonym(clause.synonym))
        elif isinstance(clause, clauses.AltIdClause):
            alternative.append(checked(str(clause.alt_id), "alt_id"))
        elif isinstance(clause, clauses.XrefClause):
            references.append(checked(str(clause.xref.id), "xref"))
        elif isinstance(clause, clauses.NamespaceClause):
            types.append(checked(str(clause.namespace), "namespace"))
        elif isinstance(clause, clauses.DefClause):
            description = flat(str(clause.definition))
    if not any(name.kind is NameKind.PREFERRED for name in names):
        raise RowError("no name")
    return Entity(
        id=checked(str(frame.id), "id"),
        names=tuple(names),
        types=tuple(types),
        alternative_ids=tuple(dict.fromkeys([*alternative, *old_ids])),
        cross_references=tuple(references),
        description=description,
    )


def _synonym(synonym: fastobo.syn.Synonym) -> Name:
    marked = str(synonym.type or "").casefold() in _ABBREVIATIONS
    kind = NameKind.ABBREVIATION if marked else _SCOPES[synonym.scope]
    return Name(text=checked(synonym.desc, "synonym"), kind=kind)


def _is_obsolete(frame: clauses.TermFrame) -> bool:
    return any(isinstance(c, clauses.IsObsoleteClause) and c.obsolete for c in frame)


def _frames(file: Path, path: str | Path, skipped: SkippedRows) -> Iterator[clauses.TermFrame]:
    """Yield term frames; a frame that is not OBO is refused by line, and the next one read."""
    with open_binary(file) as handle:
        stream = _Utf8(handle)
        try:
            frames = fastobo.iter(stream, ordered=True, threads=1)
        except SyntaxError as error:
            raise InputError(
                f"{shown(path)}: line {error.lineno}: not OBO ({error.msg})"
            ) from error
        while True:
            try:
                frame = next(frames)
            except StopIteration:
                return
            except SyntaxError as error:
                skipped.refuse(f"{shown(path)}: line {error.lineno}: not OBO ({error.msg})")
                continue
            if isinstance(frame, clauses.TermFrame):
                yield frame


class _Utf8:
    """A byte stream for fastobo, which gives up a whole file over one undecodable byte."""

    def __init__(self, handle: IO[bytes] | gzip.GzipFile) -> None:
        self._handle = handle
        self._ready = b""

    def read(self, size: int) -> bytes:
        if len(self._ready) < size:
            # Whole lines: a cut inside a character would look like a broken one.
            self._ready += self._decodable(b"".join(self._handle.readlines(_PIECE)))
        given, self._ready = self._ready[:size], self._ready[size:]
        return given

    def _decodable(self, raw: bytes) -> bytes:
        try:
            raw.decode("utf-8")
        except UnicodeDecodeError:
            text = raw.decode("utf-8", errors="surrogateescape")
            return re.sub("[\ud800-\udfff]", NOT_UTF8, text).encode("utf-8")
        return raw


@contextmanager
def _readable_twice(path: str | Path) -> Iterator[Path]:
    if str(path) != "-":
        yield Path(path)
        return
    with tempfile.TemporaryDirectory(prefix="mirror-rt-") as folder:
        copy = Path(folder) / "input.obo"
        with open_binary(path) as source, open(copy, "wb") as target:
            shutil.copyfileobj(source, target)
        yield copy


def _line_of(file: Path, identifier: str) -> int:
    """Find where a term begins: fastobo gives lines of malformed frames only."""
    for number, line in numbered_lines(file, strict=False):
        if line.startswith("id:") and line[3:].split("!")[0].strip() == identifier:
            return number
    return 0
