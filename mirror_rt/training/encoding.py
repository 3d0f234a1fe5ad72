"""Encode strings for training: several strings share a row of the batch, almost without padding.

A batch of names is mostly short strings. Padded to the longest, most of it is padding. In groups
of one length, the products are too small to use a CPU or GPU well. So several strings share a
row: positions start anew with each string, and attention is masked to the string's own tokens.
The vectors are the same as with one string per row. Untested families use groups by length.

Axes: V strings, R rows, T tokens of a row, N real tokens of all strings, E width of a token
embedding, D width of a vector.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

import mirror_rt.training._stack  # noqa: F401

# isort: split
import torch
from torch import Tensor
from torch.nn.functional import normalize

from mirror_rt.training.dropout_attention import FastDropoutAttention
from mirror_rt.training.model import TextModel
from mirror_rt.types import Pooling

if TYPE_CHECKING:
    from mirror_rt.types import Float32, Int64

__all__ = [
    "Block",
    "autocast",
    "bucket_by_length",
    "encode",
    "encode_all",
    "multiplies_bf16",
    "pack_sequences",
    "sort_by_length",
]

_FIRST_POSITION = {"bert": False, "electra": False, "roberta": True, "xlm-roberta": True}
"""The families that can share rows, and whether their positions begin after the padding id."""
_ROW = 32
"""Minimum length of a shared row, in tokens; attention computes all pairs of a row."""
_PADDING = 0.12
"""The share of padding that a length group may have. Less padding makes smaller groups, which
the matrix multiplication uses less well."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Rows that pass through the encoder together.

    Attributes:
        rows: The numbers of the strings of each row, from left to right.
        width: T.
    """

    rows: Sequence[Sequence[int]]
    width: int


def pack_sequences(lengths: Sequence[int], *, room: int = _ROW) -> Block:
    """Pack strings into few rows by best fit, the longest first.

    Args:
        lengths: Tokens of each string.
        room: The maximum tokens of the model; no string is longer.

    Returns:
        One block, with each string once.
    """
    width = max(min(_ROW, room), *lengths)
    rows: list[list[int]] = []
    with_room: list[list[int]] = [[] for _ in range(width + 1)]  # rows by their free places
    for string in np.argsort(-np.asarray(lengths), kind="stable").tolist():
        need = lengths[string]
        left = next((left for left in range(need, width + 1) if with_room[left]), None)
        if left is None:
            rows.append([])
            row, left = len(rows) - 1, width
        else:
            row = with_room[left].pop()
        rows[row].append(string)
        with_room[left - need].append(row)
    return Block(rows=rows, width=width)


def bucket_by_length(lengths: Sequence[int], *, padding: float = _PADDING) -> list[Block]:
    """Split strings into groups of similar length, one string per row.

    Args:
        lengths: Tokens of each string.
        padding: Maximum share of padding in a group.

    Returns:
        Blocks, shortest strings first; each string is in one block.
    """
    groups: list[list[int]] = []
    tokens = 0
    for string in np.argsort(np.asarray(lengths), kind="stable").tolist():
        length = lengths[string]
        computed = length * (len(groups[-1]) + 1) if groups else 0
        if not groups or computed - tokens - length > padding * computed:
            groups.append([])
            tokens = 0
        groups[-1].append(string)
        tokens += length
    return [
        Block(rows=[(string,) for string in group], width=lengths[group[-1]]) for group in groups
    ]


def sort_by_length(lengths: Sequence[int], *, most: int | None) -> list[Int64]:
    """Sort strings by length, split them into parts of at most ``most``; return their numbers."""
    order = np.argsort(np.asarray(lengths, dtype=np.int64), kind="stable")
    most = most or max(1, len(order))
    return [order[start : start + most] for start in range(0, len(order), most)]


def encode(model: TextModel, tokens: Sequence[Int64]) -> Tensor:
    """Encode strings.

    Args:
        model: The encoder, in training or evaluation mode.
        tokens: Token ids of V strings.

    Returns:
        (V, D) floating, not normalized, in the given order.
    """
    lengths = [len(ids) for ids in tokens]
    if _shares_rows(model):
        # Positions start anew with each string, but token types are stored for a limited number.
        blocks = [pack_sequences(lengths, room=model.model.config.max_position_embeddings)]
    elif model.model.device.type == "cpu":
        blocks = bucket_by_length(lengths)
    else:  # on a GPU, starting many small kernels costs more than the padding saves
        blocks = bucket_by_length(lengths, padding=0.5)
    device = model.model.device
    laid_out = [_lay_out(block, tokens, model) for block in blocks]
    # One lookup for all blocks: the gradient of the embedding table is as large as the table.
    flat = torch.cat([ids_RT.reshape(-1) for ids_RT, _ in laid_out]).to(device)
    embedded = model.model.get_input_embeddings()(flat).split([i.numel() for i, _ in laid_out])
    vectors = []
    for block, (ids_RT, owner_RT), rows in zip(blocks, laid_out, embedded, strict=True):
        with FastDropoutAttention() if device.type == "cpu" else nullcontext():
            states_RTD = model.model(
                inputs_embeds=rows.view(*ids_RT.shape, -1), **_guides(owner_RT, model)
            ).last_hidden_state
        real_N = torch.from_numpy(np.flatnonzero(owner_RT >= 0)).to(device)
        sizes = [lengths[string] for row in block.rows for string in row]
        vectors.append(_pooled(states_RTD.flatten(0, 1)[real_N], sizes, model.pooling))
    order = np.array([string for block in blocks for row in block.rows for string in row])
    return torch.cat(vectors)[torch.from_numpy(np.argsort(order)).to(device)]


def encode_all(model: TextModel, tokens: Sequence[Int64]) -> Float32:
    """Encode strings as in production: without dropout, in full precision.

    The mode of the model does not change, and no random number is drawn.

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
            for part in sort_by_length([len(ids) for ids in tokens], most=256):
                vectors_BD = encode(model, [tokens[row] for row in part])
                vectors_ND[part] = normalize(vectors_BD.float(), dim=1).cpu().numpy()
    finally:
        model.model.train(training)
    return vectors_ND


