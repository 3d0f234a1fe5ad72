import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from mirror_rt.errors import InputError, KnowledgeBaseError
from mirror_rt.knowledge.entities.names import KINDS, NameArrays, NameArraysWriter
from mirror_rt.knowledge.entities.reader import _WITH, Catalogue
from mirror_rt.knowledge.entities.writer import write_catalogue
from mirror_rt.knowledge.ranking.samples import held_out_names
from mirror_rt.knowledge.text.held_out import is_held_out
from mirror_rt.knowledge.text.normalize import normalize
from mirror_rt.types import Entity, Name, NameKind
from tests.errors import about
from tests.kb import HEARTS, entity


def _catalogue(entities: list[Entity], folder: Path) -> Catalogue:
    write_catalogue(entities, folder / "catalogue.sqlite")
    return Catalogue.open(folder / "catalogue.sqlite")


def _bearers(catalogue: Catalogue, text: str) -> list[int]:
    row = catalogue.texts().index(text)
    return [entity for other, entity, _ in catalogue.names_of_rows() if other == row]


def _names(catalogue: Catalogue, folder: Path) -> NameArrays:
    writer = NameArraysWriter()
    for texts in catalogue.named_texts():
        writer.add([normalize(text) for text in texts])
    writer.write(folder, entities=catalogue.names_of_rows())
    return NameArrays.open(folder)


def test_every_name_read_is_stored_or_counted(tmp_path: Path) -> None:
    again = [*HEARTS, entity("H:1", "atrial septal defect", "ostium secundum")]
    counts = write_catalogue(again, tmp_path / "c.sqlite")
    assert counts.pieces == 6
    assert counts.entities == 5
    assert counts.names_read == sum(len(e.names) for e in again)
    assert counts.names_read == counts.names + counts.repeated_names
    assert counts.repeated_names == 1
    assert counts.texts == len({n.text for e in again for n in e.names})
    assert counts.ambiguous_texts == 2


def test_entities_come_back_as_they_went_in(tmp_path: Path) -> None:
    odd = Entity(
        id='A|1 "x"',
        names=(
            Name(text="né", kind=NameKind.RELATED, language="fr", source="s"),
            Name(text="born", kind=NameKind.PREFERRED, language="en"),
            Name(text="عقار", kind=NameKind.BROAD),
        ),
        types=("T1", "T2"),
        alternative_ids=("A|2",),
        cross_references=("X:1",),
        description="a description",
    )
    catalogue = _catalogue([*HEARTS, odd], tmp_path)
    assert list(catalogue.entities()) == [*HEARTS, odd]
    assert catalogue.ids_and_names([5]) == {5: ('A|1 "x"', "born")}


def test_ids_that_begin_with_a_text_are_found_by_an_index(tmp_path: Path) -> None:
    ids = ["A", "A:", "A:1", "A:10", "A:\uffff", "A:\U0001f600", "AA", "B", "a:1", "Ä:1", "%", "A_"]
    entities = [entity(id_, f"name {i}", cross_references=(id_,)) for i, id_ in enumerate(ids)]
    catalogue = _catalogue(entities, tmp_path)
    for prefix in [*ids, "A:1 ", "\U0001f600", "_", "Z"]:
        expected = [i for i, id_ in enumerate(ids) if id_.startswith(prefix)]
        assert catalogue.entities_with("id", [prefix]) == expected
        assert catalogue.entities_with("xref", [prefix]) == expected
        assert catalogue.ids_beginning(prefix, most=99) == sorted(ids[i] for i in expected)
    with closing(sqlite3.connect(tmp_path / "catalogue.sqlite")) as connection:
        for field in ("id", "xref"):
            (*_, plan), *_ = connection.execute(f"EXPLAIN QUERY PLAN {_WITH[field]}", ("A:",))
            assert plan.startswith("SEARCH"), plan


def test_only_the_first_question_for_a_language_or_source_reads_all_names(tmp_path: Path) -> None:
    catalogue = _catalogue(
        [
            Entity(id="A", names=(Name(text="one", language="en", source="S"),)),
            Entity(id="B", names=(Name(text="zwei", language="de"), Name(text="two"))),
            Entity(id="C", names=(Name(text="drei", language="de", source="S"),)),
        ],
        tmp_path,
    )
    asked: list[str] = []
    catalogue._connection.set_trace_callback(asked.append)
    for field, value, expected in (
        ("language", "de", [1, 2]), ("language", "fr", []), ("language", "en", [0]),
        ("source", "S", [0, 2]), ("source", "T", []), ("language", "", [1]),
    ):  # fmt: skip
        assert catalogue.entities_with(field, [value], most=1) == expected[:1]
    assert sum("FROM names" in sql for sql in asked) == 2
    assert catalogue.entities_with("language", ["de", "fr"]) == [1, 2]


