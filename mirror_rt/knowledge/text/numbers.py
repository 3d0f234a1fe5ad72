"""Numbers in names: with their units, as fractions, as Roman numerals."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache

__all__ = ["arabic_numerals", "fold_numbers", "number_tokens"]

_UNITS = {
    **{unit: unit for unit in (
        "kg g mg ug ng l dl cl ml ul km m cm mm um nm lb oz ft kb mb gb tb w kw mw kv mv v ma mah "
        "hz khz mhz ghz j kj cal kcal mol mmol iu h min s ms d wk mo yr pcs pk ct pt"
    ).split()},
    **dict.fromkeys(("kgs", "kilo", "kilos", "kilogram", "kilograms"), "kg"),
    **dict.fromkeys(("gm", "gms", "gr", "gram", "grams"), "g"),
    **dict.fromkeys(("mgs", "milligram", "milligrams"), "mg"),
    **dict.fromkeys(("mcg", "μg", "microgram", "micrograms"), "ug"),
    **dict.fromkeys(("lt", "ltr", "ltrs", "liter", "liters", "litre", "litres"), "l"),
    **dict.fromkeys(("mls", "milliliter", "milliliters", "millilitre", "millilitres"), "ml"),
    **dict.fromkeys(("cms", "centimeter", "centimeters", "centimetre", "centimetres"), "cm"),
    **dict.fromkeys(("millimeter", "millimeters", "millimetre", "millimetres"), "mm"),
    **dict.fromkeys(("meter", "meters", "metre", "metres"), "m"),
    **dict.fromkeys(("lbs", "pound", "pounds"), "lb"),
    **dict.fromkeys(("hr", "hrs", "hour", "hours"), "h"),
    **dict.fromkeys(("mins", "minute", "minutes"), "min"),
    **dict.fromkeys(("sec", "secs", "second", "seconds"), "s"),
    **dict.fromkeys(("yrs", "year", "years"), "yr"),
    "ounce": "oz", "ounces": "oz", "pc": "pcs", "μl": "ul", "μm": "um", "weeks": "wk", "week": "wk",
    "wks": "wk", "months": "mo", "month": "mo", "days": "d", "day": "d",
}  # fmt: skip
"""Spellings of units, and the symbol of each (SI brochure; trade use)."""

_DIGIT = re.compile(r"\d")
_LETTER_THEN_DIGIT = re.compile(r"(?<=[^\W\d_])(?<!\dx)(?=\d)")
_TIMES = re.compile(r"(?<=\d) ?[x×] ?(?=\d)")
_FRACTION = re.compile(r"(?<!\S)(?:(\d+) )?(\d+)⁄(\d+)(?![\d⁄])")
_UNIT = re.compile(
    r"(?<=\d) ?("
    + "|".join(sorted(_UNITS, key=len, reverse=True))
    + r"|[^\W\d_x])(?![^\W\d_]|[^\s]*\d)"
)
_NUMBER = re.compile(r".*\d.*|[a-h]")
_ROMAN = {
    "i": 1, "ii": 2, "iii": 3, "iv": 4, "v": 5, "vi": 6, "vii": 7, "viii": 8, "ix": 9, "x": 10,
    "xi": 11, "xii": 12, "xiii": 13, "xiv": 14, "xv": 15, "xvi": 16, "xvii": 17, "xviii": 18,
    "xix": 19, "xx": 20,
}  # fmt: skip
_ROMAN_AND_LETTER = re.compile(r"(i{2,3}|vi{2,3})([abc])")
_COUNTED = frozenset({"type", "stage", "grade", "class", "factor", "phase"})
"""After these words x is ten; elsewhere it is more often the chromosome."""
_MOST_DECIMALS = 3


def fold_numbers(normalized: str) -> str:
    """Write numbers in one way: joined to a unit or letter, separated from words.

    Different numbers stay different. ``½`` becomes 0.5; a fraction with more than three decimals
    stays as it is.

    >>> fold_numbers("sugar 1 kg"), fold_numbers("sugar 2 x 500g")
    ('sugar 1kg', 'sugar 2x500g')
    >>> fold_numbers("vitamin b12"), fold_numbers("type 2 a")
    ('vitamin b 12', 'type 2a')
    """
    if not _DIGIT.search(normalized):
        return normalized
    text = _LETTER_THEN_DIGIT.sub(" ", normalized)
    text = text if "⁄" not in text else _FRACTION.sub(_decimal, text)
    text = _TIMES.sub("x", text)
    return _UNIT.sub(lambda found: _UNITS.get(found[1], found[1]), text)


def _decimal(found: re.Match[str]) -> str:
    whole, part, of = found.groups()
    value = Fraction(int(part), int(of)) if int(of) else Fraction(1)
    thousandths = value * 10**_MOST_DECIMALS
    if value >= 1 or thousandths.denominator > 1:
        return found[0]
    decimals = f"{thousandths.numerator:0{_MOST_DECIMALS}}".rstrip("0") or "0"
    return f"{whole or 0} {decimals}"


def arabic_numerals(words: Sequence[str]) -> list[str]:
    """Write Roman numerals up to 20 as Arabic ones.

    >>> arabic_numerals(["type", "iia", "factor", "x"]), arabic_numerals(["fragile", "x"])
    (['type', '2a', 'factor', '10'], ['fragile', 'x'])
    """
    found = []
    for i, word in enumerate(words):
        if word[0] not in "ivx":
            found.append(word)
            continue
        value = _ROMAN.get(word)
        if value is not None and (word != "x" or (i and words[i - 1] in _COUNTED)):
            found.append(str(value))
        elif both := _ROMAN_AND_LETTER.fullmatch(word):
            found.append(f"{_ROMAN[both[1]]}{both[2]}")
        else:
            found.append(word)
    return found


@lru_cache(maxsize=1 << 16)
def number_tokens(normalized: str) -> frozenset[str]:
    """Return the tokens that are numbers: digits, Roman numerals, single letters from a to h.

    The way of writing does not matter: ``1 kg`` equals ``1kg``, and ``ii`` equals ``2``.

    >>> sorted(number_tokens("usher syndrome type 2a iv"))
    ['2a', '4']
    """
    words = arabic_numerals(fold_numbers(normalized).split())
    return frozenset(word for word in words if word == "x" or _NUMBER.fullmatch(word))
