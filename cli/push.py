"""``mirror-rt push``: upload a checkpoint or bundle to the hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def push(
    folder: Annotated[Path, typer.Argument(help="Checkpoint or bundle.")],
    repository: Annotated[str, typer.Argument(help="owner/name on the hub.")],
    private: Annotated[
        bool, typer.Option("--private", help="Make a new repository private.")
    ] = False,
    endpoint: Annotated[
        str | None, typer.Option(help="URL of another hub than huggingface.co.")
    ] = None,
) -> None:
    """Upload a checkpoint or bundle to the Hugging Face hub.

    Log in first: hf auth login.
    """
    from mirror_rt.training.push import push as run

    address = run(folder, repository, private=private, endpoint=endpoint)
    typer.echo(address)
