"""The table of each kind of record in benchmarks/results, as lines of Markdown."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
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


def linking(record: Record) -> list[str]:
    rows, sure, causes = [], [], []
    seeds: dict[tuple[str, str], list[Record]] = {}
    for one in record["results"]:
        seeds.setdefault((one["task"], one["encoder"]), []).append(one)
    for who, all_seeds in seeds.items():
        found = all_seeds[0]
        ranked = ("exact", "lexical", "dense", "together")
        found_by = [[one[way] for one in all_seeds] for way in ranked]
        both = [
            f"{mean(one['any_holder']['acc@1'] for one in way)} / "
            f"{mean(one['any_holder']['acc@5'] for one in way)}"
            for way in found_by
        ]
        strict = mean(one["strict_homonyms"]["acc@1"] for one in found_by[-1])
        rows.append((*who, f"{found['queries']:,}", *both, strict))
        summary = [one["probabilities"] for one in all_seeds]
        ways = [[one[way] for one in summary] for way in ("from_its_own_names", "calibrated")]
        errors = [
            f"{mean(one['calibration_error'] for one in way)} "
            f"({statistics.mean(one['error_if_true'] for one in way):.3f})"
            for way in ways
        ]
        nil = [mean(one["nil_auroc"] for one in way) for way in ways]
        gone = ways[0][0]["without_entity"] / summary[0]["mentions"]
        sure.append((*who, f"{summary[0]['mentions']:,}", f"{gone:.2f}", *errors, *nil))
        lost = found["misses"]["causes"]
        causes.append((*who, "; ".join(f"{SHOWN_AS.get(c, c)}: {n}" for c, n in lost.items())))
    most = max(map(len, seeds.values()))
    over = f", mean ± standard deviation over {most} seeds" if most > 1 else ""
    words = (
        "acc@1 / acc@5 of each retriever alone and of all together; int8, mean pooling. *Tuned*: "
        "trained with `--preset linking` on at most 25,000 synonym pairs of the knowledge base's "
        f"own names in an epoch{over}. "
        "If a name belongs to several entities, any of them counts as right, as in BioSyn; under "
        "*strict* (all together, acc@1) the right one must be first. The names of `ncbi-test` "
        "include the train and dev mentions; those of `ncbi-train` do not."
    )
    both_words = (
        "Probabilities. A fifth of the gold ids was removed from the knowledge base, and every "
        "entity that lists one of them; *without entity* is the share of mentions that have no "
        "right entity then (much more than a fifth if lines list several ids). *Error*: expected "
        "calibration error, with probabilities learned from the names alone, and *calibrated* on "
        "other gold links. In brackets: the error that so few mentions would show on average if "
        "every probability were true. Equal mentions are right or wrong together, and NCBI's test "
        "mentions repeat (952 are 343 different ones). *NIL AUROC*: area under the ROC curve, for "
        "separating mentions with an entity from those without."
    )
    head = ["knowledge base", "encoder", "mentions"]
    ways_head = [*head, "exact", "lexical", "dense", "together", "strict"]
    sure_head = [*head, "without entity", "error", "calibrated", "NIL AUROC", "calibrated"]
    return [
        "### Linking", "", words, "", *grid(ways_head, rows), "",
        both_words, "", *grid(sure_head, sure), "",
        "Why mentions were missed (parts of composite mentions are counted singly):", "",
        *grid(["knowledge base", "encoder", "misses"], causes),
    ]  # fmt: skip


def default_weights(record: Record) -> list[str]:
    results = dict(record["results"])
    means, places = results.pop("mean"), results.pop("places")
    results["mean"] = {"mentions": sum(one["mentions"] for one in results.values()), **means}
    results["places"] = places
    ways = ("lexical", "dense", "fitted_on_the_others", "then_adapted", "misspelt")
    rows = [
        (
            f"**{name}**" if name == "mean" else name,
            f"{found['mentions']:,}",
            *(f"{found[way]['acc@1']:.3f} / {found[way]['acc@5']:.3f}" for way in ways),
        )
        for name, found in results.items()
    ]
    words = (
        "acc@1 / acc@5 of distinct mentions of texts that are not names; entities with the same "
        "name share a rank; int8, mean pooling, encoder as published. *Together*: all retrievers, "
        "with weights fitted on the mentions of the other domains. *Adapted*: these weights "
        "adapted to the knowledge base by its own names, as a build does. *Misspelled*: names with "
        "one or two typos, adapted. The queries of *places* are held-out names; their weights were "
        "fitted on other places (adapted from the weights of mentions: "
        f"{places['adapted_from_mentions']['acc@1']:.3f}, misspelled "
        f"{places['misspelt_from_mentions']['acc@1']:.3f})."
    )
    head = ["domain", "mentions", "lexical", "dense", "together", "adapted", "misspelled"]
    return ["### Linking mentions of texts", "", words, "", *grid(head, rows)]


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


def mean(values: Iterable[float]) -> str:
    """Return the mean over seeds, with the standard deviation if there are several."""
    numbers = list(values)
    if len(numbers) == 1:
        return f"{numbers[0]:.3f}"
    return f"{statistics.mean(numbers):.3f} ±{statistics.stdev(numbers):.3f}"


def kb_scale(record: Record) -> list[str]:
    rows, beside = [], []
    for size in record["results"]:
        names, built = f"{size['names']:,}", f"{size['build_seconds_with_embedding']:,.0f}"
        link, right = size["later_links_ms"], size["accuracy"]
        one, rate = f"{link['p50']} / {link['p99']}", f"{size['batch_links_per_s']:,.0f}"
        rows.append(
            (
                names,
                size["index"]["kind"],
                built,
                f"{max(size['embed_peak_mb'], size['build_peak_mb']):,}",
                f"{size['bytes_per_name']:,}",
                size["open_seconds"],
                f"{size['resident_after_open_mb']['whole']:,.0f}",
                size["exact_name_ms"]["p50"],
                size["first_links_ms"]["p50"],
                one,
                rate,
                size["recall_at_10"],
            )
        )
        ours = (right["misspelt"], right["held_out"])
        beside.append((names, "**mirror-rt**", built, one, rate, "all", *ours))
        for name, way in size["peers"].items():
            if "left_out" in way:
                beside.append((names, f"{name}: left out, {way['left_out']}", *[""] * 6))
                continue
            theirs = way["accuracy"]
            beside.append(
                (
                    names,
                    f"{name}: {way['how']}",
                    f"{way['build_seconds']:,.0f}",
                    f"{way['one_ms']['p50']} / {way['one_ms']['p99']}",
                    f"{way['batch_links_per_s']:,.0f}",
                    f"{max(way['asked_one_by_one'], way['asked_in_batches']):,}",
                    *(f"{theirs[k]} (ours {theirs[f'{k}_ours']})" for k in right),
                )
            )
    head = [
        "names", "index", "build, s", "peak MB", "bytes per name", "open, s", "resident, MB",
        "exact name, ms", "first links p50, ms", "later links p50 / p99, ms", "links/s",
        "recall@10",
    ]  # fmt: skip
    against = [
        "names", "method", "build, s", "one mention, p50 / p99, ms", "batch, links/s", "queries",
        "misspelled, acc@1", "held out, acc@1",
    ]  # fmt: skip
    words = (
        f"Names of places; encoder: {record['encoder']}. *Build* includes embedding. *Open* starts "
        "with no file in memory; *resident* is the memory after it. *First links* are the next "
        "hundred, which still read from disk. Mentions of *later links* are not names."
    )
    if record.get("remark"):
        words += f" This record: {record['remark']}."
    if not any(size["peers"] for size in record["results"]):
        return [f"### Knowledge bases by size: {record['encoder']}", "", words, "",
                *grid(head, rows)]  # fmt: skip
    section = ["### Knowledge bases by size", "", words, "", *grid(head, rows)]
    return [*section, "", "Peers, with the same names and queries:", "", *grid(against, beside)]


def link_job(record: Record) -> list[str]:
    rows = [
        (
            f"{row['mentions']:,}",
            f"{row['different']:,}",
            f"{row['different_that_are_no_name']:,}",
            f"{row['seconds']:,.0f}",
            f"{row['mentions_per_second']:,.0f}",
            f"{row['peak_rss_mib']:,}",
            f"{row['seconds_by_workers']:,.0f}",
            f"{row['mentions_per_second_by_workers']:,.0f}",
            f"{row['blocks_kept']:,}",
            f"{row['resumed_seconds']:,.0f}",
        )
        for row in record["sizes"]
    ]
    words = (
        f"`mirror-rt link --out` of a file of mentions, with {record['names']:,} names of places. "
        f"Mentions are drawn from these names by Zipf's law; {record['misspelt']:.0%} are "
        f"misspelled. With `--workers {record['sizes'][0]['workers']}`, and after a kill (kill -9) "
        "when half of the blocks of 1,024 were finished, each job ended in the same bytes."
    )
    head = [
        "mentions", "distinct", "distinct, no exact match", "s", "mentions/s", "peak RSS, MiB",
        "with workers, s", "mentions/s", "blocks kept after the kill", "remaining, s",
    ]  # fmt: skip
    return ["### Linking long files", "", words, "", *grid(head, rows)]


def link_columns(record: Record) -> list[str]:
    rows = [
        (
            f"{record['further_columns']} further columns" if name == "with" else "mentions alone",
            f"{statistics.median(record['processor_seconds'][name]):.0f}",
            f"{statistics.median(record['seconds'][name]):.0f}",
        )
        for name in ("without", "with")
    ]
    ratio = record["with_over_without"]
    words = (
        f"`link_file` of {record['mentions']:,} mentions ({record['different']:,} distinct), CSV "
        f"to CSV, with {record['names']:,} names; median of {len(record['seconds']['with'])} "
        "interleaved rounds. Ratio of the seconds of CPU with and without further columns: "
        f"**{ratio['median']:.3f}** ({ratio['least']:.3f} to {ratio['most']:.3f}). Peak memory: "
        f"{record['peak_rss_mib']:,} MiB."
    )
    head = ["table", "CPU, s", "clock, s"]
    return ["### Further columns of a table", "", words, "", *grid(head, rows)]


def feedback(record: Record) -> list[str]:
    rows = []
    for labels, gain in record["gain_in_points"].items():
        runs = [run for run in record["runs"] if run["labels"] == int(labels)]
        scores = [
            f"{statistics.mean(run[when][key] for run in runs):.3f}"
            for key in ("acc_at_1", "acc_at_5", "calibration_error")
            for when in ("before", "after")
        ]
        points = f"+{gain['points']:.1f} ± {gain['deviation']:.1f}"
        rows.append((f"{int(labels):,}", *scores[:2], points, *scores[2:]))
    draws = len({run["seed"] for run in record["runs"]})
    words = (
        f"ESCO job titles. A reviewer decides some of them; {record['judged']:,} others are linked "
        f"before and after these decisions. Means of {draws} draws; points with their standard "
        "deviation. *Error*: expected calibration error."
    )
    head = [
        "decisions", "acc@1 before", "after", "points", "acc@5 before", "after", "error before",
        "after",
    ]  # fmt: skip
    return ["### Feedback", "", words, "", *grid(head, rows)]


def link_speed(record: Record) -> list[str]:
    """Return the rows of each stage: the earlier code, this code, their ratio, the peers."""
    peers = ("RapidFuzz", "scispaCy's approach")
    rows: list[Sequence[object]] = []

    def row(what: str, ways: Record, tell: Callable[[Record], tuple[float, str]]) -> None:
        summary = {name: tell(way) for name, way in ways.items()}
        low, high = sorted((summary["old"][0], summary["new"][0]))
        better = summary["new"][0] == (high if what.endswith("/s") else low)
        times = high / low if better else low / high
        others = [summary[peer][1] if peer in summary else "" for peer in peers]
        rows.append((what, summary["old"][1], summary["new"][1], f"{times:.1f} ×", *others))

    def codes(ways: Record) -> Record:
        return {name: ways[name] for name in ("old", "new")}

    for name, stage in record["stages"].items():
        ways = stage["ways"]
        if name.startswith("links"):
            of = f"{stage['what'].partition('-')[0]}, {stage['names']:,} names: "
            row(f"{of}mentions/s", ways, lambda way: _rate(way["mentions_per_second"]))
            row(f"{of}one mention, p50 / p99, ms", ways, lambda way: _both(way["one_ms"]))
            mine = codes(ways)
            row(f"{of}exact name, p50 / p99, ms", mine, lambda way: _both(way["exact_name_ms"]))
            row(f"{of}its encoder alone, texts/s", mine, lambda w: _rate(w["encoder_per_second"]))
            row(
                f"{of}resident after opening, MB",
                mine,
                lambda way: _whole(way["resident_after_open_mb"]["whole"]),
            )
        elif name.startswith("build"):
            of = f"{stage['what'].partition('-')[0]}, {stage['names']:,} names: build, s"
            row(of, ways, lambda way: _whole(way["seconds"]["median"]))
        else:
            of = f"a file of {stage['mentions']:,} mentions, {stage['different']:,} different, s"
            row(of, ways, lambda way: _whole(way["seconds"]["median"]))
    commits = record["commits"]
    same = [
        f"{stage['same_first']:.1%} of {stage['mentions']:,} ({stage['what']})"
        for name, stage in record["stages"].items()
        if name.startswith("links")
    ]
    words = (
        f"Commit {commits['old']} and {commits['new']}, interleaved on the same "
        f"{record['threads']} cores, one process each. Mentions are not names, and are linked in "
        "batches unless a row says *one mention*. Both have the same first entity for "
        f"{', '.join(same)}."
    )
    head = ["what", "earlier", "now", "ratio", *peers]
    return ["### Linking, before and now", "", words, "", *grid(head, rows)]


def _rate(value: Record) -> tuple[float, str]:
    return value["median"], f"{value['median']:,.0f}"


def _both(value: Record) -> tuple[float, str]:
    return value["p50"], f"{value['p50']:.2f} / {value['p99']:.2f}"


def _whole(value: float) -> tuple[float, str]:
    return value, f"{value:,.1f}" if value < 10 else f"{value:,.0f}"
