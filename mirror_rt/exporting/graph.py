"""Write a checkpoint as one ONNX graph that pools and normalizes: tokens in, unit rows out.

Axes: B texts, T tokens, D width.
"""

from __future__ import annotations

import warnings
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from mirror_rt.errors import ModelError
from mirror_rt.exporting.first_position import keep_first_position
from mirror_rt.types import Pooling

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["OPSET", "SentenceModel", "write_graph"]

OPSET = 17
"""The first version with LayerNormalization; a newer one would exclude older runtimes."""


class SentenceModel(nn.Module):
    """A transformer with its pooling, to be exported as one graph.

    Args:
        body: A Hugging Face encoder in evaluation mode.
        pooling: How token states become one vector.
        first_only: With [CLS] pooling, compute the last layer only for [CLS], in a copy of
            ``body`` (the same vectors, about a tenth faster with 6 layers).
    """

    def __init__(self, body: PreTrainedModel, *, pooling: Pooling, first_only: bool = True) -> None:
        super().__init__()
        first_only = first_only and pooling is Pooling.CLS
        self.body = deepcopy(body) if first_only else body
        self.pooling = pooling
        self.config = self.body.config  # optimum's patcher reads and sets options here
        self.narrow = first_only and keep_first_position(self.body)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        token_type_ids: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Return the vectors and the states they come from.

        Args:
            input_ids: (B, T) int64.
            attention_mask: (B, T) int64, 1 for real tokens.
            token_type_ids: (B, T) int64, for models with segments.

        Returns:
            ``sentence_embedding`` (B, D) float32 unit rows and ``last_hidden_state`` (B, T, D),
            or (B, 1, D) if only [CLS] is computed.
        """
        segments = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
        out = self.body(input_ids=input_ids, attention_mask=attention_mask, **segments)
        states_BTD: Tensor = out.last_hidden_state
        match self.pooling:
            case Pooling.CLS:
                pooled_BD = states_BTD[:, 0]
            case Pooling.MEAN:
                mask_BT1 = attention_mask.unsqueeze(-1).to(states_BTD.dtype)
                pooled_BD = (states_BTD * mask_BT1).sum(1) / mask_BT1.sum(1).clamp(min=1.0)
        unit_BD = nn.functional.normalize(pooled_BD, dim=1, eps=1e-12)
        return {"sentence_embedding": unit_BD, "last_hidden_state": states_BTD}


def write_graph(model: SentenceModel, path: Path) -> None:
    """Export ``model`` to ``path`` through optimum.

    The first output is ``sentence_embedding`` (B, D), because fastembed and others read the
    first; ``last_hidden_state`` follows, because optimum's model class reads it by name.

    Raises:
        ModelError: optimum has no exporter for this architecture.
    """
    from optimum.exporters.onnx import export

    with warnings.catch_warnings():
        # The tracer warns about every shape that it takes for a constant, and that its own
        # successor exists; optimum 2.1 asks for the tracer.
        warnings.simplefilter("ignore")
        export(model, _onnx_config(model), path, opset=OPSET)


def _onnx_config(model: SentenceModel) -> Any:  # noqa: ANN401  (optimum has no types)
    from optimum.exporters.tasks import TasksManager

    body = model.body
    kind = body.config.model_type
    try:
        constructor = TasksManager.get_exporter_config_constructor(
            exporter="onnx",
            # ERNIE is a BERT with task ids, which it sets itself; optimum does not know it.
            model_type="bert" if kind == "ernie" else kind,
            task="feature-extraction",
            library_name="transformers",
        )
    except (KeyError, ValueError) as error:
        raise ModelError(
            f"{kind}: optimum cannot export this architecture; use a BERT-like encoder"
        ) from error
    plain = constructor(body.config)

    class Pooled(type(plain)):  # type: ignore[misc]
        @property
        def outputs(self) -> dict[str, dict[int, str]]:
            positions = {} if model.narrow else {1: "sequence_length"}
            return {
                "sentence_embedding": {0: "batch_size"},
                "last_hidden_state": {0: "batch_size", **positions},
            }

    return Pooled(body.config, task="feature-extraction")
