"""``mirror-rt link``: mentions to entities of a knowledge base."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mirror_rt._count import counted

from . import engine as engines
from . import inputs, link_changes, output, progress, thresholds
from .file_options import ROWS, FileOptions, with_file_options

if TYPE_CHECKING:
    from mirror_rt.knowledge import KnowledgeBase
    from mirror_rt.knowledge.linking.changes import LinkChanges
    from mirror_rt.knowledge.linking.inputs import Row
    from mirror_rt.runtime.ray_engine import RayEngine

_HOW, _AROUND = "How to link", "Context and document"


@with_file_options(*ROWS)
def link(
    kbdir: Annotated[Path, typer.Argument(help="The knowledge base.")],
    mentions: Annotated[
        list[str], typer.Argument(help="A file of mentions, - for stdin, or the mentions.")
    ],
    top: Annotated[
        int,
        typer.Option("--top", "-k", min=1, help="Candidates per mention.", rich_help_panel=_HOW),
    ] = 5,
    form: output.FormatOption = None,
    column: inputs.ColumnOption = None,
    *,
    file_options: FileOptions,
    bundle: Annotated[
        Path | None,
        typer.Option(help="Check that the knowledge base was built with it.", rich_help_panel=_HOW),
    ] = None,
    target_precision: Annotated[
        float | None,
        typer.Option(
            help="Review mentions below the threshold of this precision.",
            rich_help_panel=_HOW,
        ),
    ] = None,
    wrong_at_most: Annotated[
        float | None,
        typer.Option(
            help="Review enough that at most this share of links is wrong (95 % sure).",
            rich_help_panel=_HOW,
        ),
    ] = None,
    review_below: Annotated[
        float | None,
        typer.Option(
            help="Review mentions below this probability, and ties; .5 if no other threshold "
            "is given.",
            rich_help_panel=_HOW,
        ),
    ] = None,
    min_probability: Annotated[
        float,
        typer.Option(
            help="Mentions below this probability are NIL.",
            rich_help_panel=_HOW,
        ),
    ] = 0.0,
    filter_: inputs.FilterOption = None,
    under: inputs.UnderOption = None,
    context: Annotated[
        str | None,
        typer.Option(
            help="The text around the mentions, to decide close cases.", rich_help_panel=_AROUND
        ),
    ] = None,
    context_column: Annotated[
        str | None,
        typer.Option(
            help="Column or field with the text around each mention.", rich_help_panel=_AROUND
        ),
    ] = None,
    document: Annotated[
        Path | None,
        typer.Option(
            help="The text of the mentions, to expand its abbreviations.",
            rich_help_panel=_AROUND,
        ),
    ] = None,
    document_column: Annotated[
        str | None,
        typer.Option(
            help="Column or field with the text of each mention's document.",
            rich_help_panel=_AROUND,
        ),
    ] = None,
    as_written: Annotated[
        bool,
        typer.Option(
            "--no-expand-abbreviations",
            help="PubTator: do not expand abbreviations.",
            rich_help_panel=_AROUND,
        ),
    ] = False,
    split_composites: Annotated[
        bool,
        typer.Option(
            "--split-composites",
            help="Split 'breast and ovarian cancer' into two.",
            rich_help_panel=_HOW,
        ),
    ] = False,
    explain: Annotated[
        bool,
        typer.Option(
            "--explain",
            help="Show the features, and further candidates (jsonl).",
            rich_help_panel=output.PANEL,
        ),
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="Write the table again with the links: .csv, .tsv, .xlsx, .jsonl, .parquet, "
            ".sssom.tsv or .pubtator; resumes after a kill.",
            rich_help_panel=output.PANEL,
        ),
    ] = None,
    long: Annotated[
        bool,
        typer.Option(
            "--long",
            help="With --out: one row per candidate, not per mention.",
            rich_help_panel=output.PANEL,
        ),
    ] = False,
    review: Annotated[
        Path | None,
        typer.Option(
            help="Also write the rows for review here, the least certain first.",
            rich_help_panel=output.PANEL,
        ),
    ] = None,
    against: link_changes.AgainstOption = None,
    bom: Annotated[
        bool,
        typer.Option(
            "--bom",
            help="Start .csv and .tsv with a byte order mark, for Excel.",
            rich_help_panel=output.PANEL,
        ),
    ] = False,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Processes that score candidates (same results); by default one, with ray as "
            "many as fit.",
            rich_help_panel=engines.PANEL,
        ),
    ] = None,
    engine: engines.EngineOption = engines.EngineKind.LOCAL,
    address: engines.AddressOption = None,
    threads: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Cores of each Ray worker; by default one or more.",
            rich_help_panel=engines.PANEL,
        ),
    ] = None,
    force: output.ForceOptionInPanel = False,
) -> None:
    """Link mentions to entities.

    Exact matches come first, then candidates by vectors, trigrams and edit distance.

    With --out, the input table is written with all its columns, the best candidate and a status
    for each mention: linked, review or nil. After a kill, the same command continues the job.
    --engine ray uses a cluster.

    For example:

    mirror-rt link kb "kidney stones" "curved spine" --top 2
    mirror-rt link kb table.csv --column product --out linked.csv --review review.csv
    mirror-rt link kb table.csv --out linked.csv --against linked.csv --force --format table
    mirror-rt link kb mentions.jsonl --context-column sentence --out links.parquet --workers 4
    """
    from mirror_rt.errors import ConfigError
    from mirror_rt.knowledge import KnowledgeBase
    from mirror_rt.knowledge.linking.expansion import MOST_CHARACTERS
    from mirror_rt.knowledge.linking.inputs import MentionNotes
    from mirror_rt.staging import check_apart
    from mirror_rt.textfiles import read_lines

    if explain and (form not in {None, output.Format.JSONL} or out or against):
        raise ConfigError("--explain prints JSON lines; leave out --format, --out and --against")
    if context is not None and context_column is not None:
        raise ConfigError("--context and --context-column: give one of them")
    if document is not None and document_column is not None:
        raise ConfigError("--document and --document-column: give one of them")
    if as_written and (document is not None or document_column is not None):
        raise ConfigError(
            "--no-expand-abbreviations: a document only expands abbreviations; leave it out"
        )
    if engine is engines.EngineKind.RAY and out is None:
        raise ConfigError("--engine ray: writes a file; give --out")
    if out is None and (long or bom or review is not None):
        raise ConfigError("--long, --bom and --review: are of a file; give --out too")
    by = engines.chosen(engine, address=address, workers=workers, threads=threads)
    if by is None and threads is not None:
        raise ConfigError("--threads: is for Ray workers; give --engine ray too")
    named = {
        "column": column, "context_column": context_column, "document_column": document_column,
    }  # fmt: skip
    source = inputs.source_of(mentions, columns=named, longest=MOST_CHARACTERS)
    notes = MentionNotes()
    columns: dict[str, Any] = {
        "expand_abbreviations": not as_written,
        "table": file_options.table(),
        **named,
    }
    options: dict[str, Any] = {
        "context": context,
        "document": "\n".join(read_lines(document)) if document else None,
        "top": top,
        "target_precision": target_precision,
        "wrong_at_most": wrong_at_most,
        "review_below": review_below,
        "min_probability": min_probability,
        "filters": inputs.parsed_filters(filter_, under),
        "split_composites": split_composites,
    }
    own = 1 if by is not None or workers is None else workers
    with KnowledgeBase.open(kbdir, bundle=bundle, workers=own) as kb:
        if out is None:
            rows = inputs.rows_of(source, notes, columns)
            written_as = output.Format.JSONL if explain else output.chosen(form)
            if against is not None:
                _compared(kb, rows, against, written_as, options, column=column)
            else:
                _printed(kb, rows, written_as, options, explain=explain)
            inputs.report_notes(source, notes)
        else:
            file = source if isinstance(source, str) else None
            for target in [out] if review is None else [out, review]:
                check_apart(target, {"mentions": file, "document": document})
            options |= {"long": long, "review": review, "bom": bom, "against": against}
            changes = _into_file(kb, source, out, columns | options, force=force, engine=by)
            if against is not None and changes is not None:
                link_changes.report(against, changes, output.chosen(form))


def _printed(
    kb: KnowledgeBase,
    rows: Iterator[Row],
    form: output.Format,
    options: Mapping[str, Any],
    *,
    explain: bool,
) -> None:
    from mirror_rt.knowledge.linking.job import link_lines

    done, counts, wanted = 0, Counter[str](), options["target_precision"]
    with (
        progress.bar("link", unit="mentions", shown=not sys.stdout.isatty()) as show,
        output.results(form) as add,
    ):
        for lines in link_lines(kb, rows, options, counts=counts, explain=explain):
            add(lines)
            done += len(lines)
            if wanted is not None:
                counts["linked"] += sum(json.loads(line)["status"] == "linked" for line in lines)
            show(done, None)
    if wanted is not None:
        _report_threshold(kb, wanted, done, done - counts["linked"])
    _report_truncated(kb, counts)


def _compared(
    kb: KnowledgeBase,
    rows: Iterator[Row],
    against: Path,
    form: output.Format,
    options: Mapping[str, Any],
    *,
    column: str | None,
) -> None:
    from mirror_rt.knowledge.linking.changes import EarlierLinks
    from mirror_rt.knowledge.linking.job import link_lines

    earlier = EarlierLinks(against, kb.resources.catalogue, column=column)
    done, counts = 0, Counter[str]()
    with progress.bar("link", unit="mentions") as show:
        for lines in link_lines(kb, rows, options, counts=counts):
            for line in lines:
                earlier.take(json.loads(line))
            done += len(lines)
            show(done, None)
    link_changes.report(against, earlier.compared(), form)
    _report_truncated(kb, counts)


def _into_file(
    kb: KnowledgeBase,
    source: str | list[str],
    out: Path,
    options: Mapping[str, Any],
    *,
    force: bool,
    engine: RayEngine | None,
) -> LinkChanges | None:
    done, total = 0, inputs.count(source) if sys.stderr.isatty() else None
    with progress.bar("link", unit="mentions") as show:

        def advance(rows: int, _: int) -> None:
            nonlocal done
            done += rows
            show(done, total)

        def write(rows: int) -> None:
            show(rows, done, "rows written")

        report = kb.link_file(
            source, out, force=force, engine=engine, progress=advance, written=write, **options
        )
    inputs.report_notes(source, report.notes)
    if options["target_precision"] is not None:
        unlinked = report.rows - report.linked
        _report_threshold(kb, options["target_precision"], report.rows, unlinked)
    counts = {
        "too_long": report.too_long,
        "truncated": report.truncated,
        "truncated_contexts": report.truncated_contexts,
    }
    _report_truncated(kb, counts)
    words = (
        f"{out}: {counted(report.rows, 'mention')}, {report.linked:,} linked, {report.nil:,} nil"
    )
    words += f", {report.review:,} for review" if report.review else ""
    words += (
        f", {counted(report.skipped, 'block')} of an earlier run kept" if report.skipped else ""
    )
    if report.tied:
        words += f"; {report.tied:,} of them tied between several ids: the first is written"
    typer.echo(words, err=True)
    return report.changes


def _report_threshold(kb: KnowledgeBase, wanted: float, mentions: int, unlinked: int) -> None:
    note = thresholds.taken(kb.resources.reranker, wanted, mentions=mentions, unlinked=unlinked)
    typer.echo(note, err=True)


def _report_truncated(kb: KnowledgeBase, counts: Mapping[str, int]) -> None:
    from mirror_rt.knowledge.linking.expansion import MOST_CHARACTERS

    if counts.get("too_long"):
        longest = f"only the first {MOST_CHARACTERS:,} characters were compared"
        names = "a whole text is not a mention; give the names in it"
        typer.echo(f"{counted(counts['too_long'], 'long mention')}: {longest}; {names}", err=True)
    for kind, noun in (("truncated", "string"), ("truncated_contexts", "context")):
        cut = counts.get(kind, 0)
        inputs.report_truncated(kb, cut, what=counted(cut, noun))
