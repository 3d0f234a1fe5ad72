"""Read a knowledge base in any of its formats, one small reader a format.

The readers stream: an entity may come in several pieces, a row each, which whoever collects
them joins by id.
"""

from __future__ import annotations

from mirror_rt.knowledge.formats._rows import SkippedRows
from mirror_rt.knowledge.formats.read import KbFormat, read_entities, read_names, sniff

__all__ = ["KbFormat", "SkippedRows", "read_entities", "read_names", "sniff"]
