"""Link the mentions of a table into a table: as a job of ``runtime.job``, or in memory.

All columns of the input are stored on disk while it is read, and written together with the links.
A repeated mention without context or document is linked once. Which rows are linked, and in which
blocks, depends on the rows alone. So the bytes of the result do not depend on the engine.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mirror_rt.errors import ConfigError, KnowledgeBaseError
from mirror_rt.hashing import sha256_file
from mirror_rt.knowledge.formats.pubtator import check_kept, is_pubtator
from mirror_rt.knowledge.linking.blocks import LinkingBase, link_block
from mirror_rt.knowledge.linking.changes import EarlierLinks, LinkChanges
from mirror_rt.knowledge.linking.inputs import MentionNotes, Row, read_mentions
from mirror_rt.knowledge.linking.repeats import Answers, Order, Repeats, in_order
from mirror_rt.knowledge.linking.resources import LinkOptions
from mirror_rt.knowledge.linking.result_files import SSSOM, WRITERS, ending_of
from mirror_rt.knowledge.linking.results import (
    Layout,
    LinkedRows,
    Review,
)
from mirror_rt.runtime.job import (
    Engine,
    JobFolder,
    Opener,
    Progress,
    Shard,
    ShardResult,
    ShardTask,
    blocks_of,
    run,
)
from mirror_rt.staging import check_target, replacing, staging_file
from mirror_rt.tables import ArrowTable, Kept, TableOptions, is_arrow
from mirror_rt.types import LinkStatus
from mirror_rt.version import VERSION

if TYPE_CHECKING:
    import pyarrow as pa

    from mirror_rt.knowledge.retrieval.filters import Filters

__all__ = ["BLOCK", "LinkReport", "link_file", "link_lines", "link_table"]

KIND = "links"
ENDING = ".jsonl"
COLUMNS = ("mention", "context", "document")
BLOCK = 1_024
"""Mentions that are linked together; a job that is killed loses at most one block."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkReport:
    """The counts of a run.

    Attributes:
        rows: Mentions.
        linked: Mentions that are linked.
        review: Mentions for review, see ``types.LinkStatus``.
        nil: Mentions without a candidate.
        answered: Mentions that were linked in all runs together. A repeated mention counts once,
            unless it has a context or document, or its last occurrence is too far back.
        skipped: Blocks that an earlier run had finished.
        tied: Mentions with several tied candidates; the row has the first one.
        too_long: Mentions whose end was ignored, as they are too long.
        truncated: Distinct mentions of each block that were cut off by the encoder.
        truncated_contexts: Distinct contexts of each block that were cut off by the encoder.
        notes: Problems that were ignored in the input.
        changes: The comparison with an earlier result, if one was given.
    """

    rows: int
    linked: int
    review: int
    nil: int
    answered: int
    skipped: int
    tied: int
    too_long: int
    truncated: int
    truncated_contexts: int
    notes: MentionNotes
    changes: LinkChanges | None = None


