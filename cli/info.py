"""``mirror-rt info``: what a folder is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import output


def info(
    folder: Annotated[Path, typer.Argument(help="A checkpoint, bundle or knowledge base.")],
    verify: Annotated[
        bool, typer.Option("--verify", help="Read every file and compare it with its sha256.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Print what a checkpoint, bundle or knowledge base is."""
    from mirror_rt.describe import describe

    output.facts(describe(folder, verify=verify), as_json=json)
