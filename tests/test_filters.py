from typing import Any

import numpy as np
import pytest

from mirror_rt.bundle import Bundle
from mirror_rt.errors import ConfigError
from mirror_rt.knowledge import KnowledgeBase, filters
from mirror_rt.types import Entity, Name, NilReason
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
        monkeypatch.setattr(filters, "EXACT_LIMIT", 0)
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
        monkeypatch.setattr(filters, "EXACT_LIMIT", 0)
    allowed = crowd.allowed(filters={"id": ["D:1", "J:"]})
    assert allowed is not None
    texts = crowd.resources.catalogue.texts()
    ids = {c: i for i, c in enumerate(MANY)}
    mine = [
        row for row, text in enumerate(texts) if text not in ids or str(ids[text]).startswith("1")
    ]
    assert allowed.rows_R.tolist() == mine
    queries_QD = LetterEncoder().encode(["liver 33", "teaching", "tumour 8"])
    hits = filters.nearest(crowd.resources.retrievers.vectors, queries_QD, top=7, allowed=allowed)
    scores_QN = queries_QD @ crowd.resources.retrievers.vectors.vectors_ND[mine].astype(np.float32).T
    expected = np.sort(scores_QN, axis=1)[:, ::-1][:, :7]
    np.testing.assert_allclose(hits.scores_QK, expected, atol=1e-5)
    assert np.isin(hits.rows_QK, mine).all()


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
    by_type, by_filter = (
        crowd.link(["a nursse"], top=3, **how)  # type: ignore[arg-type]
        for how in ({"types": ["job"]}, {"filters": {"type": "job"}})
    )
    assert by_type == by_filter
    mention = "tumour of 8 and 9"
    first, second = crowd.link([mention], top=2)[0][:2]
    (alone,) = crowd.link([mention], filters={"id": first.entity_id})[0][:1]
    assert first.entity_id == alone.entity_id != second.entity_id
    assert first.probability is not None
    assert alone.probability is not None
    assert alone.probability > first.probability


def test_nonsense_filters_are_refused(crowd: KnowledgeBase) -> None:
    for conditions, fault in (
        ({"type": "jobs"}, "has the type 'jobs'"),
        ({"colour": "red"}, "has the colour 'red'"),
        ({"type": []}, "no value"),
        ({"description": "maybe"}, "yes or no"),
        ({"type": "job", "id": "D:"}, "meets all of type=job, id=D:"),
    ):
        with pytest.raises(ConfigError, match=fault):
            crowd.search(["x"], filters=conditions)  # type: ignore[arg-type]


def test_an_empty_answer_says_why(crowd: KnowledgeBase) -> None:
    mentions = ["", " \t", "?!", "qqq xx", "nurse"]
    reasons = [a.nil_reason for a in crowd.link(mentions, min_probability=0.9)]
    assert reasons == [NilReason.EMPTY, NilReason.EMPTY, NilReason.PUNCTUATION, NilReason.BELOW_THRESHOLD, None]
    elsewhere = {"type": "disease"}
    answers = crowd.link(mentions, min_probability=0.9, filters=elsewhere)
    assert [a.nil_reason for a in answers][-2:] == [NilReason.BELOW_THRESHOLD, NilReason.FILTERED_OUT]
    assert [list(a) for a in answers] == [[]] * 5
    assert [a.nil_reason for a in crowd.search(mentions)][:3] == reasons[:3]
    (parts,) = crowd.link(["nurse, qqqq"], min_probability=0.9, split_composites=True)
    assert parts.nil_reason is NilReason.BELOW_THRESHOLD, "of the second part"
    assert [c.entity_id for c in parts] == ["J:0"]
