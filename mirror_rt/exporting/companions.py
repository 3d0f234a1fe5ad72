"""Write what stands beside the graph, so that other programs can serve the same folder."""

from __future__ import annotations

import json
from pathlib import Path

from mirror_rt.errors import ModelError
from mirror_rt.training.model import TextModel
from mirror_rt.types import Pooling

__all__ = ["write_companions"]


def write_companions(model: TextModel, folder: Path) -> None:
    """Write tokenizer, configuration and the modules of sentence-transformers.

    The tokenizer loses any fixed padding or truncation of its own and tells the longest input
    of the bundle, so that every program cuts a long string at the same place.

    Raises:
        ModelError: The model has no fast tokenizer.
    """
    tokenizer = model.tokenizer
    if not tokenizer.is_fast:
        raise ModelError(
            f"{tokenizer.name_or_path}: has no fast tokenizer, which a bundle needs; "
            "save the model with a tokenizer.json"
        )
    tokenizer.backend_tokenizer.no_padding()
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.model_max_length = model.max_length
    tokenizer.padding_side = tokenizer.truncation_side = "right"
    tokenizer.save_pretrained(folder)
    model.model.config.save_pretrained(folder)
    kinds = {"": "Transformer", "1_Pooling": "Pooling", "2_Normalize": "Normalize"}
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate(kinds.items())
    ]
    pooling = {
        "word_embedding_dimension": model.dim,
        "pooling_mode_cls_token": model.pooling is Pooling.CLS,
        "pooling_mode_mean_tokens": model.pooling is Pooling.MEAN,
        "pooling_mode_max_tokens": False,
        "pooling_mode_mean_sqrt_len_tokens": False,
    }
    (folder / "1_Pooling").mkdir()
    for name, content in (
        ("modules.json", modules),
        ("1_Pooling/config.json", pooling),
        ("sentence_bert_config.json", {"max_seq_length": model.max_length, "do_lower_case": False}),
    ):
        (folder / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
