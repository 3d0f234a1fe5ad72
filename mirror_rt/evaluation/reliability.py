"""Draw reliability diagrams and operating points. Needs matplotlib."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mirror_rt._count import counted
from mirror_rt._extras import require_drawing
from mirror_rt.errors import ConfigError
from mirror_rt.knowledge.ranking.operating_points import OperatingPoint
from mirror_rt.knowledge.ranking.reliability import (
    ReliabilityBin,
    expected_calibration_error,
    reliability,
)
from mirror_rt.staging import check_target, staging_file

if TYPE_CHECKING:
    from mirror_rt.evaluation.link_report import Outcome
    from mirror_rt.knowledge.linking.calibration import CalibrationReport

__all__ = ["check_drawing", "draw_calibration", "draw_reliability", "outcome_bins"]

_INCHES = (9.0, 5.0)
_DOTS_AN_INCH = 120
_TENTH = 0.1


def check_drawing(path: Path, *, force: bool = False) -> None:
    """Check before any work that ``draw_reliability`` can draw to a path.

    Raises:
        MissingExtraError: matplotlib is not installed.
        ConfigError: ``path`` does not end in .png.
        TargetError: ``path`` exists and ``force`` is not set.
    """
    require_drawing("evaluate")
    if path.suffix.lower() != ".png":
        raise ConfigError(f"{path}: a reliability diagram is a PNG; end the name in .png")
    check_target(path, force=force)


def outcome_bins(outcomes: Sequence[Outcome]) -> tuple[tuple[ReliabilityBin, ...], float]:
    """Return the reliability diagram of gold mentions with a candidate, and its error."""
    found = [o for o in outcomes if o.best is not None]
    probability_S = np.array([o.confidence for o in found], dtype=np.float64)
    hit_S = np.array([o.hit for o in found], dtype=bool)
    place: dict[tuple[str, ...], int] = {}
    mention_S = np.array(
        [place.setdefault(o.query.parts, len(place)) for o in found], dtype=np.int64
    )
    return (
        reliability(probability_S, hit_S, mention_S),
        expected_calibration_error(probability_S, hit_S),
    )


def draw_calibration(found: CalibrationReport, path: Path, *, force: bool = False) -> None:
    """Draw the report of a calibration; arguments and errors as ``draw_reliability``."""
    draw_reliability(
        {
            f"before, error {found.ece_before:.3f}": found.bins_before,
            f"after, error {found.ece_after:.3f}": found.bins,
        },
        found.operating_points,
        path,
        title=counted(found.links, "gold link"),
        force=force,
    )


def draw_reliability(
    diagrams: Mapping[str, Sequence[ReliabilityBin]],
    points: Sequence[OperatingPoint],
    path: Path,
    *,
    title: str,
    force: bool = False,
) -> None:
    """Draw reliability diagrams with their histograms, and precision against the share linked.

    Vertical bars are 95 % intervals.

    Args:
        diagrams: The bins of each set of probabilities, by the name in the legend.
        points: The operating points; each is labeled with its threshold.
        path: The PNG.
        title: The title.
        force: Whether ``path`` may be replaced.

    Raises:
        MissingExtraError: As ``check_drawing``, like the errors below.
        ConfigError: ``path`` does not end in .png.
        TargetError: ``path`` exists and ``force`` is not set.
    """
    check_drawing(path, force=force)
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=_INCHES, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=11)
    grid = figure.add_gridspec(2, 2, height_ratios=[3, 1])
    upper = figure.add_subplot(grid[0, 0])
    lower = figure.add_subplot(grid[1, 0], sharex=upper)
    _draw_diagrams(upper, lower, diagrams)
    _draw_points(figure.add_subplot(grid[:, 1]), points)
    with staging_file(path, force=force) as fresh:
        figure.savefig(fresh, format="png", dpi=_DOTS_AN_INCH)


def _draw_diagrams(
    upper: Any,  # noqa: ANN401  (axes of matplotlib, which has no types here)
    lower: Any,  # noqa: ANN401
    diagrams: Mapping[str, Sequence[ReliabilityBin]],
) -> None:
    upper.plot([0, 1], [0, 1], linestyle=":", color="grey")
    width = 0.8 * _TENTH / max(len(diagrams), 1)
    for place, (name, bins) in enumerate(diagrams.items()):
        drawn = upper.errorbar(
            [b.confidence for b in bins],
            [b.accuracy for b in bins],
            yerr=_bars([(b.accuracy, b.accuracy_low, b.accuracy_high) for b in bins]),
            marker="o",
            markersize=4,
            capsize=2,
            label=name,
        )
        left = 0.1 * _TENTH + place * width
        lower.bar(
            [b.low + left for b in bins],
            [b.count for b in bins],
            width=width,
            align="edge",
            color=drawn[0].get_color(),
        )
    upper.set(xlim=(0, 1), ylim=(0, 1.02), ylabel="share right")
    if diagrams:
        upper.legend(loc="upper left", fontsize=8)
    lower.set(xlabel="probability", ylabel="mentions")


def _draw_points(axes: Any, points: Sequence[OperatingPoint]) -> None:  # noqa: ANN401
    reached = [p for p in points if p.precision is not None]
    axes.errorbar(
        [p.coverage for p in reached],
        [p.precision for p in reached],
        yerr=_bars([(p.precision, p.precision_low, p.precision_high) for p in reached]),
        marker="o",
        markersize=4,
        capsize=2,
    )
    for p in reached:
        right = p.coverage < 0.5
        label = axes.annotate(
            f"{p.target_precision:.2f}: from {p.probability:.2f} on",
            (p.coverage, p.precision),
            xytext=(5 if right else -5, -3),
            textcoords="offset points",
            ha="left" if right else "right",
            fontsize=7,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
        )
        label.set_in_layout(False)
    axes.set(xlim=(-0.02, 1.02), xlabel="share of mentions linked", ylabel="share of them right")
    axes.set_title("target precision: probability to link from", fontsize=9)
    if not reached:
        axes.set_ylim(0, 1)
        axes.text(
            0.5, 0.5, "no target precision is reached", ha="center", fontsize=8,
            transform=axes.transAxes,
        )  # fmt: skip


def _bars(
    values: Sequence[tuple[float | None, float | None, float | None]],
) -> tuple[list[float], list[float]]:
    """Return the distances of the ends of intervals from the values."""
    whole = [(m, low, high) for m, low, high in values if None not in (m, low, high)]
    return (
        [max((m or 0.0) - (low or 0.0), 0.0) for m, low, _ in whole],
        [max((high or 0.0) - (m or 0.0), 0.0) for m, _, high in whole],
    )
