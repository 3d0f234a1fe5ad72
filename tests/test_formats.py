"""Readers of knowledge bases: the entities of rows, and the errors of bad rows."""

from __future__ import annotations

import gzip
import io
import json
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror_rt.errors import ConfigError, InputError
from mirror_rt.knowledge.formats import (
    Columns,
    KbFormat,
    SkippedRows,
    read_entities,
    read_names,
    sniff,
)
from mirror_rt.knowledge.formats.tables import entity_from_json
from mirror_rt.knowledge.formats.write_jsonl import json_line
from mirror_rt.tables import is_blank
from mirror_rt.types import Entity, Name, NameKind
from tests.errors import about

HEAD = "format-version: 1.2\n\n[Term]\n"
OBO = """\
format-version: 1.2
ontology: test

[Term]
id: T:1
name: heart defect
namespace: organs
alt_id: T:9
def: "A hole in\\nthe heart." [X:1]
synonym: "cardiac defect" EXACT layperson []
synonym: "hole \\"in\\" the heart" RELATED []
synonym: "HD" EXACT abbreviation []
synonym: "organ defect" BROAD []
synonym: "left defect" NARROW []
xref: UMLS:C1 "words"

[Term]
id: T:2
name: obsolete thing
is_obsolete: true
replaced_by: T:3

[Term]
id: T:3
name: obsolete again
is_obsolete: true
consider: T:1

[Term]
id: T:4
name: goes in a circle
is_obsolete: true
replaced_by: T:5

[Term]
id: T:5
name: goes in a circle too
is_obsolete: true
replaced_by: T:4

[Typedef]
id: part_of
name: part of
"""


