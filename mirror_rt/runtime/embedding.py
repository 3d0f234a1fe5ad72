"""Embed files of any length into a folder of shards or one file, as a job of ``job``.

With a changed input, shards with the same rows are kept, and vectors of known strings are copied
from the last finished run.

Axes: N rows, U texts to compute.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mirror_rt.errors import ConfigError, TargetError
from mirror_rt.runtime.embedding_cache import EmbeddingCache
from mirror_rt.runtime.job import (
    Engine,
    JobFolder,
    JobReport,
    Opener,
    Progress,
    Shard,
    ShardResult,
    ShardTask,
    blocks_of,
    run,
)
from mirror_rt.runtime.shards import (
    Columns,
    empty_stored,
    read_stored,
    write_npy,
    write_parquet,
    write_shard,
)
from mirror_rt.runtime.sources import Notes, Row, read_rows
from mirror_rt.runtime.storage import Dtype, QuantizedVectors, quantize_embeddings, truncate_dim
from mirror_rt.staging import check_apart, staging_file
from mirror_rt.tables import TableOptions
from mirror_rt.textfiles import StrPath, shown

if TYPE_CHECKING:
    from mirror_rt.runtime.encoder import Encoder
    from mirror_rt.types import Int64

__all__ = ["EmbedReport", "VectorOptions", "embed"]

KIND = "vectors"
FILES = (".npy", ".parquet")
NO_FOLDERS = (
    ".arrow", ".bin", ".csv", ".gz", ".h5", ".json", ".jsonl", ".npz", ".pkl", ".pt", ".tsv",
    ".txt", ".zst",
)  # fmt: skip
"""A name with such an ending means a file, in a format that is not supported."""
BLOCK_BYTES = 32 * 1024 * 1024
"""Bytes of a block's float32 vectors. Memory needs a few times as much; each block is a file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VectorOptions:
    """The format of the vectors.

    Attributes:
        dtype: The type of stored numbers.
        dims: Keep this many leading numbers, normalized again (matryoshka models); None for all.
        text: Whether to store the texts together with the vectors.
    """

    dtype: Dtype = Dtype.FLOAT32
    dims: int | None = None
    text: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbedReport:
    """The counts of a run.

    Attributes:
        rows: Rows in all shards.
        computed: Distinct strings that were embedded in this run.
        reused: Rows whose vector was copied from an earlier run.
        skipped: Shards that existed already.
        truncated: Distinct strings of each shard that were cut off.
        unfamiliar: Distinct strings of each shard with mostly unknown features (static encoder).
        shards: The shards, in order.
    """

    rows: int
    computed: int
    reused: int
    skipped: int
    truncated: int
    unfamiliar: int
    shards: list[Shard]

    @classmethod
    def of(cls, report: JobReport) -> EmbedReport:
        """Return the counts from the report of a job."""
        return cls(
            rows=report.rows,
            computed=report.done["computed"],
            reused=report.done["reused"],
            skipped=report.skipped,
            truncated=report.total("truncated"),
            unfamiliar=report.total("unfamiliar"),
            shards=report.shards,
        )


def embed(
    encoder: Encoder,
    source: StrPath,
    out: Path,
    *,
    column: str | None = None,
    id_column: str | None = None,
    options: VectorOptions | None = None,
    force: bool = False,
    progress: Progress | None = None,
    engine: Engine | None = None,
    table: TableOptions | None = None,
    notes: Notes | None = None,
    rows: Iterable[Row] | None = None,
) -> EmbedReport:
    """Embed the rows of a file.

    An existing folder is continued: finished shards are kept. With a changed input, only new
    strings are computed, if the folder has the texts. After a kill, the same call continues the
    job and ends in the same bytes.

    Args:
        encoder: The encoder.
        source: A text, CSV, TSV, JSON-lines or Parquet file, or ``-``; see ``read_rows``.
        out: A name ending in .npy or .parquet for one file; any other name for a folder of shards.
        column: The column of the text.
        id_column: The column of an id to store.
        options: The format of the vectors.
        force: Whether to replace a file, or the vectors of another job, after the new ones are
            complete.
        progress: Called with (texts, tokens); tokens are 0 for rows that existed already.
        engine: The engine; by default this process. The bytes do not depend on it.
        table: Options for reading the file, if its name and content are not enough.
        notes: Counts what is skipped in the file.
        rows: (text, id) to embed instead of the rows of the file.

    Raises:
        InputError: The input is empty or broken; vectors so far are kept.
        TargetError: ``out`` exists, belongs to another job, would replace the input, or cannot be
            created.
        ConfigError: An option does not fit.
        OSError: The disk is full.
    """
    ending = out.suffix.lower()
    if ending in NO_FOLDERS:
        raise ConfigError(f"{out}: name a file in {' or '.join(FILES)}, or a folder of shards")
    _keep_input(source, out)
    if rows is None:
        rows = read_rows(source, column=column, id_column=id_column, options=table, notes=notes)
    work = _Vectors(encoder, options or VectorOptions(), ids=id_column is not None)
    if ending == ".npy" and work.dtype is Dtype.INT8:
        raise ConfigError(f"{out}: .npy has no place for the scale of int8; write .parquet")
    if ending == ".npy" and id_column is not None:
        raise ConfigError(f"{out}: .npy has no place for ids; write .parquet")
    if ending not in FILES:
        with work.hold(out, force=force) as job:
            report = work.run(rows, job, engine=engine, progress=progress, shown=shown(source))
            job.finish(report.shards)
        return EmbedReport.of(report)
    with JobFolder.hold_beside(out, KIND, work.settings, work.ending, force=force) as job:
        report = work.run(rows, job, engine=engine, progress=progress, shown=shown(source))
        with staging_file(out, force=force) as fresh:
            join = write_npy if ending == ".npy" else write_parquet
            join(fresh, [job.path / shard.name for shard in report.shards])
    return EmbedReport.of(report)


