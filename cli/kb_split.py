"""``mirror-rt kb split``: hold out names of a knowledge-base file as gold mentions."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Annotated

import typer

from mirror_rt._count import counted

from . import kb_source, output
from .file_options import ENTITIES, FileOptions, with_file_options


@with_file_options(*ENTITIES, "skip_bad")
def split(
    kb: kb_source.KbFile,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="The file without these names, JSON lines.")
    ],
    gold: Annotated[
        Path, typer.Option(help="The names with their ids: .tsv, .csv, .jsonl or .json.")
    ],
    share: Annotated[
        float, typer.Option(min=0, max=1, help="Share of the exact synonyms to hold out.")
    ] = 0.1,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the sample.")] = 42,
    *,
    file_options: FileOptions,
    force: output.ForceOption = False,
) -> None:
    """Split a file into a training part and gold mentions.

    The held-out names are exact synonyms of a single entity, and not the preferred name. So an
    exact match cannot find them. Train and index with the first file, evaluate with the second.

    For example:

    mirror-rt kb split names.obo --out train.jsonl --gold gold.tsv
    """
    from mirror_rt.errors import ConfigError, InputError
    from mirror_rt.evaluation.holdout import hold_out_synonyms
    from mirror_rt.knowledge.formats.write_jsonl import json_line
    from mirror_rt.staging import check_apart, check_different, check_target

    if out.suffix.lower() != ".jsonl":
        raise ConfigError(f"{out}: end the name in .jsonl")
    form = output.chosen(None, gold)
    if out.suffix != ".jsonl":
        raise ConfigError(f"{out}: is written as JSON lines; end the name in .jsonl")
    check_different({"--out": out, "--gold": gold})
    for path, others in ((out, {"gold": gold}), (gold, {})):
        check_target(path, force=force)
        check_apart(path, {"file of names": kb, **others})
    skipped = file_options.skipped()
    entities = kb_source.read(kb, file_options, skipped=skipped)
    kept, questions = hold_out_synonyms(entities, share=share, rng=random.Random(seed))
    kb_source.report_skipped(skipped)
    if not questions:
        raise InputError(
            f"{kb}: has too few exact synonyms to hold any out; give a larger --share, or gold "
            "mentions of your own to evaluate"
        )
    rows = [(mention, "|".join(sorted(ids))) for mention, ids in questions]
    # Both files appear only after both are complete.
    with (
        output.lines_to(out, force=force) as write_names,
        output.lines_to(gold, force=force) as write_gold,
    ):
        for entity in kept:
            write_names(json_line(entity))
        output.table(("mention", "id"), rows, form, write_gold)
    names = sum(len(entity.names) for entity in kept)
    typer.echo(
        f"{out}: {counted(len(kept), 'entity')}, {counted(names, 'name')}; "
        f"{gold}: {counted(len(rows), 'mention')}",
        err=True,
    )
