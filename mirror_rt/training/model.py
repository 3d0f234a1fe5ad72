"""The encoder being trained: load it with the dropout asked for, and encode without padding waste.

Axes: V views (strings of a batch), B strings of one length group, T tokens, E width of a token
embedding, D width of a vector.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from mirror_rt.errors import ConfigError, InputError, ModelError
from mirror_rt.textfiles import lone_surrogate
from mirror_rt.types import Pooling

if TYPE_CHECKING:
    from mirror_rt.types import Float32, Int64

__all__ = [
    "TextModel",
    "autocast",
    "encode_all",
    "encode_groups",
    "length_groups",
    "load_model",
    "padded",
    "pool",
    "tokenise",
]

_PADDING = 0.12
"""The share of padding that a length group may have. Less padding makes smaller groups, which
the matrix multiplication uses less well."""

_DROPOUTS = ("hidden_dropout_prob", "attention_probs_dropout_prob", "dropout", "attention_dropout")


@dataclass(frozen=True, slots=True, kw_only=True)
class TextModel:
    """A transformer with its tokenizer.

    Attributes:
        model: A Hugging Face encoder; in evaluation mode when loaded.
        tokenizer: Its tokenizer.
        pooling: How token states become a vector.
        max_length: Longest input in tokens; the rest is cut off.
    """

    model: Any
    tokenizer: Any
    pooling: Pooling
    max_length: int

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

    The dropout rate is set in the configuration *before* the weights are loaded, because
    attention under SDPA takes its rate from there once and for all; changing the modules
    afterwards would leave attention at the old rate.

    Args:
        folder: A Hugging Face model folder.
        pooling: How token states become a vector.
        max_length: Longest input in tokens; None for the model's most, up to 512.
        dropout: Rate for hidden states and attention; None keeps the model's own.
        attention: ``eager`` for attention in plain operators, which export wants; None for
            the fastest there is.

    Raises:
        ModelError: The folder is not a model that can be used so.
        ConfigError: ``max_length`` is more than the model has positions for.
    """
    from transformers import AutoConfig, AutoModel, AutoTokenizer
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"{folder}: not a Hugging Face model ({_line(error)})") from error
    decoder = config.is_encoder_decoder or getattr(config, "is_decoder", False)
    if decoder or config.model_type not in MODEL_FOR_MASKED_LM_MAPPING_NAMES:
        raise ModelError(
            f"{folder}: {config.model_type} is not a masked language model; "
            "give an encoder such as BERT, RoBERTa, ELECTRA or DistilBERT"
        )
    own_rates = {name: getattr(config, name) for name in _DROPOUTS if hasattr(config, name)}
    if dropout is not None:
        for name in own_rates:
            setattr(config, name, dropout)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{folder}: its tokenizer cannot be read ({_line(error)})") from error
    try:
        model = AutoModel.from_pretrained(
            folder,
            config=config,
            trust_remote_code=False,
            use_safetensors=True,
            attn_implementation=attention,
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise ModelError(f"{folder}: its weights cannot be read ({_line(error)})") from error
    for name, rate in own_rates.items():  # the modules have theirs; what is saved is the base's
        setattr(model.config, name, rate)
    room = _positions(config, tokenizer)
    if max_length is not None and max_length > room:
        raise ConfigError(f"max_length: {folder} takes at most {room} tokens, got {max_length}")
    return TextModel(
        model=model, tokenizer=tokenizer, pooling=pooling, max_length=max_length or min(room, 512)
    )


def _positions(config: Any, tokenizer: Any) -> int:  # noqa: ANN401  (untyped library)
    """The longest input that the model has positions for."""
    room = int(getattr(config, "max_position_embeddings", None) or 512)
    if config.model_type in {"roberta", "xlm-roberta", "camembert", "mpnet"}:
        room -= (config.pad_token_id or 0) + 1  # their positions are counted from the padding id
    return min(room, int(tokenizer.model_max_length))


def tokenise(texts: Sequence[str], model: TextModel) -> list[Int64]:
    """Return the token ids of each text, special tokens included, cut to the longest input.

    Raises:
        InputError: A text holds half a surrogate pair; its row is named.
    """
    ids: list[Int64] = []
    for start in range(0, len(texts), 10_000):
        part = list(texts[start : start + 10_000])
        for row, text in enumerate(part, start):
            if lone_surrogate(text) is not None:
                raise InputError(f"row {row}: holds half a surrogate pair, which is no character")
        found = model.tokenizer(
            part,
            truncation=True,
            max_length=model.max_length,
            return_attention_mask=False,
            return_token_type_ids=False,
        )["input_ids"]
        ids.extend(np.asarray(row, dtype=np.int64) for row in found)
    return ids


def length_groups(
    lengths: Sequence[int], *, most: int | None = None, padding: float = _PADDING
) -> list[Int64]:
    """Split strings into groups of nearly one length, so that little is padded.

    Args:
        lengths: Tokens of each string.
        most: Strings in a group, at most; None for any number.
        padding: Share of a group that may be padding.

    Returns:
        Row numbers of each group, shortest strings first; together each row once.
    """
    order = np.argsort(np.asarray(lengths, dtype=np.int64), kind="stable")
    groups: list[list[int]] = []
    tokens = 0
    for row in order.tolist():
        length = lengths[row]
        full = bool(groups) and most is not None and len(groups[-1]) >= most
        padded = length * (len(groups[-1]) + 1) if groups else 0
        if not groups or full or padded - tokens - length > padding * padded:
            groups.append([])
            tokens = 0
        groups[-1].append(row)
        tokens += length
    return [np.asarray(group, dtype=np.int64) for group in groups]


def encode_groups(
    model: TextModel, tokens: Sequence[Int64], groups: Sequence[Int64]
) -> list[Tensor]:
    """Encode strings group by group.

    Token embeddings are looked up once for all groups: the gradient of the embedding table
    is as large as the table, and one for each group would cost more than the encoder.

    Args:
        model: The encoder.
        tokens: Token ids of V strings.
        groups: Row numbers of each group, from ``length_groups``.

    Returns:
        For each group (B, D) vectors, not normalised.
    """
    device = model.model.device
    batches = [padded([tokens[row] for row in group], model) for group in groups]
    flat = torch.cat([ids_BT.reshape(-1) for ids_BT, _ in batches]).to(device)
    embedded = model.model.get_input_embeddings()(flat).split([i.numel() for i, _ in batches])
    vectors = []
    for (ids_BT, mask_BT), rows in zip(batches, embedded, strict=True):
        mask_BT = mask_BT.to(device)
        states_BTD = model.model(
            inputs_embeds=rows.view(*ids_BT.shape, -1), attention_mask=mask_BT
        ).last_hidden_state
        vectors.append(pool(states_BTD, mask_BT, model.pooling))
    return vectors


def autocast(model: TextModel, *, bf16: bool | None) -> AbstractContextManager[object]:
    """Compute in bfloat16 within a block; None: on a GPU only."""
    kind = model.model.device.type
    wanted = kind == "cuda" if bf16 is None else bf16
    return torch.autocast(kind, dtype=torch.bfloat16) if wanted else nullcontext()


def encode_all(model: TextModel, tokens: Sequence[Int64]) -> Float32:
    """Encode strings as they will be served: without dropout, in full precision.

    The mode of the model is left as it was, and no random number is drawn.

    Args:
        model: The encoder.
        tokens: Token ids of N strings.

    Returns:
        (N, D) float32 unit rows.
    """
    vectors_ND = np.zeros((len(tokens), model.dim), dtype=np.float32)
    training = model.model.training
    model.model.eval()
    try:
        with torch.inference_mode():
            for group in length_groups([len(ids) for ids in tokens], most=64):
                part = [tokens[row] for row in group]
                (vectors_BD,) = encode_groups(model, part, [np.arange(len(part))])
                vectors_ND[group] = normalize(vectors_BD.float(), dim=1).cpu().numpy()
    finally:
        model.model.train(training)
    return vectors_ND


def padded(tokens: Sequence[Int64], model: TextModel) -> tuple[Tensor, Tensor]:
    """Pad token ids on the right to (B, T) int64, with their mask, 1 for real tokens."""
    lengths_B = torch.tensor([len(ids) for ids in tokens])
    ids_BT = nn.utils.rnn.pad_sequence(
        [torch.from_numpy(ids) for ids in tokens],
        batch_first=True,
        padding_value=model.tokenizer.pad_token_id or 0,
    )
    mask_BT = (torch.arange(ids_BT.shape[1]) < lengths_B[:, None]).long()
    return ids_BT, mask_BT


def pool(states_BTD: Tensor, mask_BT: Tensor, pooling: Pooling) -> Tensor:
    """Turn token states into vectors.

    Args:
        states_BTD: (B, T, D) floating, the last layer, before any pooler.
        mask_BT: (B, T) int64, 1 for real tokens; padding never counts.
        pooling: The first token, or the mean of all real tokens, special ones included.

    Returns:
        (B, D), not normalised.
    """
    match pooling:
        case Pooling.CLS:
            return states_BTD[:, 0]
        case Pooling.MEAN:
            mask_BT1 = mask_BT.unsqueeze(-1).to(states_BTD.dtype)
            return (states_BTD * mask_BT1).sum(1) / mask_BT1.sum(1).clamp(min=1)


def _line(error: BaseException) -> str:
    """The first line of a foreign message: enough to see what it is about."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:200]
