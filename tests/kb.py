"""A bundle and an encoder for tests of the knowledge base, without a model."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mirror_rt.bundle import Bundle, Manifest
from mirror_rt.hashing import sha256_file
from mirror_rt.knowledge import KnowledgeBase
from mirror_rt.knowledge.arrays import offsets_of
from mirror_rt.knowledge.linking.proposals import ScoredPool
from mirror_rt.knowledge.ranking.features import FEATURES
from mirror_rt.knowledge.ranking.reranker import Reranker
from mirror_rt.knowledge.ranking.samples import Samples
from mirror_rt.knowledge.retrieval.candidates import PER_RETRIEVER
from mirror_rt.types import Entity, Name, NameKind, Pooling, Precision

if TYPE_CHECKING:
    from mirror_rt.types import Float32


class LetterEncoder:
    """Embeds a text as the sum of a fixed random vector for each of its letter trigrams."""

    dim = 48

    def __init__(self) -> None:
        self.requested: list[str] = []

    def encode(self, texts: Sequence[str]) -> Float32:
        """Return (N, D) float32 unit rows."""
        self.requested.extend(texts)
        rows = [self._vector(text) for text in texts]
        return np.array(rows, dtype=np.float32).reshape(len(texts), self.dim)

    def _vector(self, text: str) -> Float32:
        padded = f"  {text.casefold()} "
        total = np.zeros(self.dim)
        for i in range(len(padded) - 2):
            seed = int.from_bytes(hashlib.md5(padded[i : i + 3].encode()).digest()[:8], "little")
            total += np.random.default_rng(seed).standard_normal(self.dim)
        return (total / np.linalg.norm(total)).astype(np.float32)


def fake_bundle(folder: Path, *, content: str = "a model") -> Bundle:
    """Write a folder that is a valid bundle without a model."""
    folder.mkdir(parents=True)
    for name in ("model.onnx", "tokenizer.json"):
        (folder / name).write_text(content)
    files = {name: sha256_file(folder / name) for name in ("model.onnx", "tokenizer.json")}
    manifest = Manifest(
        dim=48, pooling=Pooling.MEAN, max_length=32, precision=Precision.FP32, files=files
    )
    manifest.write(folder / "manifest.json")
    return Bundle.open(folder)


def entity(id_: str, preferred: str, *aliases: str, **more: tuple[str, ...]) -> Entity:
    """Make an entity of a preferred name and exact synonyms."""
    names = (
        Name(text=preferred, kind=NameKind.PREFERRED),
        *(Name(text=alias) for alias in aliases),
    )
    return Entity(id=id_, names=names, **more)  # type: ignore[arg-type]


HEARTS = [
    entity("H:1", "atrial septal defect", "ASD", "hole in the heart"),
    entity("H:2", "ventricular septal defect", "VSD", "hole in the heart"),
    entity("H:3", "short stature", "small body height", types=("growth",)),
    entity("H:4", "liver cancer", "cancer of the liver", "hepatic carcinoma"),
    entity("H:5", "autism spectrum disorder", "ASD", alternative_ids=("H:50",)),
]


def hearts_in(folder: Path) -> Path:
    """Build a knowledge base of ``HEARTS`` in a folder, and return its folder."""
    out = folder / "hearts"
    bundle = fake_bundle(folder / "bundle")
    KnowledgeBase.build(bundle, HEARTS, out, encoder=LetterEncoder()).close()
    return out


def with_numbers(kb: KnowledgeBase, **numbers: Any) -> None:  # noqa: ANN401  (as the reranker has)
    """Replace numbers of the reranker of an open knowledge base, but not in its folder."""
    resources = kb.resources
    kb._resources = replace(resources, reranker=replace(resources.reranker, **numbers))


def pool_of(kb: KnowledgeBase, texts: Sequence[str]) -> ScoredPool:
    """Return the scored candidates of some texts."""
    vectors_QD = kb.encoder.encode(texts)
    return ScoredPool.of(kb.resources, texts, vectors_QD, width=PER_RETRIEVER, mask=None)


def drawn_samples(count: int, *, seed: int, truth: Reranker | None = None) -> Samples:
    """Draw candidates, then draw the right one with the probabilities of the model."""
    truth = truth or Reranker(nil_score=4.0)
    rng = np.random.default_rng(seed)
    real = rng.random((count, 12)) < 0.9
    real[:, 0] = True
    offsets = offsets_of(real.sum(axis=1))
    features = rng.random((int(offsets[-1]), len(FEATURES))).astype(np.float32)
    right = np.zeros(len(features), dtype=bool)
    scores = truth.scores(features).astype(np.float64)
    for first, last in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True):
        powers = np.append(scores[first:last], truth.nil_score)
        powers = np.exp(powers - powers.max())
        shares = powers / powers.sum()
        drawn = rng.choice(len(shares), p=shares)
        if first + drawn < last:
            right[first + drawn] = True
    entity_P = np.nonzero(real)[1]
    return Samples(
        offsets=offsets,
        features_PF=features,
        right_P=right,
        entity_P=entity_P,
        name_P=entity_P,
        names_P3=np.tile([3.0, 0.0, -6.0], (len(features), 1)),
    )
