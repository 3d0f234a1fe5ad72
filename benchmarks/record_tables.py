"""The table of each kind of record in benchmarks/results, as lines of Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from markdown_tables import grid

Record = Mapping[str, Any]

SHOWN_AS = {
    "no name of the right entity was gathered": "the right entity is no candidate",
    "right among the names gathered, not among the first five": (
        "right among the candidates, not among the first five"
    ),
    "misspelt places": "misspelled places",
}
"""Words of older records, and what is shown."""


def encode_speed(record: Record) -> list[str]:
    ways = record["ways"]
    ordered = sorted(ways, key=lambda name: -ways[name]["strings_per_second"])
    rows = []
    for name in ordered:
        way = ways[name]
        rate = f"{way['strings_per_second']:,.0f}"
        rows.append(
            (
                f"**{name}**" if name.startswith("mirror-rt") else name,
                way.get("pooling", "cls" if name.endswith(" cls") else "mean"),
                f"**{rate}**" if name.startswith("mirror-rt") else rate,
                way.get("batch_size", "512 tokens"),
                f"{way['same_nearest']:.3f}",
                f"{way['mean_cosine']:.4f}",
            )
        )
    limit = record["limit"]
    head = ["method", "pooling", "strings/s", "batch", "same nearest", "mean cosine"]
    words = (
        f"{record['count']:,} {record['strings']}, {limit['tokens_per_string']} tokens each, "
        f"{record['threads']} threads, median of {record['repeats']} rounds. *Same nearest* and "
        "*mean cosine* compare with float32 and the same pooling. The matrix products of float32 "
        f"alone, at the {limit['gemm_gflops']:.0f} GFLOP/s measured, would allow "
        f"{limit['fp32_mean']:,.0f} (mean) and {limit['fp32_cls']:,.0f} (CLS) strings/s."
    )
    words += (
        " Rows with [CLS] pooling are another model, which does less work; they are not a faster "
        "method."
    )
    if left_out := record.get("left_out"):
        words += " Left out: " + "; ".join(f"{k} ({why})" for k, why in left_out.items()) + "."
    return [f"### Encoding {record['strings']}", "", words, "", *grid(head, rows)]


def embed_scale(record: Record) -> list[str]:
    keys = ("changed_run_seconds", "changed_run_peak_rss_mib")  # not in older records
    changed = [key for key in keys if key in record["sizes"][0]]
    rows = [
        (
            f"{row['rows']:,}",
            f"{row['strings_per_second']:,.0f}",
            f"{row['tokens_per_second']:,.0f}",
            f"{row['peak_rss_mib']:,}",
            f"{row['peak_rss_mib'] - row['rss_mib_with_model']:,}",
            row["second_run_seconds"],
            *(row[key] for key in changed),
        )
        for row in record["sizes"]
    ]
    head = [
        "strings",
        "strings/s",
        "tokens/s",
        "peak RSS, MiB",
        "without the model",
        "second run, s",
    ]
    words = "`mirror-rt embed` of place names, int8. The second run of a file reuses all vectors."
    if changed:
        head += ["changed file, s", "peak RSS, MiB"]
        words += (
            " Changed file: one line was added in front, so one vector is computed and all others "
            "are copied."
        )
    return ["### Embedding long files", "", words, "", *grid(head, rows)]


def latency(record: Record) -> list[str]:
    rows = [
        (row["callers"], row["p50_ms"], row["p99_ms"], f"{row['calls_per_second']:,.0f}")
        for row in record["rows"]
    ]
    again = f"A cached string: p50 {record['repeated_p50_ms']} ms."
    if one := record.get("one_core"):
        again = (
            f"On one core, {one['tokens']} tokens: p50 {one['p50_ms']} ms, p99 {one['p99_ms']} "
            + (f"ms. {again}")
        )
    head = ["parallel callers", "p50, ms", "p99, ms", "calls/s"]
    return ["### Latency of a single name", "", f"int8. {again}", "", *grid(head, rows)]


def import_time(record: Record) -> list[str]:
    rows = [(f"`{name}`", f"{ms['median']:.0f}") for name, ms in record["milliseconds"].items()]
    words = f"Median of {record['repeats']} starts."
    return ["### Import and start", "", words, "", *grid(["what", "ms"], rows)]


def train_speed(record: Record) -> list[str]:
    limits = record["limit_seconds_per_step"]
    rows = [
        (
            name,
            f"{way['median']:.2f}",
            f"{way['times_the_limit']:.2f}",
            f"{way['epoch_seconds']:.0f}",
        )
        for name, way in record["seconds_per_step"].items()
    ]
    words = (
        f"{record['batch_size']} pairs and {record['tokens_per_step']:,} tokens per step, "
        f"{record['device']}, {record['threads']} threads, median of {record['repeats']} rounds. "
        "The limit is the time of the matrix products of the linear layers alone, forward and "
        f"backward, without padding: {limits['float32']:.2f} s in float32 and "
        f"{limits['bfloat16']:.2f} s in bfloat16. All rows are compared with the limit in float32."
    )
    head = ["method", "s per step", "× float32 limit", f"epoch of {record['strings']:,}, s"]
    return ["### Training", "", words, "", *grid(head, rows)]


def quantization(record: Record) -> list[str]:
    samples = [name for name in ("hpo", "medic") if name in record["recipes"]["float32"]]
    rows = []
    for name, way in record["recipes"].items():
        ranks = [
            f"{way[s][key]:.3f}"
            for s in samples
            for key in ("top1_agreement", "top10_overlap", "mean_cosine")
        ]
        linked = [f"{way[key]:.3f}" for key in ("acc@1", "acc@5")]
        rows.append((name, f"{way['strings_per_second']:,.0f}", way["mib"], *ranks, *linked))
    kinds = ("top-1", "top-10", "cosine")
    head = ["recipe", "strings/s", "MiB", *(f"{s} {k}" for s in samples for k in kinds)]
    words = (
        f"all-MiniLM-L6-v2, mean pooling, {record['threads']} threads on a CPU of the target "
        f"`{record['target']}`. *top-1*, *top-10*: the share of the nearest names that float32 has "
        f"too, {record['names']:,} names. *acc@1*, *acc@5*: {record['queries']:,} held-out exact "
        f"synonyms linked to {record['labels']:,} phenotype labels by the nearest vector alone. "
        "The ranges of activations come from phenotype names."
    )
    if not record["eight_bits_are_safe"]:
        words += " 8-bit weights can overflow on this CPU; the table shows the effect."
    return ["### Recipes", "", words, "", *grid([*head, "acc@1", "acc@5"], rows)]


MENTIONS_BY = "teacher asked by "
"""The start of a method's name: the teacher embeds the names, this student the mentions."""


