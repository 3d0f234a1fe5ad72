"""Detect the format of a knowledge-base file by its name, or else by its first lines."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path, PurePath

from mirror_rt.knowledge.formats._rows import RowError
from mirror_rt.knowledge.formats.dictionary import parse_dictionary_line
from mirror_rt.knowledge.formats.tables import KINDS
from mirror_rt.tables import (
    Column,
    FileFormat,
    Table,
    TableOptions,
    detect_format,
    known,
    parquet_parts,
    seem,
)
from mirror_rt.textfiles import PACKED_ENDINGS, Head, Source, StrPath, head_lines
from mirror_rt.types import KbFormat

__all__ = ["is_entity_file", "sniff"]

_PEEK_LINES = 50
_ICD10CM_LINE = re.compile(r"\d{5} [A-Z][0-9A-Z]{2,6} *[01] \S")


_SUFFIXES = {
    ".tsv": KbFormat.TSV,
    ".tab": KbFormat.TSV,
    ".csv": KbFormat.CSV,
    ".jsonl": KbFormat.JSONL,
    ".ndjson": KbFormat.JSONL,
    ".json": KbFormat.JSONL,
    ".obo": KbFormat.OBO,
    ".parquet": KbFormat.PARQUET,
    ".xlsx": KbFormat.XLSX,
    ".xls": KbFormat.XLSX,
    ".owl": KbFormat.RDF,
    ".rdf": KbFormat.RDF,
    ".skos": KbFormat.RDF,
    ".ttl": KbFormat.RDF,
    ".nt": KbFormat.RDF,
    ".rrf": KbFormat.RRF,
}


def sniff(path: StrPath) -> KbFormat | None:
    """Detect a knowledge base's format by its name and first bytes; None for plain text.

    The head of a pipe is read too; a ``Source`` loses nothing by that. Standard input is read
    only as a ``Source``. A folder is known if it contains ``MRCONSO.RRF`` or Parquet files.

    Raises:
        InputError: The file is missing or cannot be read.
    """
    if str(path) == "-" and not isinstance(path, Source):
        return None
    if Path(path).is_dir():
        if any(Path(path).glob("MRCONSO.RRF*")):
            return KbFormat.RRF
        return KbFormat.PARQUET if parquet_parts(path) else None
    source = Source.of(path)
    suffixes = [suffix.casefold() for suffix in PurePath(path).suffixes]
    if suffixes and suffixes[-1] in PACKED_ENDINGS:
        suffixes.pop()
    named = _SUFFIXES.get(suffixes[-1]) if suffixes else None
    kind = detect_format(source, TableOptions(), FileFormat.TEXT)
    if kind in (FileFormat.PARQUET, FileFormat.XLSX):
        return KbFormat(kind.value)
    lines = [line for line in head_lines(source) if line.strip()]
    if named is KbFormat.JSONL and lines and _is_wikidata_dump(lines):
        return KbFormat.WIKIDATA
    return named or _from_lines(lines[:_PEEK_LINES])


def is_entity_file(source: Source, options: TableOptions, kb_format: KbFormat | None) -> bool:
    """Return whether a file is clearly a list of entities, not a table of texts.

    It is if it is an ontology, or a table with known headings of ids, names and aliases, or of
    kinds of names. If neither name nor options say that it is a table, ids and names are
    enough. A pipe loses nothing.

    Args:
        source: The file.
        options: The layout of the file, as far as it is known.
        kb_format: The result of ``sniff``.
    """
    if kb_format is None or kb_format not in KINDS:
        return kb_format is not None
    kind = detect_format(source, options, FileFormat.TEXT)
    as_table = options if kind is not FileFormat.TEXT else replace(options, format=KINDS[kb_format])
    if source.once and kind in (FileFormat.PARQUET, FileFormat.XLSX):
        return False
    table = Table(Head(source) if source.once else source, options=as_table)
    headings = table.headings if table.by_name else table.first or []
    if known(headings, Column.TEXT) or not (
        known(headings, Column.ID) and known(headings, Column.NAME)
    ):
        return False
    return kind is FileFormat.TEXT or bool(known(headings, Column.ALIASES, Column.KIND))


def _from_lines(lines: list[str]) -> KbFormat | None:
    if not lines:
        return None
    if lines[0].startswith("format-version:") or "[Term]" in lines:
        return KbFormat.OBO
    if lines[0].lstrip().startswith("<"):
        return _from_markup("\n".join(lines))
    if all(_is_dictionary(line) for line in lines):
        return KbFormat.DICTIONARY
    if _is_wikidata_dump(lines):
        return KbFormat.WIKIDATA
    if _are_of_entities([*_first_json_keys(lines)]):
        return KbFormat.JSONL
    if all(_ICD10CM_LINE.match(line) for line in lines):
        return KbFormat.ICD10CM
    heads = [line for line in lines if line.startswith("#")] + lines[:1]
    if any(_are_of_entities(line.split("\t")) for line in heads):
        return KbFormat.TSV
    if any(_are_of_entities(line.split(sign)) for line in heads for sign in (",", ";", "|")):
        return KbFormat.CSV
    return KbFormat.TSV if all("\t" in line.strip() for line in lines) else None


def _are_of_entities(headings: list[str]) -> bool:
    cells = [heading.strip(' "#\r') for heading in headings]
    ids, names = (known(cells, c) or seem(cells, c) for c in (Column.ID, Column.NAME))
    return bool(ids and names)


def _is_wikidata_dump(lines: list[str]) -> bool:
    return _is_wikidata(lines[1] if lines[0].strip() == "[" and len(lines) > 1 else lines[0])


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
    # A line of a dump may be longer than the part that was read, so it is not parsed.
    return line.startswith('{"type":"item"') or {"labels", "claims"} <= _json_keys(line)


def _first_json_keys(lines: list[str]) -> set[str]:
    """Return the keys of the first object, of JSON lines or of an array."""
    text = "\n".join(lines).lstrip()
    try:
        row, _ = json.JSONDecoder().raw_decode(text.removeprefix("[").lstrip())
    except (ValueError, RecursionError):
        return set()
    return set(row) if isinstance(row, dict) else set()


def _json_keys(line: str) -> set[str]:
    try:
        row = json.loads(line.rstrip().removesuffix(","))
    except (ValueError, RecursionError):
        return set()
    return set(row) if isinstance(row, dict) else set()
