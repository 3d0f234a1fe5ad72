"""Write and open checkpoints: folders that transformers and sentence-transformers can load."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mirror_rt.errors import ModelError
from mirror_rt.folders import FolderKind, folder_kind
from mirror_rt.pooling_config import read_pooling, write_modules
from mirror_rt.staging import contents
from mirror_rt.training.encoding import encode_all
from mirror_rt.training.model import TextModel, load_model, tokenize
from mirror_rt.training.model_card import model_card
from mirror_rt.types import Pooling

if TYPE_CHECKING:
    from mirror_rt.types import Float32

__all__ = ["TorchEncoder", "resolve_checkpoint", "write_checkpoint"]

_UNNEEDED = ["*.bin", "*.h5", "*.msgpack", "*.ot", "onnx/*", "openvino/*", "*/*.safetensors"]


def resolve_checkpoint(name: str | Path) -> Path:
    """Return the folder of a model: a local one, or one downloaded from the hub.

    Weights in pickles are never downloaded.

    Raises:
        ModelError: It is a bundle or a file; or there is no such folder, and the hub does not
            have it or cannot be reached.
    """
    folder = Path(name)
    if folder.is_dir():
        if folder_kind(folder) is FolderKind.BUNDLE:
            raise ModelError(
                f"{folder}: is a bundle, whose weights are for lookup alone; "
                "give the checkpoint or base model that it was exported from"
            )
        if not (folder / "config.json").is_file():
            raise ModelError(f"{folder}: has no config.json, so it is not a model")
        return folder
    if folder.exists():
        raise ModelError(f"{folder}: is a file; name the folder of a model")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(str(name), ignore_patterns=_UNNEEDED))
    except HFValidationError as error:
        raise ModelError(f"{name}: no such folder") from error
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise ModelError(
            f"{name}: no such folder, and the Hugging Face hub does not give it "
            f"({type(error).__name__}); check the name and the network"
        ) from error


def write_checkpoint(
    model: TextModel, folder: Path, *, training: Mapping[str, Any], more: Sequence[str] = ()
) -> None:
    """Write a model with its tokenizer, pooling and ``training.json``.

    Args:
        model: The model to write, as safetensors.
        folder: An empty folder.
        training: The content of ``training.json``, without the files of the folder.
        more: Files that are written later.
    """
    model.model.save_pretrained(folder, safe_serialization=True)
    model.tokenizer.save_pretrained(folder)
    write_modules(folder, dim=model.dim, pooling=model.pooling, max_length=model.max_length)
    (folder / "2_Normalize").mkdir()
    (folder / "README.md").write_text(model_card(training), encoding="utf-8")
    account = {**training, "files": sorted({*contents(folder), *more})}
    text = json.dumps(account, indent=2, ensure_ascii=False)
    (folder / "training.json").write_text(text + "\n", encoding="utf-8")


class TorchEncoder:
    """A checkpoint as an ``Embedder``, in full precision on torch."""

    def __init__(self, model: TextModel) -> None:
        self.model = model

    @classmethod
    def open(
        cls, name: str | Path, *, pooling: Pooling | None = None, max_length: int | None = None
    ) -> TorchEncoder:
        """Open a checkpoint or base model, by folder or hub name.

        Args:
            name: The folder, or a name of the hub.
            pooling: By default as in the folder's ``1_Pooling``, or [CLS].
            max_length: By default as in the folder; otherwise 512 tokens or the model's maximum.

        Raises:
            ModelError: The model cannot be used.
            ConfigError: ``max_length`` is above the model's positions, or too short for text.
        """
        folder = resolve_checkpoint(name)
        own_pooling, own_length = read_pooling(folder)
        model = load_model(
            folder,
            pooling=pooling or own_pooling,
            max_length=own_length if max_length is None else max_length,
        )
        model.model.eval()
        return cls(model)

    @property
    def dim(self) -> int:
        """Width D of a vector."""
        return self.model.dim

    def encode(self, texts: Sequence[str]) -> Float32:
        """Return (N, D) float32 unit rows, row i for texts[i].

        Raises:
            InputError: A text contains a lone surrogate.
        """
        return encode_all(self.model, tokenize(texts, self.model))
