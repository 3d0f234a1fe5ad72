"""Make mentions with known answers from the knowledge base itself: hold out names and link them.

This needs no labels. A name of an entity with several names is linked as a mention, without its own
row. A few are misspelled (with their row), as names contain hardly any typos. For some of them, all
names of the entity are left out; then NIL is right.

Axes: S samples, P pairs of candidate name and entity of all samples, one sample after another, F
features.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, groupby, islice
from typing import TYPE_CHECKING

import numpy as np

from mirror_rt.knowledge.arrays import offsets_of, ragged_indices, to_float32
from mirror_rt.knowledge.entities.names import NameArrays
from mirror_rt.knowledge.entities.reader import Catalogue
from mirror_rt.knowledge.ranking.features import (
    ACCEPTED_MENTIONS,
    FEATURES,
    FeatureInputs,
    compute_features,
)
from mirror_rt.knowledge.ranking.name_probability import (
    EXACT_MATCH_FEATURES,
    exact_match_features,
)
from mirror_rt.knowledge.ranking.translation import TranslationTable
from mirror_rt.knowledge.retrieval.candidates import (
    CandidateBatch,
    Retrievers,
    generate_candidates,
)
from mirror_rt.knowledge.text.held_out import is_held_out

if TYPE_CHECKING:
    import numpy.typing as npt

    from mirror_rt.types import Embedder, Float32, Int64

    Float64 = npt.NDArray[np.float64]
    Bools = npt.NDArray[np.bool_]

__all__ = [
    "ENOUGH",
    "Samples",
    "alias_pairs",
    "held_out_names",
    "held_out_samples",
    "misspell",
    "samples_of",
]

ENOUGH = 40
"""With fewer samples, the built-in numbers stay."""
_ENOUGH_HELD_OUT = 200
_HELD_OUT = 2_000
_NIL_SHARE = 0.15
_MISSPELLED_ONE_IN = 20
"""One in this many held-out names is misspelled. More of them are better for typos, and worse for
mentions of NCBI (docs/experiments.md)."""
_LONG = 6
"""Shorter names are not misspelled: the result may be any other word."""
_AT_ONCE = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """Mentions with known answers and their candidates, in flat arrays.

    Attributes:
        offsets: (S + 1,) int64 offsets of the samples' pairs.
        features_PF: (P, F) float32.
        right_P: (P,) bool, names of the right entity; if a sample has none, NIL is right.
        entity_P: (P,) int64, the entity of each pair.
        name_P: (P,) int64, equal for equal normalized names of a sample.
        names_P3: (P, 3) float64 values of ``EXACT_MATCH_FEATURES`` of each name.
    """

    offsets: Int64
    features_PF: Float32
    right_P: Bools
    entity_P: Int64
    name_P: Int64
    names_P3: Float64

    def __getitem__(self, chosen: npt.NDArray[np.int64]) -> Samples:
        sizes = np.diff(self.offsets)[chosen]
        places = ragged_indices(self.offsets[chosen], sizes)
        return Samples(
            offsets=offsets_of(sizes),
            features_PF=self.features_PF[places],
            right_P=self.right_P[places],
            entity_P=self.entity_P[places],
            name_P=self.name_P[places],
            names_P3=self.names_P3[places],
        )

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def without_own(self) -> Samples:
        """Return accepted mentions, with counts that leave out the mention itself."""
        features_PF = self.features_PF.copy()
        counts_P = np.expm1(features_PF[:, ACCEPTED_MENTIONS]) - self.right_P
        features_PF[:, ACCEPTED_MENTIONS] = np.log1p(np.maximum(counts_P, 0.0))
        return replace(self, features_PF=features_PF)

    @property
    def sample_P(self) -> Int64:
        """(P,) int64, the sample of each pair."""
        return np.repeat(np.arange(len(self)), np.diff(self.offsets))

    @classmethod
    def joined(cls, parts: Sequence[Samples]) -> Samples:
        """Concatenate samples."""
        return cls(
            offsets=offsets_of(np.concatenate([np.diff(part.offsets) for part in parts])),
            features_PF=np.concatenate([part.features_PF for part in parts]),
            right_P=np.concatenate([part.right_P for part in parts]),
            entity_P=np.concatenate([part.entity_P for part in parts]),
            name_P=np.concatenate([part.name_P for part in parts]),
            names_P3=np.concatenate([part.names_P3 for part in parts]),
        )


def held_out_names(
    catalogue: Catalogue, names: NameArrays, rng: np.random.Generator, *, count: int = _HELD_OUT
) -> list[tuple[int, int]]:
    """Return up to ``count`` (row, entity), one for each entity with several names.

    Ambiguous names are left out. Names that training leaves out (see ``text.held_out``) come
    first. Others are added only if these are too few to learn from.
    """
    held_out: list[tuple[int, int]] = []
    others: list[tuple[int, int]] = []
    for entity in rng.permutation(catalogue.largest_number() + 1)[: 40 * count].tolist():
        found = catalogue.close_texts(entity)
        if len(found) < 2:
            continue
        reserved = [row for row, text in found if is_held_out(text)]
        rows = reserved or [row for row, _ in found]
        row = rows[int(rng.integers(len(rows)))]
        if names.entity_offsets[row + 1] - names.entity_offsets[row] == 1:
            (held_out if reserved else others).append((row, entity))
        if len(held_out) == count:
            break
    return held_out if len(held_out) >= _ENOUGH_HELD_OUT else [*held_out, *others][:count]


def alias_pairs(
    close_names: Iterable[tuple[int, int]],
    names: NameArrays,
    *,
    per_entity: int = 8,
    most: int = 500_000,
) -> Iterator[tuple[int, int]]:
    """Yield rows of two names of one entity that differ in more than plural and word order.

    Args:
        close_names: (entity number, row), entity by entity.
        names: The arrays of names.
        per_entity: The maximum number of pairs per entity.
        most: The maximum number of pairs.
    """
    left = most
    for _, pairs in groupby(close_names, key=lambda pair: pair[0]):
        rows = [row for _, row in pairs]
        if len(rows) < 2:
            continue
        by_key: dict[int, int] = {}
        for row in rows:
            by_key.setdefault(int(names.key_hashes[row]), row)
        for pair in islice(combinations(by_key.values(), 2), min(per_entity, left)):
            left -= 1
            yield pair


def held_out_samples(
    pairs: Sequence[tuple[int, int]],
    catalogue: Catalogue,
    retrievers: Retrievers,
    translation: TranslationTable,
    encoder: Embedder,
    rng: np.random.Generator,
    *,
    embed: bool = False,
) -> Samples:
    """Link names of the knowledge base as mentions.

    Each is linked without its own row; the first ones are also linked with a typo.

    Args:
        pairs: (row, entity) of the names, from ``held_out_names``.
        catalogue: The names.
        retrievers: The retrievers.
        translation: The translation table, learned without these names.
        encoder: Embeds mentions, for the misspelled ones.
        rng: Draws typos, and the names whose entity is left out.
        embed: Whether to embed all names, because the encoder of mentions is not the one that
            made the vectors.
    """
    names = retrievers.names
    rows = np.array([row for row, _ in pairs], dtype=np.int64)
    texts = catalogue.texts_of(rows.tolist())
    typos: list[str] = []
    right = [{entity} for _, entity in pairs]
    for row in rows[: len(rows) // _MISSPELLED_ONE_IN].tolist() if len(rows) >= ENOUGH else ():
        typo = misspell(texts[row], rng)
        if typo and not len(names.rows_named(names.analyze([typo]).hashes_Q)[1]):
            typos.append(typo)
            right.append(set(names.entities_of(np.array([row]))[1].tolist()))
    nil = rng.random(len(right)) < _NIL_SHARE
    parts: list[Samples] = []
    for start in range(0, len(rows), _AT_ONCE):
        some = rows[start : start + _AT_ONCE]
        mentions = [texts[row] for row in some.tolist()]
        batch = generate_candidates(
            mentions,
            encoder.encode(mentions) if embed else to_float32(retrievers.vectors.vectors_ND[some]),
            retrievers,
            without=some.tolist(),
        )
        of_batch = slice(start, start + len(some))
        parts.append(_samples(batch, retrievers, translation, right[of_batch], nil[of_batch]))
    if typos:
        batch = generate_candidates(typos, encoder.encode(typos), retrievers)
        of_batch = slice(len(rows), None)
        parts.append(_samples(batch, retrievers, translation, right[of_batch], nil[of_batch]))
    return Samples.joined(parts) if parts else _none()


def _samples(
    batch: CandidateBatch,
    retrievers: Retrievers,
    translation: TranslationTable,
    right: Sequence[set[int]],
    nil: Bools,
) -> Samples:
    features_PF = compute_features(FeatureInputs(batch, retrievers, translation))
    features_PF[:, ACCEPTED_MENTIONS] = 0.0  # names do not tell how often an entity is meant
    return samples_of(batch, features_PF, retrievers.names, right, nil=nil)


def _none() -> Samples:
    nothing = np.zeros(0, dtype=np.int64)
    return Samples(
        offsets=np.zeros(1, dtype=np.int64),
        features_PF=np.zeros((0, len(FEATURES)), dtype=np.float32),
        right_P=nothing.astype(bool),
        entity_P=nothing,
        name_P=nothing,
        names_P3=np.zeros((0, len(EXACT_MATCH_FEATURES))),
    )


def misspell(text: str, rng: np.random.Generator) -> str:
    """Return a text with one or two typos, or an empty string if it has too few letters.

    A typo replaces a letter by another one of the text, deletes it, doubles it, or swaps it with
    the one before. Digits, spaces and punctuation stay.
    """
    signs = list(text)
    if sum(sign.isalpha() for sign in signs) < _LONG:
        return ""
    for _ in range(int(rng.integers(1, 3))):
        places = [i for i, sign in enumerate(signs) if sign.isalpha()]
        i, other = rng.choice(places, size=2).tolist()
        kind = rng.integers(4)
        if kind == 0:
            signs[i] = signs[other]
        elif kind == 1:
            del signs[i]
        elif kind == 2:
            signs.insert(i, signs[i])
        elif i - 1 in places:
            signs[i - 1 : i + 1] = signs[i], signs[i - 1]
    return "".join(signs)


def samples_of(
    batch: CandidateBatch,
    features_PF: Float32,
    names: NameArrays,
    right: Sequence[set[int]],
    *,
    nil: Bools | None = None,
) -> Samples:
    """Combine candidates and answers.

    Args:
        batch: The candidates of S mentions.
        features_PF: (P, F) float32 features of the candidates.
        names: The arrays of names.
        right: The numbers of the right entities of each mention; none for NIL.
        nil: (S,) bool, whether to leave out the right entities; then NIL is right.
    """
    mention_P = batch.mention_K[batch.name_P]
    answers = [(i, entity) for i, entities in enumerate(right) for entity in entities]
    keys = np.array([i << 32 | entity for i, entity in answers], dtype=np.int64)
    right_P = np.isin(mention_P << 32 | batch.entity_P, keys)
    kept = np.ones(len(mention_P), dtype=bool) if nil is None else ~(right_P & nil[mention_P])
    row_P = batch.row_K[batch.name_P[kept]]
    return Samples(
        offsets=offsets_of(np.bincount(mention_P[kept], minlength=len(batch))),
        features_PF=features_PF[kept],
        right_P=right_P[kept],
        entity_P=batch.entity_P[kept],
        name_P=names.hashes[row_P],
        names_P3=exact_match_features(names, row_P),
    )
