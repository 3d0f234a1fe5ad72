"""Read objects from JSON lines, or from one array of objects with any line breaks."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import chain
from typing import Any

from mirror_rt.errors import InputError
from mirror_rt.tables.delimited import RowError

__all__ = ["array_rows", "is_sparql", "line_rows", "sparql_rows"]

_NO_OBJECT = 'not a JSON object such as {"id": …, "name": …}'
_TRIMMED = 1 << 20


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {twice!r} is repeated; give a list")
    return made


_DECODER = json.JSONDecoder(object_pairs_hook=_object)


_TERMS = frozenset({"uri", "literal", "typed-literal", "bnode"})
_SPARQL = re.compile(r'\s*\{\s*"head"\s*:\s*\{[^{}]*"vars"')


def is_sparql(text: str) -> bool:
    """Return whether a text starts like the results of a SPARQL query in JSON."""
    return _SPARQL.match(text) is not None


def sparql_rows(
    lines: Iterator[tuple[int, str]], called: str
) -> Iterator[tuple[int, dict[str, Any] | RowError]]:
    """Yield (position from 1, object) of the results of a SPARQL query, which are one object.

    Raises:
        InputError: It is not JSON.
    """
    text = "\n".join(line for _, line in lines)
    try:
        bindings = _DECODER.decode(text)["results"]["bindings"]
        if not isinstance(bindings, list):
            raise TypeError("its bindings are not a list")
    except (ValueError, RecursionError, KeyError, TypeError) as error:
        raise InputError(f"{called}: not the results of a SPARQL query ({error})") from error
    for number, record in enumerate(bindings, 1):
        yield number, _row(record)


def _row(record: object) -> dict[str, Any] | RowError:
    """Return an object with the plain values of RDF terms, as SPARQL writes them."""
    if not isinstance(record, dict):
        return RowError(_NO_OBJECT)
    for key, cell in record.items():
        if cell.__class__ is dict and "value" in cell:
            kind = cell.get("type")
            if isinstance(kind, str) and kind in _TERMS:
                record[key] = cell["value"]
    return record


def line_rows(
    lines: Iterator[tuple[int, str]],
) -> Iterator[tuple[int, dict[str, Any] | RowError | None]]:
    """Yield (line, object or error) of JSON lines; None for a blank line."""
    for number, line in lines:
        if not line.strip():
            yield number, None
            continue
        try:
            record = _DECODER.decode(line)
        except json.JSONDecodeError as error:
            yield number, RowError(f"not JSON ({error.msg} at character {error.pos + 1})")
        except (ValueError, RecursionError) as error:  # too many digits, or nested too deeply
            yield number, RowError(f"not JSON that can be read ({error})")
        else:
            yield number, _row(record)


def array_rows(
    lines: Iterator[tuple[int, str]], called: str
) -> Iterator[tuple[int, dict[str, Any] | RowError]]:
    r"""Yield (position from 1, object or error) of an array, while reading it.

    Args:
        lines: Numbered lines. The first line that is not blank starts with ``[``.
        called: The name of the file in messages.

    After an object that cannot be parsed, reading continues with the next one if each begins a line
    of its own: at the next line with the same indentation.

    Raises:
        InputError: It is not JSON, and the start of the next object is unknown.

    >>> [row for _, row in array_rows(iter([(1, '[{"a": 1},'), (2, '{"a":'), (3, "2}]")]), "x")]
    [{'a': 1}, {'a': 2}]
    """
    first = next(((number, line) for number, line in lines if line.strip()), (1, ""))
    first_line, text = first[0], first[1].lstrip()
    at, number = 1, 0

    def more() -> bool:
        """Read about as much again: parsing a long object after each of its lines would be slow."""
        nonlocal text
        added: list[str] = []
        wanted = len(text) - at
        for _, line in lines:
            added.append(line)
            wanted -= len(line)
            if wanted <= 0:
                break
        text = "\n".join([text, *added])
        return bool(added)

    def fault(place: int, what: str) -> InputError:
        line = first_line + text.count("\n", 0, place)
        return InputError(f"{called}: line {line}: not a JSON array of objects ({what})")

    def following(place: int) -> int:
        """Return where the object after a broken one starts, or the final ]; -1 if unknown."""
        indentation = text[text.rfind("\n", 0, place) + 1 : place]
        if indentation.strip() or not text.startswith("{", place):
            return -1
        if not indentation and text[place + 1 : place + 2] in ("\r", "\n"):
            return -1  # nothing is indented: objects inside others begin lines like these
        begin = re.compile(rf"\n{indentation}(?=\{{)|\n(?=\]\s*\Z)")
        while (found := begin.search(text, place)) is None:
            if not more():
                return -1
        return found.end()

    comma = True  # the start of the file has the same form
    while True:
        while at < len(text) and text[at] in " \t\r\n":
            at += 1
        if at == len(text):
            if not more():
                raise fault(at, "it ends before its ]")
            continue
        if text[at] == "]" and (not comma or number == 0):
            break
        if text[at] == "," and not comma:
            comma, at = True, at + 1
            continue
        if not comma:
            raise fault(at, "no , between two objects")
        try:
            record, end = _DECODER.raw_decode(text, at)
        except json.JSONDecodeError as error:
            cut_off = error.pos >= len(text.rstrip())
            if cut_off and more():
                continue
            wrong = fault(error.pos, error.msg)
            if (after := following(at)) < 0:
                raise wrong from error
            number += 1
            line = first_line + text.count("\n", 0, error.pos)
            yield number, RowError(f"not JSON ({error.msg} in line {line})")
            comma, at = text.startswith("{", after), after
            continue
        except (ValueError, RecursionError) as error:
            raise fault(at, str(error)) from error
        if end == len(text) and not isinstance(record, (dict, list, str)) and more():
            continue  # a number may continue
        number, comma, at = number + 1, False, end
        yield number, _row(record)
        if at > _TRIMMED:
            first_line, text, at = first_line + text.count("\n", 0, at), text[at:], 0
    rest = chain([text[at + 1 :]], (line for _, line in lines))
    if any(line.strip() for line in rest):
        raise fault(at, "more comes after its ]")
