"""The whole export: checkpoint folder in, bundle folder out, whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from mirror_rt.bundle import MANIFEST, MODEL, Bundle, Manifest, sha256_file
from mirror_rt.errors import ModelError
from mirror_rt.exporting.graph import OPSET, SentenceModel, load_model, write_graph
from mirror_rt.exporting.quantize import Recipe, quantize
from mirror_rt.staging import check_target, staging_folder
from mirror_rt.training.checkpoint import read_pooling
from mirror_rt.types import Pooling, Precision
from mirror_rt.version import VERSION

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerFast

__all__ = ["export"]

_PACKAGES = ("torch", "transformers", "optimum", "optimum-onnx", "onnx", "onnxruntime")


def export(
    checkpoint: str | Path,
    out: str | Path,
    *,
    precision: Precision = Precision.INT8,
    pooling: Pooling | None = None,
    max_length: int | None = None,
    sample: Sequence[str] | None = None,
    force: bool = False,
) -> Bundle:
    """Export a checkpoint to a bundle.

    Args:
        checkpoint: A Hugging Face or sentence-transformers folder with safetensors weights.
        out: The bundle folder to write; it appears whole or not at all.
        precision: How the weights are stored.
        pooling: Replaces what the checkpoint says.
        max_length: Longest input in tokens, special tokens included; default as the checkpoint.
        sample: Strings to measure the export with.
        force: Replace ``out`` if it exists.

    Raises:
        ModelError: The checkpoint cannot be used.
        TargetError: ``out`` exists and ``force`` is not set.
    """
    folder, target = Path(checkpoint), Path(out)
    check_target(target, force=force)
    if not folder.is_dir():
        raise ModelError(f"{folder}: no such checkpoint folder")
    said_pooling, said_length = read_pooling(folder)
    model = SentenceModel(load_model(folder), pooling=pooling or said_pooling)
    tokenizer = _tokenizer(folder)
    length = _usable_length(model.body.config, tokenizer, max_length or said_length)
    with staging_folder(target, force=force) as fresh:
        _write_companions(fresh, model, tokenizer, length)
        write_graph(model, fresh / MODEL)
        recipe = {}
        match precision:
            case Precision.FP32:
                pass
            case Precision.INT8:
                quantize(fresh / MODEL, fresh / MODEL, Recipe())
                recipe = Recipe().described()
        files = sorted(p for p in fresh.rglob("*") if p.is_file())
        Manifest(
            dim=int(model.body.config.hidden_size),
            pooling=model.pooling,
            max_length=length,
            precision=precision,
            opset=OPSET,
            source={
                "name": folder.resolve().name,
                "weights_sha256": sha256_file(folder / "model.safetensors"),
            },
            quantisation=recipe,
            versions={name: version(name) for name in _PACKAGES} | {"mirror-rt": VERSION},
            files={p.relative_to(fresh).as_posix(): sha256_file(p) for p in files},
        ).write(fresh / MANIFEST)
    return Bundle.open(target, verify=False)


def _tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(
            folder, use_fast=True, local_files_only=True, trust_remote_code=False
        )
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"{folder}: its tokenizer cannot be loaded ({error})") from error
    if not tokenizer.is_fast:
        raise ModelError(f"{folder}: has no fast tokenizer (tokenizer.json), which export needs")
    fast: PreTrainedTokenizerFast = tokenizer
    return fast


def _usable_length(
    config: PretrainedConfig, tokenizer: PreTrainedTokenizerFast, asked: int | None
) -> int:
    positions = int(getattr(config, "max_position_embeddings", 512))
    if config.model_type in {"roberta", "xlm-roberta", "camembert", "mpnet"}:
        positions -= int(config.pad_token_id or 0) + 1  # their positions start after the pad's id
    return min(asked or positions, positions, int(tokenizer.model_max_length))


def _write_companions(
    folder: Path, model: SentenceModel, tokenizer: PreTrainedTokenizerFast, length: int
) -> None:
    """Write what stands beside the graph, so that other programs can serve the same folder."""
    tokenizer.backend_tokenizer.no_padding()
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.model_max_length = length
    tokenizer.save_pretrained(folder)
    model.body.config.save_pretrained(folder)
    kinds = {"": "Transformer", "1_Pooling": "Pooling", "2_Normalize": "Normalize"}
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate(kinds.items())
    ]
    pooling = {
        "word_embedding_dimension": int(model.body.config.hidden_size),
        "pooling_mode_cls_token": model.pooling is Pooling.CLS,
        "pooling_mode_mean_tokens": model.pooling is Pooling.MEAN,
        "pooling_mode_max_tokens": False,
        "pooling_mode_mean_sqrt_len_tokens": False,
    }
    (folder / "1_Pooling").mkdir()
    for name, content in (
        ("modules.json", modules),
        ("1_Pooling/config.json", pooling),
        ("sentence_bert_config.json", {"max_seq_length": length, "do_lower_case": False}),
    ):
        (folder / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
