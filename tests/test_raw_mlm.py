"""Pre-training by masked language modeling: packing, masking, loss, resume."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from mirror_rt.errors import ConfigError, InputError, TargetError, TrainingError
from tests.errors import about

torch = pytest.importorskip("torch")
BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def raw() -> ModuleType:
    """The script, as a module."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        spec = importlib.util.spec_from_file_location("raw_mlm", BENCHMARKS / "raw_mlm.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules["raw_mlm"] = module
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(BENCHMARKS))
    return module


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """1,800 texts, each of which repeats one invented word."""
    draw = np.random.default_rng(3)
    words = ["".join(draw.choice(list("abcdefghij"), draw.integers(2, 7))) for _ in range(40)]
    path = tmp_path_factory.mktemp("raw") / "corpus.txt"
    with path.open("w", encoding="utf-8") as file:
        for _ in range(1800):
            file.write(" ".join([str(draw.choice(words))] * int(draw.integers(4, 20))) + "\n")
    return path


@pytest.fixture
def recipe(raw: ModuleType) -> object:
    return raw.Recipe(vocabulary=400, layers=1, width=64, length=32, rows=8, lr=2e-3, warm_up=4)


def test_packing_keeps_every_token_once_and_in_order(raw: ModuleType) -> None:
    draw = np.random.default_rng(0)
    lengths = draw.integers(0, 70, 200)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    tokens = draw.integers(5, 1000, offsets[-1]).astype(np.uint16)
    order = draw.permutation(200)
    rows, pieces = raw.pack(tokens, offsets, order, 32)
    assert rows.shape == pieces.shape
    assert rows.shape[1] == 32
    wanted = np.concatenate([tokens[offsets[i] : offsets[i + 1]] for i in order])
    assert np.array_equal(rows[rows >= 5], wanted)
    assert np.array_equal(pieces == 0, rows == sys.modules["mlm_data"].PAD)
    for row, piece in zip(rows, pieces, strict=True):
        assert (piece == 0).sum() < 8 or row is rows[-1] or np.array_equal(row, rows[-1])
        for number in range(1, piece.max() + 1):
            part = row[piece == number]
            assert part[0] == sys.modules["mlm_data"].CLS
            assert part[-1] == sys.modules["mlm_data"].SEP
            assert (part[1:-1] >= 5).all()


def test_masks_follow_the_published_shares(raw: ModuleType) -> None:
    ids = np.random.default_rng(1).integers(0, 5000, (2000, 128)).astype(np.uint16)
    seen, labels = raw.mask(ids, 5000, np.random.default_rng(2))
    chosen = labels != raw.UNPREDICTED
    count = chosen.sum()
    assert not chosen[ids < 5].any()
    assert np.array_equal(seen[~chosen], ids[~chosen])
    assert np.array_equal(labels[chosen], ids[chosen])
    masked = seen[chosen] == sys.modules["mlm_data"].MASK
    kept = seen[chosen] == ids[chosen]
    for share, expected, of in (
        (chosen.mean() / (ids >= 5).mean(), 0.15, ids.size),
        (masked.mean(), 0.8, count),
        (kept.mean(), 0.1, count),
        ((~masked & ~kept).mean(), 0.1, count),
    ):
        assert abs(share - expected) < 5 * np.sqrt(expected * (1 - expected) / of)
    swapped = seen[chosen][~masked & ~kept]
    assert swapped.min() >= 5
    assert len(np.unique(swapped)) > 2500


def test_loss_is_that_of_texts_alone(raw: ModuleType, recipe: object) -> None:
    """Texts packed into one row have the same cross-entropy as each in its own row."""
    draw = np.random.default_rng(4)
    lengths = np.array([9, 4, 7])
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    tokens = draw.integers(5, 400, 20).astype(np.uint16)
    model = raw.make_model(recipe, tokens).eval()
    rows, pieces = raw.pack(tokens, offsets, np.arange(3), 32)
    assert len(rows) == 1
    seen, labels = raw.mask(rows, 400, np.random.default_rng(5))
    loss, _ = raw.loss_of(model, *(torch.from_numpy(a) for a in (seen, labels, pieces)))
    total, count = 0.0, 0
    for number in (1, 2, 3):
        here = pieces[0] == number
        with torch.no_grad():
            logits = model(input_ids=torch.from_numpy(seen[0][here])[None]).logits[0].double()
        logs = logits - logits.logsumexp(-1, keepdim=True)
        for place, label in enumerate(labels[0][here]):
            if label != raw.UNPREDICTED:
                total, count = total - float(logs[place, label]), count + 1
    assert count
    assert loss.item() == pytest.approx(total / count, rel=1e-4)


