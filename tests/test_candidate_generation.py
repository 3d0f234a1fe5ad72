"""The evidence for candidate names, against independent computations."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mirror_rt.knowledge import KnowledgeBase, changes
from mirror_rt.knowledge.ranking.features import FEATURES
from mirror_rt.knowledge.doors import WIDTH, gather
from mirror_rt.knowledge.text.normalize import normalize
from mirror_rt.types import IndexKind
from tests.kb import HEARTS, LetterEncoder, entity, fake_bundle
from tests.spelling import edits


@pytest.mark.parametrize("mention", ["Livre cancer", "septl defekts", "VDS", "a\u0301o", "心臓"])
def test_spelling_counts_edits_of_normalised_names(tmp_path: Path, mention: str) -> None:
    entities = [*HEARTS, entity("X", "心臓病", "ao")]
    bundle, encoder = fake_bundle(tmp_path / "bundle"), LetterEncoder()
    with KnowledgeBase.build(bundle, entities, tmp_path / "kb", encoder=encoder) as kb:
        (pool,) = kb.gather([mention], encoder.encode([mention]))
    asked = normalize(mention)
    expected = [
        1 - edits(asked, text.normalised) / max(len(asked), len(text.normalised))
        for text in pool.texts
    ]
    column = pool.features_KF[:, FEATURES.index("spelling")]
    assert len(column) > 1
    assert column.tolist() == pytest.approx(expected, abs=1e-6)


def test_a_misspelt_name_goes_before_names_that_share_more_trigrams(tmp_path: Path) -> None:
    entities = [entity("right", "Leonberg"), entity("wrong", "Enberg"), entity("far", "Marienberg")]
    bundle, encoder = fake_bundle(tmp_path / "bundle"), LetterEncoder()
    with KnowledgeBase.build(bundle, entities, tmp_path / "kb", encoder=encoder) as kb:
        (found,) = kb.link(["Loenberg"])
    assert found[0].entity_id == "right"


def test_misspelt_are_few_edits_that_spoil_only_words_of_no_name(tmp_path: Path) -> None:
    entities = [
        entity("1", "upper limb pain"),
        entity("2", "lower limb pain", "pain in the lower limb"),
        entity("3", "limp"),
        entity("4", "route 66"),
    ]
    bundle, encoder = fake_bundle(tmp_path / "bundle"), LetterEncoder()
    asked = [
        "uppre limb pani",
        "uper limb pain",
        "lower limp pain",
        "limb",
        "ruote 66",
        "route 67",
        "route 667",
    ]
    with KnowledgeBase.build(bundle, entities, tmp_path / "kb", encoder=encoder) as kb:
        pools = kb.gather(asked, encoder.encode(asked))
    column = FEATURES.index("misspelt")
    found = [
        {t.text: v for t, v in zip(p.texts, p.features_KF[:, column].tolist(), strict=True) if v}
        for p in pools
    ]
    third = pytest.approx(1 / 3)
    assert found[:2] == [{"upper limb pain": 0.5}, {"upper limb pain": 1, "lower limb pain": third}]
    assert found[2:4] == [{}, {}], "limp and limb are words of names, whatever is near"
    assert found[4:] == [{"route 66": 1}, {}, {}], "another number is another road"


def test_a_name_held_out_does_not_make_its_own_words_known(tmp_path: Path) -> None:
    entities = [entity("1", "oesophagitis", "esophagitis"), entity("2", "gastritis", "gastrits")]
    bundle, encoder = fake_bundle(tmp_path / "bundle"), LetterEncoder()
    with KnowledgeBase.build(bundle, entities, tmp_path / "kb", encoder=encoder) as kb:
        texts = ["esophagitis"]
        (row,) = [k for k in range(4) if kb.resources.catalogue.text_rows([k])[k].text == texts[0]]
        apart = gather(
            texts, encoder.encode(texts), kb.resources.catalogue, kb.resources.retrievers.vectors, kb.resources.retrievers.trigrams, kb.wording,
            without=[row],
        )  # fmt: skip
        (whole,) = kb.gather(texts, encoder.encode(texts))
    column = FEATURES.index("misspelt")
    assert max(apart[0].features_KF[:, column]) == 1.0
    assert max(whole.features_KF[:, column]) == 0.0


def test_names_that_were_removed_take_no_place_among_the_nearest(tmp_path: Path) -> None:
    bundle, encoder, out = fake_bundle(tmp_path / "bundle"), LetterEncoder(), tmp_path / "kb"
    names = [f"number {i}" for i in range(440)]
    things = [entity(name, name) for name in names]
    KnowledgeBase.build(bundle, things, out, encoder=encoder, index=IndexKind.HNSW).close()
    asked_D = encoder.encode(["number 77"])
    with KnowledgeBase.open(out) as kb:
        scores_N = kb.resources.retrievers.vectors.vectors_ND.astype(np.float32) @ asked_D[0]
        texts = kb.resources.catalogue.texts()
    nearest = [texts[row] for row in np.argsort(-scores_N, kind="stable").tolist()]
    changes.remove(out, nearest[:40], encoder=encoder)
    with KnowledgeBase.open(out, encoder=encoder) as kb:
        assert (kb.manifest.counts["texts"], kb.manifest.counts["unused_texts"]) == (440, 40)
        (pool,) = kb.gather(["number 77"], asked_D)
    brought = [t.text for t, near in zip(pool.texts, pool.from_vectors_K, strict=True) if near]
    assert len(brought) == WIDTH
    assert nearest[40] in brought
    assert not set(nearest[:40]) & {text.text for text in pool.texts}
