"""The level at which two names match in writing: from letter for letter to the same words.

Plural and word order follow English. On other languages they change little, and do no harm:
both names are folded in the same way.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from mirror_rt.knowledge.text.normalize import normalize
from mirror_rt.types import MatchType

__all__ = ["match_level", "number_tokens", "token_bag_key"]

_LITTLE_WORDS = frozenset({"of", "the", "a", "an", "in", "with", "to", "for", "and", "s"})
_NUMBER = re.compile(r"(?<!\S)(?:\S*\d\S*|[ivx]{1,5}|[a-h])(?!\S)")


def match_level(mention: str, name: str) -> MatchType | None:
    """Return the strictest level at which two names are the same, or None.

    >>> match_level("Cancers of the liver", "liver cancer")
    <MatchType.WORD_ORDER: 'word_order'>
    """
    if mention == name:
        return MatchType.EXACT
    if _cased(mention) == _cased(name):
        return MatchType.CASE
    mine, other = normalize(mention), normalize(name)
    if mine == other:
        return MatchType.PUNCTUATION if mine else None
    if _singular(mine) == _singular(other):
        return MatchType.PLURAL
    if _plain(mine) == _plain(other):
        return MatchType.ACCENTS
    if token_bag_key(mine) == token_bag_key(other):
        return MatchType.WORD_ORDER
    return None


def token_bag_key(normalised: str) -> str:
    """Return the key that names share if they differ in plural, accents or word order only.

    As OpenRefine's fingerprint, but with repeated words kept.

    >>> token_bag_key("cancers of the liver")
    'cancer liver'
    """
    words = _plain(normalised).split()
    kept = [word for word in words if word not in _LITTLE_WORDS]
    return " ".join(sorted(kept or words))


@lru_cache(maxsize=1 << 16)
def number_tokens(normalised: str) -> frozenset[str]:
    """Return the tokens that number a thing: digits, Roman numerals, single letters to h.

    >>> sorted(number_tokens("usher syndrome type 2a iv"))
    ['2a', 'iv']
    """
    return frozenset(_NUMBER.findall(normalised))


def _cased(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _singular(normalised: str) -> str:
    """Take the s of the plural and of the possessive away."""
    return " ".join(_stem(word) for word in normalised.split() if word != "s")


def _stem(word: str) -> str:
    if len(word) < 4 or not word.endswith("s") or word.endswith(("ss", "us", "is")):
        return word
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith(("sses", "xes", "ches", "shes")):
        return word[:-2]
    return word[:-1]


def _plain(normalised: str) -> str:
    if normalised.isascii():
        return _singular(normalised)
    decomposed = unicodedata.normalize("NFD", normalised)
    # Latin, Greek and Cyrillic only: elsewhere a mark may be half the letter.
    plain = [
        sign
        for i, sign in enumerate(decomposed)
        if not (unicodedata.combining(sign) and i and _bicameral(decomposed[i - 1]))
    ]
    return _singular(unicodedata.normalize("NFC", "".join(plain)))


def _bicameral(sign: str) -> bool:
    return sign.lower() != sign.upper() or bool(unicodedata.combining(sign))
