"""Write the model card of a checkpoint: a README.md with the header for the hub."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mirror_rt._count import counted
from mirror_rt.errors import ModelError
from mirror_rt.pooling_config import read_object
from mirror_rt.staging import staging_file

__all__ = ["SCORES", "add_scores", "license_of", "model_card", "read_training"]

SCORES = "scores.json"
"""The file with a checkpoint's scores, by task and metric, as in its model card."""
_HEADING = "## Measured scores"
_SECTION = re.compile(rf"^{_HEADING}\n.*?(?=\n#{{1,2}} |\Z)", re.MULTILINE | re.DOTALL)


def model_card(training: Mapping[str, Any]) -> str:
    """Return the text of a new checkpoint's model card.

    Args:
        training: The content of ``training.json``.
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
    license_ = training.get("base_license")
    if license_:
        header.append(f"license: {json.dumps(license_)}")
    if of_the_hub:
        header.append(f"base_model: {json.dumps(base)}")
    counts, losses = training["counts"], training["losses"]
    named = base if of_the_hub else base.rstrip("/").rsplit("/", 1)[-1]
    pairs = " and ".join(f"{name} ({share:.0%})" for name, share in config["pairs"].items())
    recipe = [
        ("base model", named),
        ("license of the base", license_ or "not given by it: ask its makers"),
        ("data", _data(config)),
        ("positive pairs", pairs),
        ("different strings", f"{counts['strings']:,}"),
        ("loss", config["loss"]),
        ("temperature", config["temperature"] if config["loss"] == "info-nce" else "none"),
        ("span mask", f"{counted(config['span_length'], 'character')}, rate {config['span_rate']}"),
        ("dropout", "the base's own" if config["dropout"] is None else config["dropout"]),
        ("drophead", config["drophead"]),
        ("pooling", training["pooling"]),
        ("batch", f"{counted(config['batch_size'], 'pair')}, {counted(len(losses), 'step')}"),
        ("hard negatives mined", config.get("hard_negatives", 0)),
        ("learning rate, weight decay", f"{config['lr']}, {config['weight_decay']}"),
        ("share of the base's weights", config.get("base_share", 0.0)),
        ("longest input", counted(config["max_length"], "token")),
        ("seed", config["seed"]),
        ("time", f"{training['seconds']:.0f} s"),
    ]
    lines = ["---", *header, "---", "", f"# {named}, trained by mirror-rt", ""]
    lines += [
        f"An encoder of names and sentences, trained {_way(config['pairs'])} by mirror-rt.",
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
    return "\n".join(lines) + "\n" + _measured(training, {})


def license_of(folder: Path) -> str | None:
    """Return the license in a model's own card, or None."""
    try:
        card = (folder / "README.md").read_text(encoding="utf-8")
    except (OSError, ValueError):
        return None
    header = re.match(r"---\n(.*?)\n---", card, re.DOTALL)
    found = re.search(r"^license:\s*['\"]?([\w.+-]+)", header[1], re.MULTILINE) if header else None
    return found[1] if found else None


def _way(pairs: Mapping[str, float]) -> str:
    """Describe the positive pairs: only mirrored strings need no labels."""
    given = [name for name, share in pairs.items() if share]
    mirror = "in the way of Mirror-BERT (Liu et al., EMNLP 2021, arXiv:2104.08027)"
    ways = {
        "mirror": f"without labels {mirror}" if given == ["mirror"] else f"on strings {mirror}",
        "synonyms": "on the synonyms of a knowledge base",
        "file": "on pairs of strings from a file",
    }
    return " and ".join(ways.get(name, name) for name in given)


def _data(config: Mapping[str, Any]) -> str:
    corpus = config.get("corpus")
    files = [*(corpus if isinstance(corpus, list) else [corpus]), config.get("pairs_file")]
    return ", ".join(Path(str(file)).name for file in files if file)


def add_scores(folder: Path, results: Iterable[Mapping[str, Any]]) -> None:
    """Add scores to a checkpoint's ``scores.json`` and model card; replace older ones.

    Only the section of measured scores changes in the card. Tasks without a score in
    ``results`` keep their old scores.

    Args:
        folder: A checkpoint.
        results: The results in a report of ``mirror-rt evaluate --json``: ``task``, ``scores``.

    Raises:
        ModelError: It has no ``training.json``, or its ``scores.json`` cannot be read.
        TargetError: It cannot be written.
    """
    training = read_training(folder)
    scores = read_object(folder / SCORES) if (folder / SCORES).exists() else {}
    for result in results:
        known = {m: v for m, v in result["scores"].items() if v is not None}
        if known:
            scores[result["task"]] = known
    card = folder / "README.md"
    text = card.read_text(encoding="utf-8") if card.exists() else model_card(training)
    section = _measured(training, scores)
    text, found = _SECTION.subn(lambda _: section, text, count=1)
    if not found:
        text = f"{text.rstrip()}\n\n{section}"
    with staging_file(folder / SCORES, force=True) as fresh:
        fresh.write_text(json.dumps(scores, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    with staging_file(card, force=True) as fresh:
        fresh.write_text(text, encoding="utf-8")


def read_training(folder: Path) -> dict[str, Any]:
    """Return the content of a checkpoint's ``training.json``.

    Raises:
        ModelError: The file is missing or cannot be read.
    """
    if not (folder / "training.json").exists():
        raise ModelError(
            f"{folder}: has no training.json, and so no model card of ours; "
            "name a checkpoint that mirror-rt trained"
        )
    return read_object(folder / "training.json")


def _measured(training: Mapping[str, Any], scores: Mapping[str, Mapping[str, float]]) -> str:
    lines = [*_evaluation_lines(training.get("eval_history") or []), *_score_lines(scores)]
    return "\n".join([_HEADING, *(lines or ["None yet: `mirror-rt evaluate --card`."])]) + "\n"


def _evaluation_lines(history: Sequence[Mapping[str, float]]) -> list[str]:
    if not history:
        return []
    first, last = (
        f"loss {look['loss']:.4f}, alignment {look['alignment']:.4f}, "
        f"uniformity {look['uniformity']:.4f}"
        for look in (history[0], history[-1])
    )
    return [f"On pairs held out of training: {first} before, {last} after; lower is better.", ""]


def _score_lines(scores: Mapping[str, Mapping[str, float]]) -> list[str]:
    rows = [
        f"| {_cell(task)} | {_cell(metric)} | {value:.4f} |"
        for task, metrics in scores.items()
        for metric, value in metrics.items()
    ]
    return ["| task | metric | score |", "|---|---|---|", *rows] if rows else []


def _cell(value: object) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")
