from pathlib import Path

import pytest

from mirror_rt.bundle import Bundle
from mirror_rt.errors import ConfigError, InputError
from mirror_rt.knowledge import KnowledgeBase
from mirror_rt.knowledge.linking.context import _close
from mirror_rt.knowledge.linking.proposals import Proposal
from mirror_rt.types import Entity, MatchType, Name
from tests.errors import about
from tests.kb import LetterEncoder, entity, fake_bundle


def _cold(id_: str, description: str, *types: str) -> Entity:
    return Entity(id=id_, names=(Name(text="cold"),), description=description, types=types)


THINGS = [
    _cold("C:disease", "An infection of the nose and throat with sneezing and coughing."),
    _cold("C:weather", "A low temperature of the air, as in winter with snow and frost."),
    _cold("C:lung", "", "chronic obstructive pulmonary disease"),
    *(entity(f"E:{i}", f"warm {word}") for i, word in enumerate(("air", "sea", "hand", "day"))),
]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return fake_bundle(tmp_path_factory.mktemp("bundle") / "bundle")


@pytest.fixture(scope="module")
def kb(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> KnowledgeBase:
    out = tmp_path_factory.mktemp("kb") / "colds"
    return KnowledgeBase.build(bundle, THINGS, out, encoder=LetterEncoder())


CONTEXTS = {
    "C:disease": "sneezing and coughing, an infection of her throat",
    "C:weather": "the temperature of the winter air, snow and frost",
    "C:lung": "chronic obstructive pulmonary disease",
}


@pytest.mark.parametrize("wanted", CONTEXTS)
@pytest.mark.parametrize("mention", ["cold", "colds"])
@pytest.mark.parametrize("top", [1, 5])
def test_the_context_decides_between_entities_with_the_same_name(
    kb: KnowledgeBase, wanted: str, mention: str, top: int
) -> None:
    plain = kb.link([mention], top=5)[0]
    (found,) = kb.link([mention], top=top, contexts=[CONTEXTS[wanted]])
    assert found[0].entity_id == wanted
    assert {c.entity_id for c in found} <= {c.entity_id for c in plain}
    assert len(found) == (3 if mention == "cold" else max(3, top)), "a tie is shown whole"
    close = [c for c in found if c.context_score is not None]
    vector, *profiles = LetterEncoder().encode(
        [CONTEXTS[wanted], *(_profile(c.entity_id) for c in close)]
    )
    assert [c.context_score for c in close] == pytest.approx([float(p @ vector) for p in profiles])
    assert [c.context_score for c in close] == sorted(
        (c.context_score or 0 for c in close), reverse=True
    )


def _proposal(*probabilities: float, best: int = 1) -> Proposal:
    """Propose an entity for each probability; the first ``best`` are tied."""
    count = len(probabilities)
    return Proposal(
        entities=range(count),
        rows=range(count),
        scores=[0.5] * count,
        probabilities=probabilities,
        match_types=[MatchType.LEXICAL] * count,
        best=[i < best for i in range(count)],
        tied=[i < best > 1 for i in range(count)],
    )


def _profile(id_: str) -> str:
    (mine,) = (thing for thing in THINGS if thing.id == id_)
    return mine.description or f"{mine.types[0]}; cold"


def test_those_with_three_tenths_of_the_best_ones_probability_are_close() -> None:
    def close(*probabilities: float, best: int = 1) -> int:
        return _close(_proposal(*probabilities, best=best))

    assert [close(0.5, 0.16, 0.14), close(0.02, 0.005), close(0.9)] == [2, 1, 1]
    assert _close(Proposal()) == 0
    assert close(0.5, 0.01, 0.2, 0.1, best=2) == 3


def test_without_a_context_nothing_changes(kb: KnowledgeBase) -> None:
    mentions = ["cold", "colds", "warm sun", "", "a cold hand"]
    plain = kb.link(mentions, top=2)
    assert kb.link(mentions, top=2, contexts=["", " ", "", "", "\n"]) == plain
    mixed = kb.link(["cold", "cold"], contexts=["", CONTEXTS["C:lung"]])
    assert [c.entity_id for c in mixed[0]] == [c.entity_id for c in plain[0]]
    assert mixed[1][0].entity_id == "C:lung"


def test_a_clear_best_candidate_stays_whatever_the_context(kb: KnowledgeBase) -> None:
    (plain,) = kb.link(["warm sea"])
    (found,) = kb.link(["warm sea"], contexts=["warm hand"])
    assert plain[0].entity_id == found[0].entity_id == "E:1"
    assert found == plain


def test_a_context_decides_between_two_close_candidates(bundle: Bundle, tmp_path: Path) -> None:
    sides = [
        Entity(id=f"S:{side}", names=(Name(text=name),), description=f"of the {side} side")
        for side, name in (
            ("left", "cardiac infarction of the left"),
            ("right", "of the right cardiac infarction"),
        )
    ]
    things = [*sides, *THINGS]
    with KnowledgeBase.build(bundle, things, tmp_path / "kb", encoder=LetterEncoder()) as kb:
        plain = kb.link(["infarction cardiac"])[0]
        assert 0.3 < (plain[1].probability or 0) / (plain[0].probability or 1) < 1
        for side in ("left", "right"):
            (found,) = kb.link(["infarction cardiac"], contexts=[f"of the {side} side"])
            assert found[0].entity_id == f"S:{side}"
            (first,) = kb.link(["infarction cardiac"], top=1, contexts=[f"of the {side} side"])
            assert list(first) == [found[0]], "one that is less probable is no tie"


def test_ties_of_a_less_probable_name_are_shown_whole(bundle: Bundle, tmp_path: Path) -> None:
    def of_side(id_: str, name: str, description: str) -> Entity:
        return Entity(id=id_, names=(Name(text=name),), description=description)

    things = [
        of_side("L", "cardiac infarction of the left", "of the left side"),
        of_side("R:1", "of the right cardiac infarction", "of the right side"),
        of_side("R:2", "of the right cardiac infarction", "a loud noise"),
        *THINGS,
    ]
    with KnowledgeBase.build(bundle, things, tmp_path / "kb", encoder=LetterEncoder()) as kb:
        assert kb.link(["infarction cardiac"])[0][0].entity_id == "L"
        (found,) = kb.link(["infarction cardiac"], top=1, contexts=["of the right side"])
        assert [c.entity_id for c in found] == ["R:1", "R:2"]


def test_candidates_far_below_the_best_stay_where_they_are(kb: KnowledgeBase) -> None:
    (plain,) = kb.link(["colds"], top=5)
    (found,) = kb.link(["colds"], top=5, contexts=["warm hand"])
    probabilities = [c.probability or 0.0 for c in plain]
    far = next(i for i, p in enumerate(probabilities) if p < 0.3 * probabilities[0])
    assert far == 3
    assert found[far:] == plain[far:]


def test_a_threshold_asks_before_the_context_decides(kb: KnowledgeBase) -> None:
    for least in (0.0, 0.5, 0.9):
        alone = kb.link(["cold", "colds"], min_probability=least)
        output = kb.link(["cold", "colds"], min_probability=least, contexts=["snow", "snow"])
        assert [bool(a) for a in alone] == [bool(a) for a in output]


def test_profiles_are_encoded_once(kb: KnowledgeBase) -> None:
    encoder = LetterEncoder()
    own = KnowledgeBase.open(kb.path, encoder=encoder)
    own.link(["cold"] * 3, contexts=["snow", "snow", "frost"])
    own.link(["cold"], contexts=["a runny nose"])
    assert sorted(encoder.requested) == sorted(
        ["snow", "frost", "a runny nose", *map(_profile, CONTEXTS)]
    )


def test_explain_shows_that_the_context_decided(kb: KnowledgeBase) -> None:
    (plain,) = kb.explain(["cold"])
    assert [e.rank_without_context for e in plain.candidates] == [e.rank for e in plain.candidates]
    (output,) = kb.explain(["cold"], contexts=[CONTEXTS["C:lung"]])
    first = output.candidates[0]
    assert (first.candidate.entity_id, first.rank) == ("C:lung", 1)
    assert first.rank_without_context == 3
    assert first.candidate.context_score == pytest.approx(
        float(
            LetterEncoder().encode([_profile("C:lung")])[0]
            @ LetterEncoder().encode([CONTEXTS["C:lung"]])[0]
        )
    )


def test_contexts_must_fit_the_mentions(kb: KnowledgeBase) -> None:
    for contexts in (["one"], "ab"):
        with pytest.raises(ConfigError):
            kb.link(["cold", "x"], contexts=contexts)
    with pytest.raises(InputError, check=about("context 2")):
        kb.link(["cold", "x"], contexts=["", "\udcff"])


def test_parts_of_a_mention_share_its_context(kb: KnowledgeBase) -> None:
    (found,) = kb.link(
        ["cold and warm sea"], split_composites=True, contexts=[CONTEXTS["C:weather"]]
    )
    (plain,) = kb.link(["cold and warm sea"], split_composites=True)
    parts = [c.expanded_form for c in plain]
    assert [c.expanded_form for c in found] == parts
    assert parts[0] != parts[-1] == "warm sea"