def test_embeddings_put_tokens_of_the_same_neighbors_together(raw: ModuleType) -> None:
    draw = np.random.default_rng(6)
    frames = draw.integers(20, 60, (4000, 2))
    middle = draw.integers(0, 10, 4000)  # tokens 0 to 9 have the same neighbors …
    other = draw.integers(10, 20, 4000)  # … and 10 to 19 have others
    first = np.column_stack([frames[:, 0], middle, frames[:, 1]])
    second = np.column_stack([frames[:, 0] + 40, other, frames[:, 1] + 40])
    tokens = np.concatenate([first.ravel(), second.ravel()]).astype(np.uint16)
    vectors = sys.modules["mlm_data"].svd_embeddings(tokens, 100, 8, window=1)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    assert (unit[:10] @ unit[:10].T).mean() > (unit[:10] @ unit[10:20].T).mean() + 0.5
    assert vectors.std() == pytest.approx(0.02, rel=1e-3)


def test_rate_rises_stays_and_falls(raw: ModuleType, recipe: object) -> None:
    rates = np.array([raw.rate_at(step, 100, recipe) for step in range(100)])
    assert rates.max() == 1
    assert (np.diff(rates[:4]) > 0).all()
    assert np.allclose(rates[4:80], 1)
    assert (np.diff(rates[80:]) < 0).all()
    assert rates[-1] < 0.1


def test_a_run_killed_twice_ends_like_one_killed_once(
    raw: ModuleType, recipe: object, corpus: Path, tmp_path: Path
) -> None:
    def killed_at(step: int) -> Callable[[str], None]:
        def kill(words: str) -> None:
            if words.startswith("{") and json.loads(words)["step"] == step:
                raise KeyboardInterrupt

        return kill

    once, twice = tmp_path / "once", tmp_path / "twice"
    with pytest.raises(KeyboardInterrupt):
        raw.run(corpus, once, recipe, steps=48, save_every=8, tell=killed_at(16))
    assert not once.exists()
    with pytest.raises(TargetError):
        raw.run(corpus, once, recipe, steps=48)
    shutil.copytree(tmp_path / "once.unfinished", tmp_path / "twice.unfinished")
    record = raw.run(corpus, once, recipe, steps=48, save_every=8, resume=True)
    assert record["history"][-1]["held_out"] < record["history"][0]["held_out"] - 0.2
    with pytest.raises(TargetError):
        raw.run(corpus, twice, replace(recipe, lr=0.0123), save_every=8, resume=True)
    with pytest.raises(KeyboardInterrupt):
        raw.run(corpus, twice, recipe, save_every=8, resume=True, tell=killed_at(40))
    shutil.copytree(tmp_path / "twice.unfinished", tmp_path / "other.unfinished")
    other = raw.run(corpus, tmp_path / "other", replace(recipe, decay=0.9), resume=True)
    assert other["recipe"]["decay"] == 0.9
    assert other["history"][-1]["held_out"] != record["history"][-1]["held_out"]
    raw.run(corpus, twice, recipe, save_every=8, resume=True)
    for name in ("model.safetensors", "vocab.txt", "config.json"):
        one, two = ((tmp_path / run / name).read_bytes() for run in ("once", "twice"))
        assert one == two
    assert not (tmp_path / "twice.unfinished").exists()

    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "twice")
    states = AutoModel.from_pretrained(tmp_path / "twice")(
        **tokenizer(["abc Def"], return_tensors="pt")
    ).last_hidden_state
    assert states.shape[0] == 1
    assert states.shape[2] == 64


