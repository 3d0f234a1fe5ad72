"""``mirror-rt info``: describe a folder."""

from __future__ import annotations

import json as json_format
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from mirror_rt._count import counted

from . import output, text_table

_SHOWN = (0.90, 0.95, 0.99)
"""The target precisions to show."""


def info(
    folder: Annotated[
        Path, typer.Argument(help="A checkpoint, bundle, knowledge base or folder of vectors.")
    ],
    verify: Annotated[
        bool,
        typer.Option("--verify", help="Compare every file with its stored sha256."),
    ] = False,
    json: Annotated[
        bool, typer.Option("--json", help="Print everything, as one JSON object.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Write everything to this file, as JSON.")
    ] = None,
    force: output.ForceOption = False,
) -> None:
    """Describe a folder in ten lines.

    It may be a checkpoint, a bundle, a knowledge base or a folder of vectors.
    """
    from mirror_rt.describe import describe

    found = describe(folder, verify=verify)
    with output.lines_to(out, force=force) as write:
        if out is not None:
            write(json_format.dumps(found, indent=2, ensure_ascii=False))
        elif json:
            write(output.to_json_line(found))
        else:
            for line in text_table.record_lines(dict(_in_words(found))):
                write(line)


def _in_words(found: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the main properties of a folder as (label, text)."""
    made = f", made with mirror-rt {found['created_with']}" if "created_with" in found else ""
    yield "kind", f"{found['kind']}, {found['megabytes']:,} MB{made}"
    match found["kind"]:
        case "knowledge base":
            yield from _knowledge_base(found)
        case "bundle":
            yield from _bundle(found)
        case "checkpoint":
            yield from _checkpoint(found)
        case _:
            yield (
                "vectors",
                f"{found['rows']:,}, {counted(found['dims'], 'number')} each, {found['dtype']}",
            )
            yield "files", counted(found["shards"], "shard")
    if found["verified"]:
        yield "verified", "every file is as it was written"


def _knowledge_base(found: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    counts, index, probabilities = found["counts"], found["index"], found["probabilities"]
    if found["content_type"] == "passages":
        yield "passages", f"{counts['entities']:,}, in {counted(counts['texts'], 'piece')}"
    else:
        several = f", {counts['ambiguous_texts']:,} of several entities"
        yield "entities", f"{counts['entities']:,}"
        different = counts["texts"] - counts["unused_texts"]
        words = f"{different:,} different" + several * bool(counts["ambiguous_texts"])
        taught = found["feedback"]["names"]
        yield "names", words + f", {taught:,} by feedback" * bool(taught)
    yield "index", f"{index['kind']}, finds {index['recall_at_10']:.3f} of the true ten nearest"
    yield "encoder", _encoder(found["bundle"])
    if named := found.get("names_bundle"):
        yield "names by", f"{named['name']}, of which the encoder is a student"
    if found["content_type"] == "passages":
        return
    links, names = probabilities["gold_links"], probabilities["held_out_names"]
    if decided := probabilities["decisions"]:
        thresholds = "" if links else f", thresholds on {names:,} of its names"
        yield "probabilities", f"calibrated on {counted(decided, 'decision')}{thresholds}"
    elif links:
        yield "probabilities", f"calibrated on {counted(links, 'gold link')}"
    else:
        of_names = f"learned from {counted(names, 'held-out name')}" if names else "built-in values"
        yield "probabilities", f"{of_names}; no calibration on gold links"
    for point in probabilities["operating_points"]:
        if point["target_precision"] in _SHOWN:
            yield f"precision {point['target_precision']:.2f}", _point(point)


def _point(point: Mapping[str, Any]) -> str:
    if point["probability"] is None:
        return "not reached"
    words = f"from {point['probability']:.3f} on, {100 * point['coverage']:.0f} % linked"
    if point["precision"] is None:
        return words
    low, high = point["precision_low"], point["precision_high"]
    return f"{words}, {point['precision']:.3f} right ({low:.3f} to {high:.3f})"


def _encoder(found: Mapping[str, Any]) -> str:
    """Return a bundle in words that fit a line: ``info`` of the bundle tells more."""
    name, dims = found["source"].get("name", "unknown"), counted(found["dim"], "dimension")
    if found["encoder"] == "static":
        return f"static student of {name.rsplit('/')[-1]}, {dims}, {found['precision']}"
    return f"{name}, {dims}, {found['pooling']} pooling, {found['precision']}"


def _bundle(found: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    name = str(found["source"].get("name", "unknown"))
    yield "model", f"static student of {name}" if found["encoder"] == "static" else name
    if found["encoder"] == "static":
        kinds = ", ".join(k if k.isalpha() else f"{k}-grams" for k in found["features"]["kinds"])
        yield "vectors", f"{counted(found['dim'], 'dimension')}, static: sums of a table ({kinds})"
    else:
        yield "vectors", f"{counted(found['dim'], 'dimension')}, {found['pooling']} pooling"
    yield "texts", f"up to {found['max_length']} {found['max_length_in']}"
    yield "weights", f"{found['precision']}"


def _checkpoint(found: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield (
        "model",
        f"{found['architecture']}, {counted(found['layers'], 'layer')}, "
        f"{counted(found['dim'], 'dimension')}",
    )
    yield "pooling", found["pooling"]
    training = found.get("training")
    if training is None:
        return
    config, counts = training["config"], training["counts"]
    yield "trained from", str(config["base"])
    yield "trained on", f"{config['corpus']}, {counted(counts['strings'], 'different string')}"
    yield "pairs", ", ".join(config["pairs"])
    losses = training["losses"]
    if losses:
        yield (
            "loss",
            f"{losses[0]:.3f} at first, {losses[-1]:.3f} after {counted(len(losses), 'step')}",
        )
