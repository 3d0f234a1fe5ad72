"""Draw reports as horizontal bars. Needs matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mirror_rt._extras import require_drawing
from mirror_rt.errors import ConfigError, TargetError
from mirror_rt.evaluation.result import Report
from mirror_rt.staging import check_target, staging_file

__all__ = ["check_plot", "draw"]

INCHES_A_BAR = 0.22


def check_plot(path: Path, *, force: bool = False) -> None:
    """Check before any work that the plot can be drawn.

    Raises:
        MissingExtraError: matplotlib is not installed.
        ConfigError: ``path`` does not end in .png.
        TargetError: The file exists and ``force`` is not set, it is a folder, or its parent is
            not a folder.
    """
    require_drawing("evaluate")
    if path.suffix.lower() != ".png" and not path.is_dir():
        raise ConfigError(f"{path}: the plot is a PNG; end the name in .png")
    check_target(path, force=force)
    if path.is_dir():
        raise TargetError(f"{path}: is a folder; name a file")


def draw(reports: Sequence[Report], path: Path, *, force: bool = False) -> None:
    """Write a PNG with a bar per model for the main score of each task that has one.

    Raises:
        MissingExtraError: matplotlib is not installed.
        TargetError: The file exists and ``force`` is not set.
    """
    check_plot(path, force=force)
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    scores = [
        {r.task: (r.metric, r.score) for r in report.results if r.score is not None}
        for report in reports
    ]
    tasks = list(dict.fromkeys(task for found in scores for task in found))
    bars = max(1, len(tasks) * len(reports))
    figure = Figure(figsize=(8.0, 1.2 + INCHES_A_BAR * (bars + len(tasks))), layout="tight")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    height = 0.8 / max(1, len(reports))
    for i, (report, found) in enumerate(zip(reports, scores, strict=True)):
        places = [row + i * height for row, task in enumerate(tasks) if task in found]
        values = [found[task][1] for task in tasks if task in found]
        drawn = axes.barh(places, values, height=height, label=report.model)
        axes.bar_label(drawn, fmt="%.3f", fontsize=7, padding=2)
    metrics = {task: found[task][0] for found in scores for task in found}
    middle = 0.4 - height / 2
    axes.set_yticks(
        [row + middle for row in range(len(tasks))], [f"{t} ({metrics[t]})" for t in tasks]
    )
    axes.invert_yaxis()
    axes.set_xlim(min(0.0, *axes.get_xlim()), 1.05)
    axes.set_xlabel("score")
    axes.legend(loc="lower right", fontsize=8)
    with staging_file(path, force=force) as fresh:
        figure.savefig(fresh, format="png", dpi=120)
