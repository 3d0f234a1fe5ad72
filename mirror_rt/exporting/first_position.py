"""Compute the last layer only for [CLS].

A vector pooled from position 0 needs the other positions of the last layer only as keys and
values. Their queries, attention output and feed-forward are not used and can be left out.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

__all__ = ["ClsOnly", "ClsRowOfBias", "keep_first_position"]


class ClsOnly(nn.Module):
    """A layer that gets only position 0 of its (B, T, D) input."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, states_BTD: Tensor) -> Tensor:
        """Return the inner layer's (B, 1, D) output."""
        out: Tensor = self.inner(states_BTD[:, :1])
        return out


class ClsRowOfBias(nn.Module):
    """An MPNet layer that adds only the relative positions of position 0 to its scores."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor,
        head_mask: Tensor | None,
        position_bias: Tensor,
        output_attentions: bool = False,
    ) -> tuple[Tensor, ...]:
        """Call the layer with the first row of ``position_bias`` (B, heads, T, T)."""
        out: tuple[Tensor, ...] = self.inner(
            hidden_states, attention_mask, head_mask, position_bias[:, :, :1], output_attentions
        )
        return out


def keep_first_position(body: Any) -> bool:  # noqa: ANN401  (transformers has no types)
    """Narrow the last layer of an encoder to position 0, in place.

    The queries and the residual sum are cut to position 0; everything after them follows. The
    encoder's ``last_hidden_state`` becomes (B, 1, D). It must run eager attention, whose mask
    is added to the scores as (B, 1, 1, T).

    Args:
        body: A Hugging Face encoder.

    Returns:
        Whether its architecture is known; if not, nothing was changed.
    """
    match body.config.model_type:
        case "bert" | "roberta" | "xlm-roberta" | "camembert" | "electra":
            attention = body.encoder.layer[-1].attention
            attention.self.query = ClsOnly(attention.self.query)
            attention.output.LayerNorm = ClsOnly(attention.output.LayerNorm)
        case "distilbert":
            layer = body.transformer.layer[-1]
            layer.attention.q_lin = ClsOnly(layer.attention.q_lin)
            layer.sa_layer_norm = ClsOnly(layer.sa_layer_norm)
        case "mpnet":
            attention = body.encoder.layer[-1].attention
            attention.attn.q = ClsOnly(attention.attn.q)
            attention.LayerNorm = ClsOnly(attention.LayerNorm)
            body.encoder.layer[-1] = ClsRowOfBias(body.encoder.layer[-1])
        case _:
            return False
    return True
