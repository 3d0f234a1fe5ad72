"""Two vocabularies side by side: what changed, twins, names taken over, mappings."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from mirror_rt.errors import ConfigError
from mirror_rt.knowledge import KnowledgeBase
from mirror_rt.knowledge.formats import read_entities
from mirror_rt.knowledge.text.normalize import normalize
from mirror_rt.knowledge.vocabularies import (
    ChangeKind,
    Evidence,
    Vocabulary,
    compare,
    enrich,
    find_references,
    find_twins,
    gold_of,
    map_entities,
    read_vocabulary,
)
from mirror_rt.types import Entity, Name, NameKind
from mirror_rt_cli.app import app
from tests.errors import about
from tests.kb import LetterEncoder, entity, fake_bundle
from tests.test_sssom import assert_valid
from tests.test_sssom import read as read_sssom

words = st.sampled_from(["ache", "boil", "cold", "dent", "edema", "fever"])
vocabularies = st.lists(
    st.tuples(st.integers(0, 5).map(str), st.lists(words, min_size=1, max_size=3, unique=True),
              st.lists(st.integers(0, 5).map(str), max_size=2)),
    min_size=1, max_size=5, unique_by=lambda row: row[0],
)  # fmt: skip


def vocabulary(*entities: Entity) -> Vocabulary:
    return Vocabulary(entities)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [*map(str, arguments)])


# -- what changed


@settings(max_examples=200)
@given(vocabularies, vocabularies)
def test_the_changes_turn_the_old_release_into_the_new_one(
    before: list[tuple[str, list[str], list[str]]], after: list[tuple[str, list[str], list[str]]]
) -> None:
    old, new = (
        Vocabulary(
            entity(id_, *names, alternative_ids=tuple(others)) for id_, names, others in rows
        )
        for rows in (before, after)
    )
    names = {id_: {n.text for n in e.names} for id_, e in old.entities.items()}
    preferred = {id_: e.name for id_, e in old.entities.items()}
    taken_over: dict[str, set[str]] = {}
    for change in compare(old, new):
        match change.kind:
            case ChangeKind.RETIRED:
                for successor in filter(None, change.after.split("|")):
                    assert change.id in new.entities[successor].alternative_ids
                    taken_over.setdefault(successor, set()).update(names[change.id])
                del names[change.id]
            case ChangeKind.ADDED:
                names[change.id] = {n.text for n in new.entities[change.id].names}
                preferred[change.id] = change.name
            case ChangeKind.RENAMED:
                assert preferred[change.id] == change.before
                preferred[change.id] = change.after
            case ChangeKind.NAME_REMOVED | ChangeKind.NAME_MOVED:
                names[change.id].remove(change.name)
                for to in filter(None, change.after.split("|")):
                    names[to].add(change.name)
            case ChangeKind.NAME_ADDED:
                names[change.id].add(change.name)
    assert names.keys() == new.entities.keys()
    for id_, e in new.entities.items():
        expected = {n.text for n in e.names}
        assert names[id_] <= expected <= names[id_] | taken_over.get(id_, set())
        assert preferred[id_] == e.name


def test_a_diff_tells_each_kind_of_change(tmp_path: Path) -> None:
    (tmp_path / "old.tsv").write_text(
        "id\tname\talias\tparent\nA\tache\tpain\tT\nB\tboil\tspot\tT\nC\tcold\t\tT\nD\tdent\t\tT\n"
    )
    (tmp_path / "new.tsv").write_text(
        "id\tname\talias\talternative_ids\tparent\n"
        "A\tpain\tache|cold\tC\tT\nB\tboil\tfuruncle\t\tA\nE\tedema\tspot\t\tT\n"
    )
    done = run("kb", "diff", tmp_path / "old.tsv", tmp_path / "new.tsv", "--format", "tsv")
    assert done.exit_code == 0, done.stderr
    assert [line.split("\t") for line in done.stdout.splitlines()[1:]] == [
        ["retired", "C", "cold", "", "A"],
        ["retired", "D", "dent", "", ""],
        ["added", "E", "edema", "", ""],
        ["renamed", "A", "pain", "ache", "pain"],
        ["parents", "B", "boil", "T", "A"],
        ["name moved", "B", "spot", "", "E"],
        ["name added", "B", "furuncle", "", ""],
    ]
    same = run("kb", "diff", tmp_path / "old.tsv", tmp_path / "old.tsv", "--format", "json")
    assert json.loads(same.stdout)["changes"] == []


# -- twins


def test_twins_share_an_id_a_reference_or_a_name_the_strongest_first() -> None:
    own = vocabulary(
        entity("H:1", "heart attack", cross_references=("UMLS:C1", "M:7")),
        entity("H:2", "short stature", cross_references=("MSH:D2",)),
        entity("H:3", "fever", alternative_ids=("H:30",)),
        entity("H:4", "cold"),
    )
    other = vocabulary(
        entity("M:7", "short stature"),  # H:1 refers to it, whatever H:2 is called
        entity("M:8", "dwarfism", cross_references=("MESH:D2",)),
        entity("H:30", "pyrexia"),
        entity("M:9", "Cold"),
        entity("M:10", "of nobody"),
    )
    twins = find_twins(own, other)
    assert twins.of == {
        "M:7": ("H:1", Evidence.CROSS_REFERENCE), "M:8": ("H:2", Evidence.SHARED_REFERENCE),
        "H:30": ("H:3", Evidence.ID), "M:9": ("H:4", Evidence.NAME),
    }  # fmt: skip
    assert twins.contradictions == {}
    assert twins.related == {"M:7", "M:8", "H:30", "M:9"}


def test_evidence_that_does_not_decide_makes_no_twin() -> None:
    own = vocabulary(entity("A", "ache", "pain"), entity("B", "boil"), entity("C", "cold"))
    other = vocabulary(
        entity("X", "x", cross_references=("A", "B")),  # refers to both
        entity("Y", "cold"),
        entity("Z", "COLD"),  # both are the one
    )
    twins = find_twins(own, other)
    assert twins.of == {}
    assert twins.contradictions == {"X": ("A", "B"), "Y": ("C",), "Z": ("C",)}
    crowd = vocabulary(
        *(entity(f"E{i}", f"e {i}", cross_references=("PMID:1",)) for i in range(11))
    )
    assert find_twins(crowd, vocabulary(entity("X", "x", cross_references=("PMID:1",)))).of == {}


# -- names of another


def test_a_name_of_an_entity_is_never_added_to_another() -> None:
    own = vocabulary(entity("A", "ache", "pain"), entity("B", "boil"))
    other = vocabulary(
        Entity(id="X", names=(
            Name(text="Ache", kind=NameKind.PREFERRED), Name(text="Pain!"), Name(text="BOIL"),
            Name(text="soreness", kind=NameKind.PREFERRED, language="en"),
            Name(text="discomfort", kind=NameKind.BROAD),
        )),
        entity("Y", "boil", "soreness", "furuncle"),
        entity("Z", "unknown"),
    )  # fmt: skip
    found = enrich(own, other, source="X-KB")
    assert {p.id: [(n.text, n.kind, n.source) for n in p.names] for p in found.pieces} == {
        "A": [("soreness", NameKind.EXACT, "X-KB"), ("discomfort", NameKind.BROAD, "X-KB")],
        "B": [("furuncle", NameKind.EXACT, "X-KB")],
    }
    assert set(found.conflicts) == {("BOIL", "A", ("B",)), ("soreness", "B", ("A",))}
    assert (found.names_added, found.names_known) == (3, 3)


def test_vocabularies_of_other_things_are_refused() -> None:
    own = vocabulary(*(entity(f"A{i}", f"ache {i}") for i in range(300)))
    other = vocabulary(
        entity("B0", "ache 0"), *(entity(f"B{i}", f"boil {i}") for i in range(1, 300))
    )
    with pytest.raises(ConfigError, check=about(hint="--allow-few-twins")):
        enrich(own, other, source="x")
    assert len(enrich(own, other, source="x", allow_few_twins=True).twins.of) == 1
    with pytest.raises(ConfigError):
        gold_of(own, other)


def test_another_vocabulary_gives_gold_and_nil() -> None:
    own = vocabulary(
        *(entity(f"A{i}", f"ache {i}", f"pain {i}") for i in range(100)), entity("C", "both")
    )
    other = vocabulary(
        *(entity(f"B{i}", f"Ache {i}", f"soreness {i}") for i in range(100)),
        *(entity(f"N{i}", f"nothing {i}") for i in range(100)),
        entity("X", "x", cross_references=("A1", "A2")),
    )
    gold = gold_of(own, other)
    right = {name: ids for name, ids in gold if ids}
    assert right == {f"soreness {i}": frozenset({f"A{i}"}) for i in range(100)}
    nil = [name for name, ids in gold if not ids]
    assert len(nil) == round(100 * 0.15 / 0.85)
    assert all(name.startswith("nothing") for name in nil)
    known = {normalize(n.text) for e in own.entities.values() for n in e.names}
    assert not known & {normalize(name) for name, _ in gold}
    assert gold == gold_of(own, other)
    assert len(gold_of(own, other, most=40)) == 40


@pytest.fixture(scope="module")
def hearts(tmp_path_factory: pytest.TempPathFactory) -> Iterable[KnowledgeBase]:
    folder = tmp_path_factory.mktemp("hearts")
    things = [
        entity("H:1", "atrial septal defect", "hole in the heart"),
        entity("H:2", "ventricular septal defect", "hole in the heart"),
        entity("H:3", "short stature", "small body height"),
        Entity(id="H:4", names=(
            Name(text="liver cancer", kind=NameKind.PREFERRED),
            Name(text="liver disease", kind=NameKind.BROAD),
        )),
    ]  # fmt: skip
    built = KnowledgeBase.build(
        fake_bundle(folder / "bundle"), things, folder / "kb", encoder=LetterEncoder()
    )
    yield built
    built.close()


OTHERS = [
    entity("O:1", "holes in the heart", "defect of the atrial septum", "Atrial Septal Defect"),
    entity("O:2", "shortness", "short statures"),
    entity("O:3", "small stature", "Short Stature"),
    entity("O:4", "liver disease"),
    entity("O:5", "Short Stature", "ventricular septal defect"),
]


def test_a_mapping_is_what_the_surest_name_leads_to(hearts: KnowledgeBase) -> None:
    found = {m.subject_id: m for m in map_entities(OTHERS, hearts)}
    for one in OTHERS:
        sums: dict[str, float] = {}
        best: dict[str, tuple[bool, float]] = {}
        first = set()
        for name in one.names:
            for c in hearts.link([name.text], top=5)[0]:
                sums[c.entity_id] = sums.get(c.entity_id, 0.0) + (c.probability or 0.0)
                sure = (c.match_type.is_exact, c.probability or 0.0)
                best[c.entity_id] = max(best.get(c.entity_id, sure), sure)
                if name.text == one.name and c.match_type.is_exact:
                    first.add(c.entity_id)
        expected = max(sums, key=lambda i: (best[i][0], i in first, best[i][1], sums[i]))
        mapping = found[one.id]
        assert mapping.object_id == expected
        assert mapping.confidence == pytest.approx(best[expected][1])
    assert found["O:1"].object_id == "H:1"
    assert found["O:4"].relation.value == "narrower"
    # Its other name is longer, and so surer; but it is not what it is called.
    assert found["O:5"].object_id == "H:3"
    least = max(m.confidence or 0.0 for m in found.values())
    kept = {m.subject_id for m in map_entities(OTHERS, hearts, min_probability=least)}
    assert kept == {id_ for id_, m in found.items() if (m.confidence or 0.0) >= least}
    assert len(kept) < len(OTHERS)
    with pytest.raises(ConfigError):
        list(map_entities(OTHERS, hearts, min_probability=2))


def test_one_to_one_gives_each_entity_once_and_the_surest_first(hearts: KnowledgeBase) -> None:
    free = {m.subject_id: m.object_id for m in map_entities(OTHERS, hearts)}
    assert free["O:2"] == free["O:3"] == free["O:5"] == "H:3"
    once = {m.subject_id: m.object_id for m in map_entities(OTHERS, hearts, one_to_one=True)}
    assert len(set(once.values())) == len(once)
    assert once["O:5"] == "H:3"
    assert once.get("O:2") != "H:3"


def test_references_lead_from_one_vocabulary_to_the_other() -> None:
    own = vocabulary(
        entity("A:1", "ache", cross_references=("B:1",)),
        entity("A:2", "boil"),  # B:2 refers to it
        entity("A:3", "cold", cross_references=("MSH:3",)),
        entity("A:4", "dent", cross_references=("X:4",)),  # of A:5 too: not safe
        entity("A:5", "edema", cross_references=("X:4",)),
        entity("A:6", "fever", cross_references=("B:1", "B:6")),
        entity("A:7", "gout", cross_references=("B:1",)),  # its name says B:7
        entity("A:8", "hives"),
    )
    other = vocabulary(
        entity("B:1", "ache"),
        entity("B:2", "boils", cross_references=("a:2",)),
        entity("B:3", "a cold", cross_references=("MESH:3",)),
        entity("B:4", "dents", cross_references=("X:4",)),
        entity("B:6", "a fever"),
        entity("B:7", "Gout"),
    )
    found = find_references(own, other)
    direct, shared = Evidence.CROSS_REFERENCE, Evidence.SHARED_REFERENCE
    assert dict(found.of) == {
        "A:1": (("B:1",), direct), "A:2": (("B:2",), direct), "A:3": (("B:3",), shared),
        "A:6": (("B:1", "B:6"), direct), "A:7": (("B:1",), direct),
    }  # fmt: skip
    assert dict(found.contradictions) == {"A:6": ("B:1", "B:6"), "A:7": ("B:1", "B:7")}
    # Of A:1 and A:7 names tell: one is right; added to nine of ten.
    assert found.reliability == {direct: (1 + 9) / (2 + 10), shared: 9 / 10}
    assert find_references(own, vocabulary()).of == {}


def test_references_and_names_decide_a_mapping_together(hearts: KnowledgeBase) -> None:
    target = vocabulary(*hearts.resources.catalogue.entities())
    others = [
        entity("O:1", "a quite different thing", cross_references=("H:4",)),
        entity("O:2", "Short Stature", cross_references=("H:3",)),
        entity("O:3", "short statures"),
        entity("O:4", "hepatic cancer", cross_references=("H:1", "H:2")),
    ]
    references = find_references(vocabulary(*others), target)
    names = {m.subject_id: m for m in map_entities(others, hearts)}
    found = {m.subject_id: m for m in map_entities(others, hearts, references=references)}
    reliable = references.reliability[Evidence.CROSS_REFERENCE]
    assert found["O:1"].object_id == "H:4"
    assert (found["O:1"].confidence or 0.0) >= reliable
    assert "cross-reference" in found["O:1"].comment
    by_name = names["O:2"].confidence or 0.0
    both = 1 - (1 - by_name) * (1 - reliable)
    assert found["O:2"].confidence == pytest.approx(both)
    assert found["O:2"].justification == "semapv:CompositeMatching"
    assert found["O:3"] == names["O:3"]
    assert found["O:4"].object_id in {"H:1", "H:2"}
    assert "contradicted by" in found["O:4"].comment
    once = {
        m.subject_id: m.object_id
        for m in map_entities(others, hearts, references=references, one_to_one=True)
    }
    assert len(set(once.values())) == len(once)
    assert (once["O:1"], once["O:2"]) == ("H:4", "H:3")
    assert once.get("O:3") != "H:3"


def test_the_commands_change_map_and_calibrate(
    hearts: KnowledgeBase, tmp_path: Path, tiny_bundle: Path
) -> None:
    rows = "".join(f"A:{i}\tthing number {i}\tobject {i}\n" for i in range(60))
    (tmp_path / "own.tsv").write_text(f"id\tname\talias\n{rows}")
    rows = "".join(f"B:{i}\tThing number {i}\titem no {i}\n" for i in range(60))
    (tmp_path / "other.tsv").write_text(
        f"id\tname\talias\n{rows}D:0\tquite another matter\t\n"
        + "".join(f"C:{i}\tnothing at all {i}\t\n" for i in range(20))
    )
    KnowledgeBase.build(tiny_bundle, read_entities(tmp_path / "own.tsv"), tmp_path / "kb").close()
    mapped = run("map", tmp_path / "other.tsv", tmp_path / "kb", "-o", tmp_path / "m.sssom.tsv",
                 "--one-to-one")  # fmt: skip
    assert mapped.exit_code == 0, mapped.stderr
    assert_valid(tmp_path / "m.sssom.tsv")
    _, found = read_sssom(tmp_path / "m.sssom.tsv")
    pairs = {row["subject_id"]: row["object_id"] for row in found}
    assert all(pairs[f"B:{i}"] == f"A:{i}" for i in range(60))
    assert "D:0" not in pairs
    every = run("map", tmp_path / "other.tsv", tmp_path / "kb", "-o", tmp_path / "e.sssom.tsv",
                "--min-probability", "0")  # fmt: skip
    assert every.exit_code == 0, every.stderr
    _, doubtful = read_sssom(tmp_path / "e.sssom.tsv")
    (row,) = (row for row in doubtful if row["subject_id"] == "D:0")
    assert float(row["confidence"]) < 0.5
    crossed = "".join(
        json.dumps({"id": f"B:{i}", "name": f"Thing number {i}",
                    "cross_references": [f"A:{i + 1}"] if i < 9 else []}) + "\n"
        for i in range(60)
    )  # fmt: skip
    (tmp_path / "crossed.jsonl").write_text(crossed)
    output = run("map", tmp_path / "crossed.jsonl", tmp_path / "kb", "-o", tmp_path / "c.sssom.tsv")
    assert output.exit_code == 0, output.stderr
    assert "9 entities with cross-references and names" in output.stderr
    assert_valid(tmp_path / "c.sssom.tsv")
    alone = run("map", tmp_path / "crossed.jsonl", tmp_path / "kb", "--no-cross-references",
                "-o", tmp_path / "d.sssom.tsv")  # fmt: skip
    assert "contradict" not in alone.stderr
    _, by_names = read_sssom(tmp_path / "d.sssom.tsv")
    assert {row["subject_id"]: row["object_id"] for row in by_names} == pairs
    calibrated = run(
        "calibrate", tmp_path / "kb", "--from-kb", tmp_path / "other.tsv", "-f", "json"
    )
    assert calibrated.exit_code == 0, calibrated.stderr
    assert json.loads(calibrated.stdout)["links"] == 60 + round(60 * 0.15 / 0.85)
    (tmp_path / "cities.tsv").write_text("id\tname\nX:1\tCity\nX:2\tTown\n")
    few = run("calibrate", tmp_path / "kb", "--from-kb", tmp_path / "cities.tsv")
    assert (few.exit_code, "--allow-few-twins" in few.stderr) == (1, True)
    allowed = run("calibrate", tmp_path / "kb", "--from-kb", tmp_path / "cities.tsv",
                  "--allow-few-twins")  # fmt: skip
    assert "--allow-few-twins" not in allowed.stderr
    few_enrich = ["kb", "enrich", tmp_path / "kb", "--from", tmp_path / "cities.tsv", "--dry-run"]
    codes = [run(*few_enrich, *more).exit_code for more in ([], ["--allow-few-twins"], ["--force"])]
    assert codes == [1, 0, 0]
    for bad in ([], [tmp_path / "other.tsv", "--from-kb", tmp_path / "other.tsv"]):
        assert run("calibrate", tmp_path / "kb", *bad).exit_code == 1
    tried = run("kb", "enrich", tmp_path / "kb", "--from", tmp_path / "other.tsv", "--dry-run")
    assert "60 names would be added" in tried.stderr
    assert len(read_vocabulary(tmp_path / "kb").entities["A:3"].names) == 2
    done = run("kb", "enrich", tmp_path / "kb", "--from", tmp_path / "other.tsv")
    assert done.exit_code == 0, done.stderr
    (name,) = read_vocabulary(tmp_path / "kb").entities["A:3"].names[2:]
    assert (name.text, name.source) == ("item no 3", "other")
    written = run("kb", "enrich", tmp_path / "own.tsv", "--from", tmp_path / "other.tsv",
                  "-o", tmp_path / "all.jsonl")  # fmt: skip
    assert written.exit_code == 0, written.stderr
    assert (
        read_vocabulary(tmp_path / "all.jsonl").entities
        == read_vocabulary(tmp_path / "kb").entities
    )
    refused = run("kb", "enrich", tmp_path / "own.tsv", "--from", tmp_path / "other.tsv")
    assert refused.exit_code == 1
