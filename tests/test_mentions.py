import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror_rt.knowledge import KnowledgeBase
from mirror_rt.knowledge.text.abbreviations import SpelledPhrases, find_abbreviations
from mirror_rt.knowledge.text.composites import composite_parts
from tests.kb import HEARTS, LetterEncoder, entity, fake_bundle


@pytest.mark.parametrize(
    ("document", "found"),
    [
        ("heat shock factor (HSF) is", {"HSF": "heat shock factor"}),
        ("Adenomatous polyposis coli (APC) and APC again", {"APC": "Adenomatous polyposis coli"}),
        ("MD (muscular dystrophy) is common", {"MD": "muscular dystrophy"}),
        ("spinocerebellar ataxia type 1 (SCA1)", {"SCA1": "spinocerebellar ataxia type 1"}),
        ("a study (in 2003) of mice (see below)", {}),
        ("the gene product (XYZ) unrelated", {}),
        ("", {}),
        ("(HSF)", {}),
    ],
)  # fmt: skip
def test_definitions_are_found(document: str, found: dict[str, str]) -> None:
    assert find_abbreviations(document) == found


@given(st.text())
def test_any_text_is_taken(text: str) -> None:
    for short, long in find_abbreviations(text).items():
        assert len(long) > len(short)
    assert "".join(composite_parts(text)) or not text


@pytest.mark.parametrize(
    ("mention", "parts"),
    [
        ("colorectal, endometrial, and ovarian cancers",
         ("colorectal cancers", "endometrial cancers", "ovarian cancers")),
        ("ataxia type 1 or 3", ("ataxia type 1", "ataxia type 3")),
        ("neurofibromatosis I and II", ("neurofibromatosis I", "neurofibromatosis II")),
        ("type 1, 2 and 3 diabetes", ("type 1 diabetes", "type 2 diabetes", "type 3 diabetes")),
        ("deficiency of factor V and VIII",
         ("deficiency of factor V", "deficiency of factor VIII")),
        ("cough and fever", ("cough", "fever")),
        ("liver cancer", ("liver cancer",)),
        ("and", ("and",)),
        ("sand dune", ("sand dune",)),
    ],
)  # fmt: skip
def test_composites_are_split(mention: str, parts: tuple[str, ...]) -> None:
    assert composite_parts(mention) == parts


