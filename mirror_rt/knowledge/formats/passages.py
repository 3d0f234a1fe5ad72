"""Passages: texts to be found by what they say, kept in the store of a knowledge base.

A passage is an entity there: its text, or the pieces of it, are its names, a title is its
preferred name, the text as it was read its description, and metadata its fields.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeAlias

from mirror_rt.errors import ConfigError, InputError
from mirror_rt.knowledge.formats._rows import RowError, SkippedRows, checked, each, flat
from mirror_rt.runtime.sources import Kind, kind_of
from mirror_rt.textfiles import csv_rows, lone_surrogate, numbered_lines
from mirror_rt.types import Entity, Name, NameKind, Passage

__all__ = ["as_entities", "passage_of", "read_passages"]

_LONGEST_FIELD = 200
"""Longer values are no use to filter by, and are left out."""

_Row: TypeAlias = "dict[str, Any]"


def read_passages(path: str | Path, *, skip_bad: SkippedRows | None = None) -> Iterator[Passage]:
    """Read passages: ``id`` and ``text``, perhaps a ``title``; the other fields are metadata.

    Args:
        path: A .jsonl, .csv, .tsv or .parquet file; .gz and .zst too but for Parquet.
        skip_bad: Counts bad rows instead of stopping at the first, and metadata left out: over
            200 characters, objects, lists in lists; None to stop.

    Raises:
        ConfigError: The file is of none of these layouts.
        InputError: It cannot be read, holds no passage, or a row is bad: no id, an id that was
            there before, no text, not UTF-8. The message names the row.
    """
    skipped = skip_bad if skip_bad is not None else SkippedRows(strict=True)
    seen: set[str] = set()

    def parse(row: object) -> Passage:
        passage = _passage(row, skipped)
        if passage.id in seen:
            raise RowError(_repeated(passage.id))
        seen.add(passage.id)
        return passage

    kind = kind_of(path)
    match kind:
        case Kind.JSONL:
            rows = _json_lines(path)
        case Kind.CSV | Kind.TSV:
            rows = _table(path, kind)
        case Kind.PARQUET:
            rows = _parquet(path)
        case Kind.TEXT:
            raise ConfigError(f"{path}: passages are .jsonl, .csv, .tsv or .parquet")
    unit = "row" if kind is Kind.PARQUET else "line"
    yield from each(path, rows, parse, skipped, unit=unit)
    if not seen:
        raise InputError(f"{path}: holds no passage; give rows of id and text")


def as_entities(passages: Iterable[Passage], *, split: int | None = None) -> Iterator[Entity]:
    """Make the entities that stand for passages in a store.

    Args:
        passages: The passages.
        split: Make a name of every so many words, rather than one of the whole text.

    Raises:
        ConfigError: ``split`` is not positive.
        InputError: A passage has no text, the id of one before it, or a lone surrogate.
    """
    if split is not None and split < 1:
        raise ConfigError(f"split must be at least 1 word, got {split}")
    seen: set[str] = set()
    for passage in passages:
        if passage.id in seen:
            raise InputError(_repeated(passage.id))
        seen.add(passage.id)
        if lone_surrogate(passage.text + passage.title) is not None:
            raise InputError(f"passage {passage.id!r}: holds a lone surrogate")
        text, title = flat(passage.text), flat(passage.title)
        if not text:
            raise InputError(f"passage {passage.id!r}: no text")
        words = text.split(" ")
        size = split or len(words)
        pieces = [" ".join(words[i : i + size]) for i in range(0, len(words), size)]
        preferred = [Name(text=title, kind=NameKind.PREFERRED)] if title else []
        yield Entity(
            id=passage.id,
            names=(*preferred, *(Name(text=piece) for piece in pieces)),
            description=passage.text,
            fields=passage.metadata,
        )


def passage_of(entity: Entity) -> Passage:
    """Return the passage that an entity stands for."""
    first = entity.names[0]
    return Passage(
        id=entity.id,
        text=entity.description,
        title=first.text if first.kind is NameKind.PREFERRED else "",
        metadata=entity.fields,
    )


def _repeated(id_: str) -> str:
    return f"the id {id_!r} was there before; each passage needs its own"


def _passage(row: object, skipped: SkippedRows) -> Passage:
    if isinstance(row, RowError):
        raise row
    if isinstance(row, csv.Error):
        raise RowError(f"not CSV ({row})")
    if not isinstance(row, dict):
        raise RowError('not a JSON object such as {"id": …, "text": …}')
    texts = {}
    for key in ("id", "text", "title"):
        value = row.get(key)
        if isinstance(value, int) and not isinstance(value, bool):
            value = str(value)
        if value is not None and not isinstance(value, str):
            raise RowError(f"{key} is not a string")
        texts[key] = value or ""
    if lone_surrogate("".join(texts.values())) is not None:
        raise RowError("not UTF-8")
    if not flat(texts["text"]):
        raise RowError("no text")
    given = [
        (str(key), _value(one))
        for key, values in row.items()
        if key not in texts
        for one in (values if isinstance(values, list) else [values])
    ]
    fields = [(key, value) for key, value in given if value is not None]
    passage = Passage(
        id=checked(texts["id"], "id"),
        text=texts["text"],
        title=flat(texts["title"]),
        metadata=tuple((key, value) for key, value in fields if value),
    )
    skipped.metadata += len(given) - len(fields)
    return passage


def _value(given: object) -> str | None:
    """Return a value of metadata as text, empty where there is none; None if it is no use."""
    match given:
        case None:
            text = ""
        case str():
            text = flat(given, "metadata")
        case bool():
            text = "true" if given else "false"
        case int() | float() | date() | Decimal():  # the last two from Parquet
            text = str(given)
        case _:
            return None
    return text if len(text) <= _LONGEST_FIELD else None


def _json_lines(path: str | Path) -> Iterator[tuple[int, object]]:
    for number, line in numbered_lines(path, strict=False):
        if line.strip():
            try:
                yield number, json.loads(line)
            except (ValueError, RecursionError):
                yield number, None


def _table(path: str | Path, kind: Kind) -> Iterator[tuple[int, object]]:
    lines = numbered_lines(path, strict=False)
    rows: Iterator[tuple[int, list[str] | csv.Error]]
    if kind is Kind.TSV:
        rows = ((number, line.split("\t")) for number, line in lines)
    else:
        rows = csv_rows(line + "\n" for _, line in lines)
    _, header = next(rows, (0, []))
    if isinstance(header, csv.Error) or not {"id", "text"} <= {*header}:
        raise InputError(f"{path}: the first line must name the columns id and text")
    for number, row in rows:
        if isinstance(row, csv.Error) or len(row) == len(header):
            yield number, row if isinstance(row, csv.Error) else dict(zip(header, row, strict=True))
        elif row not in ([], [""]):
            fault = f"{len(row)} columns, the first line has {len(header)}"
            yield number, csv.Error(fault)


def _parquet(path: str | Path) -> Iterator[tuple[int, object]]:
    import pyarrow
    import pyarrow.parquet as pq

    from mirror_rt.knowledge.formats.parquet import decoded

    number = 0
    try:
        with pq.ParquetFile(path) as table:
            for batch in table.iter_batches(batch_size=1_024):
                for row in decoded(batch):
                    number += 1
                    yield number, RowError("not UTF-8") if row is None else row
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except (pyarrow.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"{path}: cannot be read as Parquet after row {number} ({reason})"
        ) from error
