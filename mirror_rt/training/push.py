"""Upload a checkpoint or bundle to the Hugging Face hub."""

from __future__ import annotations

import json
from pathlib import Path

from mirror_rt.errors import InputError, ModelError, TargetError
from mirror_rt.training.card import model_card

__all__ = ["push", "with_scores"]

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
        scores: A report of ``mirror-rt evaluate --json``, to stand in the model card.
        private: Whether a new repository is private.
        endpoint: Another hub than huggingface.co.
        token: Access token; by default the one of ``hf auth login``.

    Raises:
        ModelError: The folder is neither a checkpoint nor a bundle.
        InputError: The report cannot be read.
        TargetError: The hub is out of reach or refuses.
    """
    if not any((folder / name).is_file() for name in ("model.safetensors", "manifest.json")):
        raise ModelError(f"{folder}: neither a checkpoint nor a bundle; name such a folder")
    card = None if scores is None else with_scores(folder, scores)
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    hub = HfApi(endpoint=endpoint, token=token)
    try:
        address = hub.create_repo(repository, private=private, exist_ok=True)
        hub.upload_folder(
            repo_id=address.repo_id,
            folder_path=folder,
            ignore_patterns=_NOT_PUBLIC + ([] if card is None else ["README.md"]),
            commit_message="Upload by mirror-rt",
        )
        if card is not None:
            hub.upload_file(
                repo_id=address.repo_id,
                path_in_repo="README.md",
                path_or_fileobj=card.encode(),
                commit_message="Model card with scores",
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


def with_scores(folder: Path, report: Path) -> str:
    """Return a checkpoint's model card with the scores of a report.

    Raises:
        ModelError: The folder has no ``training.json``.
        InputError: The report cannot be read.
    """
    try:
        training = json.loads((folder / "training.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{folder}: its training.json cannot be read ({error})") from error
    try:
        content = json.loads(report.read_text(encoding="utf-8"))
        results = [result for part in content["reports"] for result in part["results"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{report}: not a report; make one with: mirror-rt evaluate MODEL --json > FILE"
        ) from error
    return model_card(training, scores=results)
