"""Normalize names: two names with equal normalized forms are an exact match."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

__all__ = ["normalize", "part_numbers"]

_KEPT = frozenset("#%&*@+")
"""ASCII signs that carry meaning in names: C#, 5%, A&E, HLA-B*27, Na+."""

_AFTER_A_NUMBER = re.compile(
    r"(?<=\d)(?=[\u00b2\u00b3\u00b9\u00bc-\u00be\u2070-\u2079\u2080-\u2089\u2150-\u215f\u2189])"
)
"""Where a fraction or an index follows a number: 1½ is not 11⁄2, and 10² is not 102."""


class _Separators(dict[int, str | None]):
    """Maps a code point to a space (a separator), to nothing (invisible) or to itself.

    It is filled as characters come: most texts use about a hundred of a million code points.
    """

    def __missing__(self, code: int) -> str | None:
        sign = chr(code)
        value: str | None = sign
        match unicodedata.category(sign):
            case "Pc" | "Pd" | "Ps" | "Pe" | "Pi" | "Pf" | "Po" | "Cc" | "Zs" | "Zl" | "Zp":
                value = sign if sign in _KEPT else " "
            case "Cf":
                value = None  # soft hyphens, joiners, direction marks: not seen, not meant
            case "Sk" if code < 128:
                value = " "  # ` and ^, typed for an apostrophe or nothing
            case _:
                pass
        self[code] = value
        return value


_SEPARATORS = _Separators()


@lru_cache(maxsize=1 << 12)
def normalize(text: str) -> str:
    r"""Fold Unicode forms, case, punctuation and spaces.

    NFKC and case folding are repeated until nothing changes (Unicode's caseless matching).
    Punctuation, except ``#%&*@+``, and spaces of every kind become one space. Invisible
    characters are removed. Accents and other combining marks stay, as they distinguish names.

    >>> normalize("  Ataxia–Telangiectasia,\tType\u00a01 ")
    'ataxia telangiectasia type 1'
    """
    if text.isascii():
        return " ".join(text.lower().translate(_SEPARATORS).split())
    text = part_numbers(text)
    while True:
        folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
        folded = " ".join(folded.translate(_SEPARATORS).split())
        if folded == text:
            return folded
        text = folded


def part_numbers(text: str) -> str:
    """Put a space between a number and a following fraction or index; NFKC would join them."""
    return text if text.isascii() else _AFTER_A_NUMBER.sub(" ", text)
