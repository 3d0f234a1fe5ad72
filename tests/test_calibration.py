from __future__ import annotations

import csv
import json
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest
from typer.testing import CliRunner

from mirror_rt.errors import ConfigError, InputError, KnowledgeBaseError
from mirror_rt.evaluation.reliability import draw_calibration
from mirror_rt.hashing import checksum
from mirror_rt.knowledge import KnowledgeBase
from mirror_rt.knowledge.linking import calibration
from mirror_rt.knowledge.linking.calibration import (
    CalibrationReport,
    _fit,
    _GoldLinks,
    _link,
    _probabilities,
)
from mirror_rt.knowledge.ranking.features import FeatureInputs, compute_features
from mirror_rt.knowledge.ranking.learning import calibration_targets, precision_curve
from mirror_rt.knowledge.ranking.operating_points import (
    TARGET_PRECISIONS,
    operating_points,
    share_interval,
)
from mirror_rt.knowledge.ranking.reliability import expected_calibration_error, reliability
from mirror_rt.knowledge.ranking.reranker import Reranker
from mirror_rt.knowledge.ranking.samples import samples_of
from mirror_rt.knowledge.retrieval.candidates import PER_RETRIEVER, generate_candidates
from mirror_rt.knowledge.storage.integrity import assert_unchanged
from mirror_rt.knowledge.storage.manifest import RERANKER
from mirror_rt.types import (
    Candidate,
    Entity,
    LinkResult,
    LinkStatus,
    Name,
    NameKind,
    Passage,
)
from mirror_rt_cli.app import app
from tests.errors import about
from tests.kb import HEARTS, LetterEncoder, entity, fake_bundle

MORE = [entity(f"N:{i}", f"name number {i}", f"alias {i} of it") for i in range(60)]
GOLD = [(f"name numbr {i}", frozenset({f"N:{i}"})) for i in range(0, 60, 2)]
GOLD += [(f"name number {i}", frozenset({f"N:{i}"})) for i in range(10)]
GOLD += [(f"something else {i}", frozenset[str]()) for i in range(20)]


NO_NAME = dict.fromkeys(Reranker().name_weights, 0.0)


@pytest.fixture
def kb(tmp_path: Path) -> KnowledgeBase:
    bundle = fake_bundle(tmp_path / "bundle")
    return KnowledgeBase.build(bundle, [*HEARTS, *MORE], tmp_path / "kb", encoder=LetterEncoder())


def _with(kb: KnowledgeBase, **changes: object) -> None:
    """Change numbers of the reranker of an open knowledge base."""
    reranker = replace(kb.resources.reranker, **changes)  # type: ignore[arg-type]
    kb._resources = replace(kb.resources, reranker=reranker)


def _confidence(result: LinkResult) -> float:
    """Add the probabilities of the best candidate and of those tied with it."""
    return sum(c.probability or 0.0 for c in _best(result))


def _best(result: LinkResult) -> list[Candidate]:
    """Return the first candidate, and those tied with it by name or probability."""
    first = result[0]
    same = (first.matched_name.casefold(), pytest.approx(first.probability, rel=1e-4))
    return [
        c
        for c in result
        if c is first
        or (first.tied and (c.matched_name.casefold() == same[0] or c.probability == same[1]))
    ]


def test_calibrating_lowers_the_error_and_stays_in_the_folder(kb: KnowledgeBase) -> None:
    found = kb.calibrate(GOLD)
    assert found.links == len(GOLD)
    assert sum(b.count for b in found.bins) == len(GOLD)
    assert found.ece_after < found.ece_before
    reopened = KnowledgeBase.open(kb.path, encoder=LetterEncoder())
    assert reopened.resources.reranker.fitted_on["gold_links"] == len(GOLD)
    mentions = [mention for mention, _ in GOLD]
    assert reopened.link(mentions) == kb.link(mentions)


def test_calibrating_twice_is_calibrating_once(kb: KnowledgeBase) -> None:
    first = kb.calibrate(GOLD)
    numbers = (kb.path / RERANKER).read_bytes()
    kb = KnowledgeBase.open(kb.path, encoder=LetterEncoder())
    assert kb.calibrate(GOLD) == first
    assert (kb.path / RERANKER).read_bytes() == numbers


