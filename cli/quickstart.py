"""``mirror-rt quickstart``: train, export, index and link on real data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mirror_rt._count import counted

from . import output


def quickstart(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write.")] = Path("quickstart"),
    pairs: Annotated[
        int, typer.Option(min=200, help="Number of training pairs, sampled at random.")
    ] = 4_000,
    seed: Annotated[int, typer.Option(help="Seed for the held-out names and the training.")] = 42,
    force: output.ForceOption = False,
) -> None:
    """Train, export, index and link on a real ontology.

    The data is the Human Phenotype Ontology; the result is measured.
    """
    from mirror_rt.quickstart import MENTIONS, quickstart

    report = quickstart(out, pairs=pairs, seed=seed, force=force, say=typer.echo)
    typer.echo("5. Some mentions, linked:")
    width = max(map(len, MENTIONS))
    for mention, found in zip(MENTIONS, report.links, strict=True):
        for c in found[:1]:
            typer.echo(
                f"   {mention.ljust(width)}  {c.entity_id}  {c.entity_name}  "
                f"({c.match_type} {c.score:.2f})"
            )
    gain = 100 * (report.after.accuracy_1 - report.before.accuracy_1)
    typer.echo(
        f"acc@1 on {counted(report.questions, 'synonym')} that the index has never seen: "
        f"{report.before.accuracy_1:.3f} before, {report.after.accuracy_1:.3f} after "
        f"({gain:+.1f} points), in {report.seconds:.0f} s altogether."
    )
    typer.echo(f"""
Try it:
  mirror-rt link {out}/kb "bendy joints" "fast heartbeat" --format table
  mirror-rt evaluate {out}/kb --gold {out}/held-out.tsv

Your own names (a TSV, CSV, JSONL, id||name or OBO file):
  mirror-rt train names.tsv --base {out}/checkpoint --preset synonyms --out my-model
  mirror-rt export my-model --out my-bundle
  mirror-rt index my-bundle names.tsv --out my-kb
  mirror-rt link my-kb mentions.txt""")
