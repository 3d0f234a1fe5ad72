"""Build the folder of a knowledge base. The layout is in docs/knowledge-base.md."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from mirror_rt.bundle import MANIFEST, Bundle
from mirror_rt.errors import KnowledgeBaseError
from mirror_rt.hashing import sampled_sha256, sha256_file
from mirror_rt.knowledge.arrays import hash_text, to_float32
from mirror_rt.knowledge.entities.names import NameArrays, NameArraysWriter
from mirror_rt.knowledge.entities.reader import Catalogue
from mirror_rt.knowledge.entities.writer import write_catalogue
from mirror_rt.knowledge.ranking.learning import fit
from mirror_rt.knowledge.ranking.reranker import Reranker
from mirror_rt.knowledge.ranking.samples import (
    Samples,
    alias_pairs,
    held_out_names,
    held_out_samples,
)
from mirror_rt.knowledge.ranking.translation import TranslationTable, write_translation
from mirror_rt.knowledge.retrieval.autotune import RECALL, autotune
from mirror_rt.knowledge.retrieval.candidates import Retrievers
from mirror_rt.knowledge.retrieval.index_selection import IndexChoice
from mirror_rt.knowledge.retrieval.trigram_index import TrigramIndex, write_trigrams
from mirror_rt.knowledge.retrieval.vector_index import VectorIndex, build_index, can_append
from mirror_rt.knowledge.storage.manifest import (
    BUNDLE,
    CATALOGUE,
    FILES,
    INDEX,
    KB_MANIFEST,
    NAMES,
    RERANKER,
    VECTORS,
    KnowledgeBaseManifest,
)
from mirror_rt.knowledge.text.normalize import normalize
from mirror_rt.staging import staging_folder
from mirror_rt.types import Embedder, Entity
from mirror_rt.version import VERSION

if TYPE_CHECKING:
    from mirror_rt.types import Float16, Float32, Int64

__all__ = ["KnownVectors", "own_samples", "write_knowledge_base"]

_ENCODED_AT_ONCE = 16_384


class KnownVectors:
    """An embedder that has the vectors of some texts; another embedder embeds the rest.

    Attributes:
        dim: Width D of a vector.
        known_names: Texts so far whose vectors were known. The misspelled names that the reranker
            learns from are not counted.
    """

    def __init__(
        self, blocks: Iterable[Sequence[str]], vectors_ND: Float16, encoder: Embedder
    ) -> None:
        """Index the texts.

        Args:
            blocks: The texts in the order of rows, in pieces.
            vectors_ND: (N, D) float16 vectors of the texts.
            encoder: Embeds other texts.
        """
        hashes = np.concatenate(
            [np.array([hash_text(text) for text in texts], dtype=np.int64) for texts in blocks]
        )
        self.dim = vectors_ND.shape[1]
        self.known_names = 0
        self._order_N = np.argsort(hashes, kind="stable")
        self._hashes_N = hashes[self._order_N]
        self._vectors_ND = vectors_ND
        self._encoder = encoder

    def encode(self, texts: Sequence[str]) -> Float32:
        """Return (N, D) float32 rows; known vectors exactly as they were stored."""
        wanted = np.array([hash_text(text) for text in texts], dtype=np.int64)
        places = np.minimum(np.searchsorted(self._hashes_N, wanted), len(self._hashes_N) - 1)
        known = self._hashes_N[places] == wanted
        vectors_ND = np.empty((len(texts), self.dim), dtype=np.float32)
        vectors_ND[known] = to_float32(self._vectors_ND[self._order_N[places[known]]])
        new = np.flatnonzero(~known).tolist()
        if new:
            vectors_ND[new] = self._encoder.encode([texts[i] for i in new])
        self.known_names += len(texts) - len(new)
        return vectors_ND


def write_knowledge_base(
    bundle: Bundle,
    entities: Iterable[Entity],
    out: Path,
    *,
    encoder: Embedder,
    names_encoder: Embedder | None = None,
    names_bundle: Mapping[str, str] = MappingProxyType({}),
    choice: IndexChoice,
    recall: float = RECALL,
    force: bool = False,
    keep: bool = False,
    append_to: Path | None = None,
    content_type: str = NAMES,
    reranker: Reranker | None = None,
    finish: Callable[[Path], None] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write the folder of a knowledge base, whole or not at all.

    Args:
        bundle: The bundle behind ``encoder``; copied into the folder.
        entities: The entities, streamed; pieces with the same id are joined.
        out: The folder to make.
        encoder: Embeds the mentions; and the names, unless there is a ``names_encoder``.
        names_encoder: Embeds the names, if a student of it embeds the mentions.
        names_bundle: The manifest's entry for the bundle of ``names_encoder``.
        choice: The kind of index, or the rule that chooses it.
        recall: The target recall of the index, of the true ten nearest names.
        force: Whether ``out`` may be replaced.
        keep: Whether to keep files in ``out`` that mirror-rt did not write. If not, such files
            are an error.
        append_to: A knowledge base of the same bundle. Its strings keep their rows. Its index is
            extended rather than rebuilt if it is of the right kind and needs no new training.
        content_type: ``names`` or ``passages``. No reranker is learned from passages.
        reranker: The reranker to store; None to learn it from the names.
        finish: Called with the new folder before it takes its place.
        progress: Called with (strings embedded, strings).

    Raises:
        TargetError: ``out`` exists and ``force`` is not set.
        InputError: An entity cannot be stored; the message names it.
    """
    with staging_folder(out, force=force, keep=keep) as folder:
        first_texts: list[str] = []
        if append_to is not None:
            with closing(Catalogue.open(append_to / CATALOGUE)) as before:
                first_texts = before.texts()
        counts = write_catalogue(entities, folder / CATALOGUE, first_texts=first_texts)
        with closing(Catalogue.open(folder / CATALOGUE)) as catalogue:
            # The model computes without Python's lock, so the arrays are made at the same time.
            with ThreadPoolExecutor(1) as beside:
                embedding = beside.submit(
                    _write_vectors,
                    folder,
                    rows=counts.texts,
                    encoder=names_encoder or encoder,
                    progress=progress,
                )
                try:
                    names = _write_arrays(
                        catalogue, folder, rows=counts.texts, keep_text=content_type == NAMES
                    )
                finally:
                    vectors_ND = embedding.result()
            index, recipe = _write_index(
                vectors_ND,
                folder / INDEX,
                choice=choice,
                recall=recall,
                append_to=append_to,
                as_mentions=partial(_as_mentions, catalogue, encoder) if names_encoder else None,
            )
            if content_type == NAMES:
                aliases = alias_pairs(catalogue.close_names(), names)
                write_translation(aliases, names, folder)
                if reranker is None:
                    trigrams = TrigramIndex.open(folder)
                    retrievers = Retrievers(vectors=index, trigrams=trigrams, names=names)
                    reranker = fit(
                        own_samples(catalogue, retrievers, encoder, embed=names_encoder is not None)
                    )
            else:
                write_translation(iter(()), names, folder)
            (reranker or Reranker()).write(folder / RERANKER)
        kept = sum((folder / name).stat().st_size for name in FILES)
        recipe["bytes_per_name"] = round(kept / counts.texts)
        _copy_bundle(bundle, folder / BUNDLE)
        KnowledgeBaseManifest(
            bundle=bundle.fingerprint,
            dim=encoder.dim,
            counts=asdict(counts),
            index=recipe,
            files={name: _file_sums(folder / name) for name in FILES},
            content_type=content_type,
            names_bundle=dict(names_bundle),
            created_with=VERSION,
        ).write(folder / KB_MANIFEST)
        if finish is not None:
            finish(folder)