def test_it_learns_from_what_link_answers(tmp_path: Path) -> None:
    """Repeated and padded mentions, ties, alternative ids, an entity that fills every retriever."""
    ends = (f"{a}{b}{c}" for a in "bdfgkl" for b in "aeiou" for c in "mnprst")
    flood = entity("M:1", *(f"river blindness of the upper bank {end}" for end in ends))
    banks = [entity(f"B:{i}", f"river blindness lower bank {side}") for i, side in enumerate("ew")]
    gold = [
        ("river blindnes of the upper bank", frozenset({"M:1"})),
        ("  river blindnes of the upper bank ", frozenset({"B:0"})),
        ("river blindnes of the upper bank", frozenset({"M:1", "none such"})),
        ("ASD", frozenset({"H:50"})),
        ("ASD", frozenset({"H:3"})),
        ("cancers of a liver", frozenset({"H:4"})),
        (" short stature", frozenset({"H:3"})),
        ("holes in a heart", frozenset({"H:2"})),
        ("?", frozenset({"H:2"})),
        ("of nothing here", frozenset()),
    ]
    bundle, things = fake_bundle(tmp_path / "bundle"), [flood, *banks, *HEARTS, *MORE]
    with KnowledgeBase.build(bundle, things, tmp_path / "kb", encoder=LetterEncoder()) as kb:
        requested = _link(kb.resources, gold, LetterEncoder().encode)
        longest = kb.link([mention for mention, _ in gold], top=60)
        for top in (1, 2, 5, 20, 60):
            answers = kb.link([mention for mention, _ in gold], top=top)
            assert [f[:top] for f in answers] == [f[:top] for f in longest]
            said = [_confidence(found) for found in answers if found]
            assert _probabilities(requested, kb.resources.reranker) == pytest.approx(said)
            for least in (0.1, 0.3, 0.5):
                kept = kb.link([m for m, _ in gold], top=top, min_probability=least)
                there = [bool(f) for f, all_ in zip(kept, answers, strict=True) if all_]
                assert there == [p >= least for p in said]
        own = [{n for i in ids for n in kb.resources.catalogue.resolve(i)} for _, ids in gold]
        hits = [
            any(kb.resources.catalogue.resolve(c.entity_id)[0] in mine for c in _best(found))
            for found, mine in zip(answers, own, strict=True)
            if found
        ]
    assert requested.hit_S.tolist() == hits
    assert hits[3:5] == [True, False]


def test_ties_of_all_retrievers_share_a_probability_and_stay_together(tmp_path: Path) -> None:
    def loose(id_: str, *names: str) -> Entity:
        kinds = (NameKind.PREFERRED, NameKind.RELATED)
        pairs = zip(names, kinds, strict=True)
        return Entity(id=id_, names=tuple(Name(text=n, kind=k) for n, k in pairs))

    things = [
        entity("A", "winter cold"),
        loose("B", "blizzard", "winter cold"),
        entity("C", "winter colt"),
        *HEARTS,
    ]
    bundle = fake_bundle(tmp_path / "bundle")
    with KnowledgeBase.build(bundle, things, tmp_path / "kb", encoder=LetterEncoder()) as kb:
        _with(kb, weights={**kb.resources.reranker.weights, "non_exact_synonym": -5.0})
        (found,) = kb.link(["winter coldd"])
        assert [c.entity_id for c in found[:3]] == ["A", "B", "C"]
        assert [c.tied for c in found[:3]] == [True, True, False]
        assert (found[1].probability or 0) < (found[2].probability or 0)
        both = (found[0].probability or 0) + (found[1].probability or 0)
        assert _confidence(found) == pytest.approx(both)
        gold = [("winter coldd", frozenset({"B"}))]
        requested = _link(kb.resources, gold, LetterEncoder().encode)
        assert _probabilities(requested, kb.resources.reranker) == pytest.approx([both])
        assert requested.hit_S.all()


