"""Write the files beside the graph that other programs need to serve the same folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mirror_rt.errors import ModelError
from mirror_rt.pooling_config import write_modules
from mirror_rt.training.model import TextModel

__all__ = ["is_uncased", "write_config_files"]


def is_uncased(tokenizer: Any) -> bool:  # noqa: ANN401  (transformers has no types)
    """Return whether a fast tokenizer lowercases text."""
    normalizer = tokenizer.backend_tokenizer.normalizer if tokenizer.is_fast else None
    if normalizer is None:
        return False
    small = map(normalizer.normalize_str, "aäжω")
    return list(small) == list(map(normalizer.normalize_str, "AÄЖΩ"))


def write_config_files(model: TextModel, folder: Path) -> None:
    """Write tokenizer, configuration and the modules of sentence-transformers.

    The tokenizer is saved without fixed padding or truncation, and with the bundle's maximum
    length: every program cuts a long string at the same place. A tokenizer without a padding
    token uses another special token: padding is masked, but other programs need its name.

    Raises:
        ModelError: The model has no fast tokenizer.
    """
    tokenizer = model.tokenizer
    if not tokenizer.is_fast:
        raise ModelError(
            f"{tokenizer.name_or_path}: has no fast tokenizer, which a bundle needs; "
            "save the model with a tokenizer.json"
        )
    tokenizer.backend_tokenizer.no_padding()
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.model_max_length = model.max_length
    tokenizer.padding_side = tokenizer.truncation_side = "right"
    if tokenizer.pad_token is None and tokenizer.all_special_tokens:
        tokenizer.pad_token = tokenizer.all_special_tokens[0]
    tokenizer.save_pretrained(folder)
    model.model.config.save_pretrained(folder)
    write_modules(folder, dim=model.dim, pooling=model.pooling, max_length=model.max_length)
