"""Look up an entity by id."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mirror_rt.encodings import lone_surrogate
from mirror_rt.errors import InputError
from mirror_rt.types import (
    Entity,
)

if TYPE_CHECKING:
    pass

from mirror_rt.knowledge.entities.reader import Catalogue

__all__ = ["find_entity"]


def find_entity(catalogue: Catalogue, id_: str, *, path: Path) -> Entity:
    """Return the entity with this id, or else the one that lists it as an alternative id.

    Args:
        catalogue: The catalogue to search.
        id_: The id.
        path: The knowledge base, for messages.

    Raises:
        InputError: The id is not a string or contains a lone surrogate, no entity has it, or
            several list it; the message names them.
    """
    if not isinstance(id_, str):
        raise InputError(f"id {id_!r}: is not a string")
    if lone_surrogate(id_) is not None:
        raise InputError(f"id {id_!r}: has a lone surrogate; it is not valid text")
    numbers = catalogue.resolve(id_)
    if not numbers:
        raise InputError(f"{path}: no entity has the id {id_!r}; look it up by name with link")
    if len(numbers) > 1:
        ids = [own for own, _ in catalogue.ids_and_names(numbers).values()]
        more = f" and {len(ids) - 3:,} more" if len(ids) > 3 else ""
        raise InputError(
            f"{path}: {id_!r} is an alternative id of {', '.join(ids[:3])}{more}; "
            "give the id of one of them"
        )
    return catalogue.entity(numbers[0])