def write(folder: Path, name: str, text: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def pairs(path: Path, **options: KbFormat) -> list[tuple[str, str]]:
    return [(e.id, n.text) for e in read_entities(path, **options) for n in e.names]


@pytest.mark.parametrize("header", ["id\tname\tkind\n", "Concept ID\tpreferred label\tkind\n", ""])
def test_a_third_column_of_kinds_gives_kinds_with_or_without_a_header(
    tmp_path: Path, header: str
) -> None:
    rows = 'A\tone "x"\tlabel\nA\tuno\texact_synonym\nA\teins\trelated\nB\ttwo\tlabel\n'
    entities = list(read_entities(write(tmp_path, "kb.tsv", header + rows)))
    assert [(e.id, e.name, e.names[0].kind) for e in entities] == [
        ("A", 'one "x"', NameKind.PREFERRED),
        ("A", "uno", NameKind.EXACT),
        ("A", "eins", NameKind.RELATED),
        ("B", "two", NameKind.PREFERRED),
    ]


def test_without_a_header_further_columns_that_are_no_kinds_are_aliases(tmp_path: Path) -> None:
    path = write(tmp_path, "kb.csv", 'A,one,uno,"ein, s"\nB,two\n"C ""q""|1",three,label\n')
    assert list(read_entities(path)) == [
        Entity(
            id="A",
            names=(
                Name(text="one", kind=NameKind.PREFERRED),
                Name(text="uno"),
                Name(text="ein, s"),
            ),
        ),
        Entity(id="B", names=(Name(text="two"),)),
        Entity(
            id='C "q"|1',
            names=(Name(text="three", kind=NameKind.PREFERRED), Name(text="label")),
        ),
    ]


def test_named_columns_may_stand_in_any_order_and_others_are_left_alone(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "kb.tsv",
        "colour\tname\tesco_id\taliases\ttypes\tlang\tdescription\txrefs\talt_ids\n"
        "red\tnurse\tE1\tcarer|sister\tjob\ten\ta \x80 person\tX:1|X:2\tE0\n"
        "red\tcook\tE2\n",
    )
    nurse, cook = read_entities(path)
    assert nurse == Entity(
        id="E1",
        names=(
            Name(text="nurse", kind=NameKind.PREFERRED, language="en"),
            Name(text="carer", language="en"),
            Name(text="sister", language="en"),
        ),
        types=("job",),
        alternative_ids=("E0",),
        cross_references=("X:1", "X:2"),
        description="a person",
    )
    assert (cook.id, cook.name, cook.aliases) == ("E2", "cook", ())


def test_a_first_row_that_names_only_one_column_is_never_data(tmp_path: Path) -> None:
    path = write(tmp_path, "kb.tsv", "id\tone\nB\ttwo\n")
    for skipped in (None, SkippedRows()):
        with pytest.raises(InputError, check=about("kb.tsv")):
            list(read_entities(path, skip_bad=skipped))
    named = read_entities(path, columns=Columns(name="One"))
    assert [(e.id, e.name) for e in named] == [("B", "two")]


def test_json_lines_carry_everything_an_entity_has(tmp_path: Path) -> None:
    full = {
        "id": 7,
        "name": "heart",
        "language": "en",
        "aliases": ["cor", {"name": "Herz", "kind": "related", "language": "de", "source": "S"}],
        "types": ["organ"],
        "alternative_ids": ["8"],
        "cross_references": ["X:1"],
        "description": "pumps",
        "other": [1],
    }
    path = write(tmp_path, "kb.jsonl", json.dumps(full) + '\n\n{"id": "b|\\"", "name": "心臓"}\n')
    assert list(read_entities(path)) == [
        Entity(
            id="7",
            names=(
                Name(text="heart", kind=NameKind.PREFERRED, language="en"),
                Name(text="cor", language="en"),
                Name(text="Herz", kind=NameKind.RELATED, language="de", source="S"),
            ),
            types=("organ",),
            alternative_ids=("8",),
            cross_references=("X:1",),
            description="pumps",
        ),
        Entity(id='b|"', names=(Name(text="心臓", kind=NameKind.PREFERRED),)),
    ]


def test_a_dictionary_keeps_ids_as_listed_and_several_names_of_a_line(tmp_path: Path) -> None:
    path = write(tmp_path, "dictionary.txt", "A|B|A||one\r\nA||uno|eins\r\n")
    assert sniff(path) is KbFormat.DICTIONARY
    assert list(read_entities(path)) == [
        Entity(id="A", names=(Name(text="one"),), alternative_ids=("B",)),
        Entity(id="A", names=(Name(text="uno"), Name(text="eins"))),
    ]


def test_obo_keeps_scopes_and_gives_old_ids_to_their_successor(tmp_path: Path) -> None:
    skipped = SkippedRows()
    entities = list(read_entities(write(tmp_path, "kb.obo", OBO), skip_bad=skipped))
    assert entities == [
        Entity(
            id="T:1",
            names=(
                Name(text="heart defect", kind=NameKind.PREFERRED),
                Name(text="cardiac defect", kind=NameKind.EXACT),
                Name(text='hole "in" the heart', kind=NameKind.RELATED),
                Name(text="HD", kind=NameKind.ABBREVIATION),
                Name(text="organ defect", kind=NameKind.BROAD),
                Name(text="left defect", kind=NameKind.NARROW),
            ),
            types=("organs",),
            alternative_ids=("T:9", "T:2", "T:3"),
            cross_references=("UMLS:C1",),
            description="A hole in the heart.",
        )
    ]
    assert skipped == SkippedRows(obsolete=4, unresolved=2)


OLD_IDS = {
    "A:1": "alt_id: A:2",
    "A:3": 'alt_id: A:4 {source="x"} ! a comment\nis_obsolete: true\nreplaced_by: A:2',
    "A:5": "alt_id: A:6\nis_obsolete: true\nconsider: A:4",
    # These lead nowhere, two of them round in a circle.
    "A:10": "alt_id: A:11\nis_obsolete: true\nreplaced_by: A:12",
    "A:20": "alt_id: A:20\nalt_id: A:21\nis_obsolete: true\nreplaced_by: A:22",
    "A:22": "alt_id: A:20\nis_obsolete: true\nreplaced_by: A:20",
    "A:30": "alt_id: A:1\nalt_id: A:31\nis_obsolete: true",
}


def test_alternative_ids_of_obsolete_terms_go_to_the_successor_too(tmp_path: Path) -> None:
    terms = (f"[Term]\nid: {id_}\nname: {id_}\n{lines}\n" for id_, lines in OLD_IDS.items())
    text = "\n".join(["format-version: 1.2\n", *terms])
    skipped = SkippedRows()
    (found,) = read_entities(write(tmp_path, "kb.obo", text), skip_bad=skipped)
    assert (found.id, found.alternative_ids) == ("A:1", ("A:2", "A:3", "A:4", "A:5", "A:6"))
    # A:10, A:11, A:20, A:21, A:22, A:30 and A:31.
    assert skipped == SkippedRows(obsolete=6, unresolved=7)


def test_the_successor_that_a_term_names_goes_before_what_another_obsolete_one_says(
    tmp_path: Path,
) -> None:
    terms = {
        "A:1": "",
        "A:2": "",
        "A:3": "is_obsolete: true\nreplaced_by: A:1",
        "A:4": "alt_id: A:3\nalt_id: A:5\nis_obsolete: true\nreplaced_by: A:2",
        "A:5": "is_obsolete: true",
    }
    for order in (list(terms), list(terms)[::-1]):
        frames = (f"[Term]\nid: {id_}\nname: {id_}\n{terms[id_]}\n" for id_ in order)
        path = write(tmp_path, "kb.obo", "\n".join(["format-version: 1.2\n", *frames]))
        found = {e.id: e.alternative_ids for e in read_entities(path)}
        assert found == {"A:1": ("A:3",), "A:2": ("A:4", "A:5")}


def test_two_pieces_of_an_obo_term_keep_the_alternative_ids_of_both(tmp_path: Path) -> None:
    pieces = "".join(
        f"\n[Term]\nid: A:1\nname: one\n{line}\n" for line in ("alt_id: A:2", "xref: X:1")
    )
    old = "\n[Term]\nid: A:3\nname: three\nis_obsolete: true\nreplaced_by: A:2\n"
    path = write(tmp_path, "kb.obo", "format-version: 1.2\n" + pieces + old)
    assert {"A:2", "A:3"} == {i for e in read_entities(path) for i in e.alternative_ids}


@pytest.mark.parametrize(
    ("id_", "alt_id", "line", "value", "olds"),
    [
        (b"A:2", b"A:\x019", 10, "A:2", ("A:2", "A:8")),
        (b"A:2", b"A:\xff9", 10, "A:2", ("A:2", "A:8")),
        (b"A:\xff2", b"A:9", 8, "", ()),
    ],
)
def test_a_bad_id_of_an_obsolete_term_is_that_terms_fault(
    tmp_path: Path, id_: bytes, alt_id: bytes, line: int, value: str, olds: tuple[str, ...]
) -> None:
    old = b"\n[Term]\nid: %s\nalt_id: A:8\nalt_id: %s\n" % (id_, alt_id)
    old += b"is_obsolete: true\nreplaced_by: A:1\n"
    path = write(tmp_path, "kb.obo", HEAD.encode() + b"id: A:1\nname: one\n" + old)
    with pytest.raises(InputError, check=about("kb.obo", line=line, value=value)):
        list(read_entities(path))
    skipped = SkippedRows()
    (found,) = read_entities(path, skip_bad=skipped)
    assert (found.id, set(found.alternative_ids)) == ("A:1", set(olds))
    assert (skipped.bad, skipped.obsolete, skipped.unresolved) == (1, len(olds) > 0, 0)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("kb.tsv", "A\tone\tlabel\nB\ttwo\talt\n"),
        ("kb.csv", "A,one\nB,two\n"),
        ("kb.jsonl", '{"id": "A", "name": "one"}\n{"id": "B", "name": "two"}\n'),
        ("kb.txt", "A||one\nB||two\n"),
        ("kb.obo", "format-version: 1.2\n\n[Term]\nid: A\nname: one\n\n[Term]\nid: B\nname: two\n"),
    ],
)
def test_a_gzip_file_reads_like_the_plain_one(tmp_path: Path, name: str, text: str) -> None:
    plain = write(tmp_path, name, text)
    packed = write(tmp_path, f"{name}.gz", gzip.compress(text.encode()))
    assert sniff(packed) is sniff(plain)
    assert pairs(packed) == pairs(plain) == [("A", "one"), ("B", "two")]
    assert list(read_names(packed)) == ["one", "two"]


