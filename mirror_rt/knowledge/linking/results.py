"""What a link says of a mention: one record, written as JSON lines, TSV, Parquet or PubTator."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

__all__ = [
    "COLUMNS",
    "HYBRID_COLUMNS",
    "LEAST",
    "PASSAGE_COLUMNS",
    "WRITERS",
    "context_decided",
    "in_json",
    "in_rows",
    "one_cell",
]

# Each field of a candidate of a mention, its type, and what the best candidates of the parts of
# a composite are summed up by in a row of Parquet: "" leaves it to the list of candidates.
_FIELDS = (
    ("entity_id", "string", "join"),
    ("entity_name", "string", "join"),
    ("matched_name", "string", "join"),
    ("match_type", "string", "join"),
    ("relation", "string", "join"),
    ("score", "float64", "min"),
    ("probability", "float64", "min"),
    ("tied", "bool", "any"),
    ("expanded_form", "string", ""),
    ("context_score", "float64", ""),
)
_ID, _TIED, _EXPANDED = "entity_id", "tied", "expanded_form"
_CONTEXT, _REASON = "context_score", "nil_reason"
_HYBRID = ("dense_score", "lexical_score")
"""Fields of a hybrid search."""

COLUMNS = ("rank", *(name for name, _, _ in _FIELDS), _REASON)
"""Columns of a row that a candidate of a mention has, after the mention."""
HYBRID_COLUMNS = (*COLUMNS, *_HYBRID)
"""The same of a hybrid search."""
PASSAGE_COLUMNS = (
    "rank", "id", "title", "text", "matched_text", "match_type", "score", *_HYBRID, _REASON,
)  # fmt: skip
LEAST = (
    _CONTEXT, _REASON, "relation", _TIED, "rank", _EXPANDED, "match_type", "probability",
    *_HYBRID, "score", "matched_name", "entity_name",
)  # fmt: skip
"""Columns that may go where there is little room, the first one first."""

_CONTROL = re.compile(r"[\x7f-\x9f]")
"""What JSON lets through of them."""
_ROW_GROUP = 16_384


def context_decided(found: Mapping[str, Any]) -> bool:
    """Return whether the context of a mention was compared with its candidates."""
    return any(_CONTEXT in candidate for candidate in found["candidates"])


def in_json(value: object) -> str:
    r"""Return JSON on one line; control characters that a terminal obeys are escaped, all of them.

    >>> in_json("ä \x1b[31m \x9b31m")
    '"ä \\u001b[31m \\u009b31m"'
    """
    text = json.dumps(value, ensure_ascii=False)
    return _CONTROL.sub(lambda sign: f"\\u{ord(sign.group()):04x}", text)


def in_rows(
    found: Mapping[str, Any],
    *,
    subject: str = "mention",
    columns: Sequence[str] = COLUMNS,
) -> Iterator[tuple[str, ...]]:
    """Yield the cells of a row for each candidate of a record; one with the reason if none."""
    if not found["candidates"]:
        reason = found.get(_REASON, "")
        yield (found[subject], *(reason if name == _REASON else "" for name in columns))
    for rank, candidate in enumerate(found["candidates"], start=1):
        fields = {"rank": rank, _REASON: found.get(_REASON), **candidate}
        yield (found[subject], *(_cell(fields.get(name)) for name in columns))


def one_cell(text: str) -> str:
    """Return a text as a cell of TSV may hold it."""
    return " ".join(text.split()) if any(sign in text for sign in "\t\n\r") else text


def _write_jsonl(path: Path, lines: Iterable[str], source: str) -> int:
    with open(path, "w", encoding="utf-8", newline="") as handle:
        handle.writelines(f"{line}\n" for line in lines)
    return 0


def _write_tsv(path: Path, lines: Iterable[str], source: str) -> int:
    with open(path, "w", encoding="utf-8", newline="") as handle:
        handle.write("\t".join(("mention", *COLUMNS)) + "\n")
        for line in lines:
            for row in in_rows(json.loads(line)):
                handle.write("\t".join(map(one_cell, row)) + "\n")
    return 0


def _write_parquet(path: Path, lines: Iterable[str], source: str) -> int:
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = {"string": pa.string(), "float64": pa.float64(), "bool": pa.bool_()}
    fields = [(name, types[kind]) for name, kind, _ in _FIELDS]
    best = [(name, types[kind]) for name, kind, summed in _FIELDS if summed]
    candidates = pa.list_(pa.struct(fields))
    schema = pa.schema(
        [("mention", pa.string()), *best, (_REASON, pa.string()), ("candidates", candidates)]
    )
    remaining = iter(lines)
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        while some := [_flat(json.loads(line)) for line in islice(remaining, _ROW_GROUP)]:
            writer.write_table(pa.Table.from_pylist(some, schema=schema))
    return 0


def _write_pubtator(path: Path, lines: Iterable[str], source: str) -> int:
    from mirror_rt.knowledge.formats.pubtator import NO_ID, with_ids

    undecided = 0

    def ids() -> Iterator[str]:
        nonlocal undecided
        for line in lines:
            best = _best(json.loads(line))
            undecided += any(c[_TIED] and _CONTEXT not in c for c in best)
            yield "|".join(c[_ID] for c in best) or NO_ID

    with open(path, "wb") as handle:
        handle.writelines(with_ids(source, ids()))
    return undecided


WRITERS: dict[str, Callable[[Path, Iterable[str], str], int]] = {
    ".jsonl": _write_jsonl,
    ".tsv": _write_tsv,
    ".parquet": _write_parquet,
    ".pubtator": _write_pubtator,
}
"""By the ending of a file: what writes it, given lines of JSON, and the source of the mentions.

Each returns of how many mentions the file has one of several tied ids.
"""


def _best(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the best candidate of each part of a mention: most often of the one there is."""
    best: dict[str, dict[str, Any]] = {}
    for candidate in found["candidates"]:
        best.setdefault(candidate[_EXPANDED], candidate)
    return list(best.values())


def _flat(found: dict[str, Any]) -> dict[str, Any]:
    """Return a row of Parquet, with the parts of a composite together."""
    row, best = dict(found), _best(found)
    for name, _, summed in _FIELDS if best else ():
        values = [c[name] for c in best if c.get(name) is not None]
        match summed:
            case "join":
                row[name] = "|".join(values)
            case "min":
                row[name] = min(values, default=None)
            case "any":
                row[name] = any(values)
            case _:
                pass
    return row


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)
