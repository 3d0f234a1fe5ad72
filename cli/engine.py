"""The engine of a long job: this process, or workers on a Ray cluster."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Annotated

import typer

from mirror_rt.errors import ConfigError

if TYPE_CHECKING:
    from mirror_rt.runtime.ray_engine import RayEngine


class EngineKind(Enum):
    """The kinds of engine."""

    LOCAL = "local"
    RAY = "ray"


PANEL = "Where it runs"

EngineOption = Annotated[
    EngineKind,
    typer.Option(help="This process, or workers on a Ray cluster.", rich_help_panel=PANEL),
]
AddressOption = Annotated[
    str | None,
    typer.Option(
        help="Ray cluster to join, or auto; by default one on this machine.",
        rich_help_panel=PANEL,
    ),
]


def chosen(
    kind: EngineKind, *, address: str | None, workers: int | None, threads: int | None
) -> RayEngine | None:
    """Return the chosen engine; None for this process.

    Raises:
        ConfigError: An address of a cluster is given without --engine ray.
    """
    match kind:
        case EngineKind.LOCAL:
            if address is not None:
                raise ConfigError("--address: is for a Ray cluster; give --engine ray too")
            return None
        case EngineKind.RAY:
            from mirror_rt.runtime.ray_engine import RayEngine

            return RayEngine(address=address, workers=workers, threads=threads)