def rows_of_a_block(dim: int) -> int:
    """Return the number of vectors of width ``dim`` in a block.

    >>> rows_of_a_block(384)
    21845
    """
    return max(1, BLOCK_BYTES // (4 * dim))


class _Vectors:
    """The work of an embedding job: from a block of texts to a shard of vectors."""

    ending = ".parquet"

    def __init__(
        self,
        encoder: Encoder,
        options: VectorOptions,
        *,
        ids: bool,
        seen: EmbeddingCache | None = None,
    ) -> None:
        dims = options.dims if options.dims is not None else encoder.dim
        if not 1 <= dims <= encoder.dim:
            raise ConfigError(
                f"dims: must be from 1 to {encoder.dim}, the bundle's width; got {dims}"
            )
        self.dtype = options.dtype
        self.settings = {
            "bundle": encoder.bundle.fingerprint,
            "dims": dims,
            "dtype": options.dtype.value,
            "text": options.text,
            "ids": ids,
            "block_rows": rows_of_a_block(encoder.dim),
        }
        self._encoder = encoder
        self._options = options
        self._dims = dims
        self._ids = ids
        self._seen = seen

    def hold(self, out: Path, *, force: bool) -> AbstractContextManager[JobFolder]:
        """Lock a permanent folder of shards."""
        return JobFolder(out, KIND, self.settings, self.ending).hold(force=force)

    def run(
        self,
        rows: Iterable[Row],
        job: JobFolder,
        *,
        engine: Engine | None,
        progress: Progress | None,
        shown: str,
    ) -> JobReport:
        """Make the shards of the rows."""
        most = rows_of_a_block(self._encoder.dim)
        blocks = blocks_of(rows, ("text", "id"), job.settings, most=most)
        return run(self, blocks, job, engine=engine, progress=progress, shown=shown)

    def prepare(self, job: JobFolder, earlier: Sequence[Shard]) -> None:
        """Index the strings of the last finished run, if it has them."""
        whole = [job.path.absolute() / s.name for s in earlier if s.fault(job.path) is None]
        if whole and self._options.text:
            self._seen = EmbeddingCache.build(job.work.absolute() / "seen.sqlite", whole)

    def opener(self) -> Opener:
        """Return a picklable function that opens this work on another machine."""
        bundle = str(self._encoder.bundle.path.absolute())
        return partial(_open_vectors, bundle, self._options, self._ids, self._seen)

    def make(self, job: JobFolder, task: ShardTask, progress: Progress | None) -> ShardResult:
        """Embed a block and write its shard."""
        texts = task.block.columns["text"]
        shards_N, rows_N = self._places(task)
        fresh_U = np.flatnonzero(shards_N < 0)
        all_fresh = len(fresh_U) == len(texts)
        encoded = self._encoder.encode_counted(
            texts if all_fresh else [texts[row] for row in fresh_U], progress=progress
        )
        truncated, unfamiliar = encoded.truncated, encoded.unfamiliar
        stored = quantize_embeddings(truncate_dim(encoded.vectors_ND, self._dims), self.dtype)
        if self._seen is not None and not all_fresh:
            whole = empty_stored(len(texts), self._dims, self.dtype)
            _put(whole, fresh_U, stored)
            for number in np.unique(shards_N[shards_N >= 0]):
                here_N = np.flatnonzero(shards_N == number)
                _put(whole, here_N, read_stored(self._seen.shards[number]).rows(rows_N[here_N]))
            stored = whole
            copied = [texts[row] for row in np.flatnonzero(shards_N >= 0)]
            truncated += self._encoder.count_truncated(copied)
            unfamiliar += self._encoder.count_unfamiliar(copied)
            if progress is not None:
                progress(len(copied), 0)
        sha256 = write_shard(
            job.path / task.name,
            Columns(
                texts=texts if self._options.text else None,
                ids=task.block.columns["id"] if self._ids else None,
            ),
            stored,
            about={name: str(value) for name, value in job.settings.items()},
        )
        counts = {"truncated": truncated}
        if unfamiliar:  # never with a graph
            counts["unfamiliar"] = unfamiliar
        return ShardResult(
            shard=Shard(name=task.name, rows=len(texts), sha256=sha256, counts=counts),
            counts={"computed": encoded.different, "reused": len(texts) - len(fresh_U)},
        )

    def _places(self, task: ShardTask) -> tuple[Int64, Int64]:
        """Return the shard and row to copy each vector from; -1 if there is none."""
        texts = task.block.columns["text"]
        if self._seen is None or task.again:
            none_N = np.full(len(texts), -1, dtype=np.int64)
            return none_N, none_N
        return self._seen.find(texts)


def _open_vectors(
    bundle: str, options: VectorOptions, ids: bool, seen: EmbeddingCache | None, threads: int
) -> _Vectors:
    from mirror_rt.runtime.encoder import Encoder

    return _Vectors(Encoder.open(bundle, threads=threads), options, ids=ids, seen=seen)


def _put(whole: QuantizedVectors, rows_N: Int64, part: QuantizedVectors) -> None:
    whole.values_NP[rows_N] = part.values_NP
    if len(whole.scale_N):
        whole.scale_N[rows_N] = part.scale_N


def _keep_input(source: StrPath, out: Path) -> None:
    if not out.is_dir():
        check_apart(out, {"input": str(source)})
    elif Path(source).name.startswith("part-") and Path(source).exists():
        # Only shards of a folder are replaced.
        if Path(source).resolve().parent.samefile(out):
            raise TargetError(f"{out}: would replace the input, {source}; choose another name")
