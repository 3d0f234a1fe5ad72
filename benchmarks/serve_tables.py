"""The table of the server's speed, from its record: what was measured, and the targets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from markdown_tables import grid

__all__ = ["serve_speed"]

Record = Mapping[str, Any]
Row = tuple[str, str, str, str]


def serve_speed(record: Record) -> list[str]:
    """Return the lines of the section; stages that were not run are left out."""
    rows: list[Row] = []
    for stage, rows_of in _STAGES.items():
        if stage in record:
            rows += rows_of(record[stage])
    busy = record["load_average"]
    words = (
        "Medians of the rounds. *CPU* is the processor time of the server, which depends less on "
        "other work of the machine than rates and latencies do. The machine had a load of "
        f"{min(busy):.0f} to {max(busy):.0f}; the server and its client alone would be 2."
    )
    head = ["what", "mirror-rt serve", "compared with", "target"]
    return ["### The server", "", words, "", *grid(head, rows)]


def _loaded(row: Record) -> str:
    rate, cpu = row["requests_per_second"]["median"], row["server_cpu_ms"]["median"]
    return f"{_number(rate)} requests/s, p50 {row['p50_ms']['median']:.1f} ms, {cpu:.2f} ms of CPU"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def _same_graph(stage: Record) -> list[Row]:
    own, other = stage["mirror-rt"], stage.get("infinity_emb")
    targets = {
        "single names, 32 connections": "3 × the requests",
        "single names, 1 connection": "1/3 of the p50",
    }
    rows = []
    for what, target in targets.items():
        beside = "" if other is None else f"infinity_emb: {_loaded(other[what])}"
        rows.append((f"{what}, the same fp32 graph", _loaded(own[what]), beside, target))
    return rows


def _batches(stage: Record) -> list[Row]:
    own, library = stage["served"]["median"], stage["encoder"]["median"]
    cpu, library_cpu = stage["served_cpu_ms"]["median"], stage["encoder_cpu_ms"]["median"]
    return [
        (
            "32 names a request, int8, base64",
            f"{own:,.0f} strings/s, {cpu:.2f} ms of CPU each",
            f"`Encoder.encode` of {stage['texts']:,}: {library:,.0f}, {library_cpu:.2f} ms; share "
            f"{stage['share']['median']:.2f}, by CPU {stage['share_by_cpu']['median']:.2f}",
            "share .85",
        )
    ]


def _links(stage: Record) -> list[Row]:
    library, cpu = stage["library_mentions_per_second"]["median"], stage["library_cpu_ms"]["median"]
    exact = stage["exact, 32 connections"]
    return [
        (
            f"`/link`, {stage['names']:,} names, misspelled, 32 connections",
            _loaded(stage["served, 32 connections"]),
            f"`kb.link` of 512: {_number(library)} mentions/s, {cpu:.2f} ms; share "
            f"{stage['share']['median']:.2f}, by CPU {stage['share_by_cpu']['median']:.2f}",
            "share .80",
        ),
        ("`/link`, exact names, 32 connections", _loaded(exact), "", "2,000 requests/s"),
        (
            "`/link`, exact names, 1 connection",
            _loaded(stage["exact, 1 connection"]),
            f"over `kb.link` of one: {stage['overhead_p50_ms']['median']:.2f} ms at p50, "
            f"{stage['overhead_p05_ms']['median']:.2f} at p5",
            "1 ms at p50",
        ),
    ]


def _reconcile(stage: Record) -> list[Row]:
    def described(row: Record, cpu: float) -> str:
        return (
            f"{_number(row['queries_per_second'])} queries/s, {cpu:.1f} ms of CPU each, first "
            f"candidate right {row['top1']['share']:.2f}"
        )

    own, other = stage["mirror-rt"], stage.get("csv-reconcile")
    beside = "" if other is None else f"csv-reconcile: {described(other, other['server_cpu_ms'])}"
    mine = described(own, own["server_cpu_ms_per_query"])
    return [("reconciliation, batches of 50 misspelled names", mine, beside, "50 × the queries")]


def _fairness(stage: Record) -> list[Row]:
    alone, beside = stage["alone"]["p99_ms"]["median"], stage["beside"]["p99_ms"]["median"]
    return [
        (
            "single names beside a client with requests of 2,048",
            f"p99 {beside:.0f} ms",
            f"alone {alone:.0f} ms; interleaved {stage['p99_ratio']['median']:.1f} ×",
            "5 ×",
        )
    ]


def _overload(stage: Record) -> list[Row]:
    def described(row: Record) -> str:
        statuses = ", ".join(f"{count:,} × {s}" for s, count in row["statuses"].items())
        return f"{statuses}; {row['wrong']} wrong, {row['broken']} broken"

    memory = ", ".join(f"{when} {mb:.0f}" for when, mb in stage["resident_mb"].items())
    return [
        (
            "512 connections at once",
            described(stage["flood"]),
            f"normal speed again after {stage['normal_after_seconds']} s",
            "only 200, 429, 503; 1 s",
        ),
        ("64 clients", described(stage["steady"]), f"MB resident: {memory}", "none wrong"),
    ]


def _start(stage: Record) -> list[Row]:
    return [
        (
            f"start to ready, {row['names']:,} names",
            f"{row['seconds']['median']:.1f} s ({row['cpu_seconds']['median']:.1f} s of CPU)",
            f"peak {row['peak_mb']:,.0f} MB",
            "2 s" if row["names"] > 500_000 else "",
        )
        for row in stage.values()
    ]


_STAGES = {
    "same_graph": _same_graph, "batches": _batches, "links": _links, "reconcile": _reconcile,
    "fairness": _fairness, "overload": _overload, "start": _start,
}  # fmt: skip
