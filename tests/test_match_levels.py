import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror_rt.knowledge.grades import grade, loose_key, number_tokens
from mirror_rt.knowledge.text.normalize import normalize
from mirror_rt.types import How


@pytest.mark.parametrize(
    ("mention", "name", "how"),
    [
        ("short stature", "short stature", How.EXACT),
        ("Short  stature", "short stature", How.CASE),
        ("ﬁbrosis", "Fibrosis", How.CASE),
        ("short-stature", "short stature", How.PUNCTUATION),
        ("liver cancers", "liver cancer", How.PLURAL),
        ("Crohn's disease", "Crohn disease", How.PLURAL),
        ("biopsies", "biopsy", How.PLURAL),
        ("Sjögren syndrome", "sjogren syndromes", How.ACCENTS),
        ("cancer of the liver", "liver cancer", How.WORD_ORDER),
        ("anosmia, congenital", "congenital anosmia", How.WORD_ORDER),
        ("short stature", "tall stature", None),
        ("...", "???", None),
        ("AIDS", "aid", How.PLURAL),
        ("virus", "viru", None),
        ("ダウン症候群", "ダウン症候", None),
        ("か", "が", None),
    ],
)
def test_the_strictest_step_is_named(mention: str, name: str, how: How | None) -> None:
    assert grade(mention, name) is how


@given(st.text(), st.text())
def test_the_step_is_the_same_both_ways(one: str, other: str) -> None:
    assert grade(one, other) is grade(other, one)


@given(st.lists(st.sampled_from("acute chronic kidney diseases of the left i ii".split())))
def test_the_order_of_words_does_not_change_the_loose_key(words: list[str]) -> None:
    assert loose_key(" ".join(words)) == loose_key(" ".join(reversed(words)))


@given(st.text())
def test_the_loose_key_of_a_loose_key_is_itself_in_sense(text: str) -> None:
    key = loose_key(normalize(text))
    assert key == " ".join(sorted(key.split()))


def test_a_name_of_little_words_only_keeps_them() -> None:
    assert loose_key("the a") == "a the"


def test_numbers_letters_and_roman_numerals_number_things() -> None:
    assert number_tokens("type 2a iv b deficiency vitamin") == {"2a", "iv", "b"}


@given(*[st.text(alphabet="asie -,'2OfT", max_size=9)] * 2)
def test_ascii_names_alike_at_any_step_have_one_key(one: str, other: str) -> None:
    if grade(one, other) is not None:
        assert loose_key(normalize(one)) == loose_key(normalize(other))