def test_of_the_entities_with_a_value_the_first_are_found(tmp_path: Path) -> None:
    # The indexes of ids have their own order, and "under" walks level by level.
    parents = {"E:9": (), "E:8": ("E:5",), "E:7": ("E:5",), "E:6": ("E:9",), "E:5": ("E:9",)}
    catalogue = _catalogue(
        [
            Entity(
                id=id_, names=(Name(text=id_),), types=("t",), cross_references=(f"X{id_}",),
                parents=above, fields=(("f", "v"),),
            )
            for id_, above in parents.items()
        ],
        tmp_path,
    )  # fmt: skip
    for field, value in (("type", "t"), ("xref", "XE"), ("id", "E:"), ("f", "v"), ("under", "E:9")):
        every = catalogue.entities_with(field, [value])
        assert every == [0, 1, 2, 3, 4], field
        for most in range(2, 6):
            assert catalogue.entities_with(field, [value], most=most) == every[:most], field


def test_pieces_with_one_id_are_one_entity(tmp_path: Path) -> None:
    first, second = entity("A", "one"), Entity(id="A", names=(Name(text="uno", language="es"),))
    (joined,) = _catalogue([first, second], tmp_path).entities()
    assert [n.text for n in joined.names] == ["one", "uno"]


def test_a_name_listed_for_two_entities_is_a_name_of_both(tmp_path: Path) -> None:
    pieces = [
        entity("D1", "one", alternative_ids=("OLD",)),
        entity("D1", "shared", alternative_ids=("OLD", "D2")),
        entity("D2", "two"),
    ]
    counts = write_catalogue(pieces, tmp_path / "catalogue.sqlite")
    catalogue = Catalogue.open(tmp_path / "catalogue.sqlite")
    assert (counts.names, counts.shared_names, counts.ambiguous_texts) == (3, 1, 1)
    assert _bearers(catalogue, "shared") == [0, 1]
    assert _bearers(catalogue, "one") == [0]
    assert [catalogue.resolve(i) for i in ("OLD", "D2")] == [[0], [1]]
    assert catalogue.ids_and_names([1]) == {1: ("D2", "two")}


def test_an_id_that_all_pieces_of_a_larger_entity_list_is_that_entity(tmp_path: Path) -> None:
    pieces = [
        entity("114500", "colorectal cancer", alternative_ids=("D1",)),
        entity("114500", "colorectal neoplasms", alternative_ids=("D1",)),
        entity("D1", "hereditary colorectal cancer"),
        entity("D2", "cancer"),
    ]
    counts = write_catalogue(pieces, tmp_path / "catalogue.sqlite")
    catalogue = Catalogue.open(tmp_path / "catalogue.sqlite")
    assert (counts.entities, counts.joined_entities, counts.names) == (2, 1, 4)
    joined, other = catalogue.entities()
    assert [n.text for n in joined.names] == [
        "colorectal cancer",
        "colorectal neoplasms",
        "hereditary colorectal cancer",
    ]
    assert (joined.name, joined.alternative_ids, other.id) == ("colorectal cancer", ("D1",), "D2")
    assert catalogue.resolve("D1") == catalogue.resolve("114500") == [0]


def test_a_later_preferred_name_is_the_name(tmp_path: Path) -> None:
    pieces = [Entity(id="A", names=(Name(text="alias"),)), entity("A", "proper")]
    assert _catalogue(pieces, tmp_path).ids_and_names([0])[0] == ("A", "proper")


def test_an_alternative_id_leads_to_its_entity_and_an_own_id_goes_first(tmp_path: Path) -> None:
    entities = [
        entity("A", "a", alternative_ids=("OLD", "B", "A")),
        entity("B", "b", alternative_ids=("A",)),
    ]
    counts = write_catalogue(entities, tmp_path / "catalogue.sqlite")
    catalogue = Catalogue.open(tmp_path / "catalogue.sqlite")
    assert counts.shadowed_ids == 2
    assert [catalogue.resolve(i) for i in ("OLD", "A", "B", "none")] == [[0], [0], [1], []]


@pytest.mark.parametrize(
    ("broken", "named", "value"),
    [
        (Entity(id=" ", names=(Name(text="x"),)), "'x'", ""),
        (Entity(id="A", names=()), "A", ""),
        (entity("A", " \u00a0"), "A", ""),
        (entity("A", "a\x00b"), "A", r"'a\x00b'"),
        (entity("A", "a\nb"), "A", r"'a\nb'"),
        (entity("A\t1", "a"), r"'A\t1'", ""),
        (entity("A\n", "a"), r"'A\n'", ""),
        (entity("A", "\ud800"), "'A'", r"\ud800"),
        (entity("A", "a", types=("\ud800",)), "'A'", r"\ud800"),
        (entity("A", "a", cross_references=("\ud800",)), "'A'", r"\ud800"),
        (Entity(id="A", names=(Name(text="a", language="\ud800"),)), "'A'", r"\ud800"),
    ],
)
def test_what_cannot_be_stored_is_refused_with_its_place(
    tmp_path: Path, broken: Entity, named: str, value: str
) -> None:
    with pytest.raises(InputError, check=about(named, value=value)):
        write_catalogue([*HEARTS, broken], tmp_path / "c.sqlite")


