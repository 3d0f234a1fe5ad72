"""Hold out synonyms of a knowledge base as mentions: a linking test without labels."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

from mirror_rt.errors import ConfigError
from mirror_rt.knowledge.text.normalize import normalize
from mirror_rt.types import Entity, NameKind

__all__ = ["SEED", "SHARE", "hold_out_synonyms", "join_pieces", "standard_split"]

SHARE = 0.1
SEED = 42


def standard_split(
    entities: Iterable[Entity],
) -> tuple[list[Entity], list[tuple[str, frozenset[str]]]]:
    """Hold out the same synonyms as the tasks of the suite, for training without them.

    Returns:
        As ``hold_out_synonyms``, with a tenth of the eligible synonyms and a fixed seed.
    """
    return hold_out_synonyms(entities, share=SHARE, rng=random.Random(SEED))


def join_pieces(entities: Iterable[Entity]) -> list[Entity]:
    """Join the pieces of one entity, in the order of the first piece of each."""
    pieces: dict[str, list[Entity]] = {}
    for entity in entities:
        pieces.setdefault(entity.id, []).append(entity)
    return [
        first
        if not rest
        else replace(
            first,
            names=tuple(name for piece in (first, *rest) for name in piece.names),
            alternative_ids=tuple(
                dict.fromkeys(i for piece in (first, *rest) for i in piece.alternative_ids)
            ),
        )
        for first, *rest in pieces.values()
    ]


def hold_out_synonyms(
    entities: Iterable[Entity], *, share: float, rng: random.Random
) -> tuple[list[Entity], list[tuple[str, frozenset[str]]]]:
    """Remove a share of the exact synonyms from the names, and return them as mentions.

    Only synonyms of kind ``EXACT`` are held out that are not the preferred name, and whose
    normalized form is not another name of any entity. So an exact match cannot find them.

    Args:
        entities: The knowledge base; pieces of one entity are joined.
        share: How many of the eligible synonyms to hold out, in (0, 1].
        rng: Draws them; the same state gives the same synonyms.

    Returns:
        The entities without those names, and (mention, right ids) for each of them, in the
        order of the knowledge base.

    Raises:
        ConfigError: ``share`` is out of range.
    """
    if not 0.0 < share <= 1.0:
        raise ConfigError(f"share: must be above 0 and at most 1, got {share}")
    joined = join_pieces(entities)
    used = Counter(normalize(name.text) for entity in joined for name in entity.names)
    eligible = [
        (row, text)
        for row, entity in enumerate(joined)
        for text in entity.aliases
        if used[normalize(text)] == 1
        and any(n.text == text and n.kind is NameKind.EXACT for n in entity.names)
    ]
    held = sorted(rng.sample(range(len(eligible)), round(share * len(eligible))))
    gone: dict[int, set[str]] = {}
    for row, text in (eligible[i] for i in held):
        gone.setdefault(row, set()).add(text)
    kept = [
        replace(entity, names=tuple(n for n in entity.names if n.text not in gone[row]))
        if row in gone
        else entity
        for row, entity in enumerate(joined)
    ]
    queries = [
        (text, frozenset({joined[row].id, *joined[row].alternative_ids}))
        for row, text in (eligible[i] for i in held)
    ]
    return kept, queries