@pytest.mark.parametrize(
    ("name", "text", "line", "fault"),
    [
        ("kb.tsv", "A\tone\nB\t \n", 2, "no name"),
        ("kb.tsv", "A\tone\n\ttwo\n", 2, "no id"),
        ("kb.tsv", "A\tone\n\nB\n", 3, "one column"),
        ("kb.tsv", "A\tone\nB\tt\0wo\n", 2, "U+0000"),
        ("kb.tsv", "A\tone\nB\tt\x1bwo\n", 2, "U+001B"),
        ("kb.tsv", b"A\tone\nB\tt\xffwo\n", 2, "not UTF-8"),
        ("kb.tsv", "id\tname\tkind\nA\tone\tdisease\n", 2, "'disease' is not a kind"),
        ("kb.tsv", "id\tname\nA\tone\tx\n", 2, "3 columns, the header has 2"),
        ("kb.csv", 'A,one\nB,"two\nC,three\n', 2, "not CSV"),
        ("kb.csv", 'A,one\nB,"two"x\nC,three\n', 2, "not CSV"),
        ("kb.csv", 'A,one\nB,"t\nwo"\n', 2, "U+000A"),
        ("kb.csv", b"A,one\nB,\xe9\n", 2, "not UTF-8"),
        ("kb.jsonl", '{"id": "A", "name": "one"}\n{"id": "B"}\n', 2, "no name"),
        ("kb.jsonl", '{"id": "A", "name": "one"}\n{"name": "x"}\n', 2, "no id"),
        ("kb.jsonl", '{"id": "A", "name": "one"}\n["B"]\n', 2, "not a JSON object"),
        ("kb.jsonl", '{"id": "A", "name": "one"}\n{"id": "B", \n', 2, "not JSON"),
        ("kb.jsonl", '{"id": "A", "name": "one"}\n{"id": "B", "name": 3}\n', 2, "not a string"),
        ("kb.jsonl", '{"id": "A", "name": "one"}\n{"id": "B", "name": "\\ud800"}\n', 2, "UTF-8"),
        ("kb.jsonl", '{"id": "A", "name": "one"}\n{"id": "B\\tC", "name": "x"}\n', 2, "U+0009"),
        ("kb.jsonl", '{"id": "A", "name": "o"}\n{"id":"B","name":"x","aliases":{}}\n', 2, "list"),
        ("kb.jsonl", '{"id": "A", "name": "o"}\n{"id":' + "9" * 5_000 + "}\n", 2, "not JSON"),
        (
            "kb.jsonl",
            '{"id": "A", "name": "o"}\n{"id": "B", "name": "x", "language": "\\ud800"}\n',
            2,
            "the language is not UTF-8",
        ),
        ("kb.tsv", b"id\tname\tsource\nA\tone\t\xff\n", 2, "the source is not UTF-8"),
        ("kb.dictionary", "A||one\nB|two\n", 2, "no ||"),
        ("kb.dictionary", "A||one\nB||\n", 2, "no name"),
        ("kb.dictionary", "A||one\n|B||two\n", 2, "no id"),
        ("kb.dictionary", b"A||one\nB||\xff\n", 2, "not UTF-8"),
        (
            "kb.obo",
            HEAD + "id: A\nnam: x\n\n[Term]\nid: B\nname: b\n",
            4,
            "no name",
        ),
        (
            "kb.obo",
            HEAD + "id: A\nname: a\nsynonym: heart EXACT []\n\n[Term]\nid: B\nname: b\n",
            6,
            "not in quotes",
        ),
        (
            "kb.obo",
            HEAD + "name: a\n\n[Term]\nid: B\nname: b\n",
            3,
            "no id",
        ),
        (
            "kb.obo",
            HEAD + "id: A\n\n[Term]\nid: B\nname: b\n",
            4,
            "no name",
        ),
        ("kb.obo", HEAD + "id: A\nname: \0\n", 4, "U+0000"),
        ("kb.obo", HEAD.encode() + b"id: A\nname: \xff\n", 4, "not UTF-8"),
    ],
)
def test_a_bad_row_is_refused_by_its_line_and_counted_on_request(
    tmp_path: Path, name: str, text: str | bytes, line: int, fault: str
) -> None:
    path = write(tmp_path, name, text)
    chosen = KbFormat.DICTIONARY if name == "kb.dictionary" else None
    whole = list_or_message(path, chosen, None)
    assert isinstance(whole, str)
    assert whole.startswith(f"{path}: line {line}: ")
    assert fault in whole
    skipped = SkippedRows()
    rest = list_or_message(path, chosen, skipped)
    assert skipped.bad == 1
    assert skipped.messages == [whole]
    assert isinstance(rest, list) or "holds no entity" in rest


