"""Turn texts into token ids, once, with the fast tokenizer of a bundle.

Axes: N texts, B texts of a batch, T tokens, S tokens of all texts together.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
from tokenizers import Encoding, Tokenizer

from mirror_rt.bundle import Bundle
from mirror_rt.encodings import check_texts
from mirror_rt.errors import BundleError, InputError
from mirror_rt.types import TokenBatch

if TYPE_CHECKING:
    from mirror_rt.types import Int32, Int64

__all__ = ["FastTokenizer", "Token", "Tokens"]

CHUNK_CHARACTERS = 256 * 1024
"""Characters for one call of the tokenizer, which uses about a hundred bytes per token."""

CHARACTERS = 32
"""Characters of a long text that are tokenized first, per token kept; few texts need more."""

UNBROKEN = 256 * 1024
"""Maximum characters of a text that cannot be cut between two words."""

GROWTH = 4
"""If the tokens are too few, the next beginning is this many times longer."""

NORMALIZERS = {"BertNormalizer", "Lowercase", "NFC", "NFD", "NFKC", "NFKD", "StripAccents"}
NORMALIZERS |= {"Nmt", "Precompiled", "Strip"}
"""None of these looks beyond a space between two letters."""

AROUND = 8
"""More special tokens than any tokenizer adds to a text."""

PAD_TOKENS = ("[PAD]", "<pad>", "<|pad|>", "<|padding|>", "<|endoftext|>", "</s>")


class Token(NamedTuple):
    """A token of a text.

    Attributes:
        id: Its number in the vocabulary.
        text: Its entry in the vocabulary.
        special: Whether the tokenizer added it.
        start: The index of its first character in the text.
        stop: The index after its last character.
    """

    id: int
    text: str
    special: bool
    start: int
    stop: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """The token ids of N texts, concatenated: 4 bytes per token.

    Attributes:
        ids_S: (S,) int32.
        starts_N: (N,) int64, where each text begins in ``ids_S``.
        lengths_N: (N,) int64, tokens of each text, at least 1.
        pad_id: The padding token.
        truncated: How many texts were cut at the maximum length.
    """

    ids_S: Int32
    starts_N: Int64
    lengths_N: Int64
    pad_id: int
    truncated: int

    def batch(self, rows_B: Int64) -> TokenBatch:
        """Return texts ``rows_B`` as one array, padded on the right to the longest."""
        lengths_B = self.lengths_N[rows_B]
        steps_T = np.arange(lengths_B.max())
        mask_BT = steps_T < lengths_B[:, None]
        places_BT = np.minimum(self.starts_N[rows_B][:, None] + steps_T, len(self.ids_S) - 1)
        ids_BT = np.where(mask_BT, self.ids_S[places_BT], self.pad_id).astype(np.int64)
        return TokenBatch(input_ids_BT=ids_BT, attention_mask_BT=mask_BT.astype(np.int64))


class FastTokenizer:
    """The tokenizer of a bundle, without its own padding, truncated at the bundle's length."""

    def __init__(self, tokenizer: Tokenizer, *, max_length: int, pad_id: int) -> None:
        # A tokenizer.json may come with fixed padding (ragged rows, wasted work) or with a
        # truncation shorter than the model's: the bundle's max_length is the only rule.
        tokenizer.no_padding()
        tokenizer.enable_truncation(max_length)
        self._cuts = cuts_between_words(tokenizer)
        self._tokenizer = tokenizer
        self._max_length = max_length
        self._pad_id = pad_id

    @classmethod
    def open(cls, bundle: Bundle) -> FastTokenizer:
        """Load ``tokenizer.json``.

        Raises:
            BundleError: It cannot be read as a tokenizer.
        """
        try:
            tokenizer = Tokenizer.from_file(str(bundle.tokenizer_path))
        except Exception as error:  # the Rust side raises a bare Exception
            raise BundleError(
                f"{bundle.tokenizer_path}: not a tokenizer this version reads ({error})"
            ) from error
        pad_id = _pad_id(tokenizer, bundle.path / "config.json")
        return cls(tokenizer, max_length=bundle.manifest.max_length, pad_id=pad_id)

    def __call__(self, texts: Sequence[str]) -> Tokens:
        """Tokenize ``texts``, each once, in the tokenizer's own threads.

        A text without tokens (an empty string, if the tokenizer adds no special tokens)
        becomes one padding token.

        Raises:
            InputError: A text contains a lone surrogate.
        """
        pieces = [np.empty(0, dtype=np.int32)]
        lengths_N = np.empty(len(texts), dtype=np.int64)
        truncated = 0
        begin = 0
        while begin < len(texts):
            end, characters = begin, 0
            while end < len(texts) and characters < CHUNK_CHARACTERS:
                characters += len(texts[end])
                end += 1
            ids: list[int] = []
            for row, (encoding, whole) in enumerate(self._encode(texts[begin:end]), start=begin):
                of_text = encoding.ids or [self._pad_id]
                ids.extend(of_text)
                lengths_N[row] = len(of_text)
                if encoding.overflowing or not whole:
                    truncated += 1
            pieces.append(np.asarray(ids, dtype=np.int32))
            begin = end
        return Tokens(
            ids_S=np.concatenate(pieces),
            starts_N=np.cumsum(lengths_N) - lengths_N,
            lengths_N=lengths_N,
            pad_id=self._pad_id,
            truncated=truncated,
        )

    def count_truncated(self, texts: Sequence[str]) -> int:
        """Return how many distinct ``texts`` are longer than the maximum length.

        Raises:
            InputError: A text contains a lone surrogate.
        """
        # An ASCII letter is at most one token, and a tokenizer adds only a few.
        short = self._max_length - AROUND
        long = {text for text in texts if len(text) > short or not text.isascii()}
        return self(list(long)).truncated

    def pieces(self, texts: Sequence[str], *, special_tokens: bool) -> list[list[Token]]:
        """Return the tokens of each text, up to the maximum length."""
        encodings = self._tokenizer.encode_batch(list(texts), add_special_tokens=special_tokens)
        return [
            [
                Token(id_, piece, bool(special), *span)
                for id_, piece, special, span in zip(
                    found.ids, found.tokens, found.special_tokens_mask, found.offsets, strict=True
                )
            ]
            for found in encodings
        ]

    def one(self, text: str) -> TokenBatch:
        """Tokenize one text into a batch of one row.

        Raises:
            InputError: It contains a lone surrogate.
        """
        ids_BT = np.asarray([self._encode([text])[0][0].ids or [self._pad_id]], dtype=np.int64)
        return TokenBatch(input_ids_BT=ids_BT, attention_mask_BT=np.ones_like(ids_BT))

    def _encode(self, texts: Sequence[str]) -> list[tuple[Encoding, bool]]:
        """Encode texts, and of long texts only enough to fill the maximum length.

        Returns:
            For each text its tokens, and whether all of it was encoded.
        """
        first = CHARACTERS * self._max_length
        most = max(UNBROKEN, first)
        heads = [_head(text, first, most) if self._cuts else text[:most] for text in texts]
        try:
            encodings = cast("list[Encoding]", self._tokenizer.encode_batch_fast(heads))
        except TypeError as error:
            check_texts(texts)
            raise InputError(f"texts: cannot be tokenized ({error})") from error
        for row, text in enumerate(texts if self._cuts else ()):
            while len(heads[row]) < len(text) and not encodings[row].overflowing:
                longer = _head(text, GROWTH * len(heads[row]), most)
                if len(heads[row]) > most or len(longer) <= len(heads[row]):
                    break
                heads[row] = longer
                encodings[row] = self._tokenizer.encode_batch_fast([longer])[0]
        whole = (len(head) == len(text) for head, text in zip(heads, texts, strict=True))
        return list(zip(encodings, whole, strict=True))


