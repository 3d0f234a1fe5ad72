"""Tokens of a bundle: foreign settings removed, texts cut off at the bundle's length."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    models,
    normalizers,
    pre_tokenizers,
    trainers,
)

from mirror_rt.bundle import Bundle
from mirror_rt.errors import BundleError, InputError
from mirror_rt.runtime import tokenize
from mirror_rt.runtime.tokenize import FastTokenizer, cuts_between_words
from tests.errors import about
from tests.tiny import NAMES


def changed(tiny_bundle: Path, tmp_path: Path, **values: object) -> Bundle:
    """Copy the tokenizer files of a bundle, with other top-level values in its JSON."""
    content = json.loads((tiny_bundle / "tokenizer.json").read_text())
    (tmp_path / "tokenizer.json").write_text(json.dumps(content | values))
    return Bundle(path=tmp_path, manifest=Bundle.open(tiny_bundle).manifest)


def test_ids_are_those_of_transformers(tiny_bundle: Path, tiny_bert: Path) -> None:
    from transformers import AutoTokenizer

    theirs = AutoTokenizer.from_pretrained(tiny_bert)(NAMES, padding=True, return_tensors="np")
    tokens = FastTokenizer.open(Bundle.open(tiny_bundle))(NAMES)
    ours = tokens.batch(np.arange(len(NAMES)))
    np.testing.assert_array_equal(ours.input_ids_BT, theirs["input_ids"])
    np.testing.assert_array_equal(ours.attention_mask_BT, theirs["attention_mask"])


def test_fixed_padding_and_short_truncation_of_a_foreign_file_are_undone(
    tiny_bundle: Path, tmp_path: Path
) -> None:
    foreign = Tokenizer.from_file(str(tiny_bundle / "tokenizer.json"))
    foreign.enable_padding(length=40, pad_id=1, pad_token="[UNK]")
    foreign.enable_truncation(4)
    content = json.loads(foreign.to_str())
    bundle = changed(
        tiny_bundle, tmp_path, padding=content["padding"], truncation=content["truncation"]
    )
    ours, plain = FastTokenizer.open(bundle), FastTokenizer.open(Bundle.open(tiny_bundle))
    np.testing.assert_array_equal(ours(NAMES).ids_S, plain(NAMES).ids_S)
    assert ours(NAMES).pad_id == 1


def test_a_tokenizer_without_special_tokens_or_padding_still_gives_every_text_a_row(
    tiny_bundle: Path, tmp_path: Path
) -> None:
    bundle = changed(tiny_bundle, tmp_path, post_processor=None, padding=None)
    tokens = FastTokenizer.open(bundle)(["", "a b", " "])
    assert tokens.lengths_N.tolist() == [1, 2, 1]
    assert tokens.batch(np.array([0, 1])).input_ids_BT.shape == (2, 2)


def test_texts_over_the_longest_length_are_cut_and_counted(tiny_bundle: Path) -> None:
    longest = Bundle.open(tiny_bundle).manifest.max_length
    texts = ["a " * (longest - 2), "a " * (longest - 1), "fever " * 200_000, ""]
    tokens = FastTokenizer.open(Bundle.open(tiny_bundle))(texts)
    assert tokens.lengths_N.tolist() == [longest, longest, longest, 2]
    assert tokens.truncated == 2


def byte_level() -> Tokenizer:
    """A tokenizer like RoBERTa's."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    letters = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=letters, show_progress=False)
    tokenizer.train_from_iterator(NAMES, trainer)
    tokenizer.add_special_tokens([AddedToken("<mask>", lstrip=True)])
    return tokenizer


