import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror_rt.knowledge import KnowledgeBase
from mirror_rt.knowledge.text.abbreviations import find_abbreviations
from mirror_rt.knowledge.text.composites import composite_parts
from tests.kb import HEARTS, LetterEncoder, fake_bundle


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
