"""The training loop on a tiny seeded BERT."""

from __future__ import annotations

import json
import logging
import shutil
import threading
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch.nn.functional import normalize

from mirror_rt.errors import ConfigError, ModelError, TargetError, TrainingError
from mirror_rt.training import loop
from mirror_rt.training.batches import batches, string_keys
from mirror_rt.training.checkpoint import TorchEncoder
from mirror_rt.training.config import TrainConfig
from mirror_rt.training.loop import StepMetrics, load_base, train
from mirror_rt.training.model import FAMILIES, TextModel, load_model, tokenize
from mirror_rt.training.pairs import read_table
from mirror_rt.training.resume import folder_of
from mirror_rt.types import Loss, PairSource, Pooling, Preset
from tests.errors import about
from tests.tiny import NAMES, add_pooling, tiny_checkpoint

MakeConfig = Callable[..., TrainConfig]
WEIGHTS = "model.safetensors"

GOLDEN = [
    2.498, 3.7037, 3.1721, 3.2357, 3.0611, 2.9043, 3.4798, 3.4705, 3.0064, 3.2097,
    3.1391, 3.1153, 3.1503, 3.0039, 3.1086, 3.4935, 2.6972, 2.7444, 2.6825, 3.1372,
]  # fmt: skip


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "names.txt"
    path.write_text("\n".join([*NAMES, "", "teacher"]))
    return path


@pytest.fixture
def config_of(corpus: Path, tiny_bert: Path) -> MakeConfig:
    def make(**options: object) -> TrainConfig:
        given = {"corpus": corpus, "base": tiny_bert, "out": corpus.parent / "out"}
        return TrainConfig(**(given | {"batch_size": 8, "max_steps": 2} | options))  # type: ignore[arg-type]

    return make


def weights_of(folder: Path) -> bytes:
    return (folder / WEIGHTS).read_bytes()


def test_twenty_seeded_steps_have_the_losses_they_always_had(config_of: MakeConfig) -> None:
    report = train(config_of(epochs=20, max_steps=20, bf16=False))
    assert report.losses == pytest.approx(GOLDEN, abs=2e-3)
    assert report.counts["strings"] == 26
    assert (report.counts["blank"], report.counts["duplicates"]) == (1, 1)


def test_training_brings_the_views_of_a_string_together(config_of: MakeConfig) -> None:
    report = train(config_of(epochs=40, max_steps=60, lr=3e-4, pooling=Pooling.MEAN))
    assert np.mean(report.losses[-10:]) < 0.7 * np.mean(report.losses[:10])


def test_every_weight_decays_at_the_given_rate(
    config_of: MakeConfig, tiny_bert: Path, tmp_path: Path
) -> None:
    rates = {"lr": 1e-2, "dropout": 0.0, "max_steps": 1}
    kept, decayed = (
        load_file(train(config_of(**rates, weight_decay=d, out=tmp_path / str(d))).out / WEIGHTS)
        for d in (0.0, 0.5)
    )
    for name, before in load_file(tiny_bert / WEIGHTS).items():
        if not name.startswith("pooler."):  # is not trained
            torch.testing.assert_close(decayed[name], kept[name] - 1e-2 * 0.5 * before)


def test_the_given_share_of_the_base_weights_is_kept(
    config_of: MakeConfig, tiny_bert: Path, tmp_path: Path
) -> None:
    trained, mixed = (
        train(config_of(base_share=share, out=tmp_path / str(share))) for share in (0.0, 0.25)
    )
    assert mixed.losses == trained.losses
    trained, mixed = (load_file(report.out / WEIGHTS) for report in (trained, mixed))
    for name, before in load_file(tiny_bert / WEIGHTS).items():
        torch.testing.assert_close(mixed[name], 0.25 * before + 0.75 * trained[name])
    before = load_file(tiny_bert / WEIGHTS)
    assert any(not torch.equal(mixed[name], trained[name]) for name in before)


