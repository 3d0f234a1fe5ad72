import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror_rt.knowledge.text.normalize import normalize, part_numbers


@pytest.mark.parametrize(
    ("text", "folded"),
    [
        ("Short stature", "short stature"),
        ("ATAXIA-TELANGIECTASIA", "ataxia telangiectasia"),
        ("  tooth\tagenesis,  selective (6) ", "tooth agenesis selective 6"),
        ("Straße", "strasse"),
        ("ﬁbrosis", "fibrosis"),
        ("Ｔｙｐｅ　Ⅱ", "type ii"),
        ("cafe\u0301", "café"),
        ("soft\u00adhyphen", "softhyphen"),
        ("C#", "c#"),
        ("HLA-B*27", "hla b*27"),
        ("Crohn’s disease", "crohn s disease"),
        ("תסמונת דאון", "תסמונת דאון"),
        ("ダウン症候群", "ダウン症候群"),
        ("ﾀﾞｳﾝ症", "ダウン症"),
        ("...", ""),
        ("", ""),
    ],
)
def test_known_texts_are_folded_so(text: str, folded: str) -> None:
    assert normalize(text) == folded


@given(st.text())
def test_normalizing_twice_changes_nothing(text: str) -> None:
    assert normalize(normalize(text)) == normalize(text)


@given(st.text())
def test_case_and_unicode_form_do_not_matter(text: str) -> None:
    assert normalize(text.casefold()) == normalize(text)
    for form in ("NFC", "NFD", "NFKC", "NFKD"):
        # These two forms join a fraction or an index to the number before it.
        if form in {"NFC", "NFD"} or part_numbers(text) == text:
            assert normalize(unicodedata.normalize(form, text)) == normalize(text)


def test_a_fraction_and_an_index_stand_apart_from_a_number() -> None:
    assert normalize("1½ l, 10² x₂") == "1 1⁄2 l 10 2 x2"


@given(st.text(alphabet=st.characters(codec="ascii")))
def test_an_ascii_text_folds_as_its_slow_way_does(text: str) -> None:
    marked = normalize(text + " é")
    assert marked.removesuffix("é").rstrip() == normalize(text)


@given(st.lists(st.text(alphabet="abcXYZ09é字", min_size=1), min_size=1), st.data())
def test_spaces_and_punctuation_between_words_do_not_matter(
    words: list[str], data: st.DataObject
) -> None:
    gaps = st.text(alphabet=" \t\u00a0,;:/()-–", min_size=1)
    text = "".join(word + data.draw(gaps) for word in words)
    assert normalize(text) == normalize(" ".join(words))


def test_a_name_of_ten_thousand_characters_is_folded_whole() -> None:
    assert normalize("Ä-" * 5_000) == " ".join(["ä"] * 5_000)


def test_combining_marks_tell_names_apart() -> None:
    assert normalize("résumé") != normalize("resume")
