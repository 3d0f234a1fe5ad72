"""The level at which two names match, from identical letters to the same words in any order.

The rules for plurals, word order and spelling are English. In other languages they change little,
and both names are folded in the same way.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from functools import lru_cache

from mirror_rt.knowledge.text.normalize import normalize, part_numbers
from mirror_rt.knowledge.text.numbers import arabic_numerals, fold_numbers
from mirror_rt.knowledge.text.spelling import american_spelling
from mirror_rt.types import MatchType

__all__ = ["match_level", "may_match_beyond_key", "token_bag_key"]

_LITTLE_WORDS = frozenset({"of", "the", "a", "an", "in", "with", "to", "for", "and"})
_ARTICLES = frozenset({"a", "an"})
_LETTERED = frozenset(
    "agent allele antigen cathepsin category cell chain class complex cytochrome enterotoxin "
    "factor form fragment grade group haemoglobin hemoglobin hepatitis level model phase protein "
    "section series serotype sign site size stage subtype subunit toxin type variant virus "
    "vitamin".split()
)
"""A letter after these words is part of the name: the S of protein S is not a possessive."""
_GREEK = {
    sign: unicodedata.name(sign).rsplit(" ", 1)[1].lower().replace("lamda", "lambda")
    for sign in "αβγδεζηθικλμνξοπρστυφχψω"
}
_LONE_GREEK = re.compile(r"(?<![α-ω])[α-ω](?![α-ω])")
_GREEK_AT_END = re.compile(r"(?<=[^\W\d_]{2})(?:alpha|beta|gamma|delta|kappa|lambda|sigma|omega)$")
_HYPHEN = re.compile("(?<=[^\\W\\d_])[-\u2010\u2011](?=[^\\W\\d_])")
_SLASH = re.compile(r"(?<=\d)/(?=\d)")
_BEYOND_KEY = re.compile(r"[\u2010\u2011\u2044]|\d/\d|\bS\b")
"""Signs that some level folds and the token-bag key does not."""
_CAPITAL_S = re.compile("(?<!['\u2019`\u00b4])\\bS\\b")


def match_level(mention: str, name: str) -> MatchType | None:
    """Return the strictest level at which two names are the same, or None.

    Each level folds all that the levels before it fold, and more. No level makes two different
    numbers equal.

    >>> match_level("Cancers of the liver", "liver cancer")
    <MatchType.WORD_ORDER: 'word_order'>
    >>> match_level("TGFβ1", "TGF-beta 1")
    <MatchType.GREEK: 'greek'>
    """
    if mention == name:
        return MatchType.EXACT
    keeps_s = _has_letter_s(mention) or _has_letter_s(name)
    # Names that are equal at one level are equal at all later levels. So the last level is
    # compared first: it rejects most pairs.
    if _last_forms(mention, keeps_s).isdisjoint(_last_forms(name, keeps_s)):
        return None
    if _cased(mention) == _cased(name):
        return MatchType.CASE
    key, other = normalize(mention), normalize(name)
    if key == other:
        return MatchType.PUNCTUATION if key else None
    forms, others = {fold_numbers(key)}, {fold_numbers(other)}
    if forms & others or _as_fractions(mention) == _as_fractions(name):
        return MatchType.NUMBER
    forms.add(_without_hyphens(mention))
    others.add(_without_hyphens(name))
    if forms & others:
        return MatchType.HYPHEN
    for level, fold in _FOLDS:
        forms = {fold(text, keeps_s) for text in forms}
        others = {fold(text, keeps_s) for text in others}
        if forms & others:
            return level
    return None


def may_match_beyond_key(mention: str, name: str) -> bool:
    """Return whether two names may match at a level though their token-bag keys differ."""
    if "-" in mention or "-" in name:
        return True
    return not mention.isascii() and bool(_BEYOND_KEY.search(f"{mention} {name}"))


def token_bag_key(normalized: str) -> str:
    """Return a key that is equal for names that match at any level except ``HYPHEN``.

    It is like OpenRefine's fingerprint, but repeated words are kept, and so is the order of
    numbers.

    >>> token_bag_key("cancers of the liver"), token_bag_key("ii type tumour")
    ('cancer liver', 'tumor type 2')
    """
    # The folds of all levels, applied word by word.
    words = _without_s(fold_numbers(normalized).split())
    return _sorted(arabic_numerals(" ".join(map(_folded_word, words)).split()))


@lru_cache(maxsize=1 << 17)
def _folded_word(word: str) -> str:
    return _greek_names(american_spelling(_plain(_stem(word))))


@lru_cache(maxsize=1 << 13)
def _last_forms(text: str, keeps_s: bool) -> frozenset[str]:
    """Return the forms of a name at the last level, one for each reading of its signs."""
    forms = {fold_numbers(normalize(text)), _without_hyphens(text)}
    for _, fold in _FOLDS:
        forms = {fold(form, keeps_s) for form in forms}
    return frozenset((*forms, f"{_SLASH.pattern}{_as_fractions(text)}"))


def _without_hyphens(text: str) -> str:
    """Return a text without the hyphens inside words; other hyphens become spaces."""
    return fold_numbers(normalize(_HYPHEN.sub("", text)))


def _as_fractions(text: str) -> str:
    """Return a text with ``1/2`` read as one half, unlike in ``HIV 1/2``."""
    return fold_numbers(normalize(_SLASH.sub("\u2044", text)))


def _has_letter_s(text: str) -> bool:
    """Return whether the letter S is a word of a text, as in Protein S."""
    return bool(_CAPITAL_S.search(text)) and not text.isupper()


def _cased(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", part_numbers(text)).casefold().split())


def _by_word(fold_word: Callable[[str], str]) -> Callable[[str, bool], str]:
    return lambda text, _: " ".join(map(fold_word, text.split()))


def _singular(text: str, keeps_s: bool) -> str:
    """Remove the s of the plural and of the possessive."""
    words = text.split()
    return " ".join(map(_stem, words if keeps_s else _without_s(words)))


def _without_s(words: list[str]) -> list[str]:
    if "s" not in words:
        return words
    return [
        word
        for i, word in enumerate(words)
        if word != "s" or not i or _stem(words[i - 1]) in _LETTERED
    ]


def _stem(word: str) -> str:
    if len(word) < 4 or not word.endswith("s") or word.endswith(("ss", "us", "is")):
        return word
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith(("sses", "xes", "ches", "shes")):
        return word[:-2]
    return word[:-1]


def _plain(word: str) -> str:
    if word.isascii():
        return word
    decomposed = unicodedata.normalize("NFD", word)
    # Latin, Greek and Cyrillic only: elsewhere a mark may be half the letter.
    plain = [
        sign
        for i, sign in enumerate(decomposed)
        if not (unicodedata.combining(sign) and i and _bicameral(decomposed[i - 1]))
    ]
    return unicodedata.normalize("NFC", "".join(plain))


def _bicameral(sign: str) -> bool:
    return sign.lower() != sign.upper() or bool(unicodedata.combining(sign))


def _greek_names(word: str) -> str:
    """Replace a Greek letter by its name, as a word of its own."""
    spaced = word
    if not word.isascii():
        spaced = _LONE_GREEK.sub(lambda found: f" {_GREEK.get(found[0], found[0])} ", word)
    spaced = _GREEK_AT_END.sub(r" \g<0>", spaced)
    return word if spaced is word else " ".join(spaced.split())


def _arabic(text: str, _: bool) -> str:
    return " ".join(arabic_numerals(text.split()))


def _sorted_words(text: str, _: bool) -> str:
    return _sorted(text.split())


def _sorted(words: list[str]) -> str:
    kept = [
        word
        for i, word in enumerate(words)
        if word not in _LITTLE_WORDS
        # Only an A at the start of a phrase is an article; the A of hepatitis A is not.
        or (word in _ARTICLES and i and words[i - 1] not in _LITTLE_WORDS)
    ] or words
    numbers = [word for word in kept if not word.isalpha() and any(map(str.isdigit, word))]
    if not numbers:
        return " ".join(sorted(kept))
    # Numbers keep their order: stage 1 of type 2 is not stage 2 of type 1.
    return " ".join(sorted(word for word in kept if word not in numbers) + numbers)


_FOLDS: tuple[tuple[MatchType, Callable[[str, bool], str]], ...] = (
    (MatchType.PLURAL, _singular),
    (MatchType.ACCENTS, _by_word(_plain)),
    (MatchType.SPELLING, _by_word(american_spelling)),
    (MatchType.GREEK, _by_word(_greek_names)),
    (MatchType.NUMERAL, _arabic),
    (MatchType.WORD_ORDER, _sorted_words),
)
"""The match levels of a retrieved candidate, and the fold of each. The first four fold word by
word; ``_folded_word`` does all four at once."""
