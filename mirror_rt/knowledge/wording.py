"""The wordings of a knowledge base: which words stand for each other among names of one entity.

IBM Model 1 (Brown et al. 1993, section 4.1) between aliases: how likely is a word of one name,
given the words of another name of the same entity. It tells that "pinky" stands for "little",
and that "upper" does not stand for "lower", though their vectors are close.

Axes: P pairs of words that met, V words, K candidate names.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mirror_rt.errors import KnowledgeBaseError

if TYPE_CHECKING:
    import numpy.typing as npt

    from mirror_rt.types import Float32, Int64

__all__ = ["WORD_FILES", "Wording", "write_wording"]

WORD_FILES = ("word_hashes.npy", "word_counts.npy", "word_pairs.npy", "word_odds.npy")
_ROUNDS = 4
_BACKGROUND = 0.1
_IDENTITY = 0.5
_SLIGHT = 1e-3
"""Weaker pairs are dropped: they are chance, and most of the table."""


def write_wording(names: Iterable[str], aliases: Iterable[tuple[str, str]], folder: Path) -> None:
    """Count the words of all names, learn which stand for each other, write the tables.

    Args:
        names: The loose key of every distinct name (words with spaces between).
        aliases: Loose keys of two names of one entity, in either order.
        folder: Where the files of ``WORD_FILES`` go.
    """
    counts: dict[str, int] = {}
    for name in names:
        for word in name.split():
            counts[word] = counts.get(word, 0) + 1
    words = list(counts)
    hashes_V = np.array([_hash(word) for word in words], dtype=np.int64)
    order = np.argsort(hashes_V, kind="stable")
    place = {words[v]: i for i, v in enumerate(order.tolist())}
    pairs_P, odds_P = _model_1(aliases, place)
    counts_V = np.array(list(counts.values()), dtype=np.int64)
    arrays = (hashes_V[order], counts_V[order], pairs_P, odds_P)
    for name, array in zip(WORD_FILES, arrays, strict=True):
        np.save(folder / name, np.asarray(array), allow_pickle=False)


def _model_1(aliases: Iterable[tuple[str, str]], place: dict[str, int]) -> tuple[Int64, Float32]:
    """Return keys ``given · V + told`` in order, and the probability of told given."""
    told_L: list[int] = []  # one entry for each (sentence, told word, given word)
    given_L: list[int] = []
    slot_L: list[int] = []
    slots = 0
    for left, right in aliases:
        for source, target in ((left, right), (right, left)):
            given = [place[word] for word in source.split() if word in place]
            for word in target.split():
                if word in place and given:
                    told_L += [place[word]] * len(given)
                    given_L += given
                    slot_L += [slots] * len(given)
                    slots += 1
    size = len(place)
    keys_L = np.array(given_L, dtype=np.int64) * size + np.array(told_L, dtype=np.int64)
    slots_L = np.array(slot_L, dtype=np.int64)
    keys_P, pair_L = np.unique(keys_L, return_inverse=True)
    given_P = keys_P // max(size, 1)
    odds_P = np.ones(len(keys_P))
    for _ in range(_ROUNDS):
        share_L = odds_P[pair_L]
        share_L /= np.bincount(slots_L, share_L, minlength=slots)[slots_L]
        expected_P = np.bincount(pair_L, share_L, minlength=len(keys_P))
        odds_P = expected_P / np.bincount(given_P, expected_P, minlength=size)[given_P]
    kept = odds_P > _SLIGHT
    return keys_P[kept], odds_P[kept].astype(np.float32)


@lru_cache(maxsize=1 << 16)
def _hash(word: str) -> int:
    return int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "big") >> 1


@dataclass(frozen=True, slots=True)
class Wording:
    """The tables, opened by memory map."""

    _hashes_V: Int64
    _counts_V: Int64
    _pairs_P: Int64
    _odds_P: Float32
    _total: float

    @classmethod
    def open(cls, folder: Path) -> Wording:
        """Map the files of a knowledge base.

        Raises:
            KnowledgeBaseError: One is missing or cannot be read.
        """
        try:
            hashes, counts, pairs, odds = (
                np.asarray(np.load(folder / name, mmap_mode="r", allow_pickle=False))
                for name in WORD_FILES
            )
        except (OSError, ValueError) as error:
            raise KnowledgeBaseError(
                f"{folder}: the tables of words cannot be read ({error}); "
                "build the knowledge base again"
            ) from error
        return cls(hashes, counts, pairs, odds, float(counts.sum()))

    def alike(self, mention: str, names: Sequence[str]) -> tuple[Float32, Float32]:
        """Return how well names explain a mention, and how well it explains them.

        Args:
            mention: Its loose key.
            names: The loose keys of K candidate names.

        Returns:
            Two (K,) float32: the mean over words of ln P(word | words of the other) / P(word),
            of the mention's words given each name, and of each name's words given the mention.
        """
        bags = [mention.split(), *(name.split() for name in names)]
        flat = [word for bag in bags for word in bag]
        distinct = list(dict.fromkeys(flat))
        number = {word: i for i, word in enumerate(distinct)}
        ids_U, rare_U = self._look_up(distinct)
        mine = np.array([number[word] for word in bags[0]], dtype=np.int64)
        lengths_K = np.array([len(bag) for bag in bags[1:]], dtype=np.int64)
        others = np.array([number[word] for bag in bags[1:] for word in bag], dtype=np.int64)
        if not len(mine) or not len(others):
            return np.zeros(len(names), np.float32), np.zeros(len(names), np.float32)
        owner = np.repeat(np.arange(len(names)), lengths_K)
        # Rows: words of the mention; columns: words of all names, one after another.
        told_ab = self._odds(ids_U, given=others[None, :], told=mine[:, None])
        telling_ab = self._odds(ids_U, given=mine[:, None], told=others[None, :])
        safe_K = np.maximum(lengths_K, 1)
        explained = np.stack(
            [np.bincount(owner, row, minlength=len(names)) / safe_K for row in told_ab]
        )
        forward_K = np.log(_mix(explained, rare_U[mine][:, None])).mean(axis=0)
        per_word = np.log(_mix(telling_ab.mean(axis=0), rare_U[others]))
        backward_K = np.bincount(owner, per_word, minlength=len(names)) / safe_K
        return forward_K.astype(np.float32), backward_K.astype(np.float32)

    def strange(self, words: Sequence[str], *, own: bool = False) -> frozenset[str]:
        """Return which words of a loose key no name has.

        Args:
            words: The words.
            own: Whether they are those of a name, which is not to count.
        """
        ids_U, _ = self._look_up(words)
        counts = (int(self._counts_V[i]) if i >= 0 else 0 for i in ids_U.tolist())
        return frozenset(
            word
            for word, count in zip(words, counts, strict=True)
            if count <= (words.count(word) if own else 0)
        )

    def _look_up(self, words: Sequence[str]) -> tuple[Int64, npt.NDArray[np.float64]]:
        """Return the number of each word in the tables (-1: unknown) and its relative frequency."""
        hashes = np.array([_hash(word) for word in words], dtype=np.int64)
        size = len(self._hashes_V)
        if not size:  # every name is of punctuation alone
            return np.full(len(words), -1), np.ones(len(words))
        places = np.minimum(np.searchsorted(self._hashes_V, hashes), size - 1)
        known = self._hashes_V[places] == hashes
        counts = np.where(known, self._counts_V[places], 0)
        return np.where(known, places, -1), (counts + 1) / (self._total + size + 1)

    def _odds(self, ids_U: Int64, *, given: Int64, told: Int64) -> npt.NDArray[np.float64]:
        same = given == told
        source, target = ids_U[given], ids_U[told]
        keys = source * len(self._hashes_V) + target
        places = np.minimum(np.searchsorted(self._pairs_P, keys), max(len(self._pairs_P) - 1, 0))
        found = np.zeros(keys.shape)
        if len(self._pairs_P):
            hit = (self._pairs_P[places] == keys) & (source >= 0) & (target >= 0)
            found = np.where(hit, self._odds_P[places], 0.0)
        mixed: npt.NDArray[np.float64] = _IDENTITY * same + (1 - _IDENTITY) * found
        return mixed


def _mix(
    explained: npt.NDArray[np.float64], rare: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    ratio: npt.NDArray[np.float64] = _BACKGROUND + (1 - _BACKGROUND) * explained / rare
    return ratio
