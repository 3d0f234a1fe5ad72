"""Plots of benchmarks/results/raw_mlm.json, as SVG."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from raw_tables import COLUMNS, OWN, RAW, cells_of, result_of, sizes_of

from mirror_rt._extras import require_drawing
from mirror_rt.hashing import checksum
from mirror_rt.staging import staging_file

Record = Mapping[str, Any]
STRINGS = "raw-mirror-strings.svg"
PRETRAINING = "raw-pretraining.svg"


def fingerprint(record: Record) -> str:
    """Return the checksum of what is drawn; the SVG files hold it, so that old ones show."""
    return checksum({name: record[name] for name in ("pretraining", "strings", "cells")})


def draw(record: Record, folder: Path) -> None:
    """Write both plots.

    Raises:
        MissingExtraError: matplotlib is not installed.
        TargetError: The folder cannot be written.
    """
    require_drawing("evaluate")
    folder.mkdir(parents=True, exist_ok=True)
    _save(by_strings(record), folder / STRINGS, record)
    _save(pretraining(record), folder / PRETRAINING, record)


def by_strings(record: Record) -> Any:  # noqa: ANN401
    """Return the figure: a panel a preset, the score against the number of strings."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10.5, 3.6), layout="constrained")
    figure.suptitle("Mirror on a raw masked language model, by the number of training strings")
    for axes, (preset, tasks) in zip(figure.subplots(1, len(OWN)), OWN.items(), strict=True):
        metrics = set()
        for task in tasks[:2]:
            points = []
            for size in sizes_of(record, preset):
                each = [result_of([c], task) for c in cells_of(record, preset, strings=size)]
                metrics |= {r.metric for r in each if r is not None}
                scores = [r.score for r in each if r is not None and r.score is not None]
                if scores:
                    spread = stdev(scores) if len(scores) > 1 else 0.0
                    points.append((size, fmean(scores), spread))
            if points:
                x, y, spread = zip(*points, strict=True)
                axes.errorbar(x, y, yerr=spread, marker="o", capsize=3, label=COLUMNS[task])
        for (way, label), style in zip(RAW.items(), (":", "--"), strict=True):
            found = result_of(cells_of(record, way), tasks[0])
            if found is not None and found.score is not None:
                axes.axhline(found.score, color="0.4", linestyle=style,
                             label=f"{COLUMNS[tasks[0]]}, {label}")  # fmt: skip
        sizes = sizes_of(record, preset)
        axes.set_xscale("log")
        axes.set_xticks(sizes, [f"{size / 1000:g}k" for size in sizes])
        axes.minorticks_off()
        axes.set_title(f"preset {preset}")
        axes.set_xlabel("training strings")
        axes.set_ylabel("acc@1" if "acc@1" in metrics else "Spearman's ρ")
        axes.grid(alpha=0.3)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize=7)
    return figure


def pretraining(record: Record) -> Any:  # noqa: ANN401
    """Return the figure: held-out loss and accuracy against tokens."""
    from matplotlib.figure import Figure

    history = record["pretraining"]["history"]
    tokens = [point["tokens"] / 1e6 for point in history]
    figure = Figure(figsize=(8.0, 3.2), layout="constrained")
    figure.suptitle("Pre-training by masked language modeling, on held-out text")
    loss, right = figure.subplots(1, 2)
    loss.plot(tokens, [point["held_out"] for point in history], marker=".")
    loss.set_ylabel("cross-entropy, nats per token")
    right.plot(tokens, [100 * point["accuracy"] for point in history], marker=".", color="C1")
    right.set_ylabel("masked tokens right, %")
    for axes in (loss, right):
        axes.set_xlabel("tokens seen, millions")
        axes.grid(alpha=0.3)
    return figure


def _save(figure: Any, path: Path, record: Record) -> None:  # noqa: ANN401
    import matplotlib

    # Text stays text, and the same record gives the same bytes.
    with (
        matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "raw"}),
        staging_file(path, force=True) as fresh,
    ):
        figure.savefig(
            fresh, format="svg", metadata={"Date": None, "Description": fingerprint(record)}
        )