def test_folds_leave_equal_links_out_together(
    kb: KnowledgeBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    taught: list[set[int]] = []

    def fit(links: _GoldLinks, before: Reranker, *, fits: bool, l2: float) -> Reranker:
        taught.append(set(links.mention_S.tolist()))
        return _fit(links, before, fits=fits, l2=l2)

    monkeypatch.setattr(calibration, "_fit", fit)
    kb.calibrate(GOLD[:40] * 3)
    everything = set(range(40))
    folds, fits = calibration._FOLDS, len(calibration._L2_STRENGTHS) * calibration._PARTITIONS
    assert all(some == everything for some in taught[fits * folds :])
    partitions = set()
    for first in range(0, fits * folds, folds):
        left_out = [everything - some for some in taught[first : first + folds]]
        assert [len(some) for some in left_out] == [8] * 5
        assert set.union(*left_out) == everything
        partitions.add(frozenset(frozenset(some) for some in left_out))
    assert len(partitions) == calibration._PARTITIONS


def _drawn(truth: Reranker, seed: int, count: int) -> _GoldLinks:
    """Draw links with the probabilities of the reranker; half of the mentions occur twice."""
    rng = np.random.default_rng(seed)
    mention_S = np.arange(count) * 2 // 3
    confidence_S3 = np.stack(
        [rng.normal(0, 2, count), rng.normal(0.5, 1.5, count), rng.uniform(0, 1.4, count)], axis=1
    )[mention_S]
    inside_S, first_S = (rng.random(count)[mention_S] for _ in range(2))
    p_in_S, p_S = truth.p_in_candidates(confidence_S3), truth.top1_probability(confidence_S3)
    in_candidates_S = inside_S < p_in_S
    no_S = np.zeros(count, dtype=bool)
    return _GoldLinks(
        mention_S=mention_S,
        exact_S=no_S,
        tied_S=no_S,
        names_S3=np.tile([4.0, 0.0, -9.0], (count, 1)),
        similarity_S=np.full(count, np.inf),
        confidence_S3=confidence_S3,
        hit_S=in_candidates_S & (first_S < p_S / p_in_S),
        in_candidates_S=in_candidates_S,
        nil_S=~in_candidates_S,
    )


def test_true_probabilities_stay_and_wrong_ones_go() -> None:
    truth = Reranker(name_weights={**NO_NAME, "constant": 9.0})
    inside = truth.in_candidates_weights
    unsure = replace(truth, in_candidates_weights={**inside, "constant": inside["constant"] - 3.0})
    kept, gains = 0, []
    for seed in range(4):
        links, others = _drawn(truth, seed, 150), _drawn(truth, 100 + seed, 1_000)
        kept += calibration._calibrated(links, truth)[1].better
        fitted, found = calibration._calibrated(links, unsure)
        assert found.better
        errors = [
            expected_calibration_error(_probabilities(others, one), others.hit_S)
            for one in (unsure, fitted)
        ]
        gains.append(errors[0] - errors[1])
    assert kept <= 1, "by chance once in twenty times"
    assert np.mean(gains) > 0.05
    assert min(gains) > 0


def test_samples_have_the_probabilities_that_link_states(kb: KnowledgeBase) -> None:
    mentions = [mention for mention, ids in GOLD if "numbr" in mention or not ids]
    mentions += ["aaaaa", "number of it", "ecks"]
    found = kb.resources
    batch = generate_candidates(
        mentions, LetterEncoder().encode(mentions), found.retrievers, width=PER_RETRIEVER
    )
    features_PF = compute_features(FeatureInputs(batch, found.retrievers, found.translation))
    samples = samples_of(batch, features_PF, found.names, [set[int]()] * len(mentions))
    outcomes = calibration_targets(samples, found.reranker)
    stated = [_confidence(result) for result in kb.link(mentions)]
    assert outcomes.probabilities(found.reranker) == pytest.approx(stated, abs=1e-6)
    without_cap = found.reranker.top1_probability(outcomes.confidence_S3)
    assert (without_cap > np.array(stated) + 1e-3).any()


def test_passages_are_not_calibrated(tmp_path: Path) -> None:
    bundle = fake_bundle(tmp_path / "bundle")
    passages = [Passage(id="1", text="a text")]
    with KnowledgeBase.build(
        bundle, passages, tmp_path / "kb", passages=True, encoder=LetterEncoder()
    ) as kb:
        with pytest.raises(KnowledgeBaseError, check=about("kb")):
            kb.calibrate(GOLD)


def test_no_threshold_is_above_what_the_links_have(tmp_path: Path) -> None:
    few = GOLD[:16] + [(f"something else {i}", frozenset[str]()) for i in range(6)]
    bundle, things = fake_bundle(tmp_path / "bundle"), [*HEARTS, *MORE]
    with KnowledgeBase.build(bundle, things, tmp_path / "kb", encoder=LetterEncoder()) as kb:
        kb.calibrate(few)
        said = [_confidence(found) for found in kb.link([mention for mention, _ in few])]
        assert kb.resources.reranker.precision_curve
        for threshold, precision in kb.resources.reranker.precision_curve:
            assert any(p == pytest.approx(threshold, abs=2e-6) for p in said)
            assert any(kb.link([mention for mention, _ in few], target_precision=precision))


def test_a_knowledge_base_that_changed_meanwhile_is_not_calibrated(kb: KnowledgeBase) -> None:
    late = KnowledgeBase.open(kb.path, encoder=LetterEncoder())
    kb.add([entity("N:new", "another name")])
    before = (kb.path / RERANKER).read_bytes()
    with pytest.raises(KnowledgeBaseError, check=about("kb")):
        late.calibrate(GOLD)
    assert (kb.path / RERANKER).read_bytes() == before


def test_a_wanted_precision_leaves_the_doubtful_for_review(kb: KnowledgeBase) -> None:
    kb.calibrate(GOLD)
    mentions = [mention for mention, _ in GOLD]
    linked = kb.link(mentions, target_precision=0.9)
    rows = [
        (f, ids) for f, (_, ids) in zip(linked, GOLD, strict=True) if f.status is LinkStatus.LINKED
    ]
    assert 0 < len(rows) < len(GOLD)
    plain = kb.link(mentions)
    assert [f.candidates for f in linked] == [f.candidates for f in plain]
    (least,) = {kb.resources.reranker.threshold(0.9)}
    for found in linked:
        sure = sum(c.probability or 0.0 for c in found if c.tied or c is found[0])
        alone = not found[0].tied
        assert found.status is (
            LinkStatus.LINKED if alone and sure >= least - 1e-9 else LinkStatus.REVIEW
        )
    assert np.mean([found[0].entity_id in ids for found, ids in rows]) >= 0.85
    assert all(not found for found in kb.link(["something else 3"], min_probability=0.999))
    with pytest.raises(ConfigError, check=about("target_precision")):
        kb.link(["x"], target_precision=2.0)


def test_entities_of_an_ambiguous_name_share_the_probability(kb: KnowledgeBase) -> None:
    _with(kb, name_weights={**NO_NAME, "constant": 3.0})
    (found,) = kb.link(["ASD"], min_probability=0.95)
    assert [c.probability for c in found] == [pytest.approx(0.5 / (1 + np.exp(-3.0)))] * 2


def test_a_precision_counts_the_entities_of_an_ambiguous_name_together(kb: KnowledgeBase) -> None:
    """The first of the two is right half of the time; one of them always is."""
    halves = [("ASD", frozenset({one.entity_id})) for one in kb.link(["ASD"])[0]] * 20
    kb.calibrate(halves)
    sure = sum(one.probability or 0.0 for one in kb.link(["ASD"])[0])
    assert kb.resources.reranker.precision_curve[-1] == pytest.approx((sure, 1.0), abs=1e-5)
    wrong = [("ASD", frozenset({"N:1"}))] * 20
    kb.calibrate([*halves, *wrong])
    with pytest.raises(ConfigError, check=about(hint="mirror-rt calibrate")):
        kb.link(["ASD"], target_precision=0.95)
    (found,) = kb.link(["ASD"], target_precision=0.6)
    assert len(found) == 2
    assert found.status is LinkStatus.REVIEW, "one row of the two is right half of the time"


def test_a_target_precision_applies_to_exact_matches_only_if_links_had_them(
    kb: KnowledgeBase,
) -> None:
    _with(kb, precision_curve=((0.5, 0.9), (0.99, 0.995)))
    name, shared, nothing = kb.link(["VSD", "ASD", "qqqq xx"], target_precision=0.995)
    assert [c.entity_id for c in name] == ["H:2"]
    assert [c.entity_id for c in shared] == ["H:1", "H:5"]
    assert (name.status, shared.status, nothing.status) == (
        LinkStatus.LINKED,
        LinkStatus.REVIEW,
        LinkStatus.REVIEW,
    )
    (half,) = kb.link(["VSD"], review_below=0.99)
    assert (half.status, len(half)) == (LinkStatus.REVIEW, 1)
    (requested,) = kb.link(["VSD"], target_precision=0.995, min_probability=0.99)
    assert requested.status is LinkStatus.LINKED, "a name loses no link before its own is learned"
    _with(kb, fitted_on={"gold_links": 40})
    doubtful = kb.link(["VSD", "ASD"], target_precision=0.995)
    assert [f.status for f in doubtful] == [LinkStatus.REVIEW] * 2
    sure, tied = kb.link(["VSD", "ASD"], target_precision=0.9)
    assert (sure.status, tied.status) == (LinkStatus.LINKED, LinkStatus.REVIEW)


def test_gold_mentions_without_a_candidate_are_counted(kb: KnowledgeBase) -> None:
    found = kb.calibrate([("?", frozenset({"N:1"})), *GOLD, ("", frozenset())])
    assert (found.links, found.without_candidates) == (len(GOLD), 2)


def test_too_few_links_are_refused_and_change_nothing(kb: KnowledgeBase) -> None:
    before = (kb.path / RERANKER).read_bytes()
    with pytest.raises(InputError, check=about(value="20")):
        kb.calibrate(GOLD[:5])
    assert (kb.path / RERANKER).read_bytes() == before


def test_a_knowledge_base_changed_since_it_was_opened_is_reported(kb: KnowledgeBase) -> None:
    with assert_unchanged(kb.path, kb.manifest):
        with pytest.raises(KnowledgeBaseError, check=about("kb")):
            kb.remove(["H:1"])
    kb.calibrate(GOLD)
    late = KnowledgeBase.open(kb.path, encoder=LetterEncoder())
    kb.add([entity("X:1", "fever")])
    with pytest.raises(KnowledgeBaseError, check=about("kb")):
        with assert_unchanged(late.path, late.manifest):
            pass
    assert kb.remove(["X:1"]).entities_removed == 1


def test_the_error_is_the_mean_gap_of_the_bins() -> None:
    p = np.array([0.95, 0.95, 0.95, 0.95, 0.15, 0.15])
    hit = np.array([True, True, True, False, False, True])
    assert expected_calibration_error(p, hit) == pytest.approx((4 * 0.20 + 2 * 0.35) / 6)


def _write(path: Path, content: dict[str, Any]) -> None:
    """Write numbers with their checksum, as an older version may have written them."""
    content.pop("sha256", None)
    path.write_text(json.dumps({**content, "sha256": checksum(content, key="sha256")}))


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", "1"])
def test_a_damaged_file_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "c.json").write_text(content)
    with pytest.raises(KnowledgeBaseError):
        Reranker.read(tmp_path / "c.json")


