"""Train a student of fewer layers to give its teacher's vectors, and write its checkpoint.

The student begins as some of the teacher's own layers, evenly spread from the first to the last
(as in the model distillation of sentence-transformers; Reimers and Gurevych 2020 give the loss
on vectors). Beside each name's vector it learns the cosines of the names of a batch to each
other (relational distillation: Park et al. 2019), as what is linked is a ranking.

B texts of a batch, D width.
"""

from __future__ import annotations

import copy
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from mirror_rt._count import counted
from mirror_rt.errors import ConfigError, InputError, ModelError, TrainingError
from mirror_rt.knowledge.ranking.samples import misspell
from mirror_rt.staging import check_apart, check_target, staging_folder
from mirror_rt.training.checkpoint import TorchEncoder, write_checkpoint
from mirror_rt.training.encoding import encode
from mirror_rt.training.model import TextModel, tokenize
from mirror_rt.version import VERSION

# isort: split
import torch
from torch import Tensor, nn
from torch.nn.functional import kl_div, log_softmax, normalize, softmax

__all__ = ["LayerConfig", "distil_layers", "keep_layers"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerConfig:
    """Settings of a student of fewer layers.

    Attributes:
        layers: Layers of the student, fewer than the teacher's.
        epochs: Passes over the names.
        max_steps: Steps at most; None for all of the passes.
        batch_size: Texts of a batch: half of them names, a quarter each misspelled and recombined.
        lr: Highest learning rate, after the first tenth of the steps.
        temperature: Divides the cosines of a batch before their softmax.
        relational: Weight of the relational loss beside the cosine loss.
        seed: Decides the order, what is misspelled and what is recombined.
    """

    layers: int
    epochs: int = 1
    max_steps: int | None = None
    batch_size: int = 64
    lr: float = 3e-4
    temperature: float = 0.05
    relational: float = 1.0
    seed: int = 0


def distil_layers(
    teacher: str | Path,
    names: Sequence[str],
    out: str | Path,
    config: LayerConfig,
    *,
    force: bool = False,
    progress: Callable[[str, int, int], None] | None = None,
) -> list[float]:
    """Train a student of fewer layers and write it as a checkpoint.

    Args:
        teacher: A checkpoint or base model, as ``TorchEncoder.open`` takes it.
        names: What it is trained on; each different one counts once.
        out: The checkpoint folder to write; it appears whole or not at all.
        config: Settings.
        force: Replace ``out`` if it exists.
        progress: Called with (stage, step, total).

    Returns:
        The loss of each step.

    Raises:
        ModelError: The teacher is not a checkpoint, or its layers cannot be found.
        ConfigError: A setting is out of range.
        InputError: There are fewer different names than a batch has.
        TrainingError: The loss is not finite.
        TargetError: ``out`` exists and ``force`` is not set.
    """
    out = Path(out)
    _check(config)
    check_target(out, force=force, folder=True)
    check_apart(out, {"teacher": teacher})
    different = list(dict.fromkeys(name.strip() for name in names if name.strip()))
    if len(different) < config.batch_size:
        raise InputError(
            f"names: {counted(len(different), 'different name')}, fewer than the "
            f"{config.batch_size} of a batch; give more names"
        )
    begun = time.perf_counter()
    model = TorchEncoder.open(teacher).model
    student = keep_layers(model, config.layers)
    losses = []
    per_epoch = -(-len(different) // (config.batch_size // 2))
    steps = config.epochs * per_epoch
    steps = steps if config.max_steps is None else min(steps, config.max_steps)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        optimizer = torch.optim.AdamW(student.model.parameters(), lr=config.lr, weight_decay=0.01)
        student.model.train()
        for step, texts in zip(range(steps), _batches(different, config), strict=False):
            for group in optimizer.param_groups:
                group["lr"] = config.lr * _share_of_rate(step, steps)
            loss = _loss(model, student, texts, config)
            if not torch.isfinite(loss):
                raise TrainingError(f"step {step}: the loss is not finite; give a lower lr")
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            nn.utils.clip_grad_norm_(student.model.parameters(), 1.0)
            optimizer.step()
            losses.append(loss.item())
            if progress is not None:
                progress("training", step + 1, steps)
        student.model.eval()
    with staging_folder(out, force=force) as fresh:
        account = _account(teacher, student, config, losses, strings=len(different))
        write_checkpoint(
            student, fresh, training=account | {"seconds": time.perf_counter() - begun}
        )
    return losses


def keep_layers(model: TextModel, count: int) -> TextModel:
    """Return a copy of a model that has ``count`` of its layers, evenly spread.

    Raises:
        ModelError: The layers are shared, or not one list.
        ConfigError: ``count`` is not below the layers that there are.
    """
    config = model.model.config
    field = "n_layers" if hasattr(config, "n_layers") else "num_hidden_layers"
    whole = int(getattr(config, field))
    if not 1 <= count < whole:
        raise ConfigError(f"layers: must be from 1 to {whole - 1}; the teacher has {whole}")
    student = copy.deepcopy(model.model)
    lists = [
        (owner, name)
        for owner in student.modules()
        for name, child in owner.named_children()
        if isinstance(child, nn.ModuleList) and len(child) == whole
    ]
    if len(lists) != 1:
        raise ModelError(
            f"{config.model_type}: one list of modules does not hold its "
            f"{counted(whole, 'layer')}, so that none can be left out"
        )
    owner, name = lists[0]
    chosen = np.linspace(0, whole - 1, count).round().astype(int) if count > 1 else [0]
    setattr(owner, name, nn.ModuleList(getattr(owner, name)[int(place)] for place in chosen))
    setattr(student.config, field, count)
    return replace(model, model=student)


def _check(config: LayerConfig) -> None:
    if config.batch_size < 8:
        raise ConfigError(f"batch_size: must be at least 8, got {config.batch_size}")
    for name in ("epochs", "lr", "temperature"):
        if not getattr(config, name) > 0:
            raise ConfigError(f"{name}: must be above 0, got {getattr(config, name)}")
    if config.max_steps is not None and config.max_steps < 1:
        raise ConfigError(f"max_steps: must be at least 1, got {config.max_steps}")
    if not config.relational >= 0:
        raise ConfigError(f"relational: must not be negative, got {config.relational}")


def _share_of_rate(step: int, steps: int) -> float:
    """Rise over the first tenth, then fall to nothing."""
    warm = max(1, steps // 10)
    return (step + 1) / warm if step < warm else (steps - step) / max(1, steps - warm)


def _batches(names: Sequence[str], config: LayerConfig) -> Iterator[list[str]]:
    """Yield names, and misspelled and recombined ones, without end."""
    rng, spelling = random.Random(config.seed), np.random.default_rng(config.seed)
    half, quarter = config.batch_size // 2, config.batch_size // 4
    while True:
        order = rng.sample(range(len(names)), len(names))
        for begin in range(0, len(order), half):
            batch = [names[row] for row in order[begin : begin + half]]
            others = [names[rng.randrange(len(names))] for _ in range(3 * quarter)]
            wrong = (misspell(name, spelling) for name in others[:quarter])
            pairs = zip(others[quarter : 2 * quarter], others[2 * quarter :], strict=True)
            yield list(dict.fromkeys([*batch, *filter(None, wrong), *map(_recombined, pairs)]))


def _recombined(pair: tuple[str, str]) -> str:
    """Return the first half of a name's words and the second half of another's.

    >>> _recombined(("chronic kidney disease", "pain of the hand"))
    'chronic the hand'
    """
    first, second = (name.split() for name in pair)
    return " ".join([*first[: max(1, len(first) // 2)], *second[len(second) // 2 :]])


def _loss(
    teacher: TextModel, student: TextModel, texts: Sequence[str], config: LayerConfig
) -> Tensor:
    tokens = tokenize(texts, teacher)
    with torch.no_grad():
        wanted_BD = normalize(encode(teacher, tokens).float(), dim=-1)
    found_BD = normalize(encode(student, tokens).float(), dim=-1)
    cosine = 1 - (wanted_BD * found_BD).sum(dim=-1).mean()
    if not config.relational:
        return cosine
    itself = torch.eye(len(texts), dtype=torch.bool)
    by_teacher = (wanted_BD @ wanted_BD.T / config.temperature).masked_fill(itself, -1e9)
    by_student = (found_BD @ found_BD.T / config.temperature).masked_fill(itself, -1e9)
    relational = kl_div(
        log_softmax(by_student, dim=-1), softmax(by_teacher, dim=-1), reduction="batchmean"
    )
    loss: Tensor = cosine + config.relational * relational
    return loss


def _account(
    teacher: str | Path,
    student: TextModel,
    config: LayerConfig,
    losses: Sequence[float],
    *,
    strings: int,
) -> dict[str, object]:
    """Return what ``training.json`` says, in the words of ``train``."""
    local = Path(teacher).is_dir()
    record = asdict(config) | {
        "base": str(teacher),
        "corpus": "names",
        "pairs": {"to be like its teacher": 1.0},
        "loss": "cosine, relational",
        "span_length": 0,
        "span_rate": 0.0,
        "dropout": None,
        "drophead": 0.0,
        "weight_decay": 0.01,
        "max_length": student.max_length,
    }
    return {
        "config": record,
        "base_is_local": local,
        "counts": {"strings": strings},
        "losses": list(losses),
        "pooling": student.pooling.value,
        "versions": {"mirror-rt": VERSION, "torch": torch.__version__},
    }
