"""Other encoders, each used as its documentation recommends for speed, behind one function.

All have the weights of all-MiniLM-L6-v2, mean pooling and unit rows, and the same cores.
N texts, B texts of a batch, T tokens, D width.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import harness
import numpy as np

SIZES = (8, 16, 32, 64, 128, 256)


@dataclass(frozen=True, kw_only=True)
class Peer:
    """One library with one precision.

    Attributes:
        name: Library and precision.
        encode: Returns (N, D) unit rows for texts and a batch size.
        sorts: Whether it sorts by length itself.
        sizes: Batch sizes to choose from.
    """

    name: str
    encode: Callable[[Sequence[str], int], np.ndarray]
    sorts: bool = False
    sizes: Sequence[int] = SIZES


def all_peers(
    model: Path,
    graph: Path,
    work: Path,
    sample: Sequence[str],
    *,
    threads: int,
    left_out: dict[str, str],
) -> Iterator[Peer]:
    """Yield the peers that are installed.

    Args:
        model: The sentence-transformers folder.
        graph: A float32 ONNX graph with pooling inside.
        work: A folder for what they convert.
        sample: Strings for peers that measure ranges of activations.
        threads: Cores.
        left_out: Receives the names of the other peers with the reason.
    """
    plain = _plain_onnx(model, work, threads)
    quantized = next(
        name for name in os.listdir(plain / "onnx") if "quint8" in name or "qint8" in name
    )
    for precision, file in (("fp32", "model.onnx"), ("int8", quantized)):
        yield _fastembed(plain, f"onnx/{file}", precision, threads)
        yield _fastembed_processes(plain, f"onnx/{file}", precision, threads)
    yield _sentence_transformers(model, "torch fp32", threads, {})
    for precision, file in (("fp32", "model.onnx"), ("int8", quantized)):
        options = {"backend": "onnx", "model_kwargs": _onnx_options(f"onnx/{file}", threads)}
        yield _sentence_transformers(plain, f"onnx {precision}", threads, options)
    if find_spec("ctranslate2"):
        yield from _ctranslate2(model, work, threads)
    else:
        left_out["ctranslate2"] = "not installed"
    if find_spec("openvino"):
        yield from _openvino(model, graph, sample, threads, left_out)
    else:
        left_out["openvino"] = "not installed"


def _onnx_options(file: str, threads: int) -> dict[str, Any]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return {"provider": "CPUExecutionProvider", "file_name": file, "session_options": options}


def _plain_onnx(model: Path, work: Path, threads: int) -> Path:
    """Export and quantize as sentence-transformers does for this CPU."""
    from sentence_transformers import SentenceTransformer, export_dynamic_quantized_onnx_model

    folder = work / "plain"
    exported = SentenceTransformer(
        str(model), backend="onnx", device="cpu",
        model_kwargs={"export": True, "provider": "CPUExecutionProvider"},
    )  # fmt: skip
    exported.save_pretrained(str(folder))
    flags = harness.machine()["flags"]
    kind = "avx512_vnni" if "avx512_vnni" in flags else "arm64" if "asimddp" in flags else "avx2"
    export_dynamic_quantized_onnx_model(exported, kind, str(folder))
    return folder


def _sentence_transformers(model: Path, kind: str, threads: int, options: dict[str, Any]) -> Peer:
    import torch
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(threads)
    encoder = SentenceTransformer(str(model), device="cpu", **options)

    def encode(texts: Sequence[str], size: int) -> np.ndarray:
        return encoder.encode(
            list(texts), batch_size=size, normalize_embeddings=True, show_progress_bar=False
        )

    return Peer(name=f"sentence-transformers {kind}", encode=encode, sorts=True)


def _open_fastembed(folder: Path, file: str, threads: int) -> Any:  # noqa: ANN401
    from fastembed import TextEmbedding
    from fastembed.common.model_description import ModelSource, PoolingType

    name = f"local/{file}-{threads}"
    TextEmbedding.add_custom_model(
        model=name, pooling=PoolingType.MEAN, normalization=True, sources=ModelSource(hf=name),
        dim=384, model_file=file,
    )  # fmt: skip
    return TextEmbedding(name, specific_model_path=str(folder), threads=threads)


def _fastembed(folder: Path, file: str, precision: str, threads: int) -> Peer:
    embedder = _open_fastembed(folder, file, threads)

    def encode(texts: Sequence[str], size: int) -> np.ndarray:
        return np.stack(list(embedder.embed(texts, batch_size=size)))

    return Peer(name=f"fastembed {precision}", encode=encode)


_here: dict[str, Any] = {}
"""What a process of ``_fastembed_processes`` has opened."""


def _start(folder: Path, file: str) -> None:
    _here["embedder"] = _open_fastembed(folder, file, 1)


def _work(texts: Sequence[str], size: int) -> np.ndarray:
    return np.stack(list(_here["embedder"].embed(texts, batch_size=size)))


def _fastembed_processes(folder: Path, file: str, precision: str, threads: int) -> Peer:
    """Divide the texts among processes of one thread each, as ``parallel=`` does.

    Its own processes end with each call, and starting them takes seconds; ours stay.
    """
    pool = ProcessPoolExecutor(
        threads, mp_context=get_context("spawn"), initializer=_start, initargs=(folder, file)
    )

    def encode(texts: Sequence[str], size: int) -> np.ndarray:
        # Whole batches, some for each process, so that all processes end at the same time.
        share = size * max(1, len(texts) // (8 * threads * size))
        parts = [texts[begin : begin + share] for begin in range(0, len(texts), share)]
        return np.concatenate(list(pool.map(_work, parts, [size] * len(parts))))

    return Peer(name=f"fastembed {precision}, {threads} processes", encode=encode)


def _tokenizer(model: Path) -> Any:  # noqa: ANN401
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    tokenizer.enable_truncation(256)
    tokenizer.enable_padding()
    return tokenizer


def _batches(
    texts: Sequence[str],
    size: int,
    tokenizer: Any,  # noqa: ANN401
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for begin in range(0, len(texts), size):
        encodings = tokenizer.encode_batch_fast(list(texts[begin : begin + size]))
        ids_BT = np.array([e.ids for e in encodings], dtype=np.int64)
        yield ids_BT, np.array([e.attention_mask for e in encodings], dtype=np.int64)


def _mean(states_BTD: np.ndarray, mask_BT: np.ndarray) -> np.ndarray:
    sums_BD = np.einsum("btd,bt->bd", states_BTD, mask_BT.astype(np.float32))
    return sums_BD / np.linalg.norm(sums_BD, axis=1, keepdims=True)


def _ctranslate2(model: Path, work: Path, threads: int) -> Iterator[Peer]:
    import ctranslate2
    from ctranslate2.converters import TransformersConverter

    tokenizer = _tokenizer(model)
    for precision, kind in (("fp32", "float32"), ("int8", "int8")):
        folder = work / f"ct2-{precision}"
        TransformersConverter(str(model)).convert(str(folder), quantization=kind, force=True)
        # Parallel runs of one thread each: its documentation recommends this for throughput.
        encoder = ctranslate2.Encoder(
            str(folder), device="cpu", compute_type=kind, inter_threads=threads, intra_threads=1
        )

        def encode(texts: Sequence[str], size: int, encoder: Any = encoder) -> np.ndarray:  # noqa: ANN401
            def run(batch: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
                ids_BT, mask_BT = batch
                view = ctranslate2.StorageView.from_array(ids_BT.astype(np.int32))
                lengths = ctranslate2.StorageView.from_array(mask_BT.sum(1).astype(np.int32))
                output = encoder.forward_batch(view, lengths)
                return _mean(np.array(output.last_hidden_state), mask_BT)

            with ThreadPoolExecutor(threads) as pool:
                return np.concatenate(list(pool.map(run, _batches(texts, size, tokenizer))))

        yield Peer(name=f"ctranslate2 {precision}", encode=encode)


def _openvino(
    model: Path, graph: Path, sample: Sequence[str], threads: int, left_out: dict[str, str]
) -> Iterator[Peer]:
    import openvino

    tokenizer = _tokenizer(model)
    whole = openvino.Core().read_model(str(graph))
    kinds = {"fp32": ("f32", whole)}
    if {"avx512_bf16", "amx_bf16"} & set(harness.machine()["flags"]):
        kinds["bf16"] = ("bf16", whole)
    else:
        left_out["openvino bf16"] = "this CPU does not multiply bfloat16"
    if find_spec("nncf"):
        kinds["int8"] = ("f32", _quantized_openvino(whole, tokenizer, sample))
    else:
        left_out["openvino int8"] = "nncf is not installed"
    for precision, (hint, network) in kinds.items():
        compiled = openvino.Core().compile_model(
            network, "CPU",
            {"PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_NUM_THREADS": threads,
             "INFERENCE_PRECISION_HINT": hint},
        )  # fmt: skip
        wanted = {name for port in compiled.inputs for name in port.names}

        def encode(
            texts: Sequence[str],
            size: int,
            compiled: Any = compiled,  # noqa: ANN401
            wanted: set[str] = wanted,
        ) -> np.ndarray:
            parts: dict[int, np.ndarray] = {}

            def keep(request: Any, number: int) -> None:  # noqa: ANN401
                parts[number] = request.get_output_tensor(0).data.copy()

            queue = openvino.AsyncInferQueue(compiled)
            queue.set_callback(keep)
            for number, (ids_BT, mask_BT) in enumerate(_batches(texts, size, tokenizer)):
                queue.start_async(_feed(ids_BT, mask_BT, wanted), number)
            queue.wait_all()
            return np.concatenate([parts[number] for number in range(len(parts))])

        yield Peer(name=f"openvino {precision}, asynchronous", encode=encode)


def _feed(ids_BT: np.ndarray, mask_BT: np.ndarray, wanted: set[str]) -> dict[str, np.ndarray]:
    feed = {"input_ids": ids_BT, "attention_mask": mask_BT, "token_type_ids": np.zeros_like(ids_BT)}
    return {name: values for name, values in feed.items() if name in wanted}


def _quantized_openvino(network: Any, tokenizer: Any, sample: Sequence[str]) -> Any:  # noqa: ANN401
    """Quantize with ranges from the sample, as sentence-transformers' static export does."""
    import nncf

    wanted = {name for port in network.inputs for name in port.names}
    batches = [_feed(ids, mask, wanted) for ids, mask in _batches(sample[:300], 1, tokenizer)]
    return nncf.quantize(
        network.clone(), nncf.Dataset(batches), model_type=nncf.ModelType.TRANSFORMER,
        subset_size=len(batches),
    )  # fmt: skip