def cuts_between_words(tokenizer: Tokenizer) -> bool:
    """Return whether a text cut between two words has the first tokens of the whole text.

    That holds if the tokenizer splits texts at spaces first, and if neither normalization nor
    added tokens look beyond a space between two letters. Unknown components count as not
    safe.
    """
    config = json.loads(tokenizer.to_str())
    splits = [
        part["type"] in {"BertPreTokenizer", "Whitespace", "WhitespaceSplit"}
        or (part["type"] == "ByteLevel" and part.get("use_regex", True))
        or (part["type"] == "Metaspace" and part.get("split", True))
        for part in _parts(config["pre_tokenizer"], "pretokenizers")
    ]
    looks_no_further = (
        part["type"] in NORMALIZERS or part.get("pattern") == {"Regex": " {2,}"}
        for part in _parts(config["normalizer"], "normalizers")
    )
    in_words = (not any(map(str.isspace, token["content"])) for token in config["added_tokens"])
    return splits[:1] == [True] and all(looks_no_further) and all(in_words)


def _parts(config: dict[str, Any] | None, of_sequence: str) -> list[dict[str, Any]]:
    return [] if config is None else config.get(of_sequence, [config])


def _head(text: str, length: int, most: int) -> str:
    """Return the beginning of a text, about ``length`` long, up to a space between two words.

    Without a space in its second half, it becomes longer, up to ``most`` characters.

    >>> _head("one two three", 9, 100)
    'one two'
    >>> _head("onetwothree", 2, 9)
    'onetwothr'
    """
    while length < len(text):
        place = length + 1
        while (place := text.rfind(" ", length // 2, place)) > 0:
            if text[place - 1].isalnum() and text[place + 1 : place + 2].isalnum():
                return text[:place]
        if length >= most:
            return text[:most]
        length = min(GROWTH * length, most)
    return text


def _pad_id(tokenizer: Tokenizer, config: Path) -> int:
    """Find the padding token; a model without one gets any id, since padding is masked."""
    if tokenizer.padding is not None:
        return int(tokenizer.padding["pad_id"])
    try:
        pad_id = json.loads(config.read_text(encoding="utf-8")).get("pad_token_id")
    except (OSError, ValueError, AttributeError):
        pad_id = None
    if isinstance(pad_id, int) and 0 <= pad_id < tokenizer.get_vocab_size():
        return pad_id
    ids = (tokenizer.token_to_id(token) for token in PAD_TOKENS)
    return next((found for found in ids if found is not None), 0)