def test_one_seed_gives_the_same_bytes_twice_and_another_does_not(
    config_of: MakeConfig, tmp_path: Path
) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        torch.rand(3)  # the state outside must not matter
        train(config_of(out=tmp_path / name, seed=seed))
    assert weights_of(tmp_path / "a") == weights_of(tmp_path / "b")
    assert weights_of(tmp_path / "a") != weights_of(tmp_path / "c")


def test_training_leaves_the_random_state_and_threads_of_its_caller_alone(
    config_of: MakeConfig,
) -> None:
    torch.manual_seed(5)
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    during: list[int] = []
    torch.set_num_threads(threads + 1)
    try:
        train(
            config_of(threads=threads + 2, max_steps=1),
            progress=lambda _: during.append(torch.get_num_threads()),
        )
        assert during == [threads + 2]
        assert torch.get_num_threads() == threads + 1
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(torch.get_rng_state(), before)


def test_second_views_are_masked_again_every_epoch_with_the_tokenizers_own_token(
    config_of: MakeConfig, tmp_path: Path
) -> None:
    base = tiny_checkpoint(tmp_path / "roberta", architecture="roberta")
    config = config_of(base=base, epochs=2, max_steps=6, preset=Preset.NAME)
    model, table = load_base(config), read_table(config)
    drawn = list(batches(table, tokenize(table.strings, model), model, config, steps=6))
    seen: dict[str, set[str]] = {}
    for batch in drawn:
        size = config.batch_size
        for first, second in zip(batch.texts[:size], batch.texts[size:], strict=True):
            assert first in NAMES
            assert second.count("<mask>") == 1
            assert "[MASK]" not in second
            seen.setdefault(first, set()).add(second)
        for text, ids in zip(batch.texts, batch.tokens, strict=True):
            assert ids.tolist() == model.tokenizer(text)["input_ids"]
            masks = int((ids == model.tokenizer.mask_token_id).sum())
            assert masks == text.count("<mask>")
    assert any(len(views) > 1 for views in seen.values())


def masked_of(config: TrainConfig, *, steps: int) -> list[tuple[str, bool]]:
    """Return the first views of Mirror pairs, and whether their second views are masked."""
    model, table = load_base(config), read_table(config)
    drawn = batches(table, tokenize(table.strings, model), model, config, steps=steps)
    return [
        (first, "[MASK]" in second)
        for batch in drawn
        for first, second in zip(batch.texts[:8], batch.texts[8:], strict=True)
    ]


def test_strings_under_the_guard_are_never_masked_and_all_others_are(
    config_of: MakeConfig,
) -> None:
    seen = masked_of(config_of(span_min_length=12, epochs=2), steps=6)
    assert {len(text) >= 12 for text, _ in seen} == {True, False}
    assert all(masked == (len(text) >= 12) for text, masked in seen)
    assert all(masked for _, masked in masked_of(config_of(epochs=2), steps=6))


@pytest.mark.parametrize("rate", [0.0, 0.3, 1.0])
def test_views_are_masked_at_the_given_rate(config_of: MakeConfig, rate: float) -> None:
    seen = masked_of(config_of(span_rate=rate, epochs=40), steps=100)
    share = sum(masked for _, masked in seen) / len(seen)
    assert abs(share - rate) <= 4 * (rate * (1 - rate) / len(seen)) ** 0.5


def test_strings_the_model_cannot_tell_apart_are_no_negatives(
    config_of: MakeConfig, tmp_path: Path
) -> None:
    path = tmp_path / "cases.txt"
    path.write_text("Fever\nfever\ncough\nrash\n")
    config = config_of(corpus=path, batch_size=4, max_steps=1)
    model, table = load_base(config), read_table(config)
    (batch,) = batches(table, tokenize(table.strings, model), model, config, steps=1)
    keys = dict(zip((text.casefold() for text in batch.texts[:4]), batch.keys, strict=False))
    assert len(keys) == 3
    assert len(set(batch.keys)) == 3