def test_a_message_shows_no_control_character_of_its_row_and_is_not_endless(
    tmp_path: Path,
) -> None:
    header, good = "id,name,kind\n", "P:1,fever,exact\n"
    headings = 'œ\x1b[m,"b\x07\nc",' + "d" * 10_000
    rows = f"{headings}\nP:1,fever,exact\nP:2,cough,exact\n"
    for content in (rows, f'{header}P:2,cough,"œ\x1b[m{"k" * 10_000}"\n{good}'):
        path = write(tmp_path, "kb.csv", content)
        skipped = SkippedRows()
        if content is not rows:
            assert list(read_entities(path, skip_bad=skipped))
        with pytest.raises(InputError) as error:
            list(read_entities(path))
        for message in (*skipped.messages, str(error.value)):
            assert r"œ\x1b[m" in message
            assert message.isprintable()
            assert len(message) < 1_500


def test_headings_settle_what_a_third_column_holds(tmp_path: Path) -> None:
    rows = "A\tone\tlabel\t\nB\ttwo\tlabel\textra\n"
    with pytest.raises(InputError, check=about("kb.tsv", line=2)):
        list(read_entities(write(tmp_path, "kb.tsv", rows)))
    path = write(tmp_path, "kb.tsv", "id\tname\talias\talias\n" + rows)
    assert [e.aliases for e in read_entities(path)] == [("label",), ("label", "extra")]


