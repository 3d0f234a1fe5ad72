"""Embed files of any length into a folder of shards or one file: killable, resumable, bounded.

Rows are read, embedded and written a window at a time. A shard is named by its content, so a
run over a changed input notices by itself what has changed; strings that were embedded before
are copied from where they lie. Which window is computed where is the engine's affair; what is
in its shard is not.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Protocol

from mirror_rt.errors import ConfigError, InputError, TargetError
from mirror_rt.runtime.encoder import Encoder, Progress
from mirror_rt.runtime.jobfolder import JobFolder, Settings, Stage
from mirror_rt.runtime.seen import Seen, write_sidecar
from mirror_rt.runtime.shards import Shard, write_npy, write_parquet
from mirror_rt.runtime.sources import Notes, Row, read_rows
from mirror_rt.runtime.storage import Dtype
from mirror_rt.runtime.windows import Window, rows_of_a_window, windows
from mirror_rt.runtime.work import Made, Task, make_shard
from mirror_rt.staging import check_apart, check_target, staging_file
from mirror_rt.tables import TableOptions

__all__ = ["Engine", "Local", "Report", "VectorOptions", "embed", "embed_rows"]

FILES = (".npy", ".parquet")
NO_FOLDERS = (
    ".arrow", ".bin", ".csv", ".gz", ".h5", ".json", ".jsonl", ".npz", ".pkl", ".pt", ".tsv",
    ".txt", ".zst",
)  # fmt: skip
"""A name that ends so was meant for a file, of a kind that is not written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VectorOptions:
    """What to write.

    Attributes:
        dtype: How numbers are stored.
        dims: Keep the first so many numbers, made unit again (matryoshka models); None: all.
        text: Whether to keep the texts beside the vectors.
    """

    dtype: Dtype = Dtype.FLOAT32
    dims: int | None = None
    text: bool = True


@dataclass(slots=True, kw_only=True)
class Report:
    """What a run did.

    Attributes:
        rows: Rows written, in all shards.
        computed: Different strings that went through the model in this run.
        copied: Rows whose vector was copied from an earlier run.
        kept: Shards that were there already.
        truncated: Strings cut off at the longest length, different ones of each shard.
        shards: The shards, in order.
    """

    rows: int = 0
    computed: int = 0
    copied: int = 0
    kept: int = 0
    truncated: int = 0
    shards: list[Shard] = field(default_factory=list)


class Engine(Protocol):
    """Who computes the shards."""

    def make(
        self,
        encoder: Encoder,
        job: JobFolder,
        tasks: Iterator[Task],
        progress: Progress | None,
    ) -> Generator[Made]:
        """Make a shard in the folder of the job for each task, and yield it, in any order.

        Args:
            encoder: The opened bundle.
            job: The folder, held by this process.
            tasks: Read as it goes; reading it is what reads the input.
            progress: Called with (texts, tokens) as the work goes on.
        """


class Local:
    """This process, with all cores of the encoder, a window at a time."""

    def make(
        self,
        encoder: Encoder,
        job: JobFolder,
        tasks: Iterator[Task],
        progress: Progress | None,
    ) -> Generator[Made]:
        """Make the shards in order."""
        for task in tasks:
            yield make_shard(encoder, job, task, progress=progress)


def embed(
    encoder: Encoder,
    source: str | Path,
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
) -> Report:
    """Embed the rows of a file.

    A folder can be given again: finished shards are kept, and a changed input computes only
    the strings it has not seen. A killed job goes on where it was and ends in the same bytes.

    Args:
        encoder: The opened bundle.
        source: A text, CSV, TSV, JSON-lines or Parquet file, or ``-``; see ``read_rows``.
        out: A name ending in .npy or .parquet for one file, any other for a folder of shards.
        column: The column of the text.
        id_column: The column of an id to keep.
        options: What to write.
        force: Whether to replace a file, or the vectors of another job, once the new ones are done.
        progress: Called as the work goes on; with 0 tokens for rows that were there already.
        engine: Who computes; by default this process. The bytes do not depend on it.
        table: What is known of the file, where its name and content do not tell.
        notes: Counts what is passed over of it.

    Raises:
        InputError: The input is empty or broken; what was embedded before is kept.
        TargetError: ``out`` exists, is of another job, would replace the input, or cannot be made.
        ConfigError: An option does not fit.
        OSError: There is no room for it.
    """
    ending = out.suffix.lower()
    if ending in NO_FOLDERS:
        raise ConfigError(f"{out}: name a file in {' or '.join(FILES)}, or a folder of shards")
    _keep_input(source, out)
    rows = read_rows(source, column=column, id_column=id_column, options=table, notes=notes)
    options = options or VectorOptions()
    if ending not in FILES:
        return embed_rows(
            encoder, rows, out, ids=id_column is not None, options=options, force=force,
            progress=progress, engine=engine, shown=str(source),
        )  # fmt: skip
    if ending == ".npy" and options.dtype is Dtype.INT8:
        raise ConfigError(f"{out}: .npy has no place for the scale of int8; write .parquet")
    if ending == ".npy" and id_column is not None:
        raise ConfigError(f"{out}: .npy has no place for ids; write .parquet")
    check_target(out, force=force)
    if out.is_dir():
        raise TargetError(f"{out}: is a folder; name a file")
    folder = out.with_name(f".{out.name}.job")
    settings = _settings(encoder, options, ids=id_column is not None)
    with JobFolder.hold(folder, settings, force=True) as job:
        report = _run(encoder, rows, job, engine or Local(), progress, shown=str(source))
        with staging_file(out, force=force) as fresh:
            match ending:
                case ".npy":
                    write_npy(fresh, folder, report.shards)
                case _:
                    write_parquet(fresh, folder, report.shards)
    shutil.rmtree(folder)
    return report