def test_pooling_is_the_bases_own_then_the_papers(
    config_of: MakeConfig, tmp_path: Path, tiny_bert: Path
) -> None:
    assert load_base(config_of()).pooling is Pooling.CLS
    assert load_base(config_of(preset=Preset.SENTENCE)).pooling is Pooling.MEAN
    own = add_pooling(tiny_checkpoint(tmp_path / "own"), "mean")
    assert load_base(config_of(base=own)).pooling is Pooling.MEAN
    assert load_base(config_of(base=own, pooling=Pooling.CLS)).pooling is Pooling.CLS


def test_synonyms_of_a_knowledge_base_train(config_of: MakeConfig, tmp_path: Path) -> None:
    kb = tmp_path / "kb.tsv"
    rows = [f"X:{i}\t{name} {kind}" for i, name in enumerate(NAMES) for kind in ("pain", "rash")]
    kb.write_text("id\tname\n" + "\n".join(rows))
    report = train(
        config_of(corpus=kb, pairs=PairSource.SYNONYMS, epochs=10, max_steps=20, lr=1e-3)
    )
    assert report.counts["entities"] == 26
    assert np.mean(report.losses[-5:]) < np.mean(report.losses[:5])


def test_the_multi_similarity_loss_trains(config_of: MakeConfig, tmp_path: Path) -> None:
    kb = tmp_path / "kb.tsv"
    rows = [f"X:{i}\t{name} {kind}" for i, name in enumerate(NAMES) for kind in ("pain", "rash")]
    kb.write_text("id\tname\n" + "\n".join(rows))
    options = {
        "corpus": kb,
        "pairs": PairSource.SYNONYMS,
        "epochs": 20,
        "max_steps": 40,
        "lr": 3e-4,
    }
    report = train(config_of(**options, loss=Loss.MULTI_SIMILARITY, pooling=Pooling.MEAN))
    assert np.mean(report.losses[-5:]) < 0.9 * np.mean(report.losses[:5])


def test_progress_is_reported_after_every_step(config_of: MakeConfig) -> None:
    steps: list[StepMetrics] = []
    report = train(config_of(max_steps=3), progress=steps.append)
    assert [s.step for s in steps] == [1, 2, 3]
    assert {s.steps for s in steps} == {3}
    assert tuple(s.loss for s in steps) == report.losses
    assert steps[-1].seconds_left == 0
    account = json.loads((report.out / "training.json").read_text())
    assert account["losses"] == pytest.approx(report.losses, abs=1e-6)
    assert account["config"]["temperature"] == 0.04
    assert account["counts"]["duplicates"] == 1


def test_too_few_strings_for_a_batch_name_the_batch_size_that_would_do(
    config_of: MakeConfig,
) -> None:
    with pytest.raises(TrainingError, check=about("names.txt", hint="--batch-size")):
        train(config_of(batch_size=200))


def test_one_string_repeated_is_too_few(config_of: MakeConfig, tmp_path: Path) -> None:
    path = tmp_path / "same.txt"
    path.write_text("fever\n" * 500)
    with pytest.raises(TrainingError, check=about("same.txt")):
        train(config_of(corpus=path))


def test_strings_of_one_character_train(config_of: MakeConfig, tmp_path: Path) -> None:
    path = tmp_path / "c.txt"
    path.write_text("\n".join("abcdefghijkl"))
    assert min(train(config_of(corpus=path)).losses) > 0.1


FOREIGN = "日本語名前病気頭痛発熱咳嗽"  # each character is [UNK] to the tiny models


def test_a_script_that_the_base_does_not_read_is_refused(
    config_of: MakeConfig, tmp_path: Path
) -> None:
    path = tmp_path / "c.txt"
    path.write_text("\n".join(FOREIGN), encoding="utf-8")
    with pytest.raises(TrainingError, check=about("c.txt", hint="--base")):
        train(config_of(corpus=path))


def test_one_entity_alone_has_no_negatives(config_of: MakeConfig, tmp_path: Path) -> None:
    (tmp_path / "kb.tsv").write_text("id\tname\n" + "\n".join(f"1\t{n}" for n in NAMES))
    with pytest.raises(TrainingError, check=about("kb.tsv", hint="--base")):
        train(config_of(corpus=tmp_path / "kb.tsv", pairs=PairSource.SYNONYMS))


