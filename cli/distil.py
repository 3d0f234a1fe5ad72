"""``mirror-rt distil``: a teacher and names in, a bundle that costs a tenth out."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated

import typer

from . import kb_source, progress


def distil(
    teacher: Annotated[
        str, typer.Argument(help="The encoder to be like: a bundle, a checkpoint or a hub name.")
    ],
    names: Annotated[
        list[str], typer.Argument(help="Knowledge-base files or texts, a string a line.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Bundle folder to write.")],
    dims: Annotated[int, typer.Option(min=1, help="Numbers of a vector.")] = 128,
    max_features: Annotated[
        int, typer.Option(min=1, help="Rows of the table at most, the most frequent features.")
    ] = 131_072,
    ridge: Annotated[float, typer.Option(help="Penalty of the ridge regression.")] = 0.1,
    min_top1: Annotated[
        float,
        typer.Option(
            min=0, max=1, help="Least share of unseen names that keep the teacher's nearest name."
        ),
    ] = 0.3,
    seed: Annotated[int, typer.Option(help="Draws the names that are not learned from.")] = 0,
    id_column: kb_source.IdColumnOption = None,
    name_column: kb_source.NameColumnOption = None,
    alias_column: kb_source.AliasColumnOption = None,
    delimiter: kb_source.DelimiterOption = None,
    encoding: kb_source.EncodingOption = None,
    force: Annotated[bool, typer.Option("--force", help="Replace OUT if it exists.")] = False,
) -> None:
    """Fit a static encoder of names to a larger one.

    It is a table of words and letters, no network.

    It serves wherever a bundle does, at a hundredth of the arithmetic, and needs no onnxruntime.
    It is for names: on sentences it is far behind its teacher.

    For example:

    mirror-rt distil bundle kb.tsv --out student
    """
    from mirror_rt.distillation.static import StaticConfig
    from mirror_rt.distillation.static import distil_static as run
    from mirror_rt.staging import check_apart

    check_apart(out, {"teacher": teacher, **{f"names {i}": n for i, n in enumerate(names, 1)}})
    columns = kb_source.columns(id_column, name_column, alias_column)
    options = kb_source.table_options(delimiter, encoding)
    strings = [text for source in names for text in kb_source.strings(source, columns, options)]
    begin = time.monotonic()
    with progress.bar("distilling") as show:
        bundle = run(
            teacher,
            strings,
            out,
            config=StaticConfig(
                dims=dims, max_features=max_features, ridge=ridge, min_top1=min_top1, seed=seed
            ),
            force=force,
            progress=lambda stage, done, total: show(done, total, stage),
        )
    gate = dict(bundle.manifest.accuracy_gate)
    megabytes = sum(p.stat().st_size for p in bundle.path.rglob("*") if p.is_file()) / 1e6
    typer.echo(
        f"{out}: {megabytes:.1f} MB, in {time.monotonic() - begin:.0f} s; of {gate['names']:,} "
        f"names it has not seen, {gate['top1']:.1%} keep the teacher's nearest name; "
        f"next: mirror-rt index {out} KB --out KBDIR",
        err=True,
    )
    gate.pop("moved")
    typer.echo(json.dumps({"bundle": str(out), "kind": "static", "dim": dims, "gate": gate}))
