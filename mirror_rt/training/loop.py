"""Train an encoder: the whole of Mirror-BERT, from strings to a checkpoint, top to bottom."""

from __future__ import annotations

import math
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from mirror_rt.errors import ConfigError, ModelError, TrainingError
from mirror_rt.staging import check_target, staging_folder
from mirror_rt.training.augment import mask_span
from mirror_rt.training.checkpoint import fetch, read_pooling, write_checkpoint
from mirror_rt.training.config import TrainConfig
from mirror_rt.training.loss import info_nce
from mirror_rt.training.model import (
    TextModel,
    encode_groups,
    length_groups,
    load_model,
    tokenise,
)
from mirror_rt.training.pairs import PairTable, draw_epoch, read_table, related
from mirror_rt.types import Pooling, Preset

if TYPE_CHECKING:
    from mirror_rt.types import Int64

__all__ = ["Step", "TrainReport", "train"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What is known after a step.

    Attributes:
        step: Steps done.
        steps: Steps of the run.
        loss: The step's loss.
        strings_per_second: Views encoded in a second, over the run so far.
        seconds_left: An estimate.
    """

    step: int
    steps: int
    loss: float
    strings_per_second: float
    seconds_left: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainReport:
    """What a run did.

    Attributes:
        out: The checkpoint folder.
        losses: The loss of each step.
        counts: Lines read, and what was dropped.
        pooling: How the checkpoint pools.
        seconds: Wall-clock time of the steps.
        strings_per_second: Views encoded in a second.
    """

    out: Path
    losses: tuple[float, ...]
    counts: dict[str, int]
    pooling: Pooling
    seconds: float
    strings_per_second: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """The views of one step: V = 2B, all first views, then all second.

    Attributes:
        texts: V strings, as the encoder sees them.
        tokens: Their token ids.
        keys: For each the string it came from and its meanings, as ``related`` wants them.
    """

    texts: list[str]
    tokens: list[Int64]
    keys: list[tuple[int, ...]]


def train(
    config: TrainConfig, *, progress: Callable[[Step], None] | None = None, force: bool = False
) -> TrainReport:
    """Train an encoder without labels and write it as a checkpoint.

    Source: Liu et al. 2021, *Fast, Effective, and Self-Supervised*, section 3.

    Args:
        config: What to do.
        progress: Called after each step.
        force: Whether an existing ``config.out`` is replaced, once the new one is whole.

    Raises:
        ConfigError: The options contradict each other, or do not fit the base model.
        InputError: The corpus cannot be read, or is too small.
        ModelError: The base cannot be used.
        TargetError: ``config.out`` is taken or cannot be written.
        TrainingError: Training cannot go on.
    """
    check_target(config.out, force=force)
    table = read_table(config)
    with _seeded(config):
        model = load_base(config)
        model.model.to(pick_device(config.device)).train()
        optimiser = torch.optim.AdamW(
            model.model.parameters(), lr=config.lr, weight_decay=config.weight_decay, fused=True
        )
        clean = tokenise(table.strings, model)
        steps = count_steps(table, config)
        losses: list[float] = []
        started = time.perf_counter()
        for batch in batches(table, clean, model, config, steps=steps):
            optimiser.zero_grad()
            loss = backward(model, batch, config)
            if not math.isfinite(loss):
                raise TrainingError(_not_finite(len(losses) + 1, loss, batch, config))
            optimiser.step()
            losses.append(loss)
            if progress is not None:
                progress(_step(losses, steps, config, time.perf_counter() - started))
        seconds = time.perf_counter() - started
    report = TrainReport(
        out=config.out,
        losses=tuple(losses),
        counts=dict(table.counts),
        pooling=model.pooling,
        seconds=seconds,
        strings_per_second=2 * config.batch_size * len(losses) / seconds,
    )
    with staging_folder(config.out, force=force) as folder:
        write_checkpoint(model, folder, training=_account(config, report, table))
    return report


def load_base(config: TrainConfig) -> TextModel:
    """Load the base model of a run, with its dropout and pooling.

    Raises:
        ModelError: It cannot be used.
        ConfigError: The options do not fit it.
    """
    folder = fetch(config.base)
    own_pooling, _ = read_pooling(folder)
    model = load_model(
        folder, pooling=own_pooling, max_length=config.max_length, dropout=config.dropout
    )
    pooling = config.pooling
    if pooling is None:
        plain = not (folder / "modules.json").is_file()
        bert_sentences = (
            config.preset is Preset.SENTENCE and model.model.config.model_type == "bert"
        )
        pooling = Pooling.MEAN if plain and bert_sentences else own_pooling
    if config.span_length and model.tokenizer.mask_token is None:
        raise ModelError(
            f"{config.base}: its tokenizer has no mask token, which span masking needs; "
            "give another base, or --span-length 0"
        )
    return TextModel(
        model=model.model, tokenizer=model.tokenizer, pooling=pooling, max_length=model.max_length
    )


def pick_device(name: str) -> torch.device:
    """Return the device named, or for ``auto`` a GPU where there is one.

    Raises:
        ConfigError: There is no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"device: {name} is not to be had here; give --device cpu") from error
    return device


