"""Find the long forms of abbreviations in a document, by definition or by initials."""

from __future__ import annotations

import re

__all__ = ["SpelledPhrases", "find_abbreviations"]

_BRACKETS = re.compile(r"\(([^()]{2,200})\)")
_LONGEST_LONG = 1_000
_WORD = re.compile(r"[^\W_]+")
_WITHIN_A_PHRASE = re.compile("[\\s'\u2019/\u2010\u2011-]*")
_LITTLE_WORDS = frozenset(
    {"a", "an", "and", "at", "by", "for", "from", "in", "of", "on", "s", "the", "to", "with"}
)
_LONGEST_SHORT = 5
_LONGEST_IN_CAPITALS = 8


def find_abbreviations(document: str) -> dict[str, str]:
    """Find abbreviations that a document defines as ``long form (SF)`` or ``SF (long form)``.

    This is the algorithm of Schwartz and Hearst (2003, "A simple algorithm for identifying
    abbreviation definitions in biomedical text"). It looks for every letter of the short form in
    the long form, from right to left; the first letter must begin a word. If a short form is
    defined twice, the first definition counts.

    >>> find_abbreviations("Muscular dystrophy (MD) is inherited; in MD the muscle …")
    {'MD': 'Muscular dystrophy'}
    """
    found: dict[str, str] = {}
    for match in _BRACKETS.finditer(document):
        inside = re.split(r"[;,]", match.group(1))[0].strip()
        before = _sentence_before(document, match.start()).split()
        if not before:
            continue
        if _is_short(inside):
            most = min(len(inside) + 5, 2 * len(inside))
            short, long = inside, _long_form(inside, " ".join(before[-most:]))
        elif _is_short(before[-1]):
            short, long = before[-1], _long_form(before[-1], inside)
        else:
            continue
        if long and short not in found:
            found[short] = long
    return found


def _sentence_before(document: str, end: int) -> str:
    # A long form has at most fifteen words. The limit keeps the time linear in the document.
    return re.split(r"[.;:!?]\s", document[max(end - _LONGEST_LONG, 0) : end])[-1]


def _is_short(text: str) -> bool:
    return (
        2 <= len(text) <= 10
        and len(text.split()) <= 2
        and text[0].isalnum()
        and any(sign.isalpha() for sign in text)
        and (any(sign.isupper() for sign in text) or any(sign.isdigit() for sign in text))
    )


def _long_form(short: str, text: str) -> str:
    """Return the shortest end of ``text`` that has the letters of ``short`` in order, or ''."""
    at = len(text)
    for place in range(len(short) - 1, -1, -1):
        letter = short[place].casefold()
        if not letter.isalnum():
            continue
        at -= 1
        while at >= 0 and (
            text[at].casefold() != letter or (place == 0 and at > 0 and text[at - 1].isalnum())
        ):
            at -= 1
        if at < 0:
            return ""
    start = text.rfind(" ", 0, at + 1) + 1
    long = text[start:].strip()
    words = long.casefold().split()
    # A long form that contains its short form, or is not longer than it, defines nothing.
    return "" if short.casefold() in words or len(long) <= len(short) else long


class SpelledPhrases:
    """Finds phrases of a document whose initials, in any order, spell a short form.

    "Myotonic dystrophy" spells DM. The algorithm of Schwartz and Hearst does not find it, as the
    letters follow the Latin word order. Words such as "of" and "the" are ignored. The document is
    split into words at the first call of ``of``.

    >>> SpelledPhrases("Myotonic dystrophy is inherited; DM weakens the muscle").of("DM")
    [('Myotonic dystrophy', 0)]
    """

    def __init__(self, document: str) -> None:
        self._document = document
        self._words: list[tuple[str, int, int, int]] | None = None
        self._by_length: dict[int, dict[str, list[int]]] = {}

    def of(self, short: str) -> list[tuple[str, int]]:
        """Return every occurrence of a matching phrase, with a rank of its certainty.

        The rank is 2 if the short form follows the phrase in brackets, 1 if the initials are in
        the order of the letters, and 0 otherwise.

        A short form has up to five letters, or up to eight if all are capitals. A mention in
        lower case counts as a short form only if the whole document is in lower case.
        """
        letters = short.casefold()
        if not _may_be_short(short) or (short.islower() and not self._document.islower()):
            return []
        words = self._document_words()
        size = len(letters)
        if size not in self._by_length:
            self._by_length[size] = self._windows(size)
        found = []
        for first in self._by_length[size].get("".join(sorted(letters)), ()):
            window = words[first : first + size]
            initials = "".join(word[0] for word in window)
            end = window[-1][2]
            defined = self._document.startswith(f" ({short})", end)
            surely = 2 if defined else int(initials == letters)
            found.append((self._document[window[0][1] : end], surely))
        return found

    def _document_words(self) -> list[tuple[str, int, int, int]]:
        """Return (initial, start, end, segment) of each word that is not ignored."""
        if self._words is None:
            text, end, segment = self._document, 0, 0
            self._words = []
            for word in _WORD.finditer(text):
                segment += _WITHIN_A_PHRASE.fullmatch(text, end, word.start()) is None
                end = word.end()
                folded = word.group().casefold()
                if folded not in _LITTLE_WORDS:
                    self._words.append((folded[0], word.start(), end, segment))
        return self._words

    def _windows(self, size: int) -> dict[str, list[int]]:
        words = self._document_words()
        initials = "".join(word[0] for word in words)
        found: dict[str, list[int]] = {}
        for first in range(len(words) - size + 1):
            if words[first][3] == words[first + size - 1][3]:
                key = "".join(sorted(initials[first : first + size]))
                found.setdefault(key, []).append(first)
        return found


def _may_be_short(text: str) -> bool:
    longest = _LONGEST_IN_CAPITALS if text.isupper() else _LONGEST_SHORT
    return 2 <= len(text) <= longest and text.isalnum() and text.upper() != text.lower()
