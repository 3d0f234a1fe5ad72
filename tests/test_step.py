"""A step with shared rows, length groups or cached gradients, compared with a plain one."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from mirror_rt.training.batches import Batch, batches, make_batch, string_keys
from mirror_rt.training.config import TrainConfig
from mirror_rt.training.curves import EvalMonitor
from mirror_rt.training.encoding import bucket_by_length, encode, pack_sequences, sort_by_length
from mirror_rt.training.loop import load_base
from mirror_rt.training.loss import info_nce, multi_similarity
from mirror_rt.training.model import TextModel, tokenize
from mirror_rt.training.pairs import read_table, same_meaning_mask
from mirror_rt.training.step import backward, cached_backward, plain_backward
from mirror_rt.types import Loss, PairSource, Pooling
from tests.tiny import NAMES


def setting(
    folder: Path,
    base: Path,
    *,
    dropout: float,
    pooling: Pooling = Pooling.MEAN,
    dtype: torch.dtype = torch.float64,
    **options: object,
) -> tuple[TextModel, Batch, TrainConfig]:
    (folder / "c.txt").write_text("\n".join(NAMES))
    given = {"bf16": False} | options
    config = TrainConfig(
        corpus=folder / "c.txt", base=base, out=folder / "o", batch_size=13, dropout=dropout,
        pooling=pooling, **given,  # type: ignore[arg-type]
    )  # fmt: skip
    model, table = load_base(config), read_table(config)
    model.model.train()
    model.model.to(dtype)
    (batch,) = batches(table, tokenize(table.strings, model), model, config, steps=1)
    return model, batch, config


def gradients(model: TextModel) -> dict[str, torch.Tensor]:
    found = {n: p.grad.clone() for n, p in model.model.named_parameters() if p.grad is not None}
    model.model.zero_grad()
    return found


def assert_close(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    scale = max(value.abs().max().item() for value in a.values())
    for name, value in a.items():
        assert (value - b[name]).abs().max().item() < 1e-9 * scale, name


@pytest.mark.parametrize("apart", [False, True], ids=["rows shared", "length groups"])
@pytest.mark.parametrize("pooling", Pooling)
@pytest.mark.parametrize(
    ("dtype", "near"), [(torch.float64, 1e-9), (torch.float32, 1e-6)], ids=["double", "single"]
)
def test_the_step_equals_that_of_one_padded_batch(
    tmp_path: Path, tiny_bert: Path, pooling: Pooling, dtype: torch.dtype, near: float, apart: bool
) -> None:
    model, batch, config = setting(tmp_path, tiny_bert, dropout=0.0, pooling=pooling, dtype=dtype)
    model = dataclasses.replace(model, apart=apart)
    lengths = [len(ids) for ids in batch.tokens]
    assert len(bucket_by_length(lengths)) > 2
    assert 2 < len(pack_sequences(lengths).rows) < len(lengths) / 2
    found = plain_backward(model, batch, config)
    ours = gradients(model)
    # The plain loop: the tokenizer's own padding, ids instead of embeddings, one forward pass.
    padded = model.tokenizer(batch.texts, padding=True, return_tensors="pt")
    states = model.model(**padded).last_hidden_state
    mask = padded["attention_mask"].unsqueeze(-1)
    mean = (states * mask).sum(1) / mask.sum(1)
    vectors = mean if pooling is Pooling.MEAN else states[:, 0]
    loss = info_nce(
        vectors, torch.from_numpy(same_meaning_mask(batch.keys)), temperature=config.temperature
    )
    loss.backward()
    assert found == pytest.approx(loss.item(), abs=near)
    if dtype is torch.float64:
        assert_close(ours, gradients(model))


KIN = [
    ("A", "liver cancer"), ("A", "cancer of the liver"), ("A", "liver tumor"), ("A", "liver pain"),
    ("B", "Fever"), ("B", "acute pain"), ("C", "fever"), ("C", "chronic pain"),
    ("D", "short stature"), ("D", "small hand"),
]  # fmt: skip
"""Five pairs: two of one entity, and two whose first names differ in letter case alone."""


@pytest.mark.parametrize("loss", Loss)
def test_names_that_may_mean_the_same_are_no_negatives_in_a_step_nor_where_it_is_watched(
    tmp_path: Path, tiny_bert: Path, loss: Loss
) -> None:
    (tmp_path / "kb.tsv").write_text("id\tname\n" + "".join(f"{i}\t{n}\n" for i, n in KIN))
    config = TrainConfig(
        corpus=tmp_path / "kb.tsv", base=tiny_bert, out=tmp_path / "o", pairs=PairSource.SYNONYMS,
        loss=loss, dropout=0.0, pooling=Pooling.MEAN, bf16=False,
    )  # fmt: skip
    model, table = load_base(config), read_table(config)
    model.model.train().to(torch.float64)
    clean = tokenize(table.strings, model)
    pairs, keys = np.arange(len(KIN)).reshape(-1, 2), string_keys(table, clean)
    batch = make_batch(pairs, table, clean, keys, model, config, rng=np.random.default_rng(0))
    views = [*KIN[::2], *KIN[1::2]]
    assert batch.texts == [name for _, name in views]
    same = [[a == b or n.lower() == m.lower() for b, m in views] for a, n in views]

    def by_hand(same_meaning_VV: torch.Tensor) -> torch.Tensor:
        vectors = encode(model, batch.tokens)
        if loss is Loss.INFO_NCE:
            return info_nce(vectors, same_meaning_VV, temperature=config.temperature)
        return multi_similarity(vectors, same_meaning_VV)

    found = plain_backward(model, batch, config)
    ours = gradients(model)
    expected = by_hand(torch.tensor(same))
    expected.backward()
    assert found == pytest.approx(expected.item(), abs=1e-9)
    assert_close(ours, gradients(model))
    look = EvalMonitor(pairs, table, clean, keys, model, config, steps=1).measure(0)
    assert look is not None
    assert look["loss"] == pytest.approx(found, abs=1e-6)
    assert abs(by_hand(torch.eye(len(views), dtype=torch.bool)).item() - found) > 1e-3


@pytest.mark.parametrize("mini_batch_size", [1, 4, 100])
def test_the_cached_step_equals_the_plain_one(
    tmp_path: Path, tiny_bert: Path, mini_batch_size: int
) -> None:
    model, batch, config = setting(
        tmp_path, tiny_bert, dropout=0.0, mini_batch_size=mini_batch_size
    )
    cached = backward(model, batch, config)
    ours = gradients(model)
    assert cached == pytest.approx(plain_backward(model, batch, config), abs=1e-9)
    assert_close(ours, gradients(model))


PEAKS_OF_A_STEP = """
import dataclasses, re, sys
from pathlib import Path
from mirror_rt.training.batches import batches
from mirror_rt.training.config import TrainConfig
from mirror_rt.training.loop import load_base
from mirror_rt.training.model import tokenize
from mirror_rt.training.pairs import read_table
from mirror_rt.training.step import backward

