"""Read tables in any format, with one list of known headings."""

from __future__ import annotations

from mirror_rt.tables.cells import cell_text, is_blank, is_null, joined_text
from mirror_rt.tables.delimited import RowError
from mirror_rt.tables.kept import (
    Kept,
    free_names,
    json_cell,
    kept_name,
    unique_names,
    written_text,
)
from mirror_rt.tables.kinds import Kind, TableOptions, detect_kind, kind_of, parquet_parts
from mirror_rt.tables.table import ArrowTable, Cells, Notes, Table, is_arrow
from mirror_rt.tables.vocabulary import (
    Column,
    column_of,
    heading_key,
    known,
    seem,
    sound_like_headings,
)

__all__ = [
    "ArrowTable",
    "Cells",
    "Column",
    "Kept",
    "Kind",
    "Notes",
    "RowError",
    "Table",
    "TableOptions",
    "cell_text",
    "column_of",
    "detect_kind",
    "free_names",
    "heading_key",
    "is_arrow",
    "is_blank",
    "is_null",
    "joined_text",
    "json_cell",
    "kept_name",
    "kind_of",
    "known",
    "parquet_parts",
    "seem",
    "sound_like_headings",
    "unique_names",
    "written_text",
]
