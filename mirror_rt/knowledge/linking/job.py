"""Link the mentions of a table into a table: a job of ``runtime.job``, and the same in memory.

All columns of the input are kept on disk while it is read, and written with what was found. A
mention that comes again with nothing beside it has been answered. Which rows are asked, and
which of them together, depends on the rows alone: so the bytes do not depend on who answers.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mirror_rt.errors import ConfigError, KnowledgeBaseError
from mirror_rt.hashing import sha256_file
from mirror_rt.knowledge.formats.pubtator import is_pubtator
from mirror_rt.knowledge.linking.blocks import LinkingBase, link_block
from mirror_rt.knowledge.linking.changes import EarlierLinks, LinkChanges
from mirror_rt.knowledge.linking.inputs import MentionNotes, Row, read_mentions
from mirror_rt.knowledge.linking.repeats import Answers, Order, Repeats, in_order
from mirror_rt.knowledge.linking.resources import LinkOptions
from mirror_rt.knowledge.linking.results import (
    SSSOM,
    WRITERS,
    Layout,
    LinkedRows,
    Review,
    ending_of,
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
from mirror_rt.tables import ArrowTable, Kept, TableOptions
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
"""Mentions that are answered together; a job that is killed loses no more than these."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkReport:
    """What a run did.

    Attributes:
        rows: Mentions.
        linked: Mentions that are linked.
        review: Mentions for review: they have candidates, but not the precision that was wanted.
        nil: Mentions without a candidate.
        answered: Mentions that were asked, in all runs: each once, but for those with a context
            or document, and those that came too long ago.
        skipped: Blocks of answers that were there already.
        undecided: Mentions with several candidates alike, of which a row has the first.
        too_long: Mentions of which only the beginning was compared.
        truncated: Mentions cut off at the longest length, different ones of each block.
        truncated_contexts: The same of contexts that were compared.
        notes: What was passed over in the input.
        changes: What an earlier result says else, where one was given.
    """

    rows: int
    linked: int
    review: int
    nil: int
    answered: int
    skipped: int
    undecided: int
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
) -> LinkReport:
    """Link the mentions of a file, a row of the output each, in their order.

    A row has all columns of the input, then those of the best candidate.

    ``out`` appears whole. After a kill, the same call goes on where it was and ends in the same
    bytes; with other options, or a changed knowledge base, it begins anew.

    Args:
        kb: The knowledge base.
        source: A file of mentions, ``-``, or the mentions; see ``inputs.read_mentions``.
        out: A name that ends in .csv, .tsv, .xlsx, .jsonl, .parquet, .sssom.tsv or, for a
            PubTator file, .pubtator.
        column: The column of the mentions.
        context_column: The column of the text around each.
        document_column: The column of the document of each.
        expand_abbreviations: Whether a mention that its document defines as an abbreviation is
            linked by its long form.
        table: What is known of the file, where its name and content do not tell.
        context: The text around all of them.
        document: The document of all of them.
        top: As in ``KnowledgeBase.link``, as are the following.
        target_precision: See there.
        wrong_at_most: See there.
        review_below: See there.
        min_probability: See there.
        filters: See there.
        split_composites: See there.
        long: Whether every candidate has a row, with the number of its mention and its rank.
        review: Another file, for the rows alone that are for review, the least certain first,
            with cells to fill in.
        against: An earlier result, in any format that is written: the report says which mentions
            link to another entity now. It may be ``out``, which is replaced.
        bom: Whether .csv and .tsv begin with a byte order mark, for Excel.
        force: Whether ``out`` and ``review`` may be replaced.
        engine: Who links; by default this process, and the workers of ``kb``.
        progress: Called with (rows, mentions asked) of each block.

    Raises:
        ConfigError: An option does not fit, ``out`` has no ending that is written, or the rows
            are too many for a sheet.
        InputError: The input is empty or broken, or ``against`` is broken or of another table;
            what was linked before is kept.
        TargetError: ``out`` or ``review`` exists and ``force`` is not set, or another process is
            writing it.
        KnowledgeBaseError: As ``KnowledgeBase.link`` says.
        OSError: There is no room for it.
    """
    out, review = Path(out), None if review is None else Path(review)
    for target in (out, review):
        if target is not None and ending_of(target) not in WRITERS:
            raise ConfigError(f"{target}: name a file in {', '.join(WRITERS)}")
    file = source if isinstance(source, (str, Path)) else None
    if out.suffix == ".pubtator" and (file is None or not is_pubtator(file)):
        raise ConfigError(f"{out}: PubTator is written for a PubTator file alone")
    if context is not None and context_column is not None:
        raise ConfigError("context and context_column: give one of them")
    if document is not None and document_column is not None:
        raise ConfigError("document and document_column: give one of them")
    if review is not None:
        if ending_of(review) in (".pubtator", SSSOM) or review == out:
            raise ConfigError(f"{review}: is no table beside {out}; name another file")
        asked = LinkOptions(
            target_precision=target_precision, wrong_at_most=wrong_at_most,
            review_below=review_below, min_probability=min_probability,
        )  # fmt: skip
        if not asked.reviews:
            raise ConfigError(
                f"{review}: nothing is for review with min_probability alone, or review_below 0; "
                "give target_precision, wrong_at_most or review_below"
            )
        check_target(review, force=force)
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
    if out.suffix == ".xlsx":
        _check_sheet(out, source, columns)
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
            engine=engine, progress=progress,
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
    """Link the mentions of a table in memory, as ``KnowledgeBase.link_table`` says."""
    import pyarrow as pa

    kept = Kept()
    rows = read_mentions(
        table, column=column, context_column=context_column, document_column=document_column,
        kept=kept,
    )  # fmt: skip
    found = link_lines(kb, rows, options, counts=Counter())
    lines = [line for some in found for line in some]
    layout = Layout(
        long=long,
        expanded=options.get("split_composites", False) or document_column is not None,
        context=context_column is not None,
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
        if kept is not None and isinstance(mention, str):  # what is none is told of elsewhere
            kept.add(number, [mention])
        yield mention, "", ""


def _check_sheet(out: Path, source: str | Path | Sequence[str], columns: Mapping[str, Any]) -> None:
    """Refuse more rows than a sheet has before the first is linked, where that can be known.

    Raises:
        ConfigError: There are too many.
        InputError: The file cannot be read.
    """
    from mirror_rt.tables.excel import MOST_ROWS

    is_file = isinstance(source, (str, Path))
    if isinstance(source, Iterator) or (is_file and not Path(source).is_file()):  # type: ignore[arg-type]
        return  # can be read but once
    if any(True for _ in islice(_rows_of(source, columns), MOST_ROWS - 1, None)):
        raise ConfigError(f"{out}: a sheet has {MOST_ROWS:,} rows at most; write .csv")


def link_lines(
    kb: LinkingBase,
    rows: Iterable[Row],
    options: Mapping[str, Any],
    *,
    counts: Counter[str],
    explain: bool = False,
) -> Iterator[list[str]]:
    """Yield the JSON lines of mentions, some at a time, in their order: what ``link_file`` writes.

    Args:
        kb: The knowledge base.
        rows: The mentions.
        options: Those of ``KnowledgeBase.link``, and one ``context`` and ``document`` for all.
        counts: ``truncated`` and ``truncated_contexts`` are added up here.
        explain: Whether to say why, see ``knowledge.explain``.
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
    """The work of a link job: a block of mentions to a shard of JSON lines."""

    def __init__(self, kb: LinkingBase, options: Mapping[str, Any]) -> None:
        # As it was opened: the folder may be another one by now.
        settings = {"knowledge_base": kb.checksums, "version": VERSION, **options}
        self.settings: dict[str, Any] = json.loads(json.dumps(settings))
        self._kb = kb
        self._options = options

    def prepare(self, job: JobFolder, earlier: Sequence[Shard]) -> None:
        """Do nothing: answers are never taken from another run."""

    def opener(self) -> Opener:
        """Return what opens this work on another machine."""
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
    ) -> LinkReport:
        """Answer the blocks, and make the files of them."""
        shown = str(source) if isinstance(source, (str, Path)) else "the mentions"
        order, notes = job.work / "order.bin", MentionNotes()
        with ExitStack() as opened:
            kept = Kept(opened.enter_context(open(job.work / "rows.arrow", "w+b")))
            rows = _rows_of(source, columns, notes, kept)
            rows_of = Order(opened.enter_context(open(order, "wb")))
            asked = Repeats(rows_of.append).fresh(rows)
            blocks = rows_of.of_blocks(blocks_of(asked, COLUMNS, job.settings, most=BLOCK))

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
                as_text = review.suffix in {".csv", ".tsv", ".xlsx"}
                doubtful = Review(job.work / "review.arrow", layout, as_text=as_text)
            fresh = opened.enter_context(staging_file(out, force=force))
            take = None if earlier is None else earlier.take
            linked = LinkedRows(kept, in_order(order, shards), layout, review=doubtful, take=take)
            WRITERS[ending_of(out)](fresh, linked, shown)
            if review is not None and doubtful is not None:
                fresh = opened.enter_context(staging_file(review, force=force))
                WRITERS[review.suffix](fresh, doubtful, shown)
            changes = None if earlier is None else earlier.compared()
        return LinkReport(
            rows=rows_of.total,
            linked=linked.counts[LinkStatus.LINKED.value],
            review=linked.counts[LinkStatus.REVIEW.value],
            nil=linked.counts[LinkStatus.NIL.value],
            answered=report.rows,
            skipped=report.skipped,
            undecided=linked.counts["tied"],
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
