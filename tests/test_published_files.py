"""Files that people bring, made up in the columns of the published ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mirror_rt.errors import InputError
from mirror_rt.knowledge import KnowledgeBase
from mirror_rt.knowledge.formats import SkippedRows, read_entities
from mirror_rt.runtime.sources import read_rows
from mirror_rt.tables import FileFormat, TableOptions
from mirror_rt.types import Entity
from tests.errors import about

CTD = "# CTD: made up\n# Report created: today\n#\n# Fields:\n# {}\n#\n"
RF2 = "id\teffectiveTime\tactive\tmoduleId\t{}\r\n"
DESCRIPTIONS = RF2.format("conceptId\tlanguageCode\ttypeId\tterm\tcaseSignificanceId")
FULL, SYNONYM = "900000000000003001", "900000000000013009"


def description(number: int, concept: int, kind: str, term: str, active: int = 1) -> str:
    return f"{number}\t20240101\t{active}\t9\t{concept}\ten\t{kind}\t{term}\t9\r\n"


SNOMED = (
    DESCRIPTIONS
    + description(1, 22, FULL, "Infarction (disorder)")
    + description(2, 22, SYNONYM, "Heart attack")
    + description(3, 99, FULL, "Retired (disorder)")
)
ITEM = {"type": "uri", "value": "http://w/Q1"}
LABEL = {"xml:lang": "en", "type": "literal", "value": "gout"}
BINDING = {"item": ITEM, "itemLabel": LABEL}
FILES = {
    "hgnc-custom.txt": (
        "HGNC ID\tApproved symbol\tApproved name\tStatus\tPrevious symbols\tAlias symbols\n"
        "HGNC:1097\tBRAF\tB-Raf kinase\tApproved\tOLDB, OLDC\tBRAF1, B-RAF1\n",
        ("HGNC:1097", "BRAF", "B-Raf kinase", "OLDB", "OLDC", "BRAF1", "B-RAF1"),
    ),
    "CTD_genes.csv": (
        CTD.format("GeneSymbol,GeneName,GeneID,AltGeneIDs,Synonyms,BioGRIDIDs")
        + 'BRAF,"B-Raf, a kinase",673,,BRAF1|RAFB1,107141\n',
        ("673", "BRAF", "B-Raf, a kinase", "BRAF1", "RAFB1"),
    ),
    "CTD_chemicals.tsv": (
        CTD.format("ChemicalName\tChemicalID\tCasRN\tMESHSynonyms\tCTDCuratedSynonyms")
        + "G5\tMESH:C5\t1-2\t4-nitro, 7-amine|ten\tG five\n",
        ("MESH:C5", "G5", "4-nitro, 7-amine", "ten", "G five"),
    ),
    "skills_en.csv": (
        "conceptType,conceptUri,skillType,reuseLevel,preferredLabel,altLabels,hiddenLabels,status,"
        "modifiedDate,scopeNote,definition,inScheme,description\n"
        'K,http://e/s1,knowledge,sector,Haskell,"Haskell techniques\nfunctional, lazy",hask,'
        'released,2023,,,"http://a, http://b",The language.\n',
        ("http://e/s1", "Haskell", "Haskell techniques", "functional, lazy", "hask"),
    ),
    "ISCOGroups_en.csv": (
        "conceptType,conceptUri,code,preferredLabel,status,altLabels,inScheme,description\n"
        "ISCOGroup,http://e/C0,0,Armed forces,released,,http://x,All jobs.\n",
        ("http://e/C0", "Armed forces"),
    ),
    "sct2_Description_Snapshot-en_INT_20240101.txt": (
        SNOMED.rpartition("3\t2024")[0],
        ("22", "Infarction (disorder)", "Heart attack"),
    ),
    "cities500.txt": (
        "7\tKöln\tKoeln\tCologne,CGN\t50.9\t6.9\tP\tPPLA2\tDE\t\t07\t053\t05315\t05315000\t963395\t\t"
        "58\tEurope/Berlin\t2023-10-12\n",
        ("7", "Köln", "Cologne", "CGN"),
    ),
    "query.json": (
        '[{"item":"http://w/Q1","itemLabel":"gout","itemAltLabel":"podagra, gouts"}]',
        ("http://w/Q1", "gout", "podagra", "gouts"),
    ),
    "query-verbose.json": (json.dumps([BINDING], indent=1), ("http://w/Q1", "gout")),
    "sparql.json": (
        json.dumps(
            {"head": {"vars": ["item", "itemLabel"]}, "results": {"bindings": [BINDING] * 2}},
            indent=2,
        ),
        ("http://w/Q1", "gout"),
    ),
    "sparql.srj.json": (
        json.dumps({"head": {"vars": ["item"]}, "results": {"bindings": [BINDING]}}),
        ("http://w/Q1", "gout"),
    ),
}  # fmt: skip


def names_of(entities: list[Entity]) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for e in entities:
        found[e.id] = tuple(dict.fromkeys((*found.get(e.id, ()), *(n.text for n in e.names))))
    return found


@pytest.mark.parametrize("name", FILES)
def test_a_published_file_gives_each_entity_with_all_its_names(tmp_path: Path, name: str) -> None:
    text, (own, *names) = FILES[name]
    (tmp_path / name).write_text(text, encoding="utf-8", newline="")
    skipped = SkippedRows(strict=True)
    assert names_of([*read_entities(tmp_path / name, skip_bad=skipped)]) == {own: tuple(names)}


def test_the_names_of_published_files_are_linked(tmp_path: Path, tiny_bundle: Path) -> None:
    entities = []
    for name, (text, _) in FILES.items():
        (tmp_path / name).write_text(text, encoding="utf-8", newline="")
        if not name.startswith("sparql"):
            entities += read_entities(tmp_path / name)
    with KnowledgeBase.build(tiny_bundle, entities, tmp_path / "kb") as kb:
        wanted = {
            "B-RAF1": "HGNC:1097",
            "RAFB1": "673",
            "heart attack": "22",
            "podagra": "http://w/Q1",
        }
        for result in kb.link([*wanted]):
            assert result.candidates[0].entity_id == wanted[result.mention]


def test_inactive_concepts_of_snomed_are_left_out_with_their_active_descriptions(
    tmp_path: Path,
) -> None:
    path = tmp_path / "sct2_Description_Snapshot-en_INT_20240101.txt"
    path.write_text(SNOMED, newline="")
    assert set(names_of([*read_entities(path)])) == {"22", "99"}
    concepts = RF2.format("definitionStatusId") + "22\t1\t1\t9\t9\r\n99\t1\t0\t9\t9\r\n"
    (tmp_path / "sct2_Concept_Snapshot_INT_20240101.txt").write_text(concepts, newline="")
    skipped = SkippedRows()
    assert set(names_of([*read_entities(path, skip_bad=skipped)])) == {"22"}
    assert skipped.obsolete == 1


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("sct2_Description_Delta-en_INT_20240101.txt", SNOMED),
        ("sct2_TextDefinition_Snapshot-en_INT_20240101.txt", SNOMED),
        (
            "sct2_Concept_Snapshot_INT_20240101.txt",
            RF2.format("definitionStatusId") + "1\t2\t1\t3\t4\n",
        ),
        ("der2_cRefset_LanguageSnapshot-en.txt", RF2.format("refsetId") + "1\t2\t1\t3\t4\n"),
        ("alternateNamesV2.txt", "128\t299\tru\tРок\t\t\t\t\t\t\n129\t301\t\tPic\t1\t\t\t\t\t\n"),
        ("sparql.json", '{"head": {"vars": ["item"]}, "boolean": true}'),
        ("sparql.json", '{"head": {"vars": ["item"]}, "results": {"bindings": null}}'),
        ("sparql.json", '{"head": {"vars": ["item"]}, "results": {"bindings": ['),
    ],
)
def test_a_table_of_something_else_is_refused_by_name(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8", newline="")
    for skipped in (SkippedRows(strict=True), SkippedRows()):
        with pytest.raises(InputError, check=about(name)):
            list(read_entities(tmp_path / name, skip_bad=skipped))


def test_the_results_of_a_query_are_texts_too(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(FILES["sparql.json"][0])
    assert [t for t, _ in read_rows(tmp_path / "a.json", column="itemLabel")] == ["gout", "gout"]
    plain = '{"text": {"type": "literal", "value": "a"}}\n'
    plain += '{"text": "b", "x": {"type": ["literal"], "value": 1}}\n'
    (tmp_path / "b.jsonl").write_text(plain)
    options = TableOptions(format=FileFormat.JSONL)
    assert [t for t, _ in read_rows(tmp_path / "b.jsonl", options=options)] == ["a", "b"]


@pytest.mark.parametrize(
    ("headings", "names"),
    [
        ("gene_id,gene_symbol,gene_name,chip_name", ["b", "c"]),
        ("country_id,currency_name,country_name", ["c"]),
        ("drug_id,drug_name,maker_name", ["b"]),
        ("id,title,stock_symbol", ["b"]),
        ("id,title,gene_symbol", ["b"]),
        ("id,gene_symbol,num_synonyms,has_synonym", ["b"]),
    ],
)
def test_guessed_names_are_of_the_first_thing_alone(
    tmp_path: Path, headings: str, names: list[str]
) -> None:
    (tmp_path / "a.csv").write_text(f"{headings}\n{','.join('abcd'[: headings.count(',') + 1])}\n")
    (entity,) = read_entities(tmp_path / "a.csv")
    assert [n.text for n in entity.names] == names
