"""Read ontologies and thesauri in RDF/XML, Turtle or N-Triples: OWL classes, SKOS concepts.

The reader uses rdflib, which holds the whole graph in memory. Errors name the line. A bad row is a
line of N-Triples, a statement of Turtle, an element below ``rdf:RDF``, or a bad text of a node.
Nothing is downloaded: imports are ignored.
"""

from __future__ import annotations

import codecs
import logging
import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from pathlib import PurePath

from mirror_rt._extras import require

require("rdflib", extra="rdf")

from rdflib import Graph, Literal, URIRef  # noqa: E402  (the extra is checked first)
from rdflib.exceptions import ParserError  # noqa: E402
from rdflib.namespace import DCTERMS, OWL, RDF, RDFS, SKOS, Namespace  # noqa: E402
from rdflib.plugins.parsers.ntriples import NTGraphSink, W3CNTriplesParser  # noqa: E402
from rdflib.term import Node  # noqa: E402

from mirror_rt.errors import InputError  # noqa: E402
from mirror_rt.knowledge.formats._filter import NameFilter, in_order  # noqa: E402
from mirror_rt.knowledge.formats._rdf_faults import (  # noqa: E402
    FAULTS,
    fault_of,
    fill,
    without_bad_elements,
    without_bad_statements,
)
from mirror_rt.knowledge.formats._rows import (  # noqa: E402
    NOT_UTF8,
    RowError,
    SkippedRows,
    checked,
    each,
    flat,
    shown,
    usable,
    whole,
)
from mirror_rt.knowledge.formats._successors import merge, successors  # noqa: E402
from mirror_rt.textfiles import StrPath, numbered_lines  # noqa: E402
from mirror_rt.types import Entity, Name, NameKind  # noqa: E402

__all__ = ["read_rdf"]

_OBO = "http://purl.obolibrary.org/obo/"
_OIO = Namespace("http://www.geneontology.org/formats/oboInOwl#")
_XL = Namespace("http://www.w3.org/2008/05/skos-xl#")
_ENTITIES = (OWL.Class, RDFS.Class, SKOS.Concept, OWL.NamedIndividual)
_NAMES = {
    RDFS.label: NameKind.PREFERRED,
    SKOS.prefLabel: NameKind.PREFERRED,
    SKOS.altLabel: NameKind.EXACT,
    SKOS.hiddenLabel: NameKind.RELATED,
    _OIO.hasExactSynonym: NameKind.EXACT,
    _OIO.hasBroadSynonym: NameKind.BROAD,
    _OIO.hasNarrowSynonym: NameKind.NARROW,
    _OIO.hasRelatedSynonym: NameKind.RELATED,
    URIRef(f"{_OBO}IAO_0000118"): NameKind.EXACT,
}
_XL_NAMES = {
    _XL.prefLabel: NameKind.PREFERRED,
    _XL.altLabel: NameKind.EXACT,
    _XL.hiddenLabel: NameKind.RELATED,
}
_DESCRIPTIONS = (SKOS.definition, URIRef(f"{_OBO}IAO_0000115"), DCTERMS.description)
_REFERENCES = (_OIO.hasDbXref, SKOS.exactMatch, OWL.equivalentClass, SKOS.notation)
_PARENTS = (RDFS.subClassOf, SKOS.broader)
_REPLACED_BY = (URIRef(f"{_OBO}IAO_0100001"), DCTERMS.isReplacedBy)
_ABBREVIATIONS = ("abbreviation", "acronym", "OMO_0003000", "OMO_0003012")
_TAG = re.compile(rb"[A-Za-z]+(?:-[A-Za-z0-9]+)*|")
_XML_TAG = re.compile(rb"""\sxml:lang\s*=\s*(["'])(?P<tag>.*?)\1""")
_TURTLE_TAG = re.compile(rb'(?<!\\)"@(?P<tag>[\w-]+(?:\.[\w-]+)*)')
_TRIPLE_TAG = re.compile(r'"@([\w-]+(?:\.[\w-]+)*)(?=\s*\.\s*(?:#.*)?$)')
_FUNCTIONAL = re.compile(rb"\s*(?:#[^\n]*\s*)*(?:Prefix|Ontology)\s*[(:]")
_PURL = re.compile(re.escape(_OBO) + r"([A-Za-z]+)_(\w+)")


