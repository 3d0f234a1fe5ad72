"""``mirror-rt kb diff`` and ``kb enrich``: compare two releases, or two vocabularies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mirror_rt._count import counted

from . import inputs, kb_source, output, progress
from .file_options import NAMES, FileOptions, with_file_options

if TYPE_CHECKING:
    from mirror_rt.knowledge.vocabularies import Change, Enrichment

_COLUMNS = ("change", "id", "name", "before", "after")
_SHOWN = 20

OtherFile = Annotated[
    Path, typer.Option("--from", help="The other vocabulary: a file, or a knowledge base.")
]


@with_file_options(*NAMES, "skip_bad")
def diff(
    old: Annotated[Path, typer.Argument(help="The old release: a file, or a knowledge base.")],
    new: Annotated[Path, typer.Argument(help="The new release.")],
    *,
    file_options: FileOptions,
    form: output.FormatOption = None,
    out: output.OutOption = None,
    force: output.ForceOption = False,
) -> None:
    """List the changes between two releases of a vocabulary.

    New entities; retired entities with their successors; names added, removed and moved.

    mirror-rt kb diff hp-2025.obo hp-2026.obo --format tsv
    """
    from mirror_rt.knowledge.vocabularies import compare
    from mirror_rt.staging import check_apart, check_target

    written_as = output.chosen(form, out)
    if out is not None:
        check_target(out, force=force)
        check_apart(out, {"old": old, "new": new})
    skipped = file_options.skipped()
    before, after = kb_source.vocabularies((old, new), file_options, skipped=skipped)
    kb_source.report_skipped(skipped)
    changes = list(compare(before, after))
    counts = Counter(str(change.kind) for change in changes)
    rows = [(c.kind.value, c.id, c.name, c.before, c.after) for c in changes]
    record = {
        "entities_before": len(before),
        "entities_after": len(after),
        "counts": dict(counts),
        "changes": [dict(zip(_COLUMNS, row, strict=True)) for row in rows],
    }
    with output.lines_to(out, force=force) as write:
        output.report(
            record, _COLUMNS, rows, written_as, write,
            people=lambda: _in_words(record["counts"], changes, len(before), len(after)),  # type: ignore[arg-type]
        )  # fmt: skip


def _in_words(
    counts: dict[str, int], changes: list[Change], before: int, after: int
) -> Iterator[str]:
    yield f"{counted(before, 'entity')} before, {after:,} after"
    for kind, count in counts.items():
        yield f"{kind}: {count:,}"
        for change in [c for c in changes if c.kind.value == kind][:_SHOWN]:
            was = f" (was {change.before})" if change.before else ""
            now = f" -> {change.after}" if change.after else ""
            yield f"  {change.id}  {change.name}{was}{now}"
        if count > _SHOWN:
            yield f"  … {count - _SHOWN:,} more; --format tsv lists all"


@with_file_options(*NAMES, "skip_bad")
def enrich(
    kbdir: Annotated[Path, typer.Argument(help="A knowledge base to change, or a file to read.")],
    other: OtherFile,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Write all entities as .jsonl instead of changing KBDIR."),
    ] = None,
    source: Annotated[
        str | None, typer.Option(help="Source of the new names; by default OTHER.")
    ] = None,
    conflicts: Annotated[
        Path | None,
        typer.Option(help="Write the names that belong to another entity to this .tsv."),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Change nothing; print what would change."),
    ] = False,
    *,
    file_options: FileOptions,
    allow_few_twins: kb_source.AllowFewTwinsOption = False,
    force: Annotated[
        bool, typer.Option("--force", help="Replace what exists; implies --allow-few-twins.")
    ] = False,
) -> None:
    """Add the names that twins have in another vocabulary.

    Twins share an id, a cross-reference or a name, and each is the best partner of the other. A
    name that any entity already has is not added to another one.

    mirror-rt kb enrich kb --from mondo.obo
    """
    from mirror_rt.errors import ConfigError
    from mirror_rt.knowledge.storage.manifest import KB_MANIFEST
    from mirror_rt.knowledge.vocabularies import enrich as find_names
    from mirror_rt.staging import check_apart, check_different, check_target
    from mirror_rt.textfiles import shown

    in_place = (kbdir / KB_MANIFEST).is_file()
    if not in_place and out is None and not dry_run:
        raise ConfigError(f"{kbdir}: is a file; give --out FILE.jsonl for the enriched entities")
    if out is not None and out.suffix != ".jsonl":
        raise ConfigError(f"{out}: end the name in .jsonl")
    check_different({"--out": out, "--conflicts": conflicts})
    for target in filter(None, (out, conflicts)):
        check_target(target, force=force)
        check_apart(target, {"knowledge base": kbdir, "other vocabulary": other})
    skipped = file_options.skipped()
    own, theirs = kb_source.vocabularies((kbdir, other), file_options, skipped=skipped)
    kb_source.report_skipped(skipped)
    name = source if source is not None else other.name.partition(".")[0]
    if source is None and (str(other) == "-" or not (other.is_file() or other.is_dir())):
        raise ConfigError(
            f"{shown(other)}: has no name to use as the source of its names; give --source"
        )
    found = find_names(own, theirs, source=name, allow_few_twins=allow_few_twins or force)
    if conflicts is not None:
        with output.lines_to(conflicts, force=force) as write:
            for row in (("name", "id", "borne by"), *_conflict_rows(found)):
                write(output.cells(row, output.Format.TSV))
    if out is not None and not dry_run:
        from mirror_rt.knowledge.formats.write_jsonl import json_line
        from mirror_rt.knowledge.vocabularies import Vocabulary

        whole = Vocabulary([*own.entities.values(), *found.pieces])
        with output.lines_to(out, force=force) as write:
            for entity in whole.entities.values():
                write(json_line(entity))
    elif not dry_run and found.pieces:
        from mirror_rt.knowledge import KnowledgeBase

        encoder = inputs.CountingEncoder(kbdir / "bundle")
        with (
            KnowledgeBase.open(kbdir, encoder=encoder) as kb,
            progress.bar("embedding new names", unit="names") as show,
        ):
            kb.add(found.pieces, progress=show)
    _report_added(kbdir, shown(other), found, len(theirs), dry_run=dry_run)


def _conflict_rows(found: Enrichment) -> Iterator[tuple[str, str, str]]:
    for name, id_, owners in found.conflicts:
        yield name, id_, "|".join(owners)


def _report_added(kbdir: Path, other: str, found: Enrichment, size: int, *, dry_run: bool) -> None:
    evidence = Counter(str(why) for _, why in found.twins.of.values())
    by = ", ".join(f"{count:,} by {why}" for why, count in evidence.most_common())
    by = f" ({by})" if by else ""
    would = "would be added" if dry_run else "added"
    typer.echo(
        f"{kbdir}: {len(found.twins.of):,} of {counted(size, 'entity')} of {other} "
        f"with a twin{by}; "
        f"{counted(found.names_added, 'name')} {would} to {counted(len(found.pieces), 'entity')}, "
        f"{found.names_known:,} were there",
        err=True,
    )
    if found.conflicts:
        first = found.conflicts[0]
        typer.echo(
            f"left out: {counted(len(found.conflicts), 'name')} of another entity (first "
            f"{first[0]!r}, of {first[2][0]}); --conflicts FILE lists them",
            err=True,
        )
    if found.twins.contradictions:
        id_, ids = next(iter(found.twins.contradictions.items()))
        typer.echo(
            f"{counted(len(found.twins.contradictions), 'entity')} without a twin, as the evidence "
            f"does not decide (first {id_}: {', '.join(ids[:3])})",
            err=True,
        )
