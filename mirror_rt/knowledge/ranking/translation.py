"""A translation table of words between the names of an entity: IBM Model 1.

The model (Brown et al. 1993, section 4.1) is trained on pairs of aliases. It gives the probability
of a word in one name, given the words of another name of the same entity (as Berger and Lafferty
1999 rank documents). It learns that "pinky" translates to "little", and that "upper" does not
translate to "lower", although their vectors are close. Words with the same start are forms of one
word: "hypertensive" means nearly the same as "hypertension".

Axes: P pairs of words in the table, V words of the vocabulary, S words of target aliases, L pairs
of such a word with a word of its source alias, K candidate names, I words of mentions, once for
each of their candidates, J words of candidates, X pairs of I and J of one candidate, U distinct
words of mentions, W distinct words of candidates.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rapidfuzz import process
from rapidfuzz.distance import Prefix

from mirror_rt.errors import KnowledgeBaseError
from mirror_rt.knowledge.arrays import (
    Scratch,
    array_file,
    offsets_of,
    open_arrays,
    ragged_indices,
    write_arrays,
)
from mirror_rt.knowledge.entities.names import NameArrays, word_heads
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
_MIN_PROBABILITY = 1e-3
"""Pairs with a lower probability are dropped: they are noise, and most of the table."""
_STEM = 4
_MIN_SIMILARITY = 0.5
"""Words are similar if they share their first letters: at least this number of letters, and this
share of the longer word."""


def write_translation(aliases: Iterable[tuple[int, int]], names: NameArrays, folder: Path) -> None:
    """Learn the translation table and write it.

    Args:
        aliases: Rows of two names of one entity, in either order.
        names: The words of the names.
        folder: The folder for the files of ``TRANSLATION_FILES``.
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
    # A slot is a word of a target name; any word of the source name may translate to it.
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
    kept = probs_P > _MIN_PROBABILITY
    return given_P[kept], word_P[kept], probs_P[kept]


@dataclass(frozen=True, slots=True, kw_only=True)
class WordPairs:
    """All pairs of a word of a mention's key and a word of a candidate's key.

    Attributes:
        mention_tokens_I: (I,) int64 words of the mention, once for each of its candidates.
        candidate_I: (I,) int64 the candidate of each word.
        name_tokens_J: (J,) int64 words of the candidates.
        candidate_J: (J,) int64 the candidate of each word.
        place_X: (X,) int64 position in I of each pair, ascending.
        other_X: (X,) int64 position in J of each pair.
        words_U: (U,) int64 distinct words of mentions, ascending.
        words_W: (W,) int64 distinct words of candidates, ascending.
        flat_X: (X,) int64 position of each pair in a table (U, W), row by row.
        same_X: (X,) bool, whether the two words are equal.
        similarity_X: (X,) float32 similarity of the two words by their letters.
    """

    mention_tokens_I: Int64
    candidate_I: Int64
    name_tokens_J: Int64
    candidate_J: Int64
    place_X: Int64
    other_X: Int64
    words_U: Int64
    words_W: Int64
    flat_X: Int64
    same_X: Bools
    similarity_X: Float32

    @classmethod
    def of(cls, batch: CandidateBatch, names: NameArrays) -> WordPairs:
        """Pair the words of a batch."""
        mentions = batch.mentions
        starts_K = names.token_offsets[batch.row_K]
        sizes_K = names.token_offsets[batch.row_K + 1] - starts_K
        mention_starts_K = mentions.token_offsets[batch.mention_K]
        mention_sizes_K = mentions.token_offsets[batch.mention_K + 1] - mention_starts_K
        candidates_K = np.arange(len(batch.row_K))
        candidate_I = candidates_K.repeat(mention_sizes_K)
        sizes_I = sizes_K[candidate_I]
        tokens_I = mentions.tokens[ragged_indices(mention_starts_K, mention_sizes_K)]
        tokens_J = names.tokens[ragged_indices(starts_K, sizes_K)].astype(np.int64)
        place_X = np.arange(len(candidate_I)).repeat(sizes_I)
        other_X = ragged_indices((sizes_K.cumsum() - sizes_K)[candidate_I], sizes_I)
        words_U, row_I = np.unique(tokens_I, return_inverse=True)
        words_W, column_J = np.unique(tokens_J, return_inverse=True)
        row_X, column_X = row_I[place_X], column_J[other_X]
        known_U = words_U[: words_U.searchsorted(len(names.vocabulary))]
        new = [
            mentions.new_words[i - len(names.vocabulary)] for i in words_U[len(known_U) :].tolist()
        ]
        spelled_U = [*names.words_of(known_U), *new]
        same_X = tokens_I[place_X] == tokens_J[other_X]
        return cls(
            mention_tokens_I=tokens_I,
            candidate_I=candidate_I,
            name_tokens_J=tokens_J,
            candidate_J=candidates_K.repeat(sizes_K),
            place_X=place_X,
            other_X=other_X,
            words_U=words_U,
            words_W=words_W,
            flat_X=row_X * len(words_W) + column_X,
            same_X=same_X,
            similarity_X=_prefix_similarity(spelled_U, words_W, names, row_X, column_X, same_X),
        )


