"""Measure a run on held-out pairs, and plot the curves.

Axes: V = 2B views, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn.functional import normalize

from mirror_rt._extras import require_drawing
from mirror_rt.training.batches import Batch, make_batch
from mirror_rt.training.config import TrainConfig
from mirror_rt.training.encoding import encode, sort_by_length
from mirror_rt.training.loss import contrastive
from mirror_rt.training.model import TextModel
from mirror_rt.training.pairs import PairTable, same_meaning_mask

if TYPE_CHECKING:
    from mirror_rt.types import Int64

__all__ = ["EVAL_STREAM", "EvalMonitor", "alignment", "plot_curves", "uniformity"]

_POINTS = 10
EVAL_STREAM = 2**32 - 1
"""The random stream of the held-out pairs; epochs have lower numbers."""


def alignment(vectors_VD: torch.Tensor) -> float:
    """Mean squared distance of the unit vectors of positive pairs; lower is better.

    Source: Wang and Isola 2020, *Understanding Contrastive Representation Learning*.
    """
    first_BD, second_BD = normalize(vectors_VD.float(), dim=1).chunk(2)
    return (first_BD - second_BD).square().sum(1).mean().item()


def uniformity(vectors_VD: torch.Tensor) -> float:
    """Log of the mean Gaussian potential between first views; lower is more uniform.

    Source: Wang and Isola 2020.
    """
    first_BD, _ = normalize(vectors_VD.float(), dim=1).chunk(2)
    return torch.pdist(first_BD).square().mul(-2).exp().mean().log().item()


class EvalMonitor:
    """Measures the held-out pairs during a run.

    Attributes:
        history: The measurements, with their steps.
    """

    def __init__(
        self,
        held_P2: Int64,
        table: PairTable,
        clean: Sequence[Int64],
        keys: Sequence[tuple[int, ...]],
        model: TextModel,
        config: TrainConfig,
        *,
        steps: int,
    ) -> None:
        self._model, self._config = model, config
        self._batch: Batch | None = None
        if len(held_P2):
            rng = np.random.default_rng([config.seed, EVAL_STREAM])
            self._batch = make_batch(held_P2, table, clean, keys, model, config, rng=rng)
        self._steps, self._every = steps, max(1, -(-steps // _POINTS))
        self.history: list[dict[str, float]] = []

    def measure(self, step: int) -> dict[str, float] | None:
        """Measure at about ten steps of the run, including its start and its end.

        Dropout stays on: without it the two views of a mirror pair would be equal. It always
        has the same seed, so differences come only from the weights. The random state of the
        run does not change.

        Returns:
            The measurement, which is also appended to ``history``; None at other steps.
        """
        if self._batch is None or (step % self._every and step != self._steps):
            return None
        tokens = self._batch.tokens
        groups = sort_by_length([len(ids) for ids in tokens], most=64)
        parts = []
        with torch.random.fork_rng(), torch.no_grad():
            torch.manual_seed(self._config.seed)
            for group in groups:
                parts.append(encode(self._model, [tokens[view] for view in group]))
        vectors_VD = torch.cat(parts)[np.argsort(np.concatenate(groups))]
        same_meaning_VV = torch.from_numpy(same_meaning_mask(self._batch.keys)).to(
            vectors_VD.device
        )
        loss = contrastive(
            vectors_VD,
            same_meaning_VV,
            loss=self._config.loss,
            temperature=self._config.temperature,
        )
        self.history.append(
            {
                "step": step,
                "loss": round(loss.item(), 6),
                "alignment": round(alignment(vectors_VD), 6),
                "uniformity": round(uniformity(vectors_VD), 6),
            }
        )
        return self.history[-1]


def plot_curves(losses: Sequence[float], history: Sequence[dict[str, float]], path: Path) -> None:
    """Write the curves of a run as a PNG."""
    require_drawing("train")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10.0 if history else 5.5, 3.6), layout="tight")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, 2 if history else 1, squeeze=False)[0]
    steps = np.arange(1, len(losses) + 1)
    axes[0].plot(steps, losses, linewidth=0.8, label="training batch")
    axes[0].set_xlabel("step")
    axes[0].set_ylabel("loss")
    if history:
        at = [point["step"] for point in history]
        axes[0].plot(at, [point["loss"] for point in history], marker="o", label="held out")
        for name in ("alignment", "uniformity"):
            axes[1].plot(at, [point[name] for point in history], marker="o", label=name)
        axes[1].set_xlabel("step")
        axes[1].legend(title="held out, lower is better", fontsize=8)
    axes[0].legend(fontsize=8)
    figure.savefig(path, format="png", dpi=120)
