"""Upload a checkpoint or bundle to the Hugging Face hub."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mirror_rt.errors import ModelError, TargetError
from mirror_rt.folders import FolderKind, folder_kind
from mirror_rt.training.model_card import read_training

__all__ = ["push", "strip_private_paths"]

_APART = ["*.unfinished/*", ".*", "training.json"]
"""Files that are not uploaded as they are: ``training.json`` goes without local paths."""


def push(
    folder: Path,
    repository: str,
    *,
    private: bool = False,
    endpoint: str | None = None,
    token: str | None = None,
) -> str:
    """Upload a folder as a model repository, created if missing; return its address.

    Args:
        folder: A checkpoint or bundle.
        repository: ``owner/name``.
        private: Whether a new repository is private.
        endpoint: A hub other than huggingface.co.
        token: Access token; by default that of ``hf auth login``.

    Raises:
        ModelError: The folder is neither a checkpoint nor a bundle, or its ``training.json``
            cannot be read.
        TargetError: The hub cannot be reached or refuses.
    """
    if folder_kind(folder) not in {FolderKind.BUNDLE, FolderKind.CHECKPOINT}:
        raise ModelError(f"{folder}: neither a checkpoint nor a bundle; name such a folder")
    trained = (folder / "training.json").is_file()
    training = strip_private_paths(read_training(folder)) if trained else None
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    hub = HfApi(endpoint=endpoint, token=token)
    try:
        address = hub.create_repo(repository, private=private, exist_ok=True)
        hub.upload_folder(
            repo_id=address.repo_id,
            folder_path=folder,
            ignore_patterns=_APART,
            commit_message="Upload by mirror-rt",
        )
        if training is not None:
            hub.upload_file(
                repo_id=address.repo_id,
                path_in_repo="training.json",
                path_or_fileobj=(json.dumps(training, indent=2) + "\n").encode(),
                commit_message="training.json by mirror-rt",
            )
    except HFValidationError as error:
        raise TargetError(f"{repository}: not a repository name; give owner/name") from error
    # Errors of the network, of the card's header, or of a large file.
    except (HfHubHTTPError, OSError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise TargetError(
            f"{repository}: the hub did not accept it ({reason[:200]}); "
            "log in with: hf auth login, or check the name, the network and the card's header"
        ) from error
    return str(address)


def strip_private_paths(training: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of ``training.json`` without local paths."""
    config = dict(training["config"])
    for name in ("corpus", "out", "pairs_file", *["base"] * training["base_is_local"]):
        value = config[name]
        if isinstance(value, list):
            config[name] = [Path(each).name for each in value]
        else:
            config[name] = value and Path(value).name
    return {**training, "config": config}
