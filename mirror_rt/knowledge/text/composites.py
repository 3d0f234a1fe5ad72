"""Split a mention of several things, such as ``breast and ovarian cancer``, into its parts."""

from __future__ import annotations

import re

__all__ = ["composite_parts"]

_JOINTS = re.compile(r"\s*(?:,\s*(?:and|or)\b|,|\band/or\b|\band\b|\bor\b)\s*", re.IGNORECASE)
_NUMBER = re.compile(r"\d+[a-z]?|[ivx]{1,5}|[IVX]{1,5}|[A-Z]")
_OF = re.compile(r"^(.*?\bof(?: the)?) ", re.IGNORECASE)


def composite_parts(mention: str) -> tuple[str, ...]:
    """Split a mention of several things; each part gets the words that all share.

    A mention of one thing is returned as it is.

    >>> composite_parts("breast and ovarian cancer")
    ('breast cancer', 'ovarian cancer')
    >>> composite_parts("cancer of the breast or ovary")
    ('cancer of the breast', 'cancer of the ovary')
    >>> composite_parts("spinocerebellar ataxia 1 and 2")
    ('spinocerebellar ataxia 1', 'spinocerebellar ataxia 2')
    >>> composite_parts("type I or II diabetes")
    ('type I diabetes', 'type II diabetes')
    """
    parts = [part.strip() for part in _JOINTS.split(mention)]
    if len(parts) < 2 or not all(parts):
        return (mention,)
    first, last = parts[0], parts[-1].split()
    shared = _OF.match(first)
    stem, _, number = first.rpartition(" ")
    numbers = [number, *parts[1:-1], last[0]]
    if stem and all(map(_NUMBER.fullmatch, numbers)):
        return tuple(" ".join([stem, one, *last[1:]]) for one in numbers)
    if shared and not any(_OF.match(part) for part in parts[1:]):
        return (first, *(f"{shared.group(1)} {part}" for part in parts[1:]))
    counts = [len(part.split()) for part in parts[:-1]]
    if all(count < len(last) for count in counts):
        # A part of n words replaces the first n words of the last part; the rest is shared.
        heads = [" ".join(last[count:]) for count in counts]
        return (*(f"{part} {head}" for part, head in zip(parts, heads, strict=False)), parts[-1])
    return tuple(parts)