config = TrainConfig(
    corpus=sys.argv[1], base=sys.argv[2], out="out", batch_size=200, max_length=64, bf16=False,
    threads=1,
)
model, table = load_base(config), read_table(config)
model.model.train()
(batch,) = batches(table, tokenize(table.strings, model), model, config, steps=1)
def peak():  # in KiB; that of getrusage is inherited from the process that started this one
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

for mini_batch_size in (16, None):  # the peak never falls, so the smaller comes first
    before = peak()
    backward(model, batch, dataclasses.replace(config, mini_batch_size=mini_batch_size))
    print(peak() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
def test_the_cached_step_needs_a_fraction_of_the_memory(tmp_path: Path, tiny_bert: Path) -> None:
    rng = np.random.default_rng(0)
    lines = [" ".join(rng.choice(NAMES, size=24)) for _ in range(200)]  # all cut off at 64 tokens
    (tmp_path / "c.txt").write_text("\n".join(lines))
    done = subprocess.run(
        [sys.executable, "-c", PEAKS_OF_A_STEP, tmp_path / "c.txt", tiny_bert],
        check=True,
        capture_output=True,
        text=True,
    )
    cached, plain = map(int, done.stdout.split())
    assert plain > 100_000  # KiB
    assert cached < plain / 4


@pytest.mark.parametrize("drophead", [0.0, 0.3])
def test_the_cached_step_encodes_again_with_the_very_same_dropout(
    tmp_path: Path, tiny_bert: Path, drophead: float
) -> None:
    model, batch, config = setting(
        tmp_path, tiny_bert, dropout=0.2, drophead=drophead, mini_batch_size=5
    )
    torch.manual_seed(3)
    cached = cached_backward(model, batch, config)
    ours = gradients(model)
    torch.manual_seed(3)
    parts = sort_by_length([len(ids) for ids in batch.tokens], most=5)
    order = torch.from_numpy(np.argsort(np.concatenate(parts)))
    encoded = [encode(model, [batch.tokens[view] for view in part]) for part in parts]
    vectors = torch.cat(encoded)[order]
    loss = info_nce(
        vectors, torch.from_numpy(same_meaning_mask(batch.keys)), temperature=config.temperature
    )
    loss.backward()
    assert cached == pytest.approx(loss.item(), abs=1e-9)
    assert_close(ours, gradients(model))


@pytest.mark.parametrize("native", [False, True])
def test_a_cpu_computes_in_bfloat16_if_it_supports_it_or_on_request(
    tmp_path: Path, tiny_bert: Path, monkeypatch: pytest.MonkeyPatch, native: bool
) -> None:
    # The authors' code ran in mixed precision even without its option.
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": native})
    model, batch, config = setting(tmp_path, tiny_bert, dropout=0.0, bf16=None, dtype=torch.float32)
    exact = plain_backward(model, batch, dataclasses.replace(config, bf16=False))
    rough = plain_backward(model, batch, dataclasses.replace(config, bf16=True))
    assert plain_backward(model, batch, config) == (rough if native else exact) != 0.0
    assert rough != exact


def test_bfloat16_stays_near_full_precision(tmp_path: Path, tiny_bert: Path) -> None:
    model, batch, config = setting(
        tmp_path, tiny_bert, dropout=0.0, bf16=True, temperature=0.5, dtype=torch.float32
    )
    rough = plain_backward(model, batch, config)
    full = setting(
        tmp_path, tiny_bert, dropout=0.0, bf16=False, temperature=0.5, dtype=torch.float32
    )
    exact = plain_backward(*full)
    assert rough == pytest.approx(exact, rel=0.02)
    assert rough != exact
