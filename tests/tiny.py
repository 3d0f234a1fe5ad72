"""Tiny seeded models made offline: what a real one looks like, in a fraction of a second."""

from __future__ import annotations

import json
from pathlib import Path

WORDS = (
    "abnormal heart lung kidney liver brain disease syndrome congenital acute chronic pain "
    "of the left right upper lower limb cell cancer tumor defect atrial septal ventricular "
    "short stature long face small hand foot eye ear nose fever cough rash red blue software "
    "engineer data scientist nurse teacher"
).split()

NAMES = [
    "atrial septal defect", "ventricular septal defect", "short stature",
    "congenital heart disease",
    "chronic kidney disease", "acute kidney disease", "liver cancer", "cancer of the liver",
    "lung tumor", "brain tumor", "abnormal hand", "abnormal foot", "small hand", "long face",
    "red rash", "acute cough", "chronic cough", "left upper limb pain", "right lower limb pain",
    "software engineer", "data scientist", "nurse", "teacher", "fever", "blue eye", "small ear",
]  # fmt: skip


def tiny_checkpoint(folder: Path, *, architecture: str = "bert", seed: int = 7) -> Path:
    """Write a seeded 2-layer masked language model with its fast tokenizer; return the folder.

    Args:
        folder: Where to write; made if missing.
        architecture: One of ``mirror_rt.training.model.FAMILIES``.
        seed: Seed of the weights.
    """
    import torch
    import transformers
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    letters = [chr(c) for c in range(ord("a"), ord("z") + 1)] + list("0123456789-,'()/[].|:")
    from_pad = architecture in {"camembert", "mpnet", "roberta", "xlm-roberta"}
    if from_pad:
        names = {"unk": "<unk>", "cls": "<s>", "sep": "</s>", "pad": "<pad>", "mask": "<mask>"}
        order = ["cls", "pad", "sep", "unk"]
    else:
        names = {"unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "pad": "[PAD]", "mask": "[MASK]"}
        order = ["pad", "unk", "cls", "sep"]
    pieces = [names[k] for k in order] + [names["mask"]]
    pieces += letters + [f"##{letter}" for letter in letters] + sorted(set(WORDS))
    vocabulary = {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token=names["unk"]))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{names['cls']} $A {names['sep']}",
        pair=f"{names['cls']} $A {names['sep']} $B:1 {names['sep']}:1",
        special_tokens=[(names[k], vocabulary[names[k]]) for k in ("cls", "sep")],
    )
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        **{f"{k}_token": v for k, v in names.items()},
        model_max_length=64,
        model_input_names=["input_ids", "attention_mask"]
        + (["token_type_ids"] if architecture in {"bert", "electra"} else []),
    )
    sizes = {"vocab_size": len(vocabulary), "pad_token_id": vocabulary[names["pad"]]}
    if architecture == "distilbert":
        sizes |= {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64}
    else:
        sizes |= {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
        sizes |= {"intermediate_size": 64}
    if architecture == "electra":
        sizes |= {"embedding_size": 32}
    positions = 64 + (2 if from_pad else 0)  # theirs are counted from the padding id
    config = transformers.CONFIG_MAPPING[architecture](max_position_embeddings=positions, **sizes)
    torch.manual_seed(seed)
    model = transformers.AutoModel.from_config(config)
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder


def scaled(folder: Path, factor: float, *, part: str = "") -> Path:
    """Multiply the matrices of a tiny checkpoint whose names hold ``part``; return the folder."""
    from safetensors.torch import load_file, save_file

    file = folder / "model.safetensors"
    weights = {
        name: weight * factor if weight.ndim == 2 and part in name else weight
        for name, weight in load_file(file).items()
    }
    save_file(weights, file, metadata={"format": "pt"})
    return folder


def without_padding(folder: Path) -> Path:
    """Take the padding token of a tiny BERT from its vocabulary, its tokenizer and its config."""
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        content = json.loads((folder / name).read_text().replace("[PAD]", "[unused]"))
        content.pop("pad_token", None)
        (folder / name).write_text(json.dumps(content))
    config = json.loads((folder / "config.json").read_text()) | {"pad_token_id": None}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def add_pooling(folder: Path, mode: str, *, dim: int = 32, max_length: int = 64) -> Path:
    """Add the files that make a folder a sentence-transformers model with ``mode`` pooling."""
    kinds = {"": "Transformer", "1_Pooling": "Pooling", "2_Normalize": "Normalize"}
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate(kinds.items())
    ]
    pooling = {
        "word_embedding_dimension": dim,
        "pooling_mode_cls_token": mode == "cls",
        "pooling_mode_mean_tokens": mode == "mean",
        "pooling_mode_max_tokens": False,
        "pooling_mode_mean_sqrt_len_tokens": False,
    }
    (folder / "1_Pooling").mkdir(exist_ok=True)
    (folder / "2_Normalize").mkdir(exist_ok=True)
    (folder / "1_Pooling/config.json").write_text(json.dumps(pooling))
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "sentence_bert_config.json").write_text(
        json.dumps({"max_seq_length": max_length, "do_lower_case": False})
    )
    return folder