def list_or_message(
    path: Path, chosen: KbFormat | None, skipped: SkippedRows | None
) -> list[tuple[str, tuple[str, ...]]] | str:
    try:
        found = read_entities(path, format=chosen, skip_bad=skipped)
        return [(e.id, tuple(n.text for n in e.names)) for e in found]
    except InputError as error:
        return str(error)


def test_a_missing_an_empty_and_an_unknown_file_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, check=about("none.tsv")):
        list(read_entities(tmp_path / "none.tsv"))
    with pytest.raises(InputError, check=about("empty.tsv")):
        list(read_entities(write(tmp_path, "empty.tsv", "\n \n")))
    with pytest.raises(ConfigError, check=about("words.txt", hint="--kb-format")):
        read_entities(write(tmp_path, "words.txt", "heart\nlung\n"))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"heart\nlung\n")))
    with pytest.raises(ConfigError, check=about("standard input", hint="--kb-format")):
        read_entities("-")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("heart\nlung disease\n", None),
        ("", None),
        ("A||one\nno bars\n", None),
        ("a sentence with\ta tab\nand one without\n", None),
        ("A\tone\nB\ttwo\n", KbFormat.TSV),
        ('{"id": 1, "name": "x"}\n', KbFormat.JSONL),
        ('{"text": "x"}\n', None),
        ("\ufeffformat-version: 1.2\n", KbFormat.OBO),
    ],
)
def test_the_format_of_a_file_without_a_known_ending_is_detected_by_its_lines(
    tmp_path: Path, text: str, expected: KbFormat | None
) -> None:
    assert sniff(write(tmp_path, "file.txt", text)) is expected


name_texts = st.text(
    st.characters(blacklist_categories=["Cc", "Cs"], blacklist_characters="\ufdd0"), min_size=1
).map(lambda text: "x" if is_blank(text) else " ".join(text.split()))


