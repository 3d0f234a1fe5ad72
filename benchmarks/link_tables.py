"""The table of each kind of record of linking, as lines of Markdown."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence

from markdown_tables import grid
from record_tables import SHOWN_AS, Record


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
