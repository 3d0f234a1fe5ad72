"""Open the folder of a knowledge base: check its files and map them into memory."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from mirror_rt._count import counted
from mirror_rt.bundle import MANIFEST, Bundle, Manifest
from mirror_rt.errors import KnowledgeBaseError
from mirror_rt.knowledge.entities.names import NameArrays
from mirror_rt.knowledge.entities.reader import Catalogue
from mirror_rt.knowledge.linking.resources import LinkResources, MaskCache
from mirror_rt.knowledge.ranking.reranker import Reranker
from mirror_rt.knowledge.ranking.translation import TranslationTable
from mirror_rt.knowledge.retrieval.candidates import Retrievers
from mirror_rt.knowledge.retrieval.trigram_index import TrigramIndex
from mirror_rt.knowledge.retrieval.vector_index import VectorIndex
from mirror_rt.knowledge.storage import integrity
from mirror_rt.knowledge.storage.feedback import FeedbackLog
from mirror_rt.knowledge.storage.manifest import (
    BUNDLE,
    CATALOGUE,
    INDEX,
    RERANKER,
    KnowledgeBaseManifest,
)

__all__ = ["open_resources", "open_same"]


def open_resources(
    folder: Path, *, bundle: str | Path | Bundle | None = None, verify: bool | None = None
) -> tuple[KnowledgeBaseManifest, LinkResources]:
    """Open the resources that linking reads. This reads no vectors and loads no model.

    Args:
        folder: The knowledge base.
        bundle: A bundle that the knowledge base must have been built with; None for any. With a
            student, either of the two bundles is accepted.
        verify: Whether to hash all bytes of the files; see ``storage.integrity.check_files``.

    Raises:
        KnowledgeBaseError: The folder is incomplete, has changed, has another format, or was
            built with another bundle.
    """
    return integrity.read_consistently(
        folder, partial(_opened, folder, bundle=bundle, verify=verify)
    )


def open_same(folder: Path, manifest: KnowledgeBaseManifest) -> LinkResources:
    """Open the same knowledge base as another process.

    Raises:
        KnowledgeBaseError: The folder has been replaced since.
    """
    found, resources = open_resources(folder, verify=False)
    if found != manifest:
        resources.close()
        raise KnowledgeBaseError(f"{folder}: was replaced while it was open; open it again")
    return resources


def _opened(
    folder: Path,
    manifest: KnowledgeBaseManifest,
    *,
    bundle: str | Path | Bundle | None,
    verify: bool | None,
) -> tuple[KnowledgeBaseManifest, LinkResources]:
    integrity.check_files(folder, manifest, verify=verify)
    own = Bundle(path=folder / BUNDLE, manifest=Manifest.read(folder / BUNDLE / MANIFEST))
    if own.fingerprint != manifest.bundle:
        raise KnowledgeBaseError(
            f"{folder}: its bundle is not the one it was built with; build it again"
        )
    if bundle is not None:
        given = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle)
        if given.fingerprint not in {manifest.bundle, manifest.names_bundle.get("fingerprint")}:
            raise KnowledgeBaseError(
                f"{folder}: was not built with {given.path}; leave --bundle out, or build "
                "the knowledge base again"
            )
    vectors_ND = integrity.open_vectors(folder)
    names = NameArrays.open(folder)
    if len(names) != len(vectors_ND):
        raise KnowledgeBaseError(
            f"{folder}: {counted(len(names), 'name')} and {counted(len(vectors_ND), 'vector')}; "
            "build the knowledge base again"
        )
    retrievers = Retrievers(
        vectors=VectorIndex.open(folder / INDEX, vectors_ND, manifest.index),
        trigrams=TrigramIndex.open(folder),
        names=names,
    )
    translation = TranslationTable.open(folder, names)
    reranker = Reranker.read(folder / RERANKER)
    nil = FeedbackLog.read(folder).nil()
    # Open this last: it holds a file handle that would leak if a later step failed.
    catalogue = Catalogue.open(folder / CATALOGUE)
    return manifest, LinkResources(
        path=folder,
        entities=manifest.counts["entities"],
        catalogue=catalogue,
        retrievers=retrievers,
        translation=translation,
        reranker=reranker,
        nil=nil,
        masks=MaskCache(catalogue, rows=len(vectors_ND), path=folder),
    )
