"""Find the long forms of abbreviations in a document."""

from __future__ import annotations

import re

__all__ = ["find_abbreviations"]

_BRACKETS = re.compile(r"\(([^()]{2,200})\)")


def find_abbreviations(document: str) -> dict[str, str]:
    """Find what abbreviations stand for: ``long form (SF)`` or ``SF (long form)``.

    The algorithm of Schwartz and Hearst (2003, "A simple algorithm for identifying
    abbreviation definitions in biomedical text"): every letter of the short form in the long
    one, from right to left, the first at the beginning of a word. The first definition counts.

    >>> find_abbreviations("Muscular dystrophy (MD) is inherited; in MD the muscle …")
    {'MD': 'Muscular dystrophy'}
    """
    found: dict[str, str] = {}
    for match in _BRACKETS.finditer(document):
        inside = re.split(r"[;,]", match.group(1))[0].strip()
        before = re.split(r"[.;:!?]\s", document[: match.start()])[-1].split()
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
    # A long form that holds its short form, or is no longer, defines nothing.
    return "" if short.casefold() in words or len(long) <= len(short) else long
