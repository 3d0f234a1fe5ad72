"""The arrays of names for linking, made of strings: random vectors, no encoder and no catalogue."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mirror_rt.knowledge.entities.names import KINDS, NameArrays, NameArraysWriter
from mirror_rt.knowledge.ranking.translation import TranslationTable, write_translation
from mirror_rt.knowledge.retrieval.candidates import Retrievers
from mirror_rt.knowledge.retrieval.trigram_index import TrigramIndex, write_trigrams
from mirror_rt.knowledge.retrieval.vector_index import VectorIndex, build_index
from mirror_rt.knowledge.text.match_levels import token_bag_key
from mirror_rt.knowledge.text.normalize import normalize
from mirror_rt.types import IndexKind, NameKind
from tests.model_1 import Table, model_1

if TYPE_CHECKING:
    from mirror_rt.types import Float32


def unit_rows(count: int, seed: int) -> Float32:
    """Return (count, 8) float32 random unit rows."""
    rows = np.random.default_rng(seed).standard_normal((count, 8))
    unit: Float32 = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return unit


@dataclass
class Names:
    """Names as arrays, and as the strings of these arrays."""

    retrievers: Retrievers
    translation: TranslationTable
    texts: list[str]
    vectors: Float32
    t: Table
    kinds: dict[tuple[int, int], NameKind]

    @classmethod
    def of(
        cls,
        names: Sequence[str],
        folder: Path,
        *,
        aliases: Sequence[tuple[int, int]] = (),
        kinds: dict[tuple[int, int], NameKind] | None = None,
    ) -> Names:
        """Write the files from which features are computed, and open them."""
        texts = [normalize(name) for name in names]
        kinds = kinds or {(row, row): NameKind.EXACT for row in range(len(texts))}
        writer = NameArraysWriter()
        writer.add(texts)
        writer.write(
            folder, entities=[(*pair, KINDS.index(k)) for pair, k in sorted(kinds.items())]
        )
        arrays = NameArrays.open(folder)
        write_trigrams([texts], folder, rows=len(texts))
        write_translation(aliases, arrays, folder)
        vectors = unit_rows(len(texts), 1).astype(np.float16)
        recipe = build_index(vectors, folder / "index", kind=IndexKind.EXACT)
        retrievers = Retrievers(
            vectors=VectorIndex.open(folder / "index", vectors, recipe),
            trigrams=TrigramIndex.open(folder),
            names=arrays,
        )
        keys = [token_bag_key(text) for text in texts]
        return cls(
            retrievers=retrievers,
            translation=TranslationTable.open(folder, arrays),
            texts=texts,
            vectors=vectors.astype(np.float32),
            t=model_1([(keys[a], keys[b]) for a, b in aliases]),
            kinds=kinds,
        )
