"""Read gold mentions for entity linking: a table with a header, or BioSyn's ``.concept`` files.

Sources: BioSyn (Sung et al. 2020) for the ``.concept`` layout and for its convention.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from mirror_rt.errors import ConfigError, InputError
from mirror_rt.runtime.sources import Kind, columns_of, kind_of, read_rows
from mirror_rt.textfiles import numbered_lines

__all__ = ["Convention", "Gold", "Query", "read_gold"]

MENTION_COLUMNS = ("mention", "title", "query", "text", "name", "term", "string")
ID_COLUMNS = ("id", "ids", "entity_id", "gold", "gold_id", "concept_id", "concept", "cui")
NO_ID = frozenset({"", "-1", "-", "NIL", "CUI-less", "None", "nan", "NaN"})


class Convention(Enum):
    """How a ranking is judged.

    ``ENTITY``: an entity counts once, by its best name. ``BIOSYN``: the k nearest *names*
    count, whatever they belong to, as in BioSyn, SapBERT and Mirror-BERT. Either way a
    composite mention is right only if each of its parts is.
    """

    ENTITY = "entity"
    BIOSYN = "biosyn"


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """A mention and the ids that are right for it.

    Attributes:
        parts: The mention's text; several texts for a composite mention.
        ids: Any of these ids is right (for each part).
    """

    parts: tuple[str, ...]
    ids: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gold:
    """Gold mentions, and how many were left out because they have no id."""

    queries: tuple[Query, ...]
    without_id: int = 0


def read_gold(
    path: str | Path,
    *,
    convention: Convention = Convention.ENTITY,
    mention_column: str | None = None,
    id_column: str | None = None,
    keep_nil: bool = False,
) -> Gold:
    r"""Read gold mentions.

    A folder, or a file named ``*.concept``, holds lines ``doc||span||type||mention||ids``
    where a composite mention joins its parts with ``|``. Anything else is a table: CSV, JSON
    lines or Parquet by its name, else tab-separated with one header line. Ids are separated
    by ``|`` or ``+``; since an id may itself hold such a sign (``NA+1``), what stands in a
    table's cell, and between its ``|``, is right as a whole too. Mentions without an id are
    left out.

    Args:
        path: The file, or a folder of ``.concept`` files.
        convention: ``BIOSYN`` also splits a TSV's mentions at ``|``, and every mention at ``+``.
        mention_column: The table's column of mentions; looked for among the usual names if None.
        id_column: The table's column of ids; likewise.
        keep_nil: Whether mentions without an id are kept, as queries without ids.

    Raises:
        InputError: The file cannot be read, a row lacks a mention or a column, a column is not
            found, or there is no mention with an id.
        ConfigError: A column is named, and the file has none.
    """
    source = Path(path)
    rows: list[tuple[str, str]]
    if (mention_column or id_column) and (source.is_dir() or source.suffix == ".concept"):
        raise ConfigError(
            f"{source}: .concept files have no named columns; "
            "leave --mention-column and --id-column away"
        )
    if source.is_dir():
        files = sorted(source.glob("*.concept"))
        if not files:
            raise InputError(f"{source}: no .concept files in this folder")
        rows = [row for file in files for row in _concept_rows(file)]
        table = False
    elif source.suffix == ".concept":
        rows, table = list(_concept_rows(source)), False
    else:
        rows = list(_table_rows(source, mention_column, id_column))
        table = True
    match convention:
        case Convention.BIOSYN:
            joins = "|+"
        case Convention.ENTITY:
            joins = "" if table else "|"
    queries: list[Query] = []
    for mention, ids in rows:
        parts = re.split(f"[{joins}]", mention) if joins else [mention]
        wholes = [ids, *ids.split("|")] if table else []
        accepted = frozenset(i.strip() for i in [*wholes, *re.split(r"[|+]", ids)]) - NO_ID
        if accepted or keep_nil:
            texts = tuple(part.strip() for part in parts if part.strip())
            queries.append(Query(parts=texts or (mention,), ids=accepted))
    if not queries:
        raise InputError(f"{source}: no mention with an id")
    return Gold(queries=tuple(queries), without_id=len(rows) - len(queries))


def _concept_rows(path: Path) -> Iterator[tuple[str, str]]:
    for number, line in numbered_lines(path):
        if not line.strip():
            continue
        fields = line.split("||")
        if len(fields) != 5 or not fields[3].strip():
            raise InputError(
                f"{path}: line {number} is not doc||span||type||mention||ids ({len(fields)} fields)"
            )
        yield fields[3].strip(), fields[4].strip()


def _table_rows(
    path: Path, mention_column: str | None, id_column: str | None
) -> Iterator[tuple[str, str]]:
    if kind_of(path) not in {Kind.TEXT, Kind.TSV}:
        header = columns_of(path)
        mention = header[_column(path, header, mention_column, MENTION_COLUMNS, "mention")]
        ids = header[_column(path, header, id_column, ID_COLUMNS, "id")]
        for number, (text, found) in enumerate(read_rows(path, column=mention, id_column=ids), 1):
            if not text.strip():
                raise InputError(f"{path}: row {number} has no mention")
            yield text, found.strip()
        return
    lines = numbered_lines(path)
    header = next(lines, (1, ""))[1].split("\t")
    mention_at = _column(path, header, mention_column, MENTION_COLUMNS, "mention")
    id_at = _column(path, header, id_column, ID_COLUMNS, "id")
    for number, line in lines:
        if not line.strip():
            continue
        fields = line.split("\t")
        if len(fields) <= max(mention_at, id_at):
            raise InputError(
                f"{path}: line {number} has {len(fields)} columns, the header has {len(header)}"
            )
        if not fields[mention_at].strip():
            raise InputError(f"{path}: line {number} has no mention")
        yield fields[mention_at], fields[id_at].strip()


def _column(
    path: Path, header: Sequence[str], asked: str | None, usual: tuple[str, ...], what: str
) -> int:
    names = [name.strip().casefold() for name in header]
    if asked is not None:
        if asked.casefold() in names:
            return names.index(asked.casefold())
        raise InputError(f"{path}: no column {asked!r}; its header is: {', '.join(header)}")
    for name in usual:
        if name in names:
            return names.index(name)
    guesses = [i for i, name in enumerate(names) if what == "id" and name.endswith("_id")]
    if len(guesses) == 1:
        return guesses[0]
    raise InputError(
        f"{path}: cannot tell the {what} column from the header ({', '.join(header)}); "
        f"give --{what}-column"
    )