def test_a_number_changed_by_hand_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    Reranker().write(path)
    assert Reranker.read(path).nil_score == Reranker().nil_score
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "nil_score": content["nil_score"] + 1}))
    with pytest.raises(KnowledgeBaseError):
        Reranker.read(path)


@pytest.mark.parametrize(
    "change",
    [
        {"in_candidates_weights": {"margin_to_nil": float("nan")}},
        {"before_calibration": {"name_weights": "much"}},
        {"name_weights": {"constant": "much"}},
        {"before_calibration": {"in_candidates_weights": {}}},
        {"slope": 1.0},
        {"nil_score": "x"},
        {"nil_score": float("inf")},
        {"weights": {"dense_cosine": None}},
    ],
)
def test_numbers_that_are_none_are_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    Reranker().write(tmp_path / "c.json")
    content = json.loads((tmp_path / "c.json").read_text())
    _write(tmp_path / "c.json", content)
    assert Reranker.read(tmp_path / "c.json").weights == Reranker().weights
    for name, value in change.items():
        content[name] = {**content[name], **value} if isinstance(value, dict) else value
    _write(tmp_path / "c.json", content)
    with pytest.raises(KnowledgeBaseError):
        Reranker.read(tmp_path / "c.json")


def test_numbers_of_an_older_version_are_reported(kb: KnowledgeBase) -> None:
    path = kb.path / RERANKER
    content = json.loads(path.read_text())
    del content["weights"]["edit_similarity"]
    _write(path, content)
    with pytest.raises(KnowledgeBaseError, check=about("reranker.json")):
        KnowledgeBase.open(kb.path)