def students(record: Record) -> list[str]:
    tasks, speed = record["linking"], record["speed"]
    rows = []
    both = {way: way.removeprefix(MENTIONS_BY) for task in tasks.values() for way in task}
    ways = {**{way: way for way in speed}, **both}
    rates = {
        way: speed[encoder]["strings_per_second"]
        for way, encoder in ways.items()
        if encoder in speed
    }
    for name in sorted(rates, key=lambda way: -rates[way]):
        times = rates[name] / speed["teacher int8"]["strings_per_second"]
        found = [task.get(name) for task in tasks.values()]
        scores = [
            f"{f['acc@1']:.3f} ({f['dense acc@1']:.3f})" if f else "as the teacher" for f in found
        ]
        sts = record["sts"].get(name, {}).get("stsb", {})
        score = next(iter(sts.values()), None)
        rate = f"{rates[name]:,}"
        shown = name.replace(MENTIONS_BY, "teacher for names, for mentions ")
        rows.append((shown, rate, f"{times:.1f} ×", *scores, f"{score:.3f}" if score else ""))
    counts = ", ".join(f"{SHOWN_AS.get(n, n)} {task['mentions']:,}" for n, task in tasks.items())
    words = (
        "The teacher of all is all-MiniLM-L6-v2. *Student N*: `distil --dims N` on the names of "
        "each knowledge base. *Teacher for names, for mentions* a student: `--query-encoder`. "
        "*N layers*: `--layers N` on the names of all knowledge bases. *Starter*: the encoder in "
        "the package. *model2vec*: distilled by `model2vec` with its defaults. Strings per second "
        f"are end to end, {record['strings']:,} names, interleaved, {record['threads']} threads; "
        "fastembed with its defaults. acc@1 is with all retrievers, in brackets by vectors alone; "
        f"mentions: {counts}. The last column is STS-B (Spearman): students are for names, not for "
        "sentences. "
        f"{record.get('remark', '')}"
    ).strip()
    built = [
        f"{way} {b['seconds']:,.0f} s, {b['embedding']:,.0f} of them embedding"
        + (f", and {b['fitting']:,.0f} s to fit it" if b["fitting"] else "")
        for way, b in record.get("build", {}).items()
    ]
    if built:
        names = max(b["names"] for b in record["build"].values())
        words += f" A knowledge base of {names:,} place names: {'; '.join(built)}."
    head = ["encoder", "strings/s", "× teacher", *(SHOWN_AS.get(n, n) for n in tasks), "STS-B"]
    return ["### Students", "", words, "", *grid(head, rows)]
