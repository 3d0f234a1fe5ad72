"""Show the threshold of each target precision, and the share of mentions it links."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mirror_rt._count import counted

from . import text_table

if TYPE_CHECKING:
    from mirror_rt.knowledge.ranking.reranker import Reranker

COLUMNS = (
    "target_precision", "probability", "linked", "coverage", "precision", "precision_low",
    "precision_high",
)  # fmt: skip
"""The fields of a ``ranking.operating_points.OperatingPoint``."""

_HEADINGS = ("target precision", "probability from", "linked", "share", "right", "95 % interval")


def rows(points: Sequence[Mapping[str, Any]]) -> list[list[object]]:
    """Return the points as rows of ``COLUMNS``."""
    return [[point.get(name) for name in COLUMNS] for point in points]


def lines(points: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield a readable table of the points; nothing if there are none."""
    reached = [point for point in points if point["probability"] is not None]
    rows = [_in_words(point) for point in reached]
    if len(reached) < len(points):  # precisions that were not reached come last
        first = points[len(reached)]["target_precision"]
        more = " and above" if len(points) - len(reached) > 1 else ""
        rows.append((f"{first:.2f}{more}", "not reached", "", "", "", ""))
    if rows:
        yield from text_table.lines(_HEADINGS, rows)


def _in_words(point: Mapping[str, Any]) -> tuple[str, ...]:
    wanted, least = f"{point['target_precision']:.2f}", f"{point['probability']:.3f}"
    if point["precision"] is None:
        return (wanted, least, "0", "0.0 %", "", "")
    return (
        wanted,
        least,
        f"{point['linked']:,}",
        f"{100 * point['coverage']:.1f} %",
        f"{point['precision']:.3f}",
        f"{point['precision_low']:.3f} – {point['precision_high']:.3f}",
    )


def source(reranker: Reranker) -> str:
    """Return the source of the probabilities."""
    links, names = reranker.fitted_on.get("gold_links"), reranker.fitted_on.get("samples")
    if links:
        decided = "decisions" in reranker.fitted_on
        return (
            f"{counted(links, 'decision')} of feedback" if decided else counted(links, "gold link")
        )
    return f"{counted(names, 'held-out name')}, not gold" if names else "built-in values, not gold"


def taken(reranker: Reranker, target_precision: float, *, mentions: int, unlinked: int) -> str:
    """Return a sentence: the threshold of a target precision, and the mentions not linked.

    Raises:
        ConfigError: The precision is out of range or was not reached.
    """
    least = reranker.threshold(target_precision)
    exact = "" if reranker.has_gold_thresholds else ", exact matches always"
    share = f" ({100 * unlinked / mentions:.1f} %)" if mentions else ""
    return (
        f"target precision {target_precision:g}: linked from probability {least:.3f} on{exact}, "
        f"as learned from {source(reranker)}; "
        f"not linked (below it, tied or NIL): {unlinked:,} of {counted(mentions, 'mention')}{share}"
    )