def autocast(model: TextModel, *, bf16: bool | None) -> AbstractContextManager[object]:
    """Compute in bfloat16 within a block; None: if the device multiplies it natively."""
    kind = model.model.device.type
    wanted = multiplies_bf16(kind) if bf16 is None else bf16
    return torch.autocast(kind, dtype=torch.bfloat16) if wanted else nullcontext()


def multiplies_bf16(device: str) -> bool:
    """Return whether a type of device multiplies bfloat16 natively; elsewhere it is slow."""
    if device != "cpu":
        return device == "cuda"
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def _shares_rows(model: TextModel) -> bool:
    config = model.model.config
    absolute = getattr(config, "position_embedding_type", "absolute") == "absolute"
    return config.model_type in _FIRST_POSITION and absolute and not model.apart


def _lay_out(block: Block, tokens: Sequence[Int64], model: TextModel) -> tuple[Tensor, Int64]:
    """Return token ids (R, T) int64, and (R, T) the number of each token's string, −1 for none."""
    shape = (len(block.rows), block.width)
    ids_RT = np.full(shape, model.tokenizer.pad_token_id or 0, dtype=np.int64)
    owner_RT = np.full(shape, -1, dtype=np.int64)
    for ids_T, owner_T, strings in zip(ids_RT, owner_RT, block.rows, strict=True):
        end = 0
        for string in strings:
            start, end = end, end + len(tokens[string])
            ids_T[start:end] = tokens[string]
            owner_T[start:end] = string
    return torch.from_numpy(ids_RT), owner_RT


def _guides(owner_RT: Int64, model: TextModel) -> dict[str, Tensor]:
    """Return the positions and the mask that separate the strings of a row."""
    device = model.model.device
    if not _shares_rows(model):
        return {"attention_mask": torch.from_numpy((owner_RT >= 0).astype(np.int64)).to(device)}
    begins_RT = np.ones(owner_RT.shape, dtype=bool)
    begins_RT[:, 1:] = owner_RT[:, 1:] != owner_RT[:, :-1]
    columns_T = np.arange(owner_RT.shape[1])
    positions_RT = columns_T - np.maximum.accumulate(np.where(begins_RT, columns_T, 0), axis=1)
    config = model.model.config
    if _FIRST_POSITION[config.model_type]:
        positions_RT += config.pad_token_id + 1
    same_RTT = owner_RT[:, :, None] == owner_RT[:, None, :]  # padding attends to padding
    return {
        "position_ids": torch.from_numpy(positions_RT).to(device),
        "attention_mask": torch.from_numpy(same_RTT).to(device, model.model.dtype),
    }


def _pooled(states_ND: Tensor, sizes: Sequence[int], pooling: Pooling) -> Tensor:
    """Pool the states of the real tokens, string after string, into vectors (V, D).

    [CLS] is the first state of a string, without a pooler; the mean is over all its tokens,
    including special ones.
    """
    sizes_V = torch.tensor(sizes, device=states_ND.device)
    match pooling:
        case Pooling.CLS:
            return states_ND[sizes_V.cumsum(0) - sizes_V]
        case Pooling.MEAN:
            wide = torch.promote_types(states_ND.dtype, torch.float32)
            return torch.segment_reduce(states_ND.to(wide), "mean", lengths=sizes_V)
