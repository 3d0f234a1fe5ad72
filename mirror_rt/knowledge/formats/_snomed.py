"""Read the descriptions of SNOMED CT, release format 2 (RF2)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from mirror_rt.errors import InputError
from mirror_rt.knowledge.formats._rows import RowError, SkippedRows, checked, flat
from mirror_rt.tables import Cells, FileFormat, Table, TableOptions, cell_text, heading_key
from mirror_rt.types import Entity, Name, NameKind

__all__ = ["RF2", "rf2_parser"]

RF2 = frozenset({"effective_time", "active", "module_id"})
_RF2_DESCRIPTION = frozenset({"concept_id", "language_code", "type_id", "term"})
_RF2_FULL_NAME, _RF2_DEFINITION = "900000000000003001", "900000000000550004"
_RF2_IS_A = "116680003"
_RF2_OTHERS = {
    "description_full": "every version",
    "description_delta": "only the latest changes",
    "text_definition": "the definitions",
}
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
    name = heading_key(table.shown.rpartition("/")[2])
    for part, held in _RF2_OTHERS.items():
        if part in name:
            raise InputError(
                f"{table.shown}: holds {held} of SNOMED CT; give sct2_Description_Snapshot-…"
            )
    at = {heading_key(heading): i for i, heading in enumerate(table.headings)}
    parents = _rf2_parents(Path(table.shown), skipped)
    inactive = _rf2_inactive(Path(table.shown), skipped)

    def parse(cells: Cells) -> Entity | None:
        texts = {key: cell_text(cells[i], key) for key, i in at.items()}
        # The descriptions of an inactive concept stay active.
        if texts["active"].strip() == "0" or texts["concept_id"] in inactive:
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
    parents: dict[str, tuple[str, ...]] = {}
    columns = ("active", "typeId", "sourceId", "destinationId")
    for active, kind, child, parent in _beside(path, "Relationship", columns, skipped):
        if active == "1" and kind == _RF2_IS_A:
            parents[child] = (*parents.get(child, ()), parent)
    return parents


def _rf2_inactive(path: Path, skipped: SkippedRows) -> set[str]:
    """Read the inactive concepts from the file next to the descriptions."""
    found = _beside(path, "Concept", ("id", "active"), skipped)
    return {concept for concept, active in found if active == "0"}


def _beside(
    path: Path, what: str, columns: Sequence[str], skipped: SkippedRows
) -> Iterator[list[str]]:
    """Yield columns of the only snapshot of its kind in the folder of a file, if there is one."""
    found = [p for p in path.parent.glob(f"sct2_{what}_Snapshot*") if p.is_file()]
    if len(found) != 1:
        return
    table = Table(found[0], options=TableOptions(format=FileFormat.TSV))
    table.take_headings()
    places = [table.place(heading) for heading in columns]
    for number, cells in table.rows():
        if isinstance(cells, RowError):
            skipped.refuse(f"{table.shown}: {table.unit} {number}: {cells}")
        else:
            yield [cells[place] for place in places]
