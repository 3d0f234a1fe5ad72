"""Tokens of a bundle: foreign settings undone, texts cut at the bundle's length."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from mirror_rt.bundle import Bundle
from mirror_rt.errors import BundleError, InputError
from mirror_rt.runtime.tokenize import FastTokenizer
from tests.tiny import NAMES


def changed(tiny_bundle: Path, tmp_path: Path, **values: object) -> Bundle:
    """Copy what the tokenizer needs of a bundle, with other top-level values in its JSON."""
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


def test_no_texts_give_no_tokens(tiny_bundle: Path) -> None:
    tokens = FastTokenizer.open(Bundle.open(tiny_bundle))([])
    assert tokens.ids_S.size == tokens.lengths_N.size == 0


def test_a_lone_surrogate_is_named(tiny_bundle: Path) -> None:
    with pytest.raises(InputError, match=r"texts\[1\]: holds a lone surrogate \(U\+D83D\)"):
        FastTokenizer.open(Bundle.open(tiny_bundle))(["fever", "face \ud83d"])


def test_a_broken_tokenizer_file_is_named(tiny_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(BundleError, match=r"tokenizer\.json: not a tokenizer"):
        FastTokenizer.open(Bundle(path=tmp_path, manifest=Bundle.open(tiny_bundle).manifest))