def _write_arrays(catalogue: Catalogue, folder: Path, *, rows: int, keep_text: bool) -> NameArrays:
    """Write the arrays of names and the trigrams; return the opened arrays of names."""
    writer = NameArraysWriter()

    def blocks() -> Iterable[Sequence[str]]:
        for texts in catalogue.named_texts():
            normalized = [normalize(text) for text in texts]
            writer.add(normalized, keep_text=keep_text)
            yield normalized

    write_trigrams(blocks(), folder, rows=rows)
    writer.write(folder, entities=catalogue.names_of_rows())
    return NameArrays.open(folder)


def _write_index(
    vectors_ND: Float16,
    path: Path,
    *,
    choice: IndexChoice,
    recall: float,
    append_to: Path | None,
    as_mentions: Callable[[Int64], Float32] | None,
) -> tuple[VectorIndex, dict[str, Any]]:
    kind = choice.resolve(len(vectors_ND))
    old: Mapping[str, Any] = {}
    if append_to is not None:
        old = KnowledgeBaseManifest.read(append_to).index
    appends = can_append(old, kind, rows=len(vectors_ND))
    built = build_index(
        vectors_ND,
        path,
        kind=kind,
        append_to=append_to / INDEX if append_to is not None and appends else None,
    )
    recipe = {**(old if appends else {}), **built, **choice.to_recipe(), "recall": recall}
    index = VectorIndex.open(path, vectors_ND, recipe)
    recipe |= autotune(index, recall=recall, as_mentions=as_mentions)
    return index.with_parameters(recipe), recipe


