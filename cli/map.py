"""``mirror-rt map``: every entity of one vocabulary to the entities of a knowledge base."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import kb_source, progress


def map_vocabularies(
    source: Annotated[
        Path, typer.Argument(metavar="KB_A", help="What is mapped: a file, or a knowledge base.")
    ],
    target: Annotated[
        Path, typer.Argument(metavar="KB_B", help="The knowledge base that it is mapped to.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The mappings, .sssom.tsv or .tsv.")],
    min_probability: Annotated[
        float, typer.Option(help="Leave out mappings that are less probable.")
    ] = 0.0,
    one_to_one: Annotated[
        bool, typer.Option("--one-to-one", help="Map to each entity of KB_B once, by the surest.")
    ] = False,
    kb_format: kb_source.FormatOption = None,
    skip_bad: kb_source.SkipBadOption = False,
    force: Annotated[bool, typer.Option("--force", help="Replace the file.")] = False,
) -> None:
    """Map the entities of KB_A to those of KB_B, as SSSOM.

    The surest of an entity's names decides; the others say how sure.

    mirror-rt map mondo.obo kb --out mondo-kb.sssom.tsv --min-probability .5
    """
    from mirror_rt.errors import ConfigError
    from mirror_rt.knowledge import KnowledgeBase
    from mirror_rt.knowledge.formats import SkippedRows
    from mirror_rt.knowledge.formats.sssom import write_sssom
    from mirror_rt.knowledge.vocabularies import map_entities, read_vocabulary
    from mirror_rt.staging import check_apart, check_target, staging_file

    if out.suffix != ".tsv":
        raise ConfigError(f"{out}: SSSOM is written as .tsv; end the name in .sssom.tsv")
    check_target(out, force=force)
    check_apart(out, {"KB_A": source, "KB_B": target})
    skipped = SkippedRows(strict=not skip_bad)
    own = read_vocabulary(source, format=kb_format, skip_bad=skipped)
    kb_source.tell_skipped(skipped)
    with (
        KnowledgeBase.open(target) as kb,
        progress.bar("map", unit="entities") as show,
        staging_file(out, force=force) as fresh,
    ):
        mappings = map_entities(
            own.entities.values(), kb, min_probability=min_probability, one_to_one=one_to_one,
            progress=show, total=len(own),
        )  # fmt: skip
        count = write_sssom(fresh, mappings, comment=f"{source.name} to {target.name}")
    typer.echo(f"{out}: {count:,} of {len(own):,} entities mapped", err=True)
