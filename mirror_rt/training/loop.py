"""Train an encoder with Mirror-BERT: from strings to a checkpoint."""

from __future__ import annotations

import math
import platform
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from itertools import count
from pathlib import Path

import numpy as np

import mirror_rt.training._stack  # noqa: F401
from mirror_rt._count import counted

# isort: split
import torch

from mirror_rt.errors import ConfigError, ModelError, TargetError, TrainingError
from mirror_rt.knowledge.entities.sketch import sketch
from mirror_rt.pooling_config import read_pooling
from mirror_rt.staging import check_apart, check_target, staging_file, staging_folder
from mirror_rt.training.batches import Batch, batches, check_negatives, count_steps, string_keys
from mirror_rt.training.checkpoint import resolve_checkpoint, write_checkpoint
from mirror_rt.training.config import TrainConfig
from mirror_rt.training.curves import EVAL_STREAM, EvalMonitor, plot_curves
from mirror_rt.training.drophead import add_drophead
from mirror_rt.training.dropout_attention import use_fast_dropout
from mirror_rt.training.mining import HardNegativeSampler
from mirror_rt.training.model import TextModel, load_model, tokenize
from mirror_rt.training.model_card import license_of
from mirror_rt.training.pairs import PairTable, hold_out, read_table
from mirror_rt.training.resume import check_unfinished, folder_of, load_state, save_state
from mirror_rt.training.step import backward
from mirror_rt.training.tensorboard import TensorBoardLogger
from mirror_rt.types import Pooling, Preset

__all__ = ["StepMetrics", "TrainReport", "load_base", "pick_device", "train"]