def _as_mentions(catalogue: Catalogue, encoder: Embedder, rows_Q: Int64) -> Float32:
    """Return the (Q, D) vectors of names as the query encoder embeds them."""
    texts = catalogue.texts_of(rows_Q.tolist())
    return encoder.encode([texts[row] for row in rows_Q.tolist()])


def own_samples(
    catalogue: Catalogue, retrievers: Retrievers, encoder: Embedder, *, embed: bool = False
) -> Samples:
    """Return names of the knowledge base, linked as if they were mentions.

    The translation table is made without these names. Otherwise it would have memorized them,
    and its features would get too much weight.
    """
    rng = np.random.default_rng(0)
    names = retrievers.names
    pairs = held_out_names(catalogue, names, rng)
    held_out = {row for row, _ in pairs}
    # Windows cannot remove a file that is still mapped.
    with TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        folder = Path(scratch)
        aliases = alias_pairs(catalogue.close_names(without=held_out), names)
        write_translation(aliases, names, folder)
        translation = TranslationTable.open(folder, names)
        return held_out_samples(
            pairs, catalogue, retrievers, translation, encoder, rng, embed=embed
        )


def _file_sums(path: Path) -> dict[str, Any]:
    return {
        "bytes": path.stat().st_size,
        "sha256": sha256_file(path),
        "sampled_sha256": sampled_sha256(path),
    }


def _copy_bundle(bundle: Bundle, folder: Path) -> None:
    for name in (MANIFEST, *bundle.manifest.files):
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(bundle.path / name, target)


def _write_vectors(
    folder: Path,
    *,
    rows: int,
    encoder: Embedder,
    progress: Callable[[int, int], None] | None,
) -> Float16:
    vectors_ND: Float16 = np.lib.format.open_memmap(
        folder / VECTORS, mode="w+", dtype=np.float16, shape=(rows, encoder.dim)
    )
    with closing(Catalogue.open(folder / CATALOGUE)) as catalogue:
        for start in range(0, rows, _ENCODED_AT_ONCE):
            texts = catalogue.texts(start=start, stop=start + _ENCODED_AT_ONCE)
            found_BD = encoder.encode(texts)
            if not np.isfinite(found_BD).all():
                bad = texts[int(np.argmin(np.isfinite(found_BD).all(axis=1)))]
                raise KnowledgeBaseError(
                    f"the bundle gives {bad[:60]!r} a vector that is not finite; export it again"
                )
            vectors_ND[start : start + len(texts)] = found_BD
            if progress:
                progress(start + len(texts), rows)
    vectors_ND.flush()  # type: ignore[attr-defined]
    return np.asarray(vectors_ND)
