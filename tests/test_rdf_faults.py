"""What rdflib cannot parse is one bad row; the statements and elements beside it are read."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mirror_rt.errors import InputError
from mirror_rt.knowledge.formats import SkippedRows, read_entities
from mirror_rt.types import Entity
from tests.errors import about

pytest.importorskip("rdflib")

TURTLE = '''@prefix s: <http://www.w3.org/2004/02/skos/core#> .
@prefix e: <http://e/> .
e:1 a s:Concept ;
  s:prefLabel "one" ; # a remark. and "more
  s:definition """Dr. O. Ne
of '.' """ .
{bad}e:2 a s:Concept ; s:prefLabel "two. 2"@en ; s:altLabel 'a <b> "c"' .
<http://e/3>
  a s:Concept ;
  s:prefLabel "three" .
'''
XML = """<?xml version="1.0"?>
<!DOCTYPE rdf:RDF [<!ENTITY e "http://e/">]>
<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"
  xmlns:s="http://www.w3.org/2004/02/skos/core#">
<s:Concept rdf:about="&e;1"><s:prefLabel>one</s:prefLabel>
</s:Concept>
{bad}<s:Concept rdf:about="&e;2"><s:prefLabel>two</s:prefLabel></s:Concept>
<rdf:Description rdf:about="&e;3"><rdf:type
  rdf:resource="http://www.w3.org/2004/02/skos/core#Concept"/><s:prefLabel>three</s:prefLabel>
</rdf:Description>
</rdf:RDF>
"""


def read(path: Path, skipped: SkippedRows, content: str | bytes) -> list[Entity]:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return list(read_entities(path, skip_bad=skipped))


def is_one_bad_row(path: Path, text: str | bytes, whole: str) -> bool:
    """Check that the fault begins on line 7, counts once, and costs no other row."""
    skipped = SkippedRows()
    assert read(path, skipped, text) == read(path, SkippedRows(strict=True), whole)
    assert (skipped.bad, skipped.nameless, len(skipped.messages)) == (1, 0, 1)
    with pytest.raises(InputError, check=about(path.name, line=7)) as output:
        read(path, SkippedRows(strict=True), text)
    return str(output.value) == skipped.messages[0]


@pytest.mark.parametrize(
    "bad",
    [
        's:prefLabel "open ; s:altLabel "x" .',
        's:prefLabel "open .',
        's:prefLabel "x" ; s:definition """open .',
        's:prefLabel "no end"',
        's:prefLabel "no end" ;\n',
        's:prefLabel "x" ; unknown:p "y" .',
        "s:broader [ a s:Concept ; .",
        "s:broader ( e:1 .",
        's:prefLabel "x\\q" .',
        's:prefLabel "x"@en "y" .',
        '"x" .',
        "} .",
    ],
)
def test_a_bad_statement_of_turtle_costs_itself_alone(tmp_path: Path, bad: str) -> None:
    text = TURTLE.format(bad=f"e:9 a s:Concept ; {bad}\n")
    assert is_one_bad_row(tmp_path / "kb.ttl", text, TURTLE.format(bad=""))


@pytest.mark.parametrize(
    "bad",
    [
        '<s:Concept rdf:about="&e;9"><s:prefLabel>Q&A</s:prefLabel></s:Concept>',
        '<s:Concept rdf:about="&e;9"><s:prefLabel>a < b</s:prefLabel></s:Concept>',
        '<s:Concept rdf:about="&e;9"><s:prefLabel>&unknown;</s:prefLabel></s:Concept>',
        '<s:Concept rdf:about="&e;9"><s:prefLabel>open</s:prefLabel>',
        '<s:Concept rdf:about="&e;9"><s:prefLabel>open</s:Concept>',
        '<s:Concept rdf:about="&e;9"><x:y>no prefix</x:y></s:Concept>',
        '<s:Concept rdf:about="&e;9" rdf:ID="nine"/>',
        '<s:Concept rdf:ID="9 9"/>',
        '<s:Concept rdf:about="&e;9"><s:broader rdf:resource="a" rdf:nodeID="b"/></s:Concept>',
        "<rdf:li/>",
        "</s:Concept>",
        "< stray",
    ],
)
def test_a_bad_element_of_rdf_xml_costs_itself_alone(tmp_path: Path, bad: str) -> None:
    assert is_one_bad_row(tmp_path / "kb.owl", XML.format(bad=f"{bad}\n"), XML.format(bad=""))


