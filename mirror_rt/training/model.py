"""The encoder in training: load it with a given dropout, and tokenize for it.

Axes: T tokens, D width of a vector.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mirror_rt._count import counted
from mirror_rt.encodings import lone_surrogate
from mirror_rt.errors import ConfigError, InputError, ModelError
from mirror_rt.types import Pooling

if TYPE_CHECKING:
    from mirror_rt.types import Int64

__all__ = ["FAMILIES", "TextModel", "load_model", "tokenize"]

FAMILIES = (
    "albert",
    "bert",
    "camembert",
    "deberta-v2",
    "distilbert",
    "electra",
    "ernie",
    "modernbert",
    "mpnet",
    "roberta",
    "xlm-roberta",
)
"""The families of masked language models that the tests train; others may have other inputs,
dropout layers or positions."""
_DROPOUTS = (
    "hidden_dropout_prob",
    "attention_probs_dropout_prob",
    "dropout",
    "attention_dropout",
    "embedding_dropout",
    "mlp_dropout",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TextModel:
    """A transformer with its tokenizer.

    Attributes:
        model: A Hugging Face encoder; in evaluation mode when loaded.
        tokenizer: Its tokenizer.
        pooling: How token states become a vector.
        max_length: Maximum tokens of an input; the rest is cut off.
        apart: Whether each string needs its own row of the batch.
    """

    model: Any
    tokenizer: Any
    pooling: Pooling
    max_length: int
    apart: bool = False

    @property
    def dim(self) -> int:
        """Width D of a vector."""
        return int(self.model.config.hidden_size)


def load_model(
    folder: Path,
    *,
    pooling: Pooling,
    max_length: int | None,
    dropout: float | None = None,
    attention: str | None = None,
) -> TextModel:
    """Load an encoder from a folder: safetensors only, no code from the folder.

    The dropout rate is set in the configuration *before* the weights are loaded: attention
    under SDPA reads its rate only then. Changing the modules afterwards would leave attention
    at the old rate.

    Args:
        folder: A Hugging Face model folder.
        pooling: How token states become a vector.
        max_length: Maximum tokens of an input; None for the model's maximum, up to 512.
        dropout: Rate for hidden states and attention; None keeps the model's rate.
        attention: ``eager`` for attention in plain operators, for export; None for the
            fastest.

    Raises:
        ModelError: The folder is not a model of a supported kind.
        ConfigError: ``max_length`` is more than the model's positions, or leaves no room for
            text beside the special tokens.
    """
    from safetensors import SafetensorError
    from transformers import AutoConfig, AutoModel, AutoTokenizer

    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{folder}: not a Hugging Face model ({_line(error)})") from error
    decoder = config.is_encoder_decoder or getattr(config, "is_decoder", False)
    if decoder or config.model_type not in FAMILIES:
        known = config.model_type in FAMILIES
        kind = f"a {config.model_type} decoder" if known else config.model_type
        raise ModelError(
            f"{folder}: {kind} is not a masked language model of a family tried here; "
            f"give one of {', '.join(FAMILIES)}"
        )
    own_rates = {name: getattr(config, name) for name in _DROPOUTS if hasattr(config, name)}
    if dropout is not None:
        for name in own_rates:
            setattr(config, name, dropout)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:  # broken JSON raises exactly that class, a missing file any
        raise ModelError(
            f"{folder}: its tokenizer cannot be read ({_line(error)}); "
            "copy the files of its tokenizer beside its weights"
        ) from error
    try:
        with _no_load_warnings():
            model, loaded = AutoModel.from_pretrained(
                folder,
                config=config,
                trust_remote_code=False,
                use_safetensors=True,
                attn_implementation=attention,
                output_loading_info=True,
            )
    except (OSError, ValueError, TypeError, RuntimeError, SafetensorError) as error:
        raise ModelError(
            f"{folder}: its weights cannot be read ({_line(error)}); "
            "is its safetensors file there, and whole?"
        ) from error
    # Missing weights were drawn at random. The pooler is not used; many models have none.
    missing = sorted(key for key in loaded["missing_keys"] if not key.startswith("pooler."))
    if missing:
        raise ModelError(
            f"{folder}: lacks {len(missing)} of the encoder's weights ({missing[0]}"
            f"{', …' if len(missing) > 1 else ''}); copy or download the model again"
        )
    for name, rate in own_rates.items():  # the modules keep their rates; the base's are saved
        setattr(model.config, name, rate)
    room = _positions(config, tokenizer)
    if max_length is not None and max_length > room:
        raise ConfigError(
            f"max_length: {folder} takes at most {counted(room, 'token')}, got {max_length}"
        )
    special = tokenizer.num_special_tokens_to_add()
    if max_length is not None and max_length <= special:
        raise ConfigError(
            f"max_length: {counted(max_length, 'token')}, no room for text beside the {special} "
            f"special ones; give at least {special + 1}"
        )
    longest = min(room, 512) if max_length is None else max_length
    return TextModel(model=model, tokenizer=tokenizer, pooling=pooling, max_length=longest)


@contextmanager
def _no_load_warnings() -> Iterator[None]:
    """Drop this thread's warnings about weights: of a missing pooler, which is not used here.

    A filter leaves the verbosity that the user has set, and the warnings of other threads.
    """
    logger, thread = logging.getLogger("transformers.modeling_utils"), threading.get_ident()

    def is_kept(record: logging.LogRecord) -> bool:
        return record.levelno >= logging.ERROR or record.thread != thread

    logger.addFilter(is_kept)
    try:
        yield
    finally:
        logger.removeFilter(is_kept)


def _positions(config: Any, tokenizer: Any) -> int:  # noqa: ANN401  (untyped library)
    """Return the number of positions of the model."""
    room = int(getattr(config, "max_position_embeddings", None) or 512)
    if config.model_type in {"roberta", "xlm-roberta", "camembert", "mpnet"}:
        room -= (config.pad_token_id or 0) + 1  # their positions start after the padding id
    return min(room, int(tokenizer.model_max_length))


def tokenize(texts: Sequence[str], model: TextModel) -> list[Int64]:
    """Return the token ids of each text with special tokens, truncated at the maximum length.

    Raises:
        InputError: A text contains half a surrogate pair; the error names its row.
    """
    ids: list[Int64] = []
    for start in range(0, len(texts), 10_000):
        part = list(texts[start : start + 10_000])
        for row, text in enumerate(part, start):
            if lone_surrogate(text) is not None:
                raise InputError(
                    f"row {row}: holds half a surrogate pair, which is not a character"
                )
        found = model.tokenizer(
            part,
            truncation=True,
            max_length=model.max_length,
            return_attention_mask=False,
            return_token_type_ids=False,
        )["input_ids"]
        ids.extend(np.asarray(row, dtype=np.int64) for row in found)
    return ids


def _line(error: BaseException) -> str:
    """Return the first line of another library's message."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:200]
