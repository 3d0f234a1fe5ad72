"""``mirror-rt search``: the nearest names of a knowledge base."""

from __future__ import annotations

import sys
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer

from mirror_rt._count import counted

from . import inputs, output, progress
from .file_options import ROWS, FileOptions, with_file_options


@with_file_options(*ROWS)
def search(
    kbdir: Annotated[Path, typer.Argument(help="The knowledge base.")],
    queries: Annotated[
        list[str], typer.Argument(help="A file of queries, - for stdin, or the queries.")
    ],
    top: Annotated[int, typer.Option("--top", "-k", min=1, help="Results per query.")] = 10,
    form: output.FormatOption = None,
    out: output.OutOption = None,
    column: inputs.ColumnOption = None,
    *,
    file_options: FileOptions,
    filter_: inputs.FilterOption = None,
    under: inputs.UnderOption = None,
    hybrid: Annotated[
        bool | None,
        typer.Option(
            "--hybrid/--no-hybrid",
            help="By vectors and letters together, or by vectors alone; passages by both if left "
            "out, names by vectors.",
            show_default=False,
        ),
    ] = None,
    force: output.ForceOptionInPanel = False,
) -> None:
    """Find the names or passages nearest to queries.

    The results are entities or passages, depending on the knowledge base.

    For example:

    mirror-rt search kb "bone pain" --top 3
    """
    from mirror_rt.knowledge import KnowledgeBase
    from mirror_rt.knowledge.linking import results
    from mirror_rt.knowledge.linking.inputs import MentionNotes
    from mirror_rt.knowledge.linking.job import BLOCK
    from mirror_rt.runtime.encoder import Encoder
    from mirror_rt.staging import check_apart, check_target

    written_as = output.chosen(form, out)
    filters = inputs.parsed_filters(filter_, under)
    source, notes = inputs.source_of(queries, columns={"column": column}), MentionNotes()
    options = {"column": column, "table": file_options.table()}
    if out is not None:
        check_target(out, force=force)
        check_apart(out, {"queries": source if isinstance(source, str) else None})
    texts = (text for text, _, _ in inputs.rows_of(source, notes, options))
    done, cut = 0, 0
    with (
        KnowledgeBase.open(kbdir) as kb,
        progress.bar(
            "search", unit="queries", shown=out is not None or not sys.stdout.isatty()
        ) as show,
        output.lines_to(out, force=force) as write,
    ):
        passages = kb.manifest.content_type == "passages"
        both = passages if hybrid is None else hybrid
        columns = results.HYBRID_COLUMNS if both else results.SEARCH_COLUMNS
        columns = results.PASSAGE_COLUMNS if passages else columns
        with output.results(written_as, write, subject="query", columns=columns) as add:
            while block := list(islice(texts, BLOCK)):
                found = kb.search(block, top=top, hybrid=both, filters=filters)
                add([results.to_json_line(result.to_dict()) for result in found])
                done += len(block)
                if isinstance(kb.encoder, Encoder):
                    cut += kb.encoder.count_truncated(block)
                show(done, None)
        inputs.report_notes(source, notes)
        inputs.report_truncated(kb, cut, what=counted(cut, "string"))