def test_bytes_that_are_not_utf8_cost_their_row(tmp_path: Path) -> None:
    turtle = TURTLE.format(bad='e:9 a s:Concept ; s:prefLabel "né" .\n').encode("latin-1")
    xml = XML.format(bad="<s:Concept><s:prefLabel>né</s:prefLabel></s:Concept>\n").encode("latin-1")
    for name, text, whole in (("kb.ttl", turtle, TURTLE), ("kb.owl", xml, XML)):
        skipped = SkippedRows()
        found = read(tmp_path / name, skipped, text)
        assert found == read(tmp_path / name, SkippedRows(), whole.format(bad=""))
        assert skipped.bad == 1
        assert ": line 7: " in skipped.messages[0]
    comment = TURTLE.format(bad="# né\n").encode("latin-1")
    skipped = SkippedRows()
    assert len(read(tmp_path / "kb.ttl", skipped, comment)) == 3
    assert skipped.bad == 0


def test_the_later_of_two_elements_with_one_id_is_bad(tmp_path: Path) -> None:
    one = '<s:Concept rdf:ID="nine"><s:prefLabel>{}</s:prefLabel></s:Concept>\n'
    skipped = SkippedRows()
    found = read(tmp_path / "kb.owl", skipped, XML.format(bad=one.format("a") + one.format("b")))
    assert [e.name for e in found] == ["one", "a", "two", "three"]
    assert (skipped.bad, ": line 8: " in skipped.messages[0]) == (1, True)


@pytest.mark.parametrize(("name", "text"), [("kb.ttl", TURTLE), ("kb.owl", XML)])
def test_a_file_cut_off_anywhere_keeps_the_rows_before(
    tmp_path: Path, name: str, text: str
) -> None:
    whole = text.format(bad="")
    rows = read(tmp_path / name, SkippedRows(), whole)
    ends = [m.end() for m in re.finditer(r"\.\n(?=[e<]|$)|</\w+:(?:Concept|Description)>", whole)]
    ends = ends[-3:]
    for cut in range(ends[0], len(whole.rstrip()), 7):
        skipped = SkippedRows()
        found = read(tmp_path / name, skipped, whole[:cut])
        kept = sum(cut >= end for end in ends)
        assert found[:kept] == rows[:kept]
        assert len(found) == kept or name == "kb.ttl"
        assert skipped.bad <= 1
        assert len(found) + skipped.bad >= kept + (whole[ends[kept - 1] : cut].strip() != "")


@pytest.mark.parametrize(
    ("name", "text"), [("kb.ttl", "hello\n"), ("kb.owl", XML[:40]), ("kb.owl", "<rdf:RDF a=>")]
)
def test_a_file_without_a_sound_row_is_refused(tmp_path: Path, name: str, text: str) -> None:
    with pytest.raises(InputError, check=about(name)):
        read(tmp_path / name, SkippedRows(), text)


def test_many_bad_rows_among_sound_ones(tmp_path: Path) -> None:
    head = TURTLE.partition("e:1")[0]
    bad = {5, 6, 40, 41, 42, 99}
    text = head + "".join(
        f'e:{n} a s:Concept ; s:prefLabel "name {n}"{" oops" * (n in bad)} .\n' for n in range(100)
    )
    skipped = SkippedRows()
    found = read(tmp_path / "kb.ttl", skipped, text)
    assert [e.id for e in found] == [f"http://e/{n}" for n in range(100) if n not in bad]
    lines = [int(re.search(r"line (\d+)", m)[1]) for m in skipped.messages]  # type: ignore[index]
    assert lines == [n + 3 for n in sorted(bad)]
    head, _, _ = XML.partition("<s:Concept")
    xml = head + "".join(
        f'<s:Concept rdf:about="http://e/{n}"{" rdf:ID=" * (n in bad)}>'
        f"<s:prefLabel>name {n}</s:prefLabel></s:Concept>\n"
        for n in range(100)
    )
    skipped = SkippedRows()
    assert read(tmp_path / "kb.owl", skipped, f"{xml}</rdf:RDF>") == found
    assert skipped.bad == len(bad)