def link_file(
    kb: LinkingBase,
    source: str | Path | Sequence[str],
    out: str | Path,
    *,
    column: str | None = None,
    context_column: str | None = None,
    document_column: str | None = None,
    expand_abbreviations: bool = True,
    table: TableOptions | None = None,
    context: str | None = None,
    document: str | None = None,
    top: int = 5,
    target_precision: float | None = None,
    wrong_at_most: float | None = None,
    review_below: float | None = None,
    min_probability: float = 0.0,
    filters: Filters | None = None,
    split_composites: bool = False,
    long: bool = False,
    review: str | Path | None = None,
    against: str | Path | ArrowTable | None = None,
    bom: bool = False,
    force: bool = False,
    engine: Engine | None = None,
    progress: Progress | None = None,
    written: Callable[[int], object] | None = None,
) -> LinkReport:
    """Link the mentions of a file into another file.

    Each mention gets one row, in order: all columns of the input, then those of the best
    candidate.

    ``out`` appears only when it is complete. After a kill, the same call continues the job and
    ends in the same bytes. With other options, or a changed knowledge base, it starts again.

    Args:
        kb: The knowledge base.
        source: A file of mentions, ``-``, or the mentions; see ``inputs.read_mentions``.
        out: A file name with the ending .csv, .tsv, .xlsx, .jsonl, .parquet, .sssom.tsv or, for
            a PubTator file, .pubtator.
        column: The column of the mentions.
        context_column: The column with the text around each mention.
        document_column: The column with the text of each mention's document.
        expand_abbreviations: Whether to link an abbreviation by its long form, if the document
            of the mention defines it.
        table: Options for reading the file, if its name and content are not enough.
        context: One text around all mentions.
        document: One document of all mentions.
        top: As in ``KnowledgeBase.link``, as are the next six.
        target_precision: As in ``KnowledgeBase.link``.
        wrong_at_most: As in ``KnowledgeBase.link``.
        review_below: As in ``KnowledgeBase.link``.
        min_probability: As in ``KnowledgeBase.link``.
        filters: As in ``KnowledgeBase.link``.
        split_composites: As in ``KnowledgeBase.link``.
        long: Whether every candidate gets a row, with the number of its mention and its rank.
        review: Another file for the rows that are for review, the least certain first, with
            cells for decisions.
        against: An earlier result, in any output format: the report contains the mentions whose
            link differs from it. It may be ``out``, which is replaced.
        bom: Whether .csv and .tsv start with a byte order mark, for Excel.
        force: Whether ``out`` and ``review`` may be replaced.
        engine: The engine; by default this process and the workers of ``kb``.
        progress: Called with (rows, mentions linked) for each block.
        written: Called with the number of rows written, after all are linked.

    Raises:
        ConfigError: An option or ``source`` does not fit, ``out`` has an unknown ending, or a
            sheet cannot hold all rows.
        InputError: The input is empty or broken; or ``against`` is broken or belongs to another
            table. Links so far are kept.
        TargetError: ``out`` or ``review`` exists and ``force`` is not set, or another process is
            writing it.
        KnowledgeBaseError: As ``KnowledgeBase.link``.
        OSError: The disk is full.
    """
    file = source if isinstance(source, (str, Path)) else None
    if file is None and (
        isinstance(source, Mapping)
        or hasattr(type(source), "columns")
        or not isinstance(source, Iterable)
    ):
        raise ConfigError(
            f"{type(source).__name__}: is neither a file nor a list of mentions; link a table in "
            "memory with link_table"
        )
    out, review = Path(out), None if review is None else Path(review)
    for target in (out, review):
        if target is not None and ending_of(target) not in WRITERS:
            raise ConfigError(f"{target}: name a file in {', '.join(WRITERS)}")
    if ending_of(out) == ".pubtator" and (file is None or not is_pubtator(file)):
        raise ConfigError(f"{out}: PubTator is written for a PubTator file alone")
    if out.suffix == ".pubtator" and file is not None:
        check_kept(file)
    if context is not None and context_column is not None:
        raise ConfigError("context and context_column: give one of them")
    if document is not None and document_column is not None:
        raise ConfigError("document and document_column: give one of them")
    if review is not None:
        if ending_of(review) in (".pubtator", SSSOM) or review.resolve() == out.resolve():
            raise ConfigError(f"{review}: cannot be a table beside {out}; name another file")
        wanted = LinkOptions(
            target_precision=target_precision, wrong_at_most=wrong_at_most,
            review_below=review_below, min_probability=min_probability,
        )  # fmt: skip
        if not wanted.has_review_threshold:
            raise ConfigError(
                f"{review}: nothing is for review with min_probability alone, or review_below 0; "
                "give target_precision, wrong_at_most or review_below"
            )
        check_target(review, force=force)
    if bom and not {".csv", ".tsv"} & {ending_of(target) for target in (out, review) if target}:
        raise ConfigError(f"{out}: only .csv and .tsv have a byte order mark; leave --bom out")
    if long and ending_of(out) in (".pubtator", SSSOM):
        raise ConfigError(f"{out}: has no row for each candidate; leave --long out")
    layout = Layout(
        long=long, bom=bom,
        expanded=split_composites or (document or document_column) is not None,
        context=(context or context_column) is not None,
    )  # fmt: skip
    columns: dict[str, Any] = {
        "column": column, "context_column": context_column, "document_column": document_column,
        "expand_abbreviations": expand_abbreviations, "table": table,
    }  # fmt: skip
    _check_sheets(out, review, source, columns, layout)
    options = {
        "top": top, "target_precision": target_precision, "wrong_at_most": wrong_at_most,
        "review_below": review_below, "min_probability": min_probability, "filters": filters,
        "split_composites": split_composites, "context": context, "document": document,
    }  # fmt: skip
    earlier = None
    if against is not None:
        earlier = EarlierLinks(against, kb.resources.catalogue, column=column)
    work = _Links(kb, options)
    with JobFolder.hold_beside(out, KIND, work.settings, ENDING, force=force) as job:
        return work.run(
            source, columns, job, out, layout=layout, review=review, earlier=earlier, force=force,
            engine=engine, progress=progress, written=written,
        )  # fmt: skip


