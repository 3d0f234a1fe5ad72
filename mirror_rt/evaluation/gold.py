"""Read gold mentions for entity linking: a table with a header, BioSyn's files, or PubTator.

Sources: BioSyn (Sung et al. 2020) for the ``.concept`` layout and for its convention.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TypeAlias

from mirror_rt._count import counted
from mirror_rt.errors import ConfigError, InputError
from mirror_rt.knowledge.formats.pubtator import is_pubtator
from mirror_rt.knowledge.formats.pubtator import read_mentions as read_pubtator
from mirror_rt.knowledge.linking.feedback import decided_rows, is_result, is_review
from mirror_rt.knowledge.linking.inputs import MentionNotes, is_elsewhere
from mirror_rt.tables import (
    Column,
    FileFormat,
    Notes,
    RowError,
    Table,
    TableOptions,
    cell_text,
    joined_text,
    known,
    parquet_parts,
    seem,
)
from mirror_rt.textfiles import Source, StrPath, numbered_lines

__all__ = ["Convention", "Gold", "Query", "read_gold"]

MENTIONS = (Column.TEXT, Column.NAME, Column.TITLE)
NO_ID = frozenset({"", "-1", "-", "NIL", "CUI-less", "None", "nan", "NaN"})


class Convention(Enum):
    """How a ranking is scored.

    ``ENTITY``: an entity counts once, by its best name. ``BIOSYN``: the k nearest *names*
    count, even several of one entity, as in BioSyn, SapBERT and Mirror-BERT. In both, a composite
    mention is right only if all of its parts are.
    """

    ENTITY = "entity"
    BIOSYN = "biosyn"


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """A mention and its right ids.

    Attributes:
        parts: The mention's text; several texts for a composite mention.
        ids: Any of these ids is right (for each part); empty for NIL.
        context: The text around the mention; may be empty.
        document: The text that the mention comes from; may be empty.
    """

    parts: tuple[str, ...]
    ids: frozenset[str]
    context: str = ""
    document: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gold:
    """Gold mentions.

    Attributes:
        queries: The mentions, including those without ids if requested.
        without_id: How many were left out because they have no id.
        remarks: Sentences about skipped parts of a table.
    """

    queries: tuple[Query, ...]
    without_id: int = 0
    remarks: tuple[str, ...] = ()


def read_gold(
    path: StrPath,
    *,
    convention: Convention = Convention.ENTITY,
    mention_column: str | None = None,
    id_column: str | None = None,
    context_column: str | None = None,
    document_column: str | None = None,
    keep_nil: bool = False,
    options: TableOptions | None = None,
) -> Gold:
    r"""Read gold mentions.

    A folder, or a file named ``*.concept``, holds lines ``doc||span||type||mention||ids``
    where a composite mention joins its parts with ``|``. In a PubTator file each mention has its
    document. Anything else is a table of any layout, with headings. Ids are separated by ``|``
    or ``+``; since an id may itself hold such a sign (``NA+1``), what stands in a table's cell,
    and between its ``|``, is right as a whole too. Mentions without an id are left out.

    Of a file of ``link --review`` that was filled in, rows with a decision are gold mentions: a
    rejected one has no id, unless another row says which is right. Another result of ``link`` is
    refused unless ``id_column`` is given, because its ids are not gold.

    Args:
        path: The file, or a folder of ``.concept`` files.
        convention: ``BIOSYN`` also splits a TSV's mentions at ``|``, and every mention at ``+``.
        mention_column: The table's column of mentions; None to detect it by the usual names.
        id_column: The table's column of ids; None to detect it.
        context_column: The table's column of the text around each mention; of PubTator
            ``sentence`` or ``document``.
        document_column: The table's column of the text that each mention is from.
        keep_nil: Whether to keep mentions without an id, as queries without ids.
        options: The layout of the table, if it cannot be detected.

    Raises:
        InputError: The file cannot be read, a row lacks a mention or a column, a column is not
            found, or there is no mention with an id.
        ConfigError: A column is named, and the file has none.
    """
    source = Path(path)
    options = options or TableOptions()
    given = Source.of(path, encoding=options.encoding)
    rows: list[_Row]
    notes = MentionNotes()
    columns = (mention_column, id_column, context_column, document_column)
    folder = source.is_dir() and not parquet_parts(source)
    concept = folder or source.suffix == ".concept"
    if concept and any(columns):
        raise ConfigError(
            f"{source}: .concept files have no named columns; leave --mention-column, "
            "--id-column, --context-column and --document-column out"
        )
    table = not concept
    if folder:
        files = sorted(source.glob("*.concept"))
        if not files:
            raise InputError(f"{source}: no .concept files in this folder")
        rows = [row for file in files for row in _concept_rows(file)]
    elif concept:
        rows = list(_concept_rows(source))
    elif is_pubtator(given):
        if mention_column or id_column or document_column:
            raise ConfigError(
                f"{source}: PubTator has no columns; --context-column takes sentence or document"
            )
        rows = list(_pubtator_rows(given, context_column))
    else:
        rows = list(_table_rows(given, columns, options, notes))
    match convention:
        case Convention.BIOSYN:
            joins = "|+"
        case Convention.ENTITY:
            joins = "" if table else "|"
    queries: list[Query] = []
    for mention, ids, context, document in rows:
        parts = re.split(f"[{joins}]", mention) if joins else [mention]
        wholes = [ids, *ids.split("|")] if table else []
        accepted = frozenset(i.strip() for i in [*wholes, *re.split(r"[|+]", ids)]) - NO_ID
        if document_column:
            notes.elsewhere += is_elsewhere(mention, document)
        if accepted or keep_nil:
            texts = tuple(part.strip() for part in parts if part.strip())
            queries.append(
                Query(parts=texts or (mention,), ids=accepted, context=context, document=document)
            )
    if not queries:
        raise InputError(f"{source}: no mention with an id")
    return Gold(
        queries=tuple(queries),
        without_id=len(rows) - len(queries),
        remarks=tuple(notes.sentences()),
    )


_Row: TypeAlias = tuple[str, str, str, str]
"""Mention, ids, context, document."""


def _concept_rows(path: Path) -> Iterator[_Row]:
    for number, line in numbered_lines(path):
        if not line.strip():
            continue
        fields = line.split("||")
        if len(fields) != 5 or not fields[3].strip():
            raise InputError(
                f"{path}: line {number} is not doc||span||type||mention||ids "
                f"({counted(len(fields), 'field')})"
            )
        yield fields[3].strip(), fields[4].strip(), "", ""


def _pubtator_rows(path: StrPath, context: str | None) -> Iterator[_Row]:
    if context not in {None, "sentence", "document"}:
        raise ConfigError(f"{path}: --context-column takes sentence or document, not {context}")
    for mention in read_pubtator(path):
        around = {None: "", "document": mention.document}.get(context)
        yield (
            mention.text,
            mention.ids.strip(),
            mention.sentence if around is None else around,
            mention.document,
        )


def _table_rows(
    path: StrPath, columns: Sequence[str | None], options: TableOptions, notes: Notes
) -> Iterator[_Row]:
    mention_column, id_column, context_column, document_column = columns
    table = Table(path, options=options, default=FileFormat.TSV, notes=notes)
    table.take_headings()
    if not table.headings:
        if table.head and isinstance(fault := table.head[0][1], RowError):
            raise InputError(f"{table.shown}: {table.unit} {table.head[0][0]}: {fault}")
        raise InputError(f"{table.shown}: is empty; give mentions and their ids")
    more = [
        None if name is None else table.place(name) for name in (context_column, document_column)
    ]
    if id_column is None and is_review(table.headings):
        for row, text, found in decided_rows(table, mention_column):
            try:
                context, document = ("" if i is None else cell_text(row[i], "text") for i in more)
            except RowError as fault:
                raise InputError(f"{table.shown}: {text!r}: {fault}") from fault
            yield text, found, context, document
        return
    if id_column is None and is_result(table.headings):
        raise InputError(
            f"{table.shown}: is a result of link, whose ids nobody has confirmed; give --id-column "
            "with a column of right ids, or a reviewed file of link --review"
        )
    mention = _column(table, mention_column, MENTIONS, "mention")
    ids = _column(table, id_column, (Column.ID,), "id")
    table.only = [mention, ids, *(place for place in more if place is not None)]
    for number, cells in table.rows():
        where = f"{table.shown}: {table.unit} {number}"
        if isinstance(cells, RowError):
            raise InputError(f"{where}: {cells}")
        if table.is_blank(cells):
            continue
        try:
            text = cell_text(cells[mention], "mention")
            found = joined_text(cells[ids], "id")
            context, document = (
                "" if place is None else cell_text(cells[place], "text") for place in more
            )
        except RowError as fault:
            raise InputError(f"{where}: {fault}") from fault
        if not text.strip():
            raise InputError(f"{where} has no mention")
        yield text, found.strip(), context, document


def _column(table: Table, chosen: str | None, columns: Sequence[Column], what: str) -> int:
    if chosen is not None:
        return table.place(chosen)
    found = known(table.headings, *columns)
    if what == "id":
        seeming = seem(table.headings, Column.ID)
        found = found or (seeming if len(seeming) == 1 else [])
    if found:
        return table.place(table.headings[found[0]])
    raise InputError(
        f"{table.shown}: cannot tell the {what} column from the header "
        f"({', '.join(table.headings)}); give --{what}-column"
    )
