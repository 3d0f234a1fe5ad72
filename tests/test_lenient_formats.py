"""A fault outside ids and names does not stop a file; any other fault is one sentence."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest

from mirror_rt.errors import InputError
from mirror_rt.knowledge.formats import NameFilter, SkippedRows, read_entities
from mirror_rt.types import Entity, KbFormat, Name, NameKind
from tests.errors import about

OBO_TERM = "format-version: 1.2\n{head}\n[Term]{remark}\n{before}id: A:1\nname: one\n{line}\n"


def read(path: Path, content: str | bytes, **options: object) -> list[Entity]:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return list(read_entities(path, **options))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "line",
    [
        "! a remark",
        "!",
        "  ! one with blanks",
        "xref: http://e.org/Category\\:X",
        "xref: TAO:Bird and Mabee 2003",
        'def: "A thing." [Adapted from URL:http\\://e.org/?id=8]',
        'def: "A thing." [PMID:1, PMID:2 {a="b"}]',
        "creation_date: 202z-01-01",
        "date: 05:20:2021",
        "namespace: geo things",
        "brand_new_tag: whatever } [ {",
        "created_by:",
        "is_a: B:1 {nonsense ! one",
        "relationship: ! none",
    ],
)
def test_clauses_that_are_not_needed_cost_nothing(tmp_path: Path, line: str) -> None:
    for places in ({"line": line}, {"head": line}, {"before": line + "\n"}):
        given = {"head": "", "remark": " ! remark", "before": "", "line": "", **places}
        text = OBO_TERM.format(**given) + f"\n{line}\n\n[Term]\nid: A:2\nname: two\n"
        text += f"\n[Typedef]\nid: part_of\n! remark\n{line}\n"
        (first, second) = read(tmp_path / "kb.obo", text)
        assert (first.id, first.names[0].text) == ("A:1", "one")
        assert (second.id, second.names[0].text) == ("A:2", "two")


@pytest.mark.parametrize(
    ("line", "text", "kind"),
    [
        ('synonym: "x!" EXACT [TAO:Bird and Mabee 2003]', "x!", NameKind.EXACT),
        ('synonym: "x" []', "x", NameKind.RELATED),
        ('synonym: "x"', "x", NameKind.RELATED),
        ('synonym: "x" NARROW [] {a="b"} ! remark', "x", NameKind.NARROW),
        ('synonym: "x" EXACT ABBREVIATION [a b, c]', "x", NameKind.ABBREVIATION),
        ('synonym: "\\"x\\" \\{y\\}\\n" EXACT []', '"x" {y}', NameKind.EXACT),
        ('exact_synonym: "AA" []', "AA", NameKind.EXACT),
        ('broad_synonym: "AA" []', "AA", NameKind.BROAD),
    ],
)
def test_a_synonym_is_its_text_and_scope(
    tmp_path: Path, line: str, text: str, kind: NameKind
) -> None:
    (one,) = read(tmp_path / "kb.obo", OBO_TERM.format(head="", remark="", before="", line=line))
    assert [(name.text, name.kind) for name in one.names[1:]] == [(text, kind)]


@pytest.mark.parametrize(
    ("bad", "line"),
    [
        ("[Term]\nid: A:1\n", 2),
        ("[Term]\nid: A:1\nname:\n", 2),
        ("[Term]\nname: a\n", 1),
        ("[Term\nid: A:1\nname: a\n", 1),
    ],
)
def test_a_bad_term_is_named_by_line_and_passed_over(tmp_path: Path, bad: str, line: int) -> None:
    text = f"{bad}\n[Term]\nid: A:2\nname: two\n"
    with pytest.raises(InputError, check=about("kb.obo", line=line)):
        read(tmp_path / "kb.obo", text)
    skipped = SkippedRows()
    assert [e.id for e in read(tmp_path / "kb.obo", text, skip_bad=skipped)] == ["A:2"]
    assert skipped.bad == 1


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with a name")
def test_obo_that_can_be_read_once_is_read_whole(tmp_path: Path) -> None:
    text = "format-version: 1.2\n" + "".join(
        f"\n[Term]\nid: A:{n}\nname: name {n}\n" for n in range(5000)
    )
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_text, args=(text,))
    writer.start()
    found = list(read_entities(tmp_path / "pipe", format=KbFormat.OBO))
    writer.join()
    assert len(found) == 5000


RDF_XML = """<?xml version="1.0"?>
<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"
  xmlns:rdfs="http://www.w3.org/2000/01/rdf-schema#" xmlns:owl="http://www.w3.org/2002/07/owl#">
