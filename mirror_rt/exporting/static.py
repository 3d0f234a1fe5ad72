"""Quantise with fixed ranges of activations, taken from the user's own strings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

if TYPE_CHECKING:
    from mirror_rt.types import TokenBatch

__all__ = ["quantise_static"]


class _Batches(CalibrationDataReader):  # type: ignore[misc]
    """Hands token batches to onnxruntime's calibration, one at a time."""

    def __init__(self, batches: Sequence[TokenBatch], *, segments: bool) -> None:
        self._batches = iter(batches)
        self._segments = segments

    def get_next(self) -> dict[str, Any] | None:
        batch = next(self._batches, None)
        if batch is None:
            return None
        feed = {"input_ids": batch.input_ids_BT, "attention_mask": batch.attention_mask_BT}
        return feed | (
            {"token_type_ids": np.zeros_like(batch.input_ids_BT)} if self._segments else {}
        )


def quantise_static(
    source: Path,
    target: Path,
    *,
    nodes: Sequence[str],
    batches: Sequence[TokenBatch],
    per_channel: bool,
    reduce_range: bool,
) -> None:
    """Write a graph whose multiplications ``nodes`` have int8 weights and fixed input ranges.

    What a multiplication gives stays in float. optimum's quantiser would round that as well,
    which costs accuracy, so onnxruntime's is called here.

    Args:
        source: A float32 graph.
        target: Where to write.
        nodes: Names of the multiplications.
        batches: What to take the ranges from.
        per_channel: A scale for each output of a weight.
        reduce_range: 7-bit weights.
    """
    inputs = onnx.load(source, load_external_data=False).graph.input
    segments = any(value.name == "token_type_ids" for value in inputs)
    quantize_static(
        source,
        target,
        _Batches(batches, segments=segments),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=["MatMul"],
        per_channel=per_channel,
        reduce_range=reduce_range,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        nodes_to_quantize=list(nodes),
        extra_options={"OpTypesToExcludeOutputQuantization": ["MatMul"]},
    )
