"""Find the statements and elements that rdflib cannot parse, so that the rest can be read.

rdflib stops at the first fault. With bad rows skipped, each Turtle statement and each element below
``rdf:RDF`` counts as a row. After a fault, reading continues where the next one seems to start.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from itertools import count
from xml.parsers import expat
from xml.sax import SAXParseException

from rdflib import Graph
from rdflib.exceptions import ParserError
from rdflib.plugins.parsers.notation3 import RDFSink, SinkParser

from mirror_rt.knowledge.formats._rows import NOT_UTF8

__all__ = ["FAULTS", "fault_of", "fill", "without_bad_elements", "without_bad_statements"]

FAULTS = (
    ParserError, SAXParseException, SyntaxError, ValueError,
    # What rdflib's parsers raise if a file ends too early.
    AssertionError, AttributeError, LookupError, RecursionError, TypeError,
)  # fmt: skip
"""Errors that rdflib's parsers raise because of the file."""

_IRI = r'<[^\s<>"{}|^`\\]*>'
_TERM = rf"(?:{_IRI}|[\w.-]*:[\w.%-]*)"
_STARTS = rf"(?:{_TERM}\s+(?:a\s|{_TERM})|@prefix\b|@base\b|(?i:prefix|base)\s)"
_TOKEN = re.compile(
    rf'''"""(?:[^"\\]|\\.|"(?!""))*"""|\'\'\'(?:[^'\\]|\\.|'(?!\'\'))*\'\'\''''
    r"""|"(?:[^"\\\r\n]|\\.)*"|'(?:[^'\\\r\n]|\\.)*'|["'][^\n]*"""
    rf"|{_IRI}|\#[^\n]*|[;,](?:[^\S\n]|\#[^\n]*)*\n?|(?P<end>\.(?=[\s\#]|$)|\n(?={_STARTS}))",
    re.DOTALL,
)
_STATEMENT_INSIDE = re.compile(rf"\.[ \t\r]*\n\s*(?={_STARTS})")

_ELEMENTS = r"(?:[\w.-]+:)?(?:Class|Concept|Description|NamedIndividual)"
_START_TAG = re.compile(rb"""<(?:"[^"]*"|'[^']*'|[^>"'])*>""")


def fill(graph: Graph, data: bytes, *, is_xml: bool) -> None:
    """Add the triples of a file to a graph.

    Raises:
        Exception: One of ``FAULTS``: it cannot be parsed.
    """
    kind = "xml" if is_xml else "turtle"
    graph.parse(source=io.BytesIO(data), format=kind, publicID="file:///")


def fault_of(error: BaseException) -> tuple[int, str]:
    """Return the line of one of ``FAULTS``, 0 if it is not known, and the fault."""
    if isinstance(error, SAXParseException):
        return error.getLineNumber() or 0, f"not XML ({error.getMessage()})"
    words = " ".join(str(error).split())
    if isinstance(error, SyntaxError):
        # The rest of the message is the repr of bytes.
        why = re.search(r"Bad syntax \((.*?)\) at", words)
        return getattr(error, "lines", 0) + 1, f"not Turtle ({why[1] if why else 'bad syntax'})"
    if isinstance(error, (ParserError, ValueError)):
        found = re.match(r"\S*?:(\d+):\d+: (.*)", words)
        return (
            (int(found[1]), f"not RDF ({found[2]})") if found else (0, f"not RDF ({words[:200]})")
        )
    fault = "nested too deeply" if isinstance(error, RecursionError) else "ends too early"
    if isinstance(error, LookupError) and "encoding" in words:
        fault = words
    return 0, f"not RDF that can be read ({fault})"


def _message(begin: int, line: int, fault: str) -> str:
    """Return a fault with the line where its statement or element begins, and its own."""
    own = "" if line in (0, begin) else f", line {line}"
    return f"line {begin}: {fault[:-1]}{own}{fault[-1]}"


def without_bad_statements(text: str, refuse: Callable[[str], None]) -> str:
    """Return Turtle without the statements that cannot be parsed; their lines are left blank.

    Args:
        text: The file. A statement with ``NOT_UTF8`` is bad.
        refuse: Called with the fault of each, which starts with its line.
    """
    parser = SinkParser(RDFSink(Graph()), baseURI="file:///", turtle=True)
    parser.startDoc()
    pieces: list[str] = []
    end = line = 0
    while True:
        start = parser.skipSpace(text, end)
        if start < 0:
            return "".join(pieces)
        line += text.count("\n", end, start)
        pieces.append(text[end:start])
        parser.lines = line
        where, fault = 0, ""
        try:
            end = parser.directiveOrStatement(text, start)
            if end < 0:
                fault = "not Turtle (not a statement)"
            elif text[end - 1] != "." and text.startswith(("}", "]"), end):  # of N3
                fault = "not Turtle (expected '.' at end of statement)"
            elif NOT_UTF8 in text[start:end]:
                fault = "not UTF-8"
        except FAULTS as error:
            where, fault = fault_of(error)
        if fault:
            end = _next_statement(text, start)
            refuse(_message(line + 1, where, fault))
        lines = text.count("\n", start, end)
        pieces.append("\n" * lines if fault else text[start:end])
        line += lines


