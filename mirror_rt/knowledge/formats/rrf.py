"""Read the UMLS: MRCONSO.RRF, and MRSTY, MRCUI and MRREL if they are in the same folder.

These three contain the types, the ids of merged concepts, and the parents.

Columns: UMLS Reference Manual, chapter 3. Consecutive names of one CUI become one piece.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from mirror_rt._count import counted
from mirror_rt.errors import InputError
from mirror_rt.knowledge.formats._filter import NameFilter, in_order
from mirror_rt.knowledge.formats._rows import RowError, SkippedRows, checked, each, flat
from mirror_rt.knowledge.formats._successors import successors
from mirror_rt.textfiles import StrPath, numbered_lines
from mirror_rt.types import Entity, Name, NameKind

__all__ = ["read_rrf"]

_ABBREVIATIONS = {"AB", "ABX", "ACR", "AA", "SB"}
_LANGUAGES = dict(
    pair.split("=")
    for pair in "BAQ=eu CHI=zh CZE=cs DAN=da DUT=nl ENG=en EST=et FIN=fi FRE=fr GER=de GRE=el "
    "HEB=he HUN=hu ITA=it JPN=ja KOR=ko LAV=lv NOR=no POL=pl POR=pt RUS=ru SCR=hr SPA=es "
    "SWE=sv TUR=tr UKR=uk".split()
)


class _Atom(NamedTuple):
    cui: str
    name: Name
    reference: str


def read_rrf(path: StrPath, skipped: SkippedRows, keep: NameFilter) -> Iterator[Entity]:
    """Read the concepts of ``MRCONSO.RRF``, given by its path or its folder.

    Languages become two-letter tags (ENG is ``en``), the vocabulary (SAB) becomes the source, its
    code a cross-reference. The preferred name of a concept is the one that the UMLS marks (TS=P,
    STT=PF, ISPREF=Y). Suppressed names are left out, unless ``keep`` includes them.

    Raises:
        InputError: A file is missing, or a row has too few columns; the message names the line.
    """
    conso, folder = Path(path), Path(path).parent
    if conso.is_dir():
        folder = conso
        found = _beside(folder, "MRCONSO.RRF")
        if found is None:
            raise InputError(f"{folder}: holds no MRCONSO.RRF")
        conso = found
    parents = _parents(_beside(folder, "MRREL.RRF"), skipped, keep)
    types = _types(_beside(folder, "MRSTY.RRF"), skipped)
    merged = _merged(_beside(folder, "MRCUI.RRF"), skipped)
    atoms = each(conso, _lines(conso), lambda line: _atom(line, keep, skipped), skipped)
    met: set[str] = set()
    for cui, group in groupby(atoms, key=lambda atom: atom.cui):
        same = list(group)
        met.update(merged.get(cui, ()))
        yield Entity(
            id=cui,
            names=in_order([atom.name for atom in same], keep),
            types=types.pop(cui, ()),  # the rest belongs to concepts without names
            alternative_ids=merged.get(cui, ()),
            cross_references=tuple(dict.fromkeys(a.reference for a in same if a.reference)),
            parents=tuple(parents.pop(cui, ())),
        )
    skipped.types += sum(map(len, types.values()))
    skipped.unresolved += len({old for olds in merged.values() for old in olds} - met)


def _atom(line: str, keep: NameFilter, skipped: SkippedRows) -> _Atom | None:
    row = _columns(line, 18, "MRCONSO")
    language, source, term_type, code = row[1], row[11], row[12], row[13]
    if term_type in _ABBREVIATIONS:
        kind = NameKind.ABBREVIATION
    elif (row[2], row[4], row[6]) == ("P", "PF", "Y"):
        kind = NameKind.PREFERRED
    else:
        kind = NameKind.EXACT
    name = Name(
        text=row[14],
        kind=kind,
        language=sys.intern(_LANGUAGES.get(language, flat(language, "language").casefold())),
        source=sys.intern(flat(source, "source")),
    )
    suppressed = row[16] not in ("", "N")
    # A name that is filtered out need not be valid.
    if (suppressed and not keep.suppressed) or not keep.keeps(name):
        skipped.filtered += 1
        return None
    return _Atom(
        cui=checked(row[0], "CUI"),
        name=replace(name, text=checked(name.text, "name")),
        reference=flat(f"{source}:{code}", "code") if code and code != "NOCODE" else "",
    )


def _types(path: Path | None, skipped: SkippedRows) -> dict[str, tuple[str, ...]]:
    def parse(line: str) -> tuple[str, str]:
        row = _columns(line, 6, "MRSTY")
        return checked(row[0], "CUI"), checked(row[3], "semantic type")

    types: dict[str, tuple[str, ...]] = {}
    known: dict[tuple[str, ...], tuple[str, ...]] = {}
    if path is not None:
        for cui, name in each(path, _lines(path), parse, skipped):
            both = (*types.get(cui, ()), name)
            types[cui] = known.setdefault(both, both)
    return types


def _parents(path: Path | None, skipped: SkippedRows, keep: NameFilter) -> dict[str, list[str]]:
    """Read the parents of each concept. PAR: the second concept is the parent; CHD: the first.

    Suppressed relations, and those of unwanted sources, are ignored.
    """

    def parse(line: str) -> tuple[str, str] | None:
        row = _columns(line, 16, "MRREL")
        if row[3] not in ("PAR", "CHD") or row[0] == row[4]:
            return None
        if (keep.sources and row[10] not in keep.sources) or (
            row[14] not in ("", "N") and not keep.suppressed
        ):
            return None
        first, second = checked(row[0], "CUI1"), checked(row[4], "CUI2")
        return (first, second) if row[3] == "PAR" else (second, first)

    parents: dict[str, list[str]] = {}
    if path is not None:
        for child, parent in each(path, _lines(path), parse, skipped):
            known = parents.setdefault(child, [])
            if parent not in known:  # most occur in both directions, from several sources
                known.append(sys.intern(parent))
    return parents


def _merged(path: Path | None, skipped: SkippedRows) -> dict[str, tuple[str, ...]]:
    def parse(line: str) -> tuple[str, tuple[str, ...]]:
        row = _columns(line, 7, "MRCUI")
        # Deleted concepts (DEL) have no successor; broader, narrower and related ones do not count.
        return checked(row[0], "CUI"), (checked(row[5], "CUI2"),) if row[2] == "SY" else ()

    following: dict[str, tuple[str, ...]] = {}
    if path is not None:
        for old, new in each(path, _lines(path), parse, skipped):
            following[old] = following.get(old, ()) + new
    living = {new for news in following.values() for new in news} - following.keys()
    found, unresolved = successors(following, living)
    skipped.unresolved += unresolved
    return found


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    return ((number, line) for number, line in numbered_lines(path, strict=False) if line.strip())


def _columns(line: str, number: int, table: str) -> list[str]:
    row = line.removesuffix("|").split("|")
    if len(row) != number:
        raise RowError(f"{counted(len(row), 'column')}, {table} has {number}")
    return row


def _beside(folder: Path, name: str) -> Path | None:
    found = [folder / n for n in (name, f"{name}.gz") if (folder / n).is_file()]
    return found[0] if found else None
