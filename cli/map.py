"""``mirror-rt map``: map the entities of one vocabulary to those of another."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mirror_rt._count import counted

from . import kb_source, output, progress
from .file_options import NAMES, FileOptions, with_file_options

if TYPE_CHECKING:
    from mirror_rt.knowledge.vocabularies import References


@with_file_options(*NAMES, "skip_bad")
def map_vocabularies(
    source: Annotated[
        Path,
        typer.Argument(metavar="KB_A", help="The vocabulary to map: a file, or a knowledge base."),
    ],
    target: Annotated[Path, typer.Argument(metavar="KB_B", help="The knowledge base to map to.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The mappings, .sssom.tsv or .tsv.")],
    min_probability: Annotated[
        float, typer.Option(help="Leave out mappings below this probability; 0 for none.")
    ] = 0.5,
    one_to_one: Annotated[
        bool, typer.Option("--one-to-one", help="Map to each entity of KB_B only once.")
    ] = False,
    no_cross_references: Annotated[
        bool, typer.Option("--no-cross-references", help="Use names alone.")
    ] = False,
    *,
    file_options: FileOptions,
    force: output.ForceOption = False,
) -> None:
    """Map the entities of KB_A to those of KB_B, as SSSOM.

    The preferred or the most probable name of an entity decides, and cross-references: from one
    to the other, or to a third id that no other entity has.

    mirror-rt map mondo.obo kb --out mondo-kb.sssom.tsv --one-to-one
    """
    from mirror_rt.errors import ConfigError
    from mirror_rt.knowledge import KnowledgeBase
    from mirror_rt.knowledge.formats.sssom import write_sssom
    from mirror_rt.knowledge.vocabularies import (
        References,
        find_references,
        map_entities,
        read_vocabulary,
    )
    from mirror_rt.staging import check_apart, check_target, staging_file

    if out.suffix != ".tsv":
        raise ConfigError(f"{out}: SSSOM is written as .tsv; end the name in .sssom.tsv")
    check_target(out, force=force)
    check_apart(out, {"KB_A": source, "KB_B": target})
    skipped = file_options.skipped()
    own = read_vocabulary(
        source, format=file_options.kb_format, skip_bad=skipped,
        columns=file_options.columns(), options=file_options.table(),
    )  # fmt: skip
    kb_source.report_skipped(skipped)
    references = References()
    if not no_cross_references:
        references = find_references(own, read_vocabulary(target))
    with (
        KnowledgeBase.open(target) as kb,
        progress.bar("map", unit="entities") as show,
        staging_file(out, force=force) as fresh,
    ):
        mappings = map_entities(
            own.entities.values(), kb, references=references, min_probability=min_probability,
            one_to_one=one_to_one, progress=show, total=len(own),
        )  # fmt: skip
        count = write_sssom(fresh, mappings, comment=f"{source.name} to {target.name}")
    least = f" with a probability of at least {min_probability:g}" if min_probability else ""
    typer.echo(f"{out}: {count:,} of {counted(len(own), 'entity')} mapped{least}", err=True)
    _report(references)


def _report(references: References) -> None:
    kinds = Counter(kind for _, kind in references.of.values())
    if kinds:
        words = ", ".join(
            f"{count:,} by {kind}, which is right for {references.reliability[kind]:.2f} of them"
            for kind, count in sorted(kinds.items())
        )
        typer.echo(
            f"references lead from {counted(len(references.of), 'entity')}: {words}", err=True
        )
    if references.contradictions:
        id_, ids = next(iter(references.contradictions.items()))
        typer.echo(
            f"{counted(len(references.contradictions), 'entity')} with cross-references and names "
            f"that contradict each other (first {id_}: {', '.join(ids[:3])}); the comments say so",
            err=True,
        )