<owl:Class rdf:about="http://e.org/1"><rdfs:label{label}>one</rdfs:label>
<rdfs:comment{comment}>said</rdfs:comment></owl:Class></rdf:RDF>
"""
TURTLE = """@prefix skos: <http://www.w3.org/2004/02/skos/core#> .
<http://e.org/1> a skos:Concept ; skos:prefLabel "one"%s ; skos:note "said"%s .
"""
NT = """<http://e.org/1> <http://www.w3.org/1999/02/22-rdf-syntax-ns#type> \
<http://www.w3.org/2004/02/skos/core#Concept> .
<http://e.org/1> <http://www.w3.org/2004/02/skos/core#prefLabel> "one"%s .
<http://e.org/1> <http://www.w3.org/2004/02/skos/core#note> "said"%s .
"""


@pytest.mark.parametrize("tag", ["unibo.it", "en_US", "1", "en-"])
def test_a_bad_language_tag_anywhere_is_none(tmp_path: Path, tag: str) -> None:
    pytest.importorskip("rdflib")
    for label, comment in ((tag, "en"), ("en", tag)):
        attributes = {"label": f' xml:lang="{label}"', "comment": f" xml:lang='{comment}'"}
        tags = (f"@{label}", f"@{comment}")
        expected = "" if label == tag else "en"
        for name, text in (
            ("kb.owl", RDF_XML.format(**attributes)),
            ("kb.ttl", TURTLE % tags),
            ("kb.nt", NT % tags),
        ):
            skipped = SkippedRows()
            (one,) = read(tmp_path / name, text, skip_bad=skipped)
            assert [(n.text, n.language) for n in one.names] == [("one", expected)]
            assert (skipped.bad, skipped.language_tags) == (0, 1), name


@pytest.mark.parametrize("edge", ["\\r", "\\n", "\\t", " \\n "])
def test_a_name_is_stripped_before_it_is_checked(tmp_path: Path, edge: str) -> None:
    pytest.importorskip("rdflib")
    text = TURTLE.replace('"one"', f'"{edge}one{edge}"') % ("", "")
    (one,) = read(tmp_path / "kb.ttl", text)
    assert [n.text for n in one.names] == ["one"]


def test_a_name_that_is_left_out_cannot_be_bad(tmp_path: Path) -> None:
    pytest.importorskip("rdflib")
    text = TURTLE.replace('"one"', '"Herz\\nOrgan"@de, "heart"') % ("@en", "")
    skipped = SkippedRows()
    keep = NameFilter(languages=("en",))
    (one,) = read(tmp_path / "kb.ttl", text, keep=keep, skip_bad=skipped)
    assert ([n.text for n in one.names], skipped.filtered, skipped.bad) == (["heart"], 1, 0)
    with pytest.raises(InputError):
        read(tmp_path / "kb.ttl", text)


def fault_of(path: Path, content: str) -> str | None:
    try:
        read(path, content)
    except InputError as error:
        return str(error)
    return None


def test_a_file_cut_off_anywhere_gives_a_one_line_error(tmp_path: Path) -> None:
    pytest.importorskip("rdflib")
    xml = RDF_XML.format(label=' xml:lang="en"', comment="")
    texts = {"kb.ttl": TURTLE % ("@en", ""), "kb.owl": xml, "kb.nt": NT % ("", "")}
    for name, text in texts.items():
        for end in range(1, len(text), 3):
            output = fault_of(tmp_path / name, text[:end])
            assert output is None or output.startswith(str(tmp_path / name))
            assert "b'" not in (output or "")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("kb.owl", "Prefix(:=<http://e.org/>)\nOntology(<http://e.org>\n)"),
        ("kb.owl", "# a remark\nOntology(<http://e.org>)"),
        ("kb.owl", "Prefix: : <http://e.org/>\nOntology: <http://e.org>"),
        ("kb.owl", '<?xml version="1.0" encoding="utf-18"?>\n<rdf:RDF></rdf:RDF>'),
        ("codes.xml", '<?xml version="1.0" encoding="utf-18"?>\n<ICD10CM.tabular/>'),
        ("codes.xml", '<?xml version="1.0" encoding="big5"?>\n<ICD10CM.tabular/>'),
    ],
)
def test_other_syntaxes_and_encodings_are_reported(tmp_path: Path, name: str, text: str) -> None:
    pytest.importorskip("rdflib")
    with pytest.raises(InputError):
        read(tmp_path / name, text)


@pytest.mark.parametrize(
    "line",
    [
        "synonym: x EXACT []",
        'synonym: "a\\nb" EXACT []',
        "def: no quotes",
        'def: "not closed',
        "alt_id: A:\x019",
        "xref: \x02",
        "namespace: \x03",
        "name: \x04",
        "is_a: \x05",
    ],
)
def test_a_bad_clause_beside_a_sound_name_is_counted_and_costs_no_term(
    tmp_path: Path, line: str
) -> None:
    text = OBO_TERM.format(head="", remark="", before="", line=f'{line}\nsynonym: "uno" EXACT []')
    skipped = SkippedRows()
    (one,) = read(tmp_path / "kb.obo", text, skip_bad=skipped)
    assert (one.id, one.name, one.aliases) == ("A:1", "one", ("uno",))
    assert skipped.bad == 1
    assert "line 6: A:1: " in skipped.messages[0]
    with pytest.raises(InputError, check=about("kb.obo", line=6)):
        read(tmp_path / "kb.obo", text)


@pytest.mark.parametrize(
    "line", ["alt_id:", "xref:", 'synonym: "" EXACT []', "namespace: ", 'def: "" []', "is_a:"]
)
def test_blank_clauses_are_no_clauses(tmp_path: Path, line: str) -> None:
    (one,) = read(tmp_path / "kb.obo", OBO_TERM.format(head="", remark="", before="", line=line))
    assert one == Entity(id="A:1", names=(Name(text="one", kind=NameKind.PREFERRED),))


SKOS = (
    "@prefix s: <http://www.w3.org/2004/02/skos/core#> .\n"
    '<http://e/1> a s:Concept ; s:prefLabel "heart"@en ; s:altLabel "cor" .\n'
)


@pytest.mark.parametrize(
    ("triple", "bad"),
    [
        ('s:altLabel "Herz\\nOrgan"@de', 1),
        ('s:altLabel "a\\u0000b", "c\\td"', 2),
        ('s:altLabel "", " \\r\\n "', 0),
        ('s:notation "a\\nb", ""', 1),
        ("s:broader <http://e/\\u0001>", 1),
        ('a "\\u0007"', 1),
    ],
)
def test_a_bad_label_of_rdf_is_counted_and_costs_no_concept(
    tmp_path: Path, triple: str, bad: int
) -> None:
    pytest.importorskip("rdflib")
    path, text = tmp_path / "kb.ttl", f"{SKOS}<http://e/1> {triple} .\n"
    skipped = SkippedRows()
    (heart,) = read(path, text, skip_bad=skipped)
    assert (heart.name, heart.aliases) == ("heart", ("cor",))
    assert (skipped.bad, skipped.nameless) == (bad, 0)
    if bad:
        with pytest.raises(InputError, check=about("kb.ttl")):
            read(path, text)
    else:
        assert read(path, text) == [heart]


def test_a_concept_of_rdf_with_bad_names_alone_is_counted_once(tmp_path: Path) -> None:
    pytest.importorskip("rdflib")
    skipped = SkippedRows()
    text = SKOS + '<http://e/2> a s:Concept ; s:prefLabel "a\\nb", "c\\nd" .\n'
    assert len(read(tmp_path / "kb.ttl", text, skip_bad=skipped)) == 1
    assert (skipped.bad, skipped.nameless) == (1, 0)


# -- Wikidata, UMLS, ICD-10-CM


def _term(language: str, value: str) -> dict[str, str]:
    return {"language": language, "value": value}


def test_a_bad_part_of_a_wikidata_item_is_counted_and_costs_no_item(tmp_path: Path) -> None:
    class_of, of_old, of_none = (
        {"mainsnak": {"snaktype": "value", "datavalue": {"value": value}}}
        for value in ({"id": "Q5"}, {"numeric-id": 7}, {"numeric-id": "no"})
    )
    item = {
        "type": "item",
        "id": "Q1",
        "labels": {"en": _term("en", "heart"), "de": _term("de", "Herz\nOrgan")},
        "aliases": {"en": [_term("en", "cor"), _term("en", "\u200b")]},
        "claims": {"P31": [{"odd": 1}, class_of, of_old, of_none], "P9": [7]},
    }
    rows = [item, {"type": "property", "id": "P1", "labels": {"en": _term("en", "a\x01")}}]
    path, skipped = tmp_path / "w.json", SkippedRows()
    text = "[\n" + ",\n".join(map(json.dumps, rows)) + "\n]\n"
    (heart,) = read(path, text, skip_bad=skipped)
    assert (heart.name, heart.aliases, heart.types) == ("heart", ("cor",), ("Q5", "Q7"))
    assert (skipped.bad, skipped.filtered) == (4, 1)
    assert all(": line 2: " in message for message in skipped.messages)
    with pytest.raises(InputError, check=about("w.json", line=2)):
        read(path, text)
    skipped = SkippedRows()
    read(path, text, skip_bad=skipped, keep=NameFilter(languages=("en",)))
    assert skipped.bad == 3, "a name that is left out need not be sound"


def test_a_name_of_the_umls_that_is_left_out_cannot_be_bad(tmp_path: Path) -> None:
    row = "C1|{}|P|L1|PF|S1|Y|A1||||MSH|MH|D1|{}|0|{}|256|\n"
    text = row.format("ENG", "fever", "N") + row.format("ENG", "a\x01b", "O")
    text += row.format("GER", "a\x02b", "N")
    skipped = SkippedRows()
    keep = NameFilter(languages=("en",))
    (fever,) = read(tmp_path / "MRCONSO.RRF", text, skip_bad=skipped, keep=keep)
    assert (len(fever.names), skipped.filtered, skipped.bad) == (1, 2, 0)
    with pytest.raises(InputError, check=about("MRCONSO.RRF", line=3)):
        read(tmp_path / "MRCONSO.RRF", text)


def test_icd_10_cm_is_read_up_to_where_its_xml_breaks(tmp_path: Path) -> None:
    diagnosis = "<diag><name>A0{0}</name><desc>disease {0}</desc></diag>\n"
    text = "<?xml version='1.0'?>\n<ICD10CM.tabular>\n" + "".join(map(diagnosis.format, range(3)))
    skipped = SkippedRows()
    found = read(tmp_path / "t.xml", text + "<diag><name>A&</name></diag>", skip_bad=skipped)
    assert [entity.id for entity in found] == ["A00", "A01", "A02"]
    assert skipped.bad == 1
    assert ": line 6: " in skipped.messages[0]
    with pytest.raises(InputError, check=about("t.xml", line=6)):
        read(tmp_path / "t.xml", text + "<diag><name>A&</name></diag>")


# -- what cannot be seen


@pytest.mark.parametrize(
    "sign", ["\u200b", "\ufeff\u2060", " \u00ad ", "\u3164", "\u2800", "\ufe0f", "\u200d\n"]
)
def test_a_name_that_cannot_be_seen_is_blank(tmp_path: Path, sign: str) -> None:
    pytest.importorskip("rdflib")
    quoted = json.dumps(sign)
    texts = {
        "kb.jsonl": f'{{"id":"1","name":"a","alias":[{quoted},"b"]}}\n'
        f'{{"id":"2","name":{quoted}}}\n',
        "kb.csv": f'id,name,alias\n1,a,"{sign}|b"\n2,"{sign}",\n',
        "kb.ttl": SKOS.replace("heart", "a").replace('"cor"', f"{quoted}, " + '"b"')
        + f"<http://e/2> a s:Concept ; s:prefLabel {quoted} .\n",
        "kb.obo": 'format-version: 1.2\n\n[Term]\nid: 1\nname: a\nsynonym: "b" EXACT []\n'
        f"\n[Term]\nid: 2\nname: {sign.strip()}\n",
        "kb.txt": f"1||a|b\n2||{sign.strip()}\n",
    }
    for name, text in texts.items():
        skipped = SkippedRows()
        form = KbFormat.DICTIONARY if name == "kb.txt" else None
        found = read(tmp_path / name, text, skip_bad=skipped, format=form)
        assert [(e.name, *e.aliases) for e in found] == [("a", "b")], name
        assert skipped.bad + skipped.nameless == 1, name


def test_signs_among_letters_stay(tmp_path: Path) -> None:
    name = "a\u200bb \u2764\ufe0f"
    (one,) = read(tmp_path / "kb.csv", f"id,name\n1,{name}\n")
    assert one.name == name
