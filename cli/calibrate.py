"""``mirror-rt calibrate``: fit the probabilities of a knowledge base to gold links."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mirror_rt._count import counted

from . import kb_source, output, progress, thresholds
from .file_options import NAMES, FileOptions, with_file_options

if TYPE_CHECKING:
    from mirror_rt.knowledge.linking.calibration import CalibrationReport


@with_file_options(*NAMES, "skip_bad")
def calibrate(
    kbdir: Annotated[Path, typer.Argument(help="The knowledge base; its numbers are replaced.")],
    gold: Annotated[
        Path | None,
        typer.Argument(help="A table with a header, mentions and ids (no id: NIL), or .concept."),
    ] = None,
    from_kb: Annotated[
        Path | None,
        typer.Option(
            help="Instead of gold: names of another vocabulary, a file or a knowledge base, of "
            "which some entities are the same things."
        ),
    ] = None,
    mention_column: Annotated[
        str | None, typer.Option(help="The gold table's column of mentions.")
    ] = None,
    *,
    file_options: FileOptions,
    form: output.FormatOption = None,
    out: output.OutOption = None,
    reserve: Annotated[
        float,
        typer.Option(help="Share of the mentions set aside: link --wrong-at-most needs them."),
    ] = 0.0,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Change nothing; print what would change.")
    ] = False,
    plot: Annotated[
        Path | None,
        typer.Option(
            help="Draw reliability and thresholds into this PNG (needs matplotlib).",
            rich_help_panel=output.PANEL,
        ),
    ] = None,
    allow_few_twins: kb_source.AllowFewTwinsOption = False,
    force: output.ForceOptionInPanel = False,
) -> None:
    """Fit the probabilities to your own gold links.

    Prints the changes, and the threshold for each target precision.

    For example:

    mirror-rt calibrate kb gold.tsv --plot reliability.png
    mirror-rt calibrate kb titles.csv --mention-column title --id-column occupation
    mirror-rt calibrate kb reviewed.csv
    """
    from mirror_rt.errors import ConfigError
    from mirror_rt.evaluation.gold import read_gold
    from mirror_rt.evaluation.reliability import check_drawing, draw_calibration
    from mirror_rt.knowledge import KnowledgeBase
    from mirror_rt.staging import check_apart, check_different, check_target

    written_as = output.chosen(form, out)
    if (gold is None) == (from_kb is None):
        raise ConfigError("calibrate: give either a GOLD file or --from-kb OTHER")
    of_names = (
        file_options.name_column or file_options.alias_column or file_options.field
        or file_options.kb_format or file_options.skip_bad
    )  # fmt: skip
    if gold is not None and of_names:
        raise ConfigError(
            "--kb-format, --name-column, --alias-column, --field and --skip-bad: are for the file "
            "of --from-kb; name the columns of GOLD with --mention-column and --id-column"
        )
    if from_kb is not None and mention_column is not None:
        raise ConfigError("--mention-column: is for GOLD; for --from-kb give --name-column")
    check_different({"--out": out, "--plot": plot})
    if plot is not None:
        check_drawing(plot, force=force)
        check_apart(plot, {"gold": gold, "other vocabulary": from_kb})
    if out is not None:
        check_target(out, force=force)
        check_apart(out, {"gold": gold, "other vocabulary": from_kb})
    if gold is not None:
        gold_links = read_gold(
            gold, mention_column=mention_column, id_column=file_options.id_column,
            keep_nil=True, options=file_options.table(),
        )  # fmt: skip
        for remark in gold_links.remarks:
            typer.echo(f"{gold}: {remark}", err=True)
        pairs = [(part, query.ids) for query in gold_links.queries for part in query.parts]
    else:
        pairs = _gold_of(kbdir, Path(str(from_kb)), file_options, allow_few_twins=allow_few_twins)
    with KnowledgeBase.open(kbdir) as kb, progress.bar("calibrate", unit="mentions") as show:
        unknown = [
            ids for _, ids in pairs if ids and not any(map(kb.resources.catalogue.resolve, ids))
        ]
        found = kb.calibrate(pairs, reserve=reserve, dry_run=dry_run, progress=show)
    if plot is not None:
        draw_calibration(found, plot, force=force)
    points = [point.to_dict() for point in found.operating_points]
    with output.lines_to(out, force=force) as write:
        output.report(
            found.to_dict(), thresholds.COLUMNS, thresholds.rows(points), written_as, write,
            people=lambda: _in_words(found),
        )  # fmt: skip
    if written_as is not output.Format.TABLE or out is not None:
        typer.echo(_summary(found), err=True)
    if not found.kept:
        typer.echo(
            "the probabilities stay as they were: on held-out mentions the fitted ones are no "
            f"better (log loss {found.log_loss_fitted:.3f}, {found.log_loss_before:.3f} before; "
            f"calibration error {found.ece_fitted:.3f}, {found.ece_before:.3f} before)",
            err=True,
        )
    if found.has_few_nil:
        typer.echo(
            f"only {found.without_entity:,} of {counted(found.links, 'gold mention')} "
            "without a right entity: "
            "too few to learn when no entity is right; add mentions without an id",
            err=True,
        )
    if dry_run:
        typer.echo(f"{kbdir} was not changed (--dry-run)", err=True)
    if found.without_candidates:
        typer.echo(
            f"left out: {counted(found.without_candidates, 'gold mention')} without a candidate",
            err=True,
        )
    if unknown:
        typer.echo(
            f"{len(unknown):,} of {counted(len(pairs), 'gold mention')} with ids "
            f"that {kbdir} lacks (first {min(unknown[0])}): every link of these counts as wrong",
            err=True,
        )


def _gold_of(
    kbdir: Path, other: Path, file_options: FileOptions, *, allow_few_twins: bool
) -> list[tuple[str, frozenset[str]]]:
    """Use the names of another vocabulary as gold mentions, and report their number."""
    from mirror_rt.knowledge.vocabularies import gold_of

    skipped = file_options.skipped()
    own, theirs = kb_source.vocabularies((kbdir, other), file_options, skipped=skipped)
    kb_source.report_skipped(skipped)
    pairs = gold_of(own, theirs, allow_few_twins=allow_few_twins)
    nil = sum(not ids for _, ids in pairs)
    typer.echo(
        f"{other}: used as gold mentions: {counted(len(pairs) - nil, 'name')} of twins and "
        f"{counted(nil, 'name')} of entities that {kbdir} lacks",
        err=True,
    )
    return pairs


def _summary(found: CalibrationReport) -> str:
    return (
        f"{counted(found.links, 'link')}, {found.accuracy:.3f} right; calibration error "
        f"{found.ece_before:.3f} before, {found.ece_after:.3f} after"
    )


def _in_words(found: CalibrationReport) -> Iterator[str]:
    yield _summary(found)
    yield from thresholds.lines([point.to_dict() for point in found.operating_points])
    yield "Measured by cross-validation. To use a row: link --target-precision"
