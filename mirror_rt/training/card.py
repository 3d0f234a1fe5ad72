"""Write a checkpoint's model card: a README.md with the header that the hub reads."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["model_card"]


def model_card(training: Mapping[str, Any], *, scores: Sequence[Mapping[str, Any]] = ()) -> str:
    """Return the text of a model card.

    Args:
        training: What ``training.json`` says.
        scores: The results of a report of ``mirror-rt evaluate --json``: objects with ``task``
            and ``scores``.
    """
    config = training["config"]
    base = str(config["base"])
    of_the_hub = not training["base_is_local"]
    tags = ["sentence-transformers", "feature-extraction", "sentence-similarity", "mirror-rt"]
    header = [
        "library_name: sentence-transformers",
        "pipeline_tag: sentence-similarity",
        f"tags: {json.dumps(tags)}",
    ]
    if of_the_hub:
        header.append(f"base_model: {json.dumps(base)}")
    counts, losses = training["counts"], training["losses"]
    named = base if of_the_hub else base.rstrip("/").rsplit("/", 1)[-1]
    pairs = " and ".join(f"{name} ({share:.0%})" for name, share in config["pairs"].items())
    recipe = [
        ("base model", named),
        ("positive pairs", pairs),
        ("different strings", f"{counts['strings']:,}"),
        ("loss", config["loss"]),
        ("temperature", config["temperature"] if config["loss"] == "info-nce" else "none"),
        ("span mask", f"{config['span_length']} characters, rate {config['span_rate']}"),
        ("tokens said twice", f"rate {config.get('repeat_rate', 0)}"),
        ("dropout", "the base's own" if config["dropout"] is None else config["dropout"]),
        ("drophead", config["drophead"]),
        ("pooling", training["pooling"]),
        ("batch", f"{config['batch_size']} pairs, {len(losses)} steps"),
        ("negatives of past steps", config.get("queue", 0)),
        ("hard negatives mined", config.get("hard_negatives", 0)),
        ("learning rate, weight decay", f"{config['lr']}, {config['weight_decay']}"),
        ("longest input", f"{config['max_length']} tokens"),
        ("seed", config["seed"]),
        ("time", f"{training['seconds']:.0f} s"),
    ]
    lines = ["---", *header, "---", "", f"# {named}, trained by mirror-rt", ""]
    lines += [
        "An encoder of names and sentences, trained without labels in the way of Mirror-BERT "
        "(Liu et al., EMNLP 2021, arXiv:2104.08027) by mirror-rt.",
        "",
        "```python",
        "from sentence_transformers import SentenceTransformer",
        "",
        'vectors = SentenceTransformer("PATH OR NAME").encode(["a name", "another name"])',
        "```",
        "",
        "## Training",
        "| | |",
        "|---|---|",
        *(f"| {name} | {_cell(value)} |" for name, value in recipe),
        "",
        f"Loss: {losses[0]:.4f} at the first step, {losses[-1]:.4f} at the last. "
        "The whole account is in `training.json`, its curves in `training.png`.",
        "",
    ]
    measured = [*_held_out_lines(training.get("held_out") or []), *_score_lines(scores)]
    lines += ["## Measured scores", *(measured or ["None yet: `mirror-rt evaluate`."])]
    return "\n".join(lines) + "\n"


def _held_out_lines(seen: Sequence[Mapping[str, float]]) -> list[str]:
    if not seen:
        return []
    first, last = (
        f"loss {look['loss']:.4f}, alignment {look['alignment']:.4f}, "
        f"uniformity {look['uniformity']:.4f}"
        for look in (seen[0], seen[-1])
    )
    return [f"On pairs held out of training: {first} before, {last} after; lower is better.", ""]


def _score_lines(scores: Sequence[Mapping[str, Any]]) -> list[str]:
    rows = [
        f"| {_cell(result['task'])} | {_cell(metric)} | {value:.4f} |"
        for result in scores
        for metric, value in result["scores"].items()
        if isinstance(value, int | float)
    ]
    if not rows:
        return []
    return ["| task | metric | score |", "|---|---|---|", *rows]


def _cell(value: object) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")
