"""``mirror-rt export``: export a checkpoint as a bundle."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from mirror_rt.errors import one_line
from mirror_rt.types import Pooling, Precision

from . import kb_source, output, progress
from .file_options import COLUMNS, FileOptions, with_file_options


class Wanted(Enum):
    """The values of ``Precision``, and ``auto``."""

    AUTO = "auto"
    FP32 = Precision.FP32.value
    FP16_WEIGHTS = Precision.FP16_WEIGHTS.value
    INT8 = Precision.INT8.value


class Cpu(Enum):
    """The CPUs that a bundle can be made for (``mirror_rt.runtime.cpu.Target``)."""

    AVX2 = "avx2"
    AVX512 = "avx512"
    AVX512_VNNI = "avx512_vnni"
    ARM64 = "arm64"


@with_file_options(*COLUMNS)
def export(
    checkpoint: Annotated[
        str, typer.Argument(help="Checkpoint or sentence-transformers folder, or hub name.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Bundle folder to write.")],
    precision: Annotated[
        Wanted, typer.Option(help="auto measures on the sample and keeps the fastest.")
    ] = Wanted.INT8,
    sample: Annotated[
        str | None,
        typer.Option(
            help="Your own strings to measure with: a knowledge-base file, or one for embed."
        ),
    ] = None,
    min_top1: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, help="Minimum share of the sample that keeps its nearest name (0.9)."
        ),
    ] = None,
    target: Annotated[
        Cpu | None, typer.Option(help="CPU to build for; by default this one.")
    ] = None,
    pooling: Annotated[
        Pooling | None, typer.Option(help="By default as in the checkpoint, or cls.")
    ] = None,
    max_length: Annotated[int | None, typer.Option(help="Longest input in tokens.")] = None,
    *,
    file_options: FileOptions,
    force: output.ForceOption = False,
) -> None:
    """Write a checkpoint as an ONNX bundle for the CPU.

    For example:

    mirror-rt export encoder --out bundle --sample names.txt
    """
    from mirror_rt.exporting.pipeline import MIN_TOP1
    from mirror_rt.exporting.pipeline import export as run
    from mirror_rt.runtime.cpu import Target
    from mirror_rt.staging import check_apart

    check_apart(out, {"sample": sample})
    with progress.bar("export") as show:
        bundle = run(
            checkpoint,
            out,
            precision=None if precision is Wanted.AUTO else Precision(precision.value),
            pooling=pooling,
            max_length=max_length,
            sample=None if sample is None else kb_source.strings(sample, file_options),
            min_top1=MIN_TOP1 if min_top1 is None else min_top1,
            target=None if target is None else Target(target.value),
            force=force,
            progress=show,
        )
    manifest = bundle.manifest
    gate = dict(manifest.accuracy_gate)
    for name, cosine in gate.pop("most_changed")[:3]:
        moved = f"moved most: {name!r} (cosine to float32 {cosine:.4f})"
        typer.echo(one_line(moved), err=True)
    if sample is None:
        typer.echo(
            "no --sample given: measured on synthetic strings, and --min-top1 was not applied; "
            "give your own strings to check their ranking",
            err=True,
        )
    megabytes = sum(p.stat().st_size for p in bundle.path.rglob("*") if p.is_file()) / 1e6
    typer.echo(f"{out}: {megabytes:.1f} MB; next: mirror-rt embed {out} TEXTS --out FILE", err=True)
    summary = {
        "bundle": str(out),
        "dim": manifest.dim,
        "pooling": manifest.pooling.value,
        "max_length": manifest.max_length,
        "precision": manifest.precision.value,
        "quantization": manifest.quantization,
        "gate": gate,
    }
    output.summary(summary)
