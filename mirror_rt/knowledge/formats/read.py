"""Say what format a knowledge-base file has, and read it with that format's reader."""

from __future__ import annotations

import json
from collections.abc import Iterator
from enum import Enum
from pathlib import Path, PurePath

from mirror_rt.errors import ConfigError, InputError
from mirror_rt.knowledge.formats import dictionary, jsonl, tables
from mirror_rt.knowledge.formats._rows import RowError, SkippedRows, shown
from mirror_rt.textfiles import open_binary
from mirror_rt.types import Entity

__all__ = ["KbFormat", "read_entities", "read_names", "sniff"]

_PEEK_BYTES = 1 << 16
_PEEK_LINES = 50


class KbFormat(Enum):
    """The formats a knowledge base can be read from."""

    TSV = "tsv"
    CSV = "csv"
    JSONL = "jsonl"
    DICTIONARY = "dictionary"
    OBO = "obo"


_SUFFIXES = {
    ".tsv": KbFormat.TSV,
    ".tab": KbFormat.TSV,
    ".csv": KbFormat.CSV,
    ".jsonl": KbFormat.JSONL,
    ".ndjson": KbFormat.JSONL,
    ".obo": KbFormat.OBO,
}


def read_entities(
    path: str | Path, *, format: KbFormat | None = None, skip_bad: SkippedRows | None = None
) -> Iterator[Entity]:
    """Read a knowledge base, piece by piece in the order of the file.

    Args:
        path: The file, ``.gz`` too, or ``-`` for standard input (then ``format`` is needed).
        format: Its format; None to tell from its name and first lines.
        skip_bad: Counts bad rows instead of stopping at the first; None to stop.

    Raises:
        ConfigError: The format cannot be told.
        InputError: The file is missing or holds no entity, or a row is bad: no id, no name, a
            control character, not UTF-8, not of the format. The message names the line.
    """
    chosen = format or sniff(path)
    if chosen is None:
        formats = ", ".join(member.value for member in KbFormat)
        raise ConfigError(f"{shown(path)}: cannot tell its format; give one of {formats}")
    return _not_empty(path, chosen, skip_bad if skip_bad is not None else SkippedRows(strict=True))


def read_names(
    path: str | Path, *, format: KbFormat | None = None, skip_bad: SkippedRows | None = None
) -> Iterator[str]:
    """Read every name of a knowledge base, as often as it is there; as ``read_entities``."""
    for entity in read_entities(path, format=format, skip_bad=skip_bad):
        for name in entity.names:
            yield name.text


def sniff(path: str | Path) -> KbFormat | None:
    """Tell a knowledge base's format by its name, else by its first lines; None for plain text.

    Standard input (``-``) is never looked at.

    Raises:
        InputError: The file is missing or cannot be read.
    """
    if str(path) == "-":
        return None
    suffixes = [suffix.casefold() for suffix in PurePath(path).suffixes]
    if suffixes and suffixes[-1] == ".gz":
        suffixes.pop()
    if suffixes and suffixes[-1] in _SUFFIXES:
        return _SUFFIXES[suffixes[-1]]
    with open_binary(path) as handle:
        try:
            raw = handle.read(_PEEK_BYTES)
        except (EOFError, OSError) as error:
            raise InputError(f"{path}: cannot be read ({error})") from error
    text = raw.decode("utf-8", errors="replace").removeprefix("\ufeff")
    lines = [line.rstrip("\r") for line in text.split("\n") if line.strip()]
    if len(raw) == _PEEK_BYTES and len(lines) > 1:
        lines.pop()
    return _from_lines(lines[:_PEEK_LINES])


def _from_lines(lines: list[str]) -> KbFormat | None:
    if not lines:
        return None
    if lines[0].startswith("format-version:") or "[Term]" in lines:
        return KbFormat.OBO
    if all(_is_dictionary(line) for line in lines):
        return KbFormat.DICTIONARY
    if _is_json_entity(lines[0]):
        return KbFormat.JSONL
    if all("\t" in line.strip() for line in lines):
        return KbFormat.TSV
    return None


def _is_dictionary(line: str) -> bool:
    try:
        dictionary.parse_dictionary_line(line)
    except RowError:
        return False
    return True


def _is_json_entity(line: str) -> bool:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return isinstance(row, dict) and {"id", "name"} <= row.keys()


def _not_empty(path: str | Path, chosen: KbFormat, skipped: SkippedRows) -> Iterator[Entity]:
    entity = None
    for entity in _reader(path, chosen, skipped):
        yield entity
    if entity is None:
        passed = f" ({skipped.bad} bad rows; {skipped.messages[0]})" if skipped.bad else ""
        raise InputError(f"{shown(path)}: holds no entity, read as {chosen.value}{passed}")


def _reader(path: str | Path, chosen: KbFormat, skipped: SkippedRows) -> Iterator[Entity]:
    match chosen:
        case KbFormat.TSV:
            return tables.read_tsv(path, skipped)
        case KbFormat.CSV:
            return tables.read_csv(path, skipped)
        case KbFormat.JSONL:
            return jsonl.read_jsonl(path, skipped)
        case KbFormat.DICTIONARY:
            return dictionary.read_dictionary(path, skipped)
        case KbFormat.OBO:
            # Imported here: fastobo is a compiled parser that the other formats do not need.
            from mirror_rt.knowledge.formats import obo

            return obo.read_obo(path, skipped)
