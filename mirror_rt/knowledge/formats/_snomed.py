"""Read the descriptions of SNOMED CT, release format 2 (RF2)."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from mirror_rt.errors import InputError
from mirror_rt.knowledge.formats._rows import RowError, SkippedRows, checked, flat
from mirror_rt.tables import Cells, Kind, Table, TableOptions, cell_text, heading_key
from mirror_rt.types import Entity, Name, NameKind

__all__ = ["RF2", "rf2_parser"]

RF2 = frozenset({"effective_time", "active", "module_id"})
_RF2_DESCRIPTION = frozenset({"concept_id", "language_code", "type_id", "term"})
_RF2_FULL_NAME, _RF2_DEFINITION = "900000000000003001", "900000000000550004"
_RF2_IS_A = "116680003"
_SEMANTIC_TAG = re.compile(r" \(([^()]+)\)$")


def rf2_parser(
    table: Table, keys: set[str], skipped: SkippedRows
) -> Callable[[Cells], Entity | None]:
    """Return a parser for the descriptions of SNOMED CT, release format 2 (a snapshot).

    Raises:
        InputError: The table is another file of the release.
    """
    if not keys >= _RF2_DESCRIPTION:
        raise InputError(
            f"{table.shown}: is SNOMED CT (RF2), but not its descriptions; "
            "give the file sct2_Description_Snapshot-…"
        )
    if "description_full" in heading_key(table.shown.rpartition("/")[2]):
        raise InputError(
            f"{table.shown}: holds every version of SNOMED CT; give sct2_Description_Snapshot-…"
        )
    at = {heading_key(heading): i for i, heading in enumerate(table.headings)}
    parents = _rf2_parents(Path(table.shown), skipped)

    def parse(cells: Cells) -> Entity | None:
        texts = {key: cell_text(cells[i], key) for key, i in at.items()}
        if texts["active"].strip() == "0":
            skipped.obsolete += 1
            return None
        if texts["type_id"] == _RF2_DEFINITION:
            skipped.filtered += 1
            return None
        name = checked(texts["term"], "term")
        full = texts["type_id"] == _RF2_FULL_NAME
        tag = _SEMANTIC_TAG.search(name) if full else None
        language = flat(texts["language_code"], "language")
        kind = NameKind.PREFERRED if full else NameKind.EXACT
        return Entity(
            id=checked(texts["concept_id"], "concept id"),
            names=(Name(text=name, kind=kind, language=language),),
            types=(tag[1],) if tag else (),
            parents=parents.get(texts["concept_id"], ()) if full else (),
        )

    return parse


def _rf2_parents(path: Path, skipped: SkippedRows) -> dict[str, tuple[str, ...]]:
    """Read the active "is a" relationships from the file next to the descriptions."""
    found = [p for p in path.parent.glob("sct2_Relationship_Snapshot*") if p.is_file()]
    parents: dict[str, tuple[str, ...]] = {}
    if len(found) == 1:
        table = Table(found[0], options=TableOptions(format=Kind.TSV))
        table.take_headings()
        places = [table.place(h) for h in ("active", "typeId", "sourceId", "destinationId")]
        for number, cells in table.rows():
            if isinstance(cells, RowError):
                skipped.refuse(f"{table.shown}: {table.unit} {number}: {cells}")
                continue
            active, kind, child, parent = (cells[place] for place in places)
            if active == "1" and kind == _RF2_IS_A:
                parents[child] = (*parents.get(child, ()), parent)
    return parents
