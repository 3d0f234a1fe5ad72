"""``mirror-rt index``: build a knowledge base from a file of entities."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from mirror_rt._count import counted
from mirror_rt.types import Entity, IndexKind, Passage

from . import inputs, kb_source, output, progress
from .file_options import ENTITIES, FileOptions, with_file_options

_RECALL_TOLERANCE = 0.01
"""The tolerance between the target recall and the recall measured on other queries."""

_INDEX, _PASSAGES = "The index", "A store of texts"


@with_file_options(*ENTITIES, "skip_bad")
def index(
    given: Annotated[
        list[Path],
        typer.Argument(
            metavar="[BUNDLE] KB",
            help="The bundle that embeds the names, by default the starter that comes with "
            "mirror-rt, and TSV, CSV, Excel, JSONL, id||name, OBO, RDF, Parquet, RRF, … "
            "(- is stdin).",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write.")],
    kind: Annotated[
        IndexKind,
        typer.Option("--index", help="The kind of index.", rich_help_panel=_INDEX),
    ] = IndexKind.AUTO,
    recall: Annotated[
        float,
        typer.Option(help="Target recall of the true ten nearest names.", rich_help_panel=_INDEX),
    ] = 0.98,
    vectors: Annotated[
        Path | None,
        typer.Option(
            help="Vectors of these names, made by embed; only missing ones are embedded.",
            rich_help_panel=_INDEX,
        ),
    ] = None,
    query_encoder: Annotated[
        Path | None,
        typer.Option(
            help="A static student of BUNDLE that embeds mentions; BUNDLE embeds the names alone.",
            rich_help_panel=_INDEX,
        ),
    ] = None,
    passages: Annotated[
        bool,
        typer.Option(
            "--passages",
            help="The file holds texts to search: id, text[, title, …].",
            rich_help_panel=_PASSAGES,
        ),
    ] = False,
    split: Annotated[
        int | None,
        typer.Option(
            min=1, help="Embed passages in pieces of this many words.", rich_help_panel=_PASSAGES
        ),
    ] = None,
    *,
    file_options: FileOptions,
    force: output.ForceOption = False,
) -> None:
    """Build a knowledge base from a file of names.

    It contains the entities, the vectors of their names and an index. With --passages, it
    contains texts to search.

    For example:

    mirror-rt index names.tsv --out kb
    mirror-rt index bundle catalogue.csv --id-column sku --name-column title --out kb
    mirror-rt index bundle texts.jsonl --passages --split 100 --out store
    """
    from mirror_rt.bundle import STARTER, STARTER_NOTE
    from mirror_rt.errors import ConfigError
    from mirror_rt.knowledge import KnowledgeBase
    from mirror_rt.knowledge.formats.passages import read_passages
    from mirror_rt.staging import check_apart, check_target

    bundle, kb = _check_apart(given, starter=STARTER)
    if split is not None and not passages:
        raise ConfigError("--split: only passages are embedded in pieces; add --passages")
    of_names = (
        file_options.kb_format or file_options.language or file_options.source
        or file_options.suppressed
    )  # fmt: skip
    if passages and of_names:
        raise ConfigError("--passages takes no options of names; leave them out")
    if bundle.is_file():
        raise ConfigError(f"{bundle}: is a file; the bundle, a folder, comes before the names")
    if passages and (file_options.alias_column or file_options.field):
        raise ConfigError("--passages: all other columns are metadata; leave the options out")
    check_target(out, force=force, folder=True)
    sources = {"file of names": kb, "vectors": vectors}
    bundles = {"bundle": bundle, "query encoder": query_encoder}
    sources |= {what: path for what, path in bundles.items() if path and not _is_own(path, out)}
    check_apart(out, sources)
    skipped = file_options.skipped()
    entities: Iterator[Entity] | Iterator[Passage]
    if passages:
        entities = read_passages(
            kb, skip_bad=skipped, columns=file_options.columns(), options=file_options.table()
        )
    else:
        entities = kb_source.read(kb, file_options, skipped=skipped)
    if len(given) == 1:
        typer.echo(STARTER_NOTE, err=True)
    encoder, calls = inputs.CountingEncoder(bundle), 0
    with progress.bar("embedding passages" if passages else "embedding names") as show:

        def advance(done: int, total: int) -> None:
            nonlocal calls
            calls = len(encoder.calls)  # later calls embed misspelled names, for learning
            show(done, total)

        built = KnowledgeBase.build(
            bundle,
            entities,
            out,
            passages=passages,
            split=split,
            encoder=encoder,
            query_encoder=query_encoder,
            index=kind,
            vectors=vectors,
            recall=recall,
            force=force,
            progress=advance,
        )
    kb_source.report_skipped(skipped)
    built.close()
    counts = built.manifest.counts
    more = "; --split embeds all of them" if passages else ""
    embedded = sum(strings for strings, *_ in encoder.calls[:calls])
    encoder.report_truncated(embedded, more=more)
    found = float(built.manifest.index["recall_at_10"])
    if found < recall - _RECALL_TOLERANCE:
        note = f"{out}: a search finds {found:.3f} of the true ten nearest, {recall} was asked"
        typer.echo(f"{note}; --index exact finds all of them", err=True)
    if vectors is not None:
        known = counts["texts"] - embedded
        typer.echo(
            f"{out}: {counted(known, 'vector')} taken, {counted(embedded, 'string')} embedded",
            err=True,
        )
    if passages:
        typer.echo(f"{out}: {counted(counts['entities'], 'passage')}", err=True)
        return
    words = f"{out}: {counted(counts['entities'], 'entity')}"
    words += f", {counted(counts['texts'], 'different name')}"
    if counts["ambiguous_texts"]:
        words += f", {counts['ambiguous_texts']:,} of them ambiguous"
    if counts["repeated_names"]:
        words += f"; {counted(counts['repeated_names'], 'repeated name')} read once"
    if counts["further_descriptions"]:
        further = counts["further_descriptions"]
        words += f"; {counted(further, 'description')} left out, as the entity has another"
    if missing := counts["missing_parents"]:
        parents = "parent is" if missing == 1 else "parents are"
        words += f"; {missing:,} {parents} not in the file"
    if counts["joined_entities"]:
        words += (
            f"; {counted(counts['joined_entities'], 'id')} merged with the entity that lists it"
        )
    typer.echo(words, err=True)


def _check_apart(given: list[Path], *, starter: Path) -> tuple[Path, Path]:
    """Return the bundle and the names."""
    from mirror_rt.bundle import MANIFEST
    from mirror_rt.errors import ConfigError

    if len(given) > 2:
        raise ConfigError(
            f"{given[2]}: too many arguments; give a bundle and a file of names, or the file alone"
        )
    if len(given) == 2:
        return given[0], given[1]
    if (given[0] / MANIFEST).is_file():
        raise ConfigError(f"{given[0]}: is a bundle; name the file of names after it")
    return starter, given[0]


def _is_own(bundle: Path, out: Path) -> bool:
    """Return whether a knowledge base is rebuilt with the bundle inside it."""
    own = out / "bundle"
    return own.is_dir() and bundle.is_dir() and own.samefile(bundle)
