"""Compute vectors with a table: the normalized sum of the rows of a text's features.

It needs only numpy and scipy. The rows of a text are added in the order of its features, so its
vector is the same to the last bit in every batch.

Axes: N texts, B texts of a batch, F features of the table, H buckets of other features, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from scipy.sparse import csr_array

from mirror_rt.bundle import FEATURES, SCALES, TABLE, Bundle
from mirror_rt.encodings import check_texts
from mirror_rt.errors import BundleError, InputError
from mirror_rt.runtime.batching import Prepared, Rows
from mirror_rt.runtime.features import KINDS, extract, random_signs

if TYPE_CHECKING:
    import numpy.typing as npt

    from mirror_rt.types import Float32

__all__ = ["FeatureIndex", "StaticModel", "load_array"]

CHARACTERS = 32 * 1024
"""Characters of a batch: its arrays stay in a core's cache."""

UNFAMILIAR = 0.5
"""From this share of unknown features on, a text counts as unfamiliar."""

MAX_FEATURES = 1 << 24

_BUCKETS = 1 << 10
"""The number of random rows, used for texts without a known feature."""


class FeatureIndex:
    """Finds the rows of features by their hashes.

    Hashes are evenly distributed: their first bits give their approximate place in the sorted
    table.
    """

    def __init__(self, hashes_F: npt.NDArray[np.uint64]) -> None:
        self._hashes_F = hashes_F
        bits = max(1, len(hashes_F).bit_length() + 1)
        self._shift = np.uint64(64 - bits)
        buckets = (hashes_F >> self._shift).astype(np.int64)
        counts = np.bincount(buckets, minlength=1 << bits)
        self._first = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
        self._longest = int(counts.max(initial=0))
        # A sentinel that equals no hash: a search may end one place after the last.
        self._padded = np.concatenate([hashes_F, np.zeros(self._longest + 1, np.uint64)])

    def __len__(self) -> int:
        return len(self._hashes_F)

    def find(self, hashes: npt.NDArray[np.uint64]) -> npt.NDArray[np.int32]:
        """Return the row of each hash as int32, -1 where there is none."""
        places = self._first[(hashes >> self._shift).astype(np.int64)]
        rows: npt.NDArray[np.int32] = np.where(self._padded[places] == hashes, places, np.int32(-1))
        for step in range(1, self._longest):
            missing = np.flatnonzero(rows < 0)
            hit = self._padded[places[missing] + step] == hashes[missing]
            rows[missing[hit]] = places[missing[hit]] + step
        rows[rows >= len(self._hashes_F)] = -1
        return rows