def test_both_are_switched_on_and_shown(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("kb")
    bundle = fake_bundle(folder / "bundle")
    kb = KnowledgeBase.build(bundle, HEARTS, folder / "kb", encoder=LetterEncoder())
    mention = "atrial and ventricular septal defect"
    (plain,) = kb.link([mention])
    assert {c.expanded_form for c in plain} == {""}
    (split,) = kb.link([mention], split_composites=True, top=1)
    assert [(c.entity_id, c.expanded_form) for c in split] == [
        ("H:1", "atrial septal defect"),
        ("H:2", "ventricular septal defect"),
    ]
    text = "In short stature (SS) the child …"
    (expanded,) = kb.link(["SS"], document=text)
    assert (expanded[0].entity_id, expanded[0].expanded_form) == ("H:3", "short stature")
    (known,) = kb.link(["hole in the heart"], split_composites=True, document=text)
    assert {c.expanded_form for c in known} == {""}


DOCUMENT = (
    "Dystrophy, muscular or myotonic (as in DM). Septal defect of the atria; ASD and cold. "
    "Chronic obstructive lung disease, heart-muscle disease."
)


@pytest.mark.parametrize(
    ("short", "found"),
    [
        ("MM", []),
        ("mm", []),
        ("SDA", [("Septal defect of the atria", 1)]),
        ("ASD", [("Septal defect of the atria", 0)]),
        ("asd", []),
        ("COLD", [("Chronic obstructive lung disease", 1)]),
        ("cold", []),
        ("HMD", [("heart-muscle disease", 1)]),
        ("DH", []),
        ("D", []),
        ("D M", []),
        ("42", []),
        ("", []),
    ],
)
def test_phrases_are_found_that_spell_a_short_form(
    short: str, found: list[tuple[str, int]]
) -> None:
    assert SpelledPhrases(DOCUMENT).of(short) == found


@given(st.text(alphabet="ab c,.-'\nß漢", max_size=30), st.text(alphabet="abcß漢", max_size=4))
def test_a_phrase_that_spells_stands_in_the_document(document: str, short: str) -> None:
    for phrase, surely in SpelledPhrases(document).of(short):
        assert phrase in document
        initials = [w[0] for w in re.findall(r"[^\W_]+", phrase.casefold()) if w != "a"]
        assert sorted(initials) == sorted(short.casefold())
        assert bool(surely) == ("".join(initials) == short.casefold())


SHORT = [
    entity("S:1", "myotonic dystrophy", "dystrophia myotonica"),
    entity("S:2", "diabetes mellitus", "DM"),
    entity("S:3", "muscular dystrophy"),
    entity("S:4", "dark matter"),
]


@pytest.fixture(scope="module")
def short_kb(tmp_path_factory: pytest.TempPathFactory) -> KnowledgeBase:
    folder = tmp_path_factory.mktemp("short")
    return KnowledgeBase.build(
        fake_bundle(folder / "bundle"), SHORT, folder / "kb", encoder=LetterEncoder()
    )


@pytest.mark.parametrize(
    ("document", "entity_id"),
    [
        (None, "S:2"),
        ("Nothing of it.", "S:2"),
        ("Myotonic dystrophy is inherited. In DM the muscle wastes.", "S:1"),
        ("Diabetes mellitus, or DM; muscular dystrophy.", "S:2"),
        # Letters in order take precedence, then the most frequent phrase.
        ("Dark matter; myotonic dystrophy; myotonic dystrophy.", "S:4"),
        ("Muscular dystrophy; myotonic dystrophy; myotonic dystrophy.", "S:1"),
        # Two with the same letters and frequency decide nothing.
        ("Muscular dystrophy; myotonic dystrophy.", "S:2"),
        # A definition takes precedence over everything.
        ("Muscular dystrophy (DM), not myotonic dystrophy, not dark matter.", "S:3"),
        ("Mad dogs. Dull minds.", "S:2"),
    ],
)
def test_the_document_decides_what_a_short_name_means(
    short_kb: KnowledgeBase, document: str | None, entity_id: str
) -> None:
    (found,) = short_kb.link(["DM"], document=document)
    assert found[0].entity_id == entity_id
    assert found[0].match_type.is_exact
    assert bool(found[0].expanded_form) == (found[0].matched_name != "DM")


def test_what_a_filter_leaves_out_does_not_decide(short_kb: KnowledgeBase) -> None:
    document = "Myotonic dystrophy is inherited. In DM the muscle wastes."
    (found,) = short_kb.link(["DM"], document=document, filters={"id": "S:2"})
    assert [c.matched_name for c in found] == ["DM"]


def test_a_file_of_documents_is_linked_as_its_mentions_are(
    short_kb: KnowledgeBase, tmp_path: Path
) -> None:
    documents = [
        "Myotonic dystrophy is inherited. In DM the muscle wastes.",
        "Muscular dystrophy; myotonic dystrophy; myotonic dystrophy; cold and DM",
        "Muscular dystrophy (DM), not myotonic dystrophy.",
        "None.",
    ]
    rows = [(mention, text) for text in documents for mention in ("DM", "muscular dystrophy")]
    table = tmp_path / "mentions.tsv"
    table.write_text("mention\tdocument\n" + "".join(f"{m}\t{d}\n" for m, d in rows), "utf-8")
    short_kb.link_file(table, tmp_path / "out.jsonl", column="mention", document_column="document")
    lines = (tmp_path / "out.jsonl").read_text("utf-8").splitlines()
    linked = short_kb.link([m for m, _ in rows], document=[d for _, d in rows])
    output = [json.loads(line)["candidates"][0] for line in lines]
    assert [(one["entity_id"], one["expanded_form"]) for one in output] == [
        (one[0].entity_id, one[0].expanded_form) for one in linked
    ]


def test_a_long_document_is_read_once(short_kb: KnowledgeBase) -> None:
    part = "Myotonic dystrophy (see below) is a word of many, with (XY) beside it. "
    document = part * (1_000_000 // len(part))
    found = short_kb.link(["DM", "SDF", "ABCDE"] * 50, document=document)
    assert found[0][0].entity_id == "S:1"