def test_no_entity_at_all_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        write_catalogue([], tmp_path / "c.sqlite")


def test_a_file_that_is_no_catalogue_is_refused(tmp_path: Path) -> None:
    (tmp_path / "c").write_bytes(b"SQLite format 3\0" + b"\xff" * 5_000)
    with pytest.raises(KnowledgeBaseError, check=about("/c")):
        Catalogue.open(tmp_path / "c")
    with pytest.raises(KnowledgeBaseError, check=about("none")):
        Catalogue.open(tmp_path / "none")


@pytest.mark.parametrize("table", ["names", "types", "alternative_ids", "cross_references"])
def test_what_an_entity_has_is_found_without_a_scan(tmp_path: Path, table: str) -> None:
    path = tmp_path / "catalogue.sqlite"
    write_catalogue(HEARTS, path)
    with closing(sqlite3.connect(path)) as connection:
        plan = connection.execute(f"EXPLAIN QUERY PLAN SELECT * FROM {table} WHERE entity = 1")
        assert all("SEARCH" in step for *_, step in plan)


def test_names_held_out_are_those_that_training_leaves_unseen(tmp_path: Path) -> None:
    many = [entity(f"E:{i}", f"thing {i}", f"object {i}") for i in range(4_000)]
    shared = entity("E:x", "thing 7", "object 7")
    catalogue = _catalogue([*many, entity("E:y", "alone"), shared], tmp_path)
    names = _names(catalogue, tmp_path)
    pairs = held_out_names(catalogue, names, np.random.default_rng(0), count=250)
    texts = catalogue.texts_of(row for row, _ in pairs)
    assert len(pairs) == len(dict(pairs)) == 250
    assert all(is_held_out(texts[row]) for row, _ in pairs)
    assert all(_bearers(catalogue, texts[row]) == [held] for row, held in pairs[:20])


def test_a_small_catalogue_holds_out_seen_names_too(tmp_path: Path) -> None:
    few = [entity(f"E:{i}", f"thing {i}", f"object {i}") for i in range(100)]
    catalogue = _catalogue(few, tmp_path)
    names = _names(catalogue, tmp_path)
    assert len(held_out_names(catalogue, names, np.random.default_rng(0), count=250)) == 100
    some = held_out_names(catalogue, names, np.random.default_rng(0), count=30)
    texts = catalogue.texts_of(row for row, _ in some)
    unseen = [is_held_out(texts[row]) for row, _ in some]
    assert len(some) == 30
    assert any(unseen)
    assert unseen == sorted(unseen, reverse=True)


def test_a_string_that_is_several_names_of_an_entity_counts_as_the_closest(tmp_path: Path) -> None:
    kinds = (NameKind.RELATED, NameKind.EXACT, NameKind.ABBREVIATION)
    names = [Name(text="AIDS", kind=kind) for kind in kinds]
    catalogue = _catalogue([Entity(id="A", names=(Name(text="x"), *names))], tmp_path)
    found = {row: KINDS[kind] for row, _, kind in catalogue.names_of_rows()}
    assert found == {0: NameKind.EXACT, 1: NameKind.EXACT}
    assert [row for _, row in catalogue.close_names(without={0})] == [1, 1]
    assert catalogue.close_texts(0) == [(0, "x"), (1, "AIDS")]


def test_strings_without_an_entity_keep_their_rows_and_are_empty(tmp_path: Path) -> None:
    path = tmp_path / "catalogue.sqlite"
    counts = write_catalogue([entity("A", "new", "kept")], path, first_texts=["gone", "kept"])
    catalogue = Catalogue.open(path)
    assert (counts.texts, counts.unused_texts) == (3, 1)
    assert catalogue.texts() == ["gone", "kept", "new"]
    assert [*catalogue.named_texts(size=2)] == [["", "kept"], ["new"]]


def test_the_first_description_stays_and_others_are_counted(tmp_path: Path) -> None:
    texts = ["", "Hot.", "Hot.", "Warm."]
    pieces = [Entity(id="A", names=(Name(text="fever"),), description=text) for text in texts]
    counts = write_catalogue([*pieces, *HEARTS], tmp_path / "catalogue.sqlite")
    assert counts.further_descriptions == 1
    assert Catalogue.open(tmp_path / "catalogue.sqlite").entity(0).description == "Hot."
