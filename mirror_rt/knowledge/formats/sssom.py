"""Mappings in SSSOM/TSV, a community standard for mappings (Matentzoglu et al. 2022).

A YAML header behind ``#`` describes the set and defines the prefixes. Cells are quoted if needed. A
mention has no id, so its subject is the text (``rdfs literal``). Ids without a prefix get the
prefix ``local:``.
"""

from __future__ import annotations

import csv
import hashlib
import re
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import dropwhile
from pathlib import Path
from urllib.parse import unquote

from mirror_rt._count import counted
from mirror_rt.errors import InputError
from mirror_rt.tables import RowError
from mirror_rt.tables.delimited import split_rows
from mirror_rt.textfiles import numbered_lines
from mirror_rt.types import MatchType, Relation
from mirror_rt.version import VERSION

__all__ = ["PREDICATES", "SssomMapping", "justification", "read_sssom", "write_sssom"]

PREDICATES = {
    Relation.EXACT: "skos:exactMatch",
    Relation.BROADER: "skos:broadMatch",
    Relation.NARROWER: "skos:narrowMatch",
    Relation.RELATED: "skos:relatedMatch",
}
"""The SKOS predicate of each relation."""

_COLUMNS = (
    "subject_id", "subject_label", "subject_type", "predicate_id", "object_id", "object_label",
    "mapping_justification", "confidence", "similarity_score", "match_string", "comment",
)  # fmt: skip
_NEEDED = ("subject_label", "object_id")
_CURIE = re.compile(r"([A-Za-z][\w.-]*):([^\s/][^\s]*)")
_KNOWN = {
    "skos": "http://www.w3.org/2004/02/skos/core#",
    "semapv": "https://w3id.org/semapv/vocab/",
    "rdfs": "http://www.w3.org/2000/01/rdf-schema#",
    "local": "urn:mirror-rt:id:",
}
_NOT_PLAIN = re.compile(r"[^\w.:#/?&=+-]", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class SssomMapping:
    """A mapping from a subject to an entity, with its justification.

    Attributes:
        subject_id: The id of the subject; empty if it is a text.
        subject_label: The name of the subject, or the text.
        relation: The relation from subject to object.
        object_id: The id of the entity.
        object_label: The name of the entity.
        justification: A term of the Semantic Mapping Vocabulary.
        confidence: Probability that the mapping is right, or None.
        score: Similarity of the names, or None.
        match_strings: The names that matched.
        comment: Further information.
    """

    subject_label: str
    object_id: str
    object_label: str
    subject_id: str = ""
    relation: Relation = Relation.EXACT
    justification: str = "semapv:LexicalMatching"
    confidence: float | None = None
    score: float | None = None
    match_strings: tuple[str, ...] = ()
    comment: str = ""


def justification(match_type: MatchType) -> str:
    """Return the term of the Semantic Mapping Vocabulary for a match type.

    >>> justification(MatchType.DENSE), justification(MatchType.PLURAL)
    ('semapv:SemanticSimilarityThresholdMatching', 'semapv:LexicalMatching')
    """
    match match_type:
        case MatchType.DENSE:
            return "semapv:SemanticSimilarityThresholdMatching"
        case MatchType.LEXICAL:
            return "semapv:LexicalSimilarityThresholdMatching"
        case _:
            return "semapv:LexicalMatching"


def write_sssom(path: Path, mappings: Iterable[SssomMapping], *, comment: str = "") -> int:
    """Write a set of mappings and return their number. Equal mappings give equal bytes.

    Args:
        path: The file, which is replaced.
        mappings: The mappings.
        comment: A description of the set.

    Raises:
        OSError: The disk is full.
    """
    prefixes, count, digest = {"skos", "semapv"}, 0, hashlib.sha256()
    body = path.with_name(f"{path.name}.rows")
    with open(body, "w", encoding="utf-8", newline="") as handle:
        rows = csv.writer(handle, delimiter="\t", lineterminator="\n")
        rows.writerow(_COLUMNS)
        for one in mappings:
            subject, found = one.subject_id, _curie(one.object_id)
            if subject:
                subject = _curie(subject)
                prefixes.add(subject.partition(":")[0])
            prefixes.add(found.partition(":")[0])
            cells = (
                subject, one.subject_label, "" if subject else "rdfs literal",
                PREDICATES[one.relation], found, one.object_label, one.justification,
                _number(one.confidence), _number(one.score),
                "|".join(text.replace("|", r"\|") for text in one.match_strings), one.comment,
            )  # fmt: skip
            rows.writerow(cells)
            digest.update("\t".join(cells).encode("utf-8", "replace"))
            count += 1
    with open(path, "w", encoding="utf-8", newline="") as handle:
        handle.write("# curie_map:\n")
        handle.writelines(f"#   {name}: {_expansion(name)!r}\n" for name in sorted(prefixes))
        handle.write(f"# mapping_set_id: urn:mirror-rt:set:{digest.hexdigest()[:32]}\n")
        handle.write("# license: https://w3id.org/sssom/license/unspecified\n")
        handle.write(f"# mapping_tool: mirror-rt\n# mapping_tool_version: '{VERSION}'\n")
        if comment:
            quoted = comment.replace("'", "''")
            handle.write(f"# comment: '{quoted}'\n")
        with open(body, encoding="utf-8", newline="") as rows_read:
            shutil.copyfileobj(rows_read, handle)
    body.unlink()
    return count


def read_sssom(path: Path) -> Iterator[SssomMapping]:
    """Yield the mappings of a file: subject, object and confidence; ``local:`` is removed.

    Raises:
        InputError: It cannot be read, lacks a column, or a row is broken; the message names it.
    """
    below = dropwhile(lambda line: line[1].startswith("#"), numbered_lines(path))
    rows = split_rows(below, "\t", quoted=True)
    _, columns = next(rows, (0, []))
    missing = [name for name in _NEEDED if isinstance(columns, RowError) or name not in columns]
    if isinstance(columns, RowError) or missing:
        raise InputError(f"{path}: is not SSSOM: has no column {', nor '.join(missing)}")
    for number, row in rows:
        if row == [""]:
            continue
        if isinstance(row, RowError) or len(row) != len(columns):
            fault = (
                row if isinstance(row, RowError) else f"has not {counted(len(columns), 'column')}"
            )
            raise InputError(f"{path}: line {number}: {fault}")
        cells = dict(zip(columns, row, strict=True))
        said = cells.get("confidence", "")
        try:
            confidence = float(said) if said else None
        except ValueError:
            raise InputError(
                f"{path}: line {number}: the confidence {said!r} is not a number"
            ) from None
        yield SssomMapping(
            subject_id=_own_id(cells.get("subject_id", "")),
            subject_label=cells["subject_label"],
            object_id=_own_id(cells["object_id"]),
            object_label=cells.get("object_label", ""),
            confidence=confidence,
        )


def _own_id(curie: str) -> str:
    """Return the id that ``_curie`` encoded.

    >>> _own_id("HP:0001250"), _own_id(_curie("A 1"))
    ('HP:0001250', 'A 1')
    """
    return unquote(curie.removeprefix("local:")) if curie.startswith("local:") else curie


def _number(value: float | None) -> str:
    return "" if value is None else f"{min(max(value, 0.0), 1.0):.4f}"


def _curie(id_: str) -> str:
    """Return an id as a CURIE, with the prefix ``local`` if it has none.

    >>> _curie("HP:0001250"), _curie("A 1"), _curie("http://e.org/x")
    ('HP:0001250', 'local:A%201', 'local:http://e.org/x')
    """
    if _CURIE.fullmatch(id_):
        return id_
    return "local:" + _NOT_PLAIN.sub(
        lambda sign: "".join(f"%{byte:02X}" for byte in sign[0].encode()), id_
    )


def _expansion(prefix: str) -> str:
    if prefix in _KNOWN:
        return _KNOWN[prefix]
    if prefix.isupper() and prefix not in {"UMLS", "MESH", "MSH", "OMIM", "SNOMEDCT", "ICD10CM"}:
        return f"http://purl.obolibrary.org/obo/{prefix}_"
    return f"https://bioregistry.io/{prefix}:"
