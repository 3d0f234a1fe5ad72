"""Open the graph of a bundle in onnxruntime and run it, from any number of threads.

Axes: B texts, T tokens, D width.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import onnxruntime

from mirror_rt.bundle import Bundle
from mirror_rt.encodings import is_utf8
from mirror_rt.errors import BundleError
from mirror_rt.runtime.cpu import detect_cpu, int8_cannot_saturate

if TYPE_CHECKING:
    from mirror_rt.types import Float32, TokenBatch

__all__ = ["Session"]

LONG = 128
"""From this many tokens on, a run frees its memory: that costs little compared with the run."""

INPUTS = ("input_ids", "attention_mask", "token_type_ids")


class Session:
    """One onnxruntime session; ``run`` may be called from several threads at once."""

    def __init__(self, session: onnxruntime.InferenceSession, *, output: str) -> None:
        self._session = session
        self._outputs = [output]
        self._inputs = frozenset(node.name for node in session.get_inputs())
        self._shrink = onnxruntime.RunOptions()
        self._shrink.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")

    @classmethod
    def open(cls, bundle: Bundle) -> Session:
        """Load the ``model.onnx`` of a checked folder; a run uses one thread.

        Raises:
            BundleError: onnxruntime cannot load it, or it asks for inputs that are not tokens.
        """
        full_range = bundle.manifest.quantization.get("reduce_range") is False
        exact = full_range and not int8_cannot_saturate(detect_cpu())
        session = _load(bundle.model_path, exact=exact)
        foreign = {node.name for node in session.get_inputs()}.difference(INPUTS)
        if foreign:
            raise BundleError(
                f"{bundle.model_path}: needs unknown inputs ({', '.join(sorted(foreign))}); "
                "export again"
            )
        return cls(session, output=session.get_outputs()[0].name)

    def run(self, batch: TokenBatch) -> Float32:
        """Return (B, D) float32 vectors of the tokens."""
        feed = {"input_ids": batch.input_ids_BT, "attention_mask": batch.attention_mask_BT}
        if "token_type_ids" in self._inputs:
            feed["token_type_ids"] = np.zeros_like(batch.input_ids_BT)
        # Attention needs memory by the square of the length, and the arena would keep for good
        # what one long text needed once.
        long = batch.input_ids_BT.shape[1] >= LONG
        return cast(
            "Float32", self._session.run(self._outputs, feed, self._shrink if long else None)[0]
        )


def _load(model: Path, *, exact: bool) -> onnxruntime.InferenceSession:
    if not is_utf8(model):
        raise BundleError(
            f"{model.parent}: the name is not UTF-8, so it cannot be opened; rename it"
        )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # onnxruntime keeps a memory pattern for every shape, and almost every batch has its own.
    options.enable_mem_pattern = False
    if exact:
        # Signed weights become unsigned ones, whose products are added in 32 bits on any x86:
        # the same vectors as on a CPU with VNNI, only slower.
        options.add_session_config_entry("session.x64quantprecision", "1")
    try:
        return onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors have no other public base class
        reason = str(error).splitlines()[0]
        raise BundleError(f"{model}: onnxruntime cannot load it ({reason})") from error
