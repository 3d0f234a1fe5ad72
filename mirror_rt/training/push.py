"""Upload a checkpoint or bundle to the Hugging Face hub."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mirror_rt.errors import InputError, ModelError, TargetError
from mirror_rt.training.card import model_card

__all__ = ["public", "push", "with_scores"]

_NOT_PUBLIC = ["*.unfinished/*", ".*"]


def push(
    folder: Path,
    repository: str,
    *,
    scores: Path | None = None,
    private: bool = False,
    endpoint: str | None = None,
    token: str | None = None,
) -> str:
    """Upload a folder as a model repository, made if it is not there; return its address.

    Args:
        folder: A checkpoint or bundle.
        repository: ``owner/name``.
        scores: A report of ``mirror-rt evaluate --json``, to stand in a checkpoint's model card.
        private: Whether a new repository is private.
        endpoint: Another hub than huggingface.co.
        token: Access token; by default the one of ``hf auth login``.

    Raises:
        ModelError: The folder is neither a checkpoint nor a bundle, or a bundle and has no card
            that scores could stand in.
        InputError: The report cannot be read.
        TargetError: The hub is out of reach or refuses.
    """
    if not any((folder / name).is_file() for name in ("model.safetensors", "manifest.json")):
        raise ModelError(f"{folder}: neither a checkpoint nor a bundle; name such a folder")
    changed: dict[str, str] = {}
    if scores is not None:
        changed["README.md"] = with_scores(folder, scores)
    if (folder / "training.json").is_file():
        changed["training.json"] = json.dumps(public(_training(folder)), indent=2) + "\n"
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    hub = HfApi(endpoint=endpoint, token=token)
    try:
        address = hub.create_repo(repository, private=private, exist_ok=True)
        hub.upload_folder(
            repo_id=address.repo_id,
            folder_path=folder,
            ignore_patterns=[*_NOT_PUBLIC, *changed],
            commit_message="Upload by mirror-rt",
        )
        for name, text in changed.items():
            hub.upload_file(
                repo_id=address.repo_id,
                path_in_repo=name,
                path_or_fileobj=text.encode(),
                commit_message=f"{name} by mirror-rt",
            )
    except HFValidationError as error:
        raise TargetError(f"{repository}: not a repository name; give owner/name") from error
    except (HfHubHTTPError, OSError) as error:  # an OSError: the network
        first = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise TargetError(
            f"{repository}: the hub did not take it ({first[:200]}); "
            "log in with: hf auth login, or check the name and the network"
        ) from error
    return str(address)


def public(training: Mapping[str, Any]) -> dict[str, Any]:
    """Return what ``training.json`` says without the folders of this machine."""
    config = dict(training["config"])
    for name in ("corpus", "out", "pairs_file", *["base"] * training["base_is_local"]):
        config[name] = config[name] and Path(config[name]).name
    return {**training, "config": config}


def with_scores(folder: Path, report: Path) -> str:
    """Return a checkpoint's model card with its scores of a report.

    Raises:
        ModelError: The folder has no ``training.json``.
        InputError: The report cannot be read, or is about other models.
    """
    training = _training(folder)
    name = folder.resolve().name
    try:
        content = json.loads(report.read_text(encoding="utf-8"))
        scores = {
            part["model"]: [
                {"task": r["task"], "scores": dict(r["scores"])} for r in part["results"]
            ]
            for part in content["reports"]
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{report}: not a report; make one with: mirror-rt evaluate {folder} --json > FILE"
        ) from error
    own = [found for model, found in scores.items() if Path(model).resolve().name == name]
    if len(own) != 1:
        raise InputError(
            f"{report}: has scores of {', '.join(scores)}; none, or more than one, is {name}; "
            f"make it with: mirror-rt evaluate {folder} --json > FILE"
        )
    return model_card(training, scores=own[0])


def _training(folder: Path) -> dict[str, Any]:
    try:
        told: dict[str, Any] = json.loads((folder / "training.json").read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelError(
            f"{folder}: has no training.json to make a model card from; "
            "push the checkpoint, or leave --scores away"
        ) from error
    except (OSError, ValueError) as error:
        raise ModelError(f"{folder}: its training.json cannot be read ({error})") from error
    return told
