"""Read tables in any format, with one list of known headings."""

from __future__ import annotations

from mirror_rt.tables.cells import cell_text, is_blank, is_null, joined_text
from mirror_rt.tables.delimited import RowError
from mirror_rt.tables.file_formats import (
    FileFormat,
    TableOptions,
    detect_format,
    format_of,
    parquet_parts,
)
from mirror_rt.tables.kept import (
    Kept,
    free_names,
    json_cell,
    kept_name,
    unique_names,
    written_text,
)
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
    "FileFormat",
    "Kept",
    "Notes",
    "RowError",
    "Table",
    "TableOptions",
    "cell_text",
    "column_of",
    "detect_format",
    "format_of",
    "free_names",
    "heading_key",
    "is_arrow",
    "is_blank",
    "is_null",
    "joined_text",
    "json_cell",
    "kept_name",
    "known",
    "parquet_parts",
    "seem",
    "sound_like_headings",
    "unique_names",
    "written_text",
]
