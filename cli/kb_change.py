"""``mirror-rt kb add``, ``update``, ``remove``, ``refit``: change a knowledge base in one step."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mirror_rt._count import counted
from mirror_rt.errors import ConfigError

from . import inputs, kb_source, progress
from .file_options import ENTITIES, TABLE, FileOptions, with_file_options

if TYPE_CHECKING:
    from mirror_rt.knowledge.formats import SkippedRows
    from mirror_rt.knowledge.storage.update import UpdateReport
    from mirror_rt.types import Entity

KbDir = Annotated[Path, typer.Argument(help="The knowledge base to change.")]


@with_file_options(*ENTITIES, "skip_bad")
def add(kbdir: KbDir, kb: kb_source.KbFile, *, file_options: FileOptions) -> None:
    """Add the entities of a file, and names to existing entities.

    Embeds only new names.
    """
    skipped = file_options.skipped()
    entities = kb_source.read(kb, file_options, skipped=skipped)
    _change(kbdir, entities, skipped, replacing=False)


@with_file_options(*ENTITIES, "skip_bad")
def update(kbdir: KbDir, kb: kb_source.KbFile, *, file_options: FileOptions) -> None:
    """Replace entities by those of a file; add new ones."""
    skipped = file_options.skipped()
    entities = kb_source.read(kb, file_options, skipped=skipped)
    _change(kbdir, entities, skipped, replacing=True)


def _change(
    kbdir: Path, entities: Iterator[Entity], skipped: SkippedRows, *, replacing: bool
) -> None:
    from mirror_rt.knowledge import KnowledgeBase

    encoder = inputs.CountingEncoder(kbdir / "bundle")
    with KnowledgeBase.open(kbdir, encoder=encoder) as opened:
        with progress.bar("embedding new names") as show:
            change = opened.update if replacing else opened.add
            report = change(entities, progress=show)
    kb_source.report_skipped(skipped)
    encoder.report_truncated(report.names_embedded)
    _report_changes(kbdir, report)


@with_file_options(*TABLE, "id_column")
def remove(
    kbdir: KbDir,
    ids: Annotated[list[str] | None, typer.Argument(help="Ids of entities.")] = None,
    id_file: Annotated[
        Path | None,
        typer.Option("--from", help="A file of ids, one per line, or a table (- is stdin)."),
    ] = None,
    *,
    file_options: FileOptions,
    missing_ok: Annotated[bool, typer.Option("--missing-ok", help="Ignore unknown ids.")] = False,
) -> None:
    """Remove entities with all their names, without embedding."""
    from mirror_rt.knowledge import KnowledgeBase
    from mirror_rt.knowledge.formats import read_ids
    from mirror_rt.tables import Notes

    wanted = list(ids or ())
    if id_file is not None:
        options, notes = file_options.table(), Notes()
        wanted += read_ids(id_file, column=file_options.id_column, options=options, notes=notes)
        inputs.report_notes(id_file, notes)
    if not wanted:
        raise ConfigError("no ids to remove; name them, or give --from FILE")
    with KnowledgeBase.open(kbdir) as opened, progress.bar("writing") as show:
        report = opened.remove(wanted, missing_ok=missing_ok, progress=show)
    _report_changes(kbdir, report)


def refit(
    kbdir: KbDir,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Change nothing; print what would change.")
    ] = False,
) -> None:
    """Learn the weights again from the current names.

    A build does this too. Adding and removing entities keep the weights. A calibration is undone.
    """
    from mirror_rt.knowledge import KnowledgeBase

    with KnowledgeBase.open(kbdir) as opened:
        report = opened.refit(dry_run=dry_run)
    would = "would change" if dry_run else "changed"
    typer.echo(
        f"{kbdir}: {counted(len(report.changes), 'weight')} {would}; "
        f"of {counted(report.samples, 'name')} held out, "
        f"{report.right_before:.1%} linked right before, {report.right_after:.1%} after",
        err=True,
    )
    for name, (before, after) in report.changes.items():
        typer.echo(f"{name}\t{before:.3f}\t{after:.3f}")
    if report.calibration_links_dropped:
        goes = "would go" if dry_run else "is gone"
        typer.echo(
            f"{kbdir}: its calibration on "
            f"{counted(report.calibration_links_dropped, 'gold link')} {goes}, "
            "as it was one of the old weights; run: mirror-rt calibrate",
            err=True,
        )


def _report_changes(kbdir: Path, report: UpdateReport) -> None:
    merged = report.entities_merged
    merges = f"{merged:,} merged with another that lists it, " if merged > 0 else ""
    merges += f"{-merged:,} on their own again, " if merged < 0 else ""
    more = "".join(
        f"; {counted(count, noun)} {fate}"
        for count, noun, fate in (
            (report.names_repeated, "repeated name", "read once"),
            (report.descriptions_left_out, "description", "left out, as the entity has another"),
            (report.ids_missing, "id", "not found"),
        )
        if count
    )
    typer.echo(
        f"{kbdir}: {counted(report.entities_added, 'entity')} added, "
        f"{report.entities_changed:,} changed, {report.entities_removed:,} removed, "
        f"{merges}{report.entities:,} now; "
        f"{counted(report.names_embedded, 'name')} embedded, "
        f"{counted(report.names_reused, 'vector')} kept{more}",
        err=True,
    )