class StaticModel:
    """A table of features, opened; safe to share between threads."""

    def __init__(
        self,
        index: FeatureIndex,
        table_FD: Float32,
        *,
        kinds: Sequence[str],
        max_length: int,
    ) -> None:
        """Keep the parts.

        Args:
            index: The index of the F rows of features.
            table_FD: (F + 1, D) float32; the last row is added to every text.
            kinds: The kinds of features, from ``features.KINDS``.
            max_length: Maximum characters of a text.
        """
        self._index = index
        self._table_FD = table_FD
        # Features that the table lacks, such as those of another script, are hashed to random
        # rows of ±1, so texts that share them stay similar (Achlioptas 2003).
        self._signs_HD = random_signs(_BUCKETS, table_FD.shape[1])
        self._kinds = tuple(kinds)
        self._max_length = max_length

    @classmethod
    def open(cls, bundle: Bundle) -> StaticModel:
        """Load the table of a checked folder; no code in it is executed.

        Raises:
            BundleError: A file is not an array, has another shape or type than in the manifest,
                or has a number that is not finite.
        """
        kinds = _kinds(bundle)
        hashes_F = load_array(bundle.path / FEATURES, np.uint64, 1)
        rows, dim = len(hashes_F) + 1, bundle.manifest.dim
        if len(hashes_F) > MAX_FEATURES or (hashes_F[1:] <= hashes_F[:-1]).any():
            raise BundleError(f"{bundle.path / FEATURES}: not ascending hashes; distil again")
        values_FD = load_array(bundle.path / TABLE, np.int8, 2)
        scales_F = load_array(bundle.path / SCALES, np.float32, 1)
        if values_FD.shape != (rows, dim) or scales_F.shape != (rows,):
            raise BundleError(
                f"{bundle.path / TABLE}: of shape {values_FD.shape} with {scales_F.shape} scales, "
                f"not ({rows}, {dim}) as the manifest and {FEATURES} say; distil again"
            )
        if not np.isfinite(scales_F).all():
            raise BundleError(f"{bundle.path / SCALES}: not all finite; distil again")
        return cls(
            FeatureIndex(np.array(hashes_F)),
            values_FD * scales_F[:, None],
            kinds=kinds,
            max_length=bundle.manifest.max_length,
        )

    def prepare(self, texts: Sequence[str]) -> Prepared:
        """Truncate texts, and split them into batches, in order.

        Raises:
            InputError: A text contains a lone surrogate.
        """
        lengths_N = np.fromiter(map(len, texts), dtype=np.int64, count=len(texts))
        truncated = int((lengths_N > self._max_length).sum())
        lengths_N = np.minimum(lengths_N, self._max_length)
        # Each text has a separator.
        ends_N = np.cumsum(lengths_N + 1)
        cuts = np.flatnonzero(np.diff(ends_N // CHARACTERS)) + 1
        unfamiliar_N = np.zeros(len(texts), dtype=bool)

        def run(rows_B: Rows) -> Float32:
            vectors_BD, unfamiliar_N[rows_B] = self._embed(texts[cast("slice", rows_B)])
            return vectors_BD

        return Prepared(
            batches=[slice(*ends) for ends in pairwise([0, *cuts.tolist(), len(texts)]) if texts],
            lengths_N=lengths_N,
            truncated=truncated,
            run=run,
            unfamiliar_N=unfamiliar_N,
        )

    def one(self, text: str) -> Float32:
        """Return the vector of one text, (D,) float32.

        Raises:
            InputError: It contains a lone surrogate.
        """
        vector_D: Float32 = self._embed([text])[0][0]
        return vector_D

    def count_truncated(self, texts: Sequence[str]) -> int:
        """Return how many distinct ``texts`` are longer than the maximum length."""
        return len({text for text in texts if len(text) > self._max_length})

    def count_unfamiliar(self, texts: Sequence[str]) -> int:
        """Return how many distinct ``texts`` have mostly unknown features.

        Raises:
            InputError: A text contains a lone surrogate.
        """
        prepared = self.prepare(list(dict.fromkeys(texts)))
        for rows_B in prepared.batches:
            prepared.run(rows_B)
        return prepared.unfamiliar

    def _embed(self, texts: Sequence[str]) -> tuple[Float32, npt.NDArray[np.bool_]]:
        """Return (B, D) float32 unit rows, and which texts have mostly unknown features."""
        try:
            found = extract([text[: self._max_length] for text in texts], self._kinds)
        except UnicodeEncodeError as error:
            check_texts(texts)
            raise InputError(f"texts: cannot be embedded ({error})") from error
        vectors_BD = np.repeat(self._table_FD[-1:], len(texts), axis=0)
        features_B = np.zeros(len(texts), dtype=np.int64)
        known_B = np.zeros(len(texts), dtype=np.int64)
        for kind in self._kinds:
            features = found[kind]
            rows = self._index.find(features.hashes_F)
            known = rows >= 0
            places = np.concatenate([[0], np.cumsum(known)])[features.offsets_N].astype(np.int32)
            columns = rows[known]
            counts = csr_array(
                (np.ones(len(columns), dtype=np.float32), columns, places),
                shape=(len(texts), len(self._table_FD)),
            )
            vectors_BD += counts @ self._table_FD
            features_B += np.diff(features.offsets_N)
            known_B += np.diff(places)
        for row in np.flatnonzero((known_B == 0) & (features_B > 0)).tolist():
            hashes = [found[kind].of(row) for kind in self._kinds]
            buckets = np.concatenate(hashes) % np.uint64(_BUCKETS)
            vectors_BD[row] = self._signs_HD[buckets].sum(axis=0, dtype=np.float32)
        norms_B = np.sqrt(np.einsum("bd,bd->b", vectors_BD, vectors_BD))
        vectors_BD /= np.maximum(norms_B, np.finfo(np.float32).tiny)[:, None]
        return vectors_BD, known_B < (1 - UNFAMILIAR) * features_B


def _kinds(bundle: Bundle) -> list[str]:
    kinds = bundle.manifest.features.get("kinds")
    if isinstance(kinds, list) and kinds and set(kinds) <= set(KINDS):
        return kinds
    raise BundleError(
        f"{bundle.path}: the manifest names no features that this version knows; distil again, "
        "or run: pip install -U mirror-rt"
    )


def load_array(path: Path, dtype: Any, dimensions: int) -> npt.NDArray[Any]:  # noqa: ANN401
    """Memory-map an array of a type and number of dimensions; refuse a truncated file.

    Raises:
        BundleError: The file does not contain it.
    """
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise BundleError(f"{path}: not an array ({error}); distil again") from error
    if not isinstance(found, np.ndarray) or found.dtype != dtype or found.ndim != dimensions:
        raise BundleError(f"{path}: not {dimensions}-dimensional {np.dtype(dtype)}; distil again")
    return found
