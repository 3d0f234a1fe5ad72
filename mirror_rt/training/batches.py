"""Turn drawn pairs into batches: mask second views, look up token ids, skip finished steps."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mirror_rt._count import counted
from mirror_rt.errors import ConfigError, TrainingError
from mirror_rt.training.augment import mask_span
from mirror_rt.training.config import TrainConfig
from mirror_rt.training.mining import HardNegativeSampler
from mirror_rt.training.model import TextModel, tokenize
from mirror_rt.training.pairs import PairTable, draw_epoch

if TYPE_CHECKING:
    from mirror_rt.types import Int64

__all__ = ["Batch", "batches", "check_negatives", "count_steps", "make_batch", "string_keys"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """The views of one step: V = 2B, all first views, then all second.

    Attributes:
        texts: V strings as the encoder sees them, without repeated tokens.
        tokens: Their token ids.
        keys: For each view its string and its meanings: see ``same_meaning_mask``.
    """

    texts: list[str]
    tokens: list[Int64]
    keys: list[tuple[int, ...]]


def count_steps(table: PairTable, config: TrainConfig) -> int:
    """Return the steps of a run, without the last, incomplete batch of an epoch.

    Raises:
        TrainingError: There are too few pairs for one batch.
        ConfigError: Hard negatives are configured, but the run ends before its second epoch.
    """
    pairs = len(draw_epoch(table, config, rng=np.random.default_rng([config.seed, 0])))
    if pairs < config.batch_size:
        way_out = f", or --batch-size {pairs}" if pairs >= 2 else ""
        if config.eval_pairs:
            way_out += f", or a lower --eval-pairs than {config.eval_pairs}"
        raise TrainingError(
            f"{config.corpus_shown}: {counted(pairs, 'different pair')}, too few for a batch of "
            f"{config.batch_size}; give more strings{way_out}"
        )
    steps = pairs // config.batch_size * config.epochs
    steps = steps if config.max_steps is None else min(steps, config.max_steps)
    if config.hard_negatives and steps <= pairs // config.batch_size:
        raise ConfigError(
            "hard_negatives: are mined before the second epoch, which begins at step "
            f"{pairs // config.batch_size + 1}; give a higher --max-steps than {steps}, "
            "or --hard-negatives 0"
        )
    return steps


def check_negatives(keys: Sequence[tuple[int, ...]], config: TrainConfig) -> int:
    """Return how many strings the base can tell apart; warn if these are few.

    Raises:
        TrainingError: No string can be a negative of another: there is nothing to learn.
    """
    different = len({found[0] for found in keys})
    if any(all(key in found for found in keys) for key in keys[0]):
        same = f"are the same tokens to {config.base}"
        why = same if different == 1 else "are names of one entity"
        raise TrainingError(
            f"{config.corpus_shown}: no string of it can be a negative, for all {len(keys)} {why}; "
            "give other strings, or another --base that reads their script"
        )
    if different < len(keys) / 2:
        logger.warning(
            "%s: only %d of %d strings are different tokens to %s, and it can learn from no other; "
            "is there a base that reads their script?",
            *(config.corpus_shown, different, len(keys), config.base),
        )
    return different


def batches(
    table: PairTable,
    clean: Sequence[Int64],
    model: TextModel,
    config: TrainConfig,
    *,
    steps: int,
    start: int = 0,
    keys: Sequence[tuple[int, ...]] | None = None,
    hard: HardNegativeSampler | None = None,
) -> Iterator[Batch]:
    """Yield the batches of a run, from step ``start`` on.

    The pairs of an epoch and the masks of a batch depend only on the seed and on their
    numbers, so a run can be resumed at any step. Only the order of ``hard`` must be saved.

    Args:
        table: The strings.
        clean: Their token ids, unmasked.
        model: The model with the tokenizer and the mask token.
        config: The options of the run.
        steps: Steps of the whole run.
        start: Steps that are done.
        keys: The keys of the strings; None computes them.
        hard: Orders every epoch but the first, by the weights at the start of the epoch. If
            ``start`` is within an epoch, it must contain the order of that epoch.
    """
    keys = string_keys(table, clean) if keys is None else keys
    size = config.batch_size
    pairs_P2 = draw_epoch(table, config, rng=np.random.default_rng([config.seed, 0]))
    epoch, a_epoch = 0, len(pairs_P2) // size
    for step in range(start, steps):
        if step // a_epoch != epoch:
            epoch = step // a_epoch
            begun = step % a_epoch > 0
            if hard is not None and hard.pairs_P2 is not None and begun:
                pairs_P2 = hard.pairs_P2
            else:
                rng = np.random.default_rng([config.seed, epoch])
                pairs_P2 = draw_epoch(table, config, rng=rng)
                if hard is not None:
                    pairs_P2 = hard.begin(pairs_P2, keys)
        at = step % a_epoch * size
        rng = np.random.default_rng([config.seed, epoch, step])
        yield make_batch(pairs_P2[at : at + size], table, clean, keys, model, config, rng=rng)


def string_keys(table: PairTable, clean: Sequence[Int64]) -> list[tuple[int, ...]]:
    """Return the keys of each string: one for its token ids, and one for each of its meanings.

    Different strings can have the same token ids (case, truncation). The model cannot tell
    them apart, so they must not be negatives.
    """
    seen: dict[bytes, int] = {}
    return [
        (seen.setdefault(ids.tobytes(), len(seen)), *(-1 - group for group in groups))
        for ids, groups in zip(clean, table.groups, strict=True)
    ]


def make_batch(
    pairs_P2: Int64,
    table: PairTable,
    clean: Sequence[Int64],
    keys: Sequence[tuple[int, ...]],
    model: TextModel,
    config: TrainConfig,
    *,
    rng: np.random.Generator,
) -> Batch:
    """Make the views of pairs; second views of mirror pairs are masked and repeat tokens."""
    size = len(pairs_P2)
    rows_V = pairs_P2.T.reshape(-1).tolist()
    texts = [table.strings[row] for row in rows_V]
    tokens = [clean[row] for row in rows_V]
    mirrored = (size + i for i in range(size) if rows_V[i] == rows_V[size + i])
    masked = [
        view
        for view in mirrored
        if config.span_length
        if config.span_rate == 1 or rng.random() < config.span_rate
    ]
    for view in masked:
        texts[view] = mask_span(
            texts[view],
            length=config.span_length,
            mask_token=model.tokenizer.mask_token,
            rng=rng,
            min_length=config.span_min_length,
        )
    fresh = tokenize([texts[view] for view in masked], model) if masked else []
    for view, ids in zip(masked, fresh, strict=True):
        tokens[view] = ids
    return Batch(texts=texts, tokens=tokens, keys=[keys[row] for row in rows_V])
