"""Read OBO ontologies through fastobo: synonyms with their scope, and the successors of old ids.

Obsolete terms are left out; the id of one that names its successor (``replaced_by``, else a
single ``consider``) becomes an alternative id of that successor, and so do its own alternative
ids, through other obsolete terms and alternative ids if need be. The file is therefore gone
through twice, first for the ids.
"""

from __future__ import annotations

import gzip
import io
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
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
    whole,
)
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
_PIECE = 1 << 16
_OBSOLETE_LINE = re.compile(rb"is_obsolete:\s*true\b")
_UNDECODABLE = re.compile("[\ud800-\udfff]")
_ABBREVIATIONS = {"abbreviation", "acronym", "omo:0003000", "omo:0003012"}


def read_obo(path: StrPath, skipped: SkippedRows) -> Iterator[Entity]:
    """Read every term that is not obsolete; instances are counted as filtered.

    Raises:
        InputError: The file is not OBO; the message names the line.
    """
    with _readable_twice(path) as file:

        def refuse(frame: clauses.TermFrame, fault: RowError) -> None:
            line = _line_of(file, str(frame.id))
            skipped.refuse(f"{shown(path)}: line {line}: {frame.id}: {fault}")

        live, alternative, obsolete = _scan(file)
        replaced_by: dict[str, tuple[str, ...]] = {}
        for frame in _frames(io.BytesIO(obsolete), path, SkippedRows()):
            try:
                own, olds = checked(str(frame.id), "id"), _alternative(frame)
            except RowError as fault:
                refuse(frame, fault)
                continue
            skipped.obsolete += 1
            if own not in live:
                replaced_by[own] = (*replaced_by.get(own, ()), *_replaced_by(frame))
            alternative.setdefault(own, []).extend(olds)
        merge(replaced_by, alternative, live=live)
        old_ids, unresolved = successors(replaced_by, live)
        skipped.unresolved += unresolved
        met: set[str] = set()
        with open_binary(file) as handle:
            for frame in _frames(handle, path, skipped):
                if _is_obsolete(frame):
                    continue
                merged = old_ids.get(str(frame.id), ())
                try:
                    entity = _entity(frame, merged)
                except RowError as fault:
                    refuse(frame, fault)
                    continue
                met.update(merged)
                yield entity
        skipped.unresolved += len({old for olds in old_ids.values() for old in olds} - met)


def _scan(file: Path) -> tuple[set[str], dict[str, list[str]], bytes]:
    """Return the ids of all live terms, their alternative ids, and the text of the obsolete.

    Those are few, so cheap to parse. A look at the lines is enough to tell them apart, and a
    tenth of the cost of parsing all.
    """
    live: set[str] = set()
    alternative: dict[str, list[str]] = {}  # of terms that have some: most have none
    obsolete: list[bytes] = []
    frame: list[bytes] = []

    def close() -> None:
        if not frame or not frame[0].startswith(b"[Term]"):
            return
        if any(_OBSOLETE_LINE.match(line) for line in frame):
            obsolete.extend([*frame, b"\n"])
            return
        try:
            olds = [
                checked(_id_of(line), "alt_id") for line in frame if line.startswith(b"alt_id:")
            ]
        except RowError:  # the term is refused when it is read
            olds = []
        for own in (_id_of(line) for line in frame if line.startswith(b"id:")):
            live.add(own)
            if olds:
                alternative.setdefault(own, []).extend(olds)

    with whole(file) as handle:
        for line in handle:
            if line.startswith(b"["):
                close()
                frame.clear()
            frame.append(line)
    close()
    return live, alternative, b"".join(obsolete)


def _id_of(line: bytes) -> str:
    return _text(line.partition(b":")[2].split(b"!")[0].split(b" {")[0]).strip()


def _text(raw: bytes) -> str:
    return _UNDECODABLE.sub(NOT_UTF8, raw.decode("utf-8", errors="surrogateescape"))


def _replaced_by(frame: clauses.TermFrame) -> tuple[str, ...]:
    following = [str(c.term) for c in frame if isinstance(c, clauses.ReplacedByClause)]
    considered = [str(c.term) for c in frame if isinstance(c, clauses.ConsiderClause)]
    return tuple(following or (considered if len(considered) == 1 else ()))


def _alternative(frame: clauses.TermFrame) -> list[str]:
    return [checked(str(c.alt_id), "alt_id") for c in frame if isinstance(c, clauses.AltIdClause)]


def _entity(frame: clauses.TermFrame, old_ids: tuple[str, ...]) -> Entity:
    names: list[Name] = []
    references: list[str] = []
    types: list[str] = []
    description = ""
    for clause in frame:
        if isinstance(clause, clauses.NameClause):
            names.append(Name(text=checked(clause.name, "name"), kind=NameKind.PREFERRED))
        elif isinstance(clause, clauses.SynonymClause):
            names.append(_synonym(clause.synonym))
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
        alternative_ids=tuple(dict.fromkeys([*_alternative(frame), *old_ids])),
        cross_references=tuple(references),
        description=description,
    )


def _synonym(synonym: fastobo.syn.Synonym) -> Name:
    marked = str(synonym.type or "").casefold() in _ABBREVIATIONS
    kind = NameKind.ABBREVIATION if marked else _SCOPES[synonym.scope]
    return Name(text=checked(synonym.desc, "synonym"), kind=kind)


def _is_obsolete(frame: clauses.TermFrame) -> bool:
    return any(isinstance(c, clauses.IsObsoleteClause) and c.obsolete for c in frame)


def _frames(
    handle: IO[bytes] | gzip.GzipFile, path: StrPath, skipped: SkippedRows
) -> Iterator[clauses.TermFrame]:
    """Yield term frames; a frame that is not OBO is refused by line, and the next one read."""
    try:
        # One thread: several spin while they wait, which costs more than it saves.
        frames = fastobo.iter(_Utf8(handle), ordered=True, threads=1)
    except SyntaxError as error:
        fault = f"line {error.lineno}: not OBO ({error.msg})"
        raise InputError(f"{shown(path)}: {fault}") from error
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
        elif isinstance(frame, fastobo.instance.InstanceFrame):
            skipped.filtered += 1


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
            return _text(raw).encode("utf-8")
        return raw


@contextmanager
def _readable_twice(path: StrPath) -> Iterator[Path]:
    if not Source.of(path).once:
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
        if line.startswith("id:") and _id_of(line.encode(errors="surrogateescape")) == identifier:
            return number
    return 0