def test_the_command_prints_what_changed_and_draws(tiny_bundle: Path, tmp_path: Path) -> None:
    KnowledgeBase.build(tiny_bundle, [*HEARTS, *MORE], tmp_path / "kb")
    gold = [*GOLD, ("name number 30", frozenset({"N:99"})), ("?", frozenset({"N:1"}))]
    rows = "".join(f"{mention}\t{'|'.join(ids)}\n" for mention, ids in gold)
    (tmp_path / "gold.tsv").write_text("mention\tid\n" + rows)
    arguments = ["calibrate", str(tmp_path / "kb"), str(tmp_path / "gold.tsv")]
    result = CliRunner().invoke(app, [*arguments, "--plot", str(tmp_path / "r.png")])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["links"] == len(gold) - 1
    assert "left out: 1 gold mention without a candidate" in result.stderr
    assert f"1 of {len(gold)} gold mentions with ids that" in result.stderr
    assert "(first N:99)" in result.stderr
    change = CliRunner().invoke(app, ["kb", "remove", str(tmp_path / "kb"), "H:1"])
    assert "1 removed" in change.stderr
    with KnowledgeBase.open(tmp_path / "kb") as changed:
        assert changed.resources.reranker.fitted_on["gold_links"] == len(gold) - 1
    assert (tmp_path / "r.png").read_bytes().startswith(b"\x89PNG")
    before = (tmp_path / "kb" / RERANKER).read_bytes()
    for taken_or_no_png in ("r.png", "r.svg"):
        again = CliRunner().invoke(app, [*arguments, "--plot", str(tmp_path / taken_or_no_png)])
        assert (again.exit_code, again.stdout) == (1, "")
        assert (tmp_path / "kb" / RERANKER).read_bytes() == before


