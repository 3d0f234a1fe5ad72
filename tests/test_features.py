"""Each feature, compared with a computation for a single pair of strings."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from mirror_rt.knowledge import KnowledgeBase
from mirror_rt.knowledge.entities.names import KINDS
from mirror_rt.knowledge.ranking import features
from mirror_rt.knowledge.ranking.features import FEATURES, FeatureInputs, compute_features
from mirror_rt.knowledge.ranking.reranker import Reranker
from mirror_rt.knowledge.retrieval.candidates import CandidateBatch, generate_candidates
from mirror_rt.knowledge.text.match_levels import token_bag_key
from mirror_rt.knowledge.text.normalize import normalize
from mirror_rt.knowledge.text.numbers import fold_numbers, number_tokens
from mirror_rt.types import Entity, Name, NameKind
from tests.kb import HEARTS, LetterEncoder, entity, fake_bundle, pool_of
from tests.spelling import edits

WORDS = [
    "liver", "livers", "cancer", "cancre", "of", "the", "type", "2a", "2b", "iv", "7", "é", "e",
    "心臓", "病", "ß", "Ataxia", "defect-2", "Köhler", "b", "straße", "и", "й",
]  # fmt: skip


def _strings(count: int, *, seed: int) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, size=rng.integers(1, 6))) for _ in range(count)]


@pytest.fixture(scope="module")
def kb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KnowledgeBase]:
    folder = tmp_path_factory.mktemp("kb")
    names, kinds = _strings(120, seed=0), [*NameKind]
    things = [
        entity("T:1", "thrombophlebitis", "trombophlebitis"),
        entity("T:2", "chronic gastritis", "chronic gastrits", "chronic gastrites chronic"),
    ]
    things += [
        Entity(
            id=f"E:{i}",
            names=tuple(
                Name(text=names[(3 * i + k) % len(names)], kind=kinds[(i + k) % len(kinds)])
                for k in range(4)
            ),
        )
        for i in range(50)
    ]
    bundle = fake_bundle(folder / "bundle")
    with KnowledgeBase.build(bundle, things, folder / "kb", encoder=LetterEncoder()) as kb:
        yield kb


MENTIONS = [*_strings(30, seed=1), "liver", "", "?", "new words only", "q"]
MENTIONS += ["oesophagitsi", "chronc gastritis", "chronic gastritiss", "gastritis chronick"]


class Naive:
    """Return the features of one pair, computed from strings."""

    def __init__(self, kb: KnowledgeBase, *, held_out: bool) -> None:
        self.texts = kb.resources.catalogue.texts()
        self.names = [normalize(text) for text in self.texts]
        self.vectors_ND = kb.resources.retrievers.vectors.vectors_ND.astype(np.float32)
        self.known = Counter(w for name in self.names for w in token_bag_key(name).split())
        grams = [self._grams(name) for name in self.names]
        self.counts = Counter(gram for some in grams for gram in some)
        self.held_out = held_out

    @staticmethod
    def _grams(text: str) -> set[str]:
        padded = f" {text} "
        centers = range(1, len(padded) - 1)
        return {padded[i - 1 : i + 2] for i in centers if padded[i] != " "}

    def _weight(self, some: set[str]) -> float:
        rows = len(self.names)
        return math.fsum((math.log((1 + rows) / (1 + self.counts[g])) + 1) ** 2 for g in some)

    def dense_cosine(self, mention: str, row: int) -> float:
        return float(LetterEncoder().encode([mention])[0] @ self.vectors_ND[row])

    def trigram_cosine(self, mention: str, row: int) -> float:
        mine, other = self._grams(normalize(mention)), self._grams(self.names[row])
        lengths = math.sqrt(self._weight(mine) * self._weight(other))
        return self._weight(mine & other) / max(lengths, 1e-9)

    def same_token_bag(self, mention: str, row: int) -> float:
        return token_bag_key(normalize(mention)) == token_bag_key(self.names[row])

    def number_mismatch(self, mention: str, row: int) -> float:
        return number_tokens(normalize(mention)) != number_tokens(self.names[row])

    def log_length_ratio(self, mention: str, row: int) -> float:
        mine, other = len(normalize(mention)), len(self.names[row])
        return abs(math.log((other + 1) / (mine + 1)))

    def token_jaccard(self, mention: str, row: int) -> float:
        mine = set(fold_numbers(normalize(mention)).split())
        other = set(fold_numbers(self.names[row]).split())
        return len(mine & other) / max(len(mine | other), 1)

    def edit_similarity(self, mention: str, row: int) -> float:
        mine, other = normalize(mention), self.names[row]
        return 1 - edits(mine, other) / max(len(mine), len(other), 1)

    def typo_match(self, mention: str, row: int) -> float:
        mine, other = normalize(mention), self.names[row]
        words, theirs = token_bag_key(mine).split(), set(token_bag_key(other).split())
        known = self.known - Counter(words) if self.held_out else self.known
        missing = [word for word in words if word not in theirs]
        digits = ["".join(filter(str.isdigit, text)) for text in (mine, other)]
        if (
            self.edit_similarity(mention, row) < 0.65
            or digits[0] != digits[1]
            or not missing
            or any(known[word] for word in missing)
        ):
            return 0.0
        return max(0.0, 1 - (edits(mine, other) - 1) / 3)


def _batch(kb: KnowledgeBase, *, held_out: bool) -> tuple[list[str], CandidateBatch]:
    texts = kb.resources.catalogue.texts()
    mentions = texts[:40] if held_out else MENTIONS
    batch = generate_candidates(
        mentions,
        LetterEncoder().encode(mentions),
        kb.resources.retrievers,
        width=12,
        without=range(40) if held_out else None,
    )
    return mentions, batch


@pytest.mark.parametrize("held_out", [False, True])
@pytest.mark.parametrize(
    "name",
    [name for name in features.NAME_FEATURES if not re.search("translation|gap|top", name)],
)
def test_a_feature_is_that_of_each_pair_alone(kb: KnowledgeBase, name: str, held_out: bool) -> None:
    mentions, batch = _batch(kb, held_out=held_out)
    resources = kb.resources
    inputs = FeatureInputs(batch, resources.retrievers, resources.translation)
    values_P = compute_features(inputs)[:, FEATURES.index(name)]
    naive = getattr(Naive(kb, held_out=held_out), name)
    places = batch.name_P.tolist()
    expected = [naive(mentions[batch.mention_K[k]], int(batch.row_K[k])) for k in places]
    assert len(expected) > 500
    assert len(set(expected)) > 1
    np.testing.assert_allclose(values_P, expected, atol=2e-5)


def test_a_name_that_is_not_exact_has_its_relation_for_each_entity(kb: KnowledgeBase) -> None:
    pool = pool_of(kb, MENTIONS)
    texts = kb.resources.catalogue.texts()
    loose = {NameKind.BROAD, NameKind.NARROW, NameKind.RELATED}
    closest = [NameKind.PREFERRED, NameKind.EXACT, NameKind.ABBREVIATION]
    for p in range(len(pool.batch.name_P)):
        thing = kb.resources.catalogue.entity(int(pool.batch.entity_P[p]))
        text = texts[pool.batch.row_K[pool.batch.name_P[p]]]
        kinds = {name.kind for name in thing.names if name.text == text}
        is_loose = kinds <= loose
        assert pool.features_PF[p, FEATURES.index("non_exact_synonym")] == is_loose
        kind = KINDS[pool.batch.kind_P[p]]
        assert kind in kinds
        assert is_loose or kind == min(kinds - loose, key=closest.index)


def test_the_order_of_features_does_not_matter(
    kb: KnowledgeBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = pool_of(kb, MENTIONS)
    plain = Reranker().scores(before.features_PF)
    turned: dict[str, Callable[[FeatureInputs], object]] = dict(
        reversed(features.NAME_FEATURES.items())
    )
    monkeypatch.setattr(features, "NAME_FEATURES", turned)
    order = (*turned, *features.ENTITY_FEATURES)
    monkeypatch.setattr(features, "FEATURES", order)
    after = pool_of(kb, MENTIONS)
    for name in FEATURES:
        np.testing.assert_array_equal(
            after.features_PF[:, order.index(name)], before.features_PF[:, FEATURES.index(name)]
        )
    monkeypatch.setattr("mirror_rt.knowledge.ranking.reranker.FEATURES", order)
    np.testing.assert_allclose(Reranker().scores(after.features_PF), plain, atol=1e-4)


def test_a_batch_gives_what_each_mention_gives_alone(kb: KnowledgeBase) -> None:
    together = pool_of(kb, MENTIONS)
    mention_P = together.batch.mention_K[together.batch.name_P]
    for i, mention in enumerate(MENTIONS):
        alone = pool_of(kb, [mention])
        mine = mention_P == i
        assert alone.batch.entity_P.tolist() == together.batch.entity_P[mine].tolist()
        np.testing.assert_allclose(alone.features_PF, together.features_PF[mine], atol=1e-5)


def test_no_mention_has_no_feature(kb: KnowledgeBase) -> None:
    assert pool_of(kb, []).features_PF.shape == (0, len(FEATURES))


def test_every_feature_has_a_weight() -> None:
    assert {*Reranker().weights} == {*FEATURES}
    assert len(FEATURES) == len({*FEATURES})


def test_typos_are_few_edits_that_spoil_only_words_of_no_name(tmp_path: Path) -> None:
    entities = [
        entity("1", "upper limb pain"),
        entity("2", "lower limb pain", "pain in the lower limb"),
        entity("3", "limp"),
        entity("4", "route 66"),
    ]
    bundle, encoder = fake_bundle(tmp_path / "bundle"), LetterEncoder()
    requested = [
        "uppre limb pani", "uper limb pain", "lower limp pain", "limb",
        "ruote 66", "route 67", "route 667",
    ]  # fmt: skip
    with KnowledgeBase.build(bundle, entities, tmp_path / "kb", encoder=encoder) as kb:
        pool = pool_of(kb, requested)
        texts = kb.resources.catalogue.texts()
    typo_P = pool.features_PF[:, FEATURES.index("typo_match")].tolist()
    found: list[dict[str, float]] = [{} for _ in requested]
    for k, value in zip(pool.batch.name_P.tolist(), typo_P, strict=True):
        if value:
            found[pool.batch.mention_K[k]][texts[pool.batch.row_K[k]]] = value
    third = pytest.approx(1 / 3)
    assert found[0] == {"upper limb pain": pytest.approx(2 / 3)}, "five edits are no slip"
    assert found[1] == {"upper limb pain": 1, "lower limb pain": third}
    assert found[2:4] == [{}, {}], "limp and limb are words of names, whatever is near"
    assert found[4:] == [{"route 66": 1}, {}, {}], "another number is another road"


def test_a_name_held_out_does_not_make_its_own_words_known(tmp_path: Path) -> None:
    names = (("thrombophlebitis", "trombophlebitis"), ("gastritis", "gastrits"))
    entities = [entity(str(i), *some) for i, some in enumerate(names)]
    bundle, encoder = fake_bundle(tmp_path / "bundle"), LetterEncoder()
    with KnowledgeBase.build(bundle, entities, tmp_path / "kb", encoder=encoder) as kb:
        texts = ["trombophlebitis"]
        row = kb.resources.catalogue.texts().index(texts[0])
        retrievers = kb.resources.retrievers
        apart = generate_candidates(texts, encoder.encode(texts), retrievers, without=[row])
        features_PF = compute_features(FeatureInputs(apart, retrievers, kb.resources.translation))
        whole = pool_of(kb, texts).features_PF
    column = FEATURES.index("typo_match")
    assert max(features_PF[:, column]) == 1.0
    assert max(whole[:, column]) == 0.0


@pytest.mark.parametrize("mention", ["Livre cancer", "septl defekts", "VDS", "a\u0301o", "心臓"])
def test_edits_are_counted_between_normalized_names(tmp_path: Path, mention: str) -> None:
    entities = [*HEARTS, entity("X", "心臓病", "ao")]
    bundle, encoder = fake_bundle(tmp_path / "bundle"), LetterEncoder()
    with KnowledgeBase.build(bundle, entities, tmp_path / "kb", encoder=encoder) as kb:
        pool = pool_of(kb, [mention])
        texts = [normalize(text) for text in kb.resources.catalogue.texts()]
    requested = normalize(mention)
    rows = pool.batch.row_K[pool.batch.name_P].tolist()
    expected = [1 - edits(requested, texts[r]) / max(len(requested), len(texts[r])) for r in rows]
    column = pool.features_PF[:, FEATURES.index("edit_similarity")]
    assert len(column) > 1
    assert column.tolist() == pytest.approx(expected, abs=1e-6)