def count_steps(table: PairTable, config: TrainConfig) -> int:
    """Return the steps of a run; an epoch's last pairs that fill no batch are left out.

    Raises:
        TrainingError: There are too few pairs for one batch.
    """
    pairs = len(draw_epoch(table, config, rng=np.random.default_rng([config.seed, 0])))
    if pairs < config.batch_size:
        way_out = f", or --batch-size {pairs}" if pairs >= 2 else ""
        raise TrainingError(
            f"{config.corpus}: {pairs} different pairs do not fill a batch of "
            f"{config.batch_size}; give more strings{way_out}"
        )
    steps = pairs // config.batch_size * config.epochs
    return steps if config.max_steps is None else min(steps, config.max_steps)


def batches(
    table: PairTable,
    clean: Sequence[Int64],
    model: TextModel,
    config: TrainConfig,
    *,
    steps: int,
) -> Iterator[Batch]:
    """Yield the batches of a run. Each epoch is drawn and masked anew, from the seed alone.

    Args:
        table: The strings.
        clean: Their token ids, unmasked.
        model: Whose tokenizer and mask token to use.
        config: What to do.
        steps: Batches to yield.
    """
    # Strings that differ in letters alone may be one to the model (case, cut-off ends):
    # what it cannot tell apart must not be called different.
    seen: dict[bytes, int] = {}
    keys = [
        (seen.setdefault(ids.tobytes(), len(seen)), *(-1 - group for group in groups))
        for ids, groups in zip(clean, table.groups, strict=True)
    ]
    size = config.batch_size
    epoch = done = 0
    while done < steps:
        rng = np.random.default_rng([config.seed, epoch])
        pairs_P2 = draw_epoch(table, config, rng=rng)
        for start in range(0, len(pairs_P2) - size + 1, size):
            if done == steps:
                return
            rows_V = pairs_P2[start : start + size].T.reshape(-1).tolist()
            texts = [table.strings[row] for row in rows_V]
            tokens = [clean[row] for row in rows_V]
            masked = [
                size + i
                for i in range(size)
                if rows_V[i] == rows_V[size + i] and config.span_length
                if config.span_rate == 1 or rng.random() < config.span_rate
            ]
            for view in masked:
                texts[view] = mask_span(
                    texts[view],
                    length=config.span_length,
                    mask_token=model.tokenizer.mask_token,
                    rng=rng,
                    guard=config.span_guard,
                )
            if masked:
                fresh = tokenise([texts[view] for view in masked], model)
                for view, ids in zip(masked, fresh, strict=True):
                    tokens[view] = ids
            yield Batch(texts=texts, tokens=tokens, keys=[keys[row] for row in rows_V])
            done += 1
        epoch += 1


def backward(model: TextModel, batch: Batch, config: TrainConfig) -> float:
    """Compute the loss of a batch and add its gradient to the parameters; return the loss."""
    groups = length_groups([len(ids) for ids in batch.tokens])
    related_VV = torch.from_numpy(related(batch.keys)).to(model.model.device)
    vectors = encode_groups(model, batch.tokens, groups)
    back = torch.from_numpy(np.argsort(np.concatenate(groups))).to(model.model.device)
    loss = info_nce(torch.cat(vectors)[back], related_VV, temperature=config.temperature)
    torch.autograd.backward(loss)
    return loss.item()


@contextmanager
def _seeded(config: TrainConfig) -> Iterator[None]:
    """Seed torch and set its threads for the block; afterwards all is as it was."""
    threads = torch.get_num_threads()
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        if config.threads is not None:
            torch.set_num_threads(config.threads)
        try:
            yield
        finally:
            torch.set_num_threads(threads)


def _step(losses: list[float], steps: int, config: TrainConfig, seconds: float) -> Step:
    done = len(losses)
    return Step(
        step=done,
        steps=steps,
        loss=losses[-1],
        strings_per_second=2 * config.batch_size * done / seconds,
        seconds_left=seconds / done * (steps - done),
    )


def _not_finite(step: int, loss: float, batch: Batch, config: TrainConfig) -> str:
    some = ", ".join(repr(text[:60]) for text in batch.texts[:5])
    return (
        f"step {step}: the loss is {loss}, in the batch of {some} …; "
        f"try a lower --lr (it was {config.lr}) or a higher --temperature"
    )


def _account(config: TrainConfig, report: TrainReport, table: PairTable) -> dict[str, object]:
    """What ``training.json`` says of a run."""
    packages = ("mirror-rt", "torch", "transformers", "tokenizers", "numpy")
    return {
        "config": config.as_json(),
        "pooling": report.pooling.value,
        "counts": report.counts,
        "corpus_sha256": table.sha256,
        "losses": [round(loss, 6) for loss in report.losses],
        "seconds": round(report.seconds, 2),
        "strings_per_second": round(report.strings_per_second, 1),
        "versions": {"python": platform.python_version()} | {p: version(p) for p in packages},
    }