def _prefix_similarity(
    words_U: Sequence[str],
    words_W: Int64,
    names: NameArrays,
    row_X: Int64,
    column_X: Int64,
    same_X: Bools,
) -> Float32:
    """Return (X,) float32: the common prefix as a share of the longer word; 1 if equal.

    It is 0 if the prefix is short or one word has a digit, as digits number things.
    """
    similarity_X = same_X.astype(np.float32)
    # Only the few words with the same first bytes are compared as strings.
    heads_U, heads_W = word_heads(words_U), names.heads_of(words_W)
    places = ((heads_U[row_X] == heads_W[column_X]) & ~same_X).nonzero()[0]
    if len(places):
        mention_words = [words_U[i] for i in row_X[places].tolist()]
        name_words = names.words_of(words_W[column_X[places]])
        similarity = process.cpdist(mention_words, name_words, scorer=Prefix.normalized_similarity)
        counts = [
            _stem(a) == _stem(b) != "" for a, b in zip(mention_words, name_words, strict=True)
        ]
        similarity_X[places] = np.where(counts & (similarity >= _MIN_SIMILARITY), similarity, 0)
    return similarity_X


def _stem(word: str) -> str:
    """Return the prefix that similar words must share; empty if no other word can be similar."""
    counts = len(word) >= _STEM and not any(map(str.isdigit, word))
    return word[:_STEM] if counts else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TranslationTable:
    """The memory-mapped table. Safe to share between threads.

    Attributes:
        offsets: (V + 1,) int64 offsets of ``words`` and ``probs`` by the given word.
        words: (P,) int32 words that the given word translates to.
        probs: (P,) float32 probability of each.
        reverse_offsets: (V + 1,) int64 offsets of ``reverse_words`` by the word.
        reverse_words: (P,) int32 given words that translate to the word.
        reverse_probs: (P,) float32 probability of the word given each.
        frequency_V: (V + 1,) float64 relative frequency of each word of the names; the last one is
            for unknown words.
        scratch: Reused memory of each thread.
    """

    offsets: Int64
    words: Int32
    probs: Float32
    reverse_offsets: Int64
    reverse_words: Int32
    reverse_probs: Float32
    frequency_V: Float64
    scratch: Scratch = field(default_factory=Scratch)

    @classmethod
    def open(cls, folder: Path, names: NameArrays) -> TranslationTable:
        """Map the files of a knowledge base.

        Raises:
            KnowledgeBaseError: One is missing, cannot be read or does not fit the names.
        """
        arrays: dict[str, Any] = open_arrays(folder, _GROUP, _ARRAYS)
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
        frequency_V = np.append(names.token_counts + 1, 1) / (total + used + 1)
        return cls(**arrays, frequency_V=frequency_V)

    def explained(
        self, pairs: WordPairs, *, candidates: int, known: int
    ) -> tuple[Float64, Float64]:
        """Return how much names and mentions explain each other, and the largest gaps.

        The weight of a word is ln(1 + odds) if it explains itself; the odds are its probability
        given the other text, divided by its probability in any text. So rare words weigh more.
        Other words explain it less; none explains it better than itself.

        Args:
            pairs: The pairs of words of mentions and names.
            candidates: K.
            known: V; words of mentions from this number on are in no name.

        Returns:
            (K, 2) float64 in [0, 1], the share of each mention that its candidate explains, and
            vice versa; 0 without words. (K, 2) float64, the most that one word leaves unexplained
            (natural log), of the mention and of the candidate.
        """
        given_X = (self._reverse_probs(pairs, known), self._probs(pairs, known))
        prior_X = _IDENTITY * pairs.similarity_X
        frequency_I = self.frequency_V[np.minimum(pairs.mention_tokens_I, known)]
        shares_K2, gaps_K2 = np.zeros((2, candidates, 2))
        for column, (place_X, owner, rare) in enumerate(
            (
                (pairs.place_X, pairs.candidate_I, frequency_I),
                (pairs.other_X, pairs.candidate_J, self.frequency_V[pairs.name_tokens_J]),
            )
        ):
            probs_X = prior_X + (1 - _IDENTITY) * given_X[column]
            others = np.maximum(np.bincount(place_X, minlength=len(owner)), 1)
            explained = np.bincount(place_X, probs_X, minlength=len(owner)) / others
            scale = (1 - _BACKGROUND) / _BACKGROUND / rare
            limit = np.log1p(scale * _IDENTITY / others)
            said = np.minimum(np.log1p(scale * explained), limit)
            whole_K = np.bincount(owner, limit, minlength=candidates)
            shares_K2[:, column] = np.bincount(owner, said, minlength=candidates) / np.where(
                whole_K > 0, whole_K, 1.0
            )
            np.maximum.at(gaps_K2[:, column], owner, limit - said)
        return shares_K2, gaps_K2

    def _probs(self, pairs: WordPairs, known: int) -> Float32:
        """Return (X,) float32 probability of the name's word given the mention's."""
        return self._looked_up(pairs, known, self.offsets, self.words, self.probs)

    def _reverse_probs(self, pairs: WordPairs, known: int) -> Float32:
        """Return (X,) float32 probability of the mention's word given the name's."""
        return self._looked_up(
            pairs, known, self.reverse_offsets, self.reverse_words, self.reverse_probs
        )

    def _looked_up(
        self, pairs: WordPairs, known: int, offsets: Int64, words: Int32, probs: Float32
    ) -> Float32:
        words_U = pairs.words_U[: pairs.words_U.searchsorted(known)]
        starts_U = offsets[words_U]
        sizes_U = offsets[words_U + 1] - starts_U
        places = ragged_indices(starts_U, sizes_U)
        width = len(pairs.words_W)
        if not len(places) or not width:
            return np.zeros(len(pairs.flat_X), dtype=np.float32)
        others = words[places]
        columns = np.minimum(pairs.words_W.searchsorted(others), width - 1)
        met = (pairs.words_W[columns] == others).nonzero()[0]
        flat = np.arange(len(words_U)).repeat(sizes_U)[met] * width + columns[met]
        table = self.scratch.zeros("table", len(pairs.words_U) * width, np.float32)
        try:
            table[flat] = probs[places[met]]
            found: Float32 = table[pairs.flat_X]
        finally:
            table[flat] = 0
        return found