@given(rows=st.lists(st.tuples(name_texts, name_texts), min_size=1, max_size=20))
def test_any_ids_and_names_come_back_from_tsv_and_jsonl(
    rows: list[tuple[str, str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("any")
    headed = [("id", "name"), *(tuple(map(quoted, row)) for row in rows)]
    table = "\n".join("\t".join(row) for row in headed)
    assert pairs(write(folder, "kb.tsv", table)) == rows
    lines = "\n".join(json.dumps({"id": i, "name": name}) for i, name in rows)
    assert pairs(write(folder, "kb.jsonl", lines)) == rows


def quoted(cell: str) -> str:
    """Quote a cell as a spreadsheet does, where it must be."""
    return '"' + cell.replace('"', '""') + '"' if '"' in cell else cell


def test_a_name_of_ten_thousand_characters_is_read_whole(tmp_path: Path) -> None:
    long = "x" * 10_000
    for name, text in [("kb.tsv", f"A\t{long}\n"), ("kb.csv", f"A,{long}\n")]:
        assert pairs(write(tmp_path, name, text)) == [("A", long)]


@pytest.mark.parametrize(
    ("name", "ids", "names"),
    [
        ("kb_hpo/hpo_names.tsv", 19_034, 41_492),
        ("kb_mondo/mondo_names.tsv", 27_990, 87_381),
        ("el_esco/esco_occupation_names.tsv", 2_942, 32_914),
        ("el_esco/esco_occupations.tsv", 2_942, 2_942),
        ("el_ncbi_disease/medic_06Jul2012.txt", 11_915, 76_237),
        ("el_ncbi_disease/train_dictionary.txt", 11_824, 71_924),
    ],
)
def test_real_files_have_the_published_counts(
    shared_data: Callable[[str], Path], name: str, ids: int, names: int
) -> None:
    counts = Counter[str]()
    for entity in read_entities(shared_data(name)):
        counts[entity.id] += len(entity.names)
    assert (len(counts), counts.total()) == (ids, names)


tags = st.sampled_from(["", "en", "de"])
names = st.builds(
    Name, text=name_texts, kind=st.sampled_from(list(NameKind)), language=tags, source=tags
)
several = st.lists(name_texts, max_size=2).map(tuple)
entities = st.builds(
    Entity,
    id=name_texts,
    names=st.lists(names, min_size=1, max_size=4).map(tuple),
    types=several,
    alternative_ids=several,
    cross_references=several,
    description=name_texts | st.just(""),
    fields=st.lists(st.tuples(st.just("year"), name_texts), max_size=2).map(tuple),
)


@given(entities)
def test_any_entity_comes_back_from_its_json(entity: Entity) -> None:
    row = json.loads(json_line(entity))
    assert entity_from_json(row) == entity


def test_a_csv_description_may_be_longer_than_the_csv_module_allows(tmp_path: Path) -> None:
    long = "x" * 200_000
    path = write(tmp_path, "kb.csv", f'id,name,description\nA,one,"{long}"\n')
    (entity,) = read_entities(path)
    assert entity.description == long


@pytest.mark.parametrize("headings", ["parent_id\tid\tname", "type_id\tcode\tlabel"])
def test_a_column_that_is_headed_as_the_id_goes_before_other_ids(
    tmp_path: Path, headings: str
) -> None:
    path = write(tmp_path, "kb.tsv", f"{headings}\nP:1\tA\tfever\nP:1\tB\tcough\n")
    assert pairs(path) == [("A", "fever"), ("B", "cough")]


def test_a_second_name_column_is_one_more_name(tmp_path: Path) -> None:
    path = tmp_path / "kb.tsv"
    path.write_text("id\tname\tname\nP1\tDrill\tborer\n")
    (entity,) = read_entities(path)
    assert (entity.name, entity.aliases) == ("Drill", ("borer",))


@pytest.mark.parametrize("name", ["kb.tsv", "kb.csv"])
def test_unknown_headings_are_no_entity(tmp_path: Path, name: str) -> None:
    rows = "foo\tbar\nX:1\tfever\nX:2\tcough\n"
    path = write(tmp_path, name, rows if name == "kb.tsv" else rows.replace("\t", ","))
    with pytest.raises(InputError, check=about(line=1, hint="--name-column")):
        list(read_entities(path))
    with pytest.raises(
        InputError, check=about(hint="--id-column")
    ):  # nor a bad row among good ones
        list(read_entities(path, skip_bad=SkippedRows()))
    named = read_entities(path, columns=Columns(id="foo", name="BAR"))
    assert [(e.id, e.name) for e in named] == [("X:1", "fever"), ("X:2", "cough")]


def test_a_first_id_without_a_digit_is_data_among_others_like_it(tmp_path: Path) -> None:
    path = write(tmp_path, "kb.tsv", "foo\tbar\nX:1\tfever\nbaz\tcough\n")
    assert pairs(path) == [("foo", "bar"), ("X:1", "fever"), ("baz", "cough")]
