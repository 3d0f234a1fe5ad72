"""Write the rows of a result to a file: one writer for each format.

To add a format, write a function that takes the path, the rows and the source of the mentions, and
add it to ``WRITERS``.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from mirror_rt.knowledge.linking.results import ROW_GROUP, Rows, best_candidates
from mirror_rt.tables import written_text
from mirror_rt.types import LinkStatus, MatchType, Relation

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["SSSOM", "WRITERS", "ending_of"]


def _write_jsonl(path: Path, rows: Rows, source: str) -> None:
    with open(path, "w", encoding="utf-8", newline="") as handle:
        handle.writelines(f"{line}\n" for line in rows.json_lines())


def _write_csv(path: Path, rows: Rows, source: str, delimiter: str = ",") -> None:
    import pyarrow as pa
    import pyarrow.csv as pc

    def as_text(batch: pa.RecordBatch) -> pa.RecordBatch:
        return pa.RecordBatch.from_arrays([*map(_text_column, batch.columns)], names=rows.names)

    with open(path, "wb") as handle:
        if rows.layout.bom:
            handle.write(codecs.BOM_UTF8)
        empty = as_text(pa.RecordBatch.from_pylist([], schema=rows.schema(as_text=True)))
        options = pc.WriteOptions(delimiter=delimiter)
        with pc.CSVWriter(handle, empty.schema, write_options=options) as writer:
            for batch in rows.batches(as_text=True):
                writer.write_batch(as_text(batch))


def _write_tsv(path: Path, rows: Rows, source: str) -> None:
    _write_csv(path, rows, source, "\t")


def _write_xlsx(path: Path, rows: Rows, source: str) -> None:
    from mirror_rt.tables.excel import write_xlsx

    def cells() -> Iterator[tuple[object, ...]]:
        for batch in rows.batches(as_text=True):
            columns = [_sheet_column(column).to_pylist() for column in batch.columns]
            yield from zip(*columns, strict=True)

    write_xlsx(path, rows.names, cells())


def _write_parquet(path: Path, rows: Rows, source: str) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = rows.schema()
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        waiting: list[pa.RecordBatch] = []
        for batch in rows.batches():
            waiting.append(batch)
            if sum(some.num_rows for some in waiting) >= ROW_GROUP:
                writer.write_table(pa.Table.from_batches(waiting))
                waiting = []
        writer.write_table(pa.Table.from_batches(waiting, schema=schema))


def _write_pubtator(path: Path, rows: Rows, source: str) -> None:
    from mirror_rt.knowledge.formats.pubtator import NO_ID, with_ids

    def ids() -> Iterator[str]:
        for found in rows.records():
            linked = found["status"] == LinkStatus.LINKED.value
            best = best_candidates(found) if linked else []
            yield "|".join(candidate["entity_id"] for candidate in best) or NO_ID

    with open(path, "wb") as handle:
        handle.writelines(with_ids(source, ids()))


def _write_sssom(path: Path, rows: Rows, source: str) -> None:
    from mirror_rt.knowledge.formats.sssom import SssomMapping, justification, write_sssom

    def mappings() -> Iterator[SssomMapping]:
        for found in rows.records():
            if found["status"] != LinkStatus.LINKED.value:
                continue
            # Each part of a composite has its own link. Of tied entities, each has a row.
            tops = {c["expanded_form"]: c for c in reversed(found["candidates"])}
            for one in found["candidates"]:
                first = tops[one["expanded_form"]]
                equal = one["probability"] == first["probability"]
                if one is first or (one["tied"] and first["tied"] and equal):
                    yield SssomMapping(
                        subject_label=one["expanded_form"] or found["mention"],
                        relation=Relation(one["relation"]),
                        object_id=one["entity_id"],
                        object_label=one["entity_name"],
                        justification=justification(MatchType(one["match_type"])),
                        confidence=one["probability"],
                        score=one["score"],
                        match_strings=(one["matched_name"],),
                    )

    write_sssom(path, mappings(), comment=f"links of {source}")


SSSOM = ".sssom.tsv"


def ending_of(path: Path) -> str:
    """Return the ending of a path that decides the format.

    >>> ending_of(Path("a.b.TSV")), ending_of(Path("links.sssom.tsv"))
    ('.tsv', '.sssom.tsv')
    """
    return SSSOM if path.name.lower().endswith(SSSOM) else path.suffix.lower()


WRITERS: dict[str, Callable[[Path, Rows, str], None]] = {
    ".csv": _write_csv,
    ".tsv": _write_tsv,
    ".jsonl": _write_jsonl,
    ".parquet": _write_parquet,
    ".xlsx": _write_xlsx,
    ".pubtator": _write_pubtator,
    SSSOM: _write_sssom,
}
"""The writer for each file ending; it is called with the rows and the source of the mentions."""


def _text_column(column: pa.Array) -> pa.Array:
    """Convert a column for CSV and sheets: numbers stay, anything else becomes text."""
    import pyarrow as pa

    kind = column.type
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_string(kind):
        return column
    return pa.array(
        [None if c is None else written_text(c) for c in column.to_pylist()], pa.string()
    )


def _sheet_column(column: pa.Array) -> pa.Array:
    """Convert a column for sheets: dates, times and booleans stay too; time zones are dropped."""
    import pyarrow as pa
    import pyarrow.types as of

    kind = column.type
    if of.is_timestamp(kind) and kind.tz is None:
        return column.cast(pa.timestamp("us"), safe=False)
    if of.is_time(kind):
        return column.cast(pa.time64("us"), safe=False)
    if of.is_decimal(kind):
        return column.cast(pa.float64())
    return column if of.is_boolean(kind) or of.is_date(kind) else _text_column(column)
