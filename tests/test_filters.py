from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mirror_rt.bundle import Bundle
from mirror_rt.errors import ConfigError
from mirror_rt.knowledge import KnowledgeBase
from mirror_rt.knowledge.retrieval import filters
from mirror_rt.knowledge.retrieval.vector_index import VectorIndex, build_index
from mirror_rt.types import Entity, IndexKind, Name, NilReason
from tests.errors import about
from tests.kb import LetterEncoder, entity, fake_bundle

MANY = [f"{word} {i}" for i in range(300) for word in ("liver cancer", "heart defect", "tumour")]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return fake_bundle(tmp_path_factory.mktemp("bundle") / "bundle")


@pytest.fixture(scope="module")
def crowd(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> KnowledgeBase:
    """Nine hundred names about the heart and liver, and three jobs among them."""
    jobs = ("nurse", "teacher", "data scientist")
    things = [entity(f"D:{i}", name, types=("disease",)) for i, name in enumerate(MANY)]
    things[400:400] = [
        Entity(
            id=f"J:{i}",
            names=(Name(text=name, language="en", source="jobs"), Name(text=f"a {name}")),
            types=("job", f"rank{i}"),
            cross_references=(f"ISCO:{i}",),
            description="Does work." if i else "",
        )
        for i, name in enumerate(jobs)
    ]
    out = tmp_path_factory.mktemp("kb") / "crowd"
    return KnowledgeBase.build(bundle, things, out, encoder=LetterEncoder())


@pytest.mark.parametrize("scanned", [True, False])
def test_rare_entities_are_found_behind_nearer_ones(
    crowd: KnowledgeBase, monkeypatch: pytest.MonkeyPatch, scanned: bool
) -> None:
    if not scanned:
        monkeypatch.setattr(filters, "_SCANNED", 0)
    mentions = ["liver cancers 17", "heart defect of 200", "tumour nursing"]
    for ask in (crowd.link, crowd.search):
        for found in ask(mentions, top=3, filters={"type": "job"}):
            assert {c.entity_id for c in found} == {"J:0", "J:1", "J:2"}
        assert all(c.entity_id.startswith("D:") for c in ask(mentions, top=3)[0])


@pytest.mark.parametrize("scanned", [True, False])
def test_the_nearest_allowed_rows_are_those_of_brute_force(
    crowd: KnowledgeBase, monkeypatch: pytest.MonkeyPatch, scanned: bool
) -> None:
    if not scanned:
        monkeypatch.setattr(filters, "_SCANNED", 0)
    allowed = crowd.resources.masks.get({"id": ["D:1", "J:"]})
    assert allowed is not None
    texts = crowd.resources.catalogue.texts()
    ids = {c: i for i, c in enumerate(MANY)}
    mine = [
        row for row, text in enumerate(texts) if text not in ids or str(ids[text]).startswith("1")
    ]
    assert allowed.rows_R.tolist() == mine
    queries_QD = LetterEncoder().encode(["liver 33", "teaching", "tumour 8"])
    hits = filters.filtered_search(
        crowd.resources.retrievers.vectors, queries_QD, top=7, mask=allowed
    )
    scores_QN = (
        queries_QD @ crowd.resources.retrievers.vectors.vectors_ND[mine].astype(np.float32).T
    )
    expected = np.sort(scores_QN, axis=1)[:, ::-1][:, :7]
    np.testing.assert_allclose(hits.scores_QK, expected, atol=1e-5)
    assert np.isin(hits.rows_QK, mine).all()


@pytest.mark.parametrize("kind", [kind for kind in IndexKind if kind is not IndexKind.AUTO])
@pytest.mark.parametrize("allowed", [1, 6, 7, 60, 1_500])
@pytest.mark.parametrize("scanned", [True, False])
def test_allowed_rows_of_any_index_fill_every_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: IndexKind, allowed: int, scanned: bool
) -> None:
    if not scanned:
        monkeypatch.setattr(filters, "_SCANNED", 0)
    rng = np.random.default_rng(allowed)
    rows_ND = rng.standard_normal((2_000, 16)).astype(np.float32)
    vectors_ND = (rows_ND / np.linalg.norm(rows_ND, axis=1, keepdims=True)).astype(np.float16)
    recipe = build_index(vectors_ND, tmp_path / "index", kind=kind)
    index = VectorIndex.open(tmp_path / "index", vectors_ND, recipe)
    # The rows furthest from the first query, so a search finds others before them.
    scores_QN = vectors_ND[:140].astype(np.float32) @ vectors_ND.astype(np.float32).T
    mine = np.sort(np.argsort(scores_QN[0])[:allowed])
    mask_N = np.isin(np.arange(2_000), mine)
    mask = filters.FilterMask(conditions=(), entities_E=mask_N, mask_N=mask_N, rows_R=mine)
    hits = filters.filtered_search(index, vectors_ND[:140].astype(np.float32), top=7, mask=mask)
    filled = min(7, allowed)
    assert np.isin(hits.rows_QK[:, :filled], mine).all()
    assert (hits.rows_QK[:, filled:] == -1).all()
    assert np.isneginf(hits.scores_QK[:, filled:]).all()
    found = np.take_along_axis(scores_QN, hits.rows_QK[:, :filled], axis=1)
    np.testing.assert_allclose(hits.scores_QK[:, :filled], found, atol=1e-5)
    expected = -np.sort(-scores_QN[:, mine], axis=1)[:, :filled]
    if scanned or kind is IndexKind.EXACT or allowed <= 7:
        np.testing.assert_allclose(found, expected, atol=1e-5)
    else:  # as many as such an index finds
        assert (found[:, 0] >= expected[:, 0] - 1e-5).mean() > 0.7


