import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror_rt.knowledge.text.match_levels import (
    match_level,
    may_match_beyond_key,
    token_bag_key,
)
from mirror_rt.knowledge.text.normalize import normalize
from mirror_rt.knowledge.text.numbers import fold_numbers, number_tokens
from mirror_rt.types import MatchType


@pytest.mark.parametrize(
    ("mention", "name", "level"),
    [
        ("short stature", "short stature", MatchType.EXACT),
        ("Short  stature", "short stature", MatchType.CASE),
        ("ﬁbrosis", "Fibrosis", MatchType.CASE),
        ("short-stature", "short stature", MatchType.PUNCTUATION),
        ("liver cancers", "liver cancer", MatchType.PLURAL),
        ("Crohn's disease", "Crohn disease", MatchType.PLURAL),
        ("biopsies", "biopsy", MatchType.PLURAL),
        ("Sjögren syndrome", "sjogren syndromes", MatchType.ACCENTS),
        ("cancer of the liver", "liver cancer", MatchType.WORD_ORDER),
        ("anosmia, congenital", "congenital anosmia", MatchType.WORD_ORDER),
        ("short stature", "tall stature", None),
        ("...", "???", None),
        ("AIDS", "aid", MatchType.PLURAL),
        ("virus", "viru", None),
        ("ダウン症候群", "ダウン症候", None),
        ("か", "が", None),
        ("Sugar 1kg", "sugar 1 kg", MatchType.NUMBER),
        ("milk 2x500ml", "milk 2 × 500 ml", MatchType.NUMBER),
        ("milk 2×500 ml", "milk 2 x 500ml", MatchType.NUMBER),
        ("rice 1,5 kg", "rice 1.5kg", MatchType.NUMBER),
        ("½ l", "0,5 l", MatchType.NUMBER),
        ("1½ l", "1.5 liters", MatchType.NUMBER),
        ("½ l", "1/2 l", MatchType.NUMBER),
        ("5 µg", "5mcg", MatchType.NUMBER),
        ("vitamin B12", "vitamin B 12", MatchType.NUMBER),
        ("type 2a", "type 2 A", MatchType.NUMBER),
        ("meta-analysis", "metaanalysis", MatchType.HYPHEN),
        ("non-small cell", "nonsmall cells", MatchType.PLURAL),
        ("an aerobic germ", "anaerobic germ", None),
        ("tumours of the colon", "tumors of the colon", MatchType.SPELLING),
        ("Haemorrhagic oedema", "hemorrhagic edema", MatchType.SPELLING),
        ("organiser, theatre", "Organizer theater", MatchType.SPELLING),
        ("TGFβ1", "TGF-beta 1", MatchType.GREEK),
        ("TGFbeta1", "TGF-β1", MatchType.GREEK),
        ("TGFβ1", "TGF-beta 2", None),
        ("type II diabetes", "type 2 diabetes", MatchType.NUMERAL),
        ("type IIa", "type 2 A", MatchType.NUMERAL),
        ("factor X", "factor 10", MatchType.NUMERAL),
        ("fragile X", "fragile 10", None),
        ("10²", "102", None),
        ("1½", "11⁄2", None),
        ("ratio 1:2", "ratio 2:1", None),
        ("Protein S deficiency", "protein deficiency", None),
        ("protein s deficiency", "protein deficiency", None),
        ("Compound S", "compound", None),
        ("hepatitis A", "hepatitis", None),
        ("cancers of a liver", "liver cancer", MatchType.WORD_ORDER),
    ],
)
def test_the_strictest_step_is_named(mention: str, name: str, level: MatchType | None) -> None:
    assert match_level(mention, name) is level


@given(st.text(), st.text())
def test_the_step_is_the_same_both_ways(one: str, other: str) -> None:
    assert match_level(one, other) is match_level(other, one)


@given(st.lists(st.sampled_from("acute chronic kidney diseases of the left".split())))
def test_the_order_of_words_does_not_change_the_key(words: list[str]) -> None:
    assert token_bag_key(" ".join(words)) == token_bag_key(" ".join(reversed(words)))


@given(st.text())
def test_the_words_of_a_key_are_in_order(text: str) -> None:
    key = token_bag_key(normalize(text))
    words = [word for word in key.split() if not any(map(str.isdigit, word))]
    assert words == sorted(words)


def test_a_name_of_little_words_only_keeps_them() -> None:
    assert token_bag_key("the a") == "a the"


def test_numbers_letters_and_roman_numerals_number_things() -> None:
    assert number_tokens("type 2a iv b deficiency vitamin") == {"2a", "4", "b"}


@given(*[st.text(alphabet="asie -,'2OfT", max_size=9)] * 2)
def test_ascii_names_equal_at_any_step_have_one_key(one: str, other: str) -> None:
    if match_level(one, other) not in {None, MatchType.HYPHEN} and "-" not in one + other:
        assert token_bag_key(normalize(one)) == token_bag_key(normalize(other))


@given(*[st.text(alphabet="aséβ \u2011\u2044½-/2OfSs", max_size=9)] * 2)
def test_names_equal_at_any_step_have_one_key_or_a_flag(one: str, other: str) -> None:
    one += "é"  # in ASCII names, only hyphens are considered
    if match_level(one, other) is not None and not may_match_beyond_key(one, other):
        assert token_bag_key(normalize(one)) == token_bag_key(normalize(other))


_ROMAN = ("", *"I II III IV V VI VII VIII IX X XI XII XIII XIV XV XVI XVII XVIII XIX XX".split())
_WRITTEN = (
    "{}", "type {}", "type-{}", "{} kg", "{}kg", "{} x 5", "{}x5", "5×{}", "B{}", "1.{}", "{},5 ml",
    "1:{}", "{}½", "10-{}", "{}a", "{} a", "HLA-B*{}", "grade {} of 5", "{}nd", "{} β", "β{}",
)  # fmt: skip


@given(
    st.sampled_from(_WRITTEN), st.sampled_from(_WRITTEN), st.integers(1, 20), st.integers(1, 2000),
    st.booleans(),
)  # fmt: skip
def test_names_that_differ_by_a_number_differ_at_every_level(
    written: str, beside: str, number: int, other: int, roman: bool
) -> None:
    one = _ROMAN[number] if roman and "type" in written else str(number)
    names = [f"tumours of {beside.format(7)} {written.format(n)} cell" for n in (one, other)]
    if number == other:
        assert match_level(*names) is not None
    else:
        assert match_level(*names) is None
        assert len({token_bag_key(normalize(name)) for name in names}) == 2
        assert len({number_tokens(normalize(name)) for name in names}) == 2 or other in {5, 7}


@given(st.text(alphabet="12 ab x×kgm⁄ivB", max_size=12).map(normalize))
def test_numbers_folded_twice_are_folded_once(text: str) -> None:
    folded = fold_numbers(text)
    assert fold_numbers(folded) == folded
    assert "".join(filter(str.isdigit, folded)) == "".join(filter(str.isdigit, text)) or "⁄" in text
