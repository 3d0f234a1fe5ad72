"""Features for the probability that an exact match is right.

Short names, and names of common words, often mean something that is not in the knowledge base.

Axes: R rows of names.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from mirror_rt.knowledge.arrays import ragged_indices
from mirror_rt.knowledge.entities.names import NameArrays

if TYPE_CHECKING:
    import numpy.typing as npt

    from mirror_rt.types import Int64

    Float64 = npt.NDArray[np.float64]

__all__ = ["EXACT_MATCH_FEATURES", "exact_match_features"]

EXACT_MATCH_FEATURES = ("log_length", "short_word", "log_word_share")
"""The features of a name:

log_length: natural log of its characters; short_word: it is a single word of at most five
characters, like an acronym; log_word_share: natural log of the number of names with its rarest
word.
"""
_SHORT = 5


def exact_match_features(names: NameArrays, rows_R: Int64) -> Float64:
    """Return the (R, 3) float64 values of ``EXACT_MATCH_FEATURES`` of some rows."""
    lengths_R = names.lengths[rows_R]
    words_R = names.word_offsets[rows_R + 1] - names.word_offsets[rows_R]
    starts_R = names.token_offsets[rows_R]
    sizes_R = names.token_offsets[rows_R + 1] - starts_R
    counts = names.token_counts[names.tokens[ragged_indices(starts_R, sizes_R)]]
    features_R3 = np.empty((len(rows_R), 3))
    features_R3[:, 0] = lengths_R
    features_R3[:, 1] = (words_R == 1) & (lengths_R <= _SHORT)
    features_R3[:, 2] = max(len(names), 1)
    some_R = sizes_R.nonzero()[0]  # an unused row has no words
    if len(some_R):
        first = (sizes_R.cumsum() - sizes_R)[some_R]
        features_R3[some_R, 2] = np.minimum.reduceat(counts, first)
    features_R3[:, ::2] = np.log(np.maximum(features_R3[:, ::2], 1.0))
    features_R3[:, 2] -= math.log(max(len(names), 1))
    return features_R3