def read_rdf(path: StrPath, skipped: SkippedRows, keep: NameFilter) -> Iterator[Entity]:
    """Read named classes, individuals and concepts.

    The id is ``oboInOwl:id``, the CURIE of an OBO IRI, or the IRI itself. Deprecated nodes are
    left out; their ids and alternative ids are added to the successor (``IAO:0100001``,
    ``dcterms:isReplacedBy``, or a single ``oboInOwl:consider``). Nodes without a name are left
    out and counted, such as references to other ontologies. So are blank nodes with a name, as
    they have no id.

    Raises:
        InputError: The file cannot be parsed (by line), or an id or a name is bad.
    """
    graph = _parsed(path, skipped)
    subjects = dict.fromkeys(chain.from_iterable(graph.subjects(RDF.type, t) for t in _ENTITIES))
    named = {node: _id(graph, node) for node in subjects if isinstance(node, URIRef)}
    skipped.anonymous += sum(node not in named and _is_named(graph, node) for node in subjects)
    old = {node for node in named if _is_deprecated(graph, node)}
    live = {named[n] for n in named.keys() - old}
    following: dict[str, tuple[str, ...]] = {}
    alternative: dict[str, list[str]] = {}
    for node, own in named.items():
        try:
            faults: list[RowError] = []
            olds = usable(_ids(graph, node, _OIO.hasAlternativeId), "alternative id", faults)
            checked(own, "id")
            if node in old:  # a live one tells of its own below
                _report(path, node, faults, skipped)
        except RowError as fault:
            if node in old:  # others with a name raise the error below
                skipped.refuse(f"{shown(path)}: {node}: {fault}")
            continue
        if node in old:
            skipped.obsolete += 1
            if own not in live:
                following[own] = (*following.get(own, ()), *_replaced_by(graph, node))
        alternative.setdefault(own, []).extend(olds)
    merge(following, alternative, live=live)
    old_ids, unresolved = successors(following, live)
    skipped.unresolved += unresolved
    abbreviations = _abbreviations(graph)
    met: set[str] = set()
    for node, identifier in named.items():
        if node in old:
            continue
        try:
            faults = []
            entity = _entity(graph, node, identifier, old_ids, abbreviations, keep, faults)
            _report(path, node, faults, skipped)
        except RowError as fault:
            skipped.refuse(f"{shown(path)}: {node}: {fault}")
            continue
        if entity is None:
            skipped.nameless += 1
            continue
        met.update(old_ids.get(identifier, ()))
        yield entity
    skipped.unresolved += len({old for olds in old_ids.values() for old in olds} - met)


def _parsed(path: StrPath, skipped: SkippedRows) -> Graph:
    # Without a handler, rdflib's warnings about unusual IRIs would go to the terminal.
    logging.getLogger("rdflib").addHandler(logging.NullHandler())
    suffixes = [suffix.casefold() for suffix in PurePath(path).suffixes[-2:]]
    if ".nt" in suffixes:
        return _triples(path, skipped)
    with whole(path) as handle:
        data = handle.read().removeprefix(codecs.BOM_UTF8)
    is_xml = data.lstrip().startswith((b"<?xml", b"<rdf:RDF", b"<!"))
    if is_xml and b"<rdf:RDF" not in data:
        raise InputError(f"{shown(path)}: not RDF/XML (no rdf:RDF); convert it, e.g. with ROBOT")
    if _FUNCTIONAL.match(data):
        raise InputError(
            f"{shown(path)}: line 1: OWL functional or Manchester syntax, which is not read; "
            "convert it, e.g. with ROBOT"
        )

    def refuse(fault: str) -> None:
        skipped.refuse(f"{shown(path)}: {fault}")

    def without_tags(data: bytes) -> bytes:
        return data if is_xml else _without_bad_tags(data, _TURTLE_TAG, b'"', skipped)

    def without_faults(data: bytes) -> bytes:
        if is_xml:
            return without_bad_elements(data, refuse)
        return without_bad_statements(data.decode(), refuse).encode()

    if is_xml:
        data = _without_bad_tags(data, _XML_TAG, b"", skipped)
    else:
        try:
            data.decode("utf-8")
        except UnicodeDecodeError as error:
            line = data.count(b"\n", 0, error.start) + 1
            if skipped.strict:
                raise InputError(f"{shown(path)}: line {line} is not UTF-8") from error
            text = without_tags(data).decode("utf-8", "surrogateescape")
            text = without_bad_statements(re.sub("[\udc80-\udcff]", NOT_UTF8, text), refuse)
            data = text.encode()
    mends = iter((without_tags, without_faults))
    while True:
        try:
            graph = Graph()
            fill(graph, data, is_xml=is_xml)
            return graph
        except FAULTS as error:
            given = data
            try:
                data = next((new for mend in mends if (new := mend(given)) != given), given)
            except FAULTS:  # nothing of it can be read
                pass
            if data == given:
                line, fault = fault_of(error)
                where = f"line {line}: " if line else ""
                raise InputError(f"{shown(path)}: {where}{fault}") from error


def _triples(path: StrPath, skipped: SkippedRows) -> Graph:
    """Read N-Triples, where each line counts as a row."""
    graph = Graph()
    parser = W3CNTriplesParser(NTGraphSink(graph))

    def triple(line: str) -> None:
        tag = _TRIPLE_TAG.search(line)
        if tag is not None and not _TAG.fullmatch(tag[1].encode()):
            skipped.language_tags += 1
            line = f'{line[: tag.start()]}"{line[tag.end() :]}'
        try:
            parser.parsestring(line + "\n")
        except (ParserError, SyntaxError, ValueError, AssertionError, LookupError) as error:
            raise RowError(f"not N-Triples ({error})") from error

    # The lines yield nothing; reading them fills the graph.
    for _ in each(path, numbered_lines(path, strict=False), triple, skipped):
        pass
    return graph


