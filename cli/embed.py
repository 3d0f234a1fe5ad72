"""``mirror-rt embed``: strings to vectors."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import progress


def embed(
    bundle: Annotated[Path, typer.Argument(help="A bundle, made by mirror-rt export.")],
    texts: Annotated[str, typer.Argument(help="A text file, one string a line; - is stdin.")],
    out: Annotated[Path, typer.Option(help="The file to write: .npy or .parquet.")],
    threads: Annotated[
        int | None, typer.Option(min=1, help="Cores to use; by default all it may.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
) -> None:
    """Write one vector per line of TEXTS, in the order of the lines.

    Empty lines are strings too, and have their row.
    """
    from mirror_rt.runtime import Encoder
    from mirror_rt.runtime.vectors import check_suffix, write_vectors
    from mirror_rt.staging import check_target
    from mirror_rt.textfiles import read_lines

    check_suffix(out)
    check_target(out, force=force)
    encoder = Encoder.open(bundle, threads=threads)
    lines = read_lines(texts)
    with progress.counting("embed", total=len(lines)) as advance:
        vectors = encoder.encode(lines, progress=advance)
    write_vectors(out, lines, vectors, force=force)
    typer.echo(f"{out}: {len(vectors):,} vectors of width {encoder.dim}", err=True)
