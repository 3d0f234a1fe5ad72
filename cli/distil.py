"""``mirror-rt distil``: fit a small student to a teacher on names."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated

import typer

from mirror_rt._count import counted

from . import kb_source, output, progress
from .file_options import COLUMNS, FileOptions, with_file_options


@with_file_options(*COLUMNS)
def distil(
    teacher: Annotated[
        str, typer.Argument(help="The teacher: a bundle, a checkpoint or a hub name.")
    ],
    names: Annotated[
        list[str], typer.Argument(help="Knowledge-base files, or texts with one string per line.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write.")],
    layers: Annotated[
        int | None,
        typer.Option(min=1, help="Train a student with this many layers of TEACHER, a checkpoint."),
    ] = None,
    epochs: Annotated[int, typer.Option(min=1, help="With --layers: passes over the names.")] = 1,
    max_steps: Annotated[
        int | None, typer.Option(min=1, help="With --layers: maximum number of steps.")
    ] = None,
    dims: Annotated[int | None, typer.Option(min=1, help="Width of a vector (128).")] = None,
    max_features: Annotated[
        int, typer.Option(min=1, help="Maximum number of rows; the most frequent features.")
    ] = 131_072,
    ridge: Annotated[float, typer.Option(help="Penalty of the ridge regression.")] = 0.1,
    min_top1: Annotated[
        float,
        typer.Option(
            min=0, max=1, help="Minimum share of unseen names with the teacher's nearest name."
        ),
    ] = 0.3,
    seed: Annotated[int, typer.Option(help="Seed for the names that are held out.")] = 0,
    *,
    file_options: FileOptions,
    force: output.ForceOption = False,
) -> None:
    """Fit a static encoder of names to a larger one.

    The student is a table of vectors for words and letter sequences, without a network.

    It can replace a bundle anywhere, with a hundredth of the arithmetic and without onnxruntime.
    It is for names; on sentences it is far worse than its teacher.

    With --layers, the student is a transformer with fewer layers, trained on the names and
    written as a checkpoint. This needs the extra "train". It is for sentences too.

    For example:

    mirror-rt distil bundle kb.tsv --out student
    """
    from mirror_rt.distillation.static import StaticConfig
    from mirror_rt.distillation.static import distil_static as run
    from mirror_rt.errors import ConfigError
    from mirror_rt.staging import check_apart

    if layers is not None and dims is not None:
        raise ConfigError("--layers keeps the width of its teacher; leave --dims out")

    check_apart(out, {"teacher": teacher, **{f"names {i}": n for i, n in enumerate(names, 1)}})
    strings = [text for source in names for text in kb_source.strings(source, file_options)]
    if layers is not None:
        _train(
            teacher, strings, out, layers=layers, epochs=epochs, max_steps=max_steps, seed=seed,
            force=force,
        )  # fmt: skip
        return
    begin = time.monotonic()
    with progress.bar("distilling") as show:
        bundle = run(
            teacher,
            strings,
            out,
            config=StaticConfig(
                dims=dims or StaticConfig().dims,
                max_features=max_features,
                ridge=ridge,
                min_top1=min_top1,
                seed=seed,
            ),
            force=force,
            progress=lambda stage, done, total: show(done, total, stage),
        )
    gate = dict(bundle.manifest.accuracy_gate)
    megabytes = sum(p.stat().st_size for p in bundle.path.rglob("*") if p.is_file()) / 1e6
    typer.echo(
        f"{out}: {megabytes:.1f} MB, in {time.monotonic() - begin:.0f} s; "
        f"of {counted(gate['names'], 'name')} outside its training, "
        f"{gate['top1_agreement']:.1%} keep the teacher's nearest name; "
        f"next: mirror-rt index {out} KB --out KBDIR",
        err=True,
    )
    gate.pop("most_changed")
    typer.echo(
        json.dumps({"bundle": str(out), "kind": "static", "dim": bundle.manifest.dim, "gate": gate})
    )


def _train(
    teacher: str,
    names: list[str],
    out: Path,
    *,
    layers: int,
    epochs: int,
    max_steps: int | None,
    seed: int,
    force: bool,
) -> None:
    from mirror_rt.distillation.layers import LayerConfig, distil_layers

    config = LayerConfig(layers=layers, epochs=epochs, max_steps=max_steps, seed=seed)
    with progress.bar("distilling") as show:
        losses = distil_layers(
            teacher,
            names,
            out,
            config,
            force=force,
            progress=lambda stage, done, total: show(done, total, stage),
        )
    first, last = losses[0], losses[-1]
    typer.echo(
        f"{out}: a checkpoint of {counted(layers, 'layer')}; loss {first:.3f} at first, "
        f"{last:.3f} after {counted(len(losses), 'step')}; "
        f"next: mirror-rt export {out} --out BUNDLE",
        err=True,
    )
    record = {"checkpoint": str(out), "layers": layers, "steps": len(losses), "loss": last}
    typer.echo(json.dumps(record))