_CURVES = "training.png"
_NO_MEMORY = ("DefaultCPUAllocator", "bad_alloc", "ALLOC_FAILED")
"""Parts of torch's messages for a lack of memory: from its allocator, C++, cuBLAS."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepMetrics:
    """Measurements after a step.

    Attributes:
        step: Steps done.
        steps: Steps of the run.
        loss: The step's loss.
        strings_per_second: Views encoded per second, over the run so far.
        seconds_left: An estimate of the remaining time.
    """

    step: int
    steps: int
    loss: float
    strings_per_second: float
    seconds_left: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainReport:
    """The report of a run.

    Attributes:
        out: The checkpoint folder.
        losses: The loss of each step.
        eval_history: The measurements on held-out pairs, with their steps.
        counts: The numbers of lines that were read and dropped.
        pooling: The pooling of the checkpoint.
        seconds: Wall-clock time of the steps.
        strings_per_second: Views encoded per second.
    """

    out: Path
    losses: tuple[float, ...]
    eval_history: tuple[dict[str, float], ...]
    counts: dict[str, int]
    pooling: Pooling
    seconds: float
    strings_per_second: float


def train(
    config: TrainConfig,
    *,
    progress: Callable[[StepMetrics], None] | None = None,
    force: bool = False,
    resume: bool = False,
    tensorboard: Path | None = None,
    tell: Callable[[str], None] | None = None,
) -> TrainReport:
    """Train an encoder without labels and write it as a checkpoint.

    Source: Liu et al. 2021, *Fast, Effective, and Self-Supervised*, section 3.

    Args:
        config: The configuration.
        progress: Called after each step.
        force: Whether to replace an existing ``config.out``, after the new one is complete.
        resume: Whether to continue an unfinished run. On a CPU with the same threads, the weights
            are bit for bit those of an uninterrupted run; on a GPU, sums may have another order.
        tensorboard: Folder for TensorBoard, with losses, speed and measurements on held-out pairs;
            None for none.
        tell: Called with remarks about the files that were read.

    Raises:
        ConfigError: The options contradict each other, or do not fit the base model.
        InputError: The corpus cannot be read, or is too small.
        MissingExtraError: ``tensorboard`` is given, and TensorBoard is not installed.
        ModelError: The base cannot be used.
        TargetError: ``config.out`` exists, cannot be written, or contains files that the run reads
            or writes.
        TrainingError: Training cannot continue.
    """
    check_target(config.out, force=force, folder=True)
    _check_apart(config, tensorboard)
    check_unfinished(config.out, resume=resume, force=force)
    read = read_table(config)
    if tell is not None:
        for remark in read.remarks:
            tell(remark)
    table, held_P2 = hold_out(read, config, rng=np.random.default_rng([config.seed, EVAL_STREAM]))
    losses: list[float] = []
    with (
        _seeded(config),
        TensorBoardLogger(tensorboard) as board,
        _explain_memory_errors(losses, config),
    ):
        model = load_base(config)
        model.model.to(pick_device(config.device)).train()
        weights = list(model.model.parameters())
        base = [w.detach().to("cpu", copy=True) for w in weights] if config.base_share else []
        optimizer = torch.optim.AdamW(
            weights, lr=config.lr, weight_decay=config.weight_decay, fused=True
        )
        clean = tokenize(table.strings, model)
        steps = count_steps(table, config)
        keys = string_keys(table, clean)
        counts = {**table.counts, "different_to_the_base": check_negatives(keys, config)}
        monitor = EvalMonitor(held_P2, table, clean, keys, model, config, steps=steps)
        hard = None
        if config.hard_negatives:
            hard = HardNegativeSampler(
                model, clean, most=config.hard_negatives, size=config.batch_size
            )
        if resume:
            done, monitor.history, rest = load_state(
                model, optimizer, config, corpus_sha256=table.sha256
            )
            losses += done
            if hard is not None and "order" in rest:
                hard.pairs_P2 = rest["order"].numpy()
            if rest:  # the base's name may refer to another model now
                base = [rest[f"base.{number}"] for number in range(len(base))]
        board.begin(len(losses))
        if not losses:
            board.evaluation(monitor.measure(0))
        already, started = len(losses), time.perf_counter()
        for batch in batches(
            table, clean, model, config, steps=steps, start=already, keys=keys, hard=hard
        ):
            optimizer.zero_grad()
            loss = backward(model, batch, config)
            if not math.isfinite(loss):
                raise _not_finite(f"the loss is {loss}", len(losses) + 1, batch, config)
            optimizer.step()
            if not _finite(weights):
                spoilt = not _finite([w.grad for w in weights if w.grad is not None])
                what = "a gradient is not finite" if spoilt else "the weights are past all bounds"
                raise _not_finite(what, len(losses) + 1, batch, config)
            losses.append(loss)
            board.evaluation(monitor.measure(len(losses)))
            if config.save_steps and len(losses) % config.save_steps == 0:
                rest = {f"base.{number}": own for number, own in enumerate(base)}
                if hard is not None and hard.pairs_P2 is not None:
                    rest["order"] = torch.from_numpy(hard.pairs_P2)
                save_state(
                    model,
                    optimizer,
                    losses,
                    monitor.history,
                    config,
                    corpus_sha256=table.sha256,
                    rest=rest,
                )
            now = _step(losses, already, steps, config, time.perf_counter() - started)
            board.step(now.step, loss=loss, strings_per_second=now.strings_per_second)
            if progress is not None:
                progress(now)
        seconds = time.perf_counter() - started
        if base:
            with torch.no_grad():
                for weight, own in zip(weights, base, strict=True):
                    weight.lerp_(own.to(weight.device), config.base_share)
            board.evaluation(monitor.measure(len(losses)))  # of what is written
    report = TrainReport(
        out=config.out,
        losses=tuple(losses),
        eval_history=tuple(monitor.history),
        counts=counts,
        pooling=model.pooling,
        seconds=seconds,
        strings_per_second=2 * config.batch_size * (len(losses) - already) / seconds,
    )
    with staging_folder(config.out, force=force) as folder:
        folder_of_base = Path(model.model.name_or_path)
        account = _account(config, report, table, folder_of_base)
        write_checkpoint(model, folder, training=account, more=[_CURVES])
        plot_curves(report.losses, report.eval_history, folder / _CURVES)
    shutil.rmtree(folder_of(config.out), ignore_errors=True)
    return report


def _check_apart(config: TrainConfig, tensorboard: Path | None) -> None:
    """Raise an error if the output would replace files that the run reads or writes.

    Raises:
        TargetError: It is or holds a file or folder of the run.
    """
    read = {"base": config.base, "pairs-file": config.pairs_file}
    read |= {f"corpus {number}": corpus for number, corpus in enumerate(config.corpora, 1)}
    paths = {name: Path(path) for name, path in read.items() if path and Path(path).exists()}
    if tensorboard is not None:  # created before the first step; the output comes after the last
        paths["tensorboard"] = tensorboard
    for name, path in paths.items():
        if path.resolve().is_relative_to(config.out.resolve()):
            raise TargetError(f"{config.out}: is or holds the {name}, {path}; choose another name")
    check_apart(config.out, paths)


def load_base(config: TrainConfig) -> TextModel:
    """Load the base model of a run, with its dropout and pooling.

    Raises:
        ModelError: The model cannot be used.
        ConfigError: The options do not fit the model.
    """
    folder = resolve_checkpoint(config.base)
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
    if config.drophead:
        add_drophead(model.model, rate=config.drophead)
    use_fast_dropout(model.model)
    # Drophead drops heads per row of the batch, so a row must be one string.
    return replace(model, pooling=pooling, apart=bool(config.drophead))


def pick_device(name: str) -> torch.device:
    """Return the device with a name; for ``auto``, a GPU if there is one.

    Raises:
        ConfigError: There is no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()  # which "meta" cannot give
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"device: {name} is not available here; give --device cpu") from error
    return device