def _without_bad_tags(
    data: bytes, tag: re.Pattern[bytes], without: bytes, skipped: SkippedRows
) -> bytes:
    """Replace invalid language tags; their strings are then read without a language."""

    def kept(found: re.Match[bytes]) -> bytes:
        if _TAG.fullmatch(found["tag"]):
            return found[0]
        skipped.language_tags += 1
        return without

    return tag.sub(kept, data)


def _entity(
    graph: Graph,
    node: URIRef,
    identifier: str,
    old_ids: dict[str, tuple[str, ...]],
    abbreviations: set[tuple[Node, str]],
    keep: NameFilter,
    faults: list[RowError],
) -> Entity | None:
    names = [
        _name(label, kind) for p, kind in _NAMES.items() for label in _literals(graph, node, p)
    ]
    for p, kind in _XL_NAMES.items():
        for label in graph.objects(node, p):
            names += [_name(form, kind) for form in _literals(graph, label, _XL.literalForm)]
    # A name that is filtered out need not be valid. A blank one is ignored, and a bad one beside
    # valid ones is counted.
    names = [
        replace(name, text=text)
        for name in names
        for text in (usable([name.text], "name", faults) if keep.keeps(name) else [name.text])
    ]
    if faults and not names:
        raise faults.pop()
    if abbreviations:
        names = [
            Name(text=n.text, kind=NameKind.ABBREVIATION, language=n.language)
            if (node, n.text) in abbreviations
            else n
            for n in names
        ]
    if not names:
        return None
    texts = chain.from_iterable(_literals(graph, node, p) for p in _DESCRIPTIONS)
    described = in_order([Name(text=str(t), language=t.language or "") for t in texts], keep)
    references = [r for p in _REFERENCES for r in _ids(graph, node, p)]
    types = [str(t) for t in graph.objects(node, RDF.type) if t not in _ENTITIES and _is_plain(t)]
    types += [str(t) for t in graph.objects(node, _OIO.hasOBONamespace)]
    olds = usable(_ids(graph, node, _OIO.hasAlternativeId), "alternative id", faults)
    return Entity(
        id=checked(identifier, "id"),
        names=in_order(names, keep),
        types=tuple(usable(types, "type", faults)),
        alternative_ids=tuple(dict.fromkeys([*olds, *old_ids.get(identifier, ())])),
        cross_references=tuple(usable(references, "cross-reference", faults)),
        parents=tuple(usable(_parents(graph, node), "parent", faults)),
        description=flat(described[0].text) if described else "",
    )


def _name(label: Literal, kind: NameKind) -> Name:
    return Name(text=str(label).strip(), kind=kind, language=label.language or "")


def _literals(graph: Graph, node: Node, predicate: URIRef) -> Iterator[Literal]:
    return (o for o in graph.objects(node, predicate) if isinstance(o, Literal))


def _is_named(graph: Graph, node: Node) -> bool:
    return any((node, p, None) in graph for p in (*_NAMES, *_XL_NAMES))


def _is_plain(node: Node) -> bool:
    return isinstance(node, (URIRef, Literal))


def _id(graph: Graph, node: Node) -> str:
    if isinstance(node, URIRef):
        given = graph.value(node, _OIO.id)
        if given is not None:
            return str(given).strip()
        purl = _PURL.fullmatch(str(node))
        if purl is not None:
            return f"{purl[1]}:{purl[2]}"
    return str(node).strip()


def _ids(graph: Graph, node: Node, predicate: URIRef) -> list[str]:
    return [_id(graph, o) for o in graph.objects(node, predicate) if _is_plain(o)]


def _parents(graph: Graph, node: URIRef) -> Iterator[str]:
    """Return the ids of the direct parents that are named classes or concepts."""
    above = chain.from_iterable(graph.objects(node, p) for p in _PARENTS)
    found = dict.fromkeys(chain(above, graph.subjects(SKOS.narrower, node)))
    # The others are restrictions, which have no name, and owl:Thing.
    return (_id(graph, n) for n in found if isinstance(n, URIRef) and n not in (node, OWL.Thing))


def _is_deprecated(graph: Graph, node: URIRef) -> bool:
    return any(str(o).casefold() in ("true", "1") for o in graph.objects(node, OWL.deprecated))


def _report(path: StrPath, node: URIRef, faults: list[RowError], skipped: SkippedRows) -> None:
    for fault in faults:
        skipped.refuse(f"{shown(path)}: {node}: {fault}")


def _replaced_by(graph: Graph, node: URIRef) -> tuple[str, ...]:
    found = [new for p in _REPLACED_BY for new in _ids(graph, node, p)]
    considered = _ids(graph, node, _OIO.consider)
    return tuple(found or (considered if len(considered) == 1 else ()))


def _abbreviations(graph: Graph) -> set[tuple[Node, str]]:
    """Find the synonyms that an axiom marks as abbreviations."""
    return {
        (source, str(text))
        for axiom, kind in graph.subject_objects(_OIO.hasSynonymType)
        if str(kind).endswith(_ABBREVIATIONS)
        for source in graph.objects(axiom, OWL.annotatedSource)
        for text in graph.objects(axiom, OWL.annotatedTarget)
    }