def test_entities_beyond_the_last_allowed_number_are_not_allowed() -> None:
    mask = filters.FilterMask(
        conditions=(), entities_E=np.array([False, True]), mask_N=np.zeros(0, dtype=bool),
        rows_R=np.zeros(0, dtype=np.int64),
    )  # fmt: skip
    assert mask.allows(np.array([0, 1, 2, 99, 1])).tolist() == [False, True, False, False, True]


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ({"id": "J:"}, {"J:0", "J:1", "J:2"}),
        ({"xref": ["ISCO:0", "ISCO:2"]}, {"J:0", "J:2"}),
        ({"source": "jobs", "type": ["rank1", "rank2"]}, {"J:1", "J:2"}),
        ({"language": "en", "description": "no"}, {"J:0"}),
        ({"description": "yes"}, {"J:1", "J:2"}),
        ([("type", ["job"]), ("type", ["rank1"])], {"J:1"}),
    ],
)
def test_every_field_must_be_met_by_one_of_its_values(
    crowd: KnowledgeBase,
    conditions: Any,  # noqa: ANN401
    expected: set[str],
) -> None:
    (found,) = crowd.link(["liver cancer of 3"], top=50, filters=conditions)
    assert {c.entity_id for c in found} == expected
    (found,) = crowd.search(["nurse"], top=50, filters=conditions)
    assert {c.entity_id for c in found} == expected


def test_the_probability_is_shared_by_those_allowed(crowd: KnowledgeBase) -> None:
    one, other = (
        crowd.link(["a nursse"], top=3, filters=given)
        for given in ({"type": "job"}, [("type", ["job"])])
    )
    assert one == other
    mention = "tumour of 8 and 9"
    first, second = crowd.link([mention], top=2)[0][:2]
    (alone,) = crowd.link([mention], filters={"id": first.entity_id})[0][:1]
    assert first.entity_id == alone.entity_id != second.entity_id
    assert first.probability is not None
    assert alone.probability is not None
    assert alone.probability > first.probability


def test_nonsense_filters_are_refused(crowd: KnowledgeBase) -> None:
    for conditions, value in (
        ({"type": "jobs"}, "'jobs'"),
        ({"colour": "red"}, "'colour'"),
        ({"type": []}, "'type'"),
        ({"description": "maybe"}, "maybe"),
        ({"type": "job", "id": "D:"}, "type=job, id=D:"),
    ):
        with pytest.raises(ConfigError, check=about(value=value)):
            crowd.search(["x"], filters=conditions)  # type: ignore[arg-type]


def test_an_empty_answer_says_why(crowd: KnowledgeBase) -> None:
    mentions = ["", " \t", "?!", "qqq xx", "nurse"]
    reasons = [a.nil_reason for a in crowd.link(mentions, min_probability=0.9)]
    assert reasons == [
        NilReason.EMPTY,
        NilReason.EMPTY,
        NilReason.PUNCTUATION,
        NilReason.BELOW_THRESHOLD,
        None,
    ]
    elsewhere = {"type": "disease"}
    answers = crowd.link(mentions, min_probability=0.9, filters=elsewhere)
    assert [a.nil_reason for a in answers][-2:] == [
        NilReason.BELOW_THRESHOLD,
        NilReason.FILTERED_OUT,
    ]
    assert [list(a) for a in answers] == [[]] * 5
    assert [a.nil_reason for a in crowd.search(mentions)][:3] == reasons[:3]
    (parts,) = crowd.link(["nurse, qqqq"], min_probability=0.9, split_composites=True)
    assert parts.nil_reason is NilReason.BELOW_THRESHOLD, "of the second part"
    assert [c.entity_id for c in parts] == ["J:0"]


def test_a_whole_number_is_found_with_its_point_and_without(tmp_path: Path) -> None:
    fields = {"a": "2021.0", "b": "2021", "c": "2021.5", "d": "02021", "e": "x2021.0"}
    entities = [
        Entity(id=id_, names=(Name(text=f"name {id_}"),), fields=(("year", year),))
        for id_, year in fields.items()
    ]
    kb = KnowledgeBase.build(
        fake_bundle(tmp_path / "bundle"), entities, tmp_path / "kb", encoder=LetterEncoder()
    )
    for year, expected in (("2021", "ab"), ("2021.0", "ab"), ("2021.5", "c"), ("02021", "d")):
        (found,) = kb.search(["name"], filters={"year": year})
        assert sorted(c.entity_id for c in found) == [*expected]
    kb.close()