def link_table(
    kb: LinkingBase,
    table: ArrowTable,
    *,
    column: str | None = None,
    context_column: str | None = None,
    document_column: str | None = None,
    long: bool = False,
    **options: Any,  # noqa: ANN401
) -> pa.Table:
    """Link the mentions of a table in memory; see ``KnowledgeBase.link_table``."""
    import pyarrow as pa

    if not is_arrow(table):
        raise ConfigError(
            f"a {type(table).__name__} is not a table of pandas, Polars or Arrow; collect a "
            "LazyFrame first, or pass a file to link_file"
        )
    kept = Kept()
    rows = read_mentions(
        table, column=column, context_column=context_column, document_column=document_column,
        kept=kept,
    )  # fmt: skip
    found = link_lines(kb, rows, options, counts=Counter())
    lines = [line for some in found for line in some]
    layout = Layout(
        long=long,
        expanded=options.get("split_composites", False)
        or (options.get("document") or document_column) is not None,
        context=(options.get("context") or context_column) is not None,
    )
    linked = LinkedRows(kept, lines, layout)
    batches = [*linked.batches()]
    return pa.Table.from_batches(batches, linked.schema())


def _rows_of(
    source: str | Path | Sequence[str],
    columns: Mapping[str, Any],
    notes: MentionNotes | None = None,
    kept: Kept | None = None,
) -> Iterator[Row]:
    if isinstance(source, (str, Path)):
        yield from read_mentions(source, **columns, notes=notes, kept=kept)
        return
    if kept is not None:
        kept.begin(["mention"], shown="the mentions", unit="mention")
    for number, mention in enumerate(source, start=1):
        if kept is not None and isinstance(mention, str):  # other values raise an error later
            kept.add(number, [mention])
        yield mention, "", ""


def _check_sheets(
    out: Path,
    review: Path | None,
    source: str | Path | Sequence[str],
    columns: Mapping[str, Any],
    layout: Layout,
) -> None:
    """Check before linking that the input fits into the sheets, if it can be read twice.

    Any row may be for review, but how many are is known only after linking.

    Raises:
        ConfigError: There are too many rows or columns, or too long cells.
        InputError: The file cannot be read.
    """
    from mirror_rt.tables.excel import SheetCheck, check_headings

    layouts = {out: layout}
    if review is not None:
        layouts[review] = replace(layout, long=False, review=True)
    sheets = [path for path in layouts if ending_of(path) == ".xlsx"]
    if not sheets or isinstance(source, Iterator):
        return
    if isinstance(source, (str, Path)) and not (Path(source).is_file() or Path(source).is_dir()):
        return  # can be read only once
    check = SheetCheck(sheets[0].name, every_row=sheets[0] == out)
    for _ in _rows_of(source, columns, kept=check):
        pass
    for path in sheets:
        check_headings(path.name, LinkedRows(check, (), layouts[path]).names)


def link_lines(
    kb: LinkingBase,
    rows: Iterable[Row],
    options: Mapping[str, Any],
    *,
    counts: Counter[str],
    explain: bool = False,
) -> Iterator[list[str]]:
    """Yield the JSON lines of mentions in order, block by block, as ``link_file`` writes them.

    Args:
        kb: The knowledge base.
        rows: The mentions.
        options: The options of ``KnowledgeBase.link``, and one ``context`` and ``document`` for
            all mentions.
        counts: ``truncated`` and ``truncated_contexts`` are added to this.
        explain: Whether to explain the links, see ``KnowledgeBase.explain``.
    """
    places: list[int] = []
    answers = Answers()
    for block in blocks_of(Repeats(places.append).fresh(rows), COLUMNS, {}, most=BLOCK):
        lines, more = link_block(kb, block.columns, options, explain=explain)
        counts.update(more)
        answers.add(lines)
        yield [answers.at(place) for place in places]
        places.clear()
    if places:
        yield [answers.at(place) for place in places]


