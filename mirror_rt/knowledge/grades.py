"""How alike two names are in writing, in steps: from letter for letter to the same words.

Plural and word order follow English; on other languages they do little, and no harm: both
names are folded alike.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from mirror_rt.knowledge.normalise import normalise
from mirror_rt.types import How, NameKind

__all__ = ["grade", "is_loose", "loose_key", "number_tokens"]

_LITTLE_WORDS = frozenset({"of", "the", "a", "an", "in", "with", "to", "for", "and", "s"})
_NUMBER = re.compile(r"(?<!\S)(?:\S*\d\S*|[ivx]{1,5}|[a-h])(?!\S)")


def grade(mention: str, name: str) -> How | None:
    """Return the strictest step at which two names are the same, or None.

    >>> grade("Cancers of the liver", "liver cancer")
    <How.WORD_ORDER: 'normalised-word-order'>
    """
    if mention == name:
        return How.EXACT
    if _cased(mention) == _cased(name):
        return How.CASE
    mine, other = normalise(mention), normalise(name)
    if mine == other:
        return How.PUNCTUATION if mine else None
    if _singular(mine) == _singular(other):
        return How.PLURAL
    if _plain(mine) == _plain(other):
        return How.ACCENTS
    if loose_key(mine) == loose_key(other):
        return How.WORD_ORDER
    return None


def loose_key(normalised: str) -> str:
    """Return what all names have in common that differ in plural, accents or word order only.

    >>> loose_key("cancers of the liver")
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


def is_loose(kind: NameKind) -> bool:
    """Tell whether a kind of name promises less than the same meaning."""
    # Not a set: hashing an enum takes longer than three comparisons.
    return kind is NameKind.BROAD or kind is NameKind.NARROW or kind is NameKind.RELATED


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
