"""Save and resume the state of an unfinished run, on a CPU bit by bit, without pickle."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch

from mirror_rt.errors import ConfigError, TargetError, TrainingError
from mirror_rt.staging import check_target, clear_leftovers, staging_folder
from mirror_rt.training.config import COMMON, TrainConfig
from mirror_rt.training.model import TextModel

__all__ = ["check_unfinished", "folder_of", "load_state", "save_state"]

_WEIGHTS, _OPTIMIZER, _RANDOM = "model.safetensors", "optimizer.safetensors", "random.safetensors"
_REST, _ACCOUNT = "rest.safetensors", "state.json"

_FREE = {"save_steps", "threads", "mini_batch_size"}
"""Options that may change when a run is resumed; all others decide its weights.

``mini_batch_size`` decides which draws of dropout a string gets. It may change because the
out-of-memory error suggests it; the run then does not end in the same bytes.
"""


def folder_of(out: Path) -> Path:
    """Return the folder with the state of an unfinished run, beside the checkpoint."""
    return out.with_name(f"{out.name}.unfinished")


def check_unfinished(out: Path, *, resume: bool, force: bool) -> None:
    """Refuse to start over if an unfinished run can be resumed; remove half-written states.

    Raises:
        TargetError: There is an unfinished run, and neither ``resume`` nor ``force`` is set; or
            the folder is not an unfinished run.
    """
    folder = folder_of(out)
    if folder.exists() and not (resume or force):
        raise TargetError(
            f"{folder}: holds an unfinished run; give --resume to continue it, "
            "or --force to start over"
        )
    check_target(folder, force=True, folder=True)
    clear_leftovers(folder)


def save_state(
    model: TextModel,
    optimizer: torch.optim.Optimizer,
    losses: list[float],
    eval_history: list[dict[str, float]],
    config: TrainConfig,
    *,
    corpus_sha256: str,
    rest: Mapping[str, torch.Tensor],
) -> None:
    """Save the state of a run atomically.

    The order of pairs and their masks follow from the seed and the step, that is the number
    of losses. ``rest`` is the state that depends on earlier weights.
    """
    from safetensors.torch import save_file

    optimizer_state = {
        f"{parameter}.{name}": value
        for parameter, values in optimizer.state_dict()["state"].items()
        for name, value in values.items()
    }
    random = {"cpu": torch.get_rng_state()}
    if model.model.device.type == "cuda":
        random["cuda"] = torch.cuda.get_rng_state(model.model.device)
    account = {
        "losses": losses,
        "eval_history": eval_history,
        "config": config.to_dict(),
        "corpus_sha256": corpus_sha256,
        "files": [_WEIGHTS, _OPTIMIZER, _RANDOM, _REST],
    }
    with staging_folder(folder_of(config.out), force=True) as folder:
        save_file({k: v.clone() for k, v in model.model.state_dict().items()}, folder / _WEIGHTS)
        save_file(optimizer_state, folder / _OPTIMIZER)
        save_file(random, folder / _RANDOM)
        save_file(dict(rest), folder / _REST)
        (folder / _ACCOUNT).write_text(json.dumps(account), encoding="utf-8")


def load_state(
    model: TextModel, optimizer: torch.optim.Optimizer, config: TrainConfig, *, corpus_sha256: str
) -> tuple[list[float], list[dict[str, float]], dict[str, torch.Tensor]]:
    """Restore the saved state of a run.

    Without a saved state (the run ended before its first one) this changes nothing.

    Returns:
        The losses of the finished steps, the measurements on held-out pairs, and the rest.

    Raises:
        ConfigError: The run was started with other options, or on another corpus.
        TrainingError: The saved state cannot be read.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    folder = folder_of(config.out)
    if not folder.exists():
        return [], [], {}
    try:
        account = json.loads((folder / _ACCOUNT).read_text(encoding="utf-8"))
        weights, state, random, rest = (
            load_file(folder / name) for name in (_WEIGHTS, _OPTIMIZER, _RANDOM, _REST)
        )
    except (OSError, ValueError, SafetensorError) as error:
        raise TrainingError(
            f"{folder}: the unfinished run cannot be read ({error}); give --force to start over"
        ) from error
    _check_same(account, config, corpus_sha256, folder)
    model.model.load_state_dict(weights)
    by_parameter: dict[int, dict[str, Any]] = {}
    for key, value in state.items():
        parameter, name = key.split(".", 1)
        by_parameter.setdefault(int(parameter), {})[name] = value
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": by_parameter, "param_groups": groups})
    torch.set_rng_state(random["cpu"])
    if "cuda" in random:
        torch.cuda.set_rng_state(random["cuda"], model.model.device)
    return list(account["losses"]), list(account["eval_history"]), rest


def _check_same(
    account: dict[str, Any], config: TrainConfig, corpus_sha256: str, folder: Path
) -> None:
    # An option that did not exist at the start of the run had its default value.
    then = {f.name: f.default for f in fields(TrainConfig)} | dict(COMMON) | account["config"]
    now = config.to_dict()
    for name in sorted((then.keys() | now.keys()) - _FREE):
        if then.get(name) != now.get(name):
            raise ConfigError(
                f"{folder}: was begun with {name}={then.get(name)}, now it is {now.get(name)}; "
                "give the same options to continue, or --force to start over"
            )
    if account["corpus_sha256"] != corpus_sha256:
        raise ConfigError(
            f"{folder}: was started with other strings than {config.corpus_shown} has now; "
            "give the same corpus to continue, or --force to start over"
        )