@pytest.mark.parametrize(("readable", "output"), [(8, True), (14, False)])
def test_a_script_that_the_base_hardly_reads_is_warned_of(
    config_of: MakeConfig,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    readable: int,
    output: bool,
) -> None:
    path = tmp_path / "c.txt"
    path.write_text("\n".join([*FOREIGN, *NAMES[:readable]]), encoding="utf-8")
    report = train(config_of(corpus=path))
    assert report.counts["different_to_the_base"] == readable + 1
    said = f"only {readable + 1} of {len(FOREIGN) + readable} strings are different"
    assert (said in caplog.text) == output


def test_the_keys_of_all_strings_are_found_once(
    config_of: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []

    def counted(*given: object) -> list[tuple[int, ...]]:
        found.append(string_keys(*given))  # type: ignore[arg-type]
        return found[-1]

    for module in ("loop", "batches", "curves"):
        monkeypatch.setattr(f"mirror_rt.training.{module}.string_keys", counted, raising=False)
    train(config_of(eval_pairs=4))
    assert len(found) == 1


def test_a_string_is_tokenized_once_and_again_only_where_a_span_of_it_is_masked(
    config_of: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: dict[str, list[list[str]]] = {"loop": [], "batches": []}

    def counted(module: str) -> Callable[..., list[np.ndarray]]:
        def count(texts: list[str], model: TextModel) -> list[np.ndarray]:
            found[module].append(list(texts))
            return tokenize(texts, model)

        return count

    for module in found:
        monkeypatch.setattr(f"mirror_rt.training.{module}.tokenize", counted(module))
    config = config_of(span_rate=0.5, epochs=2, max_steps=5, eval_pairs=4, hard_negatives=2)
    report = train(config)
    assert [sorted(texts) for texts in found["loop"]] == [sorted(NAMES)]
    masked = [text for texts in found["batches"] for text in texts]
    assert all(text.count("[MASK]") == 1 for text in masked)
    views = len(report.losses) * config.batch_size + config.eval_pairs
    assert 0 < len(masked) < views
    found["loop"].clear()
    found["batches"].clear()
    train(
        config_of(span_length=0, epochs=2, max_steps=5, eval_pairs=4, hard_negatives=2), force=True
    )
    assert (len(found["loop"]), found["batches"]) == (1, [])


def test_a_base_that_reads_everything_is_not_warned_of(
    config_of: MakeConfig, caplog: pytest.LogCaptureFixture
) -> None:
    assert train(config_of()).counts["different_to_the_base"] == 26
    assert not caplog.text


def test_a_loss_that_is_not_a_number_stops_with_the_step_and_strings(config_of: MakeConfig) -> None:
    out = config_of().out
    theirs = Path(f"{out}.batch-1.txt")
    theirs.write_text("theirs")
    with pytest.raises(TrainingError, check=about("step 1", hint="--temperature")) as e:
        train(config_of(temperature=1e-40))
    assert not out.exists()
    assert not list(out.parent.glob(".out*"))
    # The whole batch is in a file, one view per line.
    assert f"all are in {out}.batch-2.txt" in str(e.value)
    views = Path(f"{out}.batch-2.txt").read_text().splitlines()
    assert len(views) == 16
    assert set(views[:8]) <= set(NAMES)
    train(config_of())
    assert theirs.read_text() == "theirs"


def test_strings_that_cannot_be_written_do_not_hide_what_stopped_the_run(
    config_of: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(loop, "staging_file", full)
    with pytest.raises(TrainingError, check=about("step 1", hint="--temperature")):
        train(config_of(temperature=1e-40))


@pytest.mark.parametrize("step", [1, 3])
def test_a_gradient_that_is_no_number_is_reported_at_its_own_step_and_never_kept(
    config_of: MakeConfig, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    plain, done = loop.backward, []

    def spoilt(model: TextModel, *rest: object) -> float:
        loss = plain(model, *rest)  # type: ignore[arg-type]
        done.append(loss)
        if len(done) == step:
            next(model.model.parameters()).grad[0, 0] = torch.nan
        return loss

    monkeypatch.setattr(loop, "backward", spoilt)
    config = config_of(epochs=2, max_steps=4, save_steps=1)
    with pytest.raises(TrainingError, check=about(f"step {step}")):
        train(config)
    account = folder_of(config.out) / "state.json"
    assert account.exists() == (step > 1)
    if step > 1:
        assert len(json.loads(account.read_text())["losses"]) == step - 1


@pytest.mark.parametrize("lr", [1e30, 1e300])
@pytest.mark.parametrize("max_steps", [1, 2])
def test_weights_that_are_no_numbers_are_reported_at_their_own_step_and_never_kept(
    config_of: MakeConfig, max_steps: int, lr: float
) -> None:
    config = config_of(lr=lr, max_steps=max_steps, save_steps=1)
    with pytest.raises(TrainingError, check=about("step 1", hint="--temperature")):
        train(config)
    assert not folder_of(config.out).exists()


def test_a_target_that_exists_is_refused_before_work_and_replaced_by_force_if_ours(
    config_of: MakeConfig,
) -> None:
    config = config_of()
    config.out.mkdir()
    (config.out / "mine.txt").write_text("keep")
    with pytest.raises(TargetError, check=about("out", hint="--force")):
        train(config)
    with pytest.raises(TargetError, check=about("out")):
        train(config, force=True)
    assert (config.out / "mine.txt").read_text() == "keep"
    (config.out / "mine.txt").unlink()
    train(config, force=True)
    (config.out / "notes.txt").write_text("old")
    with pytest.raises(TargetError):
        train(config, force=True)
    assert (config.out / "notes.txt").read_text() == "old"
    assert (config.out / "training.json").exists()


def test_an_output_that_is_or_holds_what_is_read_is_refused_and_nothing_of_it_is_lost(
    config_of: MakeConfig, tiny_bert: Path, corpus: Path
) -> None:
    out = train(config_of()).out
    before = weights_of(out)
    shutil.copytree(tiny_bert, out / "base")
    for name in ("names.txt", "pairs.tsv"):
        (out / name).write_text("\n".join(f"{a}\t{b}" for a, b in pairwise(NAMES)))
    both = {
        "pairs": {PairSource.MIRROR: 1.0, PairSource.FILE: 1.0},
        "pairs_file": out / "pairs.tsv",
    }
    for options in (
        {"base": out},
        {"base": out / "base"},
        {"corpus": out / "names.txt"},
        both,
    ):
        with pytest.raises(TargetError, check=about("out")):
            train(config_of(**options), force=True)
    assert weights_of(out) == before
    assert {"base", "names.txt", "pairs.tsv"} <= {path.name for path in out.iterdir()}


def test_logs_inside_the_output_are_refused_before_the_work_and_not_after_it(
    config_of: MakeConfig,
) -> None:
    config = config_of()
    with pytest.raises(TargetError, check=about("out")):
        train(config, tensorboard=config.out / "board")
    assert not config.out.exists()


def test_a_base_without_a_mask_token_is_refused_unless_nothing_is_masked(
    config_of: MakeConfig, tmp_path: Path, tiny_bert: Path
) -> None:
    base = tiny_checkpoint(tmp_path / "nomask")
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        content = json.loads((base / name).read_text())
        content.pop("mask_token", None)
        (base / name).write_text(json.dumps(content))
    with pytest.raises(ModelError, check=about("nomask", hint="--span-length")):
        train(config_of(base=base))
    assert train(config_of(base=base, span_length=0)).losses


@pytest.mark.parametrize(
    ("family", "decoder", "kind"),
    [
        ("bert", {"is_decoder": True}, "a bert decoder"),
        *((f, {}, f) for f in "gpt2 t5 bart fnet perceiver tapas wav2vec2 longformer".split()),
    ],
)
def test_a_base_of_another_kind_is_refused(
    config_of: MakeConfig, tmp_path: Path, family: str, decoder: dict[str, bool], kind: str
) -> None:
    base = tmp_path / "other"
    base.mkdir()
    (base / "config.json").write_text(json.dumps({"model_type": family} | decoder))
    with pytest.raises(ModelError, check=about("other", value=kind)):
        train(config_of(base=base))


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # DeBERTa, ModernBERT
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_that_is_taken_trains_and_gives_the_vectors_of_one_string_a_row(
    config_of: MakeConfig, tmp_path: Path, family: str
) -> None:
    base = tiny_checkpoint(tmp_path / "base", architecture=family)
    report = train(config_of(base=base, lr=1e-3, dropout=0.2))
    encoder = TorchEncoder.open(report.out)
    assert not np.allclose(encoder.encode(NAMES), TorchEncoder.open(base).encode(NAMES), atol=1e-3)
    vectors = encoder.encode(NAMES)
    for name, vector in zip(NAMES, vectors, strict=True):
        alone = encoder.model.tokenizer(name, return_tensors="pt", return_token_type_ids=False)
        with torch.no_grad():
            first = encoder.model.model(**alone).last_hidden_state[0, 0]
        assert torch.allclose(normalize(first, dim=0), torch.from_numpy(vector), atol=1e-5)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_modernberts_own_dropouts_are_set_too(tmp_path: Path) -> None:
    folder = tiny_checkpoint(tmp_path / "b", architecture="modernbert")
    model = load_model(folder, pooling=Pooling.CLS, max_length=None, dropout=0.3).model
    layers = {n.rsplit(".", 1)[-1] for n, m in model.named_modules()
              if isinstance(m, torch.nn.Dropout) and m.p == 0.3}  # fmt: skip
    assert layers == {"drop", "out_drop"}
    assert model.layers[0].attn.attention_dropout == 0.3
    assert model.config.mlp_dropout == model.config.embedding_dropout == 0.0  # the base's own


@pytest.mark.parametrize(
    ("files", "value"),
    [
        ({}, "config.json"),
        ({"config.json": "{"}, ""),
        ({"config.json": '{"model_type": "bert"}'}, "tokenizer"),
    ],
)
def test_a_broken_base_is_refused_on_one_line(
    config_of: MakeConfig, tmp_path: Path, files: dict[str, str], value: str
) -> None:
    base = tmp_path / "broken"
    base.mkdir()
    for name, text in files.items():
        (base / name).write_text(text)
    with pytest.raises(ModelError, check=about(str(base), value=value)):
        train(config_of(base=base))


@pytest.mark.parametrize(
    ("name", "content", "value"),
    [
        ("tokenizer.json", None, "tokenizer"),
        ("tokenizer.json", '{"version": "1.0", ', "tokenizer"),
        ("model.safetensors", None, "weights"),
        ("model.safetensors", "cut", "weights"),
        ("config.json", "[]", ""),
    ],
)
def test_a_base_with_a_file_that_is_gone_or_cut_off_is_refused_on_one_line(
    config_of: MakeConfig, tmp_path: Path, name: str, content: str | None, value: str
) -> None:
    base = tiny_checkpoint(tmp_path / "base")
    file = base / name
    match content:
        case None:
            file.unlink()
        case "cut":
            file.write_bytes(file.read_bytes()[:-100])
        case _:
            file.write_text(content)
    with pytest.raises(ModelError, check=about(str(base), value=value)):
        train(config_of(base=base))


@pytest.mark.parametrize(
    ("gone", "value"),
    [
        ("encoder.layer.1.", "16 of the encoder's weights (encoder.layer.1.attention"),
        ("embeddings.LayerNorm.bias", "1 of the encoder's weights (embeddings.LayerNorm"),
        ("", ""),
    ],
)
def test_a_base_that_lacks_weights_of_its_encoder_is_refused_on_one_line(
    config_of: MakeConfig, tmp_path: Path, gone: str, value: str
) -> None:
    base = tiny_checkpoint(tmp_path / "base")
    weights = load_file(base / "model.safetensors")
    kept = {key: value for key, value in weights.items() if not key.startswith(gone)}
    save_file(kept, base / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, check=about(str(base), value=value)):
        train(config_of(base=base))


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # DeBERTa, ModernBERT
@pytest.mark.parametrize("architecture", FAMILIES)
def test_a_base_without_a_pooler_and_with_a_head_loads_as_it_is(
    tmp_path: Path, architecture: str
) -> None:
    base = tiny_checkpoint(tmp_path / "base", architecture=architecture)
    config = transformers.AutoConfig.from_pretrained(base)
    masked = transformers.AutoModelForMaskedLM.from_config(config).eval()
    masked.save_pretrained(base)
    loaded = load_model(base, pooling=Pooling.CLS, max_length=None).model
    wanted = masked.base_model.state_dict()
    for key, value in loaded.state_dict().items():
        assert key.startswith("pooler.") or torch.equal(value, wanted[key]), key


@pytest.mark.parametrize("kernel", [True, False])
def test_a_number_that_is_not_finite_is_found(
    kernel: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not kernel:  # as in a torch version without this private function
        monkeypatch.delattr(torch, "_foreach_norm")
    for value, finite in ((0.0, True), (1e18, True), (1e20, False), (torch.inf, False),
                          (-torch.inf, False), (torch.nan, False)):  # fmt: skip
        last = torch.ones(3)
        last[1] = value
        assert loop._finite([torch.ones(2, 2), last]) is finite, value


def test_loading_hides_its_own_warnings_and_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tiny_checkpoint(tmp_path / "base")
    config = transformers.AutoConfig.from_pretrained(base)
    # It has no pooler, of which transformers warns.
    transformers.AutoModelForMaskedLM.from_config(config).save_pretrained(base)
    logger = logging.getLogger("transformers.modeling_utils")
    read, levels, seen = transformers.AutoModel.from_pretrained, [], []

    def reading(*given: object, **options: object) -> object:
        levels.append(transformers.logging.get_verbosity())
        other = threading.Thread(target=logger.warning, args=("of another thread",))
        other.start()
        other.join()
        return read(*given, **options)

    monkeypatch.setattr(transformers.AutoModel, "from_pretrained", reading)
    handler = logging.Handler()
    handler.emit = lambda record: seen.append(record.getMessage())  # type: ignore[method-assign]
    before = transformers.logging.get_verbosity()
    logger.addHandler(handler)
    try:
        load_model(base, pooling=Pooling.CLS, max_length=None)
        assert seen == ["of another thread"]
        (base / "model.safetensors").write_bytes(b"")
        with pytest.raises(ModelError):
            load_model(base, pooling=Pooling.CLS, max_length=None)
        logger.warning("afterwards")
    finally:
        logger.removeHandler(handler)
    assert seen == ["of another thread", "of another thread", "afterwards"]
    assert levels == [before, before]
    assert not logger.filters


def test_a_base_that_is_nowhere_is_refused(config_of: MakeConfig) -> None:
    with pytest.raises(ModelError, check=about("no-such-model")):
        train(config_of(base="nobody/no-such-model"))


def test_weights_in_a_pickle_are_not_loaded(config_of: MakeConfig, tmp_path: Path) -> None:
    base = tiny_checkpoint(tmp_path / "pickled")
    (base / "model.safetensors").rename(base / "pytorch_model.bin")
    with pytest.raises(ModelError, check=about("pickled")):
        train(config_of(base=base))


@pytest.mark.parametrize("length", [0, 2])
def test_tokens_too_few_for_any_text_are_refused(tiny_bert: Path, length: int) -> None:
    with pytest.raises(ConfigError, check=about(value=f"{length}", hint="3")):
        load_model(tiny_bert, pooling=Pooling.CLS, max_length=length)
    assert load_model(tiny_bert, pooling=Pooling.CLS, max_length=3).max_length == 3


def test_more_tokens_than_the_model_has_positions_for_are_refused(config_of: MakeConfig) -> None:
    with pytest.raises(ConfigError, check=about("max_length")):
        train(config_of(max_length=65))


@pytest.mark.parametrize("device", ["nonsense", "meta"])
def test_a_device_that_is_not_here_is_refused(config_of: MakeConfig, device: str) -> None:
    with pytest.raises(ConfigError, check=about("device", value=device)):
        train(config_of(device=device))
