"""Read checkpoint folders: Hugging Face files, with the modules of sentence-transformers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mirror_rt.errors import ModelError
from mirror_rt.types import Pooling

__all__ = ["read_pooling"]


def read_pooling(folder: Path) -> tuple[Pooling, int | None]:
    """Read how a checkpoint pools, and its longest input in tokens if it says so.

    A folder without ``modules.json`` is a plain model: [CLS], as in the paper.

    Raises:
        ModelError: It has modules or a pooling other than transformer, CLS or mean, normalise.
    """
    if not (folder / "modules.json").is_file():
        return Pooling.CLS, None
    modules = {module["type"].rsplit(".", 1)[-1]: module["path"] for module in _json(folder)}
    if other := sorted(modules.keys() - {"Transformer", "Pooling", "Normalize"}):
        raise ModelError(
            f"{folder}: has a {', '.join(other)} module, which is not supported; "
            "use a model of transformer, pooling and normalisation"
        )
    length = None
    if (folder / "sentence_bert_config.json").is_file():
        length = _json(folder, "sentence_bert_config.json").get("max_seq_length")
    if "Pooling" not in modules:
        return Pooling.CLS, length
    config = _json(folder, f"{modules['Pooling']}/config.json")
    on = sorted(key for key, value in config.items() if key.startswith("pooling_mode_") and value)
    match on:
        case ["pooling_mode_cls_token"]:
            return Pooling.CLS, length
        case ["pooling_mode_mean_tokens"]:
            return Pooling.MEAN, length
        case _:
            raise ModelError(f"{folder}: pools by {', '.join(on) or 'nothing'}; give --pooling")


def _json(folder: Path, name: str = "modules.json") -> Any:  # noqa: ANN401  (JSON is anything)
    try:
        return json.loads((folder / name).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{folder / name}: cannot be read ({error})") from error
