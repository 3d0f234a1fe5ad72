"""What a checkpoint's folder says of its pooling, as sentence-transformers reads and writes it.

JSON only: needs no torch.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mirror_rt.errors import ModelError
from mirror_rt.types import Pooling

__all__ = ["check_text_preprocessing", "read_object", "read_pooling", "write_modules"]


def read_pooling(folder: str | Path) -> tuple[Pooling, int | None]:
    """Read how a sentence-transformers folder pools, and its longest input.

    Returns:
        The pooling, and the longest input in tokens or None where it says nothing. A plain
        transformer, without ``modules.json``, pools by [CLS].

    Raises:
        ModelError: It pools in a way, or has a module, that cannot be kept.
    """
    folder = Path(folder)
    if not (folder / "modules.json").is_file():
        return Pooling.CLS, None
    try:
        return _read_modules(folder)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ModelError(
            f"{folder}: modules.json, or a file that it names, is not as sentence-transformers "
            f"writes it ({type(error).__name__}: {error}); save the model again"
        ) from error


def _read_modules(folder: Path) -> tuple[Pooling, int | None]:
    modules = _read_json(folder / "modules.json")
    pooling: Pooling | None = None
    for module in modules:
        kind = str(module["type"]).rsplit(".", 1)[-1]
        match kind:
            case "Transformer" | "Normalize":
                pass
            case "Pooling":
                pooling = _pooling_of(folder / str(module["path"]) / "config.json")
            case _:
                raise ModelError(
                    f"{folder}: has a {kind} module, which would be lost; "
                    "give a model of transformer, pooling and normalization only"
                )
    if pooling is None:
        raise ModelError(f"{folder}: modules.json names no pooling")
    limits = folder / "sentence_bert_config.json"
    longest = read_object(limits).get("max_seq_length") if limits.is_file() else None
    return pooling, None if longest is None else int(longest)


def check_text_preprocessing(folder: str | Path, *, lowers: bool) -> None:
    """Refuse a sentence-transformers folder that changes texts before they are tokenized.

    Args:
        folder: The checkpoint.
        lowers: Whether its tokenizer lower-cases anyway, so that doing it before changes nothing.

    Raises:
        ModelError: It puts a prompt before every text, or lower-cases it, or it cuts vectors off.
    """
    folder = Path(folder)
    path = folder / "config_sentence_transformers.json"
    config = read_object(path) if path.is_file() else {}
    name = config.get("default_prompt_name")
    prompts = config.get("prompts")
    prompt = None
    if isinstance(prompts, dict) and isinstance(name, str):
        prompt = prompts.get(name)
    if prompt:
        raise ModelError(
            f"{path}: default_prompt_name {name!r} puts {prompt!r} before every text, which a "
            "bundle does not; set it to null, and put the prompt into your own texts"
        )
    kept = config.get("truncate_dim")
    if kept is not None:
        raise ModelError(
            f"{path}: truncate_dim {kept} cuts vectors off, which a bundle does not; set it to "
            f"null, and cut off where you embed: mirror-rt embed --dims {kept}"
        )
    path = folder / "sentence_bert_config.json"
    config = read_object(path) if path.is_file() else {}
    if config.get("do_lower_case") and not lowers:
        raise ModelError(
            f"{path}: do_lower_case is true, but the tokenizer keeps capitals, and only it is "
            'in a bundle; set it to false, or add {"type": "Lowercase"} to its normalizer'
        )


def _pooling_of(path: Path) -> Pooling:
    config = read_object(path)
    # Newer versions of sentence-transformers write one name, older ones a flag for each.
    modes = config.get("pooling_mode")
    if modes is None:
        flags = {"cls_token": "cls", "mean_tokens": "mean"}
        prefix = "pooling_mode_"
        on = [key.removeprefix(prefix) for key, value in config.items() if value is True]
        modes = [flags.get(mode, mode) for mode in on if f"{prefix}{mode}" in config]
    modes = [modes] if isinstance(modes, str) else modes
    try:
        (mode,) = modes
        return Pooling(mode)
    except ValueError as error:
        raise ModelError(
            f"{path}: pools by {' and '.join(map(str, modes)) or 'nothing'}"
            f"{' at once' if len(modes) > 1 else ''}; only cls and mean can be used, alone"
        ) from error


def _read_json(path: Path) -> Any:  # noqa: ANN401  (what JSON holds)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: cannot be read ({error}); restore or remove it") from error


def read_object(file: Path) -> dict[str, Any]:
    """Read a JSON object that a checkpoint or bundle has.

    Raises:
        ModelError: It is missing, or not a JSON object.
    """
    content = _read_json(file)
    if not isinstance(content, dict):
        raise ModelError(f"{file}: is not a JSON object; restore or remove it")
    return content


def write_modules(folder: Path, *, dim: int, pooling: Pooling, max_length: int) -> None:
    """Write ``modules.json`` and what it names, so that sentence-transformers opens the folder.

    Args:
        folder: Where the model is, or will be.
        dim: Width of a vector.
        pooling: How token states become one vector.
        max_length: Longest input in tokens, special tokens included.
    """
    kinds = {"": "Transformer", "1_Pooling": "Pooling", "2_Normalize": "Normalize"}
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate(kinds.items())
    ]
    modes = {
        "word_embedding_dimension": dim,
        "pooling_mode_cls_token": pooling is Pooling.CLS,
        "pooling_mode_mean_tokens": pooling is Pooling.MEAN,
        "pooling_mode_max_tokens": False,
        "pooling_mode_mean_sqrt_len_tokens": False,
    }
    (folder / "1_Pooling").mkdir()
    for name, content in (
        ("modules.json", modules),
        ("1_Pooling/config.json", modes),
        ("sentence_bert_config.json", {"max_seq_length": max_length, "do_lower_case": False}),
    ):
        (folder / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
