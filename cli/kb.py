"""``mirror-rt kb``: inspect a knowledge-base file; change a knowledge base."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from mirror_rt._count import counted, plural

from . import help, kb_change, kb_compare, kb_source, kb_split, output
from .file_options import ENTITIES, FileOptions, with_file_options

if TYPE_CHECKING:
    from mirror_rt.knowledge.entities.statistics import KbStatistics
    from mirror_rt.knowledge.formats import SkippedRows

app = typer.Typer(
    no_args_is_help=True,
    help="Inspect knowledge-base files; change knowledge bases.",
)
help.add(app, "add", kb_change.add)
help.add(app, "update", kb_change.update)
help.add(app, "remove", kb_change.remove)
help.add(app, "refit", kb_change.refit)
help.add(app, "split", kb_split.split)
help.add(app, "diff", kb_compare.diff)
help.add(app, "enrich", kb_compare.enrich)

_ROWS_SHOWN = 8


@with_file_options(*ENTITIES)
def stats(
    kb: kb_source.KbFile,
    *,
    file_options: FileOptions,
    form: output.FormatOption = None,
    out: output.OutOption = None,
    force: output.ForceOptionInPanel = False,
) -> None:
    """Count the content of a knowledge-base file.

    Entities, names, ambiguity, languages, lengths, bad rows.
    """
    from mirror_rt.knowledge.entities.statistics import compute_statistics
    from mirror_rt.knowledge.formats import SkippedRows
    from mirror_rt.staging import check_apart, check_target

    written_as = output.chosen(form, out)
    if out is not None:
        check_target(out, force=force)
        check_apart(out, {"file of names": kb})
    skipped = SkippedRows()
    found = compute_statistics(kb_source.read(kb, file_options, skipped=skipped))
    kb_source.report_columns(skipped)
    left_out = asdict(skipped)
    del left_out["strict"]
    with output.lines_to(out, force=force) as write:
        output.report(
            asdict(found) | {"left_out": left_out},
            ("what", "value"),
            _rows(found, skipped, limit=None),
            written_as,
            write,
            people=lambda: _table(_rows(found, skipped, limit=_ROWS_SHOWN)),
        )


help.add(app, "stats", stats)


def _rows(found: KbStatistics, skipped: SkippedRows, *, limit: int | None) -> list[tuple[str, str]]:
    """Return the lines to print as (label, value); at most ``limit`` parts of a breakdown."""
    rows: list[tuple[str, str]] = [
        ("entities", f"{found.entities:,}"),
        ("  with one name only", f"{found.entities_with_one_name:,}"),
        ("  with a description", f"{found.descriptions:,}"),
        ("names", f"{found.names:,}"),
        ("  distinct (one vector each)", f"{found.distinct_names:,}"),
        ("  repeated by their entity", f"{found.repeated_names:,}"),
        ("  of several entities", f"{found.ambiguous_names:,}"),
        ("  … case and punctuation aside", f"{found.ambiguous_normalized:,}"),
    ]
    rows += [
        (f"    {item.name}", counted(item.entities, "entity")) for item in found.most_ambiguous
    ]
    for what, counts in (
        ("kinds of name", found.names_by_kind),
        ("languages", found.names_by_language),
        ("sources", found.names_by_source),
        ("scripts", found.names_by_script),
        ("types", found.types),
    ):
        if set(counts) - {""}:
            rows.append((what, f"{len(counts):,}"))
            shown = list(counts.items())[:limit]
            rows += [(f"  {part or '(none given)'}", f"{count:,}") for part, count in shown]
    lengths = "  ".join(f"{at} {length:,}" for at, length in found.name_length.items())
    rows += [
        ("characters of a name", lengths),
        ("  longest: one of", found.longest_name_of),
        ("alternative ids", f"{found.alternative_ids:,}"),
        ("  that are entities themselves", f"{found.alternative_ids_that_are_entities:,}"),
        ("  of several entities", f"{found.shared_alternative_ids:,}"),
        ("cross-references", f"{found.cross_references:,}"),
        ("entities with a parent", f"{found.entities_with_parent:,}"),
        ("  parents not in the file", f"{found.missing_parents:,}"),
        ("  entities above themselves", f"{found.entities_in_circles:,}"),
        ("bad rows", f"{skipped.bad:,}"),
        *((f"  {message}", "") for message in skipped.messages),
        *(
            (f"{plural(noun)} {more}".rstrip(), f"{count:,}")
            for count, noun, more in skipped.left_out()
        ),
    ]
    return rows


def _table(rows: list[tuple[str, str]]) -> Iterator[str]:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(overflow="fold")
    table.add_column(overflow="fold", justify="right")
    for what, value in rows:
        indent = len(what) - len(what.lstrip())
        # The hanging indent stays in narrow windows. A rich Text is never parsed as markup.
        table.add_row(Text(what, style="" if indent else "bold"), Text(value))
    yield from output.rendered(table)