@contextmanager
def _seeded(config: TrainConfig) -> Iterator[None]:
    """Seed torch and set its threads for a block; restore both afterwards."""
    threads = torch.get_num_threads()
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        if config.threads is not None:
            torch.set_num_threads(config.threads)
        try:
            yield
        finally:
            torch.set_num_threads(threads)


@contextmanager
def _explain_memory_errors(losses: list[float], config: TrainConfig) -> Iterator[None]:
    """Raise an error that names the option to lower if memory runs out."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:  # torch's own is a RuntimeError
        known = isinstance(error, MemoryError | torch.OutOfMemoryError)
        if not known and not any(sign in str(error) for sign in _NO_MEMORY):
            raise
        views = 2 * config.batch_size if config.mini_batch_size is None else config.mini_batch_size
        lower = f"a lower --batch-size than {config.batch_size} or --max-length than "
        way_out = f"{lower}{config.max_length}"
        if views > 1:
            way_out = (
                f"--mini-batch-size {max(1, views // 4)}, which has the same gradient except "
                f"for the draws of dropout, or {way_out}"
            )
        raise TrainingError(
            f"step {len(losses) + 1}: out of memory with {counted(views, 'string')} of up to "
            f"{counted(config.max_length, 'token')} at once; give {way_out}"
        ) from error


def _step(
    losses: list[float], already: int, steps: int, config: TrainConfig, seconds: float
) -> StepMetrics:
    done = len(losses) - already
    return StepMetrics(
        step=len(losses),
        steps=steps,
        loss=losses[-1],
        strings_per_second=2 * config.batch_size * done / seconds,
        seconds_left=seconds / done * (steps - len(losses)),
    )


def _finite(tensors: list[torch.Tensor]) -> bool:
    """Return whether every number is finite and below about 1e19, whose square overflows.

    The Euclidean norm is by far the fastest check of all numbers: 60 ms for BERT base on two
    cores of a CPU.
    """
    # One kernel for all tensors, which torch does not make public.
    norms = getattr(torch, "_foreach_norm", lambda tensors: [t.norm() for t in tensors])
    return bool(torch.stack(list(norms(tensors))).isfinite().all())


def _not_finite(what: str, step: int, batch: Batch, config: TrainConfig) -> TrainingError:
    """Return the error for values that are not finite; write the batch beside the target."""
    some = ", ".join(repr(text[:60]) for text in batch.texts[:5])
    out = config.out
    names = (out.with_name(f"{out.name}.batch-{number}.txt") for number in count(1))
    try:
        file = next(name for name in names if not name.exists())  # it may belong to another run
        with staging_file(file) as fresh:
            fresh.write_text("".join(f"{text}\n" for text in batch.texts), encoding="utf-8")
        where = f"all are in {file}"
    except (OSError, TargetError) as error:  # must not hide the original error
        where = f"all could not be written: {error}"
    return TrainingError(
        f"step {step}: {what}, in the batch of {counted(len(batch.texts), 'string')}: {some} … "
        f"({where}); try a lower --lr (it was {config.lr}) or a higher --temperature"
    )


def _account(
    config: TrainConfig, report: TrainReport, table: PairTable, base: Path
) -> dict[str, object]:
    """Return the content of ``training.json``."""
    packages = ("mirror-rt", "torch", "transformers", "tokenizers", "numpy")
    return {
        "config": config.to_dict(),
        "base_is_local": Path(config.base).exists(),
        "base_license": license_of(base),
        "pooling": report.pooling.value,
        "counts": report.counts,
        "corpus_sha256": table.sha256,
        "sources": [dict(source) for source in table.sources],
        "strings_sketch": sketch(table.strings),
        "losses": [round(loss, 6) for loss in report.losses],
        "eval_history": list(report.eval_history),
        "seconds": round(report.seconds, 2),
        "strings_per_second": round(report.strings_per_second, 1),
        "versions": {"python": platform.python_version()} | {p: version(p) for p in packages},
    }