def embed_rows(
    encoder: Encoder,
    rows: Iterable[Row],
    out: Path,
    *,
    ids: bool = False,
    options: VectorOptions | None = None,
    force: bool = False,
    progress: Progress | None = None,
    engine: Engine | None = None,
    shown: str = "the input",
) -> Report:
    """Embed (text, id) rows into a folder of shards, as ``embed`` does.

    Raises:
        InputError: There are no rows, or one is not text.
        TargetError: ``out`` is of another job, or no folder of vectors.
        ConfigError: An option does not fit.
    """
    options = options or VectorOptions()
    settings = _settings(encoder, options, ids=ids)
    with JobFolder.hold(out, settings, force=force) as job:
        return _run(encoder, rows, job, engine or Local(), progress, shown=shown)


def _keep_input(source: str | Path, out: Path) -> None:
    if not out.is_dir():
        check_apart(out, {"input": source})
    elif Path(source).name.startswith("part-") and Path(source).exists():
        # Only shards of a folder are replaced.
        if Path(source).resolve().parent.samefile(out):
            raise TargetError(f"{out}: would replace the input, {source}; choose another name")


def _settings(encoder: Encoder, options: VectorOptions, *, ids: bool) -> Settings:
    dims = options.dims if options.dims is not None else encoder.dim
    if not 1 <= dims <= encoder.dim:
        raise ConfigError(f"dims must be from 1 to {encoder.dim}, the bundle's width; got {dims}")
    return Settings(
        bundle=encoder.bundle.fingerprint,
        dims=dims,
        dtype=options.dtype.value,
        text=options.text,
        ids=ids,
        window_rows=rows_of_a_window(encoder.dim),
    )


def _run(
    encoder: Encoder,
    rows: Iterable[Row],
    job: JobFolder,
    engine: Engine,
    progress: Progress | None,
    *,
    shown: str,
) -> Report:
    report = Report()
    shards: dict[int, Shard] = {}

    def keep(shard: Shard) -> None:
        shards[shard.number] = shard
        report.kept += 1
        if progress is not None:
            progress(shard.rows, 0)

    with closing(engine.make(encoder, job, _tasks(rows, job, keep), progress)) as all_made:
        for made in all_made:
            job.log(made.shard)
            shards[made.shard.number] = made.shard
            report.computed += made.computed
            report.copied += made.copied
    if not shards:
        raise InputError(f"{shown}: is empty; give at least one string")
    report.shards = [shards[number] for number in sorted(shards)]
    report.rows = sum(shard.rows for shard in report.shards)
    report.truncated = sum(shard.truncated for shard in report.shards)
    job.finish(report.shards)
    return report


def _tasks(rows: Iterable[Row], job: JobFolder, keep: Callable[[Shard], None]) -> Iterator[Task]:
    """Yield the windows whose shards are to be made; give the shards that are there to ``keep``."""
    all_windows = windows(rows, job.settings)
    first = next(all_windows, None)
    if first is None:
        return
    job.begin()
    finished, logged = job.finished(), job.logged()
    # Vectors are copied from the last finished run, or, if none ever was, from unfinished ones
    # over other inputs: from the first window that was another in them. What that is, is noted
    # once, and holds none of the shards of this input: a resumed run must take the same way,
    # and end in the same bytes, as one that was never killed, in whatever order shards are made.
    stages = [Stage(begin=0, shards=finished)] if finished else job.stages()
    known = [shard for stage in stages for shard in stage.shards]
    earlier = {shard.name: shard for shard in [*known, *logged]}
    ours: set[str] = set()
    copied: Stage | None = None
    seen: Seen | None = None
    for window in chain([first], all_windows):
        ours.add(window.name)
        shard = earlier.get(window.name)
        if shard is not None and shard.fault(job.path) is None:
            keep(_with_sidecar(job, shard, window))
            continue
        if shard is None and not finished and _was_another(window, logged):
            others = [earlier[name] for name in sorted(earlier.keys() - ours)]
            stages = [stage for stage in stages if stage.begin < window.number]
            stages.append(Stage(begin=window.number, shards=others))
            of_ours = earlier | {shard.name: shard for shard in job.logged()}
            job.set_stages(stages, [of_ours[name] for name in sorted(of_ours.keys() & ours)])
            logged = []
        stage = next((s for s in reversed(stages) if s.begin <= window.number), None)
        if shard is not None or stage is None:  # a faulty shard is made as it was
            yield Task(window=window, seen=None)
            continue
        if stage is not copied:
            copied, seen = stage, _seen(job, stage)
        yield Task(window=window, seen=seen)


def _was_another(window: Window, logged: Sequence[Shard]) -> bool:
    """Tell whether an unfinished run had other rows in the place of this window."""
    return any(shard.number == window.number and shard.name != window.name for shard in logged)


def _with_sidecar(job: JobFolder, shard: Shard, window: Window) -> Shard:
    """Write the hashes of a kept shard anew if they are not as they were written."""
    if job.has_sidecar(shard):
        return shard
    return replace(shard, sidecar=write_sidecar(job.sidecar(shard.name), window.digests))


def _seen(job: JobFolder, stage: Stage) -> Seen:
    """Gather the strings of earlier shards that are still as they were written."""
    sources = [
        (job.path.absolute() / shard.name, job.sidecar(shard.name))
        for shard in stage.shards
        if job.has_sidecar(shard) and shard.fault(job.path) is None
    ]
    return Seen.merge(job.work.absolute() / f"merged-{stage.begin}.bin", sources)
