"""The properties of every name that features need, in memory-mapped arrays.

Row ``i`` of each array belongs to the distinct string in row ``i`` of the vectors. With the arrays,
a candidate needs no look-up in the catalogue and no splitting of strings.

Axes: N rows, R requested rows, Q texts, T tokens, V words of the vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mirror_rt._count import counted
from mirror_rt.errors import InputError, KnowledgeBaseError
from mirror_rt.knowledge.arrays import (
    array_file,
    hash_text,
    offsets_of,
    open_arrays,
    ragged_indices,
    write_arrays,
)
from mirror_rt.knowledge.text.match_levels import token_bag_key
from mirror_rt.knowledge.text.normalize import normalize
from mirror_rt.knowledge.text.numbers import fold_numbers, number_tokens
from mirror_rt.types import NameKind

if TYPE_CHECKING:
    import numpy.typing as npt

    from mirror_rt.types import Int32, Int64

    UInt8 = npt.NDArray[np.uint8]

__all__ = [
    "KINDS",
    "NAME_FILES",
    "AnalyzedTexts",
    "NameArrays",
    "NameArraysWriter",
    "analyze",
    "word_heads",
]

KINDS = tuple(NameKind)
"""Kinds of names; arrays store the position in this tuple."""

_GROUP = "name"
_ARRAYS: dict[str, type] = {
    "byte_offsets": np.int64, "bytes": np.uint8, "lengths": np.int32,
    "hashes": np.int64, "hash_order": np.int64,
    "key_hashes": np.int64, "key_order": np.int64,
    "number_hashes": np.int64, "digit_hashes": np.int64,
    "word_offsets": np.int64, "words": np.int32,
    "token_offsets": np.int64, "tokens": np.int32,
    "vocabulary": np.int64, "token_counts": np.int64,
    "word_byte_offsets": np.int64, "word_bytes": np.uint8,
    "entity_offsets": np.int64, "entities": np.int32, "kinds": np.uint8,
}  # fmt: skip
NAME_FILES = tuple(array_file(_GROUP, name) for name in _ARRAYS)
_END = "\n"
_HEAD = 4
_UNUSED = -1
"""Hash of a string that no longer names an entity. No text has this hash."""
_MOST_ROWS = 2**31 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class AnalyzedTexts:
    """Texts, split and hashed for the features.

    Attributes:
        normalized: Q texts, normalized.
        keys: Their token-bag keys.
        lengths_Q: (Q,) int32 characters of the normalized texts.
        hashes_Q: (Q,) int64 hashes of the normalized texts.
        key_hashes_Q: (Q,) int64 hashes of the keys.
        number_hashes_Q: (Q,) int64, equal if two texts have the same number tokens.
        digit_hashes_Q: (Q,) int64, equal if two texts have the same digits in the same order.
        word_offsets: (Q + 1,) int64 offsets of ``words``.
        words: (W,) int64 numbers of the distinct words of each normalized text, text after text.
        token_offsets: (Q + 1,) int64 offsets of ``tokens``.
        tokens: (T,) int64 numbers of the words of each key, text after text.
        new_words: All words. Words that no name has get numbers after the words of the names,
            in the order of this list.
    """

    normalized: Sequence[str]
    keys: Sequence[str]
    lengths_Q: Int32
    hashes_Q: Int64
    key_hashes_Q: Int64
    number_hashes_Q: Int64
    digit_hashes_Q: Int64
    word_offsets: Int64
    words: Int64
    token_offsets: Int64
    tokens: Int64
    new_words: Sequence[str] = ()

    def __len__(self) -> int:
        return len(self.normalized)


def analyze(normalized: Sequence[str], vocabulary: dict[str, int]) -> AnalyzedTexts:
    """Split and hash normalized texts.

    Args:
        normalized: The texts.
        vocabulary: The number of each word. New words are added with the next number.
    """
    keys = [token_bag_key(text) for text in normalized]
    words = [dict.fromkeys(fold_numbers(text).split()) for text in normalized]
    tokens = [key.split() for key in keys]
    number = vocabulary.setdefault

    def numbers(split: Sequence[Iterable[str]]) -> Int64:
        found = [number(word, len(vocabulary)) for some in split for word in some]
        return np.array(found, dtype=np.int64)

    def hashes(texts: Iterable[str]) -> Int64:
        return np.array([hash_text(text) for text in texts], dtype=np.int64)

    return AnalyzedTexts(
        normalized=normalized,
        keys=keys,
        lengths_Q=np.array([len(text) for text in normalized], dtype=np.int32),
        hashes_Q=hashes(normalized),
        key_hashes_Q=hashes(keys),
        number_hashes_Q=hashes(" ".join(sorted(number_tokens(text))) for text in normalized),
        digit_hashes_Q=hashes(
            "" if text.isalpha() else "".join(filter(str.isdigit, text)) for text in normalized
        ),
        word_offsets=offsets_of([len(some) for some in words]),
        words=numbers(words),
        token_offsets=offsets_of([len(some) for some in tokens]),
        tokens=numbers(tokens),
    )


class NameArraysWriter:
    """Collects the arrays of names, block by block, and writes them."""

    def __init__(self) -> None:
        self._vocabulary: dict[str, int] = {}
        self._blocks: list[AnalyzedTexts] = []
        self._bytes: list[bytes] = []
        self._sizes: list[npt.NDArray[np.int64]] = []

    def add(self, normalized: Sequence[str], *, keep_text: bool = True) -> None:
        """Add the normalized strings of the next rows.

        Args:
            normalized: The strings; an empty string no longer names an entity.
            keep_text: Whether to store the strings, for the search by edit distance.
        """
        block = analyze(normalized, self._vocabulary)
        block.hashes_Q[[not text for text in normalized]] = _UNUSED
        encoded = [f"{text}{_END}".encode() if keep_text else b"" for text in normalized]
        self._bytes.append(b"".join(encoded))
        self._sizes.append(np.array([len(one) for one in encoded], dtype=np.int64))
        self._blocks.append(replace(block, normalized=(), keys=()))

    def write(self, folder: Path, *, entities: Iterable[tuple[int, int, int]]) -> None:
        """Write the arrays.

        Args:
            folder: The folder for the files of ``NAME_FILES``.
            entities: (row, entity number, kind number), in the order of rows.

        Raises:
            InputError: There are more rows than the arrays can number.
        """
        blocks = self._blocks
        hashes_N = np.concatenate([block.hashes_Q for block in blocks])
        rows = len(hashes_N)
        if rows > _MOST_ROWS:
            raise InputError(
                f"{counted(rows, 'different name')}; a knowledge base holds {_MOST_ROWS:,}"
            )
        key_hashes_N = np.concatenate([block.key_hashes_Q for block in blocks])
        key_hashes_N[hashes_N == _UNUSED] = _UNUSED
        # Words are numbered in the order of their hashes, for look-up by bisection.
        word_hashes = np.array([hash_text(word) for word in self._vocabulary], dtype=np.int64)
        order_V = np.argsort(word_hashes, kind="stable")
        number_V = np.empty(len(order_V), dtype=np.int32)
        number_V[order_V] = np.arange(len(order_V), dtype=np.int32)
        tokens = number_V[np.concatenate([block.tokens for block in blocks])]
        words = [*self._vocabulary]
        spelled = [f"{words[i]}{_END}".encode() for i in order_V.tolist()]
        pairs = np.array([*entities], dtype=np.int64).reshape(-1, 3)
        write_arrays(
            folder,
            _GROUP,
            {
                "byte_offsets": offsets_of(np.concatenate(self._sizes)),
                "bytes": np.frombuffer(b"".join(self._bytes), dtype=np.uint8),
                "lengths": np.concatenate([block.lengths_Q for block in blocks]),
                "hashes": hashes_N,
                "hash_order": np.argsort(hashes_N, kind="stable").astype(np.int64),
                "key_hashes": key_hashes_N,
                "key_order": np.argsort(key_hashes_N, kind="stable").astype(np.int64),
                "number_hashes": np.concatenate([block.number_hashes_Q for block in blocks]),
                "digit_hashes": np.concatenate([block.digit_hashes_Q for block in blocks]),
                "word_offsets": _joined_offsets([block.word_offsets for block in blocks]),
                "words": number_V[np.concatenate([block.words for block in blocks])],
                "token_offsets": _joined_offsets([block.token_offsets for block in blocks]),
                "tokens": tokens,
                "vocabulary": word_hashes[order_V],
                "token_counts": np.bincount(tokens, minlength=len(order_V)).astype(np.int64),
                "word_byte_offsets": offsets_of([len(one) for one in spelled]),
                "word_bytes": np.frombuffer(b"".join(spelled), dtype=np.uint8),
                "entity_offsets": offsets_of(np.bincount(pairs[:, 0], minlength=rows)),
                "entities": pairs[:, 1].astype(np.int32),
                "kinds": pairs[:, 2].astype(np.uint8),
            },
        )


def _joined_offsets(offsets: Sequence[Int64]) -> Int64:
    return offsets_of(np.concatenate([np.diff(one) for one in offsets]))


@dataclass(frozen=True, slots=True, kw_only=True)
class NameArrays:
    """The arrays, mapped into memory. Safe to share between threads.

    Attributes:
        byte_offsets: (N + 1,) int64 offsets of ``bytes``.
        bytes: uint8, the normalized strings, each with a line end.
        lengths: (N,) int32 characters.
        hashes: (N,) int64 hashes of the normalized strings, -1 for strings that name no entity.
        hash_order: (N,) int64 rows in the order of ``hashes``; numpy would copy int32.
        key_hashes: (N,) int64 hashes of the token-bag keys, -1 as above.
        key_order: (N,) int64 rows in the order of ``key_hashes``.
        number_hashes: (N,) int64, see ``AnalyzedTexts``.
        digit_hashes: (N,) int64, see ``AnalyzedTexts``.
        word_offsets: (N + 1,) int64 offsets of ``words``.
        words: int32 distinct words of the normalized strings, by number.
        token_offsets: (N + 1,) int64 offsets of ``tokens``.
        tokens: int32 words of the keys, by number.
        vocabulary: (V,) int64 hashes of the words, ascending; the position is the number.
        token_counts: (V,) int64, how often each word occurs in keys.
        word_byte_offsets: (V + 1,) int64 offsets of ``word_bytes``.
        word_bytes: uint8, the words, each with a line end.
        entity_offsets: (N + 1,) int64 offsets of ``entities`` and ``kinds``.
        entities: int32 numbers of the entities with the name, ascending within a row.
        kinds: uint8, the kind of the name for each entity: a position in ``KINDS``.
        accepted_E: int64, how many mentions a person has accepted for each entity, by number;
            empty if there is none.
    """

    byte_offsets: Int64
    bytes: UInt8
    lengths: Int32
    hashes: Int64
    hash_order: Int64
    key_hashes: Int64
    key_order: Int64
    number_hashes: Int64
    digit_hashes: Int64
    word_offsets: Int64
    words: Int32
    token_offsets: Int64
    tokens: Int32
    vocabulary: Int64
    token_counts: Int64
    word_byte_offsets: Int64
    word_bytes: UInt8
    entity_offsets: Int64
    entities: Int32
    kinds: UInt8
    accepted_E: Int64

    @classmethod
    def open(cls, folder: Path) -> NameArrays:
        """Map the files of a knowledge base.

        Raises:
            KnowledgeBaseError: One is missing, cannot be read or does not fit the others.
        """
        arrays = open_arrays(folder, _GROUP, _ARRAYS)
        found = cls(**arrays, accepted_E=np.zeros(0, dtype=np.int64))
        rows = len(found.hashes)
        of_rows = (found.lengths, found.hash_order, found.key_hashes, found.key_order,
                   found.number_hashes, found.digit_hashes)  # fmt: skip
        ragged = (
            (found.byte_offsets, found.bytes), (found.word_offsets, found.words),
            (found.token_offsets, found.tokens), (found.entity_offsets, found.entities),
            (found.entity_offsets, found.kinds),
        )  # fmt: skip
        fits = all(len(array) == rows for array in of_rows) and all(
            len(offsets) == rows + 1 and int(offsets[-1]) == len(values)
            for offsets, values in ragged
        )
        size = len(found.vocabulary)
        fits = fits and len(found.token_counts) == size == len(found.word_byte_offsets) - 1
        if not fits or int(found.word_byte_offsets[-1]) != len(found.word_bytes):
            raise KnowledgeBaseError(
                f"{folder}: the arrays of names do not fit; build the knowledge base again"
            )
        accepted = found.entities[found.kinds == KINDS.index(NameKind.ACCEPTED)]
        most = int(found.entities.max()) + 1 if len(accepted) else 0
        return replace(found, accepted_E=np.bincount(accepted, minlength=most))

    def __len__(self) -> int:
        return len(self.hashes)

    def analyze(self, texts: Sequence[str]) -> AnalyzedTexts:
        """Split and hash texts, with the word numbers of the names; unknown words come after."""
        local: dict[str, int] = {}
        found = analyze([normalize(text) for text in texts], local)
        hashes = np.array([hash_text(word) for word in local], dtype=np.int64)
        size = len(self.vocabulary)
        places = np.minimum(np.searchsorted(self.vocabulary, hashes), max(size - 1, 0))
        known = self.vocabulary[places] == hashes if size else np.zeros(len(hashes), dtype=bool)
        numbers = np.where(known, places, size + np.arange(len(hashes)))
        found.words[:] = numbers[found.words]
        found.tokens[:] = numbers[found.tokens]
        return replace(found, new_words=[*local])

    def rows_named(self, hashes_Q: Int64) -> tuple[Int64, Int64]:
        """Return the rows of the names that equal these texts after normalization.

        Args:
            hashes_Q: (Q,) int64 hashes of normalized texts.

        Returns:
            (Q + 1,) int64 offsets and the rows, ascending for each text.
        """
        return _equal(self.hashes, self.hash_order, hashes_Q)

    def rows_with_key(self, key_hashes_Q: Int64) -> tuple[Int64, Int64]:
        """Return the rows of the names with these token-bag keys, as ``rows_named`` does."""
        return _equal(self.key_hashes, self.key_order, key_hashes_Q)

    def entities_of(self, rows_R: Int64) -> tuple[Int64, Int32, UInt8]:
        """Return the entities that have some names.

        Args:
            rows_R: (R,) int64 rows.

        Returns:
            (R,) int64 number of entities of each row; then the entity numbers and the kinds of
            the names, row after row.
        """
        starts_R = self.entity_offsets[rows_R]
        sizes_R = self.entity_offsets[rows_R + 1] - starts_R
        places = ragged_indices(starts_R, sizes_R)
        return sizes_R, self.entities[places], self.kinds[places]

    def texts(self, rows_R: Int64) -> list[str]:
        """Return the normalized strings of some rows."""
        return _strings(self.bytes, self.byte_offsets, rows_R)

    def words_of(self, numbers: Int64) -> list[str]:
        """Return the words with some numbers."""
        return _strings(self.word_bytes, self.word_byte_offsets, numbers)

    def heads_of(self, numbers: Int64) -> Int32:
        """Return the first bytes of the words with some numbers, as ``word_heads`` does.

        The result for a word of fewer than four bytes is meaningless.
        """
        starts = self.word_byte_offsets[numbers]
        if len(self.word_bytes) < _HEAD:
            return np.zeros(len(starts), dtype=np.int32)
        heads = np.lib.stride_tricks.sliding_window_view(self.word_bytes, _HEAD)
        return heads[np.minimum(starts, len(heads) - 1)].view(np.int32)[:, 0]

    def rows_beginning(self, prefix: str, *, most: int) -> Int64:
        """Return the rows of the shortest names that begin with a normalized text, (R,) int64.

        It compares every name byte by byte, which takes milliseconds for a million names.
        """
        starts_R = self.byte_offsets[:-1]
        rows_R = np.flatnonzero(self.hashes != -1)
        for place, byte in enumerate(prefix.encode()):
            # A shorter name has a line end at this position, which no text contains.
            rows_R = rows_R[self.bytes[starts_R[rows_R] + place] == byte]
        order_R = np.argsort(self.lengths[rows_R], kind="stable")
        return rows_R[order_R[:most]]

    def blocks(self, *, size: int = 16_384) -> Iterator[list[str]]:
        """Yield all normalized strings in the order of rows, in pieces."""
        for start in range(0, len(self), size):
            yield self.texts(np.arange(start, min(start + size, len(self))))


def word_heads(words: Sequence[str]) -> Int32:
    """Return the first four bytes of each word, (N,) int32; shorter words are padded."""
    filler = _END.encode() * _HEAD
    return np.frombuffer(b"".join([(word.encode() + filler)[:_HEAD] for word in words]), np.int32)


def _strings(all_bytes: UInt8, offsets: Int64, wanted: Int64) -> list[str]:
    starts = offsets[wanted]
    places = ragged_indices(starts, offsets[wanted + 1] - starts)
    # In one array operation: slicing word by word would take longer than the comparison.
    strings: list[str] = all_bytes[places].tobytes().decode().split(_END)[:-1]
    return strings


def _equal(hashes_N: Int64, order_N: Int64, wanted_Q: Int64) -> tuple[Int64, Int64]:
    first_Q = hashes_N.searchsorted(wanted_Q, "left", order_N)
    sizes_Q = hashes_N.searchsorted(wanted_Q, "right", order_N) - first_Q
    return offsets_of(sizes_Q), order_N[ragged_indices(first_Q, sizes_Q)]