def test_a_diagram_has_its_size_and_shows_its_calibration(tmp_path: Path) -> None:
    p, hit = np.array([0.25] * 30 + [0.9] * 40), np.arange(70) % 30 >= 24
    bins = reliability(p, hit)
    points = operating_points(p, hit, np.arange(70), threshold=lambda wanted: 0.5)
    one = CalibrationReport(
        links=70,
        reserved=0,
        without_candidates=0,
        accuracy=0.6,
        without_entity=3,
        kept=True,
        ece_before=0.2,
        ece_fitted=0.05,
        log_loss_before=0.5,
        log_loss_fitted=0.4,
        ece_after=0.05,
        bins_before=bins[:1],
        bins=bins,
        operating_points=points,
    )
    others = {
        "other": replace(one, bins=(bins[0], replace(bins[1], accuracy=0.5))),
        "before": replace(one, bins_before=()),
        "points": replace(one, operating_points=()),
    }
    drawn = {}
    for name, found in {"one": one, "same": one, **others}.items():
        draw_calibration(found, tmp_path / f"{name}.png")
        drawn[name] = (tmp_path / f"{name}.png").read_bytes()
    assert struct.unpack(">II", drawn["one"][16:24]) == (1080, 600)
    assert drawn["one"] == drawn["same"]
    assert len(set(drawn.values())) == 4


def test_operating_points_are_counted_at_the_threshold_taken() -> None:
    rng = np.random.default_rng(0)
    p = np.round(rng.random(400), 2)
    hit = rng.random(400) < p
    reranker = replace(Reranker(), precision_curve=precision_curve(p, hit))
    points = operating_points(p, hit, np.arange(400), threshold=reranker.threshold, mentions=500)
    assert [point.target_precision for point in points] == [*TARGET_PRECISIONS]
    assert {point.probability is None for point in points} == {True, False}
    for point in points:
        if point.probability is None:
            with pytest.raises(ConfigError):
                reranker.threshold(point.target_precision)
            assert (point.linked, point.precision) == (0, None)
            continue
        above = [h for q, h in zip(p.tolist(), hit.tolist(), strict=True) if q >= point.probability]
        assert point.linked == len(above)
        assert point.coverage == len(above) / 500
        assert point.precision == pytest.approx(sum(above) / len(above))
        assert point.precision >= point.target_precision
        low, high = proportion_interval(sum(above), len(above))
        assert (point.precision_low, point.precision_high) == pytest.approx((low, high), abs=1e-6)


