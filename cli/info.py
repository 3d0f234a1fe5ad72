"""``mirror-rt info``: what a folder is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import output


def info(
    folder: Annotated[
        Path, typer.Argument(help="A checkpoint, bundle, knowledge base or folder of vectors.")
    ],
    verify: Annotated[
        bool,
        typer.Option("--verify", help="Compare every file with its sha256, where one is kept."),
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Print what a folder is: a checkpoint, bundle, knowledge base or vectors."""
    from mirror_rt.describe import describe

    output.facts(describe(folder, verify=verify), as_json=json)
