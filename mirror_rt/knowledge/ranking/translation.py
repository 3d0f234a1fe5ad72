"""Which words stand for each other among the names of one entity: IBM Model 1.

Brown et al. 1993, section 4.1, between aliases: how likely is a word of one name, given the
words of another name of the same entity (as Berger and Lafferty 1999 rank documents). It tells
that "pinky" stands for "little", and that "upper" does not stand for "lower", though their
vectors are close.

Axes: P pairs of words that met, V words, L pairs of words of two aliases, K candidate names, X
pairs of a mention's and a name's word.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mirror_rt.errors import KnowledgeBaseError
from mirror_rt.knowledge.arrays import (
    array_file,
    offsets_of,
    open_arrays,
    ragged_indices,
    write_arrays,
)
from mirror_rt.knowledge.entities.names import NameArrays
from mirror_rt.knowledge.retrieval.candidates import CandidateBatch

if TYPE_CHECKING:
    import numpy.typing as npt

    from mirror_rt.types import Float32, Int32, Int64

    Float64 = npt.NDArray[np.float64]
    Bools = npt.NDArray[np.bool_]

__all__ = ["TRANSLATION_FILES", "TranslationTable", "WordPairs", "write_translation"]

_GROUP = "translation"
_ARRAYS: dict[str, type] = {
    "offsets": np.int64, "words": np.int32, "probs": np.float32,
    "reverse_offsets": np.int64, "reverse_words": np.int32, "reverse_probs": np.float32,
}  # fmt: skip
TRANSLATION_FILES = tuple(array_file(_GROUP, name) for name in _ARRAYS)
_ITERATIONS = 4
_BACKGROUND = 0.1
_IDENTITY = 0.5
_LEAST_PROB = 1e-3
"""Less likely pairs are dropped: they are chance, and most of the table."""


def write_translation(aliases: Iterable[tuple[int, int]], names: NameArrays, folder: Path) -> None:
    """Learn which words stand for each other and write the table.

    Args:
        aliases: Rows of two names of one entity, in either order.
        names: The words of the names.
        folder: Where the files of ``TRANSLATION_FILES`` go.
    """
    pairs = np.array([*aliases], dtype=np.int64).reshape(-1, 2)
    both = np.concatenate([pairs, pairs[:, ::-1]])
    size = len(names.vocabulary)
    given_P, word_P, probs_P = _model_1(both[:, 0], both[:, 1], names, size)
    reverse = np.argsort(word_P, kind="stable")
    write_arrays(
        folder,
        _GROUP,
        {
            "offsets": offsets_of(np.bincount(given_P, minlength=size)),
            "words": word_P.astype(np.int32),
            "probs": probs_P.astype(np.float32),
            "reverse_offsets": offsets_of(np.bincount(word_P, minlength=size)),
            "reverse_words": given_P[reverse].astype(np.int32),
            "reverse_probs": probs_P[reverse].astype(np.float32),
        },
    )


def _model_1(
    sources: Int64, targets: Int64, names: NameArrays, size: int
) -> tuple[Int64, Int64, Float64]:
    """Return (given, word, probability of word given), in the order of given, then word."""
    starts, target_starts = names.token_offsets[sources], names.token_offsets[targets]
    sizes = names.token_offsets[sources + 1] - starts
    target_sizes = names.token_offsets[targets + 1] - target_starts
    # A slot is a word of a target name, which any word of the source name may stand for.
    owner_S = np.repeat(np.arange(len(sources)), np.where(sizes > 0, target_sizes, 0))
    word_S = names.tokens[ragged_indices(target_starts, np.where(sizes > 0, target_sizes, 0))]
    slot_L = np.repeat(np.arange(len(owner_S)), sizes[owner_S])
    given_L = names.tokens[ragged_indices(starts[owner_S], sizes[owner_S])].astype(np.int64)
    keys_P, pair_L = np.unique(given_L * size + word_S[slot_L], return_inverse=True)
    given_P, word_P = keys_P // max(size, 1), keys_P % max(size, 1)
    probs_P = np.ones(len(keys_P))
    for _ in range(_ITERATIONS):
        share_L = probs_P[pair_L]
        share_L /= np.bincount(slot_L, share_L, minlength=len(owner_S))[slot_L]
        expected_P = np.bincount(pair_L, share_L, minlength=len(keys_P))
        probs_P = expected_P / np.bincount(given_P, expected_P, minlength=size)[given_P]
    kept = probs_P > _LEAST_PROB
    return given_P[kept], word_P[kept], probs_P[kept]


@dataclass(frozen=True, slots=True, kw_only=True)
class WordPairs:
    """Each word of a mention's key beside each word of a candidate's key.

    Attributes:
        mention_tokens_I: (I,) int64 words of the mention, once for each of its candidates.
        candidate_I: (I,) int64 which candidate.
        name_tokens_J: (J,) int64 words of the candidates.
        candidate_J: (J,) int64 which candidate.
        place_X: (X,) int64 place in I of each pair, ascending.
        other_X: (X,) int64 place in J of each pair.
    """

    mention_tokens_I: Int64
    candidate_I: Int64
    name_tokens_J: Int64
    candidate_J: Int64
    place_X: Int64
    other_X: Int64

    @classmethod
    def of(cls, batch: CandidateBatch, names: NameArrays) -> WordPairs:
        """Pair the words of a batch."""
        starts_K = names.token_offsets[batch.row_K]
        sizes_K = names.token_offsets[batch.row_K + 1] - starts_K
        mention_starts_K = batch.mentions.token_offsets[batch.mention_K]
        mention_sizes_K = batch.mentions.token_offsets[batch.mention_K + 1] - mention_starts_K
        candidates_K = np.arange(len(batch.row_K))
        candidate_I = np.repeat(candidates_K, mention_sizes_K)
        sizes_I = sizes_K[candidate_I]
        return cls(
            mention_tokens_I=batch.mentions.tokens[
                ragged_indices(mention_starts_K, mention_sizes_K)
            ],
            candidate_I=candidate_I,
            name_tokens_J=names.tokens[ragged_indices(starts_K, sizes_K)].astype(np.int64),
            candidate_J=np.repeat(candidates_K, sizes_K),
            place_X=np.repeat(np.arange(len(candidate_I)), sizes_I),
            other_X=ragged_indices((np.cumsum(sizes_K) - sizes_K)[candidate_I], sizes_I),
        )

    @property
    def same_X(self) -> Bools:
        """(X,) bool, whether the two words are the same."""
        same: Bools = self.mention_tokens_I[self.place_X] == self.name_tokens_J[self.other_X]
        return same


@dataclass(frozen=True, slots=True, kw_only=True)
class TranslationTable:
    """The table, mapped into memory. Safe to share between threads.

    Attributes:
        offsets: (V + 1,) int64 offsets of ``words`` and ``probs`` by the given word.
        words: (P,) int32 words that the given one stands for.
        probs: (P,) float32 probability of each.
        reverse_offsets: (V + 1,) int64 offsets of ``reverse_words`` by the word.
        reverse_words: (P,) int32 given words that stand for the word.
        reverse_probs: (P,) float32 probability of the word given each.
        rarity_V: (V + 1,) float64 relative frequency of each word of the names; the last is that
            of a word that no name has.
    """

    offsets: Int64
    words: Int32
    probs: Float32
    reverse_offsets: Int64
    reverse_words: Int32
    reverse_probs: Float32
    rarity_V: Float64

    @classmethod
    def open(cls, folder: Path, names: NameArrays) -> TranslationTable:
        """Map the files of a knowledge base.

        Raises:
            KnowledgeBaseError: One is missing, cannot be read or does not fit the names.
        """
        arrays = open_arrays(folder, _GROUP, _ARRAYS)
        size = len(names.vocabulary) + 1
        fits = all(
            len(arrays[f"{side}offsets"]) == size
            and int(arrays[f"{side}offsets"][-1])
            == len(arrays[f"{side}words"])
            == len(arrays[f"{side}probs"])
            for side in ("", "reverse_")
        )
        if not fits:
            raise KnowledgeBaseError(
                f"{folder}: the translation table is not of these names; "
                "build the knowledge base again"
            )
        used = int((names.token_counts > 0).sum())
        total = float(names.token_counts.sum())
        rarity_V = np.append(names.token_counts + 1, 1) / (total + used + 1)
        return cls(**arrays, rarity_V=rarity_V)

    def log_probs(self, pairs: WordPairs, *, candidates: int, known: int) -> Float64:
        """Return how well names explain mentions, and mentions names.

        Args:
            pairs: The words of the mentions beside those of the names.
            candidates: K.
            known: V; mentions' words from this number on are in no name.

        Returns:
            (K, 2) float64: the mean over words of ln P(word | words of the other) / P(word), of
            the mention's words given each name, and of each name's words given the mention.
        """
        words_U, row_I = np.unique(pairs.mention_tokens_I, return_inverse=True)
        words_W, column_J = np.unique(pairs.name_tokens_J, return_inverse=True)
        forward_UW, backward_UW = self._tables(words_U[words_U < known], words_W)
        flat_X = row_I[pairs.place_X] * len(words_W) + column_J[pairs.other_X]
        same_X = _IDENTITY * pairs.same_X
        unknown_X = pairs.mention_tokens_I[pairs.place_X] >= known
        flat_X[unknown_X] = len(forward_UW)  # what neither table has: 0
        rare_U = self.rarity_V[np.minimum(words_U, known)]
        result_K2 = np.zeros((candidates, 2))
        for column, (table, place_X, owner, rare) in enumerate(
            (
                (forward_UW, pairs.place_X, pairs.candidate_I, rare_U[row_I]),
                (backward_UW, pairs.other_X, pairs.candidate_J, self.rarity_V[words_W][column_J]),
            )
        ):
            probs_X = same_X + (1 - _IDENTITY) * np.append(table, np.float32(0.0))[flat_X]
            others = np.bincount(place_X, minlength=len(owner))
            explained = np.bincount(place_X, probs_X, minlength=len(owner)) / np.maximum(others, 1)
            logs = np.log(_BACKGROUND + (1 - _BACKGROUND) * explained / rare)
            sizes_K = np.bincount(owner, minlength=candidates)
            result_K2[:, column] = np.bincount(owner, logs, minlength=candidates) / np.maximum(
                sizes_K, 1
            )
        return result_K2

    def _tables(self, words_U: Int64, words_W: Int64) -> tuple[Float32, Float32]:
        """Return P(u | w) and P(w | u), each (U * W,) float32, row after row."""
        tables = []
        for offsets, words, probs in (
            (self.reverse_offsets, self.reverse_words, self.reverse_probs),
            (self.offsets, self.words, self.probs),
        ):
            starts_U = offsets[words_U]
            sizes_U = offsets[words_U + 1] - starts_U
            places = ragged_indices(starts_U, sizes_U)
            others = words[places]
            columns = np.minimum(np.searchsorted(words_W, others), max(len(words_W) - 1, 0))
            met = words_W[columns] == others if len(words_W) else np.zeros(len(others), dtype=bool)
            table = np.zeros((len(words_U), len(words_W)), dtype=np.float32)
            table[np.repeat(np.arange(len(words_U)), sizes_U)[met], columns[met]] = probs[
                places[met]
            ]
            tables.append(table.ravel())
        return tables[0], tables[1]
