"""The one reader of tables, and the one list of headings that are understood."""

from __future__ import annotations

from mirror_rt.tables.delimited import RowError
from mirror_rt.tables.table import (
    Cells,
    Kind,
    Notes,
    Table,
    TableOptions,
    cell_text,
    joined_text,
    kind_of,
    parquet_parts,
    told_kind,
)
from mirror_rt.tables.vocabulary import (
    Column,
    column_of,
    heading_key,
    known,
    seem,
    sound_like_headings,
)

__all__ = [
    "Cells",
    "Column",
    "Kind",
    "Notes",
    "RowError",
    "Table",
    "TableOptions",
    "cell_text",
    "column_of",
    "heading_key",
    "joined_text",
    "kind_of",
    "known",
    "parquet_parts",
    "seem",
    "sound_like_headings",
    "told_kind",
]
