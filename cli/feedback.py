"""``mirror-rt feedback``: add the decisions of a reviewer to a knowledge base."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mirror_rt._count import counted
from mirror_rt.errors import ConfigError

from . import inputs, progress
from .file_options import ROWS, FileOptions, with_file_options

if TYPE_CHECKING:
    from mirror_rt.knowledge.linking.feedback import FeedbackReport


@with_file_options(*ROWS)
def feedback(
    kbdir: Annotated[Path, typer.Argument(help="The knowledge base to change.")],
    reviewed: Annotated[
        Path | None, typer.Argument(help="The file of link --review, filled in; - for stdin.")
    ] = None,
    no_aliases: Annotated[
        bool, typer.Option("--no-aliases", help="Do not add accepted mentions as names.")
    ] = False,
    undo: Annotated[bool, typer.Option("--undo", help="Undo the last feedback.")] = False,
    column: inputs.ColumnOption = None,
    *,
    file_options: FileOptions,
) -> None:
    """Learn from a reviewed table.

    Write accept or reject into the column decision, or the right id into correct_id. Accepted and
    corrected mentions become names of their entities. All decisions become gold links; the
    knowledge base keeps them, and is calibrated on them now and after every change.
    """
    from mirror_rt.knowledge import KnowledgeBase

    if undo == (reviewed is not None):
        raise ConfigError("give a reviewed file, or --undo")
    if undo and no_aliases:
        raise ConfigError("--no-aliases: is for a reviewed file; leave it out with --undo")
    with KnowledgeBase.open(kbdir) as kb, progress.bar("writing") as show:
        if reviewed is None:
            report = kb.undo_feedback(progress=show)
        else:
            report = kb.feedback(
                reviewed,
                aliases=not no_aliases,
                column=column,
                table=file_options.table(),
                progress=show,
            )
    if reviewed is not None:
        inputs.report_notes(reviewed, report.notes)
        _report_decisions(reviewed, report)
    _report_state(kbdir, report)


def _report_decisions(reviewed: Path, report: FeedbackReport) -> None:
    words = f"{report.accepted:,} accepted, {report.corrected:,} corrected, "
    words += f"{report.rejected:,} rejected, {report.undecided:,} without a decision"
    if report.composites:
        words += f"; {report.composites:,} of several entities together passed over"
    typer.echo(f"{reviewed}: {words}", err=True)
    if report.known:
        typer.echo(f"{reviewed}: was given before; nothing changed", err=True)


def _report_state(kbdir: Path, report: FeedbackReport) -> None:
    words = f"{kbdir}: {counted(report.gold_links, 'gold link')} of feedback"
    words += f", {counted(report.aliases, 'name')} of it"
    if report.gone:
        words += f"; {report.gone:,} of an entity that is not there any more"
    typer.echo(words, err=True)
    found = report.calibration
    if found is not None:
        typer.echo(
            f"{kbdir}: calibrated on {counted(found.links, 'link')}; calibration error "
            f"{found.ece_before:.3f} before, {found.ece_after:.3f} after",
            err=True,
        )
        if report.replaced:
            typer.echo(
                f"{kbdir}: that replaces the calibration on "
                f"{counted(report.replaced, 'other gold link')}; mirror-rt calibrate gives it back",
                err=True,
            )
    elif not report.known:
        typer.echo(f"{kbdir}: too few gold links to calibrate; at least 20 are needed", err=True)