class _Links:
    """The work of a link job: from a block of mentions to a shard of JSON lines."""

    def __init__(self, kb: LinkingBase, options: Mapping[str, Any]) -> None:
        # Use the state that was opened: the folder may have been replaced since.
        settings = {"knowledge_base": kb.checksums, "version": VERSION, **options}
        self.settings: dict[str, Any] = json.loads(json.dumps(settings))
        self._kb = kb
        self._options = options

    def prepare(self, job: JobFolder, earlier: Sequence[Shard]) -> None:
        """Do nothing: links are never reused from another run."""

    def opener(self) -> Opener:
        """Return a picklable function that opens this work on another machine."""
        return partial(_open_links, self._kb.opener(), self.settings, self._options)

    def make(self, job: JobFolder, task: ShardTask, progress: Progress | None) -> ShardResult:
        """Link a block and write its shard."""
        lines, counts = link_block(self._kb, task.block.columns, self._options)
        path = job.path / task.name
        with replacing(path) as fresh:
            fresh.write_bytes("".join(f"{line}\n" for line in lines).encode())
            sha256 = sha256_file(fresh)
        return ShardResult(
            shard=Shard(name=task.name, rows=len(lines), sha256=sha256, counts=dict(counts))
        )

    def run(
        self,
        source: str | Path | Sequence[str],
        columns: Mapping[str, Any],
        job: JobFolder,
        out: Path,
        *,
        layout: Layout,
        review: Path | None,
        earlier: EarlierLinks | None,
        force: bool,
        engine: Engine | None,
        progress: Progress | None,
        written: Callable[[int], object] | None,
    ) -> LinkReport:
        """Link the blocks, and write the output files."""
        shown = str(source) if isinstance(source, (str, Path)) else "the mentions"
        order, notes = job.work / "order.bin", MentionNotes()
        with ExitStack() as opened:
            kept = Kept(opened.enter_context(open(job.work / "rows.arrow", "w+b")))
            rows = _rows_of(source, columns, notes, kept)
            rows_of = Order(opened.enter_context(open(order, "wb")))
            new_rows = Repeats(rows_of.append).fresh(rows)
            blocks = rows_of.of_blocks(blocks_of(new_rows, COLUMNS, job.settings, most=BLOCK))

            def each(shard: Shard, kept: bool) -> None:
                if progress is not None:
                    progress(rows_of.by_block.pop(shard.number), 0 if kept else shard.rows)

            report = run(self, blocks, job, engine=engine, shown=shown, each=each)
            rows_of.flush()
            if progress is not None:
                progress(rows_of.rest, 0)
            shards = (job.path / shard.name for shard in report.shards)
            doubtful = None
            if review is not None:
                as_text = ending_of(review) in {".csv", ".tsv", ".xlsx"}
                doubtful = Review(job.work / "review.arrow", layout, as_text=as_text)
            fresh = opened.enter_context(staging_file(out, force=force))
            take = None if earlier is None else earlier.take
            linked = LinkedRows(
                kept, in_order(order, shards), layout, review=doubtful, take=take, written=written
            )
            WRITERS[ending_of(out)](fresh, linked, shown)
            if review is not None and doubtful is not None:
                fresh = opened.enter_context(staging_file(review, force=force))
                WRITERS[ending_of(review)](fresh, doubtful, shown)
            changes = None if earlier is None else earlier.compared()
        return LinkReport(
            rows=rows_of.total,
            linked=linked.counts[LinkStatus.LINKED.value],
            review=linked.counts[LinkStatus.REVIEW.value],
            nil=linked.counts[LinkStatus.NIL.value],
            answered=report.rows,
            skipped=report.skipped,
            tied=linked.counts["tied"],
            too_long=report.total("too_long"),
            truncated=report.total("truncated"),
            truncated_contexts=report.total("truncated_contexts"),
            notes=notes,
            changes=changes,
        )


def _open_links(
    opener: Callable[[int], LinkingBase],
    settings: Mapping[str, Any],
    options: Mapping[str, Any],
    threads: int,
) -> _Links:
    kb = opener(threads)
    work = _Links(kb, options)
    if work.settings != settings:
        raise KnowledgeBaseError(f"{kb.path}: was replaced while it was open; open it again")
    return work
