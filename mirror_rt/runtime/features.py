"""Words, pairs of words and character n-grams of many texts at once, as 64-bit hashes.

Case and accents are removed, and compatibility forms are unified (NFKD).
Everything is computed over one array of all characters, without a Python loop over texts. The
hashes of a text depend only on that text.

Axes: N texts, C characters of all of them with one separator after each, F features.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from mirror_rt.types import Int64

    UInt64 = npt.NDArray[np.uint64]

__all__ = ["KINDS", "Features", "extract", "find_words", "random_signs"]

KINDS = ("word", "pair", "3", "4", "5")
"""The kinds of features: words, pairs of adjacent words, and n-grams of the letters of a word.

A word is a run of letters and digits. In an n-gram the end of a word counts as a letter."""

_SEPARATOR = "\0"
_POWERS = 1 << 10
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True, slots=True, kw_only=True)
class Features:
    """The features of one kind of N texts, those of a text one after another.

    Attributes:
        hashes_F: (F,) uint64.
        offsets_N: (N + 1,) int64; the features of text i begin at ``offsets_N[i]``.
    """

    hashes_F: UInt64
    offsets_N: Int64

    def of(self, text: int) -> UInt64:
        """Return the hashes of one text."""
        return self.hashes_F[self.offsets_N[text] : self.offsets_N[text + 1]]


def extract(texts: Sequence[str], kinds: Sequence[str]) -> dict[str, Features]:
    """Return the features of texts, by kind.

    Args:
        texts: N texts without lone surrogates.
        kinds: Of ``KINDS``.

    Raises:
        UnicodeEncodeError: A text holds a lone surrogate.
    """
    letters_C, in_word_C = _letters(texts)
    ends_N = np.flatnonzero(letters_C == 0)
    # Between words there is a 0, whatever separates them.
    codes_C = np.where(in_word_C, _mix(letters_C), np.uint64(0))
    bounds_N = np.concatenate([[0], ends_N + 1])
    found: dict[str, Features] = {}
    if {"word", "pair"} & set(kinds):
        words_W, starts_W = _words(codes_C, in_word_C)
        of_texts = np.searchsorted(starts_W, bounds_N)
        if "word" in kinds:
            found["word"] = Features(hashes_F=words_W, offsets_N=of_texts)
        if "pair" in kinds:
            found["pair"] = _pairs(words_W, starts_W, of_texts, ends_N)
    for kind in kinds:
        if kind.isdigit():
            found[kind] = _ngrams(codes_C, in_word_C, bounds_N, length=int(kind))
    return found


def find_words(texts: Sequence[str]) -> list[str]:
    """Return the distinct words of texts, in order of first occurrence.

    >>> find_words(["Ménière's disease", "disease of the ear"])
    ['meniere', 's', 'disease', 'of', 'the', 'ear']
    """
    letters_C, in_word_C = _letters(texts)
    signs_C = np.where(in_word_C, letters_C, np.uint64(ord(" "))).astype("<u4")
    return list(dict.fromkeys(signs_C.tobytes().decode("utf-32-le").split()))


def random_signs(rows: int, width: int) -> npt.NDArray[np.int8]:
    """Return a pseudo-random matrix of -1 and 1, (rows, width), the same on every machine."""
    bits = _mix(np.arange(1, rows * width + 1, dtype=np.uint64)) >> np.uint64(63)
    signs: npt.NDArray[np.int8] = 2 * bits.astype(np.int8) - 1
    return signs.reshape(rows, width)


def _letters(texts: Sequence[str]) -> tuple[UInt64, npt.NDArray[np.bool_]]:
    """Return the characters of all texts, a 0 after each text, and which belong to words."""
    # The separator is neither a letter nor a mark, so no word or n-gram crosses it. One that a
    # text itself contains becomes a space.
    joined = _SEPARATOR.join(texts) + _SEPARATOR
    if joined.count(_SEPARATOR) > len(texts):
        joined = "".join(text.replace(_SEPARATOR, " ") + _SEPARATOR for text in texts)
    joined = joined.lower()
    if joined.isascii():
        ascii_C = np.frombuffer(joined.encode("ascii"), dtype=np.uint8)
        return ascii_C.astype(np.uint64), _ASCII[ascii_C]
    # A compatibility form may hold capitals.
    joined = unicodedata.normalize("NFKD", joined).lower()
    letters_C = np.frombuffer(joined.encode("utf-32-le"), dtype=np.uint32)
    different, places_C = np.unique(letters_C, return_inverse=True)
    signs = [chr(code) for code in different]
    is_mark = np.array([unicodedata.combining(sign) > 0 for sign in signs])
    is_word = np.array([sign.isalnum() for sign in signs])
    places_C = places_C[~is_mark[places_C]]
    return different[places_C].astype(np.uint64), is_word[places_C]


def _words(codes_C: UInt64, in_word_C: npt.NDArray[np.bool_]) -> tuple[UInt64, Int64]:
    """Return the hash of each word, a polynomial of its letters, and where it begins."""
    before_C = np.concatenate([[False], in_word_C[:-1]])
    starts_W = np.flatnonzero(in_word_C & ~before_C)
    if len(starts_W) == 0:
        return np.empty(0, dtype=np.uint64), starts_W
    letters_L = np.flatnonzero(in_word_C)
    firsts_W = np.flatnonzero(~before_C[letters_L])
    lengths_W = np.diff(np.concatenate([firsts_W, [len(letters_L)]]))
    places_L = np.arange(len(letters_L)) - np.repeat(firsts_W, lengths_W)
    terms_L = codes_C[letters_L] * _POWER[places_L % _POWERS]
    return _mix(np.add.reduceat(terms_L, firsts_W)), starts_W


def _pairs(words_W: UInt64, starts_W: Int64, of_texts: Int64, ends_N: Int64) -> Features:
    """Hash each pair of adjacent words of a text."""
    if len(words_W) < 2:
        return Features(
            hashes_F=np.empty(0, dtype=np.uint64), offsets_N=np.zeros(len(of_texts), np.int64)
        )
    text_W = np.searchsorted(ends_N, starts_W)
    same_P = text_W[1:] == text_W[:-1]
    hashes_P = _mix(words_W[:-1] * _MULTIPLIER + words_W[1:])
    before_W = np.concatenate([[0], np.cumsum(same_P)])
    offsets_N = np.where(of_texts > 0, before_W[np.maximum(of_texts - 1, 0)], 0)
    return Features(hashes_F=hashes_P[same_P], offsets_N=offsets_N)


def _ngrams(
    codes_C: UInt64, in_word_C: npt.NDArray[np.bool_], bounds_N: Int64, *, length: int
) -> Features:
    """Hash each n-gram; all characters but the first and the last must belong to one word."""
    inner = length - 2
    # A separator stands before the first text too.
    codes_C = np.concatenate([np.zeros(1, np.uint64), codes_C])
    in_word_C = np.concatenate([[False], in_word_C])
    count = max(len(codes_C) - length + 1, 0)
    kept_G = in_word_C[1 : 1 + count].copy()
    for step in range(1, inner):
        kept_G &= in_word_C[1 + step : 1 + step + count]
    first_G = np.flatnonzero(kept_G)
    hashes = np.full(len(first_G), length, dtype=np.uint64)
    for step in range(length):
        hashes = hashes * _MULTIPLIER + codes_C[first_G + step]
    offsets_N = np.searchsorted(first_G, bounds_N)
    return Features(hashes_F=_mix(hashes), offsets_N=offsets_N)


def _mix(values: UInt64) -> UInt64:
    """Mix the bits of 64-bit numbers, one to one (the finalizer of splitmix64)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: UInt64 = values ^ (values >> np.uint64(31))
    return mixed


def _powers() -> UInt64:
    powers = np.empty(_POWERS, dtype=np.uint64)
    powers[0] = 1
    for place in range(1, _POWERS):
        powers[place] = powers[place - 1] * np.uint64(0xD6E8FEB86659FD93)
    return powers


with np.errstate(over="ignore"):
    _POWER = _powers()
_ASCII = np.array([chr(code).isalnum() for code in range(128)])
