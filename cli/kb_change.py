"""``mirror-rt kb add``, ``update`` and ``remove``: change a knowledge base in one step."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mirror_rt.errors import ConfigError

from . import asked, kb_source, progress

if TYPE_CHECKING:
    from mirror_rt.knowledge.changes import Change

KbDir = Annotated[Path, typer.Argument(help="The knowledge base to change.")]


def add(
    kbdir: KbDir,
    kb: kb_source.KbFile,
    kb_format: kb_source.FormatOption = None,
    language: kb_source.LanguageOption = None,
    source: kb_source.SourceOption = None,
    suppressed: kb_source.SuppressedOption = False,
    id_column: kb_source.IdColumnOption = None,
    name_column: kb_source.NameColumnOption = None,
    alias_column: kb_source.AliasColumnOption = None,
    field: kb_source.FieldOption = None,
    delimiter: kb_source.DelimiterOption = None,
    encoding: kb_source.EncodingOption = None,
    skip_bad: kb_source.SkipBadOption = False,
) -> None:
    """Add entities of a file, and names to entities that are there; embeds only new names."""
    from mirror_rt.knowledge import changes
    from mirror_rt.knowledge.formats import SkippedRows

    skipped = SkippedRows(strict=not skip_bad)
    entities = kb_source.read(
        kb, kb_format, languages=language, sources=source, suppressed=suppressed, skipped=skipped,
        columns=kb_source.columns(id_column, name_column, alias_column, field),
        options=kb_source.table_options(delimiter, encoding),
    )  # fmt: skip
    encoder = asked.CountingEncoder(kbdir / "bundle")
    with progress.bar("embedding new names") as show:
        change = changes.add(kbdir, entities, encoder=encoder, progress=show)
    kb_source.tell_skipped(skipped)
    encoder.tell_cut(change.names_embedded)
    _tell(kbdir, change)


def update(
    kbdir: KbDir,
    kb: kb_source.KbFile,
    kb_format: kb_source.FormatOption = None,
    language: kb_source.LanguageOption = None,
    source: kb_source.SourceOption = None,
    suppressed: kb_source.SuppressedOption = False,
    id_column: kb_source.IdColumnOption = None,
    name_column: kb_source.NameColumnOption = None,
    alias_column: kb_source.AliasColumnOption = None,
    field: kb_source.FieldOption = None,
    delimiter: kb_source.DelimiterOption = None,
    encoding: kb_source.EncodingOption = None,
    skip_bad: kb_source.SkipBadOption = False,
) -> None:
    """Replace entities by those of a file with the same ids, and add new ones."""
    from mirror_rt.knowledge import changes
    from mirror_rt.knowledge.formats import SkippedRows

    skipped = SkippedRows(strict=not skip_bad)
    entities = kb_source.read(
        kb, kb_format, languages=language, sources=source, suppressed=suppressed, skipped=skipped,
        columns=kb_source.columns(id_column, name_column, alias_column, field),
        options=kb_source.table_options(delimiter, encoding),
    )  # fmt: skip
    encoder = asked.CountingEncoder(kbdir / "bundle")
    with progress.bar("embedding new names") as show:
        change = changes.update(kbdir, entities, encoder=encoder, progress=show)
    kb_source.tell_skipped(skipped)
    encoder.tell_cut(change.names_embedded)
    _tell(kbdir, change)


def remove(
    kbdir: KbDir,
    ids: Annotated[list[str] | None, typer.Argument(help="Ids of entities.")] = None,
    id_file: Annotated[
        Path | None, typer.Option("--from", help="A file of ids, one a line (- is stdin).")
    ] = None,
    missing_ok: Annotated[
        bool, typer.Option("--missing-ok", help="Pass over ids that are not there.")
    ] = False,
) -> None:
    """Remove entities with all their names; embeds no name again."""
    from mirror_rt.knowledge import changes
    from mirror_rt.textfiles import read_lines

    wanted = list(ids or ())
    if id_file is not None:
        wanted += [line.strip() for line in read_lines(id_file) if line.strip()]
    if not wanted:
        raise ConfigError("no ids to remove; name them, or give --from FILE")
    with progress.bar("writing") as show:
        change = changes.remove(kbdir, wanted, missing_ok=missing_ok, progress=show)
    _tell(kbdir, change)


def _tell(kbdir: Path, change: Change) -> None:
    joined = change.entities_joined
    told = f"{joined:,} joined with others that list them, " if joined > 0 else ""
    told += f"{-joined:,} on their own again, " if joined < 0 else ""
    more = "".join(
        f"; {count:,} {what}"
        for count, what in (
            (change.names_repeated, "repeated names were read once"),
            (change.descriptions_left_out, "descriptions left out, as their entity has another"),
            (change.ids_missing, "ids were not there"),
        )
        if count
    )
    typer.echo(
        f"{kbdir}: {change.entities_added:,} entities added, {change.entities_changed:,} changed, "
        f"{change.entities_removed:,} removed, {told}{change.entities:,} now; "
        f"{change.names_embedded:,} names embedded, {change.names_reused:,} vectors kept{more}",
        err=True,
    )
    if change.gold_links:
        typer.echo(
            f"{kbdir}: its calibration on {change.gold_links:,} gold links is undone, as weights "
            "are learned anew; run: mirror-rt calibrate",
            err=True,
        )
