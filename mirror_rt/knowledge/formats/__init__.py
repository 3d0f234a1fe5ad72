"""Read a knowledge base in any of its formats: tables in ``tables``, others in a reader for each.

To add a format, see "How to add" in docs/design.md. ``write_jsonl`` writes entities.
``ids``, ``passages``, ``pubtator`` and ``sssom`` are for other things than knowledge bases.

The readers stream. An entity may come in several pieces, one for each row; the caller joins them
by id.
"""

from __future__ import annotations

from mirror_rt.knowledge.formats._columns import Columns
from mirror_rt.knowledge.formats._filter import NameFilter
from mirror_rt.knowledge.formats._rows import SkippedRows
from mirror_rt.knowledge.formats.detect import is_entity_file, sniff
from mirror_rt.knowledge.formats.ids import read_ids
from mirror_rt.knowledge.formats.read import given_entities, read_entities, read_names
from mirror_rt.types import KbFormat

__all__ = [
    "Columns",
    "KbFormat",
    "NameFilter",
    "SkippedRows",
    "given_entities",
    "is_entity_file",
    "read_entities",
    "read_ids",
    "read_names",
    "sniff",
]