def proportion_interval(right: int, n: int) -> tuple[float, float]:
    found = binomtest(right, n).proportion_ci(0.95, method="wilson")
    return found.low, found.high


def test_a_mention_that_comes_again_is_no_further_evidence() -> None:
    hit, mention = np.array([1, 1, 1, 0] * 25, bool), np.arange(100)
    assert share_interval(hit, mention) == pytest.approx(proportion_interval(75, 100), abs=1e-6)
    again = share_interval(np.tile(hit, 7), np.tile(mention, 7))
    assert again == pytest.approx(share_interval(hit, mention))
    assert share_interval(hit[:0], mention[:0]) == (None, None)


def test_what_precisions_cost_is_kept_and_is_what_link_takes(kb: KnowledgeBase) -> None:
    found = kb.calibrate(GOLD)
    reopened = KnowledgeBase.open(kb.path, encoder=LetterEncoder())
    reranker = reopened.resources.reranker
    assert reranker.operating_points == [point.to_dict() for point in found.operating_points]
    reached = [p for p in found.operating_points if p.probability is not None]
    assert reached
    for point in reached:
        assert point.probability == reranker.threshold(point.target_precision)
    kb.add([entity("Z:1", "something new")])
    assert kb.resources.reranker == reranker, "a change keeps the calibration"
    assert kb.refit().calibration_links_dropped == len(GOLD)
    assert kb.resources.reranker.operating_points != reranker.operating_points


def test_calibrate_tells_how_far_it_is(kb: KnowledgeBase) -> None:
    calls: list[tuple[int, int]] = []
    kb.calibrate(GOLD, progress=lambda done, total: calls.append((done, total)))
    unknown = len({mention for mention, _ in GOLD}) - 10  # ten are names, which are not embedded
    assert calls[-1] == (unknown, unknown)


def test_the_command_prints_the_same_table_in_every_format(
    tiny_bundle: Path, tmp_path: Path
) -> None:
    KnowledgeBase.build(tiny_bundle, [*HEARTS, *MORE], tmp_path / "kb").close()
    rows = "".join(f"{mention}\t{'|'.join(ids)}\n" for mention, ids in GOLD)
    (tmp_path / "gold.tsv").write_text("mention\tid\n" + rows)
    shown = {}
    for form in ("jsonl", "json", "csv", "tsv", "table"):
        arguments = ["calibrate", str(tmp_path / "kb"), str(tmp_path / "gold.tsv"), "-f", form]
        done = CliRunner().invoke(app, arguments, env={"COLUMNS": "80"})
        assert done.exit_code == 0, done.output
        shown[form] = done.stdout
    points = json.loads(shown["jsonl"])["operating_points"]
    assert json.loads(shown["json"])["operating_points"] == points
    for form, delimiter in (("csv", ","), ("tsv", "\t")):
        read = list(csv.DictReader(shown[form].splitlines(), delimiter=delimiter))
        assert [
            {name: float(value) if value else None for name, value in row.items()} for row in read
        ] == points
    table = shown["table"].splitlines()
    assert max(map(len, table)) <= 80
    reached = [point for point in points if point["probability"] is not None]
    for point in reached:
        (line,) = [at for at in table if at.startswith(f"{point['target_precision']:.2f} ")]
        assert f" {point['probability']:.3f} " in line
        if point["linked"]:
            assert f" {point['precision']:.3f} " in line
    lacking = [line for line in table if "not reached" in line]
    assert len(lacking) == (len(reached) < len(points))
    outs = [tmp_path / f"out.{ending}" for ending in ("csv", "json")]
    for out in outs:
        again = CliRunner().invoke(app, [*arguments[:-2], "--out", str(out)])
        assert (again.exit_code, again.stdout) == (0, "")
        assert out.read_text() == shown[out.suffix[1:]]
