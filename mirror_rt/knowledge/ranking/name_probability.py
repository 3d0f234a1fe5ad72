"""What foretells how often a mention that is a name means the entity of that name.

Short names and names of common words are names of many things that no knowledge base lists.

Axes: R rows of names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mirror_rt.knowledge.arrays import ragged_indices
from mirror_rt.knowledge.entities.names import NameArrays

if TYPE_CHECKING:
    import numpy.typing as npt

    from mirror_rt.types import Int64

    Float64 = npt.NDArray[np.float64]

__all__ = ["NAME_FEATURES", "name_features"]

NAME_FEATURES = ("log_length", "short_word", "log_word_share")
"""What is known of a name:

log_length: natural log of its characters; short_word: it is one word of five characters at most,
as acronyms are; log_word_share: natural log of how many of the names have its rarest word.
"""
_SHORT = 5


def name_features(names: NameArrays, rows_R: Int64) -> Float64:
    """Return the (R, 3) float64 values of ``NAME_FEATURES`` of some rows."""
    lengths_R = names.lengths[rows_R].astype(np.float64)
    words_R = names.word_offsets[rows_R + 1] - names.word_offsets[rows_R]
    starts_R = names.token_offsets[rows_R]
    sizes_R = names.token_offsets[rows_R + 1] - starts_R
    rarest_R = np.full(len(rows_R), max(len(names), 1), dtype=np.float64)
    some_R = sizes_R > 0  # a row that names nothing any more has no words
    if some_R.any():
        counts = names.token_counts[names.tokens[ragged_indices(starts_R[some_R], sizes_R[some_R])]]
        first = np.cumsum(sizes_R[some_R]) - sizes_R[some_R]
        rarest_R[some_R] = np.minimum.reduceat(counts, first)
    return np.stack(
        [
            np.log(np.maximum(lengths_R, 1.0)),
            ((words_R == 1) & (lengths_R <= _SHORT)).astype(np.float64),
            np.log(np.maximum(rarest_R, 1.0) / max(len(names), 1)),
        ],
        axis=1,
    )