def _next_statement(text: str, start: int) -> int:
    """Return where the statement after a bad one seems to start."""
    for token in _TOKEN.finditer(text, start):
        if token["end"]:
            return token.end()
        if token[0].startswith(('"""', "'''")):
            inside = _STATEMENT_INSIDE.search(text, token.start(), token.end())
            if inside:  # its quotes are those of two strings
                return inside.end()
    return len(text)


def without_bad_elements(data: bytes, refuse: Callable[[str], None]) -> bytes:
    """Return RDF/XML without the elements below its root that cannot be parsed.

    Args:
        data: The file.
        refuse: Called with the fault of each, which starts with its line.

    Raises:
        ValueError: It is not XML up to the end of the root's start tag.
    """
    found = _Elements(data)
    bad = dict(found.bad)
    groups = [[span for span in found.spans if span[0] not in bad]]
    while groups:
        group = groups.pop()
        try:
            fill(Graph(), found.joined(group), is_xml=True)
        except FAULTS as error:
            if len(group) > 1:
                half = len(group) // 2
                groups += [group[:half], group[half:]]
            elif group:
                bad[group[0][0]] = (0, fault_of(error)[1])
    for start in sorted(bad):
        refuse(_message(data.count(b"\n", 0, start) + 1, *bad[start]))
    return found.joined([span for span in found.spans if span[0] not in bad])


class _Elements:
    """The elements below the root of an XML file.

    Attributes:
        spans: The start and end of each that is well-formed, in bytes.
        bad: For each that is not, or that repeats an ``rdf:ID``: its start, and line and fault.
    """

    def __init__(self, data: bytes) -> None:
        self.spans: list[tuple[int, int]] = []
        self.bad: list[tuple[int, tuple[int, str]]] = []
        self._data = data
        self._head = b""
        self._root = ""
        self._ids: set[str] = set()
        self._tags = {_ELEMENTS}
        at: int | None = 0
        while at is not None:
            at = self._read_from(at)

    def joined(self, spans: list[tuple[int, int]]) -> bytes:
        """Return a file with these elements alone."""
        parts = (self._data[start:end] for start, end in spans)
        return self._head + b"\n".join(parts) + f"</{self._root}>".encode()

    def _read_from(self, at: int) -> int | None:
        """Read elements up to a fault; return where the next element after it seems to start."""
        parser = expat.ParserCreate()
        parser.Parse(self._head)
        before = at - len(self._head)
        depth = 1 if self._head else 0
        begun: int | None = None

        def start(tag: str, attributes: dict[str, str]) -> None:
            nonlocal depth, begun
            if depth == 0:
                self._root = tag
                opened = _START_TAG.match(self._data, parser.CurrentByteIndex)
                self._head = self._data[: opened.end()] if opened else b""
            elif depth == 1:
                begun = parser.CurrentByteIndex + before
                self._tags.add(re.escape(tag))
            given = attributes.get("rdf:ID")
            if given in self._ids and begun is not None:
                fault = f"not RDF (two elements have the rdf:ID {given!r})"
                self.bad.append((begun, (0, fault)))
            elif given is not None:
                self._ids.add(given)
            depth += 1

        def end(tag: str) -> None:
            nonlocal depth, begun
            depth -= 1
            if depth == 1 and begun is not None:
                after = parser.CurrentByteIndex + before
                if self._data.startswith(b"</", after):
                    after = self._data.index(b">", after) + 1
                self.spans.append((begun, after))
                begun = None

        parser.StartElementHandler, parser.EndElementHandler = start, end
        view = memoryview(self._data)
        try:
            for piece in count(at, 1 << 20):
                parser.Parse(bytes(view[piece : piece + (1 << 20)]), piece >= len(view))
                if piece >= len(view):
                    return None
        except expat.ExpatError as error:
            fault = f"not XML ({expat.ErrorString(error.code)})"
            if not self._head:
                raise ValueError(fault) from error
            at = parser.ErrorByteIndex + before
            # After the end of the root, the fault is found where the next element starts.
            broken = at - (depth == 0) if begun is None else begun
            self.bad.append((broken, (self._data.count(b"\n", 0, at) + 1, fault)))
        tags = "|".join(sorted(self._tags))
        starts = re.compile(rf"<(?:{tags})[\s/>]".encode())
        following = starts.search(self._data, broken + 1)
        return following.start() if following else None
