"""Tell what format a knowledge-base file has: by its name, else by its first lines."""

from __future__ import annotations

import json
import re
from pathlib import Path, PurePath

from mirror_rt.errors import InputError
from mirror_rt.knowledge.formats._rows import RowError
from mirror_rt.knowledge.formats.dictionary import parse_dictionary_line
from mirror_rt.textfiles import open_binary
from mirror_rt.types import KbFormat

__all__ = ["sniff"]

_PEEK_BYTES = 1 << 16
_PEEK_LINES = 50
_ICD10CM_LINE = re.compile(r"\d{5} [A-Z][0-9A-Z]{2,6} *[01] \S")


_SUFFIXES = {
    ".tsv": KbFormat.TSV,
    ".tab": KbFormat.TSV,
    ".csv": KbFormat.CSV,
    ".jsonl": KbFormat.JSONL,
    ".ndjson": KbFormat.JSONL,
    ".obo": KbFormat.OBO,
    ".parquet": KbFormat.PARQUET,
    ".owl": KbFormat.RDF,
    ".rdf": KbFormat.RDF,
    ".skos": KbFormat.RDF,
    ".ttl": KbFormat.RDF,
    ".nt": KbFormat.RDF,
    ".rrf": KbFormat.RRF,
}


def sniff(path: str | Path) -> KbFormat | None:
    """Tell a knowledge base's format by its name, else by its first lines; None for plain text.

    Standard input (``-``) is never looked at. A folder is known if it holds ``MRCONSO.RRF``.

    Raises:
        InputError: The file is missing or cannot be read.
    """
    if str(path) == "-":
        return None
    if Path(path).is_dir() and any(Path(path).glob("MRCONSO.RRF*")):
        return KbFormat.RRF
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
    if raw.startswith(b"PAR1"):
        return KbFormat.PARQUET
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
    if lines[0].lstrip().startswith("<"):
        return _from_markup("\n".join(lines))
    if all(_is_dictionary(line) for line in lines):
        return KbFormat.DICTIONARY
    if _is_wikidata(lines[1] if lines[0].strip() == "[" and len(lines) > 1 else lines[0]):
        return KbFormat.WIKIDATA
    if {"id", "name"} <= _json_keys(lines[0]):
        return KbFormat.JSONL
    if all(_ICD10CM_LINE.match(line) for line in lines):
        return KbFormat.ICD10CM
    if all("\t" in line.strip() for line in lines):
        return KbFormat.TSV
    return None


def _from_markup(text: str) -> KbFormat | None:
    if "<ICD10CM.tabular" in text:
        return KbFormat.ICD10CM
    return KbFormat.RDF if "<rdf:RDF" in text or "<Ontology" in text else None


def _is_dictionary(line: str) -> bool:
    try:
        parse_dictionary_line(line)
    except RowError:
        return False
    return True


def _is_wikidata(line: str) -> bool:
    # A line of a dump may be longer than what was read of it, so it is not parsed.
    return line.startswith('{"type":"item"') or {"labels", "claims"} <= _json_keys(line)


def _json_keys(line: str) -> set[str]:
    try:
        row = json.loads(line.rstrip().removesuffix(","))
    except (ValueError, RecursionError):
        return set()
    return set(row) if isinstance(row, dict) else set()