@pytest.mark.parametrize(
    "given",
    [
        "--steps 0", "--steps -1", "--minutes 0", "--minutes nan", "--most-tokens 0",
        "--save-every 0", "--threads 0", "--vocabulary 5", "--vocabulary 70000", "--layers 0",
        "--width 0", "--width 200", "--length 2", "--rows 0", "--lr 0", "--muon-lr nan",
        "--warm-up 0", "--decay -1", "--decay 2", "--weight-decay -1", "--embeddings none",
        "--seed -1", "--device none", "--record {}",
    ],
)  # fmt: skip
def test_a_bad_option_is_named_before_the_corpus_is_read(
    raw: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    given: str,
) -> None:
    monkeypatch.setattr(raw, "make_tokenizer", None)
    given = given.format(tmp_path)
    command = ["raw_mlm.py", str(tmp_path / "corpus"), "--out", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", [*command, *given.split()])
    assert raw.main() == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert given.split()[0].strip("-") in line or str(tmp_path) in line
    assert list(tmp_path.iterdir()) == []


def test_a_few_steps_have_a_history_whatever_they_are_limited_by(
    raw: ModuleType, recipe: object, corpus: Path, tmp_path: Path
) -> None:
    for name, limit, steps in (
        ("minutes", {"minutes": 1e-9}, 20), ("tokens", {"most_tokens": 1500}, 6)
    ):  # fmt: skip
        record = raw.run(corpus, tmp_path / name, recipe, **limit)
        assert [point["step"] for point in record["history"]] == [record["steps"]]
        assert abs(record["steps"] - steps) < 3
        assert np.isfinite(record["history"][0]["held_out"])


def test_rows_without_a_chosen_token_have_no_loss(raw: ModuleType, recipe: object) -> None:
    model = raw.make_model(recipe, np.arange(5, 400, dtype=np.uint16))
    ids = torch.full((1, 16), 7)
    nothing = torch.full((1, 16), raw.UNPREDICTED)
    loss, right = raw.loss_of(model, ids, nothing, torch.ones(1, 16, dtype=torch.int32))
    loss.backward()
    assert (loss.item(), int(right)) == (0.0, 0)


def test_a_spoilt_state_is_reported(
    raw: ModuleType, recipe: object, corpus: Path, tmp_path: Path
) -> None:
    out, state = tmp_path / "out", tmp_path / "out.unfinished"
    raw.Run(corpus, out, recipe).save(8)
    account = json.loads((state / "state.json").read_text())
    for name, content in (
        ("state.json", b"[]"),
        ("state.json", json.dumps({**account, "step": None}).encode()),
        ("optimizer.safetensors", b""),
        ("tokenizer.json", b"{"),
    ):
        before = (state / name).read_bytes()
        (state / name).write_bytes(content)
        with pytest.raises(TargetError, check=about(value=str(state))):
            raw.run(corpus, out, recipe, resume=True)
        (state / name).write_bytes(before)
    raw.run(corpus, out, recipe, resume=True)
    with pytest.raises(TargetError, check=about(value=str(out))):
        raw.run(corpus, out, recipe, resume=True)


def test_faults_of_a_corpus_are_reported(raw: ModuleType, recipe: object, tmp_path: Path) -> None:
    cut = tmp_path / "cut.txt"
    cut.write_bytes(b"words\n" * 2000 + "é".encode()[:1])
    with pytest.raises(InputError, check=about(value="2001")):
        raw.run(cut, tmp_path / "out", recipe, steps=1)
    short = tmp_path / "short.txt"
    short.write_text("some words\n" * 100, encoding="utf-8")
    with pytest.raises(ConfigError):
        raw.run(short, tmp_path / "out", recipe, steps=1)
    with pytest.raises(InputError):
        raw.run(tmp_path / "none.txt", tmp_path / "out", recipe, steps=1)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cut.txt", "short.txt"]


def test_a_device_that_is_gone_is_reported(
    raw: ModuleType,
    recipe: object,
    corpus: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(ConfigError):
        raw.run(corpus, tmp_path / "out", recipe, steps=4, device="cuda:99")
    whole = raw.Run.one_step

    def gone(pre: Any, steps: int) -> None:  # noqa: ANN401
        if pre.step == 5:
            raise RuntimeError("device lost\nCompile with debugging")
        whole(pre, steps)

    monkeypatch.setattr(raw.Run, "one_step", gone)
    with pytest.raises(TrainingError):
        raw.run(corpus, tmp_path / "out", recipe, steps=8, save_every=2)
    assert not (tmp_path / "out").exists()
    monkeypatch.setattr(raw.Run, "one_step", whole)
    record = raw.run(corpus, tmp_path / "out", recipe, save_every=2, resume=True)
    assert [one["step"] for one in record["history"]] == [2, 4, 6, 8]