def metaspace() -> Tokenizer:
    """A tokenizer like XLM-R's."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=120, unk_token="<unk>", special_tokens=["<unk>"], show_progress=False
    )
    tokenizer.train_from_iterator(NAMES, trainer)
    return tokenizer


WORD = st.one_of(
    st.sampled_from(
        [*" ".join(NAMES).split(), "<mask>", "心肌梗死", "x" * 150, "'s", "[UNK]", "ﬁ"]
    ),
    st.text(st.characters(codec="utf-8"), max_size=6),
)
GAP = st.sampled_from([" ", " ", " ", "  ", "\t", "\n", "", " \u0301", "\u00a0", "\u3000", "\r\n "])


@settings(max_examples=300)
@given(
    kind=st.sampled_from(["bert", "byte-level", "metaspace"]),
    words=st.lists(st.tuples(WORD, GAP), max_size=60),
    longest=st.integers(3, 12),
)
def test_a_long_text_looked_at_only_in_part_has_the_tokens_of_the_whole(
    tiny_bundle: Path, kind: str, words: list[tuple[str, str]], longest: int
) -> None:
    made = {"byte-level": byte_level, "metaspace": metaspace}
    tokenizer = (
        made[kind]() if kind in made else Tokenizer.from_file(str(tiny_bundle / "tokenizer.json"))
    )
    text = "".join(word + gap for word, gap in words)
    tokenizer.no_padding()
    tokenizer.no_truncation()
    wanted = tokenizer.encode(text)
    ours = FastTokenizer(tokenizer, max_length=longest, pad_id=0)
    assert ours._cuts
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tokenize, "CHARACTERS", 2)
        tokens = ours([text])
        alone = ours.one(text)
    tokenizer.enable_truncation(longest)
    assert tokens.ids_S.tolist() == (tokenizer.encode(text).ids or [0])
    assert alone.input_ids_BT[0].tolist() == tokens.ids_S.tolist()
    assert tokens.truncated == (len(wanted.ids) > longest)


@pytest.mark.parametrize("kind", ["bert", "byte-level", "metaspace", "unknown"])
@pytest.mark.parametrize(
    "unit", ["a", "fever", "ab-", "[MASK]", "é", "e\u0301", "心肌", "🙂", "\u200d", "\t", " "]
)
def test_a_giant_text_without_a_space_has_the_tokens_of_the_whole(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, kind: str, unit: str
) -> None:
    monkeypatch.setattr(tokenize, "UNBROKEN", 2000)
    made = {"byte-level": byte_level, "metaspace": metaspace}
    tokenizer = made.get(kind, lambda: Tokenizer.from_file(str(tiny_bundle / "tokenizer.json")))()
    if kind == "unknown":
        tokenizer.add_tokens(["two words"])
    text, longest = unit * 8500, 32
    ours = FastTokenizer(tokenizer, max_length=longest, pad_id=0)
    assert ours._cuts == (kind != "unknown")
    wanted, encode = tokenizer.encode(text), tokenizer.encode_batch_fast
    seen: list[int] = []

    class Watched:
        def encode_batch_fast(self, texts: list[str]) -> object:
            seen.extend(map(len, texts))
            return encode(texts)

    monkeypatch.setattr(ours, "_tokenizer", Watched())
    tokens = ours(["fever", text, "cough"])
    assert tokens.truncated == 1
    assert max(seen) == 2000
    ids = tokens.ids_S[tokens.starts_N[1] :][: tokens.lengths_N[1]]
    assert ids.tolist() == (wanted.ids or [0])


def test_what_comes_after_a_giant_word_is_found_as_far_as_texts_are_looked_at(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokenize, "UNBROKEN", 4000)
    ours = FastTokenizer.open(Bundle.open(tiny_bundle))
    (unknown,) = ours(["x" * 200]).ids_S[1:-1]
    for letters, fevers, found in ((5000, 9000, 62), (15_000, 9, 9), (20_000, 9, 0)):
        tokens = ours(["x" * letters + " fever" * fevers])
        assert tokens.ids_S[1] == unknown
        assert tokens.lengths_N.tolist() == [min(3 + found, 64)]
        assert tokens.truncated == (found != 9)


def test_only_tokenizers_that_split_at_spaces_first_look_at_a_part() -> None:
    plain = byte_level()
    assert cuts_between_words(plain)
    plain.add_tokens(["two words"])
    assert not cuts_between_words(plain)
    whole = metaspace()
    whole.pre_tokenizer = pre_tokenizers.Metaspace(split=False)
    assert not cuts_between_words(whole)
    replaced = metaspace()
    replaced.normalizer = normalizers.Replace(Regex("a.*z"), "")
    assert not cuts_between_words(replaced)


def test_no_texts_give_no_tokens(tiny_bundle: Path) -> None:
    tokens = FastTokenizer.open(Bundle.open(tiny_bundle))([])
    assert tokens.ids_S.size == tokens.lengths_N.size == 0


def test_a_lone_surrogate_is_named(tiny_bundle: Path) -> None:
    with pytest.raises(InputError, check=about("texts[1]")):
        FastTokenizer.open(Bundle.open(tiny_bundle))(["fever", "face \ud83d"])


def test_a_broken_tokenizer_file_is_named(tiny_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(BundleError, check=about("tokenizer.json")):
        FastTokenizer.open(Bundle(path=tmp_path, manifest=Bundle.open(tiny_bundle).manifest))
