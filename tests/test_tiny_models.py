"""The offline models that other tests use."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tiny import NAMES, tiny_checkpoint


@pytest.mark.parametrize("architecture", ["bert", "roberta", "distilbert", "electra"])
def test_a_tiny_model_loads_and_runs(tmp_path: Path, architecture: str) -> None:
    import torch
    from transformers import AutoModel, AutoTokenizer

    folder = tiny_checkpoint(tmp_path / architecture, architecture=architecture)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder).eval()
    batch = tokenizer(NAMES, padding=True, return_tensors="pt")
    with torch.no_grad():
        out = model(**batch).last_hidden_state
    assert out.shape[2] == 32
    assert tokenizer.mask_token in {"[MASK]", "<mask>"}
    assert tokenizer.decode(batch["input_ids"][0], skip_special_tokens=True) == NAMES[0]
