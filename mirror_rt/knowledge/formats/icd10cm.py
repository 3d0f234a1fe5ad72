"""Read ICD-10-CM as the CDC publishes it: the order file, or the tabular list in XML.

The order file (``icd10cm_order_*.txt``) has fixed columns: number 1–5, code 7–13, billable 15,
short title 17–76, long title from 78. The tabular list adds inclusion terms, which are
narrower names or synonyms. Codes are written with a point (``A000`` becomes ``A00.0``).
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path

from mirror_rt.errors import InputError
from mirror_rt.knowledge.formats._rows import RowError, SkippedRows, checked, each, shown, whole
from mirror_rt.textfiles import StrPath, numbered_lines
from mirror_rt.types import Entity, Name, NameKind

__all__ = ["read_icd10cm"]


def read_icd10cm(path: StrPath, skipped: SkippedRows) -> Iterator[Entity]:
    """Read every code and heading; the code without its point is an alternative id.

    Raises:
        InputError: A line of the order file or the XML is malformed; the message names the line.
    """
    suffixes = [suffix.casefold() for suffix in Path(path).suffixes]
    if ".xml" in suffixes[-2:]:
        return _tabular(path, skipped)
    lines = ((n, line) for n, line in numbered_lines(path, strict=False) if line.strip())
    read: set[str] = set()
    return each(path, lines, lambda line: _order_line(line, read), skipped)


def _order_line(line: str, read: set[str]) -> Entity:
    number, code, billable = line[:5], line[6:13].strip(), line[14:15]
    if not number.isdigit() or billable not in ("0", "1") or line[5:6] + line[13:14] != "  ":
        raise RowError("not a line of an ICD-10-CM order file")
    short, long = line[16:76], line[77:]
    names = [Name(text=checked(long, "long title"), kind=NameKind.PREFERRED)]
    if short.strip() and short.strip() != long.strip():
        names.append(Name(text=checked(short, "short title"), kind=NameKind.ABBREVIATION))
    kind = "billable" if billable == "1" else "header"
    # Headings come before their codes; a prefix that ends in the placeholder X is not a code.
    above = (code[:end] for end in range(len(code) - 1, 2, -1))
    parent = next((shorter for shorter in above if shorter in read), "")
    read.add(code)
    return _entity(checked(code, "code"), names, types=(kind,), parent=parent)


def _tabular(path: StrPath, skipped: SkippedRows) -> Iterator[Entity]:
    with whole(path) as handle:
        try:
            around: list[ElementTree.Element] = []
            for event, element in ElementTree.iterparse(handle, events=("start", "end")):
                if element.tag != "diag":
                    continue
                if event == "start":
                    around.append(element)
                    continue
                around.pop()
                try:
                    entity = _diagnosis(element, around[-1] if around else None)
                except RowError as fault:
                    code = element.findtext("name") or "?"
                    skipped.refuse(f"{shown(path)}: code {code}: {fault}")
                    continue
                finally:
                    # Inner codes end before outer ones, so read elements can be freed.
                    for inner in element.findall("diag"):
                        element.remove(inner)
                yield entity
        except (LookupError, ValueError) as error:  # an encoding that expat does not support
            raise InputError(
                f"{shown(path)}: line 1: not XML that can be read ({error})"
            ) from error
        except ElementTree.ParseError as error:
            line, column = error.position
            skipped.refuse(
                f"{shown(path)}: line {line}: not XML (character {column + 1}: {error.msg}); "
                "nothing after it can be read"
            )


def _diagnosis(element: ElementTree.Element, outer: ElementTree.Element | None) -> Entity:
    names = [Name(text=_words(element.find("desc"), "desc"), kind=NameKind.PREFERRED)]
    for note in element.findall("inclusionTerm/note"):
        names.append(Name(text=_words(note, "inclusion term"), kind=NameKind.NARROW))
    parent = "" if outer is None else _words(outer.find("name"), "name")
    return _entity(_words(element.find("name"), "name"), names, parent=parent)


def _words(element: ElementTree.Element | None, what: str) -> str:
    text = "" if element is None else "".join(element.itertext())
    return checked(" ".join(text.split()), what)


def _entity(
    code: str, names: list[Name], *, types: tuple[str, ...] = (), parent: str = ""
) -> Entity:
    plain, pointed = code.replace(".", ""), _pointed(code)
    return Entity(
        id=pointed,
        names=tuple(names),
        types=types,
        alternative_ids=(plain,) if plain != pointed else (),
        parents=(_pointed(parent),) if parent else (),
    )


def _pointed(code: str) -> str:
    plain = code.replace(".", "")
    return f"{plain[:3]}.{plain[3:]}" if len(plain) > 3 else plain
