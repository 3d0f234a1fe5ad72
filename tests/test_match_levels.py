import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror_rt.knowledge.text.match_levels import match_level, number_tokens, token_bag_key
from mirror_rt.knowledge.text.normalize import normalize
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
    ],
)
def test_the_strictest_step_is_named(mention: str, name: str, level: MatchType | None) -> None:
    assert match_level(mention, name) is level


@given(st.text(), st.text())
def test_the_step_is_the_same_both_ways(one: str, other: str) -> None:
    assert match_level(one, other) is match_level(other, one)


@given(st.lists(st.sampled_from("acute chronic kidney diseases of the left i ii".split())))
def test_the_order_of_words_does_not_change_the_key(words: list[str]) -> None:
    assert token_bag_key(" ".join(words)) == token_bag_key(" ".join(reversed(words)))


@given(st.text())
def test_the_key_of_a_key_is_itself_in_sense(text: str) -> None:
    key = token_bag_key(normalize(text))
    assert key == " ".join(sorted(key.split()))


def test_a_name_of_little_words_only_keeps_them() -> None:
    assert token_bag_key("the a") == "a the"


def test_numbers_letters_and_roman_numerals_number_things() -> None:
    assert number_tokens("type 2a iv b deficiency vitamin") == {"2a", "iv", "b"}


@given(*[st.text(alphabet="asie -,'2OfT", max_size=9)] * 2)
def test_ascii_names_alike_at_any_step_have_one_key(one: str, other: str) -> None:
    if match_level(one, other) is not None:
        assert token_bag_key(normalize(one)) == token_bag_key(normalize(other))
