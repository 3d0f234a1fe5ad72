"""The features of a mention and a candidate name, for a whole batch: one function per feature.

To add a feature, add its function to ``NAME_FEATURES`` (if it depends on the name alone) or to
``ENTITY_FEATURES`` (if it also depends on the entity), and to ``_DISSIMILARITIES`` if a higher
value makes two names less similar. Add its name to ``later`` in ``Reranker.read``, or stored
knowledge bases cannot be opened. Fit the built-in weights again
(``benchmarks/default_weights.py``): until then, its weight is 0. No other code depends on the
order of the columns.

Axes: Q mentions, K candidate names, P pairs of name and entity, F features, I words of a mention
for each candidate, X pairs of a mention's and a name's word.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from rapidfuzz import process
from rapidfuzz.distance import OSA

from mirror_rt.knowledge.arrays import ragged_indices
from mirror_rt.knowledge.entities.names import KINDS, NameArrays
from mirror_rt.knowledge.ranking.translation import TranslationTable, WordPairs
from mirror_rt.knowledge.retrieval.candidates import CandidateBatch, Retrievers
from mirror_rt.knowledge.retrieval.vector_index import exact_scores
from mirror_rt.types import NameKind

if TYPE_CHECKING:
    from typing import TypeAlias

    import numpy.typing as npt

    from mirror_rt.types import Float32, Int64

    Float64 = npt.NDArray[np.float64]
    Bools = npt.NDArray[np.bool_]
    Values: TypeAlias = npt.NDArray[Any]

__all__ = ["ACCEPTED_MENTIONS", "FEATURES", "SIGNS", "FeatureInputs", "compute_features"]

_TYPO_SIMILARITY = 0.65
"""The lowest edit similarity of a typo: one edit in three letters, or two in six."""
_MOST_EDITS = 3
"""More edits than this are not a typo."""
_BROAD_OR_RELATED = np.array(
    [kind in {NameKind.BROAD, NameKind.NARROW, NameKind.RELATED} for kind in KINDS]
)


@dataclass(frozen=True)
class FeatureInputs:
    """A batch of candidates, with intermediate results that are computed on first use."""

    batch: CandidateBatch
    retrievers: Retrievers
    translation: TranslationTable

    @cached_property
    def edits_K(self) -> Int64:
        """(K,) int64 edits between mention and name (optimal string alignment)."""
        batch = self.batch
        queries = [batch.mentions.normalized[i] for i in batch.mention_K.tolist()]
        names = self.retrievers.names.texts(batch.row_K)
        edits_K: Int64 = process.cpdist(queries, names, scorer=OSA.distance).astype(np.int64)
        return edits_K

    @cached_property
    def lengths_K2(self) -> npt.NDArray[np.int64]:
        """(K, 2) int64 characters of mention and name."""
        batch = self.batch
        pairs = [
            batch.mentions.lengths_Q[batch.mention_K],
            self.retrievers.names.lengths[batch.row_K],
        ]
        return np.stack(pairs, axis=1).astype(np.int64)

    @cached_property
    def edit_similarity_K(self) -> Float64:
        """(K,) float64 1 minus the share of letters that differ."""
        similarity_K: Float64 = 1 - self.edits_K / np.maximum(self.lengths_K2.max(axis=1), 1)
        return similarity_K

    @cached_property
    def pairs(self) -> WordPairs:
        """The pairs of words of mentions and of their candidates."""
        return WordPairs.of(self.batch, self.retrievers.names)

    @cached_property
    def explained(self) -> tuple[Float64, Float64]:
        """(K, 2) float64 explained shares, and (K, 2) float64 gaps; see ``translation``."""
        return self.translation.explained(
            self.pairs,
            candidates=len(self.batch.row_K),
            known=len(self.retrievers.names.vocabulary),
        )


def _dense_cosine(inputs: FeatureInputs) -> Values:
    batch = inputs.batch
    vectors_ND = inputs.retrievers.vectors.vectors_ND
    return exact_scores(vectors_ND, batch.vectors_QD, batch.mention_K, batch.row_K)


def _trigram_cosine(inputs: FeatureInputs) -> Values:
    batch = inputs.batch
    return inputs.retrievers.trigrams.cosines(batch.trigrams, batch.mention_K, batch.row_K)


def _same_token_bag(inputs: FeatureInputs) -> Values:
    batch = inputs.batch
    names = inputs.retrievers.names
    same_K: Values = batch.mentions.key_hashes_Q[batch.mention_K] == names.key_hashes[batch.row_K]
    return same_K


def _number_mismatch(inputs: FeatureInputs) -> Values:
    batch = inputs.batch
    names = inputs.retrievers.names
    hashes_K = batch.mentions.number_hashes_Q[batch.mention_K]
    differ_K: Values = hashes_K != names.number_hashes[batch.row_K]
    return differ_K


def _log_length_ratio(inputs: FeatureInputs) -> Values:
    logs_K2 = np.log(inputs.lengths_K2 + 1.0)
    ratio_K: Values = np.abs(logs_K2[:, 1] - logs_K2[:, 0])
    return ratio_K


def _token_jaccard(inputs: FeatureInputs) -> Values:
    batch, names = inputs.batch, inputs.retrievers.names
    # Pair each word of a mention with each word of its candidates; words are distinct in both.
    mine_K, sizes_K = (
        offsets[places + 1] - offsets[places]
        for offsets, places in (
            (batch.mentions.word_offsets, batch.mention_K),
            (names.word_offsets, batch.row_K),
        )
    )
    pairs_K = mine_K * sizes_K
    candidate_I = np.arange(len(sizes_K)).repeat(mine_K)
    words_I = batch.mentions.words[
        ragged_indices(batch.mentions.word_offsets[batch.mention_K], mine_K)
    ]
    starts_I, sizes_I = names.word_offsets[batch.row_K][candidate_I], sizes_K[candidate_I]
    same_X = words_I.repeat(sizes_I) == names.words[ragged_indices(starts_I, sizes_I)]
    before = np.zeros(len(same_X) + 1, dtype=np.int64)
    same_X.cumsum(out=before[1:])
    ends_K = pairs_K.cumsum()
    shared = before[ends_K] - before[ends_K - pairs_K]
    jaccard_K: Values = shared / np.maximum(mine_K + sizes_K - shared, 1)
    return jaccard_K


def _translation_forward(inputs: FeatureInputs) -> Values:
    return inputs.explained[0][:, 0]


def _translation_backward(inputs: FeatureInputs) -> Values:
    return inputs.explained[0][:, 1]


def _gap_forward(inputs: FeatureInputs) -> Values:
    return inputs.explained[1][:, 0]


def _gap_backward(inputs: FeatureInputs) -> Values:
    return inputs.explained[1][:, 1]


def _one_sided_gap(inputs: FeatureInputs) -> Values:
    gaps_K2 = inputs.explained[1]
    one_sided_K: Values = np.log1p(np.abs(gaps_K2[:, 0] - gaps_K2[:, 1]))
    return one_sided_K


def _edit_similarity(inputs: FeatureInputs) -> Values:
    return inputs.edit_similarity_K


def _top_edit_similarity(inputs: FeatureInputs) -> Values:
    batch, similarity_K = inputs.batch, inputs.edit_similarity_K
    highest_Q = np.zeros(len(batch))
    np.maximum.at(highest_Q, batch.mention_K, similarity_K)
    top_K: Values = similarity_K == highest_Q[batch.mention_K]
    return top_K


def _typo_match(inputs: FeatureInputs) -> Values:
    batch, names, pairs = inputs.batch, inputs.retrievers.names, inputs.pairs
    similar_K = inputs.edit_similarity_K >= _TYPO_SIMILARITY
    same_digits_K = (
        batch.mentions.digit_hashes_Q[batch.mention_K] == names.digit_hashes[batch.row_K]
    )
    # The words of the mention that the name lacks must all be words that no name has.
    count = len(pairs.candidate_I)
    missing_I = np.bincount(pairs.place_X, pairs.same_X, minlength=count) == 0
    known_I = _times_named(names, pairs.mention_tokens_I)
    if batch.held_out:  # not counting the mention's own words
        key = pairs.candidate_I * (len(names.token_counts) + 1) + pairs.mention_tokens_I
        _, inverse, own = np.unique(key, return_inverse=True, return_counts=True)
        known_I = known_I - own[inverse]
    candidates = len(batch.row_K)
    missing_K = np.bincount(pairs.candidate_I, missing_I, minlength=candidates)
    known_K = np.bincount(pairs.candidate_I, missing_I & (known_I > 0), minlength=candidates)
    typo_K = similar_K & same_digits_K & (missing_K > 0) & (known_K == 0)
    return np.where(typo_K, np.maximum(1 - (inputs.edits_K - 1) / _MOST_EDITS, 0.0), 0.0)


def _times_named(names: NameArrays, tokens_I: Int64) -> Int64:
    """Return (I,) int64, how often each word occurs in keys of names; 0 for new words."""
    known = len(names.token_counts)
    if not known:
        return np.zeros(len(tokens_I), dtype=np.int64)
    return np.where(tokens_I < known, names.token_counts[np.minimum(tokens_I, known - 1)], 0)


def _non_exact_synonym(inputs: FeatureInputs) -> Values:
    return _BROAD_OR_RELATED[inputs.batch.kind_P]


def _accepted_mentions(inputs: FeatureInputs) -> Values:
    accepted_E, entity_P = inputs.retrievers.names.accepted_E, inputs.batch.entity_P
    if not len(accepted_E):
        return np.zeros(len(entity_P))
    counts_P: Values = np.log1p(accepted_E[entity_P])
    return counts_P


NAME_FEATURES: Mapping[str, Callable[[FeatureInputs], Values]] = {
    "dense_cosine": _dense_cosine,
    "trigram_cosine": _trigram_cosine,
    "same_token_bag": _same_token_bag,
    "number_mismatch": _number_mismatch,
    "log_length_ratio": _log_length_ratio,
    "token_jaccard": _token_jaccard,
    "translation_forward": _translation_forward,
    "translation_backward": _translation_backward,
    "gap_forward": _gap_forward,
    "gap_backward": _gap_backward,
    "one_sided_gap": _one_sided_gap,
    "edit_similarity": _edit_similarity,
    "top_edit_similarity": _top_edit_similarity,
    "typo_match": _typo_match,
}
ENTITY_FEATURES: Mapping[str, Callable[[FeatureInputs], Values]] = {
    "non_exact_synonym": _non_exact_synonym,
    "accepted_mentions": _accepted_mentions,
}
FEATURES = (*NAME_FEATURES, *ENTITY_FEATURES)
"""The names of the features, in the order of their columns. ``docs/linking.md`` has a table
of them; ``translation`` describes the translation and gap features."""
ACCEPTED_MENTIONS = FEATURES.index("accepted_mentions")
"""The column whose weight is learned from feedback alone."""

_DISSIMILARITIES = {
    "number_mismatch", "log_length_ratio", "gap_forward", "gap_backward", "one_sided_gap",
    "non_exact_synonym",
}  # fmt: skip
SIGNS: Mapping[str, int] = {name: -1 if name in _DISSIMILARITIES else 1 for name in FEATURES}
"""1 if a higher value makes two names more similar, -1 if less similar."""


def compute_features(inputs: FeatureInputs) -> Float32:
    """Return the (P, F) float32 features of each pair of candidate name and entity."""
    batch = inputs.batch
    features_PF = np.empty((len(batch.entity_P), len(FEATURES)), dtype=np.float32)
    for column, compute in enumerate(NAME_FEATURES.values()):
        features_PF[:, column] = compute(inputs)[batch.name_P]
    for column, compute in enumerate(ENTITY_FEATURES.values(), start=len(NAME_FEATURES)):
        features_PF[:, column] = compute(inputs)
    return features_PF
