"""``mirror-rt embed``: strings to vectors."""

from __future__ import annotations

import os
import time
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mirror_rt._count import counted

from . import engine as engines
from . import inputs, kb_source, output, progress
from .file_options import ROWS, FileOptions, with_file_options

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mirror_rt.knowledge.formats import SkippedRows
    from mirror_rt.tables import TableOptions
    from mirror_rt.textfiles import Source


class Dtype(Enum):
    """The types of stored numbers; as in the runtime, without importing it."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    INT8 = "int8"
    BINARY = "binary"


@with_file_options(*ROWS)
def embed(
    bundle: Annotated[Path, typer.Argument(help="A bundle, made by mirror-rt export.")],
    texts: Annotated[
        str,
        typer.Argument(
            help="One string a line, or .csv, .tsv, .xlsx, .jsonl, .parquet, or an ontology "
            "(.obo, .owl …) or a table of ids, names and aliases, of which every name is "
            "embedded; - is stdin."
        ),
    ],
    out: Annotated[
        Path,
        typer.Option("--out", "-o", help="A .npy or .parquet file, or a folder of Parquet shards."),
    ],
    column: Annotated[str | None, typer.Option(help="Column or field of the text.")] = None,
    *,
    file_options: FileOptions,
    id_column: Annotated[str | None, typer.Option(help="Column or field of an id to keep.")] = None,
    names: Annotated[
        bool,
        typer.Option("--names", help="TEXTS is a table of entities: embed all their names."),
    ] = False,
    dtype: Annotated[Dtype, typer.Option(help="How numbers are stored.")] = Dtype.FLOAT32,
    dims: Annotated[
        int | None, typer.Option(min=1, help="Keep this many leading numbers (matryoshka models).")
    ] = None,
    no_text: Annotated[bool, typer.Option("--no-text", help="Leave the texts out.")] = False,
    threads: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Cores to use, per worker with ray; by default all.",
            rich_help_panel=engines.PANEL,
        ),
    ] = None,
    engine: engines.EngineOption = engines.EngineKind.LOCAL,
    address: engines.AddressOption = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Ray workers; by default as many as fit.",
            rich_help_panel=engines.PANEL,
        ),
    ] = None,
    force: output.ForceOption = False,
) -> None:
    """Write one vector for each row of a file, in order.

    An empty string gets a row too. After a kill, the same command continues the job. With a
    changed input, a folder computes only the new strings.
    """
    if threads is not None:
        # The tokenizer sets the size of its thread pool at its first use.
        os.environ.setdefault("RAYON_NUM_THREADS", str(threads))
    from mirror_rt.errors import ConfigError
    from mirror_rt.runtime import Encoder, embedding, sources, storage
    from mirror_rt.textfiles import Source

    made_by = engines.chosen(engine, address=address, workers=workers, threads=threads)
    if made_by is None and workers is not None:
        raise ConfigError("--workers: is for a Ray cluster; give --engine ray too")
    encoder = Encoder.open(bundle, threads=threads if made_by is None else 1)
    options = embedding.VectorOptions(dtype=storage.Dtype(dtype.value), dims=dims, text=not no_text)
    notes = sources.Notes()
    table = file_options.table()
    given = Source(texts, encoding=file_options.encoding)
    skipped, rows = _names_of(given, names, (column, id_column), table)
    begin = time.monotonic()
    with progress.rate_bar("embed", total=lambda: sources.count_rows(texts)) as advance:
        report = embedding.embed(
            encoder, given, out, column=column, id_column=id_column, options=options,
            force=force, progress=advance, engine=made_by, notes=notes,
            table=table, rows=rows,
        )  # fmt: skip
    inputs.report_notes(texts, notes)
    kb_source.report_skipped(skipped)
    rate = report.computed / max(time.monotonic() - begin, 1e-3)
    words = f"{out}: {counted(report.rows, 'vector')} of width {dims or encoder.dim}; "
    words += f"computed {counted(report.computed, 'different string')} ({rate:,.0f} a second)"
    if report.skipped or report.reused:
        words += f", kept {counted(report.skipped, 'shard')}"
        words += f" and {counted(report.reused, 'vector')} of earlier runs"
    if report.truncated:
        longest = f"{encoder.bundle.manifest.max_length} {encoder.bundle.manifest.unit_of_length}"
        words += f"; {report.truncated:,} longer than {longest} cut off"
    typer.echo(words, err=True)
    inputs.report_unfamiliar(report.unfamiliar, report.rows)


def _names_of(
    texts: Source,
    names: bool,
    columns: Sequence[str | None],
    options: TableOptions,
) -> tuple[SkippedRows, Iterator[tuple[str, str]] | None]:
    """Return the distinct names of a file of entities; None if its rows are embedded instead.

    Args:
        texts: The file.
        names: Whether the user says that it is a file of entities.
        columns: The given column of texts and column of ids.
        options: The options for reading the file.

    Raises:
        ConfigError: A column is given for a file of entities.
    """
    from mirror_rt.errors import ConfigError
    from mirror_rt.knowledge.formats import SkippedRows, is_entity_file, read_names, sniff
    from mirror_rt.tables import FileFormat
    from mirror_rt.types import KbFormat

    skipped = SkippedRows(strict=True)
    given = any(column is not None for column in columns)
    kind = options.format
    if kind is FileFormat.TEXT:
        if names:
            raise ConfigError("--names: plain text has no columns; leave --input-format text out")
        return skipped, None
    found = sniff(texts) if kind is None else KbFormat(kind.value)
    is_table = found is not None and found.value in {kind.value for kind in FileFormat}
    if not names:
        if (given and is_table) or not is_entity_file(texts, options, found):
            return skipped, None
    if given:
        raise ConfigError("--column and --id-column: every name is embedded; leave them out")
    rows = read_names(texts, format=found, skip_bad=skipped, options=options)
    if found is not None and not names:
        words = f"{texts}: is a knowledge base ({found.value}): its names and aliases are embedded"
        way_out = "; to embed a column give --column" if is_table else ""
        typer.echo(f"{words}, each once{way_out}", err=True)
    return skipped, ((name, "") for name in dict.fromkeys(rows))
